//! Pools of type scsi: the disks behind a SCSI adapter, which may be a virtual Fibre Channel HBA that
//! is made when the pool starts.

mod hosts;
#[cfg(test)]
mod tests;

use super::block_volumes::Found;
use super::luns::{LunSource, OPERATIONS, failed};
use super::target::target_path;
use super::{Activation, ActivePool, BackendInfo, OpContext, StopOptions, Undo, Watch};
use crate::host::block::{DeviceNumber, names_in};
use crate::host::{BlockDevice, DeviceEvent};
use crate::model::{
    Adapter, Error, ErrorKind, PoolDef, PoolType, Result, ScsiHost, VolumeFormat, VolumeName,
};
pub(super) use hosts::{Hosts, write_vport};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long udev may take to name the devices that a scan found.
const NAMED: Duration = Duration::from_secs(5);

/// The source of scsi pools.
#[derive(Debug, Default)]
pub(super) struct Scsi {
    hosts: Hosts,
}

static INFO: BackendInfo = BackendInfo {
    pool_type: PoolType::Scsi,
    implemented: true,
    tools: &[],
    operations: OPERATIONS,
    watch: Watch::Devices,
};

fn adapter(pool: &PoolDef) -> Result<&Adapter> {
    pool.source.adapter.as_ref().ok_or_else(|| {
        let what = format!("pool {} has no adapter; define it with one", pool.name);
        Error::new(ErrorKind::InvalidArgument, what)
    })
}

impl LunSource for Scsi {
    fn info(&self) -> &'static BackendInfo {
        &INFO
    }

    fn check_definition(&self, pool: &PoolDef) -> Result<()> {
        let refuse = |what: String| {
            Err(Error::new(ErrorKind::InvalidArgument, format!("pool {}: {what}", pool.name)))
        };
        let path = target_path(pool)?;
        if !Path::new(path).starts_with("/dev") || path.split('/').any(|part| part == "..") {
            return refuse(format!(
                "target {path} is no directory of device names; use /dev/disk/by-path"
            ));
        }
        match adapter(pool)? {
            Adapter::ScsiHost(ScsiHost::Name(name)) if hosts::number(name).is_none() => {
                refuse(format!("adapter {name} is none; name one as scsi_host3"))
            }
            Adapter::FcHost(fc) => {
                let is_wwn = |text: &str| {
                    let text = text.strip_prefix("0x").unwrap_or(text);
                    text.len() == 16 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
                };
                match [&fc.wwnn, &fc.wwpn].into_iter().find(|name| !is_wwn(name)) {
                    Some(name) => refuse(format!("{name} is no world wide name of 16 hex digits")),
                    None => Ok(()),
                }
            }
            Adapter::ScsiHost(_) => Ok(()),
        }
    }

    fn concerned(&self, pool: &PoolDef, event: &DeviceEvent) -> bool {
        let Some(path) = event.property("DEVPATH") else { return false };
        let part = match &pool.source.adapter {
            Some(Adapter::ScsiHost(ScsiHost::Name(name))) => match hosts::number(name) {
                Some(host) => format!("host{host}"),
                None => return false,
            },
            Some(Adapter::ScsiHost(ScsiHost::Parent { address, .. })) => hosts::pci(*address),
            // Which host that is changes each time it is made.
            Some(Adapter::FcHost(_)) => return path.contains("/host"),
            None => return false,
        };
        path.split('/').any(|each| each == part)
    }

    fn start(&self, pool: &PoolDef, ctx: &OpContext) -> Result<Activation> {
        let adapter = adapter(pool)?;
        let named = |error: Error| error.context(format_args!("pool {}", pool.name));
        let adopted = Activation { adopted: true, ..Activation::default() };
        match (self.hosts.find(adapter), adapter) {
            (Ok(_), _) => Ok(adopted),
            (Err(error), Adapter::FcHost(fc)) if error.kind() == ErrorKind::Inaccessible => {
                let record = |parent: &Path| {
                    let (wwpn, wwnn) = (fc.wwpn.clone(), fc.wwnn.clone());
                    ctx.journal.record(&Undo::DeleteVport { parent: parent.into(), wwpn, wwnn })
                };
                self.hosts.create(fc, ctx, record).map_err(named)?;
                Ok(Activation { adopted: false, ..adopted })
            }
            (Err(error), _) => Err(named(error)),
        }
    }

    fn stop(&self, pool: &ActivePool, options: StopOptions, ctx: &OpContext) -> Result<()> {
        let Adapter::FcHost(fc) = adapter(&pool.def)? else { return Ok(()) };
        let ours = !pool.activation.adopted || fc.managed == Some(true);
        if !ours && !options.release {
            return Ok(());
        }
        if !options.force {
            for device in self.devices(pool)? {
                if let Some(user) = device.user()? {
                    let what = format!(
                        "pool {}: {user} uses {}; end that first, or stop with force",
                        pool.def.name,
                        device.node().display()
                    );
                    return Err(Error::new(ErrorKind::Busy, what));
                }
            }
        }
        ctx.limits.check()?;
        self.hosts.delete(fc).map_err(|e| e.context(format_args!("pool {}", pool.def.name)))
    }

    fn luns(&self, pool: &ActivePool, ctx: &OpContext) -> Result<(Vec<Found>, u32)> {
        if ctx.asked {
            self.hosts.scan(self.host(pool)?)?;
        }
        let devices = self.devices(pool)?;
        if ctx.asked {
            wait_for_names(&devices, ctx)?;
        }
        let target = target_path(&pool.def)?;
        let names = match target.trim_end_matches('/') {
            "/dev" => BTreeMap::new(),
            // Where udev has made none, the kernel's own names do.
            directory => names_in(Path::new(directory)).unwrap_or_default(),
        };
        let total = devices.len();
        let found: Vec<Found> =
            devices.into_iter().filter_map(|device| lun(device, &names)).collect();
        let skipped = u32::try_from(total - found.len()).unwrap_or(u32::MAX);
        Ok((found, skipped))
    }
}

impl Scsi {
    fn host(&self, pool: &ActivePool) -> Result<u32> {
        self.hosts
            .find(adapter(&pool.def)?)
            .map_err(|error| error.context(format_args!("pool {}", pool.def.name)))
    }

    /// The disks behind the pool's adapter, as the kernel knows them.
    fn devices(&self, pool: &ActivePool) -> Result<Vec<BlockDevice>> {
        let host = self.host(pool)?;
        let all = BlockDevice::all().map_err(|e| failed(&pool.def, "cannot list devices", &e))?;
        Ok(all.into_iter().filter(|device| address(device).is_some_and(|a| a[0] == host)).collect())
    }
}

/// Host, bus, target and unit of a disk; none of a partition or of what is no SCSI device.
fn address(device: &BlockDevice) -> Option<[u32; 4]> {
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
fn lun(device: BlockDevice, names: &BTreeMap<DeviceNumber, PathBuf>) -> Option<Found> {
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
fn wait_for_names(devices: &[BlockDevice], ctx: &OpContext) -> Result<()> {
    let all_named = || devices.iter().all(BlockDevice::is_named_by_udev).then_some(());
    ctx.limits.look_for(NAMED, all_named).map(drop)
}
