//! Jobs on volumes: each holds a lease on its volume's name and runs beside all others.

use super::handle::PoolHandle;
use super::jobs::Job;
use super::leases::Lease;
use super::pool::{Late, Pool};
use super::records::Promise;
use super::run::{Patience, Run};
use super::shared::Shared;
use super::transfers::Reading;
use super::{Caller, CreateVolumeOptions, JobHandle, JobOperation, PoolSnapshot, PoolState};
use super::{ResultValue, actor::Results};
use crate::backend::{ActivePool, Backend, DeleteOptions, OpContext, ResizeOptions, WipeOptions};
use crate::model::{Error, ErrorKind, Result, Usage, Volume, VolumeDef, VolumeName};
use std::sync::{Arc, OnceLock};

/// What a job made of its volume, and the room there is after it.
type Outcome = (Option<Volume>, Option<Usage>);

/// A volume's job, admitted and holding its lease.
pub(super) struct Leased<T> {
    pub(super) job: Arc<Job>,
    pub(super) backend: Arc<dyn Backend>,
    pub(super) active: Arc<ActivePool>,
    pub(super) epoch: u64,
    pub(super) admitted: T,
    /// What it makes the backing file of its volume.
    base: Option<Promise>,
    /// What it reads beside.
    pub(super) source: Option<Reading>,
}

/// What a job that changes a volume found of it when it failed.
type Seen = Arc<OnceLock<Option<Volume>>>;

impl PoolHandle {
    /// Creates a volume.
    pub async fn create_volume(
        &self,
        def: VolumeDef,
        options: CreateVolumeOptions,
        caller: &Caller,
    ) -> Result<JobHandle> {
        self.create_as(JobOperation::VolumeCreate, def, options, caller).await
    }

    /// Creates a volume in a job that is called so.
    pub(super) async fn create_as(
        &self,
        operation: JobOperation,
        def: VolumeDef,
        options: CreateVolumeOptions,
        caller: &Caller,
    ) -> Result<JobHandle> {
        let name = def.name.clone();
        let base = def.backing.as_ref().map(|base| base.path.as_str());
        // First the promise, then the look at who works on the base; whoever deletes it takes its
        // lease first and then looks for promises. One of the two sees the other.
        let promise = base.map(|base| Promise::new(&self.shared, self.pool.uuid, &name, base));
        if let Some(base) = base {
            self.unworked(base)?;
        }
        let admit = |now: &PoolSnapshot| absent(now, &name);
        let mut leased = self.lease(operation, &name, caller, admit).await?;
        leased.base = promise;
        let (backend, active) = (Arc::clone(&leased.backend), Arc::clone(&leased.active));
        let again = Arc::clone(&active);
        Ok(self.spawn(
            leased,
            name,
            Patience::WhileAlive,
            move |ctx| {
                let volume = backend.create_volume(&active, &def, options.preallocation, ctx)?;
                Ok((Some(volume), backend.usage(&active, ctx).ok()))
            },
            |(volume, _)| match volume {
                Some(volume) => Late::Created(again, Box::new(volume)),
                None => Late::Nothing,
            },
        ))
    }

    /// Deletes a volume.
    pub async fn delete_volume(
        &self,
        name: &VolumeName,
        options: DeleteOptions,
        caller: &Caller,
    ) -> Result<JobHandle> {
        let operation = JobOperation::VolumeDelete;
        let leased = self.lease(operation, name, caller, |now| known(now, name)).await?;
        let (backend, active) = (Arc::clone(&leased.backend), Arc::clone(&leased.active));
        let volume = Arc::clone(&leased.admitted);
        let work = move |ctx: &OpContext| {
            backend.delete_volume(&active, &volume, options, ctx)?;
            Ok((None, backend.usage(&active, ctx).ok()))
        };
        Ok(self.spawn(leased, name.clone(), Patience::WhileAlive, work, |_| Late::Nothing))
    }

    /// Changes a volume's capacity to `capacity`.
    pub async fn resize_volume(
        &self,
        name: &VolumeName,
        capacity: u64,
        options: ResizeOptions,
        caller: &Caller,
    ) -> Result<JobHandle> {
        let resize = move |backend: &dyn Backend, active: &ActivePool, volume: &Volume, ctx: &_| {
            backend.resize_volume(active, volume, capacity, options, ctx)
        };
        self.rewrite(JobOperation::VolumeResize, name, Patience::WhileAlive, caller, resize).await
    }

    /// Overwrites a volume's content.
    pub async fn wipe_volume(
        &self,
        name: &VolumeName,
        options: WipeOptions,
        caller: &Caller,
    ) -> Result<JobHandle> {
        let wipe = move |backend: &dyn Backend, active: &ActivePool, volume: &Volume, ctx: &_| {
            backend.wipe_volume(active, volume, options, ctx)
        };
        self.rewrite(JobOperation::VolumeWipe, name, Patience::WhileAlive, caller, wipe).await
    }

    /// Changes a volume that is there. What a failure left of it is read again before the job
    /// ends.
    pub(super) async fn rewrite(
        &self,
        operation: JobOperation,
        name: &VolumeName,
        patience: Patience,
        caller: &Caller,
        change: impl FnOnce(&dyn Backend, &ActivePool, &Volume, &OpContext) -> Result<Volume>
        + Send
        + 'static,
    ) -> Result<JobHandle> {
        let leased = self.lease(operation, name, caller, |now| known(now, name)).await?;
        let (backend, active) = (Arc::clone(&leased.backend), Arc::clone(&leased.active));
        let volume = Arc::clone(&leased.admitted);
        let seen = Seen::default();
        let found = Arc::clone(&seen);
        let work = move |ctx: &OpContext| {
            let changed = change(&*backend, &active, &volume, ctx).inspect_err(|_| {
                // What cannot be read now is read by the pool's reader.
                if let Ok(now) = backend.refresh_volume(&active, &volume.name, ctx) {
                    let _ = found.set(now);
                }
            })?;
            Ok((Some(changed), backend.usage(&active, ctx).ok()))
        };
        Ok(self.spawn_seen(leased, name.clone(), patience, seen, work, |_| Late::Nothing))
    }

    /// Reads one volume again.
    pub async fn refresh_volume(&self, name: &VolumeName, caller: &Caller) -> Result<JobHandle> {
        let operation = JobOperation::VolumeRefresh;
        let leased = self.lease(operation, name, caller, |_| Ok(())).await?;
        let (backend, active) = (Arc::clone(&leased.backend), Arc::clone(&leased.active));
        let asked = name.clone();
        let work = move |ctx: &OpContext| {
            let volume = backend.refresh_volume(&active, &asked, ctx)?;
            Ok((volume, backend.usage(&active, ctx).ok()))
        };
        let patience = Patience::Volume(self.shared.options.refresh_timeout);
        Ok(self.spawn(leased, name.clone(), patience, work, |_| Late::Nothing))
    }

    /// Admits a job that changes a volume: the pool is active, the volume free, and `admit` content.
    pub(super) async fn lease<T>(
        &self,
        operation: JobOperation,
        name: &VolumeName,
        caller: &Caller,
        admit: impl Fn(&PoolSnapshot) -> Result<T>,
    ) -> Result<Leased<T>> {
        self.lease_to(Lease::Change, operation, name, caller, admit).await
    }

    /// Admits a job that changes or reads a volume.
    pub(super) async fn lease_to<T>(
        &self,
        lease: Lease,
        operation: JobOperation,
        name: &VolumeName,
        caller: &Caller,
        admit: impl Fn(&PoolSnapshot) -> Result<T>,
    ) -> Result<Leased<T>> {
        let (active, _) = self.pool.active()?;
        let backend = self.shared.backend(&active.def, operation)?;
        self.loaded().await?;
        self.free(name, lease)?;
        admit(&self.snapshot())?;
        let slot = self.shared.jobs.reserve(caller)?;
        let id = self.shared.store(|store| store.next_job_number()).await?;
        self.pool.update(&self.shared, |core, next| {
            let Some(active) = core.active.clone().filter(|_| next.state == PoolState::Active)
            else {
                return Err(super::pool::not_active(next));
            };
            if let Some(holder) = core.leases.against(name, lease) {
                return Err(busy(next, name, holder));
            }
            let admitted = admit(next)?;
            let uuid = self.pool.uuid;
            let job = self.shared.jobs.add(slot, id, operation, uuid, Some(name.clone()));
            core.leases.take(name, lease, &job);
            if lease == Lease::Change {
                core.touch(name);
            }
            next.volume_jobs.insert(name.clone(), id);
            let epoch = core.epoch;
            Ok(Leased { job, backend, active, epoch, admitted, base: None, source: None })
        })
    }

    /// Refuses a backing file that a job changes.
    fn unworked(&self, path: &str) -> Result<()> {
        for pool in self.shared.pools() {
            let now = pool.snapshot();
            let Some(name) = now.volume_at(path).map(|volume| &volume.name) else { continue };
            if let Some(holder) = pool.look(|core| core.leases.against(name, Lease::Read).cloned())
            {
                return Err(busy(&now, name, &holder));
            }
        }
        Ok(())
    }

    /// Refuses a volume on which a job is that stands against this lease.
    pub(super) fn free(&self, name: &VolumeName, lease: Lease) -> Result<()> {
        match self.pool.look(|core| core.leases.against(name, lease).cloned()) {
            Some(holder) => Err(busy(&self.snapshot(), name, &holder)),
            None => Ok(()),
        }
    }

    /// Runs a job that holds its lease, in a task of its own: its caller may leave.
    pub(super) fn spawn<T>(
        &self,
        leased: Leased<T>,
        name: VolumeName,
        patience: Patience,
        work: impl FnOnce(&OpContext) -> Result<Outcome> + Send + 'static,
        late: impl FnOnce(Outcome) -> Late + Send + 'static,
    ) -> JobHandle {
        self.spawn_seen(leased, name, patience, Seen::default(), work, late)
    }

    fn spawn_seen<T>(
        &self,
        leased: Leased<T>,
        name: VolumeName,
        patience: Patience,
        seen: Seen,
        work: impl FnOnce(&OpContext) -> Result<Outcome> + Send + 'static,
        late: impl FnOnce(Outcome) -> Late + Send + 'static,
    ) -> JobHandle {
        let Leased { job, epoch, base, source, .. } = leased;
        let handle = JobHandle(Arc::clone(&job));
        let (shared, pool) = (Arc::clone(&self.shared), Arc::clone(&self.pool));
        tokio::spawn(async move {
            let operation = job.snapshot().operation;
            let what = operation.as_str();
            let run = Run { shared: &shared, pool: &pool, job: Some(&job), patience, what };
            let (result, found, usage) = match run.run_or(work, late).await {
                Ok((found, usage)) => (Ok(results(&job, found.as_ref())), Some(found), usage),
                Err(error) => (Err(error), seen.get().cloned(), None),
            };
            let lost = matches!(&found, Some(None)) && operation == JobOperation::VolumeRefresh;
            let result = match lost {
                false => result,
                true => {
                    let message = format!("volume {name} is not in {}", pool.describe());
                    Err(Error::new(ErrorKind::NotFound, message))
                }
            };
            pool.release(&shared, &name, job.id, epoch, found, usage);
            if changes_others(operation) && watches_devices(&shared, &pool) {
                pool.ask_reread(&shared);
            }
            drop((base, source));
            shared.jobs.end(&job, result);
        });
        handle
    }
}

/// Whether such a job may change what a pool says beside its volume: the names of others, what is free.
fn changes_others(operation: JobOperation) -> bool {
    matches!(
        operation,
        JobOperation::VolumeCreate
            | JobOperation::VolumeClone
            | JobOperation::VolumeDelete
            | JobOperation::VolumeResize
    )
}

fn watches_devices(shared: &Shared, pool: &Pool) -> bool {
    let backend = shared.backend_of(pool.snapshot().def.pool_type);
    backend.is_ok_and(|backend| backend.info().watch.is_of_devices())
}

pub(super) fn absent(now: &PoolSnapshot, name: &VolumeName) -> Result<()> {
    match now.volumes.contains_key(name) {
        false => Ok(()),
        true => {
            let message = format!("volume {name} exists already in pool {}", now.def.name);
            Err(Error::new(ErrorKind::Exists, message))
        }
    }
}

pub(super) fn known(now: &PoolSnapshot, name: &VolumeName) -> Result<Arc<Volume>> {
    now.volumes.get(name).cloned().ok_or_else(|| {
        let message = format!("pool {} has no volume {name}", now.def.name);
        Error::new(ErrorKind::NotFound, message)
    })
}

pub(super) fn busy(now: &PoolSnapshot, name: &VolumeName, holder: &Job) -> Error {
    let message = format!(
        "volume {name} of pool {} is under {}; wait for its end",
        now.def.name,
        holder.describe()
    );
    Error::new(ErrorKind::Busy, message)
}

/// What the job's end says.
pub(super) fn results(job: &Job, found: Option<&Volume>) -> Results {
    let mut results = Results::new();
    for (key, finding) in job.findings.take() {
        results.insert(key, finding.into());
    }
    if let Some(volume) = found {
        results.insert("path", ResultValue::Text(volume.path.as_ref().to_owned()));
        results.insert("capacity", ResultValue::Number(volume.capacity));
        results.insert("allocation", ResultValue::Number(volume.allocation));
    }
    tracing::debug!(POOLD_JOB = job.id, "{} is done", job.describe());
    results
}
