//! Where a new partition goes, and what is free.

use crate::image::partitions::{Partition, Role, Table};

/// Partitions of labels that do not count in cylinders begin at multiples of so many bytes.
const ALIGNMENT: u64 = 1 << 20;

/// A range in which a partition can lie whole, in sectors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Free {
    /// The first sector that is taken for it.
    pub(super) from: u64,
    /// Its own first sector.
    pub(super) start: u64,
    /// The first sector that it cannot have.
    pub(super) end: u64,
    /// Whether that is in the extended partition.
    pub(super) logical: bool,
}

impl Free {
    pub(super) fn length(&self) -> u64 {
        self.end - self.start
    }
}

/// The room on a disk.
pub(super) struct Room<'a> {
    pub(super) table: &'a Table,
    /// Bytes of a sector.
    pub(super) sector: u64,
}

impl Room<'_> {
    /// Where partitions begin, in sectors.
    fn unit(&self) -> u64 {
        self.table.cylinder().unwrap_or((ALIGNMENT / self.sector).max(1))
    }

    /// So many bytes in sectors, as the label counts.
    pub(super) fn sectors(&self, bytes: u64) -> u64 {
        let sectors = bytes.div_ceil(self.sector);
        match self.table.cylinder() {
            Some(cylinder) => sectors.div_ceil(cylinder).saturating_mul(cylinder),
            None => sectors,
        }
    }

    /// All that is free and of use, in the order of the disk.
    pub(super) fn free(&self) -> Vec<Free> {
        let outside = self.gaps(self.table.room(), |one| one.role != Role::Logical);
        let mut free: Vec<Free> =
            outside.into_iter().filter_map(|gap| self.usable(gap, false)).collect();
        if let Some(extended) = self.table.extended() {
            let mut first = extended.start;
            let logical = |one: &&Partition| one.role == Role::Logical;
            let mut chain = self.table.partitions.iter().filter(logical).peekable();
            // The chain begins there, whether or not its first sector has a partition.
            if chain.peek().is_some() && chain.all(|one| one.from != first) {
                first += 1;
            }
            let inside = self.gaps(first..extended.end(), |one| one.role == Role::Logical);
            free.extend(inside.into_iter().filter_map(|gap| self.usable(gap, true)));
        }
        free.sort_by_key(|free| free.from);
        free
    }

    /// What partitions leave of a range.
    fn gaps(
        &self,
        room: std::ops::Range<u64>,
        counts: impl Fn(&Partition) -> bool,
    ) -> Vec<std::ops::Range<u64>> {
        let taken = self.table.partitions.iter().filter(|one| one.role != Role::Own && counts(one));
        let mut taken: Vec<_> = taken.map(|one| (one.from, one.end())).collect();
        taken.sort_unstable();
        let mut gaps = Vec::new();
        let mut at = room.start;
        for (from, end) in taken.into_iter().chain([(room.end, room.end)]) {
            if at < from.min(room.end) {
                gaps.push(at..from.min(room.end));
            }
            at = at.max(end);
        }
        gaps
    }

    /// What a partition could have of a gap, if that is worth one.
    fn usable(&self, gap: std::ops::Range<u64>, logical: bool) -> Option<Free> {
        let unit = self.unit();
        // A logical one needs a sector before it.
        let start = (gap.start + u64::from(logical)).checked_next_multiple_of(unit)?;
        let end = match self.table.cylinder() {
            Some(cylinder) => gap.end - gap.end % cylinder,
            None => gap.end,
        };
        let from = if logical { gap.start } else { start };
        (start.checked_add(unit)? <= end).then_some(Free { from, start, end, logical })
    }

    /// The smallest free range that holds so many sectors; else how many the largest has.
    pub(super) fn best(&self, logical: bool, sectors: u64) -> Result<Free, u64> {
        let free: Vec<_> = self.free().into_iter().filter(|free| free.logical == logical).collect();
        let fitting = free.iter().filter(|free| free.length() >= sectors);
        match fitting.min_by_key(|free| (free.length(), free.start)) {
            Some(free) => Ok(*free),
            None => Err(free.iter().map(Free::length).max().unwrap_or(0)),
        }
    }

    /// The first sector behind a partition that it cannot grow over.
    pub(super) fn limit(&self, partition: &Partition) -> u64 {
        let logical = partition.role == Role::Logical;
        let end = match self.table.extended() {
            Some(extended) if logical => extended.end(),
            _ => self.table.room().end,
        };
        let end = match self.table.cylinder() {
            Some(cylinder) => end - end % cylinder,
            None => end,
        };
        let same =
            |one: &&Partition| one.role != Role::Own && (one.role == Role::Logical) == logical;
        let next = self.table.partitions.iter().filter(same).map(|one| one.from);
        next.filter(|from| *from >= partition.end()).fold(end, u64::min)
    }
}
