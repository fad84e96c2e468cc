//! Pools of type scsi: the disks behind a SCSI adapter, which may be a virtual Fibre Channel HBA that
//! is made when the pool starts.

pub(super) mod disks;
mod hosts;
#[cfg(test)]
mod tests;

use super::block_volumes::Found;
use super::luns::{LunSource, OPERATIONS, failed};
use super::{Activation, ActivePool, BackendInfo, OpContext, StopOptions, Undo, Watch};
use crate::host::{BlockDevice, DeviceEvent};
use crate::model::{Adapter, Error, ErrorKind, PoolDef, PoolType, Result, ScsiHost};
pub(super) use hosts::{Hosts, write_vport};
use std::path::Path;

/// The source of scsi pools.
#[derive(Debug, Default)]
pub(super) struct Scsi {
    hosts: Hosts,
}

static INFO: BackendInfo = BackendInfo {
    pool_type: PoolType::Scsi,
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
        disks::check_target(pool)?;
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
            let host = self.host(pool)?;
            self.hosts.scan(host)?;
            let all_read = || (!self.hosts.looks_at_disks(host)).then_some(());
            ctx.limits.look_for(disks::READ, all_read)?;
        }
        let devices = self.devices(pool)?;
        if ctx.asked {
            disks::wait_for_names(&devices, ctx)?;
        }
        let names = disks::names(&pool.def)?;
        let total = devices.len();
        let found: Vec<Found> =
            devices.into_iter().filter_map(|device| disks::lun(device, &names)).collect();
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
        Ok(all
            .into_iter()
            .filter(|device| disks::address(device).is_some_and(|a| a[0] == host))
            .collect())
    }
}
