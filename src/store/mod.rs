//! What poold keeps on disk: definitions and autostart links (`etc/poold`), declarations and the
//! job journal (`var/lib/poold`), run-time state (`run/poold`); all below one root.
//!
//! Every write is a temporary file, synced, renamed, its directory synced. A file that cannot be
//! read is a [`Problem`], never a failure of the whole. All calls block.

use crate::model::{Declaration, PoolDef, PoolName, Result, Uuid, VolumeName};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// The files of one poold.
#[derive(Debug)]
pub struct Store {}

/// A file that could not be read and was left alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Which file.
    pub path: PathBuf,
    /// What is wrong with it.
    pub message: String,
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

#[allow(unused_variables)]
impl Store {
    /// The store below `root` (`/` for the system's), its directories made as needed.
    pub fn open(root: &Path) -> Result<Self> {
        todo!()
    }

    /// `run/poold` below the root.
    pub fn run_dir(&self) -> &Path {
        todo!()
    }

    /// All definitions that can be read, and the files that cannot.
    pub fn pools(&self) -> (Vec<StoredPool>, Vec<Problem>) {
        todo!()
    }

    /// Writes a definition.
    pub fn save_pool(&self, def: &PoolDef) -> Result<()> {
        todo!()
    }

    /// Removes a definition and its autostart link.
    pub fn remove_pool(&self, name: &PoolName) -> Result<()> {
        todo!()
    }

    /// Makes or removes the autostart link.
    pub fn set_autostart(&self, name: &PoolName, autostart: bool) -> Result<()> {
        todo!()
    }

    /// What is remembered since boot, and the files that cannot be read.
    pub fn run_states(&self) -> (Vec<RunState>, Vec<Problem>) {
        todo!()
    }

    /// Remembers a pool until the next boot.
    pub fn save_run_state(&self, state: &RunState) -> Result<()> {
        todo!()
    }

    /// Forgets it.
    pub fn remove_run_state(&self, pool: Uuid) -> Result<()> {
        todo!()
    }

    /// Whether autostart was done since boot.
    pub fn autostart_done(&self) -> bool {
        todo!()
    }

    /// Says that autostart was done.
    pub fn mark_autostart_done(&self) -> Result<()> {
        todo!()
    }

    /// A job number not given since boot; numbers are taken from disk in blocks.
    pub fn next_job_number(&self) -> Result<u64> {
        todo!()
    }

    /// Journals of jobs that did not end, by job number, and the files that cannot be read.
    pub fn journals(&self) -> (Vec<(u64, JournalEntry)>, Vec<Problem>) {
        todo!()
    }

    /// Appends an undo step to a job's journal; durable when it returns.
    pub fn journal_step(&self, job: u64, pool: Uuid, step: &serde_json::Value) -> Result<()> {
        todo!()
    }

    /// Removes a job's journal, if it has one.
    pub fn end_journal(&self, job: u64) -> Result<()> {
        todo!()
    }

    /// What was declared of a volume.
    pub fn declared(&self, pool: Uuid, volume: &VolumeName) -> Option<Declaration> {
        todo!()
    }

    /// Declares; durable when it returns.
    pub fn declare(&self, pool: Uuid, volume: &VolumeName, what: &Declaration) -> Result<()> {
        todo!()
    }

    /// Forgets what was declared of a volume.
    pub fn forget(&self, pool: Uuid, volume: &VolumeName) -> Result<()> {
        todo!()
    }

    /// Forgets all of a pool's declarations.
    pub fn forget_pool(&self, pool: Uuid) -> Result<()> {
        todo!()
    }
}
