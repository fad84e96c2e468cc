//! What poold keeps on disk: definitions and autostart links (`etc/poold`), declarations and the
//! job journal (`var/lib/poold`), run-time state (`run/poold`); all below one root.
//!
//! Every write is a temporary file, synced, renamed, its directory synced; logs are appended to and
//! synced, and a torn last line was never acknowledged. A file that cannot be read is a [`Problem`],
//! never a failure of the whole. All calls block; called by `engine` on worker threads.

mod atomic;
mod declarations;
mod definitions;
mod journal;
mod layout;
mod runtime;
mod secrets;
#[cfg(test)]
mod tests;

use crate::model::{Error, PoolDef, Result, Uuid};
use declarations::Declarations;
use layout::Layout;
use runtime::Numbers;
pub use secrets::KeptValue;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The files of one poold.
#[derive(Debug)]
pub struct Store {
    layout: Layout,
    numbers: Mutex<Numbers>,
    declarations: Declarations,
}

/// A file that could not be read and was left alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Which file.
    pub path: PathBuf,
    /// What is wrong with it.
    pub message: String,
}

impl Problem {
    fn new(path: PathBuf, message: impl Into<String>) -> Self {
        Self { path, message: message.into() }
    }

    fn from_error(path: PathBuf, error: &Error) -> Self {
        Self::new(path, error.message())
    }
}

/// A definition as it is on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredPool {
    /// The definition.
    pub def: PoolDef,
    /// Whether its autostart link exists.
    pub autostart: bool,
}

/// What is remembered of a pool until the next boot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunState {
    /// The definition in force: of an active pool, the one it was started with.
    pub def: PoolDef,
    /// What the backend remembered when it was started; none when it is not active.
    pub activation: Option<serde_json::Value>,
    /// Whether it was stopped by hand, so that autostart leaves it.
    pub stopped_by_hand: bool,
    /// Whether there is no persistent definition.
    pub transient: bool,
}

/// The undo steps of a job that did not end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JournalEntry {
    /// Its pool.
    pub pool: Uuid,
    /// The steps, first first.
    pub steps: Vec<serde_json::Value>,
}

impl Store {
    /// The store below `root` (`/` for the system's), its directories made as needed; what a
    /// daemon that died left half-written is removed.
    pub fn open(root: &Path) -> Result<Self> {
        let layout = Layout::new(root);
        layout.make()?;
        layout.sweep();
        runtime::forget_other_boots(&layout)?;
        Ok(Self {
            numbers: Mutex::new(Numbers::load(&layout)),
            declarations: Declarations::new(&layout.volumes),
            layout,
        })
    }

    /// `run/poold/private` below the root: for root alone.
    pub fn private(&self) -> std::sync::Arc<Path> {
        self.layout.private.as_path().into()
    }

    /// `run/poold/mounts` below the root: for root alone, and kept when poold ends.
    pub fn mounts(&self) -> std::sync::Arc<Path> {
        self.layout.mounts.as_path().into()
    }

    /// `run/poold` below the root.
    pub fn run_dir(&self) -> &Path {
        &self.layout.run
    }
}

/// Locks; what a panic elsewhere left is consistent, since the files are.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
