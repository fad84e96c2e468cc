//! The logical volumes of an active pool.

use super::pool::Opened;
use super::report::LogicalVolume;
use super::undo::is_making;
use crate::backend::block_volumes::{BlockVolumes, Found};
use crate::backend::{ActivePool, Listing, VolumeAccess, VolumeIo};
use crate::model::{
    BlockAttributes, ErrorKind, Provisioning, Result, Volume, VolumeFormat, VolumeName,
};

/// The volumes of an active pool.
pub(super) struct Volumes<'a> {
    pub(super) pool: &'a ActivePool,
    pub(super) opened: Opened<'a>,
}

impl<'a> Volumes<'a> {
    pub(super) fn blocks(&self) -> BlockVolumes<'a> {
        BlockVolumes::new(self.pool, self.opened.ctx)
    }

    pub(super) fn list(&self) -> Listing {
        let volumes: Vec<Volume> =
            self.opened.group.volumes.iter().filter_map(|volume| self.volume(volume)).collect();
        let skipped = self.opened.group.volumes.len() - volumes.len();
        let skipped = u32::try_from(skipped).unwrap_or(u32::MAX);
        Listing { usage: self.opened.group.usage, volumes, skipped, ..Listing::default() }
    }

    /// A logical volume as a volume of the pool; none when its name can be none.
    pub(super) fn volume(&self, found: &LogicalVolume) -> Option<Volume> {
        let device = match found.provisioning {
            // LVM's own; nobody else has business with it.
            Provisioning::ThinPool => None,
            _ => self.opened.device(found),
        };
        // A snapshot that was made before its origin grew is as large as that was.
        let size = device.as_ref().and_then(|device| device.size().ok()).unwrap_or(found.size);
        let name = |name: &Option<String>| VolumeName::found(name.as_deref()?);
        let mut volume = self.blocks().volume(Found {
            name: VolumeName::found(&found.name)?,
            key: Some(found.uuid.clone()),
            path: self.opened.path(&found.name).display().to_string(),
            device,
            capacity: size,
            allocation: found.allocation,
            format: VolumeFormat::Raw,
            extents: found.extents.clone(),
            attributes: Some(Box::new(BlockAttributes {
                provisioning: Some(found.provisioning),
                origin: name(&found.origin),
                thin_pool: name(&found.thin_pool),
                data_used: found.data_used,
                metadata_used: found.metadata_used,
                ..BlockAttributes::default()
            })),
        });
        if found.tags.iter().any(|tag| is_making(tag)) {
            volume.incomplete = Some("whoever made it did not end; delete it".into());
        } else if let Some(damage) = found.damage {
            volume.incomplete = Some(damage.into());
        }
        Some(volume)
    }

    /// A volume as LVM has it now; `NotFound` when it is gone, or another one has its name.
    pub(super) fn current(&self, volume: &Volume) -> Result<&LogicalVolume> {
        let found = self.opened.group.volume(volume.name.as_str());
        found.filter(|found| found.uuid == volume.key()).ok_or_else(|| {
            let what = "it is gone; refresh the pool";
            self.pool.volume_error(ErrorKind::NotFound, &volume.name, what)
        })
    }

    /// Has a volume get its device, if it has none.
    pub(super) fn activate(&self, volume: &Volume) -> Result<()> {
        let found = self.current(volume)?;
        if self.opened.device(found).is_some() {
            return Ok(());
        }
        let name = self.opened.named(&found.name);
        self.opened.lvm().load(self.opened.group.targets.iter().copied());
        let args = ["--yes", "--activate", "y", "--ignoreactivationskip", &name];
        self.opened
            .lvm()
            .run("lvchange", &args)
            .map(drop)
            .map_err(|error| self.pool.of_volume(&volume.name, error))
    }
}

/// How a volume's blocks are provided.
pub(super) fn provisioning(volume: &Volume) -> Provisioning {
    let known = volume.block.as_ref().and_then(|block| block.provisioning);
    known.unwrap_or(Provisioning::Thick)
}

/// Refuses to look into a thin pool.
pub(super) fn check_has_content(pool: &ActivePool, volume: &Volume) -> Result<()> {
    match provisioning(volume) {
        Provisioning::ThinPool => {
            let what = "a thin pool has no content of its own; use the volumes in it";
            Err(pool.volume_error(ErrorKind::NotSupported, &volume.name, what))
        }
        _ => Ok(()),
    }
}

/// Opens a volume that has its device.
pub(super) fn open(
    blocks: &BlockVolumes<'_>,
    pool: &ActivePool,
    volume: &Volume,
    access: VolumeAccess,
) -> Result<VolumeIo> {
    check_has_content(pool, volume)?;
    blocks.open(volume, access)
}
