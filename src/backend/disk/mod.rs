//! Pools of type disk: a disk whose partitions are volumes.
//!
//! The table is read and changed here, a partition at a time (`image::partitions`), and the kernel
//! is told of that partition alone: parted and its like tell it of all of them, and wait for
//! all devices of the host. A new table is parted's work.

mod build;
mod create;
mod delete;
mod drive;
mod list;
mod names;
mod place;
mod resize;
#[cfg(test)]
mod tests;
mod undo;

use super::block_volumes::BlockVolumes;
use super::{
    Activation, ActivePool, Backend, BackendInfo, BuildMode, CloneSource, DeleteOptions, Listing,
    OpContext, Operation, Preallocation, ResizeOptions, StopOptions, VolumeAccess, VolumeIo, Watch,
    WipeOptions,
};
use crate::host::DeviceEvent;
use crate::image::partitions::{Label, Role, Table};
use crate::model::{
    Error, ErrorKind, PoolDef, PoolType, Result, SourceDevice, Usage, Volume, VolumeDef,
    VolumeFormat, VolumeName,
};
use drive::Drive;
use std::path::Path;
pub use undo::NewPartition;

/// The backend of disk pools.
#[derive(Debug)]
pub(super) struct Disk;

static INFO: BackendInfo = BackendInfo {
    pool_type: PoolType::Disk,
    tools: &["parted", "blkid", "wipefs"],
    operations: &[
        Operation::Build,
        Operation::Start,
        Operation::Stop,
        Operation::Delete,
        Operation::Refresh,
        Operation::CreateVolume,
        Operation::CloneVolume,
        Operation::DeleteVolume,
        Operation::ResizeVolume,
        Operation::WipeVolume,
        Operation::OpenVolume,
    ],
    watch: Watch::Devices,
};

/// What the source's format makes of the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Content {
    /// A partition table.
    Table(Label),
    /// A physical volume of LVM, all of it.
    PhysicalVolume,
}

impl Content {
    fn of(pool: &PoolDef) -> Result<Self> {
        match pool.source.format.as_deref() {
            None | Some("unknown") => Ok(Self::Table(Label::Dos)),
            Some("lvm2") => Ok(Self::PhysicalVolume),
            Some(word) => Label::from_name(word).map(Self::Table).ok_or_else(|| {
                let what = format!("pool {}: there is no partition table {word:?}", pool.name);
                Error::new(ErrorKind::InvalidArgument, what)
            }),
        }
    }
}

/// The device of a pool's definition.
fn source(pool: &PoolDef) -> Result<&SourceDevice> {
    let absolute = |device: &&SourceDevice| Path::new(&device.path).is_absolute();
    pool.source.devices.first().filter(absolute).ok_or_else(|| {
        let what = format!("pool {} names no disk; define it with the path of one", pool.name);
        Error::new(ErrorKind::InvalidArgument, what)
    })
}

/// The disk of a pool.
fn drive<'a>(pool: &PoolDef, ctx: &'a OpContext) -> Result<Drive<'a>> {
    let source = source(pool)?;
    let drive = Drive::at(Path::new(&source.path), ctx.host.as_ref(), &ctx.limits);
    let mut drive = drive.map_err(|error| of_pool(pool, error))?;
    drive.part_separator = source.part_separator;
    Ok(drive)
}

fn of_pool(pool: &PoolDef, error: Error) -> Error {
    error.context(format_args!("pool {}", pool.name))
}

/// The table of a pool's disk: `NotBuilt` when it has none, `Conflict` when it is another one than
/// the definition's.
fn table(pool: &PoolDef, drive: &Drive<'_>, label: Label) -> Result<Table> {
    let name = &pool.name;
    let shown = drive.path.display();
    match drive.table().map_err(|error| of_pool(pool, error))? {
        None => Err(Error::new(
            ErrorKind::NotBuilt,
            format!("pool {name}: {shown} has no partition table; build the pool first"),
        )),
        Some(table) if table.label != label => Err(Error::new(
            ErrorKind::Conflict,
            format!(
                "pool {name}: {shown} has a {} partition table and not {label}; define the pool with that format",
                table.label
            ),
        )),
        Some(table) => Ok(table),
    }
}

/// An active pool's disk and table.
struct Opened<'a> {
    pool: &'a ActivePool,
    ctx: &'a OpContext,
    drive: Drive<'a>,
    volumes: BlockVolumes<'a>,
}

impl<'a> Opened<'a> {
    fn new(pool: &'a ActivePool, ctx: &'a OpContext) -> Result<Self> {
        let drive = drive(&pool.def, ctx)?;
        Ok(Self { pool, ctx, drive, volumes: BlockVolumes::new(pool, ctx) })
    }

    /// The table that the pool was started with; without one, or with another, the pool is
    /// `Inaccessible` until it is back.
    fn table(&self) -> Result<Table> {
        let lost = |what: String| Error::new(ErrorKind::Inaccessible, what);
        let pool = &self.pool.def;
        let Content::Table(label) = Content::of(pool)? else {
            let what =
                "its disk is a physical volume without partitions; make a logical pool of it";
            return Err(Error::new(ErrorKind::NotSupported, format!("pool {}: {what}", pool.name)));
        };
        let table = table(pool, &self.drive, label).map_err(|error| match error.kind() {
            ErrorKind::NotBuilt | ErrorKind::Conflict => lost(error.message().to_owned()),
            _ => error,
        })?;
        match &self.pool.activation.source_id {
            Some(id) if table.id().as_ref() != Some(id) => Err(lost(format!(
                "pool {}: {} is another disk, or has another table, than when the pool was started; stop the pool and look at it",
                pool.name,
                self.drive.path.display()
            ))),
            _ => Ok(table),
        }
    }

    /// Refuses what an extended partition cannot do.
    fn check_content(&self, volume: &Volume) -> Result<()> {
        match volume.format {
            VolumeFormat::Extended => Err(self.pool.volume_error(
                ErrorKind::NotSupported,
                &volume.name,
                "an extended partition has no content, only logical partitions in it",
            )),
            _ => Ok(()),
        }
    }
}

impl Backend for Disk {
    fn info(&self) -> &'static BackendInfo {
        &INFO
    }

    fn check_definition(&self, pool: &PoolDef) -> Result<()> {
        source(pool)?;
        Content::of(pool).map(drop)
    }

    /// What happens to partitions of the disk concerns it too.
    fn concerned(&self, pool: &PoolDef, event: &DeviceEvent) -> bool {
        let Ok(source) = source(pool) else { return false };
        let disk = Path::new(&source.path);
        event.paths().any(|path| path == disk || names::is_of(&path, disk))
    }

    fn build(&self, pool: &PoolDef, mode: BuildMode, ctx: &OpContext) -> Result<()> {
        self.check_definition(pool)?;
        build::build(pool, mode, ctx)
    }

    fn start(&self, pool: &PoolDef, ctx: &OpContext) -> Result<Activation> {
        self.check_definition(pool)?;
        build::start(pool, ctx)
    }

    fn stop(&self, _pool: &ActivePool, _options: StopOptions, _ctx: &OpContext) -> Result<()> {
        // Nothing was made usable that was not; who uses a partition goes on.
        Ok(())
    }

    fn delete(&self, pool: &PoolDef, with_volumes: bool, ctx: &OpContext) -> Result<()> {
        self.check_definition(pool)?;
        build::delete(pool, with_volumes, ctx)
    }

    fn refresh(&self, pool: &ActivePool, ctx: &OpContext) -> Result<Listing> {
        Opened::new(pool, ctx)?.list()
    }

    fn usage(&self, pool: &ActivePool, ctx: &OpContext) -> Result<Usage> {
        Ok(Opened::new(pool, ctx)?.list()?.usage)
    }

    fn refresh_volume(
        &self,
        pool: &ActivePool,
        name: &VolumeName,
        ctx: &OpContext,
    ) -> Result<Option<Volume>> {
        let listing = Opened::new(pool, ctx)?.list()?;
        Ok(listing.volumes.into_iter().find(|volume| volume.name == *name))
    }

    fn create_volume(
        &self,
        pool: &ActivePool,
        def: &VolumeDef,
        _preallocation: Preallocation,
        ctx: &OpContext,
    ) -> Result<Volume> {
        Opened::new(pool, ctx)?.create(def, None)
    }

    fn clone_volume(
        &self,
        pool: &ActivePool,
        def: &VolumeDef,
        source: &CloneSource,
        _preallocation: Preallocation,
        ctx: &OpContext,
    ) -> Result<Volume> {
        Opened::new(pool, ctx)?.create(def, Some(source))
    }

    fn delete_volume(
        &self,
        pool: &ActivePool,
        volume: &Volume,
        options: DeleteOptions,
        ctx: &OpContext,
    ) -> Result<()> {
        let force = options.only_force(&INFO)?;
        Opened::new(pool, ctx)?.delete(volume, force)
    }

    fn resize_volume(
        &self,
        pool: &ActivePool,
        volume: &Volume,
        capacity: u64,
        options: ResizeOptions,
        ctx: &OpContext,
    ) -> Result<Volume> {
        Opened::new(pool, ctx)?.resize(volume, capacity, options)
    }

    fn open_volume(
        &self,
        pool: &ActivePool,
        volume: &Volume,
        access: VolumeAccess,
        ctx: &OpContext,
    ) -> Result<VolumeIo> {
        let opened = Opened::new(pool, ctx)?;
        opened.check_content(volume)?;
        opened.volumes.open(volume, access)
    }

    fn wipe_volume(
        &self,
        pool: &ActivePool,
        volume: &Volume,
        options: WipeOptions,
        ctx: &OpContext,
    ) -> Result<Volume> {
        let opened = Opened::new(pool, ctx)?;
        opened.check_content(volume)?;
        opened.volumes.wipe(volume, options)?;
        opened.read_again(&volume.name)
    }

    /// Whoever died may have changed the table and not yet told the kernel.
    fn sweep(&self, pool: &ActivePool, ctx: &OpContext) -> Result<()> {
        if Content::of(&pool.def)? == Content::PhysicalVolume {
            return Ok(());
        }
        let opened = Opened::new(pool, ctx)?;
        let locked = opened.drive.lock()?;
        locked.agree(&opened.table()?)
    }
}
