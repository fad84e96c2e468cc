//! The fourteen types of pool, and what each needs and offers, as one table.

use super::text::escape_url_path;
use super::{AuthKind, Provisioning, VolumeFormat, VolumeKind};
use std::fmt;

/// Type of a pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum PoolType {
    /// A directory.
    Dir,
    /// A file system on a device.
    Fs,
    /// A network file system.
    NetFs,
    /// An LVM volume group.
    Logical,
    /// A partitioned disk.
    Disk,
    /// An iSCSI target, by the kernel's initiator.
    Iscsi,
    /// An iSCSI target, in user space.
    IscsiDirect,
    /// A SCSI adapter.
    Scsi,
    /// The host's multipath devices.
    Mpath,
    /// A Ceph pool.
    Rbd,
    /// A Sheepdog cluster.
    Sheepdog,
    /// A Gluster volume.
    Gluster,
    /// A ZFS pool or data set.
    Zfs,
    /// Virtuozzo storage.
    Vstorage,
}

/// Whether a definition has some part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// It has no meaning there and is refused.
    Never,
    /// It may be there.
    May,
    /// It must be there.
    Must,
    /// It is there always: what is not given is taken from the type's rule (Gluster's directory
    /// is `/`, a volume group's name the pool's, its target `/dev/NAME`).
    Filled,
}

/// What the paths of volumes are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VolumePaths {
    /// Paths on this host.
    Local,
    /// Names on a server; QEMU's options have this before them.
    Names(&'static str),
    /// `SCHEME://HOST/NAME/DIRECTORY/VOLUME`, of files on a server.
    Urls(&'static str),
}

/// What a type needs and offers; facts of the type, whether or not this host can do it.
#[derive(Debug)]
pub struct PoolTypeInfo {
    /// The type.
    pub pool_type: PoolType,
    /// libvirt's word for it.
    pub name: &'static str,
    /// Formats that `<source><format type=.../>` may have; empty when the type has none.
    pub source_formats: &'static [&'static str],
    /// The one taken when none is given, and what `unknown` means.
    pub default_source_format: Option<&'static str>,
    /// Formats a volume may have; empty when volumes have none.
    pub volume_formats: &'static [VolumeFormat],
    /// The one taken when none is given.
    pub default_volume_format: Option<VolumeFormat>,
    /// How the blocks of a volume can be provided; empty where there is no choice.
    pub provisionings: &'static [Provisioning],
    /// Kind of a volume unless it says otherwise.
    pub volume_kind: VolumeKind,
    /// What the paths of volumes are.
    pub volume_paths: VolumePaths,
    /// Fewest and most servers.
    pub hosts: (usize, usize),
    /// Fewest and most devices.
    pub devices: (usize, usize),
    /// Whether its devices are paths on this host; else they are names that others give (an IQN).
    pub local_devices: bool,
    /// `<source><dir>`.
    pub dir: Need,
    /// `<source><name>`; where it is `Filled`, the pool's name and this one stand for each other.
    pub source_name: Need,
    /// What that is the name of, for people, where no server has it; empty where one does.
    pub source_noun: &'static str,
    /// `<source><adapter>`.
    pub adapter: Need,
    /// `<source><initiator>`.
    pub initiator: Need,
    /// `<target><path>`; where it is `Filled`, what a document says is not heeded.
    pub target: Need,
    /// Below which directory a `Filled` target lies, named like the source.
    pub target_parent: &'static str,
    /// Kind of credentials that `<source><auth>` may hold.
    pub auth: Option<AuthKind>,
    /// `<source><vendor>` and `<product>`.
    pub vendor: Need,
    /// `<features><cow>`.
    pub cow: Need,
    /// `<refresh><volume allocation>`.
    pub refresh_allocation: Need,
    /// `<fs:mount_opts>`.
    pub mount_options: Need,
    /// `<rbd:config_opts>`.
    pub config_options: Need,
}

/// A type that needs nothing and offers block volumes without format; rows below say the rest.
const PLAIN: PoolTypeInfo = PoolTypeInfo {
    pool_type: PoolType::Mpath,
    name: "",
    source_formats: &[],
    default_source_format: None,
    volume_formats: &[],
    default_volume_format: None,
    provisionings: &[],
    volume_kind: VolumeKind::Block,
    volume_paths: VolumePaths::Local,
    hosts: (0, 0),
    devices: (0, 0),
    local_devices: true,
    dir: Need::Never,
    source_name: Need::Never,
    source_noun: "",
    adapter: Need::Never,
    initiator: Need::Never,
    target: Need::Must,
    target_parent: "",
    auth: None,
    vendor: Need::May,
    cow: Need::Never,
    refresh_allocation: Need::Never,
    mount_options: Need::Never,
    config_options: Need::Never,
};

/// A type whose volumes are image files below its target.
const IMAGES: PoolTypeInfo = PoolTypeInfo {
    volume_formats: IMAGE_FORMATS,
    default_volume_format: Some(VolumeFormat::Raw),
    volume_kind: VolumeKind::File,
    ..PLAIN
};

/// A type whose volumes are on a server and appear nowhere on this host.
const NETWORK: PoolTypeInfo = PoolTypeInfo {
    volume_formats: IMAGE_FORMATS,
    default_volume_format: Some(VolumeFormat::Raw),
    volume_kind: VolumeKind::Network,
    volume_paths: VolumePaths::Names(""),
    hosts: (1, 1),
    local_devices: false,
    target: Need::Never,
    vendor: Need::Never,
    ..PLAIN
};

/// Most servers or devices of a pool.
const MANY: usize = 256;

const IMAGE_FORMATS: &[VolumeFormat] = &[
    VolumeFormat::None,
    VolumeFormat::Raw,
    VolumeFormat::Dir,
    VolumeFormat::Bochs,
    VolumeFormat::Cloop,
    VolumeFormat::Dmg,
    VolumeFormat::Iso,
    VolumeFormat::Vpc,
    VolumeFormat::Vdi,
    VolumeFormat::Fat,
    VolumeFormat::Vhd,
    VolumeFormat::Ploop,
    VolumeFormat::Cow,
    VolumeFormat::Qcow,
    VolumeFormat::Qcow2,
    VolumeFormat::Qed,
    VolumeFormat::Vmdk,
];

/// One row per type, in the order of `PoolType::ALL`.
static TABLE: [PoolTypeInfo; 14] = [
    PoolTypeInfo { pool_type: PoolType::Dir, name: "dir", cow: Need::May, ..IMAGES },
    PoolTypeInfo {
        pool_type: PoolType::Fs,
        name: "fs",
        source_formats: &[
            "auto", "ext2", "ext3", "ext4", "ufs", "iso9660", "udf", "gfs", "gfs2", "vfat", "hfs+",
            "xfs", "ocfs2", "vmfs",
        ],
        default_source_format: Some("auto"),
        devices: (1, 1),
        cow: Need::May,
        mount_options: Need::May,
        ..IMAGES
    },
    PoolTypeInfo {
        pool_type: PoolType::NetFs,
        name: "netfs",
        source_formats: &["auto", "nfs", "glusterfs", "cifs"],
        default_source_format: Some("auto"),
        hosts: (1, 1),
        dir: Need::Must,
        auth: Some(AuthKind::Cifs),
        mount_options: Need::May,
        ..IMAGES
    },
    PoolTypeInfo {
        pool_type: PoolType::Logical,
        name: "logical",
        source_formats: &["unknown", "lvm2"],
        default_source_format: Some("lvm2"),
        provisionings: &Provisioning::ALL,
        devices: (0, MANY),
        source_name: Need::Filled,
        source_noun: "volume group",
        target: Need::Filled,
        target_parent: "/dev",
        ..PLAIN
    },
    PoolTypeInfo {
        pool_type: PoolType::Disk,
        name: "disk",
        source_formats: &["unknown", "dos", "dvh", "gpt", "mac", "bsd", "pc98", "sun", "lvm2"],
        default_source_format: Some("dos"),
        volume_formats: &[
            VolumeFormat::None,
            VolumeFormat::Linux,
            VolumeFormat::Fat16,
            VolumeFormat::Fat32,
            VolumeFormat::LinuxSwap,
            VolumeFormat::LinuxLvm,
            VolumeFormat::LinuxRaid,
            VolumeFormat::Extended,
        ],
        default_volume_format: Some(VolumeFormat::None),
        devices: (1, 1),
        ..PLAIN
    },
    PoolTypeInfo {
        pool_type: PoolType::Iscsi,
        name: "iscsi",
        hosts: (1, MANY),
        devices: (1, 1),
        local_devices: false,
        initiator: Need::May,
        auth: Some(AuthKind::Chap),
        ..PLAIN
    },
    PoolTypeInfo {
        pool_type: PoolType::IscsiDirect,
        name: "iscsi-direct",
        volume_formats: &[],
        default_volume_format: None,
        devices: (1, 1),
        initiator: Need::Must,
        auth: Some(AuthKind::Chap),
        ..NETWORK
    },
    PoolTypeInfo { pool_type: PoolType::Scsi, name: "scsi", adapter: Need::Must, ..PLAIN },
    PoolTypeInfo { pool_type: PoolType::Mpath, name: "mpath", vendor: Need::Never, ..PLAIN },
    PoolTypeInfo {
        pool_type: PoolType::Rbd,
        name: "rbd",
        volume_paths: VolumePaths::Names("rbd:"),
        hosts: (1, MANY),
        source_name: Need::Must,
        auth: Some(AuthKind::Ceph),
        refresh_allocation: Need::May,
        config_options: Need::May,
        ..NETWORK
    },
    PoolTypeInfo {
        pool_type: PoolType::Sheepdog,
        name: "sheepdog",
        volume_paths: VolumePaths::Names("sheepdog:"),
        source_name: Need::Filled,
        ..NETWORK
    },
    PoolTypeInfo {
        pool_type: PoolType::Gluster,
        name: "gluster",
        volume_paths: VolumePaths::Urls("gluster"),
        dir: Need::Filled,
        source_name: Need::Filled,
        ..NETWORK
    },
    PoolTypeInfo {
        pool_type: PoolType::Zfs,
        name: "zfs",
        provisionings: &[Provisioning::Thick, Provisioning::Thin],
        devices: (0, MANY),
        source_name: Need::Filled,
        source_noun: "ZFS pool",
        target: Need::Filled,
        target_parent: "/dev/zvol",
        vendor: Need::Never,
        ..PLAIN
    },
    PoolTypeInfo {
        pool_type: PoolType::Vstorage,
        name: "vstorage",
        source_name: Need::Filled,
        source_noun: "cluster",
        vendor: Need::Never,
        ..IMAGES
    },
];

impl PoolTypeInfo {
    /// Whether its volumes are files in a directory, on this host or on a server.
    pub fn has_files(&self) -> bool {
        self.volume_kind == VolumeKind::File || matches!(self.volume_paths, VolumePaths::Urls(_))
    }

    /// The kind of its volumes that are directories.
    pub fn directory_kind(&self) -> VolumeKind {
        match self.volume_kind {
            VolumeKind::Network => VolumeKind::NetDir,
            _ => VolumeKind::Dir,
        }
    }

    /// The path of a volume in a directory, as [`PoolDef::volume_directory`] has that.
    ///
    /// [`PoolDef::volume_directory`]: super::PoolDef::volume_directory
    pub fn volume_path(&self, directory: &str, name: &str) -> String {
        match self.volume_paths {
            VolumePaths::Urls(_) => format!("{directory}/{}", escape_url_path(name)),
            VolumePaths::Local | VolumePaths::Names(_) => format!("{directory}/{name}"),
        }
    }
}

impl PoolType {
    /// All types, in libvirt's order.
    pub const ALL: [PoolType; 14] = [
        Self::Dir,
        Self::Fs,
        Self::NetFs,
        Self::Logical,
        Self::Disk,
        Self::Iscsi,
        Self::IscsiDirect,
        Self::Scsi,
        Self::Mpath,
        Self::Rbd,
        Self::Sheepdog,
        Self::Gluster,
        Self::Zfs,
        Self::Vstorage,
    ];

    /// libvirt's word for it.
    pub fn as_str(self) -> &'static str {
        self.info().name
    }

    /// What the type needs and offers.
    pub fn info(self) -> &'static PoolTypeInfo {
        &TABLE[self as usize]
    }

    /// The type of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|pool_type| pool_type.as_str() == name)
    }
}

impl fmt::Display for PoolType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type_has_the_row_that_is_its_own() {
        for pool_type in PoolType::ALL {
            let info = pool_type.info();
            assert_eq!(info.pool_type, pool_type);
            assert_eq!(PoolType::from_name(info.name), Some(pool_type));
            assert_eq!(info.default_source_format.is_some(), !info.source_formats.is_empty());
            assert_eq!(info.default_volume_format.is_some(), !info.volume_formats.is_empty());
            if let Some(format) = info.default_source_format {
                assert!(info.source_formats.contains(&format), "{pool_type}");
            }
            if let Some(format) = info.default_volume_format {
                assert!(info.volume_formats.contains(&format), "{pool_type}");
            }
            assert_eq!(info.target == Need::Filled, !info.target_parent.is_empty(), "{pool_type}");
        }
    }
}
