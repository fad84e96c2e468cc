//! What the partitions of a disk are called: as the kernel's nodes, as libvirt does.

use super::drive::Drive;
use crate::host::BlockDevice;
use crate::host::block::names_in;
use crate::image::partitions::Partition;
use std::path::{Path, PathBuf};

/// What multipath's rules for udev put between a map's name and a partition's number.
const MAPPED: &str = "-part";

/// What is between a disk's name and a partition's number.
pub(super) fn separator(drive: &Drive<'_>) -> &'static str {
    let Some((own, uuid)) = drive.device.mapped() else {
        return if drive.device.name.ends_with(|c: char| c.is_ascii_digit()) { "p" } else { "" };
    };
    // Whoever made the others of this disk has decided.
    let suffix = format!("-{uuid}");
    let sibling = drive.device.holders().into_iter().find_map(|holder| {
        let (name, uuid) = holder.mapped()?;
        let rest = name.strip_prefix(&own)?.trim_end_matches(|c: char| c.is_ascii_digit());
        let known = [MAPPED, "p", ""].into_iter().find(|known| *known == rest);
        known.filter(|_| uuid.ends_with(&suffix))
    });
    sibling.unwrap_or(match drive.part_separator {
        Some(true) => "p",
        Some(false) => "",
        None => MAPPED,
    })
}

/// The name that the partition of a number has or will have.
pub(super) fn name(drive: &Drive<'_>, number: u32) -> String {
    let disk = match drive.device.mapped() {
        Some((name, _)) => name,
        // Of a name in a directory of its own, the last part.
        None => base(&drive.device.node()),
    };
    format!("{disk}{}{number}", separator(drive))
}

/// Name and path of a partition: of its device where it has one.
pub(super) fn of(
    drive: &Drive<'_>,
    partition: &Partition,
    device: Option<&BlockDevice>,
    target: Option<&str>,
) -> (String, PathBuf) {
    let mapped = device.and_then(BlockDevice::mapped).map(|(name, _)| name);
    let name = match (mapped, device) {
        (Some(name), _) => name,
        (None, Some(device)) => base(&device.node()),
        (None, None) => self::name(drive, partition.number),
    };
    let node = match (&drive.device.mapped(), device) {
        (None, Some(device)) => device.node(),
        (None, None) => drive.device.node().with_file_name(&name),
        (Some(_), _) => Path::new("/dev/mapper").join(&name),
    };
    // As in libvirt: below another directory than /dev, by its name there.
    let elsewhere = target.map(Path::new).filter(|target| *target != Path::new("/dev"));
    let stable = elsewhere
        .zip(device)
        .and_then(|(target, device)| names_in(target).ok()?.remove(&device.number));
    (name, stable.unwrap_or(node))
}

fn base(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// Whether `path` is a name of a partition of the disk at `disk`, going by the names alone.
pub(super) fn is_of(path: &Path, disk: &Path) -> bool {
    let Some(rest) =
        path.to_str().zip(disk.to_str()).and_then(|(path, disk)| path.strip_prefix(disk))
    else {
        return false;
    };
    let number = [MAPPED, "p"].into_iter().find_map(|known| rest.strip_prefix(known));
    let number = number.unwrap_or(rest);
    !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partitions_are_known_by_their_names() {
        for (path, disk, is) in [
            ("/dev/sdb1", "/dev/sdb", true),
            ("/dev/nvme0n1p12", "/dev/nvme0n1", true),
            ("/dev/mapper/mpatha-part1", "/dev/mapper/mpatha", true),
            ("/dev/mapper/mpathap1", "/dev/mapper/mpatha", true),
            ("/dev/disk/by-id/scsi-1-part3", "/dev/disk/by-id/scsi-1", true),
            ("/dev/sdb", "/dev/sdb", false),
            ("/dev/sdbc", "/dev/sdb", false),
            ("/dev/sdc1", "/dev/sdb", false),
            ("/dev/sdbp", "/dev/sdb", false),
        ] {
            assert_eq!(is_of(Path::new(path), Path::new(disk)), is, "{path}");
        }
    }
}
