//! A pool's own memory: the snapshot that readers see, and what only the engine needs to know.
//!
//! Everything goes through [`Pool::update`], which holds the lock for as long as it takes to
//! change numbers and never across I/O.

use super::actor::Command;
use super::jobs::Job;
use super::leases::Leases;
use super::live::Follower;
use super::merge::{Change, Volumes};
use super::records::JobJournal;
use super::shared::Shared;
use super::{PoolSnapshot, PoolState};
use crate::backend::ActivePool;
use crate::model::{Error, ErrorKind, PoolDef, PoolName, Result, Usage, Uuid, Volume, VolumeName};
use imbl::OrdMap;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use tokio::sync::{Notify, Semaphore, mpsc, watch};
use tokio_util::sync::CancellationToken;

/// Jobs on volumes of one pool that run at once; the others are queued.
const VOLUME_LANE: usize = 4;
/// Its other operations at once: the actor's, the reader's and the probe's, all with a deadline.
const POOL_LANE: usize = 3;

/// What the actor is about to do to the pool as a whole.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Phase {
    #[default]
    Idle,
    Starting,
    Stopping,
}

/// What a call that hung did when it returned, although its job had failed.
pub(super) enum Late {
    /// Nothing that needs undoing.
    Nothing,
    /// It started the pool.
    Started(ActivePool, Arc<JobJournal>),
    /// It created a volume.
    Created(Arc<ActivePool>, Box<Volume>),
}

/// What only the engine knows of a pool.
#[derive(Default)]
pub(super) struct Core {
    /// What its start found, while it is active.
    pub(super) active: Option<Arc<ActivePool>>,
    /// Who follows its storage.
    pub(super) follower: Option<Follower>,
    /// Counts starts and stops: what began in one activity must not be published in another.
    pub(super) epoch: u64,
    pub(super) phase: Phase,
    /// Why its storage is not what was started, while it is not.
    pub(super) gone: bool,
    /// Whether calls hang, or hung without a recovery since.
    pub(super) dead: bool,
    /// Calls that hang.
    pub(super) stuck: usize,
    /// Volumes under a job.
    pub(super) leases: Leases,
    /// Volumes that changed while a refresh runs, which knows less of them than we do.
    pub(super) touched: Option<BTreeSet<VolumeName>>,
    /// The same for the reader.
    pub(super) touched_in_reading: Option<BTreeSet<VolumeName>>,
    /// Volumes that changed behind our back while under a job.
    pub(super) deferred: BTreeSet<VolumeName>,
    /// Volumes to be read again by the reader.
    pub(super) pending: BTreeSet<VolumeName>,
    /// What calls that hung did after all, to be undone.
    pub(super) late: Vec<Late>,
    /// Jobs of the pool as a whole: queued ones and the one that runs.
    pub(super) queue: Vec<Arc<Job>>,
    /// Callers that wait for the actor without a job.
    pub(super) asking: usize,
    /// Whether it was stopped by hand since boot.
    pub(super) stopped_by_hand: bool,
    /// The autostart that tries again and again.
    pub(super) retry: Option<CancellationToken>,
    /// Whether the actor is to see whether the storage is still there.
    pub(super) check_queued: bool,
    /// Whether it is to try to get what is missing of the storage before that.
    pub(super) complete_first: bool,
    /// Whether the actor is to read it again.
    pub(super) reread_queued: bool,
    /// Whether it is no more.
    pub(super) removed: bool,
}

impl Core {
    /// Says that a volume changes, to whoever reads volumes meanwhile.
    pub(super) fn touch(&mut self, name: &VolumeName) {
        for touched in [&mut self.touched, &mut self.touched_in_reading].into_iter().flatten() {
            touched.insert(name.clone());
        }
    }
}

/// A pool.
pub(super) struct Pool {
    pub(super) uuid: Uuid,
    published: RwLock<Arc<PoolSnapshot>>,
    core: Mutex<Core>,
    /// Changes with every snapshot.
    pub(super) version: watch::Sender<u64>,
    commands: mpsc::UnboundedSender<Command>,
    /// Bounds its jobs on volumes.
    pub(super) volume_lane: Arc<Semaphore>,
    /// Bounds its other operations.
    pub(super) pool_lane: Arc<Semaphore>,
    /// Whether it is dead, for those that wait.
    pub(super) died: watch::Sender<bool>,
    /// Wakes the reader.
    pub(super) stirred: Notify,
}

impl Pool {
    /// A pool with its actor's inbox.
    pub(super) fn new(
        snapshot: PoolSnapshot,
        core: Core,
    ) -> (Arc<Self>, mpsc::UnboundedReceiver<Command>) {
        // Not bounded by itself: every command is a job or a call, whose number is bounded.
        let (commands, inbox) = mpsc::unbounded_channel();
        let pool = Arc::new(Self {
            uuid: snapshot.def.uuid,
            published: RwLock::new(Arc::new(snapshot)),
            core: Mutex::new(core),
            version: watch::Sender::new(0),
            commands,
            volume_lane: Arc::new(Semaphore::new(VOLUME_LANE)),
            pool_lane: Arc::new(Semaphore::new(POOL_LANE)),
            died: watch::Sender::new(false),
            stirred: Notify::new(),
        });
        (pool, inbox)
    }

    /// How it is now.
    pub(super) fn snapshot(&self) -> Arc<PoolSnapshot> {
        Arc::clone(&self.published.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Its name.
    pub(super) fn name(&self) -> PoolName {
        self.snapshot().def.name.clone()
    }

    /// "pool x", for messages.
    pub(super) fn describe(&self) -> String {
        format!("pool {}", self.name())
    }

    /// Looks at what only the engine knows.
    pub(super) fn look<R>(&self, look: impl FnOnce(&Core) -> R) -> R {
        look(&self.core.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Changes what only the engine knows.
    pub(super) fn change<R>(&self, change: impl FnOnce(&mut Core) -> R) -> R {
        change(&mut self.core.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Changes and publishes: one change is one snapshot.
    pub(super) fn update<R>(
        &self,
        shared: &Shared,
        change: impl FnOnce(&mut Core, &mut PoolSnapshot) -> R,
    ) -> R {
        let mut core = self.core.lock().unwrap_or_else(PoisonError::into_inner);
        let mut next = self.snapshot().as_ref().clone();
        let result = change(&mut core, &mut next);
        next.state = state_of(&core);
        *self.published.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(next);
        shared.changes.pool(self.uuid);
        self.died.send_if_modified(|died| std::mem::replace(died, core.dead) != core.dead);
        drop(core);
        self.version.send_modify(|version| *version += 1);
        result
    }

    /// The active pool and its epoch, if it can be worked on now.
    pub(super) fn active(&self) -> Result<(Arc<ActivePool>, u64)> {
        let (active, epoch) = self.look(|core| (core.active.clone(), core.epoch));
        let snapshot = self.snapshot();
        match (active, snapshot.state) {
            (Some(active), PoolState::Active) => Ok((active, epoch)),
            (_, PoolState::Inaccessible) => Err(self.inaccessible()),
            _ => Err(not_active(&snapshot)),
        }
    }

    /// The error of every call on a pool whose storage does not answer.
    pub(super) fn inaccessible(&self) -> Error {
        let snapshot = self.snapshot();
        let name = &snapshot.def.name;
        let why = snapshot
            .last_error
            .as_ref()
            .map_or_else(|| "its storage does not answer".to_owned(), ToString::to_string);
        // Which pool is not said twice.
        let why = why.strip_prefix(&format!("pool {name}: ")).unwrap_or(&why);
        Error::new(ErrorKind::Inaccessible, format!("pool {name} is inaccessible: {why}"))
    }

    /// Gives up a lease that changes a volume, publishing what became of the volume: `Some(None)` is that it is gone,
    /// `None` that nobody knows, so that it is read again.
    pub(super) fn release(
        &self,
        shared: &Shared,
        name: &VolumeName,
        job: u64,
        epoch: u64,
        found: Option<Option<Volume>>,
        usage: Option<Usage>,
    ) {
        self.update(shared, |core, next| {
            core.leases.give_back(name, job);
            core.touch(name);
            next.volume_jobs.remove(name);
            let changed_again = core.deferred.remove(name);
            if core.active.is_none() || core.epoch != epoch {
                return;
            }
            if let Some(usage) = usage {
                next.usage = usage;
            }
            if changed_again || found.is_none() {
                core.pending.insert(name.clone());
            }
            if let Some(found) = found {
                set_volume(shared, self.uuid, core, &mut next.volumes, name, found);
            }
        });
        self.stirred.notify_one();
    }

    /// Sends a command; a pool that is no more refuses it.
    pub(super) fn send(&self, shared: &Shared, command: Command) {
        if let Err(refused) = self.commands.send(command) {
            refused.0.refuse(shared, self);
        }
    }

    /// Has the actor see whether the storage is what was started; many askings are one.
    pub(super) fn ask_check(&self, shared: &Shared) {
        if self.change(|core| !std::mem::replace(&mut core.check_queued, true)) {
            self.send(shared, Command::Check);
        }
    }

    /// Has it read again, once however often it is asked meanwhile.
    pub(super) fn ask_reread(&self, shared: &Shared) {
        if self.change(|core| !std::mem::replace(&mut core.reread_queued, true)) {
            self.send(shared, Command::Reread);
        }
    }

    /// The error of every call on a pool that is no more.
    pub(super) fn no_more(&self) -> Error {
        Error::new(ErrorKind::NotFound, format!("{} is no more", self.describe()))
    }
}

/// The error of a call that needs an active pool.
pub(super) fn not_active(snapshot: &PoolSnapshot) -> Error {
    Error::new(
        ErrorKind::NotActive,
        format!(
            "pool {} is {}; start it, or wait until it is active",
            snapshot.def.name,
            snapshot.state.as_str()
        ),
    )
}

/// Publishes one volume, or that it is gone.
pub(super) fn set_volume(
    shared: &Shared,
    pool: Uuid,
    core: &mut Core,
    volumes: &mut Volumes,
    name: &VolumeName,
    found: Option<Volume>,
) {
    core.touch(name);
    let before = volumes.get(name);
    if before.map(AsRef::as_ref) == found.as_ref() {
        return;
    }
    shared.backings.replace(pool, name, before.map(AsRef::as_ref), found.as_ref());
    match found {
        Some(volume) => drop(volumes.insert(name.clone(), Arc::new(volume))),
        None => drop(volumes.remove(name)),
    }
}

/// Publishes another set of volumes, which differs by `changes`.
pub(super) fn set_volumes(
    shared: &Shared,
    pool: Uuid,
    volumes: &mut Volumes,
    next: Volumes,
    changes: &BTreeMap<VolumeName, Change>,
) {
    for (name, (before, after)) in changes {
        shared.backings.replace(pool, name, before.as_deref(), after.as_deref());
    }
    *volumes = next;
}

/// Publishes that there are no volumes.
pub(super) fn clear_volumes(shared: &Shared, pool: Uuid, volumes: &mut Volumes) {
    for (name, before) in std::mem::take(volumes).iter() {
        shared.backings.replace(pool, name, Some(before), None);
    }
}

/// Publishes what is wrong with a pool, or that nothing is. That its calls hang was said when they were given up, and is
/// why all else fails.
pub(super) fn note(core: &Core, next: &mut PoolSnapshot, error: Option<Error>) {
    if !core.dead {
        next.last_error = error;
    }
}

/// The state that readers see.
fn state_of(core: &Core) -> PoolState {
    match (core.phase, core.dead || (core.gone && core.active.is_some())) {
        (Phase::Starting, _) => PoolState::Starting,
        (Phase::Stopping, _) => PoolState::Stopping,
        (Phase::Idle, true) => PoolState::Inaccessible,
        (Phase::Idle, false) if core.active.is_some() => PoolState::Active,
        (Phase::Idle, false) => PoolState::Inactive,
    }
}

/// A snapshot of a pool that was just defined.
pub(super) fn blank(def: Arc<PoolDef>, persistent: bool, autostart: bool) -> PoolSnapshot {
    PoolSnapshot {
        def,
        next_def: None,
        persistent,
        autostart,
        state: PoolState::Inactive,
        usage: Usage::default(),
        volumes: Volumes::new(),
        volume_jobs: OrdMap::new(),
        skipped: 0,
        free_extents: Arc::default(),
        loaded: false,
        stale: false,
        last_refresh: 0,
        last_error: None,
        waiting_for: String::new(),
        next_try: 0,
    }
}
