//! Jobs as others see them.

use crate::model::{Error, Result, Uuid, VolumeName};
use std::collections::BTreeMap;
use std::sync::Arc;

/// What a job does; the words are the bus's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum JobOperation {
    PoolStart,
    PoolStop,
    PoolBuild,
    PoolDelete,
    PoolRefresh,
    VolumeCreate,
    VolumeDelete,
    VolumeResize,
    VolumeRefresh,
}

impl JobOperation {
    /// The word on the bus.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::PoolStart => "pool-start",
            Self::PoolStop => "pool-stop",
            Self::PoolBuild => "pool-build",
            Self::PoolDelete => "pool-delete",
            Self::PoolRefresh => "pool-refresh",
            Self::VolumeCreate => "volume-create",
            Self::VolumeDelete => "volume-delete",
            Self::VolumeResize => "volume-resize",
            Self::VolumeRefresh => "volume-refresh",
        }
    }
}

/// State of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum JobState {
    Queued,
    Running,
    Done,
    Failed,
    Cancelled,
}

impl JobState {
    /// The word on the bus.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }

    /// Whether it is over.
    pub fn ended(self) -> bool {
        matches!(self, Self::Done | Self::Failed | Self::Cancelled)
    }
}

/// A value in a job's result.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum ResultValue {
    Text(String),
    Number(u64),
    Flag(bool),
}

/// A job at one moment.
#[derive(Debug, Clone)]
pub struct JobSnapshot {
    /// Number, never repeated within a boot.
    pub id: u64,
    /// What it does.
    pub operation: JobOperation,
    /// State.
    pub state: JobState,
    /// Bytes done.
    pub bytes: u64,
    /// Bytes to do; 0 when not known.
    pub total: u64,
    /// Bytes a second.
    pub rate: u64,
    /// The pool it works on.
    pub pool: Uuid,
    /// The volume it works on.
    pub volume: Option<VolumeName>,
    /// Who started it.
    pub caller_uid: u32,
    /// When it began to run, µs since the epoch.
    pub started: u64,
    /// When it ended.
    pub ended: u64,
    /// Why it failed or was cancelled.
    pub error: Option<Error>,
    /// What it found or did.
    pub result: BTreeMap<&'static str, ResultValue>,
    /// Whether it can be cancelled.
    pub cancelable: bool,
}

/// A job: to be watched, waited for, cancelled.
#[derive(Debug, Clone)]
pub struct JobHandle {}

impl JobHandle {
    /// Its number.
    pub fn id(&self) -> u64 {
        todo!()
    }

    /// How it is now.
    pub fn snapshot(&self) -> Arc<JobSnapshot> {
        todo!()
    }

    /// Waits for its end; its error if it failed.
    pub async fn wait(&self) -> Result<()> {
        todo!()
    }

    /// Asks for its end; `NotSupported` when it cannot be cancelled.
    pub fn cancel(&self) -> Result<()> {
        todo!()
    }
}
