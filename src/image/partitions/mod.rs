//! Partition tables of disks: what they say, and what is to be written to change one partition of
//! them and nothing else.
//!
//! Reading and changing are pure: bytes come from a function, changes are ranges of bytes to write.
//! The tables are those that parted makes of the labels that libvirt knows, and are read as
//! parted reads them. Used by `backend`.

mod bsd;
mod bytes;
mod dos;
mod dvh;
mod gpt;
mod logical;
mod mac;
mod pc98;
mod sun;
#[cfg(test)]
pub(crate) mod tests;

use crate::model::VolumeFormat;
use std::fmt;
use std::io;
use std::ops::Range;

/// What kind of table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Label {
    Dos,
    Gpt,
    Mac,
    Bsd,
    Pc98,
    Sun,
    Dvh,
}

impl Label {
    /// All of them.
    pub const ALL: [Self; 7] =
        [Self::Dos, Self::Gpt, Self::Mac, Self::Bsd, Self::Pc98, Self::Sun, Self::Dvh];

    /// libvirt's word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Dos => "dos",
            Self::Gpt => "gpt",
            Self::Mac => "mac",
            Self::Bsd => "bsd",
            Self::Pc98 => "pc98",
            Self::Sun => "sun",
            Self::Dvh => "dvh",
        }
    }

    /// The one that libvirt's word means.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|label| label.as_str() == name)
    }

    /// parted's word.
    pub fn parted(self) -> &'static str {
        match self {
            Self::Dos => "msdos",
            other => other.as_str(),
        }
    }
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// How a disk says that it is divided; only labels of old count in cylinders.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Geometry {
    /// Heads.
    pub heads: u64,
    /// Sectors of a track.
    pub sectors: u64,
}

/// A disk to be read. Everything is counted in its logical sectors.
#[derive(Clone, Copy)]
pub struct Disk<'a> {
    /// Bytes of a logical sector.
    pub sector: u64,
    /// How many it has.
    pub sectors: u64,
    /// How it is divided.
    pub geometry: Geometry,
    /// Reads so many bytes from a byte on.
    pub read: &'a dyn Fn(u64, usize) -> io::Result<Vec<u8>>,
}

impl Disk<'_> {
    /// The bytes of sectors, which must be on the disk.
    fn at(&self, first: u64, count: u64) -> Result<Vec<u8>, Unreadable> {
        let beyond = || Unreadable::Failed(io::ErrorKind::UnexpectedEof.into());
        if first.checked_add(count).is_none_or(|end| end > self.sectors) {
            return Err(beyond());
        }
        let length = usize::try_from(count * self.sector).map_err(|_| beyond())?;
        (self.read)(first * self.sector, length).map_err(Unreadable::Failed)
    }

    /// The first bytes of a disk, at least one sector; zeros where it is shorter.
    fn head(&self, length: usize) -> Result<Vec<u8>, Unreadable> {
        let count = (length as u64).div_ceil(self.sector).min(self.sectors);
        let mut bytes = self.at(0, count)?;
        bytes.resize(length.max(bytes.len()), 0);
        Ok(bytes)
    }
}

/// Why there is no table.
#[derive(Debug)]
pub enum Unreadable {
    /// The disk could not be read.
    Failed(io::Error),
    /// There is one, and it contradicts itself.
    Damaged(Label, String),
}

/// What a partition is to its table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// A partition.
    Primary,
    /// One that has logical ones in it.
    Extended,
    /// One in an extended one.
    Logical,
    /// The table's own place, or the whole disk: no place for data.
    Own,
}

/// A partition, in sectors.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Partition {
    /// Its number.
    pub number: u32,
    /// First sector.
    pub start: u64,
    /// Length.
    pub length: u64,
    /// First sector that is taken for it: a logical one has its part of the table before it.
    pub from: u64,
    /// What it is to the table.
    pub role: Role,
    /// Its type.
    pub format: VolumeFormat,
    /// What no other partition of any disk has, where the label knows such.
    pub id: Option<String>,
}

impl Partition {
    /// First sector after it.
    pub fn end(&self) -> u64 {
        self.start.saturating_add(self.length)
    }

    fn plain(number: u32, start: u64, length: u64, format: VolumeFormat) -> Self {
        Self { number, start, length, from: start, role: Role::Primary, format, id: None }
    }

    fn own(self) -> Self {
        Self { role: Role::Own, ..self }
    }
}

/// Bytes to be written at a place of the disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Patch {
    /// Where, in bytes.
    pub offset: u64,
    /// What.
    pub bytes: Vec<u8>,
}

/// A kind of table, read from a disk.
trait Scheme: fmt::Debug + Send + Sync {
    fn partitions(&self) -> Vec<Partition>;
    /// Where partitions may lie.
    fn room(&self) -> Range<u64>;
    /// Numbers that it has for primary partitions, in the order in which they are given.
    fn numbers(&self) -> Vec<u32>;
    /// What tells it from the table of another disk.
    fn id(&self) -> Option<String> {
        None
    }
    /// A partition of this type can be told from others; `None` always can be had.
    fn knows(&self, format: VolumeFormat) -> bool;
    /// Starts and ends of partitions are multiples of this.
    fn cylinder(&self) -> Option<u64> {
        None
    }
    /// The largest number of a sector that it can write down.
    fn limit(&self) -> u64 {
        u64::from(u32::MAX)
    }
    /// Adds a partition of a free number, or changes where the one of its number lies.
    fn put(&self, partition: &Partition) -> Vec<Patch>;
    /// Takes the partition of a number away.
    fn take(&self, number: u32) -> Vec<Patch>;
}

/// The table of a disk.
#[derive(Debug)]
pub struct Table {
    /// Its kind.
    pub label: Label,
    /// Its partitions, in the order of their numbers.
    pub partitions: Vec<Partition>,
    scheme: Box<dyn Scheme>,
}

impl Table {
    /// Reads the table of a disk; `None` when it has none.
    pub fn read(disk: &Disk<'_>) -> Result<Option<Self>, Unreadable> {
        // A table of one kind may look like one of a kind further down.
        let found: Option<(Label, Box<dyn Scheme>)> = if let Some(gpt) = gpt::Gpt::read(disk)? {
            Some((Label::Gpt, Box::new(gpt)))
        } else if let Some(pc98) = pc98::Pc98::read(disk)? {
            Some((Label::Pc98, Box::new(pc98)))
        } else if let Some(sun) = sun::Sun::read(disk)? {
            Some((Label::Sun, Box::new(sun)))
        } else if let Some(dvh) = dvh::Dvh::read(disk)? {
            Some((Label::Dvh, Box::new(dvh)))
        } else if let Some(mac) = mac::Mac::read(disk)? {
            Some((Label::Mac, Box::new(mac)))
        } else if let Some(bsd) = bsd::Bsd::read(disk)? {
            Some((Label::Bsd, Box::new(bsd)))
        } else if let Some(dos) = dos::Dos::read(disk)? {
            Some((Label::Dos, Box::new(dos)))
        } else {
            None
        };
        let Some((label, scheme)) = found else { return Ok(None) };
        let mut partitions = scheme.partitions();
        partitions.sort_by_key(|partition| partition.number);
        check(label, &partitions, disk.sectors)?;
        Ok(Some(Self { label, partitions, scheme }))
    }

    /// Where partitions may lie, in sectors.
    pub fn room(&self) -> Range<u64> {
        self.scheme.room()
    }

    /// What tells it from the table of another disk, where the label knows such.
    pub fn id(&self) -> Option<String> {
        self.scheme.id()
    }

    /// The unit in which the label counts, in sectors, where that is not the sector.
    pub fn cylinder(&self) -> Option<u64> {
        self.scheme.cylinder()
    }

    /// The largest number of a sector that the label can write down.
    pub fn limit(&self) -> u64 {
        self.scheme.limit()
    }

    /// Whether the label can say that a partition is of this type.
    pub fn knows(&self, format: VolumeFormat) -> bool {
        format == VolumeFormat::None || self.scheme.knows(format)
    }

    /// The partition of a number.
    pub fn partition(&self, number: u32) -> Option<&Partition> {
        self.partitions.iter().find(|partition| partition.number == number)
    }

    /// The extended partition.
    pub fn extended(&self) -> Option<&Partition> {
        self.partitions.iter().find(|partition| partition.role == Role::Extended)
    }

    /// The number that a new partition gets, if there may be one more.
    pub fn next(&self, role: Role) -> Option<u32> {
        match role {
            Role::Logical => {
                self.extended()?;
                let logical = self.partitions.iter().filter(|one| one.role == Role::Logical);
                let next = logical.count() + logical::FIRST as usize;
                u32::try_from(next).ok().filter(|next| *next < logical::END)
            }
            Role::Extended if self.label != Label::Dos || self.extended().is_some() => None,
            Role::Own => None,
            Role::Primary | Role::Extended => {
                self.scheme.numbers().into_iter().find(|number| self.partition(*number).is_none())
            }
        }
    }

    /// What is to be written to add a partition, whose number is `next`.
    pub fn add(&self, partition: &Partition) -> Vec<Patch> {
        self.scheme.put(partition)
    }

    /// What is to be written to give a partition another length.
    pub fn resize(&self, partition: &Partition, length: u64) -> Vec<Patch> {
        self.scheme.put(&Partition { length, ..partition.clone() })
    }

    /// What is to be written to take a partition away. Logical ones of higher numbers move down.
    pub fn remove(&self, partition: &Partition) -> Vec<Patch> {
        self.scheme.take(partition.number)
    }
}

/// Refuses a table whose partitions overlap or do not lie on the disk.
fn check(label: Label, partitions: &[Partition], sectors: u64) -> Result<(), Unreadable> {
    let damaged = |what: String| Err(Unreadable::Damaged(label, what));
    let data = |one: &&Partition| one.role != Role::Own;
    for one in partitions.iter().filter(data) {
        let number = one.number;
        if one.length == 0 || one.end() > sectors {
            return damaged(format!("partition {number} does not lie on the disk"));
        }
        let other = partitions.iter().filter(data).find(|other| {
            let nested = matches!(
                (one.role, other.role),
                (Role::Extended, Role::Logical) | (Role::Logical, Role::Extended)
            );
            other.number < number && !nested && one.start < other.end() && other.start < one.end()
        });
        if let Some(other) = other {
            return damaged(format!("partitions {} and {number} overlap", other.number));
        }
    }
    let Some(extended) = partitions.iter().find(|one| one.role == Role::Extended) else {
        return Ok(());
    };
    let outside = partitions.iter().find(|one| {
        one.role == Role::Logical && (one.from < extended.start || one.end() > extended.end())
    });
    match outside {
        Some(one) => damaged(format!("partition {} is not in the extended one", one.number)),
        None => Ok(()),
    }
}
