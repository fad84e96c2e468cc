//! Pools of type zfs: a whole zpool, or one dataset of a zpool that is somebody else's. Their volumes
//! are the zvols directly below.
//!
//! A zpool is imported without mounting anything and without the host's cache, never by force, and
//! exported only when it was imported here. A pool that is a dataset never touches its zpool.

mod tool;
mod volumes;

use super::block_volumes::BlockVolumes;
use super::{
    Activation, ActivePool, Backend, BackendInfo, BuildMode, CloneSource, DeleteOptions, Listing,
    OpContext, Operation, Preallocation, ResizeOptions, StopOptions, VolumeAccess, VolumeIo, Watch,
    WipeOptions,
};
use crate::host::block::names_in;
use crate::host::{BlockDevice, DeviceEvent, Host, Limits, blank};
use crate::model::{
    Error, ErrorKind, PoolDef, PoolType, Result, Usage, Volume, VolumeDef, VolumeName,
};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use tool::{number, rows, run, run_on};
pub(super) use volumes::{Tagged, destroy_tagged};

/// The backend of zfs pools.
#[derive(Debug)]
pub(super) struct Zfs;

static INFO: BackendInfo = BackendInfo {
    pool_type: PoolType::Zfs,
    tools: &["zpool", "zfs"],
    operations: &[
        Operation::Build,
        Operation::Start,
        Operation::Stop,
        Operation::Delete,
        Operation::Refresh,
        Operation::CreateVolume,
        Operation::DeleteVolume,
        Operation::DeleteSnapshots,
        Operation::ResizeVolume,
        Operation::CloneVolume,
        Operation::WipeVolume,
        Operation::OpenVolume,
    ],
    watch: Watch::Devices,
};

/// Which dataset a pool is.
struct Dataset<'a> {
    pool: &'a PoolDef,
    /// `tank` or `tank/images`.
    name: &'a str,
}

impl<'a> Dataset<'a> {
    /// As a definition names it; refuses what ZFS would.
    fn of(pool: &'a PoolDef) -> Result<Self> {
        let name = pool.source.name.as_deref().unwrap_or(pool.name.as_str());
        let is_part = |part: &str| {
            let mut bytes = part.bytes();
            bytes.next().is_some_and(|first| first.is_ascii_alphanumeric())
                && bytes.all(|byte| byte.is_ascii_alphanumeric() || b"-_.: ".contains(&byte))
        };
        if name.len() > 200 || !name.split('/').all(is_part) {
            let what = format!(
                "pool {}: source name {:?} is no name of a zpool or dataset",
                pool.name,
                name.escape_debug().to_string()
            );
            return Err(Error::new(ErrorKind::InvalidArgument, what));
        }
        Ok(Self { pool, name })
    }

    fn zpool(&self) -> &'a str {
        self.name.split('/').next().unwrap_or(self.name)
    }

    fn is_whole(&self) -> bool {
        !self.name.contains('/')
    }

    fn error(&self, kind: ErrorKind, what: impl std::fmt::Display) -> Error {
        Error::new(kind, format!("pool {}: {what}", self.pool.name))
    }

    fn named(&self, error: Error) -> Error {
        error.context(format_args!("pool {}", self.pool.name))
    }

    /// The health of its zpool (ONLINE, DEGRADED ...); none when that is not imported. `Inaccessible`
    /// while a device of it answers nothing, as whatever uses the zpool then waits for that.
    fn health(&self, ctx: &OpContext) -> Result<Option<String>> {
        let args = ["list", "-H", "-v", "-P", "-o", "name,health", self.zpool()];
        let text = match run("zpool", args, ctx) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(self.named(error)),
        };
        let mut lines = text.lines();
        let own = lines.next().and_then(|line| line.strip_prefix(self.zpool()));
        let members = lines.filter_map(|line| line.split_whitespace().next());
        let members: Vec<_> = members.filter(|member| member.starts_with("/dev/")).collect();
        for member in &members {
            let device = BlockDevice::at(Path::new(member)).ok();
            if let Some(why) = device.as_ref().and_then(BlockDevice::why_dead) {
                let what = format!("device {member} of zpool {} {why}", self.zpool());
                return Err(self.error(ErrorKind::Inaccessible, what));
            }
        }
        // ZFS may say ONLINE for long, and whatever writes then waits; a loss that it can make up for is its affair.
        if let Some(gone) = members.first()
            && members.iter().all(|member| !Path::new(member).exists())
        {
            let what = format!(
                "device {gone} of zpool {} is gone, and none is left; bring it back, and see zpool status",
                self.zpool()
            );
            return Err(self.error(ErrorKind::Inaccessible, what));
        }
        Ok(own.map(|health| health.trim().to_owned()))
    }

    /// Refuses a zpool that cannot be worked with.
    fn check_health(&self, health: &str) -> Result<()> {
        match health {
            "ONLINE" | "DEGRADED" => Ok(()),
            bad => {
                let what = format!(
                    "zpool {} is {bad}; bring its devices back, and see zpool status",
                    self.zpool()
                );
                Err(self.error(ErrorKind::Inaccessible, what))
            }
        }
    }

    /// Refuses, before anything is asked of it that would wait, a zpool that does not work.
    fn check_works(&self, ctx: &OpContext) -> Result<()> {
        match self.health(ctx)? {
            Some(health) => self.check_health(&health),
            None => {
                let what = format!("zpool {} is not imported any more", self.zpool());
                Err(self.error(ErrorKind::Inaccessible, what))
            }
        }
    }

    fn exists(&self, ctx: &OpContext) -> Result<bool> {
        match run("zfs", ["list", "-H", "-o", "name", self.name], ctx) {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
            Err(error) => Err(self.named(error)),
        }
    }

    /// Imports its zpool, with nothing mounted and nothing written into the host's cache.
    fn import(&self, ctx: &OpContext) -> Result<()> {
        let mut args: Vec<OsString> =
            ["import", "-N", "-o", "cachefile=none"].map(Into::into).into();
        for device in &self.pool.source.devices {
            args.extend(
                members(&device.path).into_iter().flat_map(|path| ["-d".into(), path.into()]),
            );
        }
        args.push(self.zpool().into());
        match run("zpool", args, ctx) {
            Ok(_) => Ok(()),
            Err(error) if error.kind() == ErrorKind::NotFound => {
                let missing = self.missing_device();
                let kind =
                    if missing.is_some() { ErrorKind::Inaccessible } else { ErrorKind::NotBuilt };
                let what = match missing {
                    Some(device) => format!("device {device} is not there"),
                    None => format!("there is no zpool {}; build the pool first", self.zpool()),
                };
                Err(self.error(kind, what))
            }
            Err(error) => Err(self.named(error)),
        }
    }

    fn missing_device(&self) -> Option<&'a str> {
        let mut paths = self.pool.source.devices.iter().map(|device| device.path.as_str());
        paths.find(|path| !Path::new(path).exists())
    }

    fn export(&self, ctx: &OpContext) -> Result<()> {
        run("zpool", ["export", self.zpool()], ctx).map(drop).map_err(|error| self.named(error))
    }

    /// Everything below it (datasets, zvols, snapshots).
    fn children(&self, ctx: &OpContext) -> Result<Vec<String>> {
        let args = ["list", "-H", "-r", "-t", "all", "-o", "name", self.name];
        let list = run("zfs", args, ctx).map_err(|error| self.named(error))?;
        Ok(list.lines().filter(|name| *name != self.name).map(str::to_owned).collect())
    }
}

impl Backend for Zfs {
    fn info(&self) -> &'static BackendInfo {
        &INFO
    }

    fn check_definition(&self, pool: &PoolDef) -> Result<()> {
        Dataset::of(pool).map(drop)
    }

    fn concerned(&self, pool: &PoolDef, event: &DeviceEvent) -> bool {
        let Ok(dataset) = Dataset::of(pool) else { return false };
        let below = Path::new("/dev/zvol").join(dataset.name);
        super::is_source(pool, event)
            || event.property("ID_FS_LABEL") == Some(dataset.zpool())
            || event.paths().any(|path| path.starts_with(&below))
            // Of one that is gone udev does not tell its names.
            || event.name().is_some_and(|name| name.starts_with("zd"))
    }

    fn build(&self, pool: &PoolDef, mode: BuildMode, ctx: &OpContext) -> Result<()> {
        let dataset = Dataset::of(pool)?;
        tool::load_module();
        if !dataset.is_whole() {
            return build_dataset(&dataset, ctx);
        }
        if pool.source.devices.is_empty() {
            let what = "a zpool is made of devices; name them in its source";
            return Err(dataset.error(ErrorKind::InvalidArgument, what));
        }
        if dataset.health(ctx)?.is_some() {
            let what = format!("there is a zpool {} already", dataset.zpool());
            return Err(dataset.error(ErrorKind::AlreadyBuilt, what));
        }
        for device in &pool.source.devices {
            let path = Path::new(&device.path);
            blank::check_unused(path, &ctx.limits).map_err(|error| dataset.named(error))?;
            if mode == BuildMode::Overwrite {
                continue;
            }
            let content = blank::content(&*ctx.host, path, &ctx.limits);
            if let Some(what) = content.map_err(|error| dataset.named(error))? {
                let what =
                    format!("device {} {what}; build with overwrite to lose that", device.path);
                return Err(dataset.error(ErrorKind::AlreadyBuilt, what));
            }
        }
        let mut args: Vec<OsString> =
            ["create", "-o", "cachefile=none", "-O", "volmode=dev", "-m", "none"]
                .map(Into::into)
                .into();
        if mode == BuildMode::Overwrite {
            args.push("-f".into());
        }
        args.push(dataset.zpool().into());
        args.extend(pool.source.devices.iter().map(|device| OsString::from(&device.path)));
        run("zpool", args, ctx).map_err(|error| dataset.named(error))?;
        // It is built, not started.
        dataset.export(ctx)
    }

    fn start(&self, pool: &PoolDef, ctx: &OpContext) -> Result<Activation> {
        let dataset = Dataset::of(pool)?;
        tool::load_module();
        let adopted = match dataset.health(ctx)? {
            Some(health) => {
                dataset.check_health(&health)?;
                true
            }
            None if dataset.is_whole() => {
                ctx.journal.record(&super::Undo::ExportZpool(dataset.zpool().to_owned()))?;
                dataset.import(ctx)?;
                false
            }
            None => {
                let what = format!("zpool {} is not imported; import it first", dataset.zpool());
                return Err(dataset.error(ErrorKind::Inaccessible, what));
            }
        };
        if !dataset.exists(ctx)? {
            let what = format!("there is no dataset {}; build the pool first", dataset.name);
            return Err(dataset.error(ErrorKind::NotBuilt, what));
        }
        Ok(Activation { adopted, ..Activation::default() })
    }

    fn stop(&self, pool: &ActivePool, options: StopOptions, ctx: &OpContext) -> Result<()> {
        let dataset = Dataset::of(&pool.def)?;
        let ours = dataset.is_whole() && (!pool.activation.adopted || options.release);
        match dataset.health(ctx)? {
            Some(health) if ours => dataset.check_health(&health)?,
            _ => return Ok(()),
        }
        let blocks = BlockVolumes::new(pool, ctx);
        for volume in volumes::list(pool, ctx)? {
            blocks.check_unused(&volume)?;
        }
        dataset.export(ctx)
    }

    fn delete(&self, pool: &PoolDef, with_volumes: bool, ctx: &OpContext) -> Result<()> {
        let dataset = Dataset::of(pool)?;
        let imported = dataset.health(ctx)?.is_none() && dataset.is_whole();
        if imported {
            dataset.import(ctx)?;
        }
        let deleted = destroy(&dataset, with_volumes, ctx);
        if deleted.is_err() && imported {
            // As it was before; the first error is what matters.
            let _ = dataset.export(ctx);
        }
        deleted
    }

    fn refresh(&self, pool: &ActivePool, ctx: &OpContext) -> Result<Listing> {
        let usage = self.usage(pool, ctx)?;
        Ok(Listing { usage, volumes: volumes::list(pool, ctx)?, ..Listing::default() })
    }

    fn usage(&self, pool: &ActivePool, ctx: &OpContext) -> Result<Usage> {
        let dataset = Dataset::of(&pool.def)?;
        dataset.check_works(ctx)?;
        let args = ["list", "-Hp", "-o", "used,available", dataset.name];
        let text = run("zfs", args, ctx).map_err(|error| dataset.named(error))?;
        match rows::<2>(&text)?.as_slice() {
            [[used, available]] => {
                let (allocation, available) = (number(used)?, number(available)?);
                let capacity = allocation.saturating_add(available);
                Ok(Usage { capacity, allocation, available })
            }
            _ => Err(dataset.error(ErrorKind::ToolFailed, "zfs list did not tell its room")),
        }
    }

    fn refresh_volume(
        &self,
        pool: &ActivePool,
        name: &VolumeName,
        ctx: &OpContext,
    ) -> Result<Option<Volume>> {
        volumes::find(pool, name, ctx)
    }

    fn create_volume(
        &self,
        pool: &ActivePool,
        def: &VolumeDef,
        preallocation: Preallocation,
        ctx: &OpContext,
    ) -> Result<Volume> {
        Dataset::of(&pool.def)?.check_works(ctx)?;
        volumes::create(pool, def, preallocation, ctx)
    }

    fn delete_volume(
        &self,
        pool: &ActivePool,
        volume: &Volume,
        options: DeleteOptions,
        ctx: &OpContext,
    ) -> Result<()> {
        Dataset::of(&pool.def)?.check_works(ctx)?;
        volumes::delete(pool, volume, options, ctx)
    }

    fn resize_volume(
        &self,
        pool: &ActivePool,
        volume: &Volume,
        capacity: u64,
        options: ResizeOptions,
        ctx: &OpContext,
    ) -> Result<Volume> {
        Dataset::of(&pool.def)?.check_works(ctx)?;
        volumes::resize(pool, volume, capacity, options, ctx)
    }

    fn open_volume(
        &self,
        pool: &ActivePool,
        volume: &Volume,
        access: VolumeAccess,
        ctx: &OpContext,
    ) -> Result<VolumeIo> {
        Dataset::of(&pool.def)?.check_works(ctx)?;
        BlockVolumes::new(pool, ctx).open(volume, access)
    }

    fn clone_volume(
        &self,
        pool: &ActivePool,
        def: &VolumeDef,
        source: &CloneSource,
        preallocation: Preallocation,
        ctx: &OpContext,
    ) -> Result<Volume> {
        Dataset::of(&pool.def)?.check_works(ctx)?;
        volumes::clone(pool, def, source, preallocation, ctx)
    }

    fn wipe_volume(
        &self,
        pool: &ActivePool,
        volume: &Volume,
        options: WipeOptions,
        ctx: &OpContext,
    ) -> Result<Volume> {
        Dataset::of(&pool.def)?.check_works(ctx)?;
        BlockVolumes::new(pool, ctx).wipe(volume, options)?;
        volumes::read(pool, &volume.name, ctx)
    }
}

/// Where on a source device ZFS may have put its data: of a whole disk, into a partition.
fn members(device: &str) -> Vec<PathBuf> {
    let path = Path::new(device);
    let Ok(found) = BlockDevice::at(path) else { return vec![path.to_owned()] };
    // By the names of the device's own directory, which are what the zpool keeps.
    let names = path.parent().and_then(|directory| names_in(directory).ok()).unwrap_or_default();
    let partitions = found
        .partitions()
        .into_iter()
        .map(|partition| names.get(&partition.number).cloned().unwrap_or_else(|| partition.node()));
    std::iter::once(path.to_owned()).chain(partitions).collect()
}

/// Exports a zpool that a start imported; one that is not imported is success.
pub(super) fn export_imported(zpool: &str, host: &dyn Host) -> Result<()> {
    match run_on(host, "zpool", ["export", zpool], &Limits::default()) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Makes a dataset for volumes in a zpool that is there.
fn build_dataset(dataset: &Dataset<'_>, ctx: &OpContext) -> Result<()> {
    if dataset.health(ctx)?.is_none() {
        let what = format!("zpool {} is not imported; import it first", dataset.zpool());
        return Err(dataset.error(ErrorKind::Inaccessible, what));
    }
    let mut args = vec!["create", "-o", "volmode=dev", "-o", "canmount=off"];
    args.extend(["-o", "mountpoint=none", dataset.name]);
    run("zfs", args, ctx).map(drop).map_err(|error| match error.kind() {
        ErrorKind::Exists => {
            let what = format!("there is a dataset {} already", dataset.name);
            dataset.error(ErrorKind::AlreadyBuilt, what)
        }
        _ => dataset.named(error),
    })
}

fn destroy(dataset: &Dataset<'_>, with_volumes: bool, ctx: &OpContext) -> Result<()> {
    let children = dataset.children(ctx)?;
    if let (Some(child), false) = (children.first(), with_volumes) {
        let what = format!(
            "it holds {} and {} more; delete them, or say volumes",
            child,
            children.len() - 1
        );
        return Err(dataset.error(ErrorKind::Busy, what));
    }
    let done = match (dataset.is_whole(), with_volumes) {
        (true, _) => run("zpool", ["destroy", dataset.name], ctx),
        (false, true) => run("zfs", ["destroy", "-r", dataset.name], ctx),
        (false, false) => run("zfs", ["destroy", dataset.name], ctx),
    };
    done.map(drop).map_err(|error| dataset.named(error))
}
