//! The table of IBM's PC: four entries in the first sector, one of which may be extended.

use super::bytes::{Bytes, word};
use super::logical::{self, Chain};
use super::{Disk, Label, Partition, Patch, Role, Scheme, Unreadable};
use crate::model::VolumeFormat;
use std::ops::Range;

/// Where the entries begin, and how long one is.
pub(super) const ENTRIES: usize = 446;
pub(super) const ENTRY: usize = 16;
/// Ends a sector that has entries.
pub(super) const SIGNATURE: u16 = 0xaa55;
/// The types that an extended partition may have.
const EXTENDED: [u8; 3] = [0x05, 0x0f, 0x85];
/// Types by what they are called; the first one of a name is written.
const TYPES: [(VolumeFormat, u8); 11] = [
    (VolumeFormat::Linux, 0x83),
    (VolumeFormat::Fat16, 0x06),
    (VolumeFormat::Fat16, 0x04),
    (VolumeFormat::Fat16, 0x0e),
    (VolumeFormat::Fat32, 0x0c),
    (VolumeFormat::Fat32, 0x0b),
    (VolumeFormat::LinuxSwap, 0x82),
    (VolumeFormat::LinuxLvm, 0x8e),
    (VolumeFormat::LinuxRaid, 0xfd),
    (VolumeFormat::Extended, 0x0f),
    (VolumeFormat::Extended, 0x05),
];

/// What a type is called.
pub(super) fn format_of(kind: u8) -> VolumeFormat {
    let known = TYPES.iter().find(|(_, known)| *known == kind);
    known.map_or(VolumeFormat::None, |(format, _)| *format)
}

/// The type of what is called so; without a name, a Linux one as parted makes it.
pub(super) fn type_of(format: VolumeFormat) -> u8 {
    TYPES.iter().find(|(known, _)| *known == format).map_or(TYPES[0].1, |(_, kind)| *kind)
}

pub(super) fn is_extended(kind: u8) -> bool {
    EXTENDED.contains(&kind)
}

/// Writes an entry: type and place, both also in the form of old, which tells nothing beyond
/// 8 GiB.
pub(super) fn write_entry(entry: &mut [u8], kind: u8, start: u64, length: u64, base: u64) {
    let chs = |sector: u64| {
        let (track, cylinder) = (sector / 63, sector / 63 / 255);
        match u16::try_from(cylinder) {
            Ok(cylinder) if cylinder < 1024 => {
                let high = (cylinder >> 2).to_le_bytes()[0] & 0xc0;
                let head = (track % 255).to_le_bytes()[0];
                [head, high | ((sector % 63).to_le_bytes()[0] + 1), cylinder.to_le_bytes()[0]]
            }
            _ => [0xfe, 0xff, 0xff],
        }
    };
    entry.set(1, &chs(base + start));
    entry.set(4, &[kind]);
    entry.set(5, &chs(base + start + length.saturating_sub(1)));
    entry.set(8, &word(start).to_le_bytes());
    entry.set(12, &word(length).to_le_bytes());
}

#[derive(Debug)]
pub(super) struct Dos {
    /// The first 512 bytes.
    head: Vec<u8>,
    sectors: u64,
    sector: u64,
    chain: Option<Chain>,
}

impl Dos {
    pub(super) fn read(disk: &Disk<'_>) -> Result<Option<Self>, Unreadable> {
        let mut head = disk.head(512)?;
        head.truncate(512);
        let entries = || head.get(ENTRIES..510).unwrap_or_default().chunks(ENTRY);
        // A boot sector of a file system ends alike.
        let looks_like_fat = head.get(54..57) == Some(b"FAT".as_slice())
            || head.get(82..85) == Some(b"FAT".as_slice())
            || head.get(3..7) == Some(b"NTFS".as_slice());
        let odd = entries().any(|entry| entry.u8(0) & 0x7f != 0);
        let empty = entries().all(|entry| entry.u8(4) == 0);
        if head.le16(510) != SIGNATURE || odd || (looks_like_fat && empty) {
            return Ok(None);
        }
        let mut extended = entries().filter(|entry| is_extended(entry.u8(4)));
        let chain = match (extended.next(), extended.next()) {
            (None, _) => None,
            (Some(entry), None) => {
                let (start, length) = (entry.le32(8).into(), entry.le32(12).into());
                Some(Chain::read(disk, start, length)?)
            }
            (Some(_), Some(_)) => {
                let what = "it has more than one extended partition".to_owned();
                return Err(Unreadable::Damaged(Label::Dos, what));
            }
        };
        Ok(Some(Self { head, sectors: disk.sectors, sector: disk.sector, chain }))
    }

    fn changed(&self, change: impl FnOnce(&mut [u8]), number: u32) -> Patch {
        let mut bytes = self.head.clone();
        let at = ENTRIES + ENTRY * (number as usize).saturating_sub(1);
        if let Some(entry) = bytes.get_mut(at..at + ENTRY) {
            change(entry);
        }
        Patch { offset: 0, bytes }
    }

    fn id_of(&self, number: u32) -> Option<String> {
        let id = self.head.le32(440);
        (id != 0).then(|| format!("{id:08x}-{number:02x}"))
    }
}

impl Scheme for Dos {
    fn partitions(&self) -> Vec<Partition> {
        let entries = self.head.get(ENTRIES..510).unwrap_or_default().chunks(ENTRY).zip(1..);
        let used = entries.filter(|(entry, _)| entry.u8(4) != 0 && entry.le32(12) != 0);
        let primary = used.map(|(entry, number)| {
            let (kind, format) = (entry.u8(4), format_of(entry.u8(4)));
            let plain =
                Partition::plain(number, entry.le32(8).into(), entry.le32(12).into(), format);
            match is_extended(kind) {
                true => Partition { role: Role::Extended, format: VolumeFormat::Extended, ..plain },
                false => plain,
            }
        });
        let logical = self.chain.iter().flat_map(Chain::partitions);
        primary.chain(logical).map(|one| Partition { id: self.id_of(one.number), ..one }).collect()
    }

    fn room(&self) -> Range<u64> {
        1..self.sectors.min(self.limit())
    }

    fn numbers(&self) -> Vec<u32> {
        (1..logical::FIRST).collect()
    }

    fn id(&self) -> Option<String> {
        let id = self.head.le32(440);
        (id != 0).then(|| format!("{id:08x}"))
    }

    fn knows(&self, format: VolumeFormat) -> bool {
        TYPES.iter().any(|(known, _)| *known == format)
    }

    fn put(&self, partition: &Partition) -> Vec<Patch> {
        let place = (partition.start, partition.length);
        if partition.role == Role::Logical {
            return self.chain.iter().flat_map(|chain| chain.put(partition)).collect();
        }
        let entry = self.changed(
            |entry| {
                let kind = match entry.u8(4) {
                    0 => type_of(partition.format),
                    kind => kind,
                };
                write_entry(entry, kind, place.0, place.1, 0);
            },
            partition.number,
        );
        let is_new = self.partitions().iter().all(|one| one.number != partition.number);
        match partition.role == Role::Extended && is_new {
            // Before it is found, there must be no chain in it.
            true => vec![logical::nothing(partition.start, self.sector), entry],
            false => vec![entry],
        }
    }

    fn take(&self, number: u32) -> Vec<Patch> {
        match (number >= logical::FIRST, &self.chain) {
            (true, Some(chain)) => chain.take(number),
            _ => vec![self.changed(|entry| entry.fill(0), number)],
        }
    }
}
