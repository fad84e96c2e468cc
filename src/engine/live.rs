//! Following the storage: what appears, changes and goes behind our back.
//!
//! A pool that is read gets a follower: of its directory's changes while its storage is there, of
//! its return while it is not, or while part of it is missing. The reader and the actor do the work;
//! followers only tell them.

use super::actor::Command;
use super::devices;
use super::pool::{Core, Pool};
use super::reader;
use super::run::{Patience, Run};
use super::shared::{Devices, Shared};
use super::{PoolSnapshot, PoolState};
use crate::backend::{ActivePool, Backend, Watch};
use crate::host::{
    Directory, DirectoryChanges, DirectoryWatch, DirectoryWatcher, HIDDEN_PREFIX, MountWatch,
    NetworkWatch, act_as,
};
use crate::model::{Error, ErrorKind, Need, PoolDef, Result, Uuid, VolumeName};
use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::sync::{broadcast, oneshot, watch};
use tokio::task::JoinHandle;
use tokio_util::task::AbortOnDropHandle;

/// How often what leads to a target is looked for while it appears.
const LOOKS: usize = 100;
/// How long changes of the mount table and of devices are gathered.
pub(super) const GATHER: Duration = Duration::from_millis(50);

/// The same for the network, of which routers hear all the time.
const NETWORK_GATHER: Duration = Duration::from_millis(500);

/// Who follows a pool's storage; it ends when this is dropped.
pub(super) enum Follower {
    /// Its changes.
    Changes(#[expect(dead_code, reason = "held for its drop")] AbortOnDropHandle<()>),
    /// Its return.
    Return(#[expect(dead_code, reason = "held for its drop")] AbortOnDropHandle<()>),
    /// The return of a part that it serves without.
    Part(#[expect(dead_code, reason = "held for its drop")] AbortOnDropHandle<()>),
}

/// Starts what follows all pools: the mount table, devices, the network, and the clock.
pub(super) fn spawn(shared: &Arc<Shared>) {
    tokio::spawn(devices::follow(Arc::clone(shared)));
    tokio::spawn(follow_mounts(Arc::clone(shared)));
    tokio::spawn(follow_network(Arc::clone(shared)));
    tokio::spawn(follow_clock(Arc::clone(shared)));
}

async fn follow_mounts(shared: Arc<Shared>) {
    let told = async {
        let watch = MountWatch::new()?;
        loop {
            watch.changed().await?;
            // One mount rarely comes alone.
            tokio::time::sleep(GATHER).await;
            shared.mounts.send_modify(|changes| *changes += 1);
            for pool in shared.pools() {
                // Storage that appears nowhere on this host is not mounted.
                let target = pool.snapshot().def.target.is_some();
                let appears =
                    |active: &Arc<ActivePool>| target || active.activation.mount.is_some();
                if pool.look(|core| core.active.as_ref().is_some_and(appears)) {
                    pool.ask_check(&shared);
                }
            }
        }
    };
    let ended: Result<()> = told.await;
    if let Err(error) = ended {
        tracing::error!("mounts are not followed any more: {error}");
    }
}

async fn follow_network(shared: Arc<Shared>) {
    let told = async {
        let watch = NetworkWatch::new()?;
        loop {
            watch.appearance().await?;
            // A route comes after its address, and that after its link.
            tokio::time::sleep(NETWORK_GATHER).await;
            shared.network.send_modify(|changes| *changes += 1);
        }
    };
    let ended: Result<()> = told.await;
    if let Err(error) = ended {
        tracing::error!("the network is not followed any more: {error}");
    }
}

/// Images that a guest writes, and other hosts' files, are told by nobody; nor are sessions that end,
/// which costs so little to see that it is done while nobody watches, too. No pool waits for another.
async fn follow_clock(shared: Arc<Shared>) {
    let mut under_way: HashMap<Uuid, JoinHandle<()>> = HashMap::new();
    loop {
        tokio::time::sleep(shared.options.rescan).await;
        let watched = shared.watched.load(Ordering::Relaxed);
        under_way.retain(|_, reading| !reading.is_finished());
        for pool in shared.pools() {
            let snapshot = pool.snapshot();
            if snapshot.state != PoolState::Active || under_way.contains_key(&pool.uuid) {
                continue;
            }
            if watched {
                let (uuid, shared) = (pool.uuid, Arc::clone(&shared));
                let reading = async move { reload(&shared, &pool).await };
                under_way.insert(uuid, tokio::spawn(reading));
            } else if let Ok(backend) = shared.backend_of(snapshot.def.pool_type)
                && backend.info().watch == Watch::Sessions
            {
                pool.ask_check(&shared);
            }
        }
    }
}

/// Has a pool read as a whole, and waits for it.
pub(super) async fn reload(shared: &Shared, pool: &Pool) {
    let (reply, done) = oneshot::channel();
    pool.send(shared, Command::Reload(reply));
    // What went wrong is published with the pool.
    let _ = done.await;
}

/// Watches the directory of a pool that is about to be read. Blocks.
pub(super) fn attach(watcher: &DirectoryWatcher, active: &ActivePool) -> Option<DirectoryWatch> {
    let path = active.def.target_path()?;
    let acting = act_as(active.def.access());
    let opened = acting
        .and_then(|acting| Ok((Directory::open(Path::new(path))?, acting)))
        .map_err(|error| Error::io(format_args!("cannot open {path}"), &error));
    match opened.and_then(|(directory, _acting)| watcher.watch(directory.as_fd())) {
        Ok(watch) => Some(watch),
        Err(error) => {
            let name = &active.def.name;
            tracing::warn!("changes in pool {name} are not seen at once: {error}");
            None
        }
    }
}

/// Follows the changes in a pool's directory.
pub(super) fn follow(shared: &Arc<Shared>, pool: &Arc<Pool>, watch: DirectoryWatch) -> Follower {
    let (shared, pool) = (Arc::clone(shared), Arc::clone(pool));
    Follower::Changes(AbortOnDropHandle::new(tokio::spawn(async move {
        loop {
            let changes = watch.changes().await;
            if changes.gone {
                pool.send(&shared, Command::Lost);
                return;
            }
            if changes.overflow || !reader::reread(&pool, names(&changes)) {
                reload(&shared, &pool).await;
            }
        }
    })))
}

fn names(changes: &DirectoryChanges) -> impl Iterator<Item = VolumeName> {
    let entries = changes.changed.iter().chain(&changes.removed);
    entries
        .filter_map(|entry| VolumeName::found(entry.to_str()?))
        .filter(|name| !name.as_str().starts_with(HIDDEN_PREFIX))
}

/// Says what is wrong with the storage of a pool; has somebody wait for it when it is gone.
pub(super) fn lost(
    shared: &Arc<Shared>,
    pool: &Arc<Pool>,
    core: &mut Core,
    next: &mut PoolSnapshot,
    error: Error,
) {
    core.gone |= error.kind() == ErrorKind::Inaccessible;
    next.last_error = Some(error);
    follow_return(shared, pool, core);
}

/// Has somebody wait for storage that is gone.
pub(super) fn follow_return(shared: &Arc<Shared>, pool: &Arc<Pool>, core: &mut Core) {
    if core.gone && !matches!(core.follower, Some(Follower::Return(_))) {
        core.follower = Some(Follower::Return(await_return(shared, pool)));
    }
}

/// Has somebody wait for what is missing of storage that serves, or for nothing any more.
pub(super) fn follow_part(shared: &Arc<Shared>, pool: &Arc<Pool>, core: &mut Core, missing: bool) {
    match (&core.follower, missing) {
        (None, true) => core.follower = Some(Follower::Part(await_return(shared, pool))),
        (Some(Follower::Part(_)), false) => core.follower = None,
        _ => {}
    }
}

/// Waits for the return of a pool's storage, or of a part of it, which may have to be fetched.
fn await_return(shared: &Arc<Shared>, pool: &Arc<Pool>) -> AbortOnDropHandle<()> {
    let (shared, pool) = (Arc::clone(shared), Arc::clone(pool));
    AbortOnDropHandle::new(tokio::spawn(async move {
        let (first, longest) = shared.options.retry;
        let mut pause = first;
        loop {
            let mut look_out = LookOut::take_up(&shared, &pool).await;
            // When it is back, this follower is replaced.
            pool.ask_check(&shared);
            tokio::select! {
                () = tokio::time::sleep(pause) => pause = (pause * 2).min(longest),
                () = look_out.appearance() => pause = first,
            }
            // Not at first: a start has just tried.
            pool.change(|core| core.complete_first = true);
        }
    }))
}

/// What a pool that cannot start waits for, for people.
pub(super) fn awaited(def: &PoolDef) -> String {
    let (info, source) = (def.pool_type.info(), &def.source);
    let devices: Vec<&str> = source.devices.iter().map(|device| device.path.as_str()).collect();
    let hosts: Vec<&str> = source.hosts.iter().map(|host| host.name.as_str()).collect();
    match (devices.as_slice(), source.name.as_deref(), def.target_path()) {
        ([device], ..) if info.local_devices => format!("device {device}"),
        ([_, ..], ..) if info.local_devices => format!("devices {}", devices.join(", ")),
        _ if !hosts.is_empty() => format!("server {}", hosts.join(", ")),
        (_, Some(name), _) if !info.source_noun.is_empty() => {
            format!("{} {name}", info.source_noun)
        }
        (.., Some(path)) if info.target == Need::Must => format!("directory {path}"),
        _ => "its storage".to_owned(),
    }
}

/// Looks out for what a pool's storage may come with. To be taken up before the storage is tried,
/// so that nothing is missed in between.
pub(super) struct LookOut {
    def: Arc<PoolDef>,
    backend: Option<Arc<dyn Backend>>,
    mounts: watch::Receiver<u64>,
    network: watch::Receiver<u64>,
    devices: broadcast::Receiver<Devices>,
    target: Option<(DirectoryWatch, Option<OsString>)>,
}

impl LookOut {
    pub(super) async fn take_up(shared: &Arc<Shared>, pool: &Arc<Pool>) -> Self {
        let (mounts, devices) = (shared.mounts.subscribe(), shared.devices.subscribe());
        let network = shared.network.subscribe();
        let def = Arc::clone(&pool.snapshot().def);
        let backend = shared.backend_of(def.pool_type).ok();
        let sought = Arc::clone(&def);
        let patience = Patience::Within(shared.options.refresh_timeout);
        let run = Run { shared, pool, job: None, patience, what: "a look for the target" };
        let again = Arc::clone(shared);
        let target = run.run(move |_| Ok(nearest(&again, &sought))).await.ok().flatten();
        Self { def, backend, mounts, network, devices, target }
    }

    /// Waits until something is mounted, a device of the pool comes, what may lead to its server
    /// appears on the network, or the target appears or is replaced.
    pub(super) async fn appearance(&mut self) {
        tokio::select! {
            // Its sender lives as long as the engine.
            _ = self.mounts.changed() => {}
            _ = self.network.changed(), if !self.def.source.hosts.is_empty() => {}
            () = target_appears(self.target.as_ref()) => {}
            () = devices::appears(&mut self.devices, self.backend.as_deref(), &self.def) => {}
        }
    }
}

async fn target_appears(target: Option<&(DirectoryWatch, Option<OsString>)>) {
    let Some((watch, next)) = target else { return std::future::pending().await };
    loop {
        let changes = watch.changes().await;
        let came = next.as_ref().is_some_and(|next| changes.changed.contains(next));
        if came || changes.gone || changes.overflow {
            return;
        }
    }
}

/// A watch on the target, or on the nearest directory above it that exists, and the entry of that
/// which would lead on. Blocks.
fn nearest(shared: &Shared, def: &PoolDef) -> Option<(DirectoryWatch, Option<OsString>)> {
    let watcher = shared.watcher.as_ref()?;
    let target = Path::new(def.target_path()?);
    let mut found = None;
    for _ in 0..LOOKS {
        let (directory, next) = nearest_directory(target)?;
        found = Some((watcher.watch(directory.as_fd()).ok()?, next.map(|next| next.file_name())));
        // What came before it was watched is looked for from below once more. What is there but may
        // not be opened, as somebody's symbolic link, has not come.
        if next.is_none_or(|next| Directory::open(next).is_err()) {
            break;
        }
    }
    found.map(|(watch, next)| (watch, next.flatten().map(OsStr::to_owned)))
}

/// The nearest directory to `target` that can be opened, itself or one above it, and the path that
/// cannot be opened below it.
fn nearest_directory(target: &Path) -> Option<(Directory, Option<&Path>)> {
    let mut next = None;
    for path in target.ancestors() {
        if let Ok(directory) = Directory::open(path) {
            return Some((directory, next));
        }
        next = Some(path);
    }
    None
}
