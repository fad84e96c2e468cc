//! Making a partition.

use super::place::Free;
use super::{CloneSource, Error, ErrorKind, NewPartition, Opened, Result, Role, Table, names};
use crate::backend::Undo;
use crate::backend::block_volumes::Fresh;
use crate::image::partitions::Partition;
use crate::model::{Volume, VolumeDef, VolumeFormat, format_size};
use uuid::Uuid;

impl Opened<'_> {
    /// Makes a volume, empty or with another's content.
    pub(super) fn create(&self, def: &VolumeDef, source: Option<&CloneSource>) -> Result<Volume> {
        let cloned = source.map(|source| self.volumes.clone_def(def, source)).transpose()?;
        let def = cloned.as_ref().unwrap_or(def);
        self.check(def)?;
        let size = self.volumes.device_size(def)?;
        let (volume, _open) = self.make(def, size)?;
        match source {
            Some(source) => self.volumes.fill(def, &volume, source, Fresh::Anything)?,
            None => self.volumes.encrypt(def, &volume)?,
        }
        self.read_again(&volume.name)
    }

    fn check(&self, def: &VolumeDef) -> Result<()> {
        let refuse =
            |what| Err(self.pool.volume_error(ErrorKind::InvalidArgument, &def.name, what));
        if def.backing.is_some() {
            return refuse("a partition is no difference to another volume; clone that");
        }
        if def.format == Some(VolumeFormat::Extended) && def.encryption.is_some() {
            return refuse("an extended partition has no content to encrypt");
        }
        self.volumes.check_new(def)
    }

    /// Makes the partition; what comes with it keeps the kernel from reading the table anew, which
    /// takes nodes away for a moment.
    fn make(&self, def: &VolumeDef, size: u64) -> Result<(Volume, Option<std::fs::File>)> {
        let locked = self.drive.lock()?;
        let table = self.table()?;
        let partition = self.plan(&table, def, size)?;
        let (start, length) = self.drive.in_bytes(&partition);
        self.ctx.journal.record(&Undo::RemovePartition(NewPartition {
            disk: self.drive.path.clone(),
            size: self.drive.size(),
            table: table.id(),
            number: partition.number,
            start,
            length,
            id: partition.id.clone().filter(|_| table.label == super::Label::Gpt),
        }))?;
        locked.write(&table.add(&partition))?;
        let named = |error| self.pool.of_volume(&def.name, error);
        locked.announce(&partition).map_err(named)?;
        let device = self.drive.partition_device(&partition);
        let open = device.as_ref().and_then(|device| device.open(false, false).ok());
        // udev looks at it only then.
        drop(locked);
        if let Some(device) = &device {
            self.drive.await_names(device)?;
        }
        let table = self.table()?;
        let made = table.partition(partition.number).filter(|made| made.start == partition.start);
        let volume = made.and_then(|made| self.volume(&table, made));
        match volume {
            Some(volume) if volume.name == def.name && device.is_some() => Ok((volume, open)),
            Some(volume) => Err(self.pool.volume_error(
                ErrorKind::Conflict,
                &def.name,
                format!("its partition appeared as {}; it was removed", volume.name),
            )),
            None => Err(self.pool.volume_error(
                ErrorKind::Conflict,
                &def.name,
                "somebody else changed the disk's table meanwhile; try again",
            )),
        }
    }

    /// Which partition it will be: its name says of which number.
    fn plan(&self, table: &Table, def: &VolumeDef, size: u64) -> Result<Partition> {
        let refuse = |kind, what: String| Err(self.pool.volume_error(kind, &def.name, what));
        let format = def.format.unwrap_or(VolumeFormat::None);
        // What it holds is no type of a partition.
        let format = if format.is_image() { VolumeFormat::None } else { format };
        if !table.knows(format) {
            let what = format!(
                "the {} table has no type {format} for partitions; leave the format out",
                table.label
            );
            return refuse(ErrorKind::InvalidArgument, what);
        }
        let roles: &[Role] = match format {
            VolumeFormat::Extended => &[Role::Extended],
            _ => &[Role::Primary, Role::Logical],
        };
        let offered: Vec<(Role, u32, String)> = roles
            .iter()
            .filter_map(|role| Some((*role, table.next(*role)?)))
            .map(|(role, number)| (role, number, names::name(&self.drive, number)))
            .collect();
        let Some((role, number, _)) =
            offered.iter().find(|(.., name)| name == def.name.as_str()).cloned()
        else {
            return Err(self.misnamed(table, def, &offered));
        };
        let room = self.room(table);
        let logical = role == Role::Logical;
        let sectors = room.sectors(size);
        let free = room.best(logical, sectors).map_err(|largest| {
            let bytes = largest * self.drive.sector;
            let header = size - def.capacity.unwrap_or(0).min(size);
            let what = format!(
                "no free extent{} of {} has {size} bytes; the largest has {bytes} bytes ({}){}",
                if logical { " in the extended partition" } else { "" },
                self.drive.path.display(),
                format_size(bytes),
                if header != 0 { ", of which encryption takes 2 MiB" } else { "" },
            );
            self.pool.volume_error(ErrorKind::NoSpace, &def.name, what)
        })?;
        let Free { from, start, .. } = free;
        let id = (table.label == super::Label::Gpt).then(|| Uuid::new_v4().to_string());
        Ok(Partition { number, start, length: sectors, from, role, format, id })
    }

    /// The error of a name that the kernel will not give the partition, as libvirt refuses it.
    fn misnamed(&self, table: &Table, def: &VolumeDef, offered: &[(Role, u32, String)]) -> Error {
        let name = &def.name;
        let wrong = |what: String| self.pool.volume_error(ErrorKind::InvalidArgument, name, what);
        match offered {
            [] if table.extended().is_some() && def.format == Some(VolumeFormat::Extended) => {
                wrong("the disk has an extended partition already".to_owned())
            }
            [] if def.format == Some(VolumeFormat::Extended)
                && table.label != super::Label::Dos =>
            {
                wrong(format!("a {} table has no extended partitions", table.label))
            }
            [] => self.pool.volume_error(
                ErrorKind::NoSpace,
                name,
                format!("the {} table has no entry left; delete a partition first", table.label),
            ),
            [(.., only)] => wrong(format!(
                "a partition has the name that the kernel gives it, and this one would be {only}; call it that"
            )),
            [(.., first), (.., second), ..] => wrong(format!(
                "a partition has the name that the kernel gives it, and this one would be {first}, or {second} in the extended partition; call it that"
            )),
        }
    }
}
