//! A backend whose storage is in memory, and whose every call can be held up or made to fail.

use crate::backend::{
    Activation, ActivePool, Backend, BackendInfo, BuildMode, DeleteOptions, Listing, OpContext,
    Operation, Preallocation, ResizeOptions, StopOptions, Undo, Watch,
};
use crate::model::{
    Error, ErrorKind, FormatSource, PoolDef, PoolType, Result, Usage, Volume, VolumeDef,
    VolumeFormat, VolumeKind, VolumeName,
};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use tokio::sync::watch;

static INFO: BackendInfo = BackendInfo {
    pool_type: PoolType::Dir,
    tools: &[],
    operations: &[
        Operation::Build,
        Operation::Start,
        Operation::Stop,
        Operation::Delete,
        Operation::Refresh,
        Operation::CreateVolume,
        Operation::DeleteVolume,
        Operation::ResizeVolume,
    ],
    watch: Watch::Timer,
};

/// The same of a type whose devices come by sessions.
static OF_SESSIONS: BackendInfo = BackendInfo {
    pool_type: INFO.pool_type,
    tools: INFO.tools,
    operations: INFO.operations,
    watch: Watch::Sessions,
};

/// A pool's name and a method of the backend.
type Call = (String, &'static str);

#[derive(Default)]
struct World {
    volumes: HashMap<String, BTreeMap<VolumeName, u64>>,
    held: BTreeSet<Call>,
    large: BTreeSet<String>,
    completed: BTreeSet<String>,
    deaf: bool,
    sessions: bool,
    failing: HashMap<Call, ErrorKind>,
    calls: HashMap<Call, usize>,
    undo: Option<PathBuf>,
}

/// The simulated backend.
pub struct Sim {
    world: Mutex<World>,
    released: Condvar,
    entered: watch::Sender<()>,
}

impl Sim {
    pub fn new() -> Arc<Self> {
        let entered = watch::Sender::new(());
        Arc::new(Self { world: Mutex::default(), released: Condvar::new(), entered })
    }

    fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap()
    }

    /// Holds up calls; they end when cancelled or past their deadline.
    pub fn hold(&self, pool: &str, method: &'static str) {
        self.world().held.insert((pool.to_owned(), method));
    }

    /// Holds up calls that hear nothing, as in a system call on a dead server.
    pub fn hang(&self, pool: &str, method: &'static str) {
        self.hold(pool, method);
        self.world().deaf = true;
    }

    /// Its refreshes say that they take longer than their deadline.
    pub fn is_large(&self, pool: &str) {
        self.world().large.insert(pool.to_owned());
    }

    /// Completing it mends its condition.
    pub fn can_be_completed(&self, pool: &str) {
        self.world().completed.insert(pool.to_owned());
    }

    /// Its devices come by sessions.
    pub fn has_sessions(&self) {
        self.world().sessions = true;
    }

    pub fn release(&self, pool: &str, method: &'static str) {
        self.world().held.remove(&(pool.to_owned(), method));
        self.released.notify_all();
    }

    pub fn fail(&self, pool: &str, method: &'static str, kind: ErrorKind) {
        self.world().failing.insert((pool.to_owned(), method), kind);
    }

    pub fn heal(&self, pool: &str, method: &'static str) {
        self.world().failing.remove(&(pool.to_owned(), method));
    }

    /// The next creation makes this directory as a step that needs undoing.
    pub fn step(&self, path: PathBuf) {
        self.world().undo = Some(path);
    }

    pub fn calls(&self, pool: &str, method: &'static str) -> usize {
        self.world().calls.get(&(pool.to_owned(), method)).copied().unwrap_or(0)
    }

    /// Waits until a method was called so many times in all.
    pub async fn called(&self, pool: &str, method: &'static str, times: usize) {
        let mut entered = self.entered.subscribe();
        while self.calls(pool, method) < times {
            entered.changed().await.unwrap();
        }
    }

    /// Somebody else puts a volume there.
    pub fn drop_in(&self, pool: &str, name: &str, size: u64) {
        let name = VolumeName::new(name).unwrap();
        self.world().volumes.entry(pool.to_owned()).or_default().insert(name, size);
    }

    /// Somebody else takes it away.
    pub fn take_away(&self, pool: &str, name: &str) {
        self.world().volumes.get_mut(pool).unwrap().remove(name);
    }

    pub fn names(&self, pool: &str) -> Vec<String> {
        let world = self.world();
        world.volumes.get(pool).into_iter().flatten().map(|(name, _)| name.to_string()).collect()
    }

    fn enter(&self, pool: &PoolDef, method: &'static str, ctx: &OpContext) -> Result<()> {
        let call = (pool.name.to_string(), method);
        let mut world = self.world();
        *world.calls.entry(call.clone()).or_default() += 1;
        self.entered.send_replace(());
        while world.held.contains(&call) {
            if !world.deaf {
                ctx.limits.check()?;
            }
            let tick = std::time::Duration::from_millis(5);
            world = self.released.wait_timeout(world, tick).unwrap().0;
        }
        match world.failing.get(&call) {
            Some(kind) => Err(Error::new(*kind, format!("pool {}: {method} fails", pool.name))),
            None => Ok(()),
        }
    }
}

pub fn volume(pool: &PoolDef, name: &VolumeName, size: u64) -> Volume {
    Volume {
        name: name.clone(),
        key: None,
        path: format!("{}/{name}", pool.target_path().unwrap()).into(),
        kind: VolumeKind::File,
        format: VolumeFormat::Raw,
        format_source: FormatSource::Probed,

        content_format: None,
        capacity: size,
        allocation: size,
        physical: size,
        modified: 0,
        mode: None,
        owner: None,
        group: None,
        label: None,
        timestamps: None,
        image: None,
        incomplete: None,
        extents: Vec::new(),
        block: None,
    }
}

impl Backend for Sim {
    fn info(&self) -> &'static BackendInfo {
        if self.world().sessions { &OF_SESSIONS } else { &INFO }
    }

    fn check_definition(&self, pool: &PoolDef) -> Result<()> {
        match pool.target_path() {
            Some(path) if path.starts_with('/') => Ok(()),
            _ => Err(Error::new(ErrorKind::InvalidArgument, "no target")),
        }
    }

    fn build(&self, pool: &PoolDef, _mode: BuildMode, ctx: &OpContext) -> Result<()> {
        self.enter(pool, "build", ctx)
    }

    fn start(&self, pool: &PoolDef, ctx: &OpContext) -> Result<Activation> {
        self.enter(pool, "start", ctx)?;
        Ok(Activation::default())
    }

    fn stop(&self, pool: &ActivePool, _options: StopOptions, ctx: &OpContext) -> Result<()> {
        self.enter(&pool.def, "stop", ctx)
    }

    fn delete(&self, pool: &PoolDef, _with_volumes: bool, ctx: &OpContext) -> Result<()> {
        self.enter(pool, "delete", ctx)
    }

    fn refresh(&self, pool: &ActivePool, ctx: &OpContext) -> Result<Listing> {
        // What it lists is older than what happens while it is held up.
        let listed = self.world().volumes.get(pool.def.name.as_str()).cloned().unwrap_or_default();
        let large = self.world().large.contains(pool.def.name.as_str());
        let limits = if large { ctx.work_overtime() } else { ctx.limits.clone() };
        self.enter(&pool.def, "refresh", &OpContext { limits, ..ctx.clone() })?;
        let volumes = listed.iter().map(|(name, size)| volume(&pool.def, name, *size)).collect();
        Ok(Listing { usage: self.usage(pool, ctx)?, volumes, ..Listing::default() })
    }

    fn usage(&self, pool: &ActivePool, ctx: &OpContext) -> Result<Usage> {
        self.enter(&pool.def, "usage", ctx)?;
        let world = self.world();
        let taken = world.volumes.get(pool.def.name.as_str()).into_iter().flatten();
        let allocation = taken.map(|(_, size)| size).sum();
        Ok(Usage { capacity: 1 << 30, allocation, available: (1 << 30) - allocation })
    }

    fn condition(&self, pool: &ActivePool, ctx: &OpContext) -> Result<()> {
        self.enter(&pool.def, "condition", ctx)
    }

    fn complete(&self, pool: &ActivePool, ctx: &OpContext) -> Result<()> {
        self.enter(&pool.def, "complete", ctx)?;
        if self.world().completed.contains(pool.def.name.as_str()) {
            self.heal(pool.def.name.as_str(), "condition");
        }
        Ok(())
    }

    fn refresh_volume(
        &self,
        pool: &ActivePool,
        name: &VolumeName,
        ctx: &OpContext,
    ) -> Result<Option<Volume>> {
        self.enter(&pool.def, "refresh_volume", ctx)?;
        let world = self.world();
        let size = world.volumes.get(pool.def.name.as_str()).and_then(|all| all.get(name)).copied();
        Ok(size.map(|size| volume(&pool.def, name, size)))
    }

    fn create_volume(
        &self,
        pool: &ActivePool,
        def: &VolumeDef,
        _preallocation: Preallocation,
        ctx: &OpContext,
    ) -> Result<Volume> {
        if let Some(path) = self.world().undo.take() {
            ctx.journal.record(&Undo::RemoveDirectory(path.clone()))?;
            std::fs::create_dir(path).unwrap();
        }
        self.enter(&pool.def, "create", ctx)?;
        let size = def.capacity.unwrap_or(0);
        ctx.progress.set_total(size);
        ctx.progress.add(size);
        let mut world = self.world();
        let volumes = world.volumes.entry(pool.def.name.to_string()).or_default();
        volumes.insert(def.name.clone(), size);
        Ok(volume(&pool.def, &def.name, size))
    }

    fn delete_volume(
        &self,
        pool: &ActivePool,
        volume: &Volume,
        options: DeleteOptions,
        ctx: &OpContext,
    ) -> Result<()> {
        self.enter(&pool.def, "delete_volume", ctx)?;
        if let Some(overlay) = ctx.known.overlay_of(&volume.path).filter(|_| !options.force) {
            let message = format!("{} is the base of {overlay}", volume.name);
            return Err(Error::new(ErrorKind::Busy, message));
        }
        let mut world = self.world();
        world.volumes.get_mut(pool.def.name.as_str()).unwrap().remove(&volume.name);
        Ok(())
    }

    fn resize_volume(
        &self,
        pool: &ActivePool,
        found: &Volume,
        capacity: u64,
        _options: ResizeOptions,
        ctx: &OpContext,
    ) -> Result<Volume> {
        self.enter(&pool.def, "resize", ctx)?;
        let mut world = self.world();
        let volumes = world.volumes.entry(pool.def.name.to_string()).or_default();
        volumes.insert(found.name.clone(), capacity);
        Ok(volume(&pool.def, &found.name, capacity))
    }
}
