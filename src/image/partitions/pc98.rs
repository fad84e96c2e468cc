//! The table of NEC's PC-98: sixteen entries in the second sector, which count in cylinders, heads
//! and sectors as the disk has them.

use super::bytes::Bytes;
use super::{Disk, Geometry, Partition, Patch, Scheme, Unreadable};
use crate::model::VolumeFormat;
use std::ops::Range;

/// What a first sector of such a disk has at byte 4.
const BOOT: [&[u8]; 3] = [b"IPL1", b"Linux 98", b"GRUB/98 "];
const SECTOR: usize = 512;
const ENTRY: usize = 32;
const MOST: u32 = 16;
/// That a partition is active, in the second byte of its entry.
const ACTIVE: u8 = 0x80;
/// Types, as first and second byte.
const NONE: (u8, u8) = (0x20, 0x62);
const TYPES: [(VolumeFormat, u8, u8); 5] = [
    (VolumeFormat::Linux, 0xa0, 0x62),
    (VolumeFormat::LinuxSwap, 0xa0, 0x62),
    (VolumeFormat::Fat16, 0x20, 0x21),
    (VolumeFormat::Fat16, 0x20, 0x11),
    (VolumeFormat::Fat32, 0x20, 0x61),
];

#[derive(Debug)]
pub(super) struct Pc98 {
    entries: Vec<u8>,
    sectors: u64,
    geometry: Geometry,
}

impl Pc98 {
    pub(super) fn read(disk: &Disk<'_>) -> Result<Option<Self>, Unreadable> {
        let head = disk.head(2 * SECTOR)?;
        let boots = |magic: &[u8]| head.get(4..).is_some_and(|boot| boot.starts_with(magic));
        let is_pc98 =
            disk.sector == SECTOR as u64 && head.le16(510) == 0xaa55 && BOOT.into_iter().any(boots);
        if !is_pc98 || disk.geometry.heads * disk.geometry.sectors == 0 {
            return Ok(None);
        }
        let entries = head.get(SECTOR..2 * SECTOR).unwrap_or_default().to_vec();
        Ok(Some(Self { entries, sectors: disk.sectors, geometry: disk.geometry }))
    }

    fn cylinder_size(&self) -> u64 {
        self.geometry.heads * self.geometry.sectors
    }

    /// The sector of sector, head and cylinder at a byte.
    fn sector(&self, entry: &[u8], at: usize) -> u64 {
        let (sector, head) = (entry.u8(at), entry.u8(at + 1));
        let tracks = u64::from(entry.le16(at + 2)) * self.geometry.heads + u64::from(head);
        tracks * self.geometry.sectors + u64::from(sector)
    }

    fn changed(&self, number: u32, change: impl FnOnce(&mut [u8])) -> Vec<Patch> {
        let mut entries = self.entries.clone();
        let at = ENTRY * (number as usize).saturating_sub(1);
        if let Some(entry) = entries.get_mut(at..at + ENTRY) {
            change(entry);
        }
        vec![Patch { offset: SECTOR as u64, bytes: entries }]
    }
}

impl Scheme for Pc98 {
    fn partitions(&self) -> Vec<Partition> {
        let used = self
            .entries
            .chunks(ENTRY)
            .zip(1..)
            .filter(|(entry, _)| entry.iter().take(16).any(|byte| *byte != 0));
        used.map(|(entry, number)| {
            let start = self.sector(entry, 8);
            let end = match (entry.u8(12), entry.u8(13)) {
                // All of its last cylinder.
                (0, 0) => (u64::from(entry.le16(14)) + 1) * self.cylinder_size(),
                _ => self.sector(entry, 12) + 1,
            };
            let kind = (entry.u8(0), entry.u8(1) & !ACTIVE);
            let format = TYPES.iter().find(|(_, first, second)| (*first, *second) == kind);
            let format = format.map_or(VolumeFormat::None, |(format, ..)| *format);
            Partition::plain(number, start, end.saturating_sub(start), format)
        })
        .collect()
    }

    fn room(&self) -> Range<u64> {
        // The first cylinder is the table's.
        self.cylinder_size()..self.sectors.min(self.limit())
    }

    fn numbers(&self) -> Vec<u32> {
        (1..=MOST).collect()
    }

    fn knows(&self, format: VolumeFormat) -> bool {
        // That it is swap, the table does not say.
        format != VolumeFormat::LinuxSwap && TYPES.iter().any(|(known, ..)| *known == format)
    }

    fn cylinder(&self) -> Option<u64> {
        Some(self.cylinder_size())
    }

    fn limit(&self) -> u64 {
        self.cylinder_size() * (1 << 16)
    }

    fn put(&self, partition: &Partition) -> Vec<Patch> {
        let cylinder = |sector: u64| {
            u16::try_from(sector / self.cylinder_size()).unwrap_or(u16::MAX).to_le_bytes()
        };
        self.changed(partition.number, |entry| {
            if entry.u8(0) == 0 && entry.u8(1) == 0 {
                let known = TYPES.iter().find(|(known, ..)| *known == partition.format);
                let (first, second) = known.map_or(NONE, |(_, first, second)| (*first, *second));
                entry.fill(0);
                entry.set(0, &[first, second | ACTIVE]);
                entry.set(16, &[b' '; 16]);
                entry.set(6, &cylinder(partition.start));
                entry.set(10, &cylinder(partition.start));
            }
            entry.set(12, &[0; 2]);
            entry.set(14, &cylinder(partition.end() - 1));
        })
    }

    fn take(&self, number: u32) -> Vec<Patch> {
        self.changed(number, |entry| entry.fill(0))
    }
}
