//! Zvols as volumes.

use super::Dataset;
use super::tool::{number, rows, run, run_on};
use crate::backend::block_volumes::{BlockVolumes, Found, Fresh};
use crate::backend::{
    ActivePool, CloneSource, DeleteOptions, OpContext, Preallocation, ResizeOptions, Undo,
};
use crate::host::{BlockDevice, Host, Limits};
use crate::model::{
    BlockAttributes, Error, ErrorKind, Provisioning, Result, Uuid, Volume, VolumeDef, VolumeFormat,
    VolumeKind, VolumeName,
};
use serde::{Deserialize, Serialize};
use std::path::Path;
use std::time::Duration;

/// The user property that says which job made a dataset or snapshot: only that job takes it back.
const TAG: &str = "org.poold1:made-by";
/// Sizes of zvols are multiples of their blocks, of which this is one for all that ZFS chooses itself.
const BLOCK: u64 = 64 << 10;
/// How long udev may take to make a zvol's name.
const APPEARS: Duration = Duration::from_secs(10);
/// In how many looks after each other it must be there.
const KEPT: u32 = 5;
const COLUMNS: &str = "name,volsize,used,referenced,refreservation";

/// Something that a job makes in a zpool.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tagged {
    /// Its whole name.
    name: String,
    /// What it is tagged with.
    tag: Uuid,
}

impl Tagged {
    /// Records that it is about to be made; the option that says by whom.
    fn record(name: String, ctx: &OpContext) -> Result<String> {
        let tag = Uuid::new_v4();
        ctx.journal.record(&Undo::DestroyZfs(Self { name, tag }))?;
        Ok(format!("{TAG}={tag}"))
    }
}

/// Destroys what a job made; what it never made, or somebody else did, is left.
pub(in crate::backend) fn destroy_tagged(made: &Tagged, host: &dyn Host) -> Result<()> {
    let limits = Limits::default();
    let args = ["get", "-Hp", "-s", "local", "-o", "value", TAG, &made.name];
    let tag = match run_on(host, "zfs", args, &limits) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        answer => answer?,
    };
    if tag.trim() != made.tag.to_string() {
        return Ok(());
    }
    // Of a snapshot with a clone: as soon as that is gone.
    let how: &[&str] = if made.name.contains('@') { &["destroy", "-d"] } else { &["destroy"] };
    run_on(host, "zfs", how.iter().copied().chain([made.name.as_str()]), &limits).map(drop)
}

fn full_name(dataset: &Dataset<'_>, name: &VolumeName) -> String {
    format!("{}/{name}", dataset.name)
}

/// All volumes.
pub(super) fn list(pool: &ActivePool, ctx: &OpContext) -> Result<Vec<Volume>> {
    let dataset = Dataset::of(&pool.def)?;
    let args = ["list", "-Hp", "-t", "volume", "-d", "1", "-o", COLUMNS, dataset.name];
    let text = run("zfs", args, ctx).map_err(|error| dataset.named(error))?;
    let blocks = BlockVolumes::new(pool, ctx);
    let found = rows::<5>(&text)?.into_iter().map(|row| found(&dataset, row));
    let found: Vec<Option<Found>> = found.collect::<Result<_>>()?;
    Ok(found.into_iter().flatten().map(|found| blocks.volume(found)).collect())
}

/// One volume.
pub(super) fn find(
    pool: &ActivePool,
    name: &VolumeName,
    ctx: &OpContext,
) -> Result<Option<Volume>> {
    let dataset = Dataset::of(&pool.def)?;
    let full = full_name(&dataset, name);
    let text = match run("zfs", ["list", "-Hp", "-t", "volume", "-o", COLUMNS, &full], ctx) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(pool.of_volume(name, error)),
    };
    let Some(row) = rows::<5>(&text)?.into_iter().next() else { return Ok(None) };
    Ok(found(&dataset, row)?.map(|found| BlockVolumes::new(pool, ctx).volume(found)))
}

/// A volume that was just made or changed.
pub(super) fn read(pool: &ActivePool, name: &VolumeName, ctx: &OpContext) -> Result<Volume> {
    find(pool, name, ctx)?
        .ok_or_else(|| pool.volume_error(ErrorKind::NotFound, name, "it is gone; refresh the pool"))
}

fn found(dataset: &Dataset<'_>, row: [&str; 5]) -> Result<Option<Found>> {
    let [full, volsize, used, referenced, reserved] = row;
    let below = full.strip_prefix(dataset.name).and_then(|rest| rest.strip_prefix('/'));
    let Some(name) = below.and_then(VolumeName::found) else { return Ok(None) };
    let path = format!("/dev/zvol/{full}");
    let (used, referenced, reserved) = (number(used)?, number(referenced)?, number(reserved)?);
    let capacity = number(volsize)?;
    // What is reserved of a thick one is a little more than its size.
    let provisioning = if reserved >= capacity { Provisioning::Thick } else { Provisioning::Thin };
    Ok(Some(Found {
        name,
        key: None,
        device: BlockDevice::at(Path::new(&path)).ok(),
        path,
        capacity,
        // What is reserved is taken from the pool, used or not.
        allocation: if reserved > 0 { used } else { referenced },
        format: VolumeFormat::Raw,
        extents: Vec::new(),
        attributes: Some(Box::new(BlockAttributes {
            provisioning: Some(provisioning),
            ..BlockAttributes::default()
        })),
    }))
}

/// Creates a volume: thick, or thin where that is said or less is to be allocated than its capacity.
pub(super) fn create(
    pool: &ActivePool,
    def: &VolumeDef,
    how: Preallocation,
    ctx: &OpContext,
) -> Result<Volume> {
    let blocks = BlockVolumes::new(pool, ctx);
    if def.backing.is_some() {
        let what = "a zvol is no difference to another volume; clone that instead";
        return Err(pool.volume_error(ErrorKind::InvalidArgument, &def.name, what));
    }
    let volume = make(pool, def, how, ctx)?;
    blocks.encrypt(def, &volume)?;
    read(pool, &def.name, ctx)
}

/// Makes a zvol and waits for its device.
fn make(pool: &ActivePool, def: &VolumeDef, how: Preallocation, ctx: &OpContext) -> Result<Volume> {
    let blocks = BlockVolumes::new(pool, ctx);
    let name = &def.name;
    blocks.check_new(def)?;
    let refuse = |what| Err(pool.volume_error(ErrorKind::InvalidArgument, name, what));
    let size = blocks.device_size(def)?;
    let Some(size) = size.checked_next_multiple_of(BLOCK).filter(|size| *size <= i64::MAX as u64)
    else {
        return refuse("no zvol can be as large as its capacity");
    };
    let is_thin = def.provisioning == Some(Provisioning::Thin);
    let allocation = match (how, def.provisioning) {
        (Preallocation::Metadata, _) => {
            return refuse("a zvol has no metadata to preallocate");
        }
        (Preallocation::Falloc | Preallocation::Full, _) if is_thin => {
            return refuse("a thin volume cannot be preallocated; make it thick");
        }
        (Preallocation::Falloc | Preallocation::Full, _) | (_, Some(Provisioning::Thick)) => size,
        // A document without allocation asks for all of it.
        (Preallocation::None, Some(_)) => {
            def.allocation.filter(|bytes| Some(*bytes) < def.capacity).unwrap_or(0)
        }
        (Preallocation::None, None) => def.allocation.unwrap_or(size),
    };
    let dataset = Dataset::of(&pool.def)?;
    let full = full_name(&dataset, name);
    if find(pool, name, ctx)?.is_some() {
        return Err(pool.volume_error(
            ErrorKind::Exists,
            name,
            "the name is taken; choose another",
        ));
    }
    let tag = Tagged::record(full.clone(), ctx)?;
    let (size_text, reserved) = (size.to_string(), format!("refreservation={allocation}"));
    let mut args = vec!["create", "-V", &size_text, "-o", &tag];
    args.extend(as_device(&dataset, ctx)?);
    if allocation < size {
        args.push("-s");
        if allocation > 0 {
            args.extend(["-o", &reserved]);
        }
    }
    args.push(&full);
    run("zfs", args, ctx).map_err(|error| pool.of_volume(name, error))?;
    await_device(pool, name, ctx)?;
    read(pool, name, ctx)
}

/// The option by which a zvol is a device without partitions of the host's, where it does not
/// inherit that: one that is said has the kernel make the device twice.
fn as_device(dataset: &Dataset<'_>, ctx: &OpContext) -> Result<&'static [&'static str]> {
    let args = ["get", "-H", "-o", "value", "volmode", dataset.name];
    let inherited = run("zfs", args, ctx).map_err(|error| dataset.named(error))?;
    Ok(if inherited.trim() == "dev" { &[] } else { &["-o", "volmode=dev"] })
}

/// Waits until a zvol has its name in /dev, and keeps it.
fn await_device(pool: &ActivePool, name: &VolumeName, ctx: &OpContext) -> Result<()> {
    let dataset = Dataset::of(&pool.def)?;
    let path = format!("/dev/zvol/{}", full_name(&dataset, name));
    let mut kept = 0;
    let appeared = ctx.limits.look_for(APPEARS, || {
        kept = match BlockDevice::at(Path::new(&path)) {
            Ok(device) if device.is_named_by_udev() => kept + 1,
            _ => 0,
        };
        (kept >= KEPT).then_some(())
    })?;
    appeared.ok_or_else(|| {
        pool.volume_error(ErrorKind::TimedOut, name, format!("udev did not make {path}"))
    })
}

/// A copy: blocks are shared with a source in the same zpool, else written.
pub(super) fn clone(
    pool: &ActivePool,
    def: &VolumeDef,
    source: &CloneSource,
    how: Preallocation,
    ctx: &OpContext,
) -> Result<Volume> {
    let blocks = BlockVolumes::new(pool, ctx);
    let def = &blocks.clone_def(def, source)?;
    let shared = shareable(pool, def, source, how)?;
    match shared {
        Some(from) => {
            blocks.check_new(def)?;
            clone_by_snapshot(pool, def, &from, ctx)?;
        }
        None => {
            let volume = make(pool, def, how, ctx)?;
            blocks.fill(def, &volume, source, Fresh::Zeros)?;
        }
    }
    read(pool, &def.name, ctx)
}

/// The zvol that a clone can share its blocks with: the source, in the same zpool and unchanged.
fn shareable(
    pool: &ActivePool,
    def: &VolumeDef,
    source: &CloneSource,
    how: Preallocation,
) -> Result<Option<String>> {
    let dataset = Dataset::of(&pool.def)?;
    let from = &source.volume;
    let same = from.kind == VolumeKind::Block
        && def.encryption.is_none()
        && !from.encrypted()
        && def.allocation.is_none()
        && def.provisioning.is_none()
        && how == Preallocation::None
        && def.capacity == Some(from.capacity);
    let name = from.path.strip_prefix("/dev/zvol/").filter(|_| same);
    let in_zpool = |name: &&str| name.split('/').next() == Some(dataset.zpool());
    Ok(name.filter(in_zpool).map(str::to_owned))
}

fn clone_by_snapshot(
    pool: &ActivePool,
    def: &VolumeDef,
    from: &str,
    ctx: &OpContext,
) -> Result<()> {
    let name = &def.name;
    let dataset = Dataset::of(&pool.def)?;
    let full = full_name(&dataset, name);
    let snapshot = format!("{from}@poold-{}", Uuid::new_v4());
    let named = |error: Error| pool.of_volume(name, error);
    let tag = Tagged::record(snapshot.clone(), ctx)?;
    run("zfs", ["snapshot", "-o", &tag, &snapshot], ctx).map_err(named)?;
    let tag = Tagged::record(full.clone(), ctx)?;
    let mut args = vec!["clone", "-o", &tag];
    args.extend(as_device(&dataset, ctx)?);
    args.extend([snapshot.as_str(), &full]);
    run("zfs", args, ctx).map_err(named)?;
    // It goes with the last clone of it.
    run("zfs", ["destroy", "-d", &snapshot], ctx).map_err(named)?;
    ctx.findings.say("method", "snapshot");
    await_device(pool, name, ctx)
}

/// Deletes a volume; one that is gone is success.
pub(super) fn delete(
    pool: &ActivePool,
    volume: &Volume,
    options: DeleteOptions,
    ctx: &OpContext,
) -> Result<()> {
    let blocks = BlockVolumes::new(pool, ctx);
    if !options.force {
        blocks.check_unused(volume)?;
    }
    let name = &volume.name;
    let dataset = Dataset::of(&pool.def)?;
    // With snapshots, ZFS looks for clones of any of them before it destroys the first.
    let how: &[&str] = if options.snapshots { &["destroy", "-r"] } else { &["destroy"] };
    let full_name = full_name(&dataset, name);
    match run("zfs", how.iter().copied().chain([full_name.as_str()]), ctx) {
        Ok(_) => {}
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) if error.kind() == ErrorKind::Busy => {
            let hint =
                if options.snapshots { "" } else { " (say snapshots to delete those with it)" };
            let what =
                format!("it has snapshots{hint} or clones, or is in use: {}", error.message());
            return Err(pool.volume_error(ErrorKind::Busy, name, what));
        }
        Err(error) => return Err(pool.of_volume(name, error)),
    }
    blocks.forget(name)
}

/// Changes a volume's capacity; one that is open may grow.
pub(super) fn resize(
    pool: &ActivePool,
    volume: &Volume,
    capacity: u64,
    options: ResizeOptions,
    ctx: &OpContext,
) -> Result<Volume> {
    let blocks = BlockVolumes::new(pool, ctx);
    let name = &volume.name;
    if capacity == 0 {
        let what = "a zvol cannot have a capacity of 0";
        return Err(pool.volume_error(ErrorKind::InvalidArgument, name, what));
    }
    let volume = &read(pool, name, ctx)?;
    blocks.check_resize(volume, capacity, options)?;
    let header = volume.physical.saturating_sub(volume.capacity);
    let Some(size) = capacity.checked_add(header).and_then(|s| s.checked_next_multiple_of(BLOCK))
    else {
        let what = "no zvol can be as large as this capacity";
        return Err(pool.volume_error(ErrorKind::InvalidArgument, name, what));
    };
    let dataset = Dataset::of(&pool.def)?;
    let args = ["set", &format!("volsize={size}"), &full_name(&dataset, name)];
    run("zfs", args, ctx).map_err(|error| pool.of_volume(name, error))?;
    read(pool, name, ctx)
}
