//! What the faces (`bus`) call.

use super::{JobHandle, PoolSnapshot};
use crate::backend::{Backend, BuildMode, Preallocation, ResizeOptions, StopOptions};
use crate::host::Host;
use crate::model::{PoolDef, PoolType, Result, Source, Uuid, VolumeDef, VolumeName};
use crate::store::{Problem, Store};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

/// Times and limits of an engine.
#[derive(Debug, Clone)]
pub struct EngineOptions {
    /// Longest refresh.
    pub refresh_timeout: Duration,
    /// Longest start.
    pub start_timeout: Duration,
    /// When a forced stop answers.
    pub stop_timeout: Duration,
    /// How long an ended job stays readable.
    pub job_retention: Duration,
    /// Jobs under way, in all.
    pub max_jobs: usize,
    /// Jobs under way, per uid (root has no limit of its own).
    pub max_jobs_per_uid: usize,
    /// Worker threads.
    pub workers: usize,
    /// First and longest pause between tries of an autostart.
    pub retry: (Duration, Duration),
    /// How often allocation of volumes is read again while somebody watches.
    pub rescan: Duration,
}

impl Default for EngineOptions {
    fn default() -> Self {
        Self {
            refresh_timeout: Duration::from_secs(10),
            start_timeout: Duration::from_secs(30),
            stop_timeout: Duration::from_secs(15),
            job_retention: Duration::from_secs(60),
            max_jobs: 256,
            max_jobs_per_uid: 32,
            workers: 64,
            retry: (Duration::from_secs(1), Duration::from_secs(60)),
            rescan: Duration::from_secs(30),
        }
    }
}

/// On whose behalf something is done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// uid.
    pub uid: u32,
}

/// Options of a definition.
#[derive(Debug, Clone, Copy, Default)]
#[allow(clippy::struct_excessive_bools)]
pub struct DefineOptions {
    /// Start it.
    pub start: bool,
    /// Start it at boot.
    pub autostart: bool,
    /// Build it.
    pub build: Option<BuildMode>,
    /// Forget it when it stops.
    pub transient: bool,
}

/// Options of a new volume beyond its definition.
#[derive(Debug, Clone, Copy, Default)]
pub struct CreateVolumeOptions {
    /// How much is allocated at once.
    pub preallocation: Preallocation,
}

/// What a type of pool can do on this host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PoolTypeStatus {
    /// The type.
    pub pool_type: PoolType,
    /// Whether pools of it can be used.
    pub available: bool,
    /// Programs that are missing, with the packages that have them.
    pub missing_tools: Vec<String>,
    /// What it can do, in the bus's words.
    pub operations: Vec<&'static str>,
}

/// What changed since a subscriber last looked: numbers only, so that bursts merge and a slow
/// subscriber costs nothing. The subscriber compares what it last saw with the present snapshot.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ChangeSet {
    /// Pools that appeared, changed or went.
    pub pools: BTreeSet<Uuid>,
    /// Jobs that appeared, changed or went.
    pub jobs: BTreeSet<u64>,
    /// Whether the problems or pool types changed.
    pub manager: bool,
}

/// A subscription to changes.
#[derive(Debug)]
pub struct Changes {}

impl Changes {
    /// Waits until something changed and takes all of it. Cancel safe.
    pub async fn next(&mut self) -> ChangeSet {
        todo!()
    }

    /// Takes what changed so far, perhaps nothing. What a finished call did is in it.
    pub fn take(&mut self) -> ChangeSet {
        todo!()
    }
}

/// The engine; clones share it.
#[derive(Clone)]
pub struct Engine {}

#[allow(unused_variables)]
impl Engine {
    /// Reads what is kept and publishes the pools, without touching any storage: those that were
    /// active come up `loaded: false`. Needs a tokio runtime. Fails only when the store's
    /// directories cannot be used.
    pub fn open(
        store: Store,
        host: Arc<dyn Host>,
        backends: Vec<Arc<dyn Backend>>,
        options: EngineOptions,
    ) -> Result<Self> {
        todo!()
    }

    /// In the background: replays journals, loads the active pools, and does the boot's autostart
    /// unless it was done. To be called once, when the face answers.
    pub fn resume(&self) {
        todo!()
    }

    /// All pools, by uuid.
    pub fn pools(&self) -> Vec<PoolHandle> {
        todo!()
    }

    /// The pool of that uuid.
    pub fn pool(&self, uuid: Uuid) -> Option<PoolHandle> {
        todo!()
    }

    /// The pool of that name, or of that uuid in either spelling.
    pub fn find_pool(&self, name_or_uuid: &str) -> Result<PoolHandle> {
        todo!()
    }

    /// The pool that has this target path, active ones first.
    pub fn find_pool_by_target(&self, path: &str) -> Result<PoolHandle> {
        todo!()
    }

    /// The volume that has this path or key. A path below a target asks that pool only; a key
    /// waits at most 5 s for pools that still load, and `NotFound` names them.
    pub async fn find_volume(&self, path_or_key: &str) -> Result<(PoolHandle, VolumeName)> {
        todo!()
    }

    /// Checks a definition against its backend and all other pools; changes nothing.
    pub fn check_definition(&self, def: &PoolDef) -> Result<()> {
        todo!()
    }

    /// Defines a pool, and builds and starts it as the options say. An equal definition is success.
    pub async fn define_pool(
        &self,
        def: PoolDef,
        options: DefineOptions,
        caller: &Caller,
    ) -> Result<(PoolHandle, Option<JobHandle>)> {
        todo!()
    }

    /// What pools of a type could be made from.
    pub async fn find_sources(&self, pool_type: PoolType, spec: Source) -> Result<Vec<Source>> {
        todo!()
    }

    /// Starts the pools marked autostart that are not active and were not stopped by hand.
    pub async fn autostart(&self, caller: &Caller) -> Result<Vec<JobHandle>> {
        todo!()
    }

    /// What every type can do on this host.
    pub fn pool_types(&self) -> Vec<PoolTypeStatus> {
        todo!()
    }

    /// Files that could not be read.
    pub fn problems(&self) -> Vec<Problem> {
        todo!()
    }

    /// Jobs under way and ended ones that are still readable, by number.
    pub fn jobs(&self) -> Vec<JobHandle> {
        todo!()
    }

    /// The job of that number.
    pub fn job(&self, id: u64) -> Option<JobHandle> {
        todo!()
    }

    /// A subscription to changes from now on.
    pub fn changes(&self) -> Changes {
        todo!()
    }

    /// Whether nothing is under way that an exit would lose: jobs, retained jobs, retries.
    pub fn is_idle(&self) -> bool {
        todo!()
    }

    /// Reads the definitions again (SIGHUP): new files are defined, changed ones taken over.
    pub async fn reload(&self) -> Result<()> {
        todo!()
    }

    /// Says whether anybody watches, so that timers may rest when nobody does.
    pub fn set_watched(&self, watched: bool) {
        todo!()
    }

    /// Cancels all jobs, waits at most `patience` for them to roll back; refuses new ones.
    pub async fn shut_down(&self, patience: Duration) {
        todo!()
    }
}

/// A pool; clones share it.
#[derive(Clone)]
pub struct PoolHandle {}

#[allow(unused_variables)]
impl PoolHandle {
    /// Its identity.
    pub fn uuid(&self) -> Uuid {
        todo!()
    }

    /// How it is now.
    pub fn snapshot(&self) -> Arc<PoolSnapshot> {
        todo!()
    }

    /// Waits until the volumes of an active pool have been read, to the refresh deadline.
    pub async fn loaded(&self) -> Result<()> {
        todo!()
    }

    /// Makes it usable, after building it when `build` says so.
    pub async fn start(&self, build: Option<BuildMode>, caller: &Caller) -> Result<JobHandle> {
        todo!()
    }

    /// Stops it.
    pub async fn stop(&self, options: StopOptions, caller: &Caller) -> Result<JobHandle> {
        todo!()
    }

    /// Makes its storage.
    pub async fn build(&self, mode: BuildMode, caller: &Caller) -> Result<JobHandle> {
        todo!()
    }

    /// Destroys its storage, with the volumes in it if so wished.
    pub async fn delete(&self, with_volumes: bool, caller: &Caller) -> Result<JobHandle> {
        todo!()
    }

    /// Reads usage and volumes; a refresh under way is joined.
    pub async fn refresh(&self, caller: &Caller) -> Result<JobHandle> {
        todo!()
    }

    /// Forgets the definition; an active pool becomes transient.
    pub async fn undefine(&self) -> Result<()> {
        todo!()
    }

    /// Whether it is started at boot.
    pub async fn set_autostart(&self, autostart: bool) -> Result<()> {
        todo!()
    }

    /// Creates a volume.
    pub async fn create_volume(
        &self,
        def: VolumeDef,
        options: CreateVolumeOptions,
        caller: &Caller,
    ) -> Result<JobHandle> {
        todo!()
    }

    /// Deletes a volume.
    pub async fn delete_volume(
        &self,
        name: &VolumeName,
        force: bool,
        caller: &Caller,
    ) -> Result<JobHandle> {
        todo!()
    }

    /// Changes a volume's capacity to `capacity`.
    pub async fn resize_volume(
        &self,
        name: &VolumeName,
        capacity: u64,
        options: ResizeOptions,
        caller: &Caller,
    ) -> Result<JobHandle> {
        todo!()
    }

    /// Reads one volume again.
    pub async fn refresh_volume(&self, name: &VolumeName, caller: &Caller) -> Result<JobHandle> {
        todo!()
    }
}
