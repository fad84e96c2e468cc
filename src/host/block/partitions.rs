//! Partitions that the kernel knows of a disk: told one by one (BLKPG), so that no other one is
//! touched. The table itself is not read or written here.

use super::BlockDevice;
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

const ADD: i32 = 1;
const DELETE: i32 = 2;
const RESIZE: i32 = 3;

/// `struct blkpg_partition` of linux/blkpg.h.
#[repr(C)]
struct Place {
    start: i64,
    length: i64,
    number: i32,
    device_name: [u8; 64],
    volume_name: [u8; 64],
}

/// `struct blkpg_ioctl_arg`.
#[repr(C)]
struct Order {
    what: i32,
    flags: i32,
    length: i32,
    place: *mut Place,
}

/// `struct hd_geometry` of linux/hdreg.h.
#[repr(C)]
#[derive(Default)]
struct HdGeometry {
    heads: u8,
    sectors: u8,
    cylinders: u16,
    start: u64,
}

mod ioctl {
    use super::{HdGeometry, Order};

    nix::ioctl_write_ptr_bad!(blkpg, 0x1269, Order);
    nix::ioctl_read_bad!(hdio_getgeo, 0x0301, HdGeometry);
}

fn order(disk: &File, what: i32, number: u32, start: u64, length: u64) -> io::Result<()> {
    let invalid = |_| io::Error::from_raw_os_error(libc::EINVAL);
    let mut place = Place {
        start: start.try_into().map_err(invalid)?,
        length: length.try_into().map_err(invalid)?,
        number: number.try_into().map_err(invalid)?,
        device_name: [0; 64],
        volume_name: [0; 64],
    };
    let size = i32::try_from(size_of::<Place>()).map_err(invalid)?;
    let order = Order { what, flags: 0, length: size, place: &raw mut place };
    // SAFETY: the descriptor is open, and BLKPG reads the two structures, which live on.
    unsafe { ioctl::blkpg(disk.as_raw_fd(), &order) }?;
    Ok(())
}

/// Has the kernel know a partition, in bytes; one that it knows there already is success.
pub fn add(disk: &File, number: u32, start: u64, length: u64) -> io::Result<()> {
    match order(disk, ADD, number, start, length) {
        Err(error) if error.raw_os_error() == Some(libc::EBUSY) => {
            let known = BlockDevice::of(disk)?.partitions();
            let same = known.iter().filter_map(BlockDevice::partition).any(|(_, place)| {
                (place.number, place.start, place.size) == (number, start, length)
            });
            if same { Ok(()) } else { Err(error) }
        }
        done => done,
    }
}

/// Has the kernel forget a partition: EBUSY when anybody has it open. One that it does not know is
/// success.
pub fn forget(disk: &File, number: u32) -> io::Result<()> {
    match order(disk, DELETE, number, 0, 0) {
        Err(error) if error.raw_os_error() == Some(libc::ENXIO) => Ok(()),
        done => done,
    }
}

/// Has the kernel know another length of a partition, which may be in use.
pub fn resize(disk: &File, number: u32, start: u64, length: u64) -> io::Result<()> {
    order(disk, RESIZE, number, start, length)
}

/// Heads, and sectors of a track, that a disk's driver tells; most have made them up.
pub fn geometry(disk: &File) -> Option<(u64, u64)> {
    let mut told = HdGeometry::default();
    // SAFETY: the descriptor is open, and HDIO_GETGEO writes the structure.
    unsafe { ioctl::hdio_getgeo(disk.as_raw_fd(), &raw mut told) }.ok()?;
    let geometry = (u64::from(told.heads), u64::from(told.sectors));
    (geometry.0 != 0 && geometry.1 != 0).then_some(geometry)
}
