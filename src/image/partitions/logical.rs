//! Logical partitions: a chain of sectors in the extended partition, each with a partition and
//! the way to the next one. They are numbered in the chain's order.

use super::bytes::{Bytes, word};
use super::dos::{ENTRIES, ENTRY, SIGNATURE, format_of, is_extended, type_of, write_entry};
use super::{Disk, Label, Partition, Patch, Role, Unreadable};

/// The number of the first one, and the first number that the kernel has none for.
pub(super) const FIRST: u32 = 5;
pub(super) const END: u32 = 256;
/// The type of the entry that leads on.
const LINK: u8 = 0x05;

/// A sector of the chain.
#[derive(Debug, Clone)]
struct Link {
    at: u64,
    bytes: Vec<u8>,
    /// Which of its entries is the partition, and which leads on.
    data: Option<usize>,
    next: Option<usize>,
}

impl Link {
    fn entry(&self, index: usize) -> &[u8] {
        self.bytes.get(ENTRIES + ENTRY * index..).unwrap_or_default()
    }

    fn entry_mut(&mut self, index: usize) -> &mut [u8] {
        let end = self.bytes.len().min(ENTRIES + ENTRY * (index + 1));
        self.bytes.get_mut(ENTRIES + ENTRY * index..end).unwrap_or_default()
    }

    /// First sector and length of its partition.
    fn place(&self) -> Option<(u64, u64)> {
        let entry = self.entry(self.data?);
        Some((self.at + u64::from(entry.le32(8)), entry.le32(12).into()))
    }
}

#[derive(Debug)]
pub(super) struct Chain {
    start: u64,
    sector: u64,
    links: Vec<Link>,
}

impl Chain {
    pub(super) fn read(disk: &Disk<'_>, start: u64, length: u64) -> Result<Self, Unreadable> {
        let damaged = |what: &str| Err(Unreadable::Damaged(Label::Dos, what.to_owned()));
        let mut links: Vec<Link> = Vec::new();
        let mut next = Some(start);
        while let Some(at) = next {
            if at < start || at >= start + length || links.iter().any(|link| link.at == at) {
                return damaged("the chain of its logical partitions leads astray");
            }
            if links.len() > (END - FIRST) as usize {
                return damaged("it has too many logical partitions");
            }
            if at >= disk.sectors {
                return damaged("its extended partition does not lie on the disk");
            }
            let mut bytes = disk.at(at, 1)?;
            bytes.truncate(512);
            if bytes.le16(510) != SIGNATURE {
                return match links.is_empty() && bytes.iter().all(|byte| *byte == 0) {
                    // Some make it so.
                    true => Ok(Self { start, sector: disk.sector, links }),
                    false => damaged("the chain of its logical partitions is broken"),
                };
            }
            let mut link = Link { at, bytes, data: None, next: None };
            for index in 0..4 {
                let (kind, length) = (link.entry(index).u8(4), link.entry(index).le32(12));
                match (kind, length) {
                    (0, _) | (_, 0) => {}
                    (kind, _) if is_extended(kind) => link.next = link.next.or(Some(index)),
                    _ => link.data = link.data.or(Some(index)),
                }
            }
            next = link.next.map(|index| start + u64::from(link.entry(index).le32(8)));
            links.push(link);
        }
        Ok(Self { start, sector: disk.sector, links })
    }

    /// The sectors of the chain that have a partition, with its number.
    fn numbered(&self) -> impl Iterator<Item = (u32, usize)> {
        let full = self.links.iter().enumerate().filter(|(_, link)| link.data.is_some());
        (FIRST..).zip(full.map(|(index, _)| index))
    }

    pub(super) fn partitions(&self) -> Vec<Partition> {
        let found = self.numbered().filter_map(|(number, index)| {
            let link = self.links.get(index)?;
            let (start, length) = link.place()?;
            let plain =
                Partition::plain(number, start, length, format_of(link.entry(link.data?).u8(4)));
            Some(Partition { from: link.at, role: Role::Logical, ..plain })
        });
        found.collect()
    }

    fn patch(&self, link: Link) -> Patch {
        Patch { offset: link.at * self.sector, bytes: link.bytes }
    }

    /// The sector before the one at `at`, made to lead there, over all up to `end`.
    fn leading(&self, before: &Link, at: u64, end: u64) -> Link {
        let mut link = before.clone();
        let index = link.next.unwrap_or_else(|| if link.data == Some(1) { 0 } else { 1 });
        let start = self.start;
        write_entry(link.entry_mut(index), LINK, at - start, end - at, start);
        link.next = Some(index);
        link
    }

    pub(super) fn put(&self, partition: &Partition) -> Vec<Patch> {
        let (at, end) = (partition.from, partition.end());
        let known = self.numbered().find(|(number, _)| *number == partition.number);
        let index = known.map(|(_, index)| index);
        let index = index.or_else(|| self.links.iter().position(|link| link.at == at));
        let mut link = match index.and_then(|index| self.links.get(index)) {
            Some(link) => link.clone(),
            None => {
                let mut bytes = vec![0; 512];
                bytes.set(510, &SIGNATURE.to_le_bytes());
                Link { at, bytes, data: None, next: None }
            }
        };
        let data = link.data.unwrap_or(0);
        let kind = match link.data {
            Some(data) => link.entry(data).u8(4),
            None => type_of(partition.format),
        };
        write_entry(link.entry_mut(data), kind, partition.start - at, partition.length, at);
        let before = match index {
            Some(index) => index.checked_sub(1).and_then(|index| self.links.get(index)),
            None => self.links.last(),
        };
        // What leads to it comes last: until then it is not there.
        let leading = before.map(|before| self.leading(before, at, end));
        std::iter::once(link).chain(leading).map(|link| self.patch(link)).collect()
    }

    pub(super) fn take(&self, number: u32) -> Vec<Patch> {
        let Some((_, index)) = self.numbered().find(|(known, _)| *known == number) else {
            return Vec::new();
        };
        let Some(link) = self.links.get(index) else { return Vec::new() };
        let before = index.checked_sub(1).and_then(|index| self.links.get(index));
        let changed = match (before, link.next) {
            // The first sector stays, and leads on.
            (None, _) => {
                let mut link = link.clone();
                if let Some(data) = link.data {
                    link.entry_mut(data).fill(0);
                }
                link
            }
            (Some(before), Some(next)) => {
                let mut before = before.clone();
                let entry: [u8; ENTRY] = Bytes::bytes_at(link.entry(next), 0);
                if let Some(index) = before.next {
                    before.entry_mut(index).set(0, &entry);
                }
                before
            }
            (Some(before), None) => {
                let mut before = before.clone();
                if let Some(index) = before.next {
                    before.entry_mut(index).fill(0);
                }
                before
            }
        };
        vec![self.patch(changed)]
    }
}

/// The first sector of an extended partition that has nothing in it yet.
pub(super) fn nothing(start: u64, sector: u64) -> Patch {
    let mut bytes = vec![0; 512];
    bytes.set(510, &SIGNATURE.to_le_bytes());
    debug_assert!(word(start) != u32::MAX, "an extended partition lies below 2 TiB");
    Patch { offset: start * sector, bytes }
}
