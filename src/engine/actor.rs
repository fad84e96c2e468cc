//! One task per pool, which does one after another what concerns the pool as a whole.
//!
//! Jobs on volumes do not pass here: they run beside it, under leases.

use super::ResultValue;
use super::define::Definition;
use super::jobs::Job;
use super::pool::{Core, Late, Phase, Pool, note};
use super::run::{Patience, Run};
use super::shared::Shared;
use crate::backend::{ActivePool, BuildMode, DeleteOptions, StopOptions};
use crate::model::{Error, ErrorKind, Result};
use crate::store::JournalEntry;
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

/// What a job's end says of its work.
pub(super) type Results = BTreeMap<&'static str, ResultValue>;

/// What a pool is asked to do.
pub(super) enum Command {
    /// A job.
    Job(Arc<Job>, Work),
    /// Take over a definition.
    Define(Box<Definition>, oneshot::Sender<Result<()>>),
    /// Go, if it is neither defined nor active.
    Forget(oneshot::Sender<Result<()>>),
    /// Forget the definition.
    Undefine(oneshot::Sender<Result<()>>),
    /// Start it at boot or not.
    SetAutostart(bool, oneshot::Sender<Result<()>>),
    /// The daemon has started: undo what died with the one before, and load the volumes.
    Resume(Vec<(u64, JournalEntry)>, oneshot::Sender<Result<()>>),
    /// Read all volumes, for nobody in particular.
    Reload(oneshot::Sender<Result<()>>),
    /// The directory that was followed is not where it was.
    Lost,
    /// See whether the storage is still what was started.
    Check,
    /// Read all volumes, because something happened to devices.
    Reread,
    /// All calls that hung have returned.
    Recover,
    /// A stop that hung has returned; `epoch` is that of what it was to stop.
    Stopped { epoch: u64, done: bool, by_hand: bool },
}

/// What a job on the pool as a whole does.
#[derive(Debug, Clone, Copy)]
pub(super) enum Work {
    Start(Option<BuildMode>),
    /// `by`: when it must have answered. `idle`: an inactive pool is success, because a start or
    /// its retry was ended for this stop.
    Stop {
        options: StopOptions,
        by: Instant,
        idle: bool,
    },
    Build(BuildMode),
    Delete {
        with_volumes: bool,
    },
    Refresh,
}

impl Command {
    /// Answers a command that comes too late.
    pub(super) fn refuse(self, shared: &Shared, pool: &Pool) {
        match self {
            Self::Job(job, _) => shared.jobs.end(&job, Err(pool.no_more())),
            Self::Define(_, reply)
            | Self::Forget(reply)
            | Self::Undefine(reply)
            | Self::SetAutostart(_, reply)
            | Self::Resume(_, reply)
            | Self::Reload(reply) => drop(reply.send(Err(pool.no_more()))),
            Self::Lost | Self::Check | Self::Reread | Self::Recover | Self::Stopped { .. } => {}
        }
    }
}

/// The task.
pub(super) struct Actor {
    pub(super) shared: Arc<Shared>,
    pub(super) pool: Arc<Pool>,
    inbox: mpsc::UnboundedReceiver<Command>,
}

impl Actor {
    /// Starts the task of a pool.
    pub(super) fn spawn(
        shared: &Arc<Shared>,
        pool: &Arc<Pool>,
        inbox: mpsc::UnboundedReceiver<Command>,
    ) {
        let actor = Self { shared: Arc::clone(shared), pool: Arc::clone(pool), inbox };
        tokio::spawn(actor.work());
        super::reader::spawn(shared, pool);
    }

    async fn work(mut self) {
        while !self.pool.look(|core| core.removed) {
            let Some(command) = self.inbox.recv().await else { return };
            self.obey(command).await;
        }
        self.inbox.close();
        while let Ok(command) = self.inbox.try_recv() {
            command.refuse(&self.shared, &self.pool);
        }
    }

    async fn obey(&mut self, command: Command) {
        // A caller that does not wait for its answer is no error.
        match command {
            Command::Job(job, work) => self.do_job(&job, work).await,
            Command::Define(definition, reply) => {
                let _ = reply.send(self.define(*definition).await);
            }
            Command::Forget(reply) => {
                self.vanish_if_over().await;
                let _ = reply.send(Ok(()));
            }
            Command::Undefine(reply) => {
                let _ = reply.send(self.undefine().await);
            }
            Command::SetAutostart(autostart, reply) => {
                let _ = reply.send(self.set_autostart(autostart).await);
            }
            Command::Resume(journals, reply) => {
                let _ = reply.send(self.resume(journals).await);
            }
            Command::Reload(reply) => {
                let _ = reply.send(self.read(None).await.map(drop));
            }
            Command::Lost => {
                self.pool.change(|core| core.follower = None);
                self.check().await;
            }
            Command::Check => {
                self.pool.change(|core| core.check_queued = false);
                self.check().await;
            }
            Command::Reread => {
                self.pool.change(|core| core.reread_queued = false);
                if self.pool.look(|core| core.active.is_some()) {
                    drop(self.read(None).await);
                }
            }
            Command::Recover => self.recover().await,
            Command::Stopped { epoch, done, by_hand } => {
                self.stopped_late(epoch, done, by_hand).await;
            }
        }
    }

    /// A run of this pool.
    pub(super) fn run<'a>(
        &'a self,
        job: Option<&'a Arc<Job>>,
        patience: Patience,
        what: &'static str,
    ) -> Run<'a> {
        Run { shared: &self.shared, pool: &self.pool, job, patience, what }
    }

    async fn do_job(&mut self, job: &Arc<Job>, work: Work) {
        let result = if job.cancel.is_cancelled() {
            Err(Error::new(ErrorKind::Cancelled, "cancelled before it began"))
        } else {
            self.shared.jobs.begin(job);
            match work {
                Work::Start(build) => self.start(job, build).await,
                Work::Stop { options, by, idle } => self.stop(job, options, by, idle).await,
                Work::Build(mode) => self.build(job, mode).await,
                Work::Delete { with_volumes } => self.delete(job, with_volumes).await,
                Work::Refresh => self.read(Some(job)).await,
            }
        };
        self.pool.update(&self.shared, |core, _| {
            core.queue.retain(|queued| queued.id != job.id);
        });
        if !matches!(work, Work::Refresh) {
            self.vanish_if_over().await;
        }
        let result = result.map(|mut results| {
            results.extend(super::volumes::results(job, None));
            results
        });
        self.shared.jobs.end(job, result);
    }

    async fn build(&self, job: &Arc<Job>, mode: BuildMode) -> Result<Results> {
        self.inactive("building")?;
        let done = self.build_storage(job, mode).await;
        self.note(&done);
        done.map(|()| Results::new())
    }

    /// Makes the storage. Takes longer than a start may: a file system is made.
    pub(super) async fn build_storage(&self, job: &Arc<Job>, mode: BuildMode) -> Result<()> {
        let def = Arc::clone(&self.pool.snapshot().def);
        let backend = self.shared.backend(&def, super::JobOperation::PoolBuild)?;
        backend.check_definition(&def)?;
        let patience = Patience::Within(self.shared.options.start_timeout * 4);
        self.run(Some(job), patience, "the build")
            .run(move |ctx| backend.build(&def, mode, ctx))
            .await
    }

    async fn delete(&self, job: &Arc<Job>, with_volumes: bool) -> Result<Results> {
        self.inactive("deleting its storage")?;
        let def = Arc::clone(&self.pool.snapshot().def);
        let backend = self.shared.backend(&def, super::JobOperation::PoolDelete)?;
        backend.check_definition(&def)?;
        let patience = Patience::Within(self.shared.options.start_timeout * 4);
        let store = Arc::clone(&self.shared.store);
        let done = self
            .run(Some(job), patience, "the deletion")
            .run(move |ctx| {
                backend.delete(&def, with_volumes, ctx)?;
                store.forget_pool(def.uuid)
            })
            .await;
        self.note(&done);
        done.map(|()| Results::new())
    }

    fn inactive(&self, what: &str) -> Result<()> {
        match self.pool.look(|core| core.active.is_some()) {
            false => Ok(()),
            true => Err(Error::new(
                ErrorKind::Active,
                format!("{} is active; stop it before {what}", self.pool.describe()),
            )),
        }
    }

    /// Publishes what an operation on the whole pool came to.
    pub(super) fn note<T>(&self, result: &Result<T>) {
        let error = result.as_ref().err().cloned();
        self.pool.update(&self.shared, |core, next| note(core, next, error));
    }

    /// All calls that hung have returned: undoes what they did, and reads the pool again.
    async fn recover(&mut self) {
        let late = self.pool.update(&self.shared, |core, _| {
            if core.stuck == 0 {
                core.dead = false;
                // Not shown as active before it has been read.
                core.gone = core.active.is_some();
                // What changes while it is read must not be lost: it is followed anew.
                core.follower = None;
            }
            std::mem::take(&mut core.late)
        });
        for late in late {
            if let Err(error) = self.undo_late(late).await {
                tracing::error!(POOLD_POOL = %self.pool.name(), POOLD_POOL_UUID = %self.pool.uuid, "{}: {error}", self.pool.describe());
            }
        }
        // While it is being stopped, what came of that is still to be heard.
        if self.pool.look(|core| core.active.is_some() && core.phase == Phase::Idle) {
            drop(self.read(None).await);
        }
        self.vanish_if_over().await;
    }

    /// A stop that was given up has ended after all.
    async fn stopped_late(&mut self, epoch: u64, done: bool, by_hand: bool) {
        let waits = |core: &Core| core.epoch == epoch && core.phase == Phase::Stopping;
        if !self.pool.look(waits) {
            // Another stop was told that it is stopped.
            return;
        }
        let forgotten = match done {
            true => self.forget_activity(by_hand).await,
            false => Ok(()),
        };
        self.pool.update(&self.shared, |core, _| core.phase = Phase::Idle);
        if let Err(error) = forgotten {
            tracing::error!(POOLD_POOL = %self.pool.name(), POOLD_POOL_UUID = %self.pool.uuid, "{}: {error}", self.pool.describe());
        }
        self.recover().await;
    }

    pub(super) async fn undo_late(&self, late: Late) -> Result<()> {
        let options = &self.shared.options;
        match late {
            Late::Nothing => Ok(()),
            Late::Started(active, journal) => {
                let backend = self.shared.backend_of(active.def.pool_type)?;
                let stopped = self
                    .run(None, Patience::Within(options.stop_timeout), "the stop")
                    .run(move |ctx| backend.stop(&active, StopOptions::default(), ctx))
                    .await;
                // What a stop cannot do, its undo steps may; on a thread, as they block.
                let undone = stopped.is_ok();
                self.shared
                    .store(move |_| match undone {
                        true => journal.commit(),
                        false => {
                            journal.roll_back();
                            Ok(())
                        }
                    })
                    .await?;
                stopped
            }
            Late::Created(active, volume) => {
                let backend = self.shared.backend_of(active.def.pool_type)?;
                self.run(None, Patience::Within(options.refresh_timeout), "the clean-up")
                    .run(move |ctx| {
                        let options = DeleteOptions { force: true, ..DeleteOptions::default() };
                        backend.delete_volume(&active, &volume, options, ctx)
                    })
                    .await
            }
        }
    }

    /// What was started, whether or not it is what it was.
    pub(super) fn started(&self) -> Result<(Arc<ActivePool>, u64)> {
        let (active, epoch) = self.pool.look(|core| (core.active.clone(), core.epoch));
        let active = active.ok_or_else(|| super::pool::not_active(&self.pool.snapshot()))?;
        Ok((active, epoch))
    }

    /// Removes a pool that is neither defined nor active.
    pub(super) async fn vanish_if_over(&mut self) {
        let over = self.pool.look(|core| {
            core.phase == Phase::Idle && core.active.is_none() && core.stuck == 0 && !core.removed
        });
        if over && !self.pool.snapshot().persistent {
            self.vanish().await;
        }
    }

    /// Removes the pool.
    pub(super) async fn vanish(&mut self) {
        let uuid = self.pool.uuid;
        if let Err(error) = self.shared.store(move |store| store.remove_run_state(uuid)).await {
            tracing::warn!(POOLD_POOL_UUID = %uuid, "{error}");
        }
        self.shared.registry_mut().remove(uuid);
        self.pool.update(&self.shared, |core, next| {
            core.removed = true;
            core.follower = None;
            next.persistent = false;
            if let Some(retry) = core.retry.take() {
                retry.cancel();
            }
        });
        self.pool.stirred.notify_one();
    }
}
