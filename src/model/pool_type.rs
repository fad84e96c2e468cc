//! The fourteen types of pool, and what each needs and offers, as one table.

use super::VolumeFormat;
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

/// What a type needs and offers; facts of the type, whether or not this host can do it.
#[derive(Debug)]
pub struct PoolTypeInfo {
    /// The type.
    pub pool_type: PoolType,
    /// libvirt's word for it.
    pub name: &'static str,
    /// Formats that `<source><format type=.../>` may have; empty when the type has none.
    pub source_formats: &'static [&'static str],
    /// The one taken when none is given.
    pub default_source_format: Option<&'static str>,
    /// Formats a volume may have; empty when volumes have none.
    pub volume_formats: &'static [VolumeFormat],
    /// The one taken when none is given.
    pub default_volume_format: Option<VolumeFormat>,
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
        match self {
            Self::Dir => "dir",
            Self::Fs => "fs",
            Self::NetFs => "netfs",
            Self::Logical => "logical",
            Self::Disk => "disk",
            Self::Iscsi => "iscsi",
            Self::IscsiDirect => "iscsi-direct",
            Self::Scsi => "scsi",
            Self::Mpath => "mpath",
            Self::Rbd => "rbd",
            Self::Sheepdog => "sheepdog",
            Self::Gluster => "gluster",
            Self::Zfs => "zfs",
            Self::Vstorage => "vstorage",
        }
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
