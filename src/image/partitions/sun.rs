//! Sun's disk labels: eight entries that begin at cylinders, the third of which is the whole disk.

use super::bytes::{Bytes, word};
use super::{Disk, Label, Partition, Patch, Scheme, Unreadable};
use crate::model::VolumeFormat;
use std::ops::Range;

const MAGIC: u16 = 0xdabe;
/// Tags and flags of the entries; cylinders, heads and sectors; the entries; magic and checksum.
const TAGS: usize = 142;
const CYLINDERS: usize = 432;
const HEADS: usize = 436;
const TRACK: usize = 438;
const ENTRIES: usize = 444;
const MAGIC_AT: usize = 508;
const CHECKSUM: usize = 510;
const MOST: u32 = 8;
const WHOLE: u32 = 3;
const WHOLE_TAG: u16 = 5;
const TYPES: [(VolumeFormat, u16); 4] = [
    (VolumeFormat::Linux, 0x83),
    (VolumeFormat::LinuxSwap, 0x82),
    (VolumeFormat::LinuxLvm, 0x8e),
    (VolumeFormat::LinuxRaid, 0xfd),
];

#[derive(Debug)]
pub(super) struct Sun {
    head: Vec<u8>,
    sectors: u64,
    cylinder: u64,
}

fn sum(head: &[u8]) -> u16 {
    (0..512).step_by(2).fold(0, |sum, at| sum ^ head.be16(at))
}

impl Sun {
    pub(super) fn read(disk: &Disk<'_>) -> Result<Option<Self>, Unreadable> {
        let mut head = disk.head(512)?;
        head.truncate(512);
        if head.be16(MAGIC_AT) != MAGIC {
            return Ok(None);
        }
        let cylinder = u64::from(head.be16(HEADS)) * u64::from(head.be16(TRACK));
        if sum(&head) != 0 || cylinder == 0 {
            return Err(Unreadable::Damaged(Label::Sun, "its checksum is wrong".to_owned()));
        }
        Ok(Some(Self { head, sectors: disk.sectors, cylinder }))
    }

    fn changed(&self, number: u32, tag: u16, place: Option<(u64, u64)>) -> Vec<Patch> {
        let index = (number as usize).saturating_sub(1);
        let (start, length) = place.unwrap_or((0, 0));
        let mut head = self.head.clone();
        head.set(TAGS + 4 * index, &tag.to_be_bytes());
        head.set(ENTRIES + 8 * index, &word(start / self.cylinder).to_be_bytes());
        head.set(ENTRIES + 8 * index + 4, &word(length).to_be_bytes());
        head.set(CHECKSUM, &[0; 2]);
        let sum = sum(&head);
        head.set(CHECKSUM, &sum.to_be_bytes());
        vec![Patch { offset: 0, bytes: head }]
    }

    fn tag(&self, number: u32) -> u16 {
        self.head.be16(TAGS + 4 * (number as usize).saturating_sub(1))
    }
}

impl Scheme for Sun {
    fn partitions(&self) -> Vec<Partition> {
        let found = (1..=MOST).filter_map(|number| {
            let at = ENTRIES + 8 * (number as usize - 1);
            let start = u64::from(self.head.be32(at)) * self.cylinder;
            let length = self.head.be32(at + 4);
            let tag = self.tag(number);
            let known = TYPES.iter().find(|(_, known)| *known == tag);
            let format = known.map_or(VolumeFormat::None, |(format, _)| *format);
            let plain = Partition::plain(number, start, length.into(), format);
            let whole = tag == WHOLE_TAG || (number == WHOLE && tag == 0);
            (length != 0).then(|| if whole { plain.own() } else { plain })
        });
        found.collect()
    }

    fn room(&self) -> Range<u64> {
        let cylinders = u64::from(self.head.be16(CYLINDERS)).max(1);
        // The label says how many cylinders there are; of larger disks it cannot.
        let end = match cylinders {
            65535 => self.sectors,
            cylinders => self.sectors.min(cylinders * self.cylinder),
        };
        1..end
    }

    fn numbers(&self) -> Vec<u32> {
        (1..=MOST).filter(|number| *number != WHOLE).collect()
    }

    fn knows(&self, format: VolumeFormat) -> bool {
        TYPES.iter().any(|(known, _)| *known == format)
    }

    fn cylinder(&self) -> Option<u64> {
        Some(self.cylinder)
    }

    fn put(&self, partition: &Partition) -> Vec<Patch> {
        let is_new = self.partitions().iter().all(|one| one.number != partition.number);
        let tag = match is_new {
            false => self.tag(partition.number),
            true => {
                let known = TYPES.iter().find(|(known, _)| *known == partition.format);
                known.unwrap_or(&TYPES[0]).1
            }
        };
        self.changed(partition.number, tag, Some((partition.start, partition.length)))
    }

    fn take(&self, number: u32) -> Vec<Patch> {
        self.changed(number, 0, None)
    }
}
