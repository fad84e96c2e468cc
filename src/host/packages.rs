//! Which package a program comes in, for the message when it is not installed.

use crate::model::{Error, ErrorKind};

/// Programs with their package in Debian and in Fedora.
const PACKAGES: &[(&[&str], &str, &str)] = &[
    // Directories and file systems.
    (&["mount", "umount", "losetup"], "mount", "util-linux-core"),
    (&["blkid", "partx", "blockdev", "findmnt"], "util-linux", "util-linux-core"),
    (&["wipefs", "lsblk"], "util-linux", "util-linux"),
    (
        &["mkfs.ext2", "mkfs.ext3", "mkfs.ext4", "mke2fs", "chattr", "lsattr"],
        "e2fsprogs",
        "e2fsprogs",
    ),
    (&["mkfs.xfs"], "xfsprogs", "xfsprogs"),
    (&["mkfs.btrfs", "btrfs"], "btrfs-progs", "btrfs-progs"),
    (&["mkfs.vfat"], "dosfstools", "dosfstools"),
    (&["mkfs.exfat"], "exfatprogs", "exfatprogs"),
    (&["mkfs.f2fs"], "f2fs-tools", "f2fs-tools"),
    (&["mkfs.ntfs", "ntfs-3g"], "ntfs-3g", "ntfs-3g"),
    (&["mkfs.udf", "mkudffs"], "udftools", "udftools"),
    (&["mkfs.gfs2"], "gfs2-utils", "gfs2-utils"),
    (&["mkfs.hfsplus"], "hfsprogs", "hfsplus-tools"),
    (&["mkfs.ocfs2"], "ocfs2-tools", "ocfs2-tools"),
    (&["scrub"], "scrub", "scrub"),
    (&["qemu-img", "qemu-nbd", "qemu-io"], "qemu-utils", "qemu-img"),
    (&["qemu-storage-daemon"], "qemu-system-common", "qemu-storage-daemon"),
    (&["cryptsetup"], "cryptsetup-bin", "cryptsetup"),
    (&["systemd-run"], "systemd", "systemd"),
    // Network file systems.
    (&["mount.nfs", "mount.nfs4", "showmount"], "nfs-common", "nfs-utils"),
    (&["mount.cifs"], "cifs-utils", "cifs-utils"),
    (&["mount.glusterfs", "glusterfs"], "glusterfs-client", "glusterfs-fuse"),
    (&["gluster"], "glusterfs-cli", "glusterfs-cli"),
    // Block devices.
    (
        &[
            "lvm", "lvs", "vgs", "pvs", "lvcreate", "lvremove", "lvchange", "lvresize", "lvextend",
            "lvreduce", "vgchange", "vgcreate", "vgremove", "vgscan", "pvcreate", "pvremove",
        ],
        "lvm2",
        "lvm2",
    ),
    (&["dmsetup"], "dmsetup", "device-mapper"),
    (&["parted", "partprobe"], "parted", "parted"),
    (&["sfdisk", "fdisk"], "fdisk", "util-linux"),
    (&["sgdisk"], "gdisk", "gdisk"),
    (&["udevadm"], "udev", "systemd-udev"),
    (&["iscsiadm", "iscsi-iname"], "open-iscsi", "iscsi-initiator-utils"),
    (&["iscsi-ls", "iscsi-inq", "iscsi-readcapacity16"], "libiscsi-bin", "libiscsi-utils"),
    (&["sg_inq", "sg_vpd", "sg_luns"], "sg3-utils", "sg3_utils"),
    (&["multipath", "multipathd"], "multipath-tools", "device-mapper-multipath"),
    (&["kpartx"], "kpartx", "kpartx"),
    // Clusters.
    (&["rbd", "ceph", "rados"], "ceph-common", "ceph-common"),
    (&["dog", "collie"], "sheepdog", "sheepdog"),
    (&["zfs", "zpool"], "zfsutils-linux", "zfs"),
    (&["ploop"], "ploop", "ploop"),
    (&["vstorage", "vstorage-mount"], "vstorage-client", "vstorage-client"),
];

/// The packages that have a program, as "lvm2" or "mount (Debian) or util-linux-core (Fedora)".
fn packages(program: &str) -> Option<String> {
    let (_, debian, fedora) =
        PACKAGES.iter().find(|(programs, _, _)| programs.contains(&program))?;
    Some(match debian == fedora {
        true => (*debian).to_owned(),
        false => format!("{debian} (Debian) or {fedora} (Fedora)"),
    })
}

/// A program that is not installed, with the packages that have it.
pub fn program_and_packages(program: &str) -> String {
    match packages(program) {
        Some(packages) => format!("{program} from {packages}"),
        None => program.to_owned(),
    }
}

/// The error of a program that is not installed.
pub fn missing(program: &str) -> Error {
    let advice = match packages(program) {
        Some(packages) => format!("install package {packages}"),
        None => "install the package that has it".to_owned(),
    };
    Error::new(ErrorKind::ToolMissing, format!("{program} is not installed: {advice}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_message_says_what_to_install() {
        let message = |program| missing(program).message().to_owned();
        assert_eq!(message("lvs"), "lvs is not installed: install package lvm2");
        assert_eq!(
            message("iscsiadm"),
            "iscsiadm is not installed: install package open-iscsi (Debian) or \
             iscsi-initiator-utils (Fedora)"
        );
        assert!(message("frobnicate").starts_with("frobnicate is not installed: "));
    }

    #[test]
    fn each_program_is_in_one_row() {
        let mut programs: Vec<_> = PACKAGES.iter().flat_map(|(programs, _, _)| *programs).collect();
        let count = programs.len();
        programs.sort_unstable();
        programs.dedup();
        assert_eq!(programs.len(), count);
    }
}
