//! One operation of a backend: on a thread, to a deadline, with an end whatever happens.
//!
//! A call that does not return by its deadline fails `TimedOut`, and its pool is dead: nothing
//! more is given to it until the call returns, so that it costs one thread and nobody else anything.

use super::JobOperation;
use super::actor::Command;
use super::jobs::Job;
use super::live;
use super::pool::{Late, Phase, Pool};
use super::records::{AllVolumes, JobJournal, StepsStand, StoreRecords};
use super::secrets::EngineSecrets;
use super::shared::Shared;
use crate::backend::{ActivePool, Backend, Journal, OpContext, Overtime};
use crate::host::{CancelToken, Limits};
use crate::model::{Error, ErrorKind, Result};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::time::Instant;

/// How long is waited between looks for what an operation is to be left for.
const AWAITED_LOOK: Duration = Duration::from_millis(50);

/// How long an operation may take.
#[derive(Debug, Clone, Copy)]
pub(super) enum Patience {
    /// So long, but for work that says that it is much; for the pool as a whole.
    Within(Duration),
    /// The same, for what is left as soon as something else is to be done with the pool.
    Spare(Duration),
    /// So long; for a job on a volume.
    Volume(Duration),
    /// For a job on a volume: as long as it makes progress, or the pool answers beside it.
    WhileAlive,
    /// For a transfer from or to a client, which waits for that as long as the transfer allows.
    Transfer,
    /// So long, on a pool that may be dead.
    Force(Duration),
}

impl Patience {
    fn time(self) -> Option<Duration> {
        match self {
            Self::Within(time) | Self::Spare(time) | Self::Volume(time) | Self::Force(time) => {
                Some(time)
            }
            Self::WhileAlive | Self::Transfer => None,
        }
    }
}

/// One operation, to be run.
pub(super) struct Run<'a> {
    pub(super) shared: &'a Arc<Shared>,
    pub(super) pool: &'a Arc<Pool>,
    /// Whose work it is; none for what nobody asked for.
    pub(super) job: Option<&'a Arc<Job>>,
    pub(super) patience: Patience,
    /// What it is, for the message when it hangs.
    pub(super) what: &'static str,
}

impl Run<'_> {
    /// Runs it; what it did after having been given up is undone only if it says how.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&OpContext) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        self.run_or(work, |_| Late::Nothing).await
    }

    /// Runs it; `late` says what is to be undone when it succeeds after it was given up.
    pub(super) async fn run_or<T: Send + 'static>(
        &self,
        work: impl FnOnce(&OpContext) -> Result<T> + Send + 'static,
        late: impl FnOnce(T) -> Late + Send + 'static,
    ) -> Result<T> {
        let commit = |done, journal: Arc<JobJournal>| journal.commit().map(|()| done);
        self.go(StepsStand::WhenDone, work, commit, late).await
    }

    /// Runs a start. Its steps stand when its journal is committed: after the pool is remembered to
    /// be active, so that a daemon that dies in between undoes them.
    pub(super) async fn run_start(
        &self,
        work: impl FnOnce(&OpContext) -> Result<ActivePool> + Send + 'static,
    ) -> Result<(ActivePool, Arc<JobJournal>)> {
        let late = |(active, journal)| Late::Started(active, journal);
        self.go(StepsStand::WhenActive, work, |active, journal| Ok((active, journal)), late).await
    }

    /// Runs it; `ended` is given what it did and its journal, on the worker's thread.
    async fn go<W: Send + 'static, T: Send + 'static>(
        &self,
        steps: StepsStand,
        work: impl FnOnce(&OpContext) -> Result<W> + Send + 'static,
        ended: impl FnOnce(W, Arc<JobJournal>) -> Result<T> + Send + 'static,
        late: impl FnOnce(T) -> Late + Send + 'static,
    ) -> Result<T> {
        let (shared, pool) = (self.shared, self.pool);
        let lane = match self.patience {
            Patience::Within(_) | Patience::Spare(_) => Some(&pool.pool_lane),
            Patience::Volume(_) | Patience::WhileAlive => Some(&pool.volume_lane),
            Patience::Transfer | Patience::Force(_) => None,
        };
        let place = match lane {
            Some(lane) => Some(self.while_wanted(acquire(lane)).await??),
            None => None,
        };
        let mut permit = match self.patience {
            Patience::Transfer => self.while_wanted(shared.workers.transfer()).await??,
            _ => self.while_wanted(shared.workers.permit()).await??,
        };

        if let Some(job) = self.job {
            shared.jobs.begin(job);
        }
        let cancel = CancelToken::default();
        let limits = Limits { deadline: self.soft_deadline(), cancel: cancel.clone() };
        let overtime = Overtime::default();
        let (context, journal) = self.context(limits, overtime.clone(), steps);
        let mut result = shared.workers.start(move || {
            let done = work(&context).and_then(|done| ended(done, Arc::clone(&journal)));
            if done.is_err() {
                journal.roll_back();
            }
            done
        })?;

        let hard = match self.wait(&mut result, &cancel, &overtime).await {
            Ok(done) => return done,
            Err(given_up_after) => given_up_after,
        };
        cancel.cancel();
        permit.write_off();
        let error = Error::new(
            ErrorKind::TimedOut,
            format!(
                "{} of {} did not end in {:.1} s; it is {} until that returns",
                self.what,
                pool.describe(),
                hard.as_secs_f32(),
                if pool.look(|core| core.phase == Phase::Stopping) {
                    "stopping"
                } else {
                    "inaccessible"
                },
            ),
        );
        pool.update(shared, |core, next| {
            core.stuck += 1;
            core.dead = true;
            next.last_error = Some(error.clone());
        });
        tracing::warn!(POOLD_POOL = %pool.name(), POOLD_POOL_UUID = %pool.uuid, "{error}");
        let (shared, pool, what) = (Arc::clone(shared), Arc::clone(pool), self.what);
        tokio::spawn(async move {
            let returned = result.await.unwrap_or_else(|_| Err(lost()));
            drop((place, permit));
            tracing::info!(POOLD_POOL = %pool.name(), POOLD_POOL_UUID = %pool.uuid, "{what} of {} returned", pool.describe());
            let idle = pool.update(&shared, |core, _| {
                core.stuck -= 1;
                core.late.extend(returned.ok().map(late));
                core.stuck == 0
            });
            if idle {
                pool.send(&shared, Command::Recover);
            }
        });
        Err(error)
    }

    /// Waits for the result; or says after how long it was given up.
    async fn wait<T>(
        &self,
        result: &mut oneshot::Receiver<Result<T>>,
        cancel: &CancelToken,
        overtime: &Overtime,
    ) -> Result<Result<T>, Duration> {
        let begun = Instant::now();
        // One that is cancelled and lasts while the pool lives may be writing out what it wrote: that it
        // does not hear at once condemns nobody else's work there.
        let grace = self.shared.options.stop_timeout / 2;
        let tick = self.shared.options.refresh_timeout;
        let mut hard = self.patience.time().map(|time| begun + time);
        let spare = matches!(self.patience, Patience::Spare(_));
        let mut check = begun + tick;
        let mut progress = None;
        let mut gave_way = false;
        loop {
            let given_up = async {
                match hard {
                    Some(hard) => tokio::time::sleep_until(hard).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                done = &mut *result => {
                    let done = done.unwrap_or_else(|_| Err(lost()));
                    let cancelled = |error: &Error| error.kind() == ErrorKind::Cancelled;
                    return Ok(match gave_way && done.as_ref().err().is_some_and(cancelled) {
                        true => Err(self.yielded()),
                        false => done,
                    });
                }
                () = given_up => {
                    if cancel.is_cancelled() || !overtime.is_worked() {
                        return Err(begun.elapsed());
                    }
                    (hard, check) = (None, Instant::now());
                }
                () = cancelled(self.job), if !cancel.is_cancelled() => {
                    cancel.cancel();
                    hard = hard.map(|hard| hard.min(Instant::now() + grace));
                }
                () = self.awaited(), if spare && !cancel.is_cancelled() => {
                    gave_way = true;
                    cancel.cancel();
                    hard = hard.map(|hard| hard.min(Instant::now() + grace));
                }
                () = tokio::time::sleep_until(check), if hard.is_none() => {
                    let works_overtime = matches!(self.patience, Patience::Within(_));
                    if works_overtime && self.is_awaited() {
                        gave_way = true;
                        cancel.cancel();
                        hard = Some(Instant::now() + grace);
                        continue;
                    }
                    let now = self.job.map(|job| job.progress.get());
                    if now == std::mem::replace(&mut progress, now) {
                        // One whose client is slow may go on with what it has open.
                        let alone =
                            works_overtime || matches!(self.patience, Patience::WhileAlive);
                        if self.pool.look(|core| core.dead || alone && core.gone) {
                            return Err(begun.elapsed());
                        }
                        probe(self.shared, self.pool);
                    }
                    check = Instant::now() + tick;
                }
            }
        }
    }

    /// The error of what ended because it was awaited.
    fn yielded(&self) -> Error {
        let pool = self.pool.describe();
        let what = format!(
            "{} of {pool} gave way to what else is to be done with it; try again",
            self.what
        );
        Error::new(ErrorKind::Cancelled, what)
    }

    /// Whether something else is to be done with the pool as a whole, for which this may be left. A start
    /// is not: it would have been for nothing. A refresh is not for another one, or none would come to its end.
    fn is_awaited(&self) -> bool {
        let operation = self.job.map(|job| job.snapshot().operation);
        self.pool.look(|core| match operation {
            None => core.asking > 0 || !core.queue.is_empty(),
            Some(JobOperation::PoolRefresh) => core.asking > 0 || core.next_change().is_some(),
            Some(_) => false,
        })
    }

    async fn awaited(&self) {
        while !self.is_awaited() {
            tokio::time::sleep(AWAITED_LOOK).await;
        }
    }

    /// What the operation is told: a fifth earlier than when it is given up, so that it can end
    /// by itself, and a program of it that takes no notice be killed.
    fn soft_deadline(&self) -> Option<std::time::Instant> {
        let time = self.patience.time()?;
        std::time::Instant::now().checked_add(time * 8 / 10)
    }

    /// Waits for something as long as the operation is wanted and the pool lives.
    async fn while_wanted<T>(&self, wait: impl Future<Output = T>) -> Result<T> {
        let mut died = self.pool.died.subscribe();
        let forced = matches!(self.patience, Patience::Force(_));
        tokio::select! {
            biased;
            () = cancelled(self.job) => {
                Err(Error::new(ErrorKind::Cancelled, "cancelled before it began"))
            }
            _ = died.wait_for(|died| *died), if !forced => Err(self.pool.inaccessible()),
            got = wait => Ok(got),
        }
    }

    fn context(
        &self,
        limits: Limits,
        overtime: Overtime,
        steps: StepsStand,
    ) -> (OpContext, Arc<JobJournal>) {
        let journal = Arc::new(JobJournal::new(self.shared, self.pool.uuid, self.job, steps));
        let context = OpContext {
            limits,
            overtime,
            asked: self.job.is_some(),
            progress: self.job.map(|job| job.progress.clone()).unwrap_or_default(),
            host: Arc::clone(&self.shared.host),
            records: Arc::new(StoreRecords(Arc::clone(&self.shared.store))),
            journal: Arc::clone(&journal) as Arc<dyn Journal>,
            known: Arc::new(AllVolumes(Arc::clone(self.shared))),
            secrets: Arc::new(EngineSecrets(Arc::clone(self.shared))),
            private: self.shared.store.private(),
            mounts: self.shared.store.mounts(),
            findings: self.job.map(|job| job.findings.clone()).unwrap_or_default(),
        };
        (context, journal)
    }
}

async fn acquire(lane: &Arc<Semaphore>) -> Result<OwnedSemaphorePermit> {
    Arc::clone(lane).acquire_owned().await.map_err(|_| lost())
}

async fn cancelled(job: Option<&Arc<Job>>) {
    match job {
        Some(job) => job.cancel.cancelled().await,
        None => std::future::pending().await,
    }
}

fn lost() -> Error {
    Error::new(ErrorKind::Failed, "the operation was lost")
}

/// Asks a pool whether it lives: reads its room, to the deadline of a refresh.
fn probe(shared: &Arc<Shared>, pool: &Arc<Pool>) {
    // Also one that is starting, and read for the first time.
    let (Some(active), epoch) = pool.look(|core| (core.active.clone(), core.epoch)) else { return };
    let Ok(backend) = shared.backend_of(active.def.pool_type) else { return };
    let (shared, pool) = (Arc::clone(shared), Arc::clone(pool));
    tokio::spawn(async move {
        let within = Patience::Within(shared.options.refresh_timeout);
        let run =
            Run { shared: &shared, pool: &pool, job: None, patience: within, what: "a probe" };
        let backend: Arc<dyn Backend> = backend;
        if let Err(error) = run.run(move |ctx| backend.usage(&active, ctx)).await {
            tracing::debug!(POOLD_POOL = %pool.name(), POOLD_POOL_UUID = %pool.uuid, "a job makes no progress: {error}");
            // So that everybody sees what it waits for.
            pool.update(&shared, |core, next| {
                if core.epoch == epoch && !core.dead {
                    live::lost(&shared, &pool, core, next, error);
                }
            });
        }
    });
}
