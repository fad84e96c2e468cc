//! What all parts of an engine share, and the table of its pools.

use super::changes::ChangeHub;
use super::jobs::Jobs;
use super::pool::Pool;
use super::records::Backings;
use super::secrets::SecretTable;
use super::workers::Workers;
use super::{Caller, EngineOptions, JobOperation, PoolSnapshot};
use crate::backend::Backend;
use crate::host::{DeviceEvent, DirectoryWatcher, Host};
use crate::model::{Error, ErrorKind, PoolDef, PoolName, PoolType, Result, Uuid};
use crate::store::{Problem, Store};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use tokio::sync::{Semaphore, broadcast, watch};
use tokio_util::sync::CancellationToken;

/// The engine itself, for work nobody asked for.
pub(super) const ROOT: Caller = Caller { uid: 0 };

/// How many batches of events of devices may wait to be looked at by who waits for storage.
const DEVICE_BATCHES: usize = 64;

/// What happened to devices in a moment; none when some of it was lost.
pub(super) type Devices = Option<Arc<[DeviceEvent]>>;

/// What all parts of an engine share.
pub(super) struct Shared {
    pub(super) store: Arc<Store>,
    pub(super) host: Arc<dyn Host>,
    pub(super) backends: BTreeMap<PoolType, Arc<dyn Backend>>,
    pub(super) options: EngineOptions,
    pub(super) changes: Arc<ChangeHub>,
    pub(super) jobs: Arc<Jobs>,
    pub(super) workers: Workers,
    /// Bounds what is done at boot, so that calls always find a thread.
    pub(super) background: Semaphore,
    registry: RwLock<Registry>,
    pub(super) backings: Backings,
    /// What searches for sources run on, by type.
    pub(super) searches: Mutex<BTreeMap<PoolType, Arc<Pool>>>,
    pub(super) secrets: SecretTable,
    /// Held by who sets or deletes a secret.
    pub(super) setting_secrets: tokio::sync::Mutex<()>,
    pub(super) problems: Mutex<Vec<Problem>>,
    /// Watches directories; none when the kernel has no watch to give.
    pub(super) watcher: Option<DirectoryWatcher>,
    /// Counts changes of the mount table.
    pub(super) mounts: watch::Sender<u64>,
    /// Counts what appears on the network.
    pub(super) network: watch::Sender<u64>,
    /// What happened to devices.
    pub(super) devices: broadcast::Sender<Devices>,
    /// Whether somebody watches.
    pub(super) watched: AtomicBool,
    pub(super) closing: CancellationToken,
    busy: AtomicUsize,
}

/// The pools, and who has claimed which definition.
#[derive(Default)]
pub(super) struct Registry {
    pub(super) pools: BTreeMap<Uuid, Arc<Pool>>,
    pub(super) names: BTreeMap<PoolName, Uuid>,
    /// Definitions that are being written: taken, but not in a snapshot yet.
    pub(super) claims: BTreeMap<Uuid, Arc<PoolDef>>,
    /// Pools that are being defined for the first time: not shown yet.
    pub(super) hidden: BTreeSet<Uuid>,
}

impl Registry {
    /// Removes a pool.
    pub(super) fn remove(&mut self, uuid: Uuid) {
        self.pools.remove(&uuid);
        self.names.retain(|_, named| *named != uuid);
        self.claims.remove(&uuid);
        self.hidden.remove(&uuid);
    }
}

/// Work that an exit would lose, while it is held.
pub(super) struct Busy(Arc<Shared>);

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.busy.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Shared {
    pub(super) fn new(
        store: Store,
        host: Arc<dyn Host>,
        backends: Vec<Arc<dyn Backend>>,
        options: EngineOptions,
    ) -> Arc<Self> {
        let changes = Arc::new(ChangeHub::default());
        let watcher = DirectoryWatcher::new();
        if let Err(error) = &watcher {
            tracing::error!("changes in directories are not seen at once: {error}");
        }
        Arc::new(Self {
            secrets: SecretTable::load(&store, options.seal_secrets),
            setting_secrets: tokio::sync::Mutex::default(),
            store: Arc::new(store),
            host,
            backends: backends.into_iter().map(|each| (each.info().pool_type, each)).collect(),
            jobs: Jobs::new(&options, Arc::clone(&changes)),
            workers: Workers::new(options.workers),
            background: Semaphore::new((options.workers / 2).max(1)),
            options,
            changes,
            registry: RwLock::default(),
            backings: Backings::default(),
            searches: Mutex::default(),
            problems: Mutex::default(),
            watcher: watcher.ok(),
            mounts: watch::Sender::new(0),
            network: watch::Sender::new(0),
            devices: broadcast::Sender::new(DEVICE_BATCHES),
            watched: AtomicBool::new(false),
            closing: CancellationToken::new(),
            busy: AtomicUsize::new(0),
        })
    }

    pub(super) fn registry(&self) -> RwLockReadGuard<'_, Registry> {
        self.registry.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn registry_mut(&self) -> RwLockWriteGuard<'_, Registry> {
        self.registry.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// The pools that are shown, by uuid.
    pub(super) fn pools(&self) -> Vec<Arc<Pool>> {
        let registry = self.registry();
        let shown = registry.pools.values().filter(|pool| !registry.hidden.contains(&pool.uuid));
        shown.cloned().collect()
    }

    /// The snapshots of the pools that are shown.
    pub(super) fn snapshots(&self) -> Vec<Arc<PoolSnapshot>> {
        self.pools().iter().map(|pool| pool.snapshot()).collect()
    }

    /// Replaces what is known to be wrong with a set of files.
    pub(super) fn set_problems(&self, problems: Vec<Problem>) {
        *self.problems.lock().unwrap_or_else(PoisonError::into_inner) = problems;
        self.changes.manager();
    }

    /// Says that something is under way that is no job.
    pub(super) fn busy(self: &Arc<Self>) -> Busy {
        self.busy.fetch_add(1, Ordering::Relaxed);
        Busy(Arc::clone(self))
    }

    pub(super) fn is_busy(&self) -> bool {
        self.busy.load(Ordering::Relaxed) > 0
    }

    /// Runs work on the store, on a thread of its own.
    pub(super) async fn store<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Store) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let store = Arc::clone(&self.store);
        self.workers.store(move || work(&store)).await
    }

    /// The backend of a pool's type, which can do `operation`, or why there is none.
    pub(super) fn backend(
        &self,
        def: &PoolDef,
        operation: JobOperation,
    ) -> Result<Arc<dyn Backend>> {
        let backend = self.backend_of(def.pool_type)?;
        let needed = operation.needs();
        if backend.info().operations.contains(&needed) {
            Ok(backend)
        } else {
            Err(crate::backend::unsupported(backend.info(), needed))
        }
    }

    /// The backend of a type.
    pub(super) fn backend_of(&self, pool_type: PoolType) -> Result<Arc<dyn Backend>> {
        self.backends.get(&pool_type).cloned().ok_or_else(|| {
            let message = format!("{pool_type} pools are not supported");
            Error::new(ErrorKind::NotSupported, message)
        })
    }
}
