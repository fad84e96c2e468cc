//! What readers see of a pool.

use crate::model::{Error, FreeExtent, PoolDef, Usage, Volume, VolumeKind, VolumeName};
use imbl::OrdMap;
use std::path::Path;
use std::sync::Arc;

/// State of a pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum PoolState {
    Inactive,
    Starting,
    Active,
    Inaccessible,
    Stopping,
}

impl PoolState {
    /// The word on the bus.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Inactive => "inactive",
            Self::Starting => "starting",
            Self::Active => "active",
            Self::Inaccessible => "inaccessible",
            Self::Stopping => "stopping",
        }
    }
}

/// A pool at one moment: immutable, shared, cheap to take.
#[derive(Debug, Clone)]
pub struct PoolSnapshot {
    /// The definition in force.
    pub def: Arc<PoolDef>,
    /// The definition of the next start, when it differs.
    pub next_def: Option<Arc<PoolDef>>,
    /// Whether the definition is kept.
    pub persistent: bool,
    /// Whether it is started at boot.
    pub autostart: bool,
    /// State.
    pub state: PoolState,
    /// Room.
    pub usage: Usage,
    /// Volumes by name, structurally shared with the snapshots before and after.
    pub volumes: OrdMap<VolumeName, Arc<Volume>>,
    /// Jobs that work on volumes, by volume.
    pub volume_jobs: OrdMap<VolumeName, u64>,
    /// Entries that are no volumes.
    pub skipped: u32,
    /// What is free of a partitioned disk.
    pub free_extents: Arc<[FreeExtent]>,
    /// Whether the volumes of an active pool have been read since it became active.
    pub loaded: bool,
    /// Whether the last refresh failed.
    pub stale: bool,
    /// When the volumes were last read in full, µs since the epoch.
    pub last_refresh: u64,
    /// What last went wrong with the pool as a whole.
    pub last_error: Option<Error>,
    /// What an autostart waits for.
    pub waiting_for: String,
    /// When it is tried again, µs since the epoch; 0 for not at all.
    pub next_try: u64,
}

impl PoolSnapshot {
    /// The volume whose path is this.
    pub fn volume_at(&self, path: &str) -> Option<&Arc<Volume>> {
        let is_it = |volume: &&Arc<Volume>| volume.path.as_ref() == path;
        let name = Path::new(path).file_name()?.to_str()?;
        // Files are entries of a directory; the paths of devices need not end in the volumes' names.
        let by_name = self.volumes.get(name).filter(is_it);
        match self.def.pool_type.info().volume_kind {
            VolumeKind::File => by_name,
            _ => by_name.or_else(|| self.volumes.values().find(is_it)),
        }
    }
}
