//! The volumes of a disk, and its room.

use super::place::Room;
use super::{Content, Listing, Opened, Role, Table, Usage, names};
use crate::backend::block_volumes::Found;
use crate::image::partitions::Partition;
use crate::model::{ErrorKind, Extent, FreeExtent, Result, Volume, VolumeFormat, VolumeName};

impl Opened<'_> {
    /// All volumes and the room.
    pub(super) fn list(&self) -> Result<Listing> {
        if Content::of(&self.pool.def)? == Content::PhysicalVolume {
            let size = self.drive.size();
            let usage = Usage { capacity: size, allocation: size, available: 0 };
            return Ok(Listing { usage, ..Listing::default() });
        }
        let table = self.table()?;
        let data: Vec<_> =
            table.partitions.iter().filter(|partition| partition.role != Role::Own).collect();
        let volumes: Vec<_> =
            data.iter().filter_map(|partition| self.volume(&table, partition)).collect();
        let skipped = u32::try_from(data.len() - volumes.len()).unwrap_or(u32::MAX);
        let free_extents = self.free_extents(&table);
        let taken = data.iter().filter(|partition| partition.role != Role::Extended);
        let usage = Usage {
            capacity: self.drive.size(),
            allocation: taken.map(|partition| self.drive.in_bytes(partition).1).sum(),
            available: free_extents.iter().map(|free| free.end - free.start).sum(),
        };
        Ok(Listing { usage, volumes, skipped, free_extents })
    }

    pub(super) fn room<'t>(&self, table: &'t Table) -> Room<'t> {
        Room { table, sector: self.drive.sector }
    }

    fn free_extents(&self, table: &Table) -> Vec<FreeExtent> {
        let sector = self.drive.sector;
        let free = self.room(table).free().into_iter();
        free.map(|free| FreeExtent { start: free.start * sector, end: free.end * sector }).collect()
    }

    /// The volume that a partition is; none if its name cannot be one's.
    pub(super) fn volume(&self, table: &Table, partition: &Partition) -> Option<Volume> {
        let device = self.drive.partition_device(partition);
        let target = self.pool.def.target_path();
        let (name, path) = names::of(&self.drive, partition, device.as_ref(), target);
        let (start, length) = self.drive.in_bytes(partition);
        let extent =
            Extent { device: self.drive.path.to_str()?.to_owned(), start, end: start + length };
        let mut volume = self.volumes.volume(Found {
            name: VolumeName::found(&name)?,
            // Of a table's own id and a number only when numbers stay.
            key: partition.id.clone().filter(|_| table.label == super::Label::Gpt),
            path: path.to_str()?.to_owned(),
            device,
            capacity: length,
            allocation: length,
            format: partition.format,
            extents: vec![extent],
            attributes: None,
        });
        if partition.role == Role::Extended {
            volume.format = VolumeFormat::Extended;
        }
        Some(volume)
    }

    /// A volume as it is now.
    pub(super) fn read_again(&self, name: &VolumeName) -> Result<Volume> {
        let found = self.list()?.volumes.into_iter().find(|volume| volume.name == *name);
        found.ok_or_else(|| {
            self.pool.volume_error(ErrorKind::NotFound, name, "it is gone; refresh the pool")
        })
    }

    /// The partition that a volume is; `Conflict` when it lies elsewhere by now.
    pub(super) fn partition<'t>(
        &self,
        table: &'t Table,
        volume: &Volume,
    ) -> Result<Option<&'t Partition>> {
        let Some(extent) = volume.extents.first() else { return Ok(None) };
        let named = table.partitions.iter().find(|partition| {
            let device = self.drive.partition_device(partition);
            partition.role != Role::Own
                && names::of(&self.drive, partition, device.as_ref(), None).0
                    == volume.name.as_str()
        });
        let Some(partition) = named else { return Ok(None) };
        let (start, length) = self.drive.in_bytes(partition);
        match (start, start + length) == (extent.start, extent.end) {
            true => Ok(Some(partition)),
            false => Err(self.pool.volume_error(
                ErrorKind::Conflict,
                &volume.name,
                "the disk's table was changed since; refresh the pool and look at it again",
            )),
        }
    }
}
