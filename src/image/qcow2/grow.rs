//! Growing an image in place.

use super::header::{EXTENDED_L2, Header};
use super::layout::l1_entries;
use crate::model::Result;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// Where the header has the size; encryption method and first-level entries follow it.
const SIZE_OFFSET: u64 = 24;

impl Header {
    /// How growing this image to `capacity` bytes (a multiple of 512) is done, if it takes no more
    /// than the clusters that its first-level table has: `None` leaves it to QEMU. A `file_size`
    /// that the header contradicts is left to QEMU too, which says what is wrong.
    pub fn growth(&self, capacity: u64, file_size: u64) -> Result<Option<Growth>> {
        let extended = self.incompatible & EXTENDED_L2 != 0;
        let entries = l1_entries(capacity, self.cluster_size(), extended)?;
        let plain = self.incompatible & !EXTENDED_L2 == 0
            && self.autoclear == 0
            && self.snapshots == 0
            && self.encryption.is_none()
            && capacity.is_multiple_of(512)
            && capacity >= self.capacity;
        let old = u64::from(self.l1_entries) * 8;
        let room = old.next_multiple_of(self.cluster_size());
        let aligned = self.l1_offset > 0 && self.l1_offset.is_multiple_of(self.cluster_size());
        let inside = self.l1_offset.checked_add(room).is_some_and(|end| end <= file_size);
        let new = (entries * 8).max(old);
        Ok((plain && aligned && inside && new <= room).then(|| Growth {
            capacity,
            l1_entries: (new / 8) as u32,
            unused: (self.l1_offset + old, (new - old) as usize),
        }))
    }
}

/// A growth that takes no new clusters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Growth {
    capacity: u64,
    l1_entries: u32,
    /// The bytes that become first-level entries.
    unused: (u64, usize),
}

impl Growth {
    /// Writes it: the empty entries first, then the header at one stroke.
    pub fn write(&self, file: &File) -> io::Result<()> {
        let (offset, length) = self.unused;
        file.write_all_at(&vec![0; length], offset)?;
        file.sync_data()?;
        let mut fields = Vec::with_capacity(16);
        fields.extend(self.capacity.to_be_bytes());
        fields.extend(0_u32.to_be_bytes()); // not encrypted
        fields.extend(self.l1_entries.to_be_bytes());
        file.write_all_at(&fields, SIZE_OFFSET)?;
        file.sync_data()
    }
}
