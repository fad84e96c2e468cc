//! What overwriting in place is worth: whether the old content is likely to be hit.

use crate::host::FileStat;
use rustix::fs::FileType;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

/// What overwriting is worth.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Guarantee {
    /// The blocks that held the old content are written over, as far as the kernel can tell.
    Physical,
    /// The old content cannot be read through the volume any more; why its storage may keep it.
    Logical(&'static str),
}

impl Guarantee {
    /// The word on the bus.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Physical => "physical",
            Self::Logical(_) => "logical",
        }
    }
}

const EXT: u64 = 0xef53;
const XFS: u64 = 0x5846_5342;
/// `FS_JOURNAL_DATA_FL`: this one file's data goes through the journal.
const JOURNAL_DATA: u32 = 0x4000;

/// What overwriting an open file or device is worth, its extents aside.
pub fn guarantee(file: &File) -> io::Result<Guarantee> {
    let stat = FileStat::of(file)?;
    if stat.kind == FileType::BlockDevice {
        let number = std::os::unix::fs::MetadataExt::rdev(&file.metadata()?);
        return Ok(of_device(&sysfs(number)));
    }
    let device = sysfs(stat.device);
    let kind = rustix::fs::fstatfs(file)?.f_type as u64 & 0xffff_ffff;
    Ok(match kind {
        XFS => of_device(&device),
        EXT => match journals_data(file, &device) {
            None => of_device(&device),
            Some(why) => Guarantee::Logical(why),
        },
        _ => Guarantee::Logical("its file system does not overwrite in place, or does not say so"),
    })
}

/// Whether ext4 writes the content of a file to its journal too.
fn journals_data(file: &File, device: &Path) -> Option<&'static str> {
    const FILE: &str = "its content goes through the file system's journal";
    let flags = rustix::fs::ioctl_getflags(file).map(|flags| flags.bits());
    if flags.is_ok_and(|flags| flags & JOURNAL_DATA != 0) {
        return Some(FILE);
    }
    let name = device.canonicalize().ok()?.file_name()?.to_owned();
    // Other drivers of ext2 have no journal and no such file.
    let options = std::fs::read_to_string(Path::new("/proc/fs/ext4").join(name).join("options"));
    options.is_ok_and(|text| text.lines().any(|line| line == "data=journal")).then_some(FILE)
}

/// What the kernel says of a device.
pub(super) fn sysfs(device: u64) -> PathBuf {
    let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
    PathBuf::from(format!("/sys/dev/block/{major}:{minor}"))
}

/// Kinds of mapped devices that write elsewhere than they wrote before, by the end of their uuid.
const ELSEWHERE: [&str; 4] = ["-tpool", "-pool", "-cow", "-vpool"];
/// Devices of storage that keeps old content, by the beginning of their name.
const KEEPERS: [(&str, &str); 3] = [
    ("zd", "its storage is a ZFS volume, which does not overwrite in place"),
    ("rbd", "its storage is a Ceph image, which may have snapshots"),
    ("zram", "its storage is compressed memory"),
];
/// How deep devices are looked for below devices.
const DEPTH: u32 = 16;

/// A device overwrites in place unless it, or one beneath it, is known not to.
fn of_device(device: &Path) -> Guarantee {
    match keeps_old(device, DEPTH) {
        None => Guarantee::Physical,
        Some(why) => Guarantee::Logical(why),
    }
}

fn keeps_old(device: &Path, depth: u32) -> Option<&'static str> {
    const THIN: &str = "its storage is thin or has snapshots";
    let device = device.canonicalize().ok()?;
    let name = device.file_name()?.to_str()?;
    if let Some((_, why)) = KEEPERS.iter().find(|(start, _)| name.starts_with(start)) {
        return Some(why);
    }
    let uuid = std::fs::read_to_string(device.join("dm/uuid")).unwrap_or_default();
    let uuid = uuid.trim();
    if uuid.starts_with("VDO-") || ELSEWHERE.iter().any(|end| uuid.ends_with(end)) {
        return Some(THIN);
    }
    let depth = depth.checked_sub(1)?;
    let below = std::fs::read_dir(device.join("slaves")).ok()?;
    below.flatten().find_map(|slave| keeps_old(&slave.path(), depth))
}
