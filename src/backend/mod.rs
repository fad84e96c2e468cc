//! The types of pool: what each can do and how, as blocking code on one trait.
//!
//! Called by `engine` on worker threads; uses `image`, `host` and `model`.

mod access;
mod active;
mod block_volumes;
mod context;
mod device;
mod dir;
mod disk;
mod fs;
mod gluster;
mod image_directory;
mod images;
mod iscsi;
mod iscsi_direct;
mod logical;
mod luns;
mod mount;
mod mpath;
mod netfs;
mod options;
mod rbd;
mod scsi;
mod sheepdog;
mod target;
#[cfg(test)]
mod tests;
mod transfer;
mod undo;
mod volume_io;
mod vstorage;
mod wipe;
mod zfs;

use crate::host::DeviceEvent;
use crate::model::{
    Error, ErrorKind, FreeExtent, PoolDef, PoolType, Result, Source, Usage, Uuid, Volume,
    VolumeDef, VolumeName,
};
pub use active::{Activation, ActivePool, Mounted};
pub use context::{
    Finding, Findings, Journal, KnownVolumes, OpContext, Overtime, Progress, Records, Secrets,
};
pub use disk::NewPartition;
pub use options::{
    BuildMode, DeleteOptions, Preallocation, ResizeOptions, StopOptions, WipeOptions,
};
pub use rbd::Cluster as RbdCluster;
pub use sheepdog::SheepdogNode;
use std::path::Path;
use std::sync::Arc;
pub use transfer::{Peer, TransferOptions, download, upload};
pub use undo::Undo;
pub use volume_io::{VolumeAccess, VolumeIo};

/// Something that a type of pool can do; the words are the bus's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(missing_docs)]
pub enum Operation {
    Build,
    Start,
    Stop,
    Delete,
    Refresh,
    FindSources,
    CreateVolume,
    CloneVolume,
    DeleteVolume,
    DeleteSnapshots,
    ResizeVolume,
    WipeVolume,
    OpenVolume,
}

impl Operation {
    /// All operations.
    pub const ALL: [Operation; 13] = [
        Self::Build,
        Self::Start,
        Self::Stop,
        Self::Delete,
        Self::Refresh,
        Self::FindSources,
        Self::CreateVolume,
        Self::CloneVolume,
        Self::DeleteVolume,
        Self::DeleteSnapshots,
        Self::ResizeVolume,
        Self::WipeVolume,
        Self::OpenVolume,
    ];

    /// The word on the bus.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Build => "build",
            Self::Start => "start",
            Self::Stop => "stop",
            Self::Delete => "delete",
            Self::Refresh => "refresh",
            Self::FindSources => "find-sources",
            Self::CreateVolume => "create-volume",
            Self::CloneVolume => "clone-volume",
            Self::DeleteVolume => "delete-volume",
            Self::DeleteSnapshots => "delete-snapshots",
            Self::ResizeVolume => "resize-volume",
            Self::WipeVolume => "wipe-volume",
            Self::OpenVolume => "open-volume",
        }
    }
}

/// What a backend says of itself.
#[derive(Debug)]
pub struct BackendInfo {
    /// The type it serves.
    pub pool_type: PoolType,
    /// Programs without which it cannot work.
    pub tools: &'static [&'static str],
    /// What it can do.
    pub operations: &'static [Operation],
    /// What keeps its volumes up to date.
    pub watch: Watch,
}

/// What keeps a pool's volumes up to date.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Watch {
    /// inotify on the target directory.
    Directory,
    /// Events of devices that concern it.
    Devices,
    /// The same, and a timer: nothing tells that the session that devices come by has ended.
    Sessions,
    /// Nothing: a timer.
    Timer,
}

impl Watch {
    /// Whether events of devices have it read again.
    pub fn is_of_devices(self) -> bool {
        matches!(self, Self::Devices | Self::Sessions)
    }
}

/// What a refresh found.
#[derive(Debug, Default)]
pub struct Listing {
    /// Room.
    pub usage: Usage,
    /// Volumes, in any order.
    pub volumes: Vec<Volume>,
    /// Entries that are no volumes because they could not be read or named.
    pub skipped: u32,
    /// What is free of a partitioned disk.
    pub free_extents: Vec<FreeExtent>,
}

/// What a new volume is copied from.
pub struct CloneSource {
    /// The pool that it is in.
    pub pool: Uuid,
    /// The volume.
    pub volume: Arc<Volume>,
    /// Its content, open for reading; its image lock, where it has one, says that it is read.
    pub io: VolumeIo,
}

/// A type of pool. Every method but `info` may block; unsupported ones answer `NotSupported`.
pub trait Backend: Send + Sync {
    /// What it says of itself.
    fn info(&self) -> &'static BackendInfo;

    /// Programs that some of its formats need beyond [`BackendInfo::tools`].
    fn format_tools(&self) -> &'static [&'static str] {
        &[]
    }

    /// Refuses a definition that this type could never start or that would harm the host
    /// (system directories, bad options). No I/O; called when defining and before each use.
    fn check_definition(&self, _pool: &PoolDef) -> Result<()> {
        Ok(())
    }

    /// Whether what happened to a device may have changed a pool of this definition, or brought what
    /// it waits for. No I/O; called for every event of a device, active or not.
    fn concerned(&self, pool: &PoolDef, event: &DeviceEvent) -> bool {
        is_source(pool, event)
    }

    /// What pools could be made from.
    fn find_sources(&self, _spec: &Source, _ctx: &OpContext) -> Result<Vec<Source>> {
        Err(unsupported(self.info(), Operation::FindSources))
    }

    /// Makes the storage.
    fn build(&self, _pool: &PoolDef, _mode: BuildMode, _ctx: &OpContext) -> Result<()> {
        Err(unsupported(self.info(), Operation::Build))
    }

    /// Makes the storage usable, or adopts it when it is; `NotBuilt` when there is none.
    fn start(&self, _pool: &PoolDef, _ctx: &OpContext) -> Result<Activation> {
        Err(unsupported(self.info(), Operation::Start))
    }

    /// Undoes a start.
    fn stop(&self, _pool: &ActivePool, _options: StopOptions, _ctx: &OpContext) -> Result<()> {
        Err(unsupported(self.info(), Operation::Stop))
    }

    /// Destroys the storage of a pool that is not active; `with_volumes`: also what is in it.
    fn delete(&self, _pool: &PoolDef, _with_volumes: bool, _ctx: &OpContext) -> Result<()> {
        Err(unsupported(self.info(), Operation::Delete))
    }

    /// Reads usage and all volumes.
    fn refresh(&self, _pool: &ActivePool, _ctx: &OpContext) -> Result<Listing> {
        Err(unsupported(self.info(), Operation::Refresh))
    }

    /// Reads room alone.
    fn usage(&self, _pool: &ActivePool, _ctx: &OpContext) -> Result<Usage> {
        Err(unsupported(self.info(), Operation::Refresh))
    }

    /// What is wrong with an active pool that serves all the same: its file system became read-only,
    /// for one. Published as its last error.
    fn condition(&self, _pool: &ActivePool, _ctx: &OpContext) -> Result<()> {
        Ok(())
    }

    /// Tries to get back what is missing of an active pool, all of it or the part that
    /// [`condition`](Self::condition) tells of. Called with the pauses of a retry while something is, and
    /// cancelled when anything else is to be done with the pool.
    fn complete(&self, _pool: &ActivePool, _ctx: &OpContext) -> Result<()> {
        Ok(())
    }

    /// Reads one volume; `None` when it is not there or is no volume.
    fn refresh_volume(
        &self,
        _pool: &ActivePool,
        _name: &VolumeName,
        _ctx: &OpContext,
    ) -> Result<Option<Volume>> {
        Err(unsupported(self.info(), Operation::Refresh))
    }

    /// Creates a volume, whole or not at all, and reads it.
    fn create_volume(
        &self,
        _pool: &ActivePool,
        _def: &VolumeDef,
        _preallocation: Preallocation,
        _ctx: &OpContext,
    ) -> Result<Volume> {
        Err(unsupported(self.info(), Operation::CreateVolume))
    }

    /// Deletes a volume; refuses one in use unless forced. With snapshots, which go only when this is
    /// asked for: all of it or, when something stands against that, nothing.
    fn delete_volume(
        &self,
        _pool: &ActivePool,
        _volume: &Volume,
        _options: DeleteOptions,
        _ctx: &OpContext,
    ) -> Result<()> {
        Err(unsupported(self.info(), Operation::DeleteVolume))
    }

    /// Changes a volume's capacity to `capacity` bytes and reads it.
    fn resize_volume(
        &self,
        _pool: &ActivePool,
        _volume: &Volume,
        _capacity: u64,
        _options: ResizeOptions,
        _ctx: &OpContext,
    ) -> Result<Volume> {
        Err(unsupported(self.info(), Operation::ResizeVolume))
    }

    /// Opens a volume's content. Nobody deletes, moves or replaces it under the returned handle;
    /// for writing it is refused (`Busy`) while it is in use, and then taken.
    fn open_volume(
        &self,
        _pool: &ActivePool,
        _volume: &Volume,
        _access: VolumeAccess,
        _ctx: &OpContext,
    ) -> Result<VolumeIo> {
        Err(unsupported(self.info(), Operation::OpenVolume))
    }

    /// Creates a volume that shares the content of another one of its pool, whole or not at all, and
    /// reads it; none where that takes opening the other one, which a clone does.
    fn share_volume(
        &self,
        _pool: &ActivePool,
        _def: &VolumeDef,
        _source: &Volume,
        _preallocation: Preallocation,
        _ctx: &OpContext,
    ) -> Result<Option<Volume>> {
        Ok(None)
    }

    /// Makes what describes a volume elsewhere fit its content, which was written by an upload.
    fn volume_written(&self, _pool: &ActivePool, _volume: &Volume, _ctx: &OpContext) -> Result<()> {
        Ok(())
    }

    /// Creates a volume with another one's content, whole or not at all, and reads it. The source
    /// may be in another pool; what `def` leaves open is as in the source. Never a difference to
    /// the source: that is `create_volume` with a backing store.
    fn clone_volume(
        &self,
        _pool: &ActivePool,
        _def: &VolumeDef,
        _source: &CloneSource,
        _preallocation: Preallocation,
        _ctx: &OpContext,
    ) -> Result<Volume> {
        Err(unsupported(self.info(), Operation::CloneVolume))
    }

    /// Overwrites a volume's content and reads it; an image of a format that can be empty is an
    /// empty one afterwards. Says what it did in the context's findings.
    fn wipe_volume(
        &self,
        _pool: &ActivePool,
        _volume: &Volume,
        _options: WipeOptions,
        _ctx: &OpContext,
    ) -> Result<Volume> {
        Err(unsupported(self.info(), Operation::WipeVolume))
    }

    /// Removes what a daemon that died left half-made in an active pool. Called before its first
    /// reading.
    fn sweep(&self, _pool: &ActivePool, _ctx: &OpContext) -> Result<()> {
        Ok(())
    }
}

/// Whether an event is about one of the devices that a pool is made from, by any of its names.
fn is_source(pool: &PoolDef, event: &DeviceEvent) -> bool {
    let local = pool.pool_type.info().local_devices;
    local && pool.source.devices.iter().any(|device| event.is_named(Path::new(&device.path)))
}

/// All backends, one for each type of pool.
pub fn all() -> Vec<Arc<dyn Backend>> {
    vec![
        Arc::new(dir::Dir),
        Arc::new(disk::Disk),
        Arc::new(fs::Fs),
        Arc::new(gluster::Gluster),
        Arc::new(logical::Logical::default()),
        Arc::new(luns::Luns(scsi::Scsi::default())),
        Arc::new(luns::Luns(iscsi::Iscsi::default())),
        Arc::new(iscsi_direct::IscsiDirect),
        Arc::new(luns::Luns(mpath::Mpath)),
        Arc::new(rbd::Rbd::default()),
        Arc::new(sheepdog::Sheepdog),
        Arc::new(zfs::Zfs),
        Arc::new(netfs::NetFs),
        Arc::new(vstorage::Vstorage),
    ]
}

/// The error of reading a pool as a whole. It is inaccessible when that takes too long, and by what else says so
/// for its type.
fn unread(pool: &PoolDef, error: Error, lost: ErrorKind) -> Error {
    let kind = match error.kind() {
        ErrorKind::TimedOut => ErrorKind::Inaccessible,
        kind if kind == lost => ErrorKind::Inaccessible,
        kind => kind,
    };
    Error::new(kind, error.message()).context(format_args!("pool {}", pool.name))
}

/// Why types cannot do what they cannot, where there is more to say than that.
static REASONS: &[(PoolType, &[(Operation, &str)])] = &[(PoolType::Sheepdog, sheepdog::REASONS)];

/// The error of an operation that a type cannot do.
pub fn unsupported(info: &BackendInfo, operation: Operation) -> Error {
    let reasons = REASONS.iter().filter(|(of, _)| *of == info.pool_type);
    let why = reasons.flat_map(|(_, reasons)| *reasons).find(|(of, _)| *of == operation);
    let why = why.map(|(_, why)| format!(": {why}")).unwrap_or_default();
    let what = format!("{} pools do not support {}{why}", info.pool_type, operation.as_str());
    Error::new(ErrorKind::NotSupported, what)
}
