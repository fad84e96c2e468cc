//! Jobs that read volumes: downloads and clones. And uploads, which wait for their clients as
//! downloads do.

use super::handle::PoolHandle;
use super::jobs::Job;
use super::leases::Lease;
use super::pool::{Late, Pool};
use super::run::{Patience, Run};
use super::shared::Shared;
use super::volumes::{Leased, absent, busy, known, results};
use super::{Caller, CreateVolumeOptions, JobHandle, JobOperation};
use crate::backend::{self, CloneSource, OpContext, Peer, TransferOptions, VolumeAccess, VolumeIo};
use crate::model::{BackingStore, Result, VolumeDef, VolumeFormat, VolumeName};
use std::fs::File;
use std::sync::Arc;

/// A lease that reads a volume; given back when it is dropped.
pub(super) struct Reading {
    shared: Arc<Shared>,
    pool: Arc<Pool>,
    name: VolumeName,
    job: u64,
}

impl Drop for Reading {
    fn drop(&mut self) {
        self.pool.update(&self.shared, |core, next| {
            match core.leases.give_back(&self.name, self.job) {
                Some(other) => drop(next.volume_jobs.insert(self.name.clone(), other)),
                None => drop(next.volume_jobs.remove(&self.name)),
            }
        });
    }
}

impl PoolHandle {
    /// Writes what `source` delivers into a volume.
    pub async fn upload_volume(
        &self,
        name: &VolumeName,
        source: Peer,
        options: TransferOptions,
        caller: &Caller,
    ) -> Result<JobHandle> {
        let upload = move |by: &dyn backend::Backend, active: &_, volume: &_, ctx: &_| {
            backend::upload(by, active, volume, source, options, ctx)
        };
        self.rewrite(JobOperation::VolumeUpload, name, Patience::Transfer, caller, upload).await
    }

    /// Writes a volume's content into `destination`.
    pub async fn download_volume(
        &self,
        name: &VolumeName,
        destination: Peer,
        options: TransferOptions,
        caller: &Caller,
    ) -> Result<JobHandle> {
        let operation = JobOperation::VolumeDownload;
        let admit = |now: &_| known(now, name);
        let leased = self.lease_to(Lease::Read, operation, name, caller, admit).await?;
        let (job, reading) = (Arc::clone(&leased.job), self.reading(name, &leased.job));
        let (backend, active) = (Arc::clone(&leased.backend), Arc::clone(&leased.active));
        let volume = Arc::clone(&leased.admitted);
        let work = move |ctx: &OpContext| {
            backend::download(&*backend, &active, &volume, destination, options, ctx)
        };
        let (shared, pool) = (Arc::clone(&self.shared), Arc::clone(&self.pool));
        let handle = JobHandle(Arc::clone(&job));
        tokio::spawn(async move {
            let (patience, what) = (Patience::Transfer, operation.as_str());
            let run = Run { shared: &shared, pool: &pool, job: Some(&job), patience, what };
            let done = run.run(work).await.map(|()| results(&job, None));
            drop(reading);
            shared.jobs.end(&job, done);
        });
        Ok(handle)
    }

    /// A descriptor of a volume's content. Refused while a job changes the volume, or for writing
    /// while one reads it.
    pub async fn open_volume(&self, name: &VolumeName, access: VolumeAccess) -> Result<File> {
        let (active, _) = self.pool.active()?;
        let backend = self.shared.backend(&active.def, JobOperation::VolumeDownload)?;
        self.loaded().await?;
        let lease = match access {
            VolumeAccess::Read | VolumeAccess::ReadUnchanged => Lease::Read,
            VolumeAccess::Write { .. } => Lease::Change,
        };
        self.free(name, lease)?;
        let volume = known(&self.snapshot(), name)?;
        let patience = Patience::Within(self.shared.options.refresh_timeout);
        let (shared, pool) = (&self.shared, &self.pool);
        let run = Run { shared, pool, job: None, patience, what: "opening a volume" };
        let open = move |ctx: &OpContext| backend.open_volume(&active, &volume, access, ctx);
        run.run(open).await.and_then(VolumeIo::into_file)
    }

    /// Copies a volume of this pool into `target`, maybe the same pool, as `def` says.
    pub async fn clone_volume(
        &self,
        name: &VolumeName,
        target: &PoolHandle,
        def: VolumeDef,
        options: CreateVolumeOptions,
        caller: &Caller,
    ) -> Result<JobHandle> {
        let operation = JobOperation::VolumeClone;
        let (from, _) = self.pool.active()?;
        let within = self.pool.uuid == target.pool.uuid;
        let opener = match within {
            // It may share what cannot be read.
            true => self.shared.backend_of(from.def.pool_type)?,
            false => self.shared.backend(&from.def, JobOperation::VolumeDownload)?,
        };
        self.loaded().await?;
        known(&self.snapshot(), name)?;
        let new = def.name.clone();
        let mut leased = target.lease(operation, &new, caller, |now| absent(now, &new)).await?;
        let source = self.read_for(name, &leased.job);
        let volume = source.and_then(|reading| {
            leased.source = Some(reading);
            known(&self.snapshot(), name)
        });
        let volume = match volume {
            Ok(volume) => volume,
            Err(error) => {
                let Leased { job, epoch, source, .. } = leased;
                target.pool.release(&target.shared, &new, job.id, epoch, Some(None), None);
                drop(source);
                target.shared.jobs.end(&job, Err(error.clone()));
                return Err(error);
            }
        };
        self.shared.jobs.copies(&leased.job, (self.pool.uuid, name.clone()));
        let (backend, active) = (Arc::clone(&leased.backend), Arc::clone(&leased.active));
        let again = Arc::clone(&active);
        let work = move |ctx: &OpContext| {
            let how = options.preallocation;
            let shared = match within {
                true => backend.share_volume(&active, &def, &volume, how, ctx)?,
                false => None,
            };
            let volume = match shared {
                Some(volume) => volume,
                None => {
                    let access = VolumeAccess::ReadUnchanged;
                    let io = opener.open_volume(&from, &volume, access, ctx)?;
                    let source = CloneSource { pool: from.def.uuid, volume, io };
                    backend.clone_volume(&active, &def, &source, how, ctx)?
                }
            };
            Ok((Some(volume), backend.usage(&active, ctx).ok()))
        };
        let late = |(volume, _)| match volume {
            Some(volume) => Late::Created(again, Box::new(volume)),
            None => Late::Nothing,
        };
        Ok(target.spawn(leased, new, Patience::WhileAlive, work, late))
    }

    /// Makes a difference to a volume of this pool in `target`, maybe the same pool.
    pub async fn clone_shallow(
        &self,
        name: &VolumeName,
        target: &PoolHandle,
        def: VolumeDef,
        options: CreateVolumeOptions,
        caller: &Caller,
    ) -> Result<JobHandle> {
        self.loaded().await?;
        let volume = known(&self.snapshot(), name)?;
        let backing = BackingStore {
            path: volume.path.to_string(),
            // What only its content says is stated by whoever clones it.
            format: Some(volume.format),
            permissions: None,
        };
        let format = def.format.or(Some(VolumeFormat::Qcow2));
        let def = VolumeDef { backing: Some(backing), format, ..def };
        let job = target.create_as(JobOperation::VolumeClone, def, options, caller).await?;
        job.0.findings.say("method", "shallow");
        self.shared.jobs.copies(&job.0, (self.pool.uuid, name.clone()));
        Ok(job)
    }

    /// The lease of a job that was admitted to read a volume.
    fn reading(&self, name: &VolumeName, job: &Job) -> Reading {
        let (shared, pool) = (Arc::clone(&self.shared), Arc::clone(&self.pool));
        Reading { shared, pool, name: name.clone(), job: job.id }
    }

    /// Takes a lease to read a volume for a job that works elsewhere.
    fn read_for(&self, name: &VolumeName, job: &Arc<Job>) -> Result<Reading> {
        self.pool.update(&self.shared, |core, next| {
            match core.leases.against(name, Lease::Read) {
                Some(holder) => return Err(busy(next, name, holder)),
                None if core.active.is_none() => return Err(super::pool::not_active(next)),
                None => {}
            }
            core.leases.take(name, Lease::Read, job);
            next.volume_jobs.insert(name.clone(), job.id);
            Ok(())
        })?;
        Ok(self.reading(name, job))
    }
}
