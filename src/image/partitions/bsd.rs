//! BSD disk labels, as parted writes them: in the first sector, after a boot block as DEC's Alpha
//! wants it.

use super::bytes::{Bytes, word};
use super::{Disk, Partition, Patch, Scheme, Unreadable};
use crate::model::VolumeFormat;
use std::ops::Range;

const LABEL: usize = 64;
const MAGIC: u32 = 0x8256_4557;
/// In the label: its second magic number, checksum, count of entries, and the entries.
const MAGIC2: usize = LABEL + 132;
const CHECKSUM: usize = LABEL + 136;
const COUNT: usize = LABEL + 138;
const ENTRIES: usize = LABEL + 148;
const ENTRY: usize = 16;
const MOST: u32 = 8;
/// Where the boot block has its own checksum.
const BOOT_CHECKSUM: usize = 504;
/// Types.
const SWAP: u8 = 1;
const OTHER: u8 = 8;

#[derive(Debug)]
pub(super) struct Bsd {
    head: Vec<u8>,
    sectors: u64,
}

fn at(number: u32) -> usize {
    ENTRIES + ENTRY * (number as usize).saturating_sub(1)
}

fn checksum(head: &[u8]) -> u16 {
    let end = at(u32::from(head.le16(COUNT)) + 1);
    let words = (LABEL..end).step_by(2).filter(|at| *at != CHECKSUM);
    words.fold(0, |sum, at| sum ^ head.le16(at))
}

fn boot_checksum(head: &[u8]) -> u64 {
    (0..BOOT_CHECKSUM).step_by(8).fold(0, |sum: u64, at| sum.wrapping_add(head.le64(at)))
}

impl Bsd {
    pub(super) fn read(disk: &Disk<'_>) -> Result<Option<Self>, Unreadable> {
        let mut head = disk.head(512)?;
        head.truncate(512);
        if head.le32(LABEL) != MAGIC {
            return Ok(None);
        }
        // Its checksum says nothing: parted, whose labels these are, writes a wrong one.
        if head.le32(MAGIC2) != MAGIC {
            let what = "its second magic number is wrong".to_owned();
            return Err(Unreadable::Damaged(super::Label::Bsd, what));
        }
        Ok(Some(Self { head, sectors: disk.sectors }))
    }

    fn changed(&self, number: u32, change: impl FnOnce(&mut [u8])) -> Vec<Patch> {
        let mut head = self.head.clone();
        let boots = boot_checksum(&head) == head.le64(BOOT_CHECKSUM);
        if let Some(entry) = head.get_mut(at(number)..at(number) + ENTRY) {
            change(entry);
        }
        let count = u16::try_from(number).unwrap_or(0).max(head.le16(COUNT));
        head.set(COUNT, &count.to_le_bytes());
        let sum = checksum(&head);
        head.set(CHECKSUM, &sum.to_le_bytes());
        if boots {
            let sum = boot_checksum(&head);
            head.set(BOOT_CHECKSUM, &sum.to_le_bytes());
        }
        vec![Patch { offset: 0, bytes: head }]
    }
}

impl Scheme for Bsd {
    fn partitions(&self) -> Vec<Partition> {
        let found = (1..=MOST).filter_map(|number| {
            let at = at(number);
            let (length, start) = (self.head.le32(at), self.head.le32(at + 4));
            let format = match self.head.u8(at + 12) {
                0 => return None,
                SWAP => VolumeFormat::LinuxSwap,
                _ => VolumeFormat::None,
            };
            (length != 0).then(|| Partition::plain(number, start.into(), length.into(), format))
        });
        found.collect()
    }

    fn room(&self) -> Range<u64> {
        1..self.sectors.min(self.limit())
    }

    fn numbers(&self) -> Vec<u32> {
        (1..=MOST).collect()
    }

    fn knows(&self, format: VolumeFormat) -> bool {
        format == VolumeFormat::LinuxSwap
    }

    fn put(&self, partition: &Partition) -> Vec<Patch> {
        self.changed(partition.number, |entry| {
            if entry.u8(12) == 0 {
                let swap = partition.format == VolumeFormat::LinuxSwap;
                entry.set(12, &[if swap { SWAP } else { OTHER }]);
            }
            entry.set(0, &word(partition.length).to_le_bytes());
            entry.set(4, &word(partition.start).to_le_bytes());
        })
    }

    fn take(&self, number: u32) -> Vec<Patch> {
        self.changed(number, |entry| entry.fill(0))
    }
}
