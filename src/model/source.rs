//! Where a pool's storage comes from: the `<source>` of its definition.

use super::{Error, ErrorKind, Result, Uuid};
use serde::{Deserialize, Serialize};

/// Everything a pool's `<source>` can say; which parts a type needs is in its `PoolTypeInfo`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Source {
    /// Servers, in order (RBD has several monitors).
    pub hosts: Vec<HostAddress>,
    /// Devices, in order; for iSCSI the target's IQN.
    pub devices: Vec<SourceDevice>,
    /// Exported or remote directory.
    pub dir: Option<String>,
    /// Volume group, RBD pool, Gluster volume, zpool or cluster.
    pub name: Option<String>,
    /// SCSI adapter.
    pub adapter: Option<Adapter>,
    /// Own initiator name (iSCSI).
    pub initiator_iqn: Option<String>,
    /// Credentials.
    pub auth: Option<Auth>,
    /// Format of the source: file system, partition table or share type; libvirt's word.
    pub format: Option<String>,
    /// NFS protocol version.
    pub protocol_version: Option<String>,
    /// Vendor, free text.
    pub vendor: Option<String>,
    /// Product, free text.
    pub product: Option<String>,
}

impl Source {
    /// The server whose sources are to be found: one, as in libvirt.
    pub fn server(&self) -> Result<&HostAddress> {
        match self.hosts.as_slice() {
            [host] => Ok(host),
            hosts => Err(Error::new(
                ErrorKind::InvalidArgument,
                format!("sources are found on one server; name one as host, not {}", hosts.len()),
            )),
        }
    }
}

/// A server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostAddress {
    /// Name or address; an IPv6 address without brackets or with, as given.
    pub name: String,
    /// Port, when not the protocol's own.
    pub port: Option<u16>,
}

/// A device that a pool is made from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceDevice {
    /// Path, or the IQN for iSCSI.
    pub path: String,
    /// Whether partition nodes have a `p` before their number, when said.
    pub part_separator: Option<bool>,
    /// Free extents, written only (disk).
    pub free_extents: Vec<FreeExtent>,
}

/// A free range of a partitioned disk, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FreeExtent {
    /// First byte.
    pub start: u64,
    /// First byte after.
    pub end: u64,
}

/// A SCSI adapter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Adapter {
    /// A SCSI host.
    ScsiHost(ScsiHost),
    /// A virtual Fibre Channel HBA.
    FcHost(FcHost),
}

/// How a SCSI host is named.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ScsiHost {
    /// `hostN` or `scsi_hostN`.
    Name(String),
    /// The PCI device and the host's number on it.
    Parent {
        /// PCI address.
        address: PciAddress,
        /// `unique_id` in sysfs.
        unique_id: u32,
    },
}

/// A PCI address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PciAddress {
    /// Domain.
    pub domain: u32,
    /// Bus.
    pub bus: u32,
    /// Slot.
    pub slot: u32,
    /// Function.
    pub function: u32,
}

/// A vHBA.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FcHost {
    /// World wide node name, 16 hex digits.
    pub wwnn: String,
    /// World wide port name, 16 hex digits.
    pub wwpn: String,
    /// The HBA it is created on.
    pub parent: Option<FcParent>,
    /// Whether the vHBA is removed when the pool stops.
    pub managed: Option<bool>,
}

/// The HBA a vHBA is created on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FcParent {
    /// By name.
    Name(String),
    /// By its own world wide names.
    Wwn {
        /// Node name.
        wwnn: String,
        /// Port name.
        wwpn: String,
    },
    /// By the fabric it is on.
    Fabric(String),
}

/// Credentials for a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Auth {
    /// iSCSI CHAP.
    Chap {
        /// User name.
        username: String,
        /// Where the password is.
        secret: SecretRef,
    },
    /// Ceph (cephx).
    Ceph {
        /// User name, without `client.`.
        username: String,
        /// Where the key is.
        secret: SecretRef,
    },
    /// A CIFS user's password; libvirt has none.
    Cifs {
        /// User name, with a domain as `DOMAIN\user`.
        username: String,
        /// Where the password is.
        secret: SecretRef,
    },
}

/// Kind of credentials.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AuthKind {
    /// iSCSI CHAP.
    Chap,
    /// Ceph (cephx).
    Ceph,
    /// A CIFS user's password.
    Cifs,
}

impl AuthKind {
    /// libvirt's word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Chap => "chap",
            Self::Ceph => "ceph",
            Self::Cifs => "cifs",
        }
    }

    /// The kind of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Chap, Self::Ceph, Self::Cifs].into_iter().find(|kind| kind.as_str() == name)
    }

    /// Credentials of this kind.
    pub fn auth(self, username: String, secret: SecretRef) -> Auth {
        match self {
            Self::Chap => Auth::Chap { username, secret },
            Self::Ceph => Auth::Ceph { username, secret },
            Self::Cifs => Auth::Cifs { username, secret },
        }
    }
}

impl Auth {
    /// Which kind of credentials these are.
    pub fn kind(&self) -> AuthKind {
        match self {
            Self::Chap { .. } => AuthKind::Chap,
            Self::Ceph { .. } => AuthKind::Ceph,
            Self::Cifs { .. } => AuthKind::Cifs,
        }
    }

    /// User name, and where the password or key is.
    pub fn parts(&self) -> (&str, &SecretRef) {
        match self {
            Self::Chap { username, secret }
            | Self::Ceph { username, secret }
            | Self::Cifs { username, secret } => (username, secret),
        }
    }
}

/// Which secret is meant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum SecretRef {
    /// By uuid.
    Uuid(Uuid),
    /// By usage name.
    Usage(String),
}
