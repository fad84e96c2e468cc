//! How operations are to be done.

use super::{BackendInfo, Operation, unsupported};
use crate::model::{Result, WipeAlgorithm};

/// How a build treats what is there.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum BuildMode {
    /// Refuses what may hold data.
    #[default]
    KeepData,
    /// Overwrites it.
    Overwrite,
}

/// Options of a stop.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StopOptions {
    /// Although it is in use or dead.
    pub force: bool,
    /// Release also what was adopted.
    pub release: bool,
}

/// How much of a new volume is allocated at once.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Preallocation {
    /// As the definition's allocation says.
    #[default]
    None,
    /// Only the image's own tables.
    Metadata,
    /// All of it, unwritten.
    Falloc,
    /// All of it, written.
    Full,
}

impl Preallocation {
    /// QEMU's word for it, and the bus's.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Metadata => "metadata",
            Self::Falloc => "falloc",
            Self::Full => "full",
        }
    }
}

/// Options of a resize.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ResizeOptions {
    /// Smaller is meant.
    pub shrink: bool,
    /// Allocate what is added.
    pub allocate: bool,
    /// Although it is in use.
    pub force: bool,
}

/// Options of a volume's deletion.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DeleteOptions {
    /// Although it is in use.
    pub force: bool,
    /// Its snapshots too, which otherwise stand against it.
    pub snapshots: bool,
}

impl DeleteOptions {
    /// Whether force is meant, for types that delete no snapshots: refuses to.
    pub(super) fn only_force(self, info: &BackendInfo) -> Result<bool> {
        match self.snapshots {
            true => Err(unsupported(info, Operation::DeleteSnapshots)),
            false => Ok(self.force),
        }
    }
}

/// Options of a wipe.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct WipeOptions {
    /// What it is overwritten with.
    pub algorithm: WipeAlgorithm,
    /// Overwrite also what is not allocated, which allocates it.
    pub allocate: bool,
    /// Although it is in use, or on storage that keeps old content elsewhere.
    pub force: bool,
}
