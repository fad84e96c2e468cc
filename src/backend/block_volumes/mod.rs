//! Block devices as volumes: what pools of types disk, logical, iscsi, scsi, mpath and zfs share.
//!
//! A backend says which devices its volumes are, makes them and takes them away; how they are read,
//! written, copied, encrypted and wiped, and who uses them, is here. What is in a device is its
//! guest's: nothing here looks into it.

mod fill;
mod open;

use super::images::Images;
use super::{ActivePool, OpContext};
use crate::host::BlockDevice;
use crate::model::{
    BlockAttributes, Declaration, Encryption, Error, ErrorKind, Extent, FormatSource,
    ImageAttributes, PoolType, Result, Timestamps, Volume, VolumeFormat, VolumeName,
};
pub(super) use fill::Fresh;
use std::path::Path;

/// What the header of an encrypted volume takes: the most that QEMU's LUKS does with its default
/// cipher, as in libvirt.
const LUKS_HEADER: u64 = 2 << 20;

/// The volumes of an active pool of block devices.
#[derive(Clone, Copy)]
pub(super) struct BlockVolumes<'a> {
    pool: &'a ActivePool,
    ctx: &'a OpContext,
}

/// A device that is a volume, as its backend found it.
#[derive(Debug, Clone)]
pub(super) struct Found {
    pub(super) name: VolumeName,
    /// Unique in the world; absent where the path is.
    pub(super) key: Option<String>,
    /// The path in libvirt's spelling.
    pub(super) path: String,
    /// The device; absent while it has none (a logical volume that is not active).
    pub(super) device: Option<BlockDevice>,
    /// In bytes.
    pub(super) capacity: u64,
    /// What it takes in the pool, in bytes.
    pub(super) allocation: u64,
    /// The type of a partition; raw for what has none.
    pub(super) format: VolumeFormat,
    /// Where it lies.
    pub(super) extents: Vec<Extent>,
    /// What else is to be said of it.
    pub(super) attributes: Option<Box<BlockAttributes>>,
}

impl<'a> BlockVolumes<'a> {
    pub(super) fn new(pool: &'a ActivePool, ctx: &'a OpContext) -> Self {
        Self { pool, ctx }
    }

    /// The volume that a device is, with what was declared of it. Does not touch the device.
    pub(super) fn volume(&self, found: Found) -> Volume {
        let stat = found.device.as_ref().and_then(|device| device.stat().ok());
        let key = found.key.as_deref().unwrap_or(&found.path);
        let declared = self.declared(&found.name, key);
        let encryption = declared.as_ref().and_then(|declared| declared.encryption.clone());
        let format = match &encryption {
            Some(_) => VolumeFormat::Luks,
            None => found.format,
        };
        let header = if encryption.is_some() { LUKS_HEADER } else { 0 };
        let image = encryption.map(|encryption| {
            Box::new(ImageAttributes { encryption: Some(encryption), ..ImageAttributes::default() })
        });
        Volume {
            name: found.name,
            path: found.path.into(),
            key: found.key.map(Into::into),
            kind: self.pool.def.pool_type.info().volume_kind,
            format,
            // Whoever made the device said what it is; its content is not asked.
            format_source: FormatSource::Declared,
            content_format: None,
            capacity: found.capacity.saturating_sub(header),
            allocation: found.allocation,
            physical: found.capacity,
            modified: stat.map_or(0, |stat| stat.modified()),
            mode: stat.map(|stat| stat.mode),
            owner: stat.map(|stat| stat.owner),
            group: stat.map(|stat| stat.group),
            label: None,
            timestamps: stat.map(|stat| {
                Box::new(Timestamps {
                    atime: stat.atime,
                    mtime: stat.mtime,
                    ctime: stat.ctime,
                    btime: stat.btime,
                })
            }),
            image,
            incomplete: declared.and_then(|declared| declared.incomplete).map(Into::into),
            extents: found.extents,
            block: found.attributes,
        }
    }

    /// What was declared of the volume of this name and key.
    fn declared(&self, name: &VolumeName, key: &str) -> Option<Declaration> {
        let declared = self.ctx.records.declared(self.pool.def.uuid, name)?;
        declared.key.as_deref().is_none_or(|of| of == key).then_some(declared)
    }

    /// Declares a volume that is encrypted; others need no word.
    fn declare_encrypted(&self, volume: &Volume, encryption: Encryption) -> Result<()> {
        let declaration = Declaration {
            identity: None,
            key: Some(volume.key().to_owned()),
            format: VolumeFormat::Luks,
            probed: false,
            backing: None,
            encryption: Some(encryption),
            incomplete: None,
        };
        self.ctx.records.declare(self.pool.def.uuid, &volume.name, &declaration)
    }

    /// Declares a snapshot to be encrypted as its origin is.
    pub(super) fn inherit(&self, origin: &Volume, snapshot: &Volume) -> Result<()> {
        let encryption = origin.image.as_ref().and_then(|image| image.encryption.clone());
        encryption.map_or(Ok(()), |encryption| self.declare_encrypted(snapshot, encryption))
    }

    /// Forgets what was declared of a volume that was deleted.
    pub(super) fn forget(&self, name: &VolumeName) -> Result<()> {
        self.ctx.records.forget(self.pool.def.uuid, name)
    }

    /// The device of a volume, as it is now.
    pub(super) fn device(&self, volume: &Volume) -> Result<BlockDevice> {
        let (name, path) = (&volume.name, &volume.path);
        let device = BlockDevice::at(Path::new(&**path)).map_err(|error| {
            let what = format!("its device {path} is not there: {error}");
            self.pool.volume_error(ErrorKind::Inaccessible, name, what)
        })?;
        let device = self.usable(device);
        if let Some(why) = device.why_dead() {
            let what = format!("its device {path} {why}; what reads it would wait until that ends");
            return Err(self.pool.volume_error(ErrorKind::Inaccessible, name, what));
        }
        let size = device
            .size()
            .map_err(|error| self.pool.volume_failed(name, "cannot read its size", &error))?;
        match size == volume.physical {
            true => Ok(device),
            false => Err(self.pool.other_size(volume, format_args!("its device {path}"), size)),
        }
    }

    /// The device by which a volume's is used: where it is one of a unit's paths and multipathd has them,
    /// the multipath device. A volume of a SCSI adapter is that path alone, and then Busy.
    fn usable(&self, device: BlockDevice) -> BlockDevice {
        match self.pool.def.pool_type {
            PoolType::Iscsi => device.multipath().unwrap_or(device),
            _ => device,
        }
    }

    /// Refuses (`Busy`) a volume that somebody uses, or that another one is a difference to. A volume
    /// without device is used by nobody.
    pub(super) fn check_unused(&self, volume: &Volume) -> Result<()> {
        self.check_no_overlay(volume)?;
        let Ok(device) = BlockDevice::at(Path::new(&*volume.path)) else { return Ok(()) };
        match self.usable(device).lasting_user(&self.ctx.limits)? {
            None => Ok(()),
            Some(user) => Err(self.busy(volume, &user)),
        }
    }

    /// Refuses (`Busy`) a volume that another one is a difference to.
    pub(super) fn check_no_overlay(&self, volume: &Volume) -> Result<()> {
        match self.ctx.known.overlay_of(&volume.path) {
            None => Ok(()),
            Some(overlay) => {
                let what = format!("it is the backing file of {overlay}; delete that first");
                Err(self.pool.volume_error(ErrorKind::Busy, &volume.name, what))
            }
        }
    }

    fn busy(&self, volume: &Volume, user: &str) -> Error {
        let what = format!("{user} uses it; end that first");
        self.pool.volume_error(ErrorKind::Busy, &volume.name, what)
    }

    fn images(&self) -> Images<'a> {
        Images { pool: self.pool, ctx: self.ctx }
    }
}
