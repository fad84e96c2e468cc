//! An active pool: its definition, and what its start found.

use super::target;
use crate::model::{Error, ErrorKind, PoolDef, Result, Volume, VolumeKind, VolumeName};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What a start found or made; kept in `/run` while the pool is active.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Activation {
    /// Whether the storage was in place already, so that a stop leaves it.
    pub adopted: bool,
    /// Identity of the mount that the target is on (statx STX_MNT_ID), for types with a target
    /// directory. On another one, the directory must prove by its birth that it is the same.
    pub mount_id: Option<u64>,
    /// That mount, for types that mount it.
    #[serde(default)]
    pub mount: Option<Mounted>,
    /// The directory on this host that has the volumes' files, for types whose target it is not.
    #[serde(default)]
    pub files: Option<String>,
    /// Device and inode of the directory of volumes; operations on another one are `Inaccessible`.
    pub directory: Option<(u64, u64)>,
    /// When that was created (seconds, nanoseconds), where the file system knows it: numbers of
    /// devices and inodes are used again.
    #[serde(default)]
    pub born: Option<(i64, u32)>,
    /// What tells the storage from other storage of the same name: the id of a disk's partition
    /// table, the uuid of a volume group; for types that have such.
    #[serde(default)]
    pub source_id: Option<String>,
}

/// What a start mounted or found mounted, to be told from what others mount.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mounted {
    /// Where, links resolved.
    pub point: PathBuf,
    /// What, as the mount table has it.
    pub source: String,
    /// Major and minor number of the file system's device.
    pub device: (u32, u32),
}

/// An active pool, as operations on its content take it.
#[derive(Debug, Clone)]
pub struct ActivePool {
    /// Its definition.
    pub def: Arc<PoolDef>,
    /// What its start found.
    pub activation: Activation,
}

impl ActivePool {
    /// The directory on this host that has its volumes' files.
    pub(crate) fn directory(&self) -> Result<&str> {
        match &self.activation.files {
            Some(files) => Ok(files),
            None => target::target_path(&self.def),
        }
    }

    /// The file or device of a volume of it, where this host can open it.
    pub(crate) fn file_of(&self, volume: &Volume) -> Option<PathBuf> {
        match (volume.kind, &self.activation.files) {
            (VolumeKind::File | VolumeKind::Block, None) => Some(volume.path.as_ref().into()),
            (VolumeKind::Network, Some(files)) => Some(Path::new(files).join(volume.name.as_str())),
            _ => None,
        }
    }

    /// An error of one volume of it.
    pub(crate) fn volume_error(
        &self,
        kind: ErrorKind,
        name: &VolumeName,
        what: impl std::fmt::Display,
    ) -> Error {
        Error::new(kind, format!("volume {name} in pool {}: {what}", self.def.name))
    }

    /// An error of one volume of it, the operating system's.
    pub(crate) fn volume_failed(
        &self,
        name: &VolumeName,
        what: &str,
        error: &std::io::Error,
    ) -> Error {
        Error::io(format_args!("volume {name} in pool {}: {what}", self.def.name), error)
    }

    /// The error of a volume whose storage, `what`, has another size than when it was read: it may be
    /// something else.
    pub(crate) fn other_size(
        &self,
        volume: &Volume,
        what: impl std::fmt::Display,
        size: u64,
    ) -> Error {
        let had = volume.physical;
        let what = format!(
            "{what} has {size} bytes and not {had} as it had; refresh the pool and look at it again"
        );
        self.volume_error(ErrorKind::Conflict, &volume.name, what)
    }

    /// An error that does not say which volume of it it is of.
    pub(crate) fn of_volume(&self, name: &VolumeName, error: Error) -> Error {
        error.context(format_args!("volume {name} in pool {}", self.def.name))
    }
}
