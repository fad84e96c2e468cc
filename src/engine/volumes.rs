//! Jobs on volumes: each holds a lease on its volume's name and runs beside all others.

use super::handle::PoolHandle;
use super::jobs::Job;
use super::pool::Late;
use super::records::Promise;
use super::run::{Patience, Run};
use super::{Caller, CreateVolumeOptions, JobHandle, JobOperation, PoolSnapshot, PoolState};
use super::{ResultValue, actor::Results};
use crate::backend::{ActivePool, Backend, OpContext, ResizeOptions};
use crate::model::{Error, ErrorKind, Result, Usage, Volume, VolumeDef, VolumeName};
use std::sync::Arc;

/// What a job made of its volume, and the room there is after it.
type Outcome = (Option<Volume>, Option<Usage>);

/// A volume's job, admitted and holding its lease.
struct Leased<T> {
    job: Arc<Job>,
    backend: Arc<dyn Backend>,
    active: Arc<ActivePool>,
    epoch: u64,
    admitted: T,
    /// What it makes the backing file of its volume.
    base: Option<Promise>,
}

impl PoolHandle {
    /// Creates a volume.
    pub async fn create_volume(
        &self,
        def: VolumeDef,
        options: CreateVolumeOptions,
        caller: &Caller,
    ) -> Result<JobHandle> {
        let name = def.name.clone();
        let pool = self.pool.describe();
        let admit = |now: &PoolSnapshot| match now.volumes.contains_key(&name) {
            false => Ok(()),
            true => {
                let message = format!("volume {name} exists already in {pool}");
                Err(Error::new(ErrorKind::Exists, message))
            }
        };
        let base = def.backing.as_ref().map(|base| base.path.as_str());
        // First the promise, then the look at who works on the base; whoever deletes it takes its
        // lease first and then looks for promises. One of the two sees the other.
        let promise = base.map(|base| Promise::new(&self.shared, self.pool.uuid, &name, base));
        if let Some(base) = base {
            self.unworked(base)?;
        }
        let mut leased = self.lease(JobOperation::VolumeCreate, &name, caller, admit).await?;
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
        force: bool,
        caller: &Caller,
    ) -> Result<JobHandle> {
        let operation = JobOperation::VolumeDelete;
        let leased = self.lease(operation, name, caller, |now| known(now, name)).await?;
        let (backend, active) = (Arc::clone(&leased.backend), Arc::clone(&leased.active));
        let volume = Arc::clone(&leased.admitted);
        let work = move |ctx: &OpContext| {
            backend.delete_volume(&active, &volume, force, ctx)?;
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
        let operation = JobOperation::VolumeResize;
        let leased = self.lease(operation, name, caller, |now| known(now, name)).await?;
        let (backend, active) = (Arc::clone(&leased.backend), Arc::clone(&leased.active));
        let volume = Arc::clone(&leased.admitted);
        let work = move |ctx: &OpContext| {
            let volume = backend.resize_volume(&active, &volume, capacity, options, ctx)?;
            Ok((Some(volume), backend.usage(&active, ctx).ok()))
        };
        Ok(self.spawn(leased, name.clone(), Patience::WhileAlive, work, |_| Late::Nothing))
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

    /// Admits a job: the pool is active, the volume free, and `admit` content.
    async fn lease<T>(
        &self,
        operation: JobOperation,
        name: &VolumeName,
        caller: &Caller,
        admit: impl Fn(&PoolSnapshot) -> Result<T>,
    ) -> Result<Leased<T>> {
        let (active, _) = self.pool.active()?;
        let backend = self.shared.backend(&active.def, operation)?;
        self.loaded().await?;
        self.free(name)?;
        admit(&self.snapshot())?;
        let slot = self.shared.jobs.reserve(caller)?;
        let id = self.shared.store(|store| store.next_job_number()).await?;
        self.pool.update(&self.shared, |core, next| {
            let Some(active) = core.active.clone().filter(|_| next.state == PoolState::Active)
            else {
                return Err(super::pool::not_active(next));
            };
            if let Some(holder) = core.leases.get(name) {
                return Err(busy(next, name, holder));
            }
            let admitted = admit(next)?;
            let uuid = self.pool.uuid;
            let job = self.shared.jobs.add(slot, id, operation, uuid, Some(name.clone()));
            core.leases.insert(name.clone(), Arc::clone(&job));
            core.touch(name);
            next.volume_jobs.insert(name.clone(), id);
            Ok(Leased { job, backend, active, epoch: core.epoch, admitted, base: None })
        })
    }

    /// Refuses a backing file that a job changes.
    fn unworked(&self, path: &str) -> Result<()> {
        for pool in self.shared.pools() {
            let now = pool.snapshot();
            let Some(name) = now.volume_at(path).map(|volume| &volume.name) else { continue };
            if let Some(holder) = pool.look(|core| core.leases.get(name).cloned()) {
                return Err(busy(&now, name, &holder));
            }
        }
        Ok(())
    }

    fn free(&self, name: &VolumeName) -> Result<()> {
        match self.pool.look(|core| core.leases.get(name).cloned()) {
            Some(holder) => Err(busy(&self.snapshot(), name, &holder)),
            None => Ok(()),
        }
    }

    /// Runs a job that holds its lease, in a task of its own: its caller may leave.
    fn spawn<T>(
        &self,
        leased: Leased<T>,
        name: VolumeName,
        patience: Patience,
        work: impl FnOnce(&OpContext) -> Result<Outcome> + Send + 'static,
        late: impl FnOnce(Outcome) -> Late + Send + 'static,
    ) -> JobHandle {
        let Leased { job, epoch, base, .. } = leased;
        let handle = JobHandle(Arc::clone(&job));
        let (shared, pool) = (Arc::clone(&self.shared), Arc::clone(&self.pool));
        tokio::spawn(async move {
            let operation = job.snapshot().operation;
            let what = operation.as_str();
            let run = Run { shared: &shared, pool: &pool, job: Some(&job), patience, what };
            let (result, found, usage) = match run.run_or(work, late).await {
                Ok((found, usage)) => (Ok(results(&job, found.as_ref())), Some(found), usage),
                Err(error) => (Err(error), None, None),
            };
            let lost = matches!(&found, Some(None)) && operation == JobOperation::VolumeRefresh;
            let result = match lost {
                false => result,
                true => {
                    let message = format!("volume {name} is not in {}", pool.describe());
                    Err(Error::new(ErrorKind::NotFound, message))
                }
            };
            pool.release(&shared, &name, epoch, found, usage);
            drop(base);
            shared.jobs.end(&job, result);
        });
        handle
    }
}

fn known(now: &PoolSnapshot, name: &VolumeName) -> Result<Arc<Volume>> {
    now.volumes.get(name).cloned().ok_or_else(|| {
        let message = format!("pool {} has no volume {name}", now.def.name);
        Error::new(ErrorKind::NotFound, message)
    })
}

fn busy(now: &PoolSnapshot, name: &VolumeName, holder: &Job) -> Error {
    let message = format!(
        "volume {name} of pool {} is under {}; wait for its end",
        now.def.name,
        holder.describe()
    );
    Error::new(ErrorKind::Busy, message)
}

/// What the job's end says.
fn results(job: &Job, found: Option<&Volume>) -> Results {
    let mut results = Results::new();
    if let Some(volume) = found {
        results.insert("path", ResultValue::Text(volume.path.as_ref().to_owned()));
        results.insert("capacity", ResultValue::Number(volume.capacity));
        results.insert("allocation", ResultValue::Number(volume.allocation));
    }
    tracing::debug!(POOLD_JOB = job.id, "{} is done", job.describe());
    results
}
