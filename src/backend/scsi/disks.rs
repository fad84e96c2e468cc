//! SCSI disks as volumes: what pools of types scsi and iscsi share.

use crate::backend::OpContext;
use crate::backend::block_volumes::Found;
use crate::backend::target::target_path;
use crate::host::BlockDevice;
use crate::host::block::{DeviceNumber, names_in};
use crate::model::{Error, ErrorKind, PoolDef, Result, VolumeFormat, VolumeName};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What the kernel calls a disk among the types of SCSI devices.
pub(in crate::backend) const TYPE: &str = "0";
/// How long the kernel may take to read what a new disk is.
pub(in crate::backend) const READ: Duration = Duration::from_secs(5);
/// How long udev may take to name the devices that a scan found.
const NAMED: Duration = Duration::from_secs(5);

/// Refuses a target that is no directory of names of devices.
pub(in crate::backend) fn check_target(pool: &PoolDef) -> Result<()> {
    let path = target_path(pool)?;
    match Path::new(path).starts_with("/dev") && path.split('/').all(|part| part != "..") {
        true => Ok(()),
        false => Err(Error::new(
            ErrorKind::InvalidArgument,
            format!(
                "pool {}: target {path} is no directory of device names; use /dev/disk/by-path",
                pool.name
            ),
        )),
    }
}

/// The names of devices in the directory that is a pool's target.
pub(in crate::backend) fn names(pool: &PoolDef) -> Result<BTreeMap<DeviceNumber, PathBuf>> {
    Ok(match target_path(pool)?.trim_end_matches('/') {
        "/dev" => BTreeMap::new(),
        // Where udev has made none, the kernel's own names do.
        directory => names_in(Path::new(directory)).unwrap_or_default(),
    })
}

/// Host, bus, target and unit of a disk; none of a partition or of what is no SCSI device.
pub(in crate::backend) fn address(device: &BlockDevice) -> Option<[u32; 4]> {
    // .../host0/target0:0:1/0:0:1:0/block/sda
    let mut above = device.sysfs().ancestors().skip(1);
    if above.next()?.file_name()? != "block" {
        return None;
    }
    let name = above.next()?.file_name()?.to_str()?;
    let parts: Vec<u32> = name.split(':').map_while(|part| part.parse().ok()).collect();
    parts.try_into().ok()
}

/// A disk as a volume; none when it has no medium or went meanwhile.
pub(in crate::backend) fn lun(
    device: BlockDevice,
    names: &BTreeMap<DeviceNumber, PathBuf>,
) -> Option<Found> {
    let [_, bus, target, unit] = address(&device)?;
    let capacity = device.size().ok().filter(|size| *size > 0)?;
    let path = names.get(&device.number).cloned().unwrap_or_else(|| device.node());
    Some(Found {
        name: VolumeName::found(&format!("unit:{bus}:{target}:{unit}"))?,
        // As scsi_id has it; a disk without is known by its path.
        key: device.udev_property("ID_SERIAL"),
        path: path.to_str()?.to_owned(),
        device: Some(device),
        capacity,
        allocation: capacity,
        format: VolumeFormat::Raw,
        extents: Vec::new(),
        attributes: None,
    })
}

/// Waits until udev has named the devices that a scan found, for a while: one that it does not name
/// has the kernel's name.
pub(in crate::backend) fn wait_for_names(devices: &[BlockDevice], ctx: &OpContext) -> Result<()> {
    let all_named = || devices.iter().all(BlockDevice::is_named_by_udev).then_some(());
    ctx.limits.look_for(NAMED, all_named).map(drop)
}
