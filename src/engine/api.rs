//! Arguments and answers of the engine's calls.

use crate::backend::{BuildMode, Preallocation};
use crate::model::PoolType;
use std::time::Duration;

/// Times and limits of an engine.
#[derive(Debug, Clone)]
pub struct EngineOptions {
    /// Longest refresh.
    pub refresh_timeout: Duration,
    /// Longest start.
    pub start_timeout: Duration,
    /// When a stop, forced or not, has answered; a cancelled job has half of it to roll back.
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
    /// Whether values of secrets are sealed with a key of this host, where it can.
    pub seal_secrets: bool,
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
            seal_secrets: false,
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
    /// The same of those that only some of its formats need.
    pub missing_format_tools: Vec<String>,
    /// What it can do, in the bus's words.
    pub operations: Vec<&'static str>,
}
