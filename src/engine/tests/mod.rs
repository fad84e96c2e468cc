//! Stories about the engine, told with a simulated backend.

mod conflicts;
mod hanging;
mod live;
mod merging;
mod pools;
mod restart;
mod sim;
mod volumes;

use super::*;
use crate::backend::Backend;
use crate::host::SystemHost;
use crate::model::{
    Error, ErrorKind, Features, PoolDef, PoolName, PoolType, Source, Target, Uuid, VolumeDef,
    VolumeName,
};
use crate::store::Store;
use sim::Sim;
use std::sync::Arc;
use std::time::Duration;

/// Root.
const ROOT: Caller = Caller { uid: 0 };
/// Somebody.
const USER: Caller = Caller { uid: 1000 };

/// A host with an engine on it, which can be restarted.
struct World {
    root: tempfile::TempDir,
    sim: Arc<Sim>,
    engine: Engine,
    options: EngineOptions,
}

impl World {
    fn new() -> Self {
        Self::with(EngineOptions::default())
    }

    /// One where calls that hang are given up soon.
    fn impatient() -> Self {
        Self::with(EngineOptions {
            refresh_timeout: Duration::from_millis(300),
            start_timeout: Duration::from_secs(2),
            stop_timeout: Duration::from_secs(2),
            retry: (Duration::from_millis(5), Duration::from_millis(20)),
            ..EngineOptions::default()
        })
    }

    fn with(options: EngineOptions) -> Self {
        let root = tempfile::tempdir().unwrap();
        let sim = Sim::new();
        let engine = open(&root, &sim, &options);
        Self { root, sim, engine, options }
    }

    /// The daemon dies and starts again.
    fn restart(&mut self) {
        self.engine = open(&self.root, &self.sim, &self.options);
    }

    async fn defined(&self, name: &str) -> PoolHandle {
        let options = DefineOptions::default();
        self.engine.define_pool(pool_def(name), options, &ROOT).await.unwrap().0
    }

    async fn started(&self, name: &str) -> PoolHandle {
        let options = DefineOptions { start: true, ..DefineOptions::default() };
        let (pool, job) = self.engine.define_pool(pool_def(name), options, &ROOT).await.unwrap();
        job.unwrap().wait().await.unwrap();
        pool
    }
}

fn open(root: &tempfile::TempDir, sim: &Arc<Sim>, options: &EngineOptions) -> Engine {
    let store = Store::open(root.path()).unwrap();
    let mut backends = crate::backend::all();
    backends.retain(|backend| backend.info().pool_type != PoolType::Dir);
    backends.push(Arc::clone(sim) as Arc<dyn Backend>);
    Engine::open(store, Arc::new(SystemHost), backends, options.clone()).unwrap()
}

/// A definition, the same for the same name.
fn pool_def(name: &str) -> PoolDef {
    let mut bytes = [7; 16];
    for (byte, letter) in bytes.iter_mut().zip(name.bytes()) {
        *byte = letter;
    }
    PoolDef {
        pool_type: PoolType::Dir,
        name: PoolName::new(name).unwrap(),
        uuid: uuid::Builder::from_random_bytes(bytes).into_uuid(),
        features: Features::default(),
        source: Source::default(),
        target: Some(Target { path: format!("/srv/{name}"), permissions: None }),
        refresh_allocation: None,
        mount_options: Vec::new(),
        config_options: Vec::new(),
        volume_permissions: None,
    }
}

fn volume_def(name: &str, capacity: u64) -> VolumeDef {
    let def = VolumeDef::new(VolumeName::new(name).unwrap(), PoolType::Dir);
    VolumeDef { capacity: Some(capacity), ..def }
}

async fn create(pool: &PoolHandle, name: &str) -> JobHandle {
    pool.create_volume(volume_def(name, 10), CreateVolumeOptions::default(), &ROOT).await.unwrap()
}

/// A refresh of a started pool that has listed what is there, and does not end before it is released.
async fn held_refresh(world: &World, pool: &PoolHandle) -> JobHandle {
    let name = pool.snapshot().def.name.to_string();
    let before = world.sim.calls(&name, "refresh");
    world.sim.hold(&name, "refresh");
    let job = pool.refresh(&ROOT).await.unwrap();
    world.sim.called(&name, "refresh", before + 1).await;
    job
}

fn names(pool: &PoolHandle) -> Vec<String> {
    pool.snapshot().volumes.keys().map(ToString::to_string).collect()
}

fn state(pool: &PoolHandle) -> PoolState {
    pool.snapshot().state
}

fn kind<T>(result: crate::model::Result<T>) -> Option<ErrorKind> {
    result.err().as_ref().map(Error::kind)
}

/// Waits until a pool is as described; the test's own time limit is the runner's.
async fn until(engine: &Engine, pool: &PoolHandle, met: impl Fn(&PoolSnapshot) -> bool) {
    let mut changes = engine.changes();
    while !met(&pool.snapshot()) {
        changes.next().await;
    }
}
