//! Devices that can be told that content is not needed.

use super::guarantee::sysfs;
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

nix::ioctl_write_ptr_bad!(blkdiscard, 0x1277, [u64; 2]);

/// Whether a device can discard.
pub(super) fn discards(file: &File) -> io::Result<bool> {
    let number = std::os::unix::fs::MetadataExt::rdev(&file.metadata()?);
    let device = sysfs(number).canonicalize()?;
    // A partition's queue is its disk's.
    let read = |at: &str| std::fs::read_to_string(device.join(at).join("discard_max_bytes"));
    let most = read("queue").or_else(|_| read("../queue"))?;
    Ok(most.trim() != "0")
}

/// Discards a range.
pub(super) fn discard(device: &File, at: u64, length: u64) -> io::Result<()> {
    // SAFETY: the descriptor is open, and BLKDISCARD reads two 64-bit numbers: start and length.
    unsafe { blkdiscard(device.as_raw_fd(), &[at, length]) }?;
    Ok(())
}
