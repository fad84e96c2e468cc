//! SGI's volume headers: sixteen entries, the ninth of which is the header itself and the eleventh
//! the whole disk.

use super::bytes::{Bytes, word};
use super::{Disk, Label, Partition, Patch, Scheme, Unreadable};
use crate::model::VolumeFormat;
use std::ops::Range;

const MAGIC: u32 = 0x0be5_a941;
const ENTRIES: usize = 312;
const ENTRY: usize = 12;
const CHECKSUM: usize = 504;
const MOST: u32 = 16;
const HEADER: u32 = 9;
const WHOLE: u32 = 11;
/// Types of the two.
const OWN: [u32; 2] = [0, 6];
/// A partition of no type, as parted makes it.
const RAW: u32 = 3;
const TYPES: [(VolumeFormat, u32); 4] = [
    (VolumeFormat::Linux, 0x83),
    (VolumeFormat::LinuxSwap, 0x82),
    (VolumeFormat::LinuxLvm, 0x8e),
    (VolumeFormat::LinuxRaid, 0xfd),
];
/// What the header takes when it does not say.
const ROOM: u64 = 4096;

#[derive(Debug)]
pub(super) struct Dvh {
    head: Vec<u8>,
    sectors: u64,
}

fn sum(head: &[u8]) -> u32 {
    (0..512).step_by(4).fold(0, |sum: u32, at| sum.wrapping_add(head.be32(at)))
}

fn at(number: u32) -> usize {
    ENTRIES + ENTRY * (number as usize).saturating_sub(1)
}

impl Dvh {
    pub(super) fn read(disk: &Disk<'_>) -> Result<Option<Self>, Unreadable> {
        let mut head = disk.head(512)?;
        head.truncate(512);
        if head.be32(0) != MAGIC {
            return Ok(None);
        }
        if sum(&head) != 0 {
            return Err(Unreadable::Damaged(Label::Dvh, "its checksum is wrong".to_owned()));
        }
        Ok(Some(Self { head, sectors: disk.sectors }))
    }

    fn changed(&self, number: u32, entry: [u32; 3]) -> Vec<Patch> {
        let mut head = self.head.clone();
        for (index, number_of) in entry.into_iter().enumerate() {
            head.set(at(number) + 4 * index, &number_of.to_be_bytes());
        }
        head.set(CHECKSUM, &[0; 4]);
        let sum = sum(&head).wrapping_neg();
        head.set(CHECKSUM, &sum.to_be_bytes());
        vec![Patch { offset: 0, bytes: head }]
    }

    /// Length, start and type of an entry.
    fn entry(&self, number: u32) -> [u32; 3] {
        [0, 4, 8].map(|offset| self.head.be32(at(number) + offset))
    }
}

impl Scheme for Dvh {
    fn partitions(&self) -> Vec<Partition> {
        let found = (1..=MOST).filter_map(|number| {
            let [length, start, kind] = self.entry(number);
            let known = TYPES.iter().find(|(_, known)| *known == kind);
            let format = known.map_or(VolumeFormat::None, |(format, _)| *format);
            let plain = Partition::plain(number, start.into(), length.into(), format);
            (length != 0).then(|| if OWN.contains(&kind) { plain.own() } else { plain })
        });
        found.collect()
    }

    fn room(&self) -> Range<u64> {
        let [length, start, _] = self.entry(HEADER);
        let header = u64::from(length) + u64::from(start);
        let first = if header == 0 { ROOM } else { header };
        first..self.sectors.min(self.limit())
    }

    fn numbers(&self) -> Vec<u32> {
        (1..=MOST).filter(|number| ![HEADER, WHOLE].contains(number)).collect()
    }

    fn knows(&self, format: VolumeFormat) -> bool {
        TYPES.iter().any(|(known, _)| *known == format)
    }

    fn put(&self, partition: &Partition) -> Vec<Patch> {
        let [length, _, kind] = self.entry(partition.number);
        let kind = match length {
            0 => {
                let known = TYPES.iter().find(|(known, _)| *known == partition.format);
                known.map_or(RAW, |(_, kind)| *kind)
            }
            _ => kind,
        };
        self.changed(partition.number, [word(partition.length), word(partition.start), kind])
    }

    fn take(&self, number: u32) -> Vec<Patch> {
        self.changed(number, [0; 3])
    }
}
