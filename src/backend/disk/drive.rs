//! The disk that a pool is on: its table, the kernel's and the device mapper's partitions of it,
//! and changes to one of them.

use crate::host::block::partitions;
use crate::host::{BlockDevice, Command, Host, Limits};
use crate::image::partitions::{Disk, Geometry, Label, Partition, Patch, Role, Table, Unreadable};
use crate::model::{Error, ErrorKind, Result};
use rustix::fs::{FlockOperation, flock};
use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// What old programs take a disk's geometry to be when it tells none.
const USUAL: Geometry = Geometry { heads: 255, sectors: 63 };
/// How often a lock that somebody has is tried again.
const PAUSE: Duration = Duration::from_millis(10);
/// How long udev may take to give a partition its names.
const NAMING: Duration = Duration::from_secs(10);

/// A disk with a partition table, or to have one.
pub(super) struct Drive<'a> {
    /// As its pool names it.
    pub(super) path: PathBuf,
    pub(super) device: BlockDevice,
    /// Bytes of a logical sector.
    pub(super) sector: u64,
    /// How many it has.
    pub(super) sectors: u64,
    /// Whether a `p` stands before numbers, where its pool says that.
    pub(super) part_separator: Option<bool>,
    host: &'a dyn Host,
    limits: &'a Limits,
}

impl<'a> Drive<'a> {
    /// The disk at a path; `Inaccessible` while it is not there.
    pub(super) fn at(path: &Path, host: &'a dyn Host, limits: &'a Limits) -> Result<Self> {
        let shown = path.display();
        let device = BlockDevice::at(path).map_err(|error| match error.raw_os_error() {
            Some(libc::ENOTBLK) => {
                let what = format!("{shown} is no block device; name a disk");
                Error::new(ErrorKind::InvalidArgument, what)
            }
            _ => {
                let what = format!(
                    "disk {shown} is not there: {error}; plug it in, or correct the definition"
                );
                Error::new(ErrorKind::Inaccessible, what)
            }
        })?;
        let failed = |error: io::Error| {
            Error::new(ErrorKind::Inaccessible, format!("disk {shown} cannot be used: {error}"))
        };
        if device.partition().is_some() {
            let what = format!("{shown} is a partition; name the whole disk");
            return Err(Error::new(ErrorKind::InvalidArgument, what));
        }
        if let Some(why) = device.why_dead() {
            return Err(Error::new(ErrorKind::Inaccessible, format!("disk {shown} {why}")));
        }
        let sector = device.attribute("queue/logical_block_size");
        let sector = sector.and_then(|size| size.parse().ok()).filter(|size| *size >= 512);
        let sector = sector.unwrap_or(512);
        let sectors = device.size().map_err(failed)? / sector;
        if sectors == 0 {
            return Err(failed(io::Error::other("it has no medium")));
        }
        let path = path.to_owned();
        Ok(Self { path, device, sector, sectors, part_separator: None, host, limits })
    }

    /// In bytes.
    pub(super) fn size(&self) -> u64 {
        self.sectors * self.sector
    }

    fn failed(&self, what: &str, error: &io::Error) -> Error {
        Error::new(ErrorKind::Inaccessible, format!("{what} {}: {error}", self.path.display()))
    }

    /// Its table, if it has one; `Conflict` when that contradicts itself. Opens the disk for reading
    /// only: a writer would be an event of the device.
    pub(super) fn table(&self) -> Result<Option<Table>> {
        let file =
            self.device.open(false, false).map_err(|error| self.failed("cannot open", &error))?;
        let told = partitions::geometry(&file);
        let told = told.map(|(heads, sectors)| Geometry { heads, sectors });
        let table = match self.read(&file, told.unwrap_or(USUAL)) {
            // It counts in cylinders and does not say how large they are: whoever wrote it knew.
            Ok(Some(Table { label: Label::Pc98, .. }))
            | Err(Unreadable::Damaged(Label::Pc98, _))
                if told.is_none() =>
            {
                self.read(&file, self.parted_geometry()?)
            }
            table => table,
        };
        table.map_err(|why| match why {
            Unreadable::Failed(error) => self.failed("cannot read the partition table of", &error),
            Unreadable::Damaged(label, what) => Error::new(
                ErrorKind::Conflict,
                format!(
                    "the {label} partition table of {} is damaged: {what}",
                    self.path.display()
                ),
            ),
        })
    }

    fn read(&self, file: &File, geometry: Geometry) -> Result<Option<Table>, Unreadable> {
        let read = |at: u64, length: usize| {
            let mut bytes = vec![0; length];
            file.read_exact_at(&mut bytes, at).map(|()| bytes)
        };
        let (sector, sectors) = (self.sector, self.sectors);
        Table::read(&Disk { sector, sectors, geometry, read: &read })
    }

    /// The geometry that parted supposes a disk to have that tells none. Asked once: parted opens the
    /// disk for writing.
    fn parted_geometry(&self) -> Result<Geometry> {
        static KNOWN: Mutex<Option<HashMap<(PathBuf, u64), Geometry>>> = Mutex::new(None);
        let key = (self.device.node(), self.sectors);
        let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
        let known = known.get_or_insert_default();
        if let Some(geometry) = known.get(&key) {
            return Ok(*geometry);
        }
        let mut args: Vec<_> = ["-s", "-m", "--"].map(Into::into).into();
        args.extend([self.device.node().into(), "unit".into(), "chs".into(), "print".into()]);
        let parted = Command { program: "parted", args, ..Command::default() };
        let said = self.host.run(&parted, self.limits)?.stdout;
        let said = String::from_utf8_lossy(&said);
        // "CYL;", the disk, then cylinders, heads and sectors.
        let line = said.lines().nth(2).unwrap_or_default();
        let mut numbers = line.split(':').skip(1).map_while(|word| word.parse::<u64>().ok());
        match (numbers.next(), numbers.next()) {
            (Some(heads), Some(sectors)) if heads * sectors != 0 => {
                let geometry = Geometry { heads, sectors };
                known.insert(key, geometry);
                Ok(geometry)
            }
            _ => {
                let what = format!("parted tells no geometry of {}", self.path.display());
                Err(Error::new(ErrorKind::ToolFailed, what))
            }
        }
    }

    /// Takes the lock that udev, sfdisk and others heed while they look at or change a table.
    pub(super) fn lock(&self) -> Result<Locked<'_>> {
        // For reading: closing it is no event.
        let file =
            self.device.open(false, false).map_err(|error| self.failed("cannot open", &error))?;
        loop {
            self.limits.check()?;
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => return Ok(Locked { drive: self, file }),
                Err(rustix::io::Errno::WOULDBLOCK | rustix::io::Errno::INTR) => {
                    std::thread::sleep(PAUSE);
                }
                Err(error) => return Err(self.failed("cannot lock", &error.into())),
            }
        }
    }

    /// The device of a partition, as far as the kernel knows it there.
    pub(super) fn partition_device(&self, partition: &Partition) -> Option<BlockDevice> {
        let (start, length) = self.in_bytes(partition);
        let number = partition.number;
        if self.device.mapped().is_some() {
            let prefix = format!("part{number}-");
            let ours = |(_, uuid): (String, String)| uuid.starts_with(&prefix);
            let mut holders = self.device.holders().into_iter();
            return holders.find(|holder| {
                holder.mapped().is_some_and(ours) && holder.size().is_ok_and(|size| size == length)
            });
        }
        self.device.partitions().into_iter().find(|device| {
            device.partition().is_some_and(|(_, place)| {
                let same_size = place.size == length || partition.role == Role::Extended;
                place.number == number && place.start == start && same_size
            })
        })
    }

    /// Start and length of a partition in bytes.
    pub(super) fn in_bytes(&self, partition: &Partition) -> (u64, u64) {
        (partition.start * self.sector, partition.length * self.sector)
    }

    /// Waits until udev has given a new partition its names, where udev runs.
    pub(super) fn await_names(&self, device: &BlockDevice) -> Result<()> {
        self.limits.look_for(NAMING, || device.is_named_by_udev().then_some(())).map(drop)
    }
}

/// A disk whose table nobody else changes who heeds its lock.
pub(super) struct Locked<'a> {
    pub(super) drive: &'a Drive<'a>,
    file: File,
}

impl Locked<'_> {
    /// Writes changes of the table, in their order; synced.
    pub(super) fn write(&self, patches: &[Patch]) -> Result<()> {
        let drive = self.drive;
        let failed = |error: io::Error| drive.failed("cannot write the partition table of", &error);
        let file = drive.device.open(true, false).map_err(failed)?;
        for patch in patches {
            file.write_all_at(&patch.bytes, patch.offset).map_err(failed)?;
            // Each whole before the next: what they are ordered for.
            file.sync_data().map_err(failed)?;
        }
        Ok(())
    }

    /// Has the kernel know a partition that the table has.
    pub(super) fn announce(&self, partition: &Partition) -> Result<()> {
        if self.drive.device.mapped().is_some() {
            return self.map();
        }
        let (start, length) = self.drive.in_bytes(partition);
        let length = if partition.role == Role::Extended { SHOWN_OF_EXTENDED } else { length };
        partitions::add(&self.file, partition.number, start, length)
            .map_err(|error| self.refused(partition.number, &error))
    }

    /// Has the kernel forget a partition; `Busy` when anybody has it open.
    pub(super) fn withdraw(&self, number: u32) -> Result<()> {
        if self.drive.device.mapped().is_some() {
            return self.unmap(number);
        }
        partitions::forget(&self.file, number).map_err(|error| self.refused(number, &error))
    }

    /// Has the kernel know another length of a partition.
    pub(super) fn resize(&self, partition: &Partition) -> Result<()> {
        if self.drive.device.mapped().is_some() {
            return self.map();
        }
        if partition.role == Role::Extended {
            return Ok(());
        }
        let (start, length) = self.drive.in_bytes(partition);
        partitions::resize(&self.file, partition.number, start, length)
            .map_err(|error| self.refused(partition.number, &error))
    }

    /// Has the device mapper have the partitions of a disk of its own that the table has: kpartx
    /// leaves alone what has not changed.
    fn map(&self) -> Result<()> {
        let args = ["-u", "-s", "-p", super::names::separator(self.drive)];
        let mut args: Vec<_> = args.map(Into::into).into();
        args.push(self.drive.path.clone().into());
        let kpartx = Command { program: "kpartx", args, ..Command::default() };
        self.drive.host.run(&kpartx, self.drive.limits).map(drop)
    }

    /// Has the device mapper give up the partition of a disk of its own.
    fn unmap(&self, number: u32) -> Result<()> {
        let prefix = format!("part{number}-");
        let holders = self.drive.device.holders();
        let mut maps = holders.iter().filter_map(|holder| Some((holder, holder.mapped()?)));
        let Some((holder, (name, _))) = maps.find(|(_, (_, uuid))| uuid.starts_with(&prefix))
        else {
            return Ok(());
        };
        let args = ["remove", "--", &name].map(Into::into).into();
        let dmsetup = Command { program: "dmsetup", args, ..Command::default() };
        match self.drive.host.run(&dmsetup, self.drive.limits) {
            Ok(_) => Ok(()),
            Err(error) => match holder.user()? {
                Some(_) => Err(self.refused(number, &io::Error::from_raw_os_error(libc::EBUSY))),
                None => Err(error),
            },
        }
    }

    /// Makes the kernel's partitions those of the table; `Busy` when somebody uses one that is not.
    pub(super) fn agree(&self, table: &Table) -> Result<()> {
        let drive = self.drive;
        if drive.device.mapped().is_some() {
            let data = table.partitions.iter().filter(|one| one.role != Role::Own);
            let missing = data.into_iter().any(|one| drive.partition_device(one).is_none());
            return if missing { self.map() } else { Ok(()) };
        }
        for device in drive.device.partitions() {
            let Some((_, place)) = device.partition() else { continue };
            let own = table.partition(place.number);
            let moved = own.is_none_or(|own| drive.in_bytes(own).0 != place.start);
            match own {
                _ if moved => self.withdraw(place.number)?,
                Some(own) if drive.partition_device(own).is_none() => self.resize(own)?,
                _ => {}
            }
        }
        let data = table.partitions.iter().filter(|one| one.role != Role::Own);
        for partition in data {
            if drive.partition_device(partition).is_none() {
                self.announce(partition)?;
            }
        }
        Ok(())
    }

    fn refused(&self, number: u32, error: &io::Error) -> Error {
        let path = self.drive.path.display();
        match error.raw_os_error() {
            Some(libc::EBUSY) => Error::new(
                ErrorKind::Busy,
                format!("partition {number} of {path} is in use; end that first"),
            ),
            _ => Error::io(format_args!("the kernel refuses partition {number} of {path}"), error),
        }
    }
}

/// What the kernel shows of an extended partition: enough for a boot loader.
const SHOWN_OF_EXTENDED: u64 = 1024;
