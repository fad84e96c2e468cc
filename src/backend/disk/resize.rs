//! Changing the length of a partition where it lies.

use super::{ErrorKind, Opened, ResizeOptions, Result, Role, Table};
use crate::image::partitions::Partition;
use crate::model::{Error, Volume, format_size};

impl Opened<'_> {
    /// Changes a volume's capacity and reads it. One in use may grow.
    pub(super) fn resize(
        &self,
        volume: &Volume,
        capacity: u64,
        options: ResizeOptions,
    ) -> Result<Volume> {
        let name = &volume.name;
        let refuse = |kind, what: String| Err(self.pool.volume_error(kind, name, what));
        if let Some(why) = &volume.incomplete {
            return refuse(ErrorKind::Conflict, format!("it is not whole ({why})"));
        }
        let locked = self.drive.lock()?;
        let table = self.table()?;
        let Some(partition) = self.partition(&table, volume)? else {
            return refuse(ErrorKind::NotFound, "it is gone; refresh the pool".to_owned());
        };
        self.volumes.check_resize(volume, capacity, options)?;
        let header = volume.physical.saturating_sub(volume.capacity);
        let size = capacity.checked_add(header).filter(|_| capacity != 0);
        let Some(size) = size else {
            return refuse(ErrorKind::InvalidArgument, "it cannot have this capacity".to_owned());
        };
        let length = self.room(&table).sectors(size);
        let changed = Partition { length, ..partition.clone() };
        if length > partition.length {
            self.check_room(&table, partition, length, header, volume)?;
            // The table first: what the kernel shows is always there.
            locked.write(&table.resize(partition, length))?;
            if let Err(error) = locked.resize(&changed) {
                locked.write(&table.resize(&changed, partition.length))?;
                return Err(self.pool.of_volume(name, error));
            }
        } else if length < partition.length {
            self.check_cut(&table, partition, length, volume)?;
            locked.resize(&changed).map_err(|error| self.pool.of_volume(name, error))?;
            locked.write(&table.resize(partition, length)).inspect_err(|_| {
                // As it was, as far as the disk still answers.
                let _ = locked.resize(partition);
            })?;
        }
        drop(locked);
        self.read_again(name)
    }

    fn check_room(
        &self,
        table: &Table,
        partition: &Partition,
        length: u64,
        header: u64,
        volume: &Volume,
    ) -> Result<()> {
        let limit = self.room(table).limit(partition);
        if partition.start.checked_add(length).is_some_and(|end| end <= limit) {
            return Ok(());
        }
        let most = ((limit - partition.start) * self.drive.sector).saturating_sub(header);
        let what = format!(
            "it can grow to {most} bytes ({}), where the free extent behind it ends",
            format_size(most)
        );
        Err(self.pool.volume_error(ErrorKind::NoSpace, &volume.name, what))
    }

    /// Refuses to cut off logical partitions.
    fn check_cut(
        &self,
        table: &Table,
        partition: &Partition,
        length: u64,
        volume: &Volume,
    ) -> Result<()> {
        let end = partition.start + length;
        let logical = |one: &&Partition| one.role == Role::Logical && one.end() > end;
        let cut = table.partitions.iter().rfind(logical);
        match cut.filter(|_| partition.role == Role::Extended) {
            None => Ok(()),
            Some(cut) => Err(Error::new(
                ErrorKind::Busy,
                format!(
                    "volume {} in pool {}: partition {} lies in what it would lose; delete that first",
                    volume.name, self.pool.def.name, cut.number
                ),
            )),
        }
    }
}
