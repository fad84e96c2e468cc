//! A pool in a temporary directory, and what the engine would give its operations.

use crate::backend::{
    self, Activation, ActivePool, Backend, DeleteOptions, Journal, KnownVolumes, Listing,
    OpContext, Preallocation, Records, Secrets, Undo,
};
use crate::host::{Limits, SystemHost};
use crate::model::*;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

/// What was declared, recorded and known.
#[derive(Default)]
pub struct World {
    pub declared: Mutex<BTreeMap<(Uuid, VolumeName), Declaration>>,
    pub journal: Mutex<Vec<Undo>>,
    pub known: Mutex<Vec<Arc<Volume>>>,
    /// Values of secrets, by the name of their usage or by uuid.
    pub secrets: Mutex<BTreeMap<String, SecretValue>>,
    /// Whether declarations cannot be read.
    pub in_doubt: AtomicBool,
}

impl Records for World {
    fn declared(&self, pool: Uuid, name: &VolumeName) -> Option<Declaration> {
        self.declared.lock().unwrap().get(&(pool, name.clone())).cloned()
    }
    fn declared_of_inode(&self, _pool: Uuid, inode: u64) -> Option<Declaration> {
        let declared = self.declared.lock().unwrap();
        let of = |what: &&Declaration| what.identity.as_ref().is_some_and(|id| id.inode == inode);
        declared.values().find(of).cloned()
    }
    fn in_doubt(&self, _pool: Uuid, _name: &VolumeName) -> bool {
        self.in_doubt.load(Ordering::Relaxed)
    }
    fn declare(&self, pool: Uuid, name: &VolumeName, declaration: &Declaration) -> Result<()> {
        self.declared.lock().unwrap().insert((pool, name.clone()), declaration.clone());
        Ok(())
    }
    fn forget(&self, pool: Uuid, name: &VolumeName) -> Result<()> {
        self.declared.lock().unwrap().remove(&(pool, name.clone()));
        Ok(())
    }
}

impl Secrets for World {
    fn value(&self, secret: &SecretRef, _kind: SecretKind) -> Result<SecretValue> {
        let name = match secret {
            SecretRef::Uuid(uuid) => uuid.to_string(),
            SecretRef::Usage(usage) => usage.clone(),
        };
        let found = self.secrets.lock().unwrap().get(&name).cloned();
        found.ok_or_else(|| Error::new(ErrorKind::NotFound, format!("there is no secret {name}")))
    }
}

impl Journal for World {
    fn record(&self, undo: &Undo) -> Result<()> {
        self.journal.lock().unwrap().push(undo.clone());
        Ok(())
    }
}

impl KnownVolumes for World {
    fn overlay_of(&self, path: &str) -> Option<String> {
        let known = self.known.lock().unwrap();
        let overlay = known.iter().find(|v| v.backing().is_some_and(|b| b.path == path))?;
        Some(format!("volume {}", overlay.name))
    }
    fn of_pool(&self, _pool: Uuid) -> Vec<Arc<Volume>> {
        self.known.lock().unwrap().clone()
    }
    fn by_path(&self, path: &str) -> Option<Arc<Volume>> {
        self.known.lock().unwrap().iter().find(|v| &*v.path == path).cloned()
    }
    fn file_of(&self, path: &str) -> Option<PathBuf> {
        let local =
            |volume: &Arc<Volume>| matches!(volume.kind, VolumeKind::File | VolumeKind::Block);
        self.by_path(path).filter(local).map(|volume| volume.path.as_ref().into())
    }
}

/// A pool in a directory of its own.
pub struct Pool {
    pub base: tempfile::TempDir,
    pub def: Arc<PoolDef>,
    pub active: ActivePool,
    pub world: Arc<World>,
    pub ctx: OpContext,
    pub backend: Arc<dyn Backend>,
}

pub fn context(world: &Arc<World>) -> OpContext {
    OpContext {
        limits: Limits::default(),
        overtime: backend::Overtime::default(),
        asked: true,
        progress: backend::Progress::default(),
        host: Arc::new(SystemHost),
        records: world.clone(),
        journal: world.clone(),
        known: world.clone(),
        secrets: world.clone(),
        private: std::env::temp_dir().into(),
        mounts: std::env::temp_dir().into(),
        findings: backend::Findings::default(),
    }
}

pub fn definition(pool_type: PoolType, path: &Path) -> PoolDef {
    PoolDef {
        pool_type,
        name: PoolName::new("test").unwrap(),
        uuid: Uuid::from_u128(7),
        features: Features::default(),
        source: Source::default(),
        target: Some(Target { path: path.to_str().unwrap().to_owned(), permissions: None }),
        refresh_allocation: None,
        mount_options: Vec::new(),
        config_options: Vec::new(),
        volume_permissions: None,
    }
}

pub fn backend_of(pool_type: PoolType) -> Arc<dyn Backend> {
    backend::all().into_iter().find(|b| b.info().pool_type == pool_type).unwrap()
}

/// A pool that is defined only.
pub fn defined() -> Pool {
    let base = tempfile::tempdir().unwrap();
    let def = Arc::new(definition(PoolType::Dir, &base.path().join("pool")));
    let world = Arc::new(World::default());
    let active = ActivePool { def: def.clone(), activation: Activation::default() };
    let ctx = context(&world);
    Pool { base, def, active, world, ctx, backend: backend_of(PoolType::Dir) }
}

/// A pool that is built and started.
pub fn started() -> Pool {
    let mut pool = defined();
    pool.backend.build(&pool.def, backend::BuildMode::KeepData, &pool.ctx).unwrap();
    pool.start();
    pool
}

impl Pool {
    pub fn start(&mut self) {
        let activation = self.backend.start(&self.def, &self.ctx).unwrap();
        self.active = ActivePool { def: self.def.clone(), activation };
    }

    pub fn path(&self) -> PathBuf {
        self.base.path().join("pool")
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.path().join(name)
    }

    pub fn list(&self) -> Listing {
        let mut listing = self.backend.refresh(&self.active, &self.ctx).unwrap();
        listing.volumes.sort_by(|a, b| a.name.cmp(&b.name));
        listing
    }

    pub fn names(&self) -> Vec<String> {
        self.list().volumes.into_iter().map(|volume| volume.name.to_string()).collect()
    }

    pub fn volume(&self, name: &str) -> Option<Volume> {
        let name = VolumeName::found(name).unwrap();
        self.backend.refresh_volume(&self.active, &name, &self.ctx).unwrap()
    }

    pub fn try_create(&self, def: &VolumeDef, preallocation: Preallocation) -> Result<Volume> {
        self.backend.create_volume(&self.active, def, preallocation, &self.ctx)
    }

    /// Creates a volume and makes it known, as the engine would.
    pub fn create(&self, def: &VolumeDef) -> Volume {
        let volume = self.try_create(def, Preallocation::None).unwrap();
        self.world.known.lock().unwrap().push(Arc::new(volume.clone()));
        volume
    }

    pub fn delete(&self, volume: &Volume, force: bool) -> Result<()> {
        let options = DeleteOptions { force, ..DeleteOptions::default() };
        self.backend.delete_volume(&self.active, volume, options, &self.ctx)
    }

    /// Everything in the directory, hidden files too.
    pub fn entries(&self) -> Vec<String> {
        let mut names: Vec<_> = std::fs::read_dir(self.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    }
}

/// A volume as a caller asks for it.
pub fn volume_def(name: &str, format: VolumeFormat, capacity: Option<u64>) -> VolumeDef {
    let def = VolumeDef::new(VolumeName::new(name).unwrap(), PoolType::Dir);
    VolumeDef { capacity, format: Some(format), ..def }
}

/// Runs a program that must succeed; what it said.
pub fn run(program: &str, args: &[&str]) -> String {
    let out = std::process::Command::new(program).args(args).output().unwrap();
    let said = String::from_utf8_lossy(&out.stdout).into_owned();
    let errors = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success(), "{program} {args:?}: {said}{errors}");
    said
}
