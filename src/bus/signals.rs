//! The engine's changes as signals: InterfacesAdded, InterfacesRemoved, PropertiesChanged.
//!
//! One task compares what it last saw of each pool and job with how they are now. A call that
//! changed something waits at the barrier until the signals of that have gone out. Bursts of
//! volumes are announced in small steps, so that they hold up calls on their own pool only.

use super::call::object_path;
use super::clients::Clients;
use super::exposed::{Exposed, Interfaces, Selected};
use super::job::JobView;
use super::manager::ManagerView;
use super::pool::PoolView;
use super::router::Core;
use super::secret::SecretView;
use super::table::{OBJECT_MANAGER, PROPERTIES};
use super::throttle::{Changed, Throttle};
use super::volume::VolumeView;
use crate::engine::{ChangeSet, Changes, PoolSnapshot};
use crate::model::{Uuid, VolumeName};
use crate::path::ObjectRef;
use imbl::ordmap::DiffItem;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use zbus::{Connection, Message, ObjectPath};

/// Volumes in one burst that are announced whoever listens.
const BURST: usize = 256;

/// Volumes announced between two looks at the barrier.
const STEP: usize = 64;

/// Where signals go, and the way to the task that makes them.
pub(super) struct Signals {
    bus: Mutex<Option<Connection>>,
    barriers: mpsc::UnboundedSender<Barrier>,
}

/// Somebody who waits for the signals of what just changed.
pub(super) struct Barrier {
    pool: Option<Uuid>,
    passed: oneshot::Sender<()>,
}

impl Signals {
    /// The way in, and the queue for the task.
    pub(super) fn new() -> (Self, mpsc::UnboundedReceiver<Barrier>) {
        let (barriers, queue) = mpsc::unbounded_channel();
        (Self { bus: Mutex::new(None), barriers }, queue)
    }

    /// From now on signals go to this bus too.
    pub(super) fn connect(&self, connection: Option<Connection>) {
        *self.bus.lock().unwrap_or_else(PoisonError::into_inner) = connection;
    }

    /// Returns when the signals of everything that changed so far, of this pool and of jobs, have
    /// gone out. As many wait as calls are under way.
    pub(super) async fn barrier(&self, pool: Option<Uuid>) {
        let (passed, wait) = oneshot::channel();
        if self.barriers.send(Barrier { pool, passed }).is_ok() {
            let _ = wait.await;
        }
    }

    fn bus(&self) -> Option<Connection> {
        self.bus.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// What happened to a volume.
#[derive(Clone)]
pub(super) enum VolumeChange {
    Added(VolumeView),
    Changed(VolumeView, VolumeView),
    Removed(VolumeView),
}

/// What happened to the volumes of a pool between two snapshots.
pub(super) fn volume_changes(old: &PoolSnapshot, new: &PoolSnapshot) -> Vec<VolumeChange> {
    let mut changes = BTreeMap::new();
    for item in old.volumes.diff(&new.volumes) {
        let (name, change) = match item {
            DiffItem::Add(name, volume) => {
                (name, VolumeChange::Added(VolumeView::new(new, name, volume)))
            }
            DiffItem::Remove(name, volume) => {
                (name, VolumeChange::Removed(VolumeView::new(old, name, volume)))
            }
            DiffItem::Update { old: (name, before), new: (_, after) } => {
                let before = VolumeView::new(old, name, before);
                (name, VolumeChange::Changed(before, VolumeView::new(new, name, after)))
            }
        };
        changes.insert(name.clone(), change);
    }
    for item in old.volume_jobs.diff(&new.volume_jobs) {
        let (DiffItem::Add(name, _)
        | DiffItem::Remove(name, _)
        | DiffItem::Update { new: (name, _), .. }) = item;
        if let (Some(before), Some(after)) = (old.volumes.get(name), new.volumes.get(name)) {
            changes.entry(name.clone()).or_insert_with(|| {
                let before = VolumeView::new(old, name, before);
                VolumeChange::Changed(before, VolumeView::new(new, name, after))
            });
        }
    }
    changes.into_values().collect()
}

/// The task.
pub(super) struct Announcer {
    core: Weak<Core>,
    changes: Changes,
    barriers: mpsc::UnboundedReceiver<Barrier>,
    manager: ManagerView,
    pools: HashMap<Uuid, PoolView>,
    jobs: HashMap<u64, JobView>,
    secrets: HashMap<Uuid, SecretView>,
    pool_throttle: Throttle<Uuid, PoolView>,
    job_throttle: Throttle<u64, JobView>,
    volume_throttle: Throttle<(Uuid, VolumeName), VolumeView>,
    backlog: BTreeMap<Uuid, Backlog>,
}

/// Volumes of a pool that are still to be announced, and who waits for that.
#[derive(Default)]
struct Backlog {
    changes: VecDeque<VolumeChange>,
    waiting: Vec<oneshot::Sender<()>>,
}

impl Announcer {
    /// A task that has seen everything that there is now.
    pub(super) fn new(
        core: &Arc<Core>,
        changes: Changes,
        barriers: mpsc::UnboundedReceiver<Barrier>,
    ) -> Self {
        let pools = core.engine.pools();
        let pools = pools.iter().map(|pool| PoolView::new(core, pool.snapshot()));
        let jobs = core.engine.jobs();
        Self {
            core: Arc::downgrade(core),
            changes,
            barriers,
            manager: ManagerView::new(&core.engine),
            pools: pools.map(|view| (view.uuid(), view)).collect(),
            secrets: core.engine.secrets().into_iter().map(|s| (s.uuid, SecretView(s))).collect(),
            jobs: jobs.iter().map(|job| (job.id(), JobView(job.snapshot()))).collect(),
            pool_throttle: Throttle::new(),
            job_throttle: Throttle::new(),
            volume_throttle: Throttle::new(),
            backlog: BTreeMap::new(),
        }
    }

    /// Announces until the face is gone.
    pub(super) async fn run(mut self) {
        loop {
            let due =
                [self.pool_throttle.due(), self.job_throttle.due(), self.volume_throttle.due()];
            let due = due.into_iter().flatten().min();
            let timer = async {
                match due {
                    Some(due) => tokio::time::sleep_until(due).await,
                    None => std::future::pending().await,
                }
            };
            let (mut barrier, mut changes, mut stepping) = (None, ChangeSet::default(), false);
            tokio::select! {
                biased;
                asked = self.barriers.recv() => match asked {
                    Some(asked) => barrier = Some(asked),
                    None => return,
                },
                () = std::future::ready(()), if !self.backlog.is_empty() => stepping = true,
                found = self.changes.next() => changes = found,
                () = timer => {}
            }
            let Some(core) = self.core.upgrade() else { return };
            let out = Out { bus: core.signals.bus(), clients: &core.clients };
            if barrier.is_some() || stepping {
                changes = self.changes.take();
            }
            self.take(&core, &out, changes).await;
            self.flush(&out).await;
            if let Some(barrier) = barrier {
                match barrier.pool.and_then(|pool| self.backlog.get_mut(&pool)) {
                    Some(backlog) => backlog.waiting.push(barrier.passed),
                    None => drop(barrier.passed.send(())),
                }
            }
            if !self.backlog.is_empty() {
                out.clients.peers_have_room(2 * STEP).await;
                self.step(&out).await;
            }
        }
    }

    async fn take(&mut self, core: &Core, out: &Out<'_>, changes: ChangeSet) {
        if changes.manager
            && let Ok(now) = ManagerView::read(core).await
        {
            let mut changed = super::exposed::changed(&self.manager, &now, false);
            changed.extend(super::exposed::changed(&self.manager, &now, true));
            out.changed(&now, &changed).await;
            self.manager = now;
        }
        for uuid in changes.pools {
            self.pool(core, out, uuid).await;
        }
        for number in changes.jobs {
            let now = core.engine.job(number).map(|job| JobView(job.snapshot()));
            self.job(out, number, now).await;
        }
        for uuid in changes.secrets {
            self.secret(out, uuid, core.engine.secret(uuid).map(SecretView)).await;
        }
    }

    async fn secret(&mut self, out: &Out<'_>, uuid: Uuid, now: Option<SecretView>) {
        match (self.secrets.remove(&uuid), &now) {
            (None, None) => {}
            (None, Some(now)) => out.added(&ObjectRef::Secrets, now).await,
            (Some(before), Some(now)) => {
                out.changed(now, &super::exposed::changed(&before, now, false)).await;
            }
            (Some(before), None) => {
                out.removed::<SecretView>(&ObjectRef::Secrets, before.path()).await;
            }
        }
        self.secrets.extend(now.map(|now| (uuid, now)));
    }

    async fn pool(&mut self, core: &Core, out: &Out<'_>, uuid: Uuid) {
        let now = core.engine.pool(uuid).map(|pool| PoolView::new(core, pool.snapshot()));
        let empty = |view: &PoolView| PoolSnapshot {
            volumes: imbl::OrdMap::new(),
            volume_jobs: imbl::OrdMap::new(),
            ..(*view.snapshot).clone()
        };
        let before = self.pools.get(&uuid).cloned();
        let volumes = match (&before, &now) {
            (None, None) => return,
            (Some(before), Some(now)) => {
                let old = before;
                let changed = self.pool_throttle.update(&uuid, old, now, Instant::now());
                out.changed(now, &changed).await;
                volume_changes(&before.snapshot, &now.snapshot)
            }
            (None, Some(now)) => {
                out.added(&ObjectRef::Pools, now).await;
                volume_changes(&empty(now), &now.snapshot)
            }
            (Some(before), None) => volume_changes(&before.snapshot, &empty(before)),
        };
        self.volumes(out, uuid, volumes).await;
        match now {
            Some(now) => drop(self.pools.insert(uuid, now)),
            None => {
                self.pools.remove(&uuid);
                self.pool_throttle.remove(&uuid);
                if let Some(before) = before {
                    out.removed::<PoolView>(&ObjectRef::Pools, before.path()).await;
                }
            }
        }
    }

    /// Announces the volumes of a pool: few at once, many step by step if anybody follows them,
    /// and not at all if nobody does: who asks for them now gets all of them.
    async fn volumes(&mut self, out: &Out<'_>, pool: Uuid, changes: Vec<VolumeChange>) {
        let burst = changes.len() > BURST;
        if burst && !out.clients.anybody_follows(pool) {
            return;
        }
        if burst || self.backlog.contains_key(&pool) {
            self.backlog.entry(pool).or_default().changes.extend(changes);
            return;
        }
        for change in changes {
            self.volume(out, pool, change).await;
        }
    }

    async fn volume(&mut self, out: &Out<'_>, pool: Uuid, change: VolumeChange) {
        let parent = ObjectRef::Volumes(pool);
        let key = |view: &VolumeView| (pool, view.volume.name.clone());
        match change {
            VolumeChange::Added(view) => out.added(&parent, &view).await,
            VolumeChange::Changed(old, new) => {
                let now = Instant::now();
                let changed = self.volume_throttle.update(&key(&new), &old, &new, now);
                out.changed(&new, &changed).await;
            }
            VolumeChange::Removed(view) => {
                self.volume_throttle.remove(&key(&view));
                out.removed::<VolumeView>(&parent, view.path()).await;
            }
        }
    }

    async fn job(&mut self, out: &Out<'_>, number: u64, now: Option<JobView>) {
        match (self.jobs.get(&number), now) {
            (None, None) => {}
            (None, Some(now)) => {
                out.added(&ObjectRef::Jobs, &now).await;
                self.jobs.insert(number, now);
            }
            (Some(before), Some(now)) => {
                let changed = self.job_throttle.update(&number, before, &now, Instant::now());
                out.changed(&now, &changed).await;
                self.jobs.insert(number, now);
            }
            (Some(before), None) => {
                out.removed::<JobView>(&ObjectRef::Jobs, before.path()).await;
                self.jobs.remove(&number);
                self.job_throttle.remove(&number);
            }
        }
    }

    /// Announces what was held back long enough.
    async fn flush(&mut self, out: &Out<'_>) {
        let now = Instant::now();
        let (pools, jobs) = (&self.pools, &self.jobs);
        for (view, changed) in self.pool_throttle.flush(now, |uuid| pools.get(uuid).cloned()) {
            out.changed(&view, &changed).await;
        }
        for (view, changed) in self.job_throttle.flush(now, |number| jobs.get(number).cloned()) {
            out.changed(&view, &changed).await;
        }
        let current = |(pool, name): &(Uuid, VolumeName)| {
            let snapshot = &pools.get(pool)?.snapshot;
            Some(VolumeView::new(snapshot, name, snapshot.volumes.get(name)?))
        };
        for (view, changed) in self.volume_throttle.flush(now, current) {
            out.changed(&view, &changed).await;
        }
    }

    /// Announces the next few volumes of each pool that has many.
    async fn step(&mut self, out: &Out<'_>) {
        let pools: Vec<Uuid> = self.backlog.keys().copied().collect();
        for pool in pools {
            let Some(backlog) = self.backlog.get_mut(&pool) else { continue };
            let count = backlog.changes.len().min(STEP);
            let next: Vec<_> = backlog.changes.drain(..count).collect();
            let done = backlog.changes.is_empty().then(|| self.backlog.remove(&pool)).flatten();
            for change in next {
                self.volume(out, pool, change).await;
            }
            for passed in done.into_iter().flat_map(|done| done.waiting) {
                let _ = passed.send(());
            }
        }
    }
}

/// Where signals go.
struct Out<'a> {
    bus: Option<Connection>,
    clients: &'a Clients,
}

impl Out<'_> {
    async fn added<T: Exposed + Sync>(&self, manager: &ObjectRef, view: &T) {
        let body = object_path(view.path()).map(|path| (path, Interfaces(view)));
        if let Ok(body) = body {
            let path = manager.path();
            let signal = Message::signal(path.as_str(), OBJECT_MANAGER, "InterfacesAdded");
            self.send(signal.build(&body)).await;
        }
    }

    async fn removed<T: Exposed>(&self, manager: &ObjectRef, path: String) {
        if let Ok(path) = ObjectPath::try_from(path) {
            let manager = manager.path();
            let signal = Message::signal(manager.as_str(), OBJECT_MANAGER, "InterfacesRemoved");
            self.send(signal.build(&(path, [T::INTERFACE].as_slice()))).await;
        }
    }

    /// Announces the properties that changed, but for those that their document says are not.
    async fn changed<T: Exposed + Sync>(&self, view: &T, changed: &Changed<T>) {
        let interface = super::table::Table::get().interface(T::INTERFACE);
        let emits = |name: &str| {
            interface.and_then(|found| found.property(name)).is_some_and(|found| found.emits)
        };
        let changed: Vec<_> =
            changed.iter().copied().filter(|property| emits(property.name)).collect();
        if changed.is_empty() {
            return;
        }
        let path = view.path();
        let signal = Message::signal(path.as_str(), PROPERTIES, "PropertiesChanged");
        let none: &[&str] = &[];
        self.send(signal.build(&(T::INTERFACE, Selected(view, &changed), none))).await;
    }

    async fn send(&self, message: zbus::Result<Message>) {
        let message = match message {
            Ok(message) => message,
            Err(error) => return tracing::error!("a signal could not be written: {error}"),
        };
        self.clients.signal_peers(&message);
        if let Some(bus) = &self.bus
            && let Err(error) = bus.send(&message).await
        {
            tracing::debug!("a signal could not be sent: {error}");
        }
    }
}
