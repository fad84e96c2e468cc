//! Apple's partition map: a sector for each partition, for the map itself, and for what is free.

use super::bytes::{Bytes, word};
use super::{Disk, Label, Partition, Patch, Scheme, Unreadable};
use crate::model::VolumeFormat;
use std::ops::Range;

const MAGIC: u16 = 0x4552;
const ENTRY_MAGIC: u16 = 0x504d;
/// Start, length, name and type in an entry.
const COUNT: usize = 4;
const START: usize = 8;
const LENGTH: usize = 12;
const NAME: usize = 16;
const KIND: usize = 48;
const TEXT: usize = 32;
const DATA_LENGTH: usize = 84;
const STATUS: usize = 88;
/// Valid, allocated, readable and writable, as parted says it.
const IN_USE: u32 = 0x33;
const MAP: &[u8] = b"Apple_partition_map";
const FREE: &[u8] = b"Apple_Free";
const VOID: &[u8] = b"Apple_Void";
const TYPES: [(VolumeFormat, &[u8]); 3] = [
    (VolumeFormat::Linux, b"Apple_UNIX_SVR2"),
    (VolumeFormat::LinuxLvm, b"Linux_LVM"),
    (VolumeFormat::LinuxRaid, b"Linux_RAID"),
];
/// Most entries that are read.
const MOST: u32 = 1024;

#[derive(Debug)]
pub(super) struct Mac {
    sector: u64,
    sectors: u64,
    entries: Vec<Vec<u8>>,
}

fn text(entry: &[u8], at: usize) -> &[u8] {
    let text = entry.get(at..at + TEXT).unwrap_or_default();
    text.split(|byte| *byte == 0).next().unwrap_or_default()
}

fn is_free(entry: &[u8]) -> bool {
    [FREE, VOID].contains(&text(entry, KIND))
}

impl Mac {
    pub(super) fn read(disk: &Disk<'_>) -> Result<Option<Self>, Unreadable> {
        let damaged = |what: &str| Err(Unreadable::Damaged(Label::Mac, what.to_owned()));
        let head = disk.head(512)?;
        if head.be16(0) != MAGIC || disk.sectors < 2 {
            return Ok(None);
        }
        if u64::from(head.be16(2)) != disk.sector {
            return damaged("it was made for sectors of another size");
        }
        let first = disk.at(1, 1)?;
        let count = first.be32(COUNT);
        if first.be16(0) != ENTRY_MAGIC || count == 0 || count > MOST {
            return damaged("its map is lost");
        }
        let all = disk.at(1, count.into())?;
        let size = usize::try_from(disk.sector).unwrap_or(512);
        let entries: Vec<Vec<u8>> = all.chunks(size).map(<[u8]>::to_vec).collect();
        if entries.iter().any(|entry| entry.be16(0) != ENTRY_MAGIC) {
            return damaged("its map has an entry that is none");
        }
        let mac = Self { sector: disk.sector, sectors: disk.sectors, entries };
        match mac.map() {
            Some(map) if map.end() > u64::from(count) => Ok(Some(mac)),
            _ => damaged("its map has no place of its own"),
        }
    }

    /// Where the map itself is.
    fn map(&self) -> Option<Partition> {
        self.partitions().into_iter().find(|one| one.role == super::Role::Own)
    }

    /// The map with other entries for partitions, and what is then free.
    fn write(&self, mut used: Vec<(u32, Vec<u8>)>) -> Vec<Patch> {
        used.sort_by_key(|(number, _)| *number);
        let mut taken: Vec<Range<u64>> = used
            .iter()
            .map(|(_, entry)| {
                let start = u64::from(entry.be32(START));
                start..start + u64::from(entry.be32(LENGTH))
            })
            .collect();
        taken.sort_by_key(|range| range.start);
        let mut free = Vec::new();
        let mut at = 1;
        for range in taken.into_iter().chain(std::iter::once(self.sectors..self.sectors)) {
            if range.start > at {
                free.push(at..range.start);
            }
            at = at.max(range.end);
        }
        let mut free = free.into_iter();
        let mut entries = Vec::new();
        for (number, entry) in used {
            while entries.len() + 1 < number as usize {
                entries.push(self.blank(free.next()));
            }
            entries.push(entry);
        }
        entries.extend(free.map(|range| self.blank(Some(range))));
        let most = self.map().map_or(1, |map| map.end() - 1);
        entries.truncate(usize::try_from(most).unwrap_or(1));
        let count = word(entries.len() as u64).to_be_bytes();
        let mut bytes = Vec::new();
        for entry in &mut entries {
            entry.set(COUNT, &count);
            bytes.extend_from_slice(entry);
        }
        // What is left of a longer map means nothing, and confuses.
        let before = self.entries.len().max(entries.len());
        bytes.resize(before * usize::try_from(self.sector).unwrap_or(512), 0);
        vec![Patch { offset: self.sector, bytes }]
    }

    fn blank(&self, range: Option<Range<u64>>) -> Vec<u8> {
        let mut entry = vec![0; usize::try_from(self.sector).unwrap_or(512)];
        entry.set(0, &ENTRY_MAGIC.to_be_bytes());
        let (name, kind): (&[u8], _) = match range {
            Some(_) => (b"Extra", FREE),
            None => (b"", VOID),
        };
        entry.set(NAME, name);
        entry.set(KIND, kind);
        let range = range.unwrap_or(0..0);
        Self::place(&mut entry, range.start, range.end - range.start);
        entry
    }

    fn place(entry: &mut [u8], start: u64, length: u64) {
        entry.set(START, &word(start).to_be_bytes());
        entry.set(LENGTH, &word(length).to_be_bytes());
        entry.set(DATA_LENGTH, &word(length).to_be_bytes());
    }

    fn used(&self) -> Vec<(u32, Vec<u8>)> {
        let numbered = (1..).zip(self.entries.iter().cloned());
        numbered.filter(|(_, entry)| !is_free(entry)).collect()
    }
}

impl Scheme for Mac {
    fn partitions(&self) -> Vec<Partition> {
        let numbered = (1..).zip(&self.entries).filter(|(_, entry)| !is_free(entry));
        numbered
            .map(|(number, entry)| {
                let kind = text(entry, KIND);
                let format = match kind {
                    b"Apple_UNIX_SVR2" if text(entry, NAME) == b"swap" => VolumeFormat::LinuxSwap,
                    kind => {
                        let known = TYPES.iter().find(|(_, known)| *known == kind);
                        known.map_or(VolumeFormat::None, |(format, _)| *format)
                    }
                };
                let (start, length) = (entry.be32(START).into(), entry.be32(LENGTH).into());
                let plain = Partition::plain(number, start, length, format);
                if kind == MAP { plain.own() } else { plain }
            })
            .collect()
    }

    fn room(&self) -> Range<u64> {
        self.map().map_or(1, |map| map.end())..self.sectors.min(self.limit())
    }

    fn numbers(&self) -> Vec<u32> {
        let most = self.map().map_or(0, |map| map.end().saturating_sub(2));
        (1..=word(most)).collect()
    }

    fn knows(&self, format: VolumeFormat) -> bool {
        format == VolumeFormat::LinuxSwap || TYPES.iter().any(|(known, _)| *known == format)
    }

    fn put(&self, partition: &Partition) -> Vec<Patch> {
        let mut used = self.used();
        let place = (partition.start, partition.length);
        match used.iter_mut().find(|(number, _)| *number == partition.number) {
            Some((_, entry)) => Self::place(entry, place.0, place.1),
            None => {
                let mut entry = self.blank(None);
                entry.set(KIND, &[0; TEXT]);
                let known = TYPES.iter().find(|(known, _)| *known == partition.format);
                entry.set(KIND, known.unwrap_or(&TYPES[0]).1);
                if partition.format == VolumeFormat::LinuxSwap {
                    entry.set(NAME, b"swap");
                }
                entry.set(STATUS, &IN_USE.to_be_bytes());
                Self::place(&mut entry, place.0, place.1);
                used.push((partition.number, entry));
            }
        }
        self.write(used)
    }

    fn take(&self, number: u32) -> Vec<Patch> {
        let mut used = self.used();
        used.retain(|(known, _)| *known != number);
        self.write(used)
    }
}
