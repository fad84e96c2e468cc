//! GUID partition tables (UEFI specification, chapter 5): one at each end of the disk. Changes go
//! into the second one first, so that one of the two is whole at any moment.

use super::bytes::{Bytes, crc32, guid};
use super::{Disk, Label, Partition, Patch, Scheme, Unreadable};
use crate::model::VolumeFormat;
use std::ops::Range;
use uuid::{Uuid, uuid};

const MAGIC: &[u8] = b"EFI PART";
/// Largest array of entries that is read.
const LARGEST: u64 = 1 << 20;
/// The types that have names; anything else is a partition without type.
const TYPES: [(VolumeFormat, Uuid); 6] = [
    (VolumeFormat::Linux, uuid!("0fc63daf-8483-4772-8e79-3d69d8477de4")),
    (VolumeFormat::Fat32, uuid!("ebd0a0a2-b9e5-4433-87c0-68b6b72699c7")),
    (VolumeFormat::Fat16, uuid!("ebd0a0a2-b9e5-4433-87c0-68b6b72699c7")),
    (VolumeFormat::LinuxSwap, uuid!("0657fd6d-a4ab-43c4-84e5-0933c84b4f4f")),
    (VolumeFormat::LinuxLvm, uuid!("e6d6d379-f507-44c2-a23c-238f2a3df928")),
    (VolumeFormat::LinuxRaid, uuid!("a19d880f-05fc-4d3b-a006-743f0f84911e")),
];

#[derive(Debug)]
pub(super) struct Gpt {
    sector: u64,
    /// The header of the first table.
    header: Vec<u8>,
    /// The sector of the second table's header.
    second: u64,
    /// Its array of entries, as long as the first one's.
    second_entries: u64,
    entries: Vec<u8>,
    entry: usize,
}

impl Gpt {
    pub(super) fn read(disk: &Disk<'_>) -> Result<Option<Self>, Unreadable> {
        let damaged = |what: &str| Err(Unreadable::Damaged(Label::Gpt, what.to_owned()));
        let mbr = disk.head(512)?;
        let protected = mbr.le16(510) == 0xaa55 && (0..4).any(|i| mbr.u8(450 + 16 * i) == 0xee);
        if disk.sectors < 3 {
            return Ok(None);
        }
        let header = disk.at(1, 1)?;
        if !header.starts_with(MAGIC) {
            let last = disk.at(disk.sectors - 1, 1)?;
            return match protected || last.starts_with(MAGIC) {
                true => damaged("its first table is lost; restore it with gdisk or parted"),
                false => Ok(None),
            };
        }
        if !protected {
            return damaged("nothing in its first sector says so; restore that with gdisk");
        }
        let size = header.le32(12) as usize;
        let (first, entry) = (header.le64(72), header.le32(84) as usize);
        let length = u64::from(header.le32(80)) * entry as u64;
        let plausible = (92..=header.len()).contains(&size)
            && header.le64(24) == 1
            && (128..=4096).contains(&entry)
            && length <= LARGEST
            && header.le64(40) <= header.le64(48)
            && header.le64(48) < disk.sectors;
        let checksum = |header: &[u8]| {
            let mut blank = header.get(..size).unwrap_or_default().to_vec();
            blank.set(16, &[0; 4]);
            crc32(&blank) == header.le32(16)
        };
        if !plausible || !checksum(&header) {
            return damaged(
                "the header of its first table is wrong; restore it with gdisk or parted",
            );
        }
        let sectors = length.div_ceil(disk.sector);
        let mut entries = disk.at(first, sectors)?;
        entries.truncate(usize::try_from(length).unwrap_or_default());
        if crc32(&entries) != header.le32(88) {
            return damaged("the entries of its first table are wrong; restore them with gdisk");
        }
        let second = header.le64(32);
        if second <= header.le64(48) || second >= disk.sectors {
            return damaged("its second table has no place; restore it with gdisk or parted");
        }
        let backup = disk.at(second, 1)?;
        let is_whole = backup.starts_with(MAGIC) && checksum(&backup);
        let second_entries = match is_whole {
            true => backup.le64(72),
            // As everybody lays it out; written anew with the next change.
            false => second.saturating_sub(sectors),
        };
        if second_entries <= header.le64(48) || second_entries.saturating_add(sectors) > second {
            return damaged("its second table has no place; restore it with gdisk or parted");
        }
        Ok(Some(Self { sector: disk.sector, header, second, second_entries, entries, entry }))
    }

    fn slot(number: u32, entry: usize) -> usize {
        (number as usize).saturating_sub(1) * entry
    }

    /// Both tables with other entries, the second one first.
    fn write(&self, entries: Vec<u8>) -> Vec<Patch> {
        let size = self.header.le32(12) as usize;
        let sealed = |own: u64, other: u64, first: u64| {
            let mut header = self.header.clone();
            header.set(24, &own.to_le_bytes());
            header.set(32, &other.to_le_bytes());
            header.set(72, &first.to_le_bytes());
            header.set(88, &crc32(&entries).to_le_bytes());
            header.set(16, &[0; 4]);
            let checksum = crc32(header.get(..size).unwrap_or_default());
            header.set(16, &checksum.to_le_bytes());
            header
        };
        let first = self.header.le64(72);
        let at = |sector: u64, bytes: Vec<u8>| Patch { offset: sector * self.sector, bytes };
        vec![
            at(self.second_entries, entries.clone()),
            at(self.second, sealed(self.second, 1, self.second_entries)),
            at(first, entries.clone()),
            at(1, sealed(1, self.second, first)),
        ]
    }
}

impl Scheme for Gpt {
    fn partitions(&self) -> Vec<Partition> {
        let slots = self.entries.chunks(self.entry).zip(1..);
        slots
            .filter(|(slot, _)| slot.bytes_at::<16>(0) != [0; 16])
            .map(|(slot, number)| {
                let kind = Uuid::from_bytes_le(slot.bytes_at(0));
                let known = TYPES.iter().find(|(_, id)| *id == kind);
                let format = known.map_or(VolumeFormat::None, |(format, _)| *format);
                let (start, last) = (slot.le64(32), slot.le64(40));
                let length = last.checked_sub(start).and_then(|length| length.checked_add(1));
                let plain = Partition::plain(number, start, length.unwrap_or(0), format);
                Partition { id: Some(guid(slot.bytes_at(16))), ..plain }
            })
            .collect()
    }

    fn room(&self) -> Range<u64> {
        self.header.le64(40)..self.header.le64(48) + 1
    }

    fn numbers(&self) -> Vec<u32> {
        (1..).take(self.entries.len() / self.entry).collect()
    }

    fn id(&self) -> Option<String> {
        Some(guid(self.header.bytes_at(56)))
    }

    fn knows(&self, format: VolumeFormat) -> bool {
        TYPES.iter().any(|(known, _)| *known == format)
    }

    fn limit(&self) -> u64 {
        u64::MAX
    }

    fn put(&self, partition: &Partition) -> Vec<Patch> {
        let mut entries = self.entries.clone();
        let at = Self::slot(partition.number, self.entry);
        let Some(slot) = entries.get_mut(at..at + self.entry) else { return Vec::new() };
        if slot.bytes_at::<16>(0) == [0; 16] {
            let of = |format| TYPES.iter().find(|(known, _)| *known == format);
            let kind = of(partition.format).unwrap_or(&TYPES[0]).1;
            let id = partition.id.as_deref().and_then(|id| Uuid::parse_str(id).ok());
            slot.fill(0);
            slot.set(0, &kind.to_bytes_le());
            slot.set(16, &id.unwrap_or_else(Uuid::new_v4).to_bytes_le());
        }
        slot.set(32, &partition.start.to_le_bytes());
        slot.set(40, &(partition.end() - 1).to_le_bytes());
        self.write(entries)
    }

    fn take(&self, number: u32) -> Vec<Patch> {
        let mut entries = self.entries.clone();
        let at = Self::slot(number, self.entry);
        if let Some(slot) = entries.get_mut(at..at + self.entry) {
            slot.fill(0);
        }
        self.write(entries)
    }
}
