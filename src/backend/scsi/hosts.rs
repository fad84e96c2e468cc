//! The SCSI hosts of this machine as sysfs has them, and virtual Fibre Channel HBAs (NPIV).

use super::disks;
use crate::backend::OpContext;
use crate::model::{Adapter, Error, ErrorKind, FcHost, FcParent, PciAddress, Result, ScsiHost};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long a new vHBA may take to appear.
const APPEARS: Duration = Duration::from_secs(10);

/// The SCSI hosts, below a sysfs.
#[derive(Debug)]
pub(in crate::backend) struct Hosts {
    class: PathBuf,
}

impl Default for Hosts {
    fn default() -> Self {
        Self::at(Path::new("/sys/class"))
    }
}

impl Hosts {
    /// Those of another sysfs.
    pub(super) fn at(class: &Path) -> Self {
        Self { class: class.to_owned() }
    }

    /// The number of the host that an adapter is now; `Inaccessible` when there is none.
    pub(super) fn find(&self, adapter: &Adapter) -> Result<u32> {
        let missing = |what: String| {
            Err(Error::new(ErrorKind::Inaccessible, format!("{what} is not on this machine")))
        };
        match adapter {
            Adapter::ScsiHost(ScsiHost::Name(name)) => match number(name) {
                Some(host) if self.scsi(host).exists() => Ok(host),
                _ => missing(format!("SCSI adapter {name}")),
            },
            Adapter::ScsiHost(ScsiHost::Parent { address, unique_id }) => {
                let address = pci(*address);
                let is_it = |host: &u32| {
                    self.read(&self.scsi(*host).join("unique_id")) == Some(unique_id.to_string())
                        && self.has_parent(*host, &address)
                };
                match self.all("scsi_host").into_iter().find(is_it) {
                    Some(host) => Ok(host),
                    None => missing(format!("SCSI adapter {unique_id} of PCI device {address}")),
                }
            }
            Adapter::FcHost(fc) => match self.by_wwn(&fc.wwnn, &fc.wwpn) {
                Some(host) => Ok(host),
                None => missing(format!("Fibre Channel adapter {}:{}", fc.wwnn, fc.wwpn)),
            },
        }
    }

    /// Has a host look for devices; returns when the kernel has looked.
    pub(super) fn scan(&self, host: u32) -> Result<()> {
        let path = self.scsi(host).join("scan");
        fs::write(&path, "- - -")
            .map_err(|error| Error::io(format_args!("cannot have host{host} scanned"), &error))
    }

    /// Whether the kernel is still looking at a disk of a host: it knows that it is one, and has no
    /// block device for it yet.
    pub(super) fn looks_at_disks(&self, host: u32) -> bool {
        let Ok(units) = fs::read_dir(self.class.join("scsi_device")) else { return false };
        units.filter_map(io::Result::ok).any(|unit| {
            let device = unit.path().join("device");
            unit.file_name().to_string_lossy().starts_with(&format!("{host}:"))
                && self.read(&device.join("type")).as_deref() == Some(disks::TYPE)
                && !device.join("block").exists()
        })
    }

    /// Makes a vHBA on its parent; returns when it is there. How it is undone is told before.
    pub(super) fn create(
        &self,
        fc: &FcHost,
        ctx: &OpContext,
        about_to: impl FnOnce(&Path) -> Result<()>,
    ) -> Result<u32> {
        let parent = self.parent(fc)?;
        let directory = self.fc(parent);
        about_to(&directory)?;
        write_vport(&directory, "vport_create", &fc.wwpn, &fc.wwnn).map_err(|error| {
            Error::io(format_args!("cannot create a vHBA on host{parent}"), &error)
        })?;
        let appeared = ctx.limits.look_for(APPEARS, || self.by_wwn(&fc.wwnn, &fc.wwpn))?;
        appeared.ok_or_else(|| {
            let what = format!("the vHBA created on host{parent} did not appear");
            Error::new(ErrorKind::TimedOut, what)
        })
    }

    /// Deletes a vHBA; one that is gone is success.
    pub(super) fn delete(&self, fc: &FcHost) -> Result<()> {
        let Some(host) = self.by_wwn(&fc.wwnn, &fc.wwpn) else { return Ok(()) };
        let parent = match &fc.parent {
            Some(_) => self.parent(fc)?,
            None => self.parent_of(host).ok_or_else(|| {
                let what = format!("cannot tell on which adapter the vHBA host{host} is");
                Error::new(ErrorKind::Failed, what)
            })?,
        };
        write_vport(&self.fc(parent), "vport_delete", &fc.wwpn, &fc.wwnn)
            .map_err(|error| Error::io(format_args!("cannot delete the vHBA host{host}"), &error))
    }

    /// The HBA that a vHBA is to be created on.
    fn parent(&self, fc: &FcHost) -> Result<u32> {
        let refuse = |what: String| Err(Error::new(ErrorKind::Inaccessible, what));
        let found = match &fc.parent {
            Some(FcParent::Name(name)) => number(name).filter(|host| self.fc(*host).exists()),
            Some(FcParent::Wwn { wwnn, wwpn }) => self.by_wwn(wwnn, wwpn),
            Some(FcParent::Fabric(fabric)) => self.by(&[("fabric_name", fabric)]),
            None => self.all("fc_host").into_iter().find(|host| self.has_room(*host)),
        };
        match found {
            Some(host) if self.fc(host).join("vport_create").exists() => Ok(host),
            Some(host) => refuse(format!("adapter host{host} can have no vHBA (no NPIV)")),
            None => refuse("no Fibre Channel adapter is there to create the vHBA on".to_owned()),
        }
    }

    /// Whether a vHBA can be created on an HBA: it is online and has room for one more.
    fn has_room(&self, host: u32) -> bool {
        let directory = self.fc(host);
        let count = |name: &str| self.read(&directory.join(name))?.parse::<u64>().ok();
        let online = self.read(&directory.join("port_state")).as_deref() == Some("Online");
        let (used, most) = (count("npiv_vports_inuse"), count("max_npiv_vports"));
        online && used.zip(most).is_some_and(|(used, most)| used < most)
    }

    /// The HBA above a vHBA, by where the kernel puts it: below `.../hostP/...`.
    fn parent_of(&self, host: u32) -> Option<u32> {
        let device = fs::canonicalize(self.fc(host)).ok()?;
        let above = device.ancestors().skip(1).filter_map(|dir| number(dir.file_name()?.to_str()?));
        above.filter(|other| *other != host).find(|other| self.fc(*other).exists())
    }

    fn by_wwn(&self, wwnn: &str, wwpn: &str) -> Option<u32> {
        self.by(&[("node_name", wwnn), ("port_name", wwpn)])
    }

    /// The Fibre Channel host with these names.
    fn by(&self, names: &[(&str, &str)]) -> Option<u32> {
        self.all("fc_host").into_iter().find(|host| {
            names.iter().all(|(file, wanted)| {
                let found = self.read(&self.fc(*host).join(file)).unwrap_or_default();
                let found = found.strip_prefix("0x").unwrap_or(&found);
                found.eq_ignore_ascii_case(wanted.strip_prefix("0x").unwrap_or(wanted))
            })
        })
    }

    /// Whether a host is a PCI device's.
    fn has_parent(&self, host: u32, address: &str) -> bool {
        let device = fs::canonicalize(self.scsi(host));
        device.is_ok_and(|path| path.components().any(|part| part.as_os_str() == address))
    }

    fn all(&self, class: &str) -> Vec<u32> {
        let Ok(entries) = fs::read_dir(self.class.join(class)) else { return Vec::new() };
        let names = entries.filter_map(io::Result::ok).map(|entry| entry.file_name());
        let mut hosts: Vec<u32> = names.filter_map(|name| number(name.to_str()?)).collect();
        hosts.sort_unstable();
        hosts
    }

    fn scsi(&self, host: u32) -> PathBuf {
        self.class.join(format!("scsi_host/host{host}"))
    }

    fn fc(&self, host: u32) -> PathBuf {
        self.class.join(format!("fc_host/host{host}"))
    }

    fn read(&self, path: &Path) -> Option<String> {
        fs::read_to_string(path).ok().map(|text| text.trim().to_owned())
    }
}

/// Tells an HBA of a vHBA: `WWPN:WWNN`, as the kernel's scsi_transport_fc has it.
pub(in crate::backend) fn write_vport(
    parent: &Path,
    file: &str,
    wwpn: &str,
    wwnn: &str,
) -> io::Result<()> {
    fs::write(parent.join(file), format!("{wwpn}:{wwnn}"))
}

/// The number in `host3`, `scsi_host3` or `fc_host3`.
pub(super) fn number(name: &str) -> Option<u32> {
    let name = name.strip_prefix("scsi_").or(name.strip_prefix("fc_")).unwrap_or(name);
    name.strip_prefix("host")?.parse().ok()
}

/// A PCI address as sysfs writes it.
pub(super) fn pci(address: PciAddress) -> String {
    let PciAddress { domain, bus, slot, function } = address;
    format!("{domain:04x}:{bus:02x}:{slot:02x}.{function:x}")
}
