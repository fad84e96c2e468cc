//! Volume groups: made, started, stopped and destroyed.

use super::find::{self, Located, group_name};
use super::lvm::Lvm;
use super::report::{self, Group, LogicalVolume};
use super::undo;
use crate::backend::device::check_buildable;
use crate::backend::{ActivePool, BuildMode, OpContext, StopOptions, Undo};
use crate::host::{BlockDevice, Command, files};
use crate::model::{Error, ErrorKind, PoolDef, Result, Usage, VolumeName};
use std::path::{Path, PathBuf};

/// How much of each end of a device is overwritten when what is on it is to be destroyed.
const ENDS: u64 = 1 << 20;

/// A volume group that can be worked on: its devices, and what was in it a moment ago.
pub(super) struct Opened<'a> {
    pub(super) pool: &'a PoolDef,
    pub(super) ctx: &'a OpContext,
    pub(super) devices: Vec<String>,
    pub(super) group: Group,
}

impl<'a> Opened<'a> {
    /// The pool's group on devices that are known to have it; none when they have not.
    pub(super) fn on(
        pool: &'a PoolDef,
        devices: Vec<String>,
        ctx: &'a OpContext,
    ) -> Result<Option<Self>> {
        check_alive(pool, &devices)?;
        let name = group_name(pool);
        let lvm = Lvm { host: &*ctx.host, limits: &ctx.limits, devices: &devices };
        let report = lvm
            .report("fullreport", &[report::GROUP, &[name]].concat())
            .map_err(|error| of(pool, error))?;
        let group = report::group(&report, name).map_err(|error| of(pool, error))?;
        Ok(group.map(|group| Self { pool, ctx, devices, group }))
    }

    /// LVM, on the group's devices.
    pub(super) fn lvm(&self) -> Lvm<'_> {
        Lvm { host: &*self.ctx.host, limits: &self.ctx.limits, devices: &self.devices }
    }

    /// Whether all of it is there, and nothing keeps it from being used.
    pub(super) fn usable(&self) -> bool {
        let standing = &self.group.standing;
        let ours = !standing.exported() && !standing.shared() && !standing.partial();
        ours && self.group.missing.is_empty()
    }

    /// A volume of it, as LVM's commands take it.
    pub(super) fn named(&self, volume: &str) -> String {
        format!("{}/{volume}", self.group.name)
    }

    /// Its path, which it has while it is active.
    pub(super) fn path(&self, volume: &str) -> PathBuf {
        Path::new("/dev").join(&self.group.name).join(volume)
    }

    /// The device of a volume of it, if it is that volume's.
    pub(super) fn device(&self, volume: &LogicalVolume) -> Option<BlockDevice> {
        let device = BlockDevice::at(&self.path(&volume.name)).ok()?;
        let plain = |uuid: &str| uuid.replace('-', "");
        let uuid = format!("LVM-{}{}", plain(&self.group.uuid), plain(&volume.uuid));
        device.mapped().is_some_and(|(_, own)| own == uuid).then_some(device)
    }

    /// The first volume that somebody uses, and who.
    fn user(&self) -> Result<Option<(&LogicalVolume, String)>> {
        for volume in self.group.volumes.iter().filter(|volume| volume.active) {
            let user = self.device(volume).map(|device| device.user()).transpose()?.flatten();
            if let Some(user) = user {
                return Ok(Some((volume, user)));
            }
        }
        Ok(None)
    }

    /// Gives all volumes their devices; what was active already makes the group adopted, and it is
    /// left as it is.
    pub(super) fn start(&self) -> Result<bool> {
        if self.group.volumes.iter().any(|volume| volume.active) {
            return Ok(true);
        }
        let (pool, name) = (self.pool, &self.group.name);
        let group = self.group.uuid.clone();
        self.ctx.journal.record(&Undo::DeactivateVolumeGroup { group })?;
        self.lvm().load(self.group.targets.iter().copied());
        // Also snapshots that are to be passed over otherwise.
        let args = ["--yes", "--activate", "y", "--ignoreactivationskip", name];
        self.lvm().run("vgchange", &args).map(|_| false).map_err(|error| of(pool, error))
    }

    /// Takes the devices of all volumes away; with `force`, of those that nobody uses.
    pub(super) fn stop(&self, options: StopOptions) -> Result<()> {
        if let Some((volume, user)) = self.user()? {
            if !options.force {
                let what = format_args!("volume {}: {user} uses it; end that first", volume.name);
                return Err(error(self.pool, ErrorKind::Busy, what));
            }
            for volume in self.group.volumes.iter().filter(|volume| volume.active) {
                if let Err(error) = self.deactivate(&self.named(&volume.name)) {
                    tracing::warn!(POOLD_POOL = %self.pool.name, "volume {} stays active: {error}", volume.name);
                }
            }
            return Ok(());
        }
        self.deactivate(&self.group.name).map_err(|error| of(self.pool, error))
    }

    fn deactivate(&self, what: &str) -> Result<()> {
        let program = if what.contains('/') { "lvchange" } else { "vgchange" };
        self.lvm().run(program, &["--yes", "--activate", "n", what]).map(drop)
    }

    /// Destroys the group, with all in it if that is wanted, and frees its devices.
    pub(super) fn delete(&self, with_volumes: bool) -> Result<()> {
        let (pool, name) = (self.pool, &self.group.name);
        let volumes = &self.group.volumes;
        if let Some(first) = volumes.first().filter(|_| !with_volumes) {
            let what = format_args!(
                "volume group {name} has {} volumes ({} ...); delete them first, or delete with volumes",
                volumes.len(),
                first.name
            );
            return Err(error(pool, ErrorKind::Busy, what));
        }
        if let Some((volume, user)) = self.user()? {
            let what = format_args!("volume {}: {user} uses it; end that first", volume.name);
            return Err(error(pool, ErrorKind::Busy, what));
        }
        let lvm = self.lvm();
        lvm.run("vgremove", &["--yes", "--force", name]).map_err(|error| of(pool, error))?;
        for volume in volumes.iter().filter_map(|volume| VolumeName::found(&volume.name)) {
            self.ctx.records.forget(pool.uuid, &volume)?;
        }
        let devices = self.devices.iter().map(String::as_str);
        let args: Vec<_> = std::iter::once("--yes").chain(devices).collect();
        lvm.run("pvremove", &args).map(drop).map_err(|error| of(pool, error))
    }
}

/// Takes away the devices of the volumes of a group that is gone, or not whole any more: they would be
/// in the way when it is back, and their data is on devices that are none any more.
pub(super) fn abandon(pool: &ActivePool, options: StopOptions, ctx: &OpContext) -> Result<()> {
    let Some(group) = &pool.activation.source_id else { return Ok(()) };
    let def = &pool.def;
    let prefix = format!("LVM-{}", group.replace('-', ""));
    let is_its =
        |device: &BlockDevice| device.mapped().is_some_and(|(_, uuid)| uuid.starts_with(&prefix));
    let mut before = usize::MAX;
    loop {
        let all = BlockDevice::all().map_err(|e| Error::io("cannot list block devices", &e))?;
        let left: Vec<_> = all.into_iter().filter(is_its).collect();
        if left.len() >= before || left.is_empty() {
            return match left.first() {
                Some(device) if !options.force => {
                    let what = format_args!("device {} cannot be taken away", device.title());
                    Err(error(def, ErrorKind::Busy, what))
                }
                _ => Ok(()),
            };
        }
        before = left.len();
        // Those that others of the group are on come in another round.
        for device in left.iter().filter(|device| !device.holders().iter().any(is_its)) {
            if let Some(user) = device.lasting_user(&ctx.limits)? {
                if options.force {
                    continue;
                }
                let what = format_args!("{user} uses {}; end that first", device.title());
                return Err(error(def, ErrorKind::Busy, what));
            }
            let args = ["remove", "--", &device.title()].map(Into::into).into();
            let dmsetup = Command { program: "dmsetup", args, ..Command::default() };
            if let Err(error) = ctx.host.run(&dmsetup, &ctx.limits) {
                tracing::warn!(POOLD_POOL = %def.name, "{} stays: {error}", device.title());
            }
        }
    }
}

/// Refuses devices that answer nothing.
fn check_alive(pool: &PoolDef, devices: &[String]) -> Result<()> {
    for device in devices {
        let found = BlockDevice::at(Path::new(device)).ok();
        if let Some(why) = found.as_ref().and_then(BlockDevice::why_dead) {
            let group = group_name(pool);
            let what = format_args!("volume group {group}: its device {device} {why}");
            return Err(error(pool, ErrorKind::Inaccessible, what));
        }
    }
    Ok(())
}

/// The room of the pool's group on devices that are known to have it; none when they have not, or
/// it is not whole. Waits for nobody who changes the group.
pub(super) fn room(pool: &PoolDef, devices: &[String], ctx: &OpContext) -> Result<Option<Usage>> {
    check_alive(pool, devices)?;
    let lvm = Lvm { host: &*ctx.host, limits: &ctx.limits, devices };
    let name = group_name(pool);
    let json = lvm.report("vgs", &[report::ROOM, &[name]].concat());
    json.and_then(|json| report::room(&json, name)).map_err(|error| of(pool, error))
}

/// An error of a pool.
pub(super) fn error(pool: &PoolDef, kind: ErrorKind, what: impl std::fmt::Display) -> Error {
    Error::new(kind, format!("pool {}: {what}", pool.name))
}

/// An error that does not say which pool it is of.
pub(super) fn of(pool: &PoolDef, error: Error) -> Error {
    error.context(format_args!("pool {}", pool.name))
}

/// Makes the volume group of a pool of its devices.
pub(super) fn build(pool: &PoolDef, mode: BuildMode, ctx: &OpContext) -> Result<()> {
    let name = group_name(pool);
    if pool.source.devices.is_empty() {
        let what = "it names no devices to make a volume group of; define it with some";
        return Err(error(pool, ErrorKind::InvalidArgument, what));
    }
    refuse_existing(pool, mode, ctx)?;
    let devices: Vec<String> =
        pool.source.devices.iter().map(|device| device.path.clone()).collect();
    let mut numbers = Vec::new();
    for device in &devices {
        check_buildable(pool, Path::new(device), mode, ctx)?;
        numbers.extend(BlockDevice::at(Path::new(device)).ok().map(|found| found.number));
    }
    numbers.sort_unstable();
    numbers.dedup();
    if numbers.len() != devices.len() {
        let what = "two of its devices are the same one; name each once";
        return Err(error(pool, ErrorKind::InvalidArgument, what));
    }
    let lvm = Lvm { host: &*ctx.host, limits: &ctx.limits, devices: &devices };
    for device in &devices {
        ctx.limits.check()?;
        if mode == BuildMode::Overwrite {
            overwrite(pool, device)?;
        }
        let uuid = undo::new_uuid();
        let (path, own) = (PathBuf::from(device), uuid.clone());
        ctx.journal.record(&Undo::RemovePhysicalVolume { device: path, uuid: own })?;
        let args = ["--yes", "--uuid", &uuid, "--norestorefile", device];
        lvm.run("pvcreate", &args).map_err(|error| of(pool, error))?;
    }
    let tag = undo::new_tag();
    ctx.journal.record(&Undo::RemoveVolumeGroup { tag: tag.clone() })?;
    let options = ["--yes", "--setautoactivation", "n", "--addtag", &tag, name];
    let args: Vec<_> = options.into_iter().chain(devices.iter().map(String::as_str)).collect();
    lvm.run("vgcreate", &args).map_err(|error| of(pool, error))?;
    lvm.run("vgchange", &["--deltag", &tag, name]).map(drop).map_err(|error| of(pool, error))
}

/// Refuses to make a group of a name that there is one of, unless it is to be overwritten and is on
/// the pool's devices alone.
fn refuse_existing(pool: &PoolDef, mode: BuildMode, ctx: &OpContext) -> Result<()> {
    let located = find::locate(pool, &*ctx.host, &ctx.limits).map_err(|error| of(pool, error))?;
    let Some(Located { name, devices, .. }) = located else { return Ok(()) };
    let (what, kind) = match mode {
        BuildMode::KeepData => (
            format!("volume group {name} exists already; start the pool to use it"),
            ErrorKind::AlreadyBuilt,
        ),
        BuildMode::Overwrite if devices.len() > pool.source.devices.len() => (
            format!("volume group {name} has other devices too: {}", devices.join(", ")),
            ErrorKind::Conflict,
        ),
        BuildMode::Overwrite => return Ok(()),
    };
    Err(error(pool, kind, what))
}

/// Overwrites both ends of a device, where what is on it begins and is told.
fn overwrite(pool: &PoolDef, path: &str) -> Result<()> {
    let write = || -> std::io::Result<()> {
        let device = BlockDevice::at(Path::new(path))?;
        let size = device.size()?;
        let file = device.open(true, true)?;
        files::write_zeros(&file, 0, size.min(ENDS))?;
        let end = size.saturating_sub(ENDS);
        files::write_zeros(&file, end, size - end)?;
        file.sync_all()
    };
    write().map_err(|error| {
        Error::io(format_args!("pool {}: cannot overwrite {path}", pool.name), &error)
    })
}
