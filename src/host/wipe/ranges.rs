//! What of a file is allocated.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::fd::AsRawFd;

/// What of a file is allocated, and how.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Ranges {
    /// Ranges of bytes, ascending.
    pub ranges: Vec<Range<u64>>,
    /// Why overwriting some of them writes elsewhere, where the file system says so.
    pub elsewhere: Option<&'static str>,
}

impl Ranges {
    /// All of something of `size` bytes.
    pub fn whole(size: u64) -> Self {
        Self { ranges: std::iter::once(0..size).collect(), elsewhere: None }
    }

    /// Their bytes in all.
    pub fn bytes(&self) -> u64 {
        self.ranges.iter().map(|range| range.end - range.start).sum()
    }

    fn push(&mut self, range: Range<u64>) {
        match self.ranges.last_mut() {
            Some(last) if range.start <= last.end => last.end = last.end.max(range.end),
            _ if range.is_empty() => {}
            _ => self.ranges.push(range),
        }
    }
}

/// What is allocated of a file of `size` bytes. What is allocated and not written counts: it is where
/// data was before it was discarded, and overwriting it takes no room.
pub fn ranges(file: &File, size: u64) -> io::Result<Ranges> {
    match mapped(file, size) {
        Err(error) if has_no_map(&error) => written(file, size),
        result => result,
    }
}

fn has_no_map(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EOPNOTSUPP | libc::ENOTTY | libc::ENOSYS | libc::EINVAL | libc::EBADR)
    )
}

/// Ranges with data, where the file system has no map of extents.
fn written(file: &File, size: u64) -> io::Result<Ranges> {
    let mut found = Ranges::default();
    let mut at = 0;
    while at < size {
        let (data, end) = super::super::copy::next_data(file, at, size)?;
        found.push(data..end);
        at = end;
    }
    Ok(found)
}

/// Extents asked for at once.
const BATCH: usize = 256;

/// `struct fiemap_extent` (linux/fiemap.h).
#[repr(C)]
#[derive(Clone, Copy)]
struct Extent {
    logical: u64,
    physical: u64,
    length: u64,
    reserved64: [u64; 2],
    flags: u32,
    reserved: [u32; 3],
}

/// `struct fiemap` and its extents.
#[repr(C)]
struct Map {
    start: u64,
    length: u64,
    flags: u32,
    mapped: u32,
    count: u32,
    reserved: u32,
    extents: [Extent; BATCH],
}

nix::ioctl_readwrite_bad!(fiemap, 0xC020_660B, Map);

const FLAG_SYNC: u32 = 0x1;
const LAST: u32 = 0x1;
/// What makes overwriting an extent write elsewhere.
const ELSEWHERE: [(u32, &str); 4] = [
    (0x2000, "its blocks are shared with another file or a snapshot"),
    (0x8, "its file system stores it compressed or otherwise encoded"),
    (0x200 | 0x400, "its file system stores it among its own data"),
    (0x2, "its file system does not say where it stores it"),
];

/// The file system's own map of extents.
fn mapped(file: &File, size: u64) -> io::Result<Ranges> {
    let empty = Extent {
        logical: 0,
        physical: 0,
        length: 0,
        reserved64: [0; 2],
        flags: 0,
        reserved: [0; 3],
    };
    let mut found = Ranges::default();
    let mut at = 0;
    while at < size {
        let mut map = Map {
            start: at,
            length: size - at,
            flags: FLAG_SYNC,
            mapped: 0,
            count: BATCH as u32,
            reserved: 0,
            extents: [empty; BATCH],
        };
        // SAFETY: the descriptor is open; `map` has the kernel's layout of `struct fiemap` with room
        // for as many extents as `count` says, and outlives the call.
        unsafe { fiemap(file.as_raw_fd(), &raw mut map) }?;
        let extents = map.extents.get(..map.mapped as usize).unwrap_or_default();
        for extent in extents {
            let end = extent.logical.saturating_add(extent.length).min(size);
            found.push(extent.logical.min(end)..end);
            let why = ELSEWHERE.iter().find(|(flag, _)| extent.flags & flag != 0);
            found.elsewhere = found.elsewhere.or(why.map(|(_, why)| *why));
        }
        match extents.last() {
            Some(last) if last.flags & LAST == 0 && last.length > 0 => {
                at = last.logical.saturating_add(last.length);
            }
            _ => break,
        }
    }
    Ok(found)
}
