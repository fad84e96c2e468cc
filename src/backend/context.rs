//! What an operation is given besides its arguments.

use super::Undo;
use crate::host::{Host, Limits};
use crate::model::{
    Declaration, Result, SecretKind, SecretRef, SecretValue, Uuid, Volume, VolumeName,
};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What an operation is given besides its arguments; made by the engine for each.
#[derive(Clone)]
pub struct OpContext {
    /// Deadline and cancel.
    pub limits: Limits,
    /// Where it says that it takes longer than that.
    pub overtime: Overtime,
    /// Whether somebody asked for it; what follows the storage by itself looks only at what the kernel
    /// knows already.
    pub asked: bool,
    /// Where it says how far it is.
    pub progress: Progress,
    /// The outside world.
    pub host: Arc<dyn Host>,
    /// What creators declared.
    pub records: Arc<dyn Records>,
    /// Steps to undo should the daemon die.
    pub journal: Arc<dyn Journal>,
    /// The volumes of all pools.
    pub known: Arc<dyn KnownVolumes>,
    /// Passphrases.
    pub secrets: Arc<dyn Secrets>,
    /// A directory of root's alone for files that only programs of ours see; emptied when poold starts.
    pub private: Arc<Path>,
    /// A directory of root's alone for mounts that only poold looks into; kept when poold ends.
    pub mounts: Arc<Path>,
    /// Where it says how it did what it did.
    pub findings: Findings,
}

impl OpContext {
    /// Says that the storage answers, and that what there is to read of it may take longer than the
    /// deadline: from here on the operation ends when that is done, when the pool does not answer
    /// beside it any more, or when something else waits for it. What it is to heed then.
    pub fn work_overtime(&self) -> Limits {
        self.overtime.0.store(true, Ordering::Release);
        Limits { deadline: None, cancel: self.limits.cancel.clone() }
    }
}

/// Whether an operation has said that it takes longer than its deadline; clones share it.
#[derive(Debug, Clone, Default)]
pub struct Overtime(Arc<AtomicBool>);

impl Overtime {
    /// Whether it has.
    pub fn is_worked(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

/// How far an operation is, in bytes; clones share the numbers.
#[derive(Debug, Clone, Default)]
pub struct Progress(Arc<[AtomicU64; 2]>);

impl Progress {
    /// Says how many bytes there are to do.
    pub fn set_total(&self, bytes: u64) {
        self.0[1].store(bytes, Ordering::Relaxed);
    }

    /// Says that so many more bytes are done.
    pub fn add(&self, bytes: u64) {
        self.0[0].fetch_add(bytes, Ordering::Relaxed);
    }

    /// Bytes done and to do.
    pub fn get(&self) -> (u64, u64) {
        (self.0[0].load(Ordering::Relaxed), self.0[1].load(Ordering::Relaxed))
    }
}

/// How an operation did what it did ("method" is "reflink"): part of its job's result. Clones share
/// it; the keys are documented with the method on the bus.
#[derive(Debug, Clone, Default)]
pub struct Findings(Arc<Mutex<BTreeMap<&'static str, Finding>>>);

/// One thing that an operation says of what it did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finding {
    /// A word or text.
    Text(String),
    /// A number.
    Number(u64),
}

impl From<&str> for Finding {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<u64> for Finding {
    fn from(number: u64) -> Self {
        Self::Number(number)
    }
}

impl Findings {
    /// Says one thing; again replaces what was said.
    pub fn say(&self, key: &'static str, what: impl Into<Finding>) {
        self.lock().insert(key, what.into());
    }

    /// Takes all that was said.
    pub fn take(&self) -> BTreeMap<&'static str, Finding> {
        std::mem::take(&mut self.lock())
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<&'static str, Finding>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The values of secrets.
pub trait Secrets: Send + Sync {
    /// The value of a secret of that kind; `NotFound` names it, `InvalidArgument` says that it is of another,
    /// `AuthenticationFailed` when it cannot be unsealed.
    fn value(&self, secret: &SecretRef, kind: SecretKind) -> Result<SecretValue>;
}

/// What the creators of volumes declared, kept across restarts.
pub trait Records: Send + Sync {
    /// What was declared of this volume, if anything was.
    fn declared(&self, pool: Uuid, name: &VolumeName) -> Option<Declaration>;
    /// What was declared last of a file of this inode number, under whatever name.
    fn declared_of_inode(&self, pool: Uuid, inode: u64) -> Option<Declaration>;
    /// Whether what was declared of this volume, if anything was, cannot be read. What its content
    /// says of itself must then not be believed.
    fn in_doubt(&self, pool: Uuid, name: &VolumeName) -> bool;
    /// Declares; durable when it returns.
    fn declare(&self, pool: Uuid, name: &VolumeName, declaration: &Declaration) -> Result<()>;
    /// Forgets what was declared, if anything was.
    fn forget(&self, pool: Uuid, name: &VolumeName) -> Result<()>;
}

/// Steps that change storage, each recorded with its undo before it is taken.
pub trait Journal: Send + Sync {
    /// Records how to undo the next step; durable when it returns. When the operation fails, is
    /// cancelled or dies with the daemon, the recorded steps are undone, last first.
    fn record(&self, undo: &Undo) -> Result<()>;
}

/// The volumes of all pools, for the in-use rule and for backing stores.
pub trait KnownVolumes: Send + Sync {
    /// Names ("volume B in pool P") a volume whose backing file is `path`.
    fn overlay_of(&self, path: &str) -> Option<String>;
    /// The volumes of a pool.
    fn of_pool(&self, pool: Uuid) -> Vec<Arc<Volume>>;
    /// The volume that has this path, if a pool has it.
    fn by_path(&self, path: &str) -> Option<Arc<Volume>>;
    /// The file or device of the volume that has this path, where this host can open it.
    fn file_of(&self, path: &str) -> Option<PathBuf>;
}
