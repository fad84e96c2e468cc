//! The actor's part that starts, stops and reads a pool.

use super::actor::{Actor, Command, Results};
use super::jobs::{Job, now_micros};
use super::live::{self, Follower};
use super::merge::Merged;
use super::pool::{Late, Phase, clear_volumes, note, set_volumes};
use super::run::Patience;
use super::{JobOperation, ResultValue};
use crate::backend::{ActivePool, Backend, BuildMode, StopOptions, Watch};
use crate::model::{Error, ErrorKind, Result, Usage};
use crate::store::RunState;
use std::sync::Arc;
use tokio::sync::oneshot;
use tokio::time::Instant;

/// What is kept of an active pool until the next boot.
fn run_state(active: &ActivePool, transient: bool) -> Result<RunState> {
    let activation = serde_json::to_value(&active.activation).map_err(|error| {
        let message = format!("pool {}: cannot keep its state: {error}", active.def.name);
        Error::new(ErrorKind::Failed, message)
    })?;
    Ok(RunState {
        def: active.def.as_ref().clone(),
        activation: Some(activation),
        stopped_by_hand: false,
        transient,
    })
}

impl Actor {
    pub(super) async fn start(
        &mut self,
        job: &Arc<Job>,
        build: Option<BuildMode>,
    ) -> Result<Results> {
        if self.pool.look(|core| core.active.is_some()) {
            let message = format!("{} is active already", self.pool.describe());
            return Err(Error::new(ErrorKind::Active, message));
        }
        self.pool.update(&self.shared, |core, next| {
            core.phase = Phase::Starting;
            core.stopped_by_hand = false;
            next.last_error = None;
        });
        let done = self.start_steps(job, build).await;
        self.pool.update(&self.shared, |core, _| {
            // Or one that could not be read is being stopped.
            if core.phase == Phase::Starting {
                core.phase = Phase::Idle;
            }
        });
        self.pool.stirred.notify_one();
        // What is wrong with one that started all the same was said when it was read.
        if done.is_err() {
            self.note(&done);
        }
        done
    }

    async fn start_steps(&mut self, job: &Arc<Job>, build: Option<BuildMode>) -> Result<Results> {
        if let Some(mode) = build {
            self.build_storage(job, mode).await?;
        }
        let snapshot = self.pool.snapshot();
        let def = Arc::clone(&snapshot.def);
        let transient = !snapshot.persistent;
        let backend = self.shared.backend(&def, JobOperation::PoolStart)?;
        backend.check_definition(&def)?;
        let patience = Patience::Within(self.shared.options.start_timeout);
        let (active, journal) = self
            .run(Some(job), patience, "the start")
            .run_start(move |ctx| {
                let activation = backend.start(&def, ctx)?;
                Ok(ActivePool { def, activation })
            })
            .await?;
        // Not by the worker: one that returns when it was given up must not say what is so.
        let kept = match run_state(&active, transient) {
            Ok(state) => self.shared.store(move |store| store.save_run_state(&state)).await,
            Err(error) => Err(error),
        };
        if let Err(error) = kept {
            self.undo_late(Late::Started(active, journal)).await?;
            return Err(error);
        }
        if let Err(error) = self.shared.store(move |_| journal.commit()).await {
            // It is not undone after all, as the pool is remembered to be active.
            tracing::error!(POOLD_JOB = job.id, "cannot end the job's journal: {error}");
        }
        self.pool.update(&self.shared, |core, _| {
            core.active = Some(Arc::new(active));
            core.epoch += 1;
            core.gone = false;
        });
        let loaded = self.read(Some(job)).await;
        if loaded.is_err() && !self.pool.look(|core| core.dead) {
            let (active, _) = self.started()?;
            self.stop_storage(None, active, StopOptions::default(), Instant::now(), false).await?;
        }
        loaded
    }

    pub(super) async fn stop(
        &mut self,
        job: &Arc<Job>,
        options: StopOptions,
        by: Instant,
        idle: bool,
    ) -> Result<Results> {
        let Ok((active, _)) = self.started() else {
            if !idle {
                return Err(super::pool::not_active(&self.pool.snapshot()));
            }
            let state = RunState {
                def: self.pool.snapshot().def.as_ref().clone(),
                activation: None,
                stopped_by_hand: true,
                transient: false,
            };
            self.shared.store(move |store| store.save_run_state(&state)).await?;
            return Ok(Results::new());
        };
        let pool = &self.pool;
        pool.update(&self.shared, |core, _| match core.leases.any() {
            Some((volume, holder)) if !options.force => Err(Error::new(
                ErrorKind::Busy,
                format!(
                    "volume {volume} of {} is under {}; wait for it, or stop with force",
                    pool.describe(),
                    holder.describe()
                ),
            )),
            _ => {
                core.phase = Phase::Stopping;
                core.leases.jobs().for_each(|job| job.cancel.cancel());
                Ok(())
            }
        })?;
        if options.force {
            self.wait_for_leases(by).await;
        }
        let stopped = self.stop_storage(Some(job), active, options, by, true).await;
        self.pool.stirred.notify_one();
        self.note(&stopped);
        stopped.map(|()| Results::new())
    }

    /// Waits for cancelled jobs to roll back, for half of the time that the stop has.
    async fn wait_for_leases(&self, by: Instant) {
        let mut version = self.pool.version.subscribe();
        let half = by.saturating_duration_since(Instant::now()) / 2;
        let free = version.wait_for(|_| self.pool.look(|core| core.leases.is_empty()));
        if tokio::time::timeout(half, free).await.is_err() {
            tracing::warn!(POOLD_POOL = %self.pool.name(), POOLD_POOL_UUID = %self.pool.uuid, "stopping although jobs do not end");
        }
    }

    /// Stops the storage; then forgets that it was active.
    async fn stop_storage(
        &self,
        job: Option<&Arc<Job>>,
        active: Arc<ActivePool>,
        options: StopOptions,
        by: Instant,
        by_hand: bool,
    ) -> Result<()> {
        let backend = self.shared.backend_of(active.def.pool_type)?;
        let patience = match options.force {
            true => {
                let left = by.saturating_duration_since(Instant::now());
                // What came before may have taken all the time; it is tried all the same.
                Patience::Force(left.max(self.shared.options.stop_timeout / 4))
            }
            false => Patience::Within(self.shared.options.stop_timeout),
        };
        let (tell, mut told) = oneshot::channel();
        let stopped = self
            .run(job, patience, "the stop")
            .run(move |ctx| {
                let stopped = backend.stop(&active, options, ctx);
                // Nobody listens to one that is in time.
                let _ = tell.send(stopped.is_ok());
                stopped
            })
            .await;
        if let (Err(error), Err(oneshot::error::TryRecvError::Empty)) = (&stopped, told.try_recv())
        {
            let error = error.clone();
            self.stays_stopping(told, by_hand);
            return Err(error);
        }
        // Not by the worker: one that returns when it was given up must not say what is so.
        let forgotten = match stopped {
            Ok(()) => self.forget_activity(by_hand).await,
            failed => failed,
        };
        self.pool.update(&self.shared, |core, _| core.phase = Phase::Idle);
        forgotten
    }

    /// A stop hangs: it is under way until it returns, whatever its job was told.
    fn stays_stopping(&self, told: oneshot::Receiver<bool>, by_hand: bool) {
        let epoch = self.pool.update(&self.shared, |core, _| {
            core.phase = Phase::Stopping;
            core.epoch
        });
        let (shared, pool) = (Arc::clone(&self.shared), Arc::clone(&self.pool));
        tokio::spawn(async move {
            let done = told.await.unwrap_or_default();
            pool.send(&shared, Command::Stopped { epoch, done, by_hand });
        });
    }

    /// Forgets that the pool was active.
    pub(super) async fn forget_activity(&self, by_hand: bool) -> Result<()> {
        let uuid = self.pool.uuid;
        let snapshot = self.pool.snapshot();
        let (def, persistent) = (Arc::clone(&snapshot.def), snapshot.persistent);
        self.shared
            .store(move |store| {
                if !(by_hand && persistent) {
                    return store.remove_run_state(uuid);
                }
                store.save_run_state(&RunState {
                    def: def.as_ref().clone(),
                    activation: None,
                    stopped_by_hand: true,
                    transient: false,
                })
            })
            .await?;
        self.pool.update(&self.shared, |core, next| {
            core.active = None;
            core.follower = None;
            core.complete_first = false;
            core.epoch += 1;
            core.gone = false;
            core.dead = false;
            core.stopped_by_hand = by_hand;
            core.pending.clear();
            core.deferred.clear();
            clear_volumes(&self.shared, uuid, &mut next.volumes);
            next.usage = Usage::default();
            next.free_extents = Arc::default();
            next.skipped = 0;
            next.loaded = false;
            next.stale = false;
            next.last_error = None;
            if let Some(def) = next.next_def.take() {
                next.def = def;
            }
        });
        Ok(())
    }

    /// Reads usage and volumes, and merges them into what is published. When it fails the old
    /// list stays, marked stale.
    pub(super) async fn read(&self, job: Option<&Arc<Job>>) -> Result<Results> {
        let (active, epoch) = self.started()?;
        let backend = self.shared.backend(&active.def, JobOperation::PoolRefresh)?;
        let by_inotify = backend.info().watch == Watch::Directory;
        let (base, attach, first) = self.pool.update(&self.shared, |core, next| {
            core.touched = Some(core.leases.changed().cloned().collect());
            let followed = matches!(core.follower, Some(Follower::Changes(_)));
            (next.volumes.clone(), by_inotify && !followed, !next.loaded)
        });
        let shared = Arc::clone(&self.shared);
        let pool = Arc::clone(&self.pool);
        let patience = Patience::Within(self.shared.options.refresh_timeout);
        let read = self
            .run(job, patience, "the refresh")
            .run(move |ctx| {
                // Before anything of ours is in the making.
                if first && let Err(error) = backend.sweep(&active, ctx) {
                    tracing::warn!(POOLD_POOL = %pool.name(), POOLD_POOL_UUID = %pool.uuid, "cannot clean up: {error}");
                }
                // Watched from before it is read, so that nothing is missed in between.
                let watcher = shared.watcher.as_ref().filter(|_| attach);
                let watch = watcher.and_then(|watcher| live::attach(watcher, &active));
                let merged = Merged::new(&base, backend.refresh(&active, ctx)?);
                Ok((merged, watch, backend.condition(&active, ctx).err()))
            })
            .await;
        self.pool.update(&self.shared, |core, next| {
            let touched = core.touched.take().unwrap_or_default();
            if core.epoch != epoch {
                return Err(super::pool::not_active(next));
            }
            let (merged, watch, condition) = match read {
                Ok(read) => read,
                Err(error) if error.kind() == ErrorKind::Cancelled => return Err(error),
                Err(error) => {
                    next.stale = true;
                    core.gone = match error.kind() {
                        ErrorKind::Inaccessible => core.gone || !core.dead,
                        ErrorKind::TimedOut => core.gone,
                        _ => false,
                    };
                    note(core, next, Some(error.clone()));
                    live::follow_return(&self.shared, &self.pool, core);
                    return Err(error);
                }
            };
            next.usage = merged.usage;
            next.skipped = merged.skipped;
            next.free_extents = merged.free_extents.clone();
            let kept = touched.iter().chain(core.leases.changed());
            let (volumes, changes) = merged.publish(&next.volumes, kept);
            set_volumes(&self.shared, self.pool.uuid, &mut next.volumes, volumes, &changes);
            next.loaded = true;
            next.stale = false;
            next.last_refresh = now_micros();
            core.gone = false;
            drop(core.follower.take_if(|held| matches!(held, Follower::Return(_))));
            if let Some(watch) = watch {
                core.follower = Some(live::follow(&self.shared, &self.pool, watch));
            }
            live::follow_part(&self.shared, &self.pool, core, condition.is_some());
            note(core, next, condition);
            let count = u64::try_from(next.volumes.len()).unwrap_or(u64::MAX);
            Ok(Results::from([("volumes", ResultValue::Number(count))]))
        })
    }

    /// Sees whether the storage is what was started, and reads it again when it is back.
    pub(super) async fn check(&self) {
        let Ok((active, epoch)) = self.started() else { return };
        let Ok(backend) = self.shared.backend_of(active.def.pool_type) else { return };
        if self.pool.change(|core| std::mem::take(&mut core.complete_first) && !core.dead) {
            self.complete(&active, &backend).await;
        }
        let by_inotify = backend.info().watch == Watch::Directory;
        let patience = Patience::Within(self.shared.options.refresh_timeout);
        let checked = self
            .run(None, patience, "a check")
            .run(move |ctx| {
                Ok((backend.usage(&active, ctx)?, backend.condition(&active, ctx).err()))
            })
            .await;
        let back = self.pool.update(&self.shared, |core, next| {
            if core.epoch != epoch || core.dead {
                return false;
            }
            match checked {
                Ok((usage, condition)) => {
                    next.usage = usage;
                    live::follow_part(&self.shared, &self.pool, core, condition.is_some());
                    if condition.is_some() || !(core.gone || next.stale) {
                        next.last_error = condition;
                    }
                    core.gone || !next.loaded || (by_inotify && core.follower.is_none())
                }
                Err(error) => {
                    live::lost(&self.shared, &self.pool, core, next, error);
                    false
                }
            }
        });
        if back {
            drop(self.read(None).await);
        }
    }

    /// Tries to get what is missing of the storage, unless something else is to be done.
    async fn complete(&self, active: &Arc<ActivePool>, backend: &Arc<dyn Backend>) {
        let (active, backend) = (Arc::clone(active), Arc::clone(backend));
        let patience = Patience::Spare(self.shared.options.refresh_timeout);
        let completed = self
            .run(None, patience, "a completion")
            .run(move |ctx| backend.complete(&active, ctx))
            .await;
        match completed {
            // That it is still missing is published; why is for who looks for the reason.
            Err(error) if error.kind() != ErrorKind::Cancelled => {
                tracing::info!(POOLD_POOL = %self.pool.name(), POOLD_POOL_UUID = %self.pool.uuid, "{error}");
            }
            _ => {}
        }
    }
}
