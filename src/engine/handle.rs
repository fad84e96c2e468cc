//! A pool as the faces hold it: every call either answers at once or returns a job.

use super::actor::{Command, Work};
use super::jobs::Job;
use super::pool::{Core, Pool, not_active};
use super::shared::Shared;
use super::{Caller, JobHandle, JobOperation, JobState, PoolSnapshot, PoolState};
use crate::backend::{BuildMode, StopOptions};
use crate::model::{Error, ErrorKind, Result, Uuid};
use std::sync::Arc;
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout};

/// A pool; clones share it.
#[derive(Clone)]
pub struct PoolHandle {
    pub(super) shared: Arc<Shared>,
    pub(super) pool: Arc<Pool>,
}

impl PoolHandle {
    /// Its identity.
    pub fn uuid(&self) -> Uuid {
        self.pool.uuid
    }

    /// How it is now.
    pub fn snapshot(&self) -> Arc<PoolSnapshot> {
        self.pool.snapshot()
    }

    /// Waits until the volumes of an active pool have been read, to the refresh deadline.
    pub async fn loaded(&self) -> Result<()> {
        let mut version = self.pool.version.subscribe();
        let settled = version.wait_for(|_| {
            let now = self.snapshot();
            now.loaded || now.stale || !matches!(now.state, PoolState::Active)
        });
        // The queue before the load takes time too; its own deadline ends it.
        let patience = self.shared.options.refresh_timeout;
        if timeout(patience, settled).await.is_err() {
            let message = format!("{} is still loading; try again later", self.pool.describe());
            return Err(Error::new(ErrorKind::TimedOut, message));
        }
        let now = self.snapshot();
        match now.state {
            _ if now.loaded => Ok(()),
            PoolState::Inaccessible => Err(self.pool.inaccessible()),
            PoolState::Active => now.last_error.clone().map_or(Ok(()), Err),
            _ => Ok(()),
        }
    }

    /// Makes it usable, after building it when `build` says so.
    pub async fn start(&self, build: Option<BuildMode>, caller: &Caller) -> Result<JobHandle> {
        self.submit(JobOperation::PoolStart, Work::Start(build), caller).await
    }

    /// The same; when it fails, it is tried again in the background until the pool is active or stopped.
    pub async fn start_until_active(
        &self,
        build: Option<BuildMode>,
        caller: &Caller,
    ) -> Result<JobHandle> {
        super::autostart::until_active(self, build, caller).await
    }

    /// Stops it.
    pub async fn stop(&self, options: StopOptions, caller: &Caller) -> Result<JobHandle> {
        let by = Instant::now() + self.shared.options.stop_timeout;
        // Whatever prepares the pool's activity ends for this.
        let idle = self.pool.update(&self.shared, |core, next| {
            let mut ended = false;
            for job in &core.queue {
                let operation = job.snapshot().operation;
                let starts = operation == JobOperation::PoolStart;
                if starts || (options.force && operation.cancelable()) {
                    job.cancel.cancel();
                    ended |= starts;
                }
            }
            if let Some(retry) = core.retry.take() {
                retry.cancel();
                ended = true;
                next.waiting_for.clear();
                next.next_try = 0;
            }
            core.stopped_by_hand |= ended;
            ended
        });
        self.submit(JobOperation::PoolStop, Work::Stop { options, by, idle }, caller).await
    }

    /// Makes its storage.
    pub async fn build(&self, mode: BuildMode, caller: &Caller) -> Result<JobHandle> {
        self.submit(JobOperation::PoolBuild, Work::Build(mode), caller).await
    }

    /// Destroys its storage, with the volumes in it if so wished.
    pub async fn delete(&self, with_volumes: bool, caller: &Caller) -> Result<JobHandle> {
        self.submit(JobOperation::PoolDelete, Work::Delete { with_volumes }, caller).await
    }

    /// Reads usage and volumes; a refresh that has not begun is joined.
    pub async fn refresh(&self, caller: &Caller) -> Result<JobHandle> {
        self.submit(JobOperation::PoolRefresh, Work::Refresh, caller).await
    }

    /// Forgets the definition; an active pool becomes transient.
    pub async fn undefine(&self) -> Result<()> {
        self.ask(Command::Undefine).await
    }

    /// Whether it is started at boot.
    pub async fn set_autostart(&self, autostart: bool) -> Result<()> {
        self.ask(|reply| Command::SetAutostart(autostart, reply)).await
    }

    /// Sends a command to the actor and waits for its answer.
    pub(super) async fn ask(
        &self,
        command: impl FnOnce(oneshot::Sender<Result<()>>) -> Command,
    ) -> Result<()> {
        let (reply, answer) = oneshot::channel();
        let _asking = Asking::on(&self.pool);
        self.pool.send(&self.shared, command(reply));
        answer.await.unwrap_or_else(|_| Err(self.pool.no_more()))
    }

    /// Queues a job on the pool as a whole, or joins the one that does just this.
    async fn submit(
        &self,
        operation: JobOperation,
        work: Work,
        caller: &Caller,
    ) -> Result<JobHandle> {
        self.shared.backend(&self.snapshot().def, operation)?;
        let joined = self.pool.look(|core| self.admit(work, core).map(|()| core.joinable(work)))?;
        if let Some(job) = joined {
            return Ok(JobHandle(job));
        }
        let slot = self.shared.jobs.reserve(caller)?;
        let id = self.shared.store(|store| store.next_job_number()).await?;
        let (job, new) = self.pool.update(&self.shared, |core, _| -> Result<_> {
            // Once more: another job may have come, or ended, meanwhile.
            self.admit(work, core)?;
            if let Some(job) = core.joinable(work) {
                return Ok((job, false));
            }
            let job = self.shared.jobs.add(slot, id, operation, self.pool.uuid, None);
            core.queue.push(Arc::clone(&job));
            Ok((job, true))
        })?;
        if new {
            self.pool.send(&self.shared, Command::Job(Arc::clone(&job), work));
        }
        Ok(JobHandle(job))
    }

    /// Refuses at once what could only fail; not certain while jobs are queued, whose effect the
    /// actor will see.
    fn admit(&self, work: Work, core: &Core) -> Result<()> {
        if core.removed {
            return Err(self.pool.no_more());
        }
        let patient = match work {
            Work::Stop { options, idle, .. } => options.force || (idle && core.active.is_none()),
            _ => false,
        };
        if core.dead && !patient {
            return Err(self.pool.inaccessible());
        }
        if core.next_change().is_some() {
            return Ok(());
        }
        match work {
            Work::Stop { idle: true, .. } => Ok(()),
            Work::Stop { .. } if core.active.is_none() => {
                let message = format!("{} is not active; nothing to stop", self.pool.describe());
                Err(Error::new(ErrorKind::NotActive, message))
            }
            Work::Refresh if core.active.is_none() => Err(not_active(&self.snapshot())),
            Work::Start(_) if core.active.is_some() => {
                let message = format!("{} is active already", self.pool.describe());
                Err(Error::new(ErrorKind::Active, message))
            }
            Work::Build(_) | Work::Delete { .. } if core.active.is_some() => {
                let message = format!("{} is active; stop it first", self.pool.describe());
                Err(Error::new(ErrorKind::Active, message))
            }
            _ => Ok(()),
        }
    }
}

/// Somebody who waits for the actor of a pool without a job.
struct Asking<'a>(&'a Pool);

impl<'a> Asking<'a> {
    fn on(pool: &'a Pool) -> Self {
        pool.change(|core| core.asking += 1);
        Self(pool)
    }
}

impl Drop for Asking<'_> {
    fn drop(&mut self) {
        self.0.change(|core| core.asking -= 1);
    }
}

impl Core {
    /// The last job that changes the pool as a whole when it runs: all but refreshes.
    pub(super) fn next_change(&self) -> Option<&Arc<Job>> {
        let changes = |job: &&Arc<Job>| job.snapshot().operation != JobOperation::PoolRefresh;
        self.queue.iter().rev().find(changes)
    }

    /// The last refresh that has not begun: one that has may have read what somebody changed since.
    fn next_refresh(&self) -> Option<&Arc<Job>> {
        self.queue.iter().rev().find(|job| {
            let now = job.snapshot();
            now.operation == JobOperation::PoolRefresh && now.state == JobState::Queued
        })
    }

    /// The job that does what a new one would do.
    fn joinable(&self, work: Work) -> Option<Arc<Job>> {
        let last = match work {
            Work::Refresh => self.next_refresh(),
            Work::Start(None) => {
                self.next_change().filter(|job| job.snapshot().operation == JobOperation::PoolStart)
            }
            _ => None,
        };
        last.filter(|job| !job.cancel.is_cancelled()).cloned()
    }
}
