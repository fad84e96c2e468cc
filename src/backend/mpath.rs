//! Pools of type mpath: the host's multipath devices, as multipathd makes them.
//!
//! Their list is the kernel's own; no multipath tool is asked, which would wait for dead paths.

use super::block_volumes::Found;
use super::luns::{LunSource, OPERATIONS, failed};
use super::{Activation, ActivePool, BackendInfo, OpContext, Watch};
use crate::host::block::MULTIPATH;
use crate::host::{BlockDevice, DeviceEvent};
use crate::model::{BlockAttributes, PoolDef, PoolType, Result, VolumeFormat, VolumeName};

/// The source of mpath pools.
#[derive(Debug)]
pub(super) struct Mpath;

static INFO: BackendInfo = BackendInfo {
    pool_type: PoolType::Mpath,
    tools: &[],
    operations: OPERATIONS,
    watch: Watch::Devices,
};

impl LunSource for Mpath {
    fn info(&self) -> &'static BackendInfo {
        &INFO
    }

    fn concerned(&self, _pool: &PoolDef, event: &DeviceEvent) -> bool {
        match event.property("DM_UUID") {
            Some(uuid) => uuid.starts_with(MULTIPATH),
            // The kernel, or udev of a device that is gone, does not say which kind it is.
            None => event.name().is_some_and(|name| name.starts_with("dm-")),
        }
    }

    fn start(&self, _pool: &PoolDef, _ctx: &OpContext) -> Result<Activation> {
        Ok(Activation { adopted: true, ..Activation::default() })
    }

    fn luns(&self, pool: &ActivePool, _ctx: &OpContext) -> Result<(Vec<Found>, u32)> {
        let all = BlockDevice::all().map_err(|e| failed(&pool.def, "cannot list devices", &e))?;
        let mut skipped = 0;
        let mut found = Vec::new();
        for device in all {
            let Some((name, uuid)) = device.mapped() else { continue };
            let Some(wwid) = uuid.strip_prefix(MULTIPATH) else { continue };
            match lun(&device, &name, wwid) {
                Some(lun) => found.push(lun),
                None => skipped += 1,
            }
        }
        Ok((found, skipped))
    }
}

/// A multipath device as a volume; none when its name is none or it went meanwhile.
fn lun(device: &BlockDevice, name: &str, wwid: &str) -> Option<Found> {
    let capacity = device.size().ok()?;
    let mut members: Vec<String> =
        device.slaves().iter().map(|path| path.node().display().to_string()).collect();
    members.sort();
    Some(Found {
        // The alias or the WWID: the kernel's "dm-3" is another device after the next boot.
        name: VolumeName::found(name)?,
        key: Some(wwid.to_owned()),
        path: format!("/dev/mapper/{name}"),
        device: Some(device.clone()),
        capacity,
        allocation: capacity,
        format: VolumeFormat::Raw,
        extents: Vec::new(),
        attributes: Some(Box::new(BlockAttributes { members, ..BlockAttributes::default() })),
    })
}
