//! Jobs as others see them.

use super::jobs::Job;
use crate::backend::{Finding, Operation};
use crate::model::{Error, ErrorKind, Result, Uuid, VolumeName};
use std::collections::BTreeMap;
use std::fmt;
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
    VolumeClone,
    VolumeWipe,
    VolumeUpload,
    VolumeDownload,
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
            Self::VolumeClone => "volume-clone",
            Self::VolumeWipe => "volume-wipe",
            Self::VolumeUpload => "volume-upload",
            Self::VolumeDownload => "volume-download",
        }
    }

    /// What a backend must be able to do for it.
    pub(super) fn needs(self) -> Operation {
        match self {
            Self::PoolStart => Operation::Start,
            Self::PoolStop => Operation::Stop,
            Self::PoolBuild => Operation::Build,
            Self::PoolDelete => Operation::Delete,
            Self::PoolRefresh | Self::VolumeRefresh => Operation::Refresh,
            Self::VolumeCreate => Operation::CreateVolume,
            Self::VolumeDelete => Operation::DeleteVolume,
            Self::VolumeResize => Operation::ResizeVolume,
            Self::VolumeClone => Operation::CloneVolume,
            Self::VolumeWipe => Operation::WipeVolume,
            Self::VolumeUpload | Self::VolumeDownload => Operation::OpenVolume,
        }
    }

    /// Whether it can be ended half-way and undone.
    pub(super) fn cancelable(self) -> bool {
        !matches!(self, Self::PoolStop | Self::PoolDelete | Self::VolumeDelete)
    }
}

impl fmt::Display for JobOperation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
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

impl From<Finding> for ResultValue {
    fn from(finding: Finding) -> Self {
        match finding {
            Finding::Text(text) => Self::Text(text),
            Finding::Number(number) => Self::Number(number),
        }
    }
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
    /// The volume that it copies, maybe of another pool.
    pub source: Option<(Uuid, VolumeName)>,
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
pub struct JobHandle(pub(super) Arc<Job>);

impl JobHandle {
    /// Its number.
    pub fn id(&self) -> u64 {
        self.0.id
    }

    /// How it is now.
    pub fn snapshot(&self) -> Arc<JobSnapshot> {
        self.0.snapshot()
    }

    /// Waits for its end; its error if it failed.
    pub async fn wait(&self) -> Result<()> {
        let mut states = self.0.watch();
        loop {
            let now = Arc::clone(&states.borrow_and_update());
            if now.state.ended() {
                return now.error.clone().map_or(Ok(()), Err);
            }
            if states.changed().await.is_err() {
                let gone = format!("job {} went with the daemon", self.id());
                return Err(Error::new(ErrorKind::Failed, gone));
            }
        }
    }

    /// Asks for its end; `NotSupported` when it cannot be cancelled.
    pub fn cancel(&self) -> Result<()> {
        let now = self.snapshot();
        let why = if now.state.ended() {
            "has ended"
        } else if now.cancelable {
            self.0.cancel.cancel();
            return Ok(());
        } else {
            "cannot be cancelled; wait for its end"
        };
        let message = format!("job {} ({}) {why}", self.id(), now.operation);
        Err(Error::new(ErrorKind::NotSupported, message))
    }
}
