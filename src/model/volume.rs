//! What a volume is: as asked for (`VolumeDef`) and as found (`Volume`).

use super::{FormatSource, Permissions, PoolType, SecretRef, VolumeFormat, VolumeName};
use serde::{Deserialize, Serialize};

/// What kind of thing a volume is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum VolumeKind {
    /// A regular file.
    File,
    /// A block device.
    Block,
    /// A directory.
    Dir,
    /// On a server, reached by a network protocol.
    Network,
    /// A directory on a server.
    NetDir,
    /// A Virtuozzo ploop directory.
    Ploop,
}

impl VolumeKind {
    /// All kinds.
    pub const ALL: [VolumeKind; 6] =
        [Self::File, Self::Block, Self::Dir, Self::Network, Self::NetDir, Self::Ploop];

    /// The kind of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == name)
    }

    /// libvirt's word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::File => "file",
            Self::Block => "block",
            Self::Dir => "dir",
            Self::Network => "network",
            Self::NetDir => "netdir",
            Self::Ploop => "ploop",
        }
    }
}

/// A volume as somebody asks for it, or as its XML document says it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VolumeDef {
    /// Name.
    pub name: VolumeName,
    /// Key, when the document has one; ignored when creating.
    pub key: Option<String>,
    /// Kind.
    pub kind: VolumeKind,
    /// What a guest sees, in bytes; may be absent when a backing store says it.
    pub capacity: Option<u64>,
    /// What is allocated at once; absent means: as little as the storage can do.
    pub allocation: Option<u64>,
    /// Bytes occupied by the file or device, written only.
    pub physical: Option<u64>,
    /// Ranges of the source that the volume lies on, written only.
    pub extents: Vec<Extent>,
    /// Path; ignored when creating.
    pub path: Option<String>,
    /// Format; absent means the type's default.
    pub format: Option<VolumeFormat>,
    /// Owner, mode and label.
    pub permissions: Option<Permissions>,
    /// Times, written only.
    pub timestamps: Option<Timestamps>,
    /// qcow2 compatibility level ("0.10", "1.1").
    pub compat: Option<String>,
    /// Whether btrfs copy-on-write is switched off.
    pub nocow: bool,
    /// Cluster size of the image in bytes.
    pub cluster_size: Option<u64>,
    /// Image features; `Some` when the document has the element.
    pub features: Option<VolumeFeatures>,
    /// Encryption.
    pub encryption: Option<Encryption>,
    /// The image this one is a difference to.
    pub backing: Option<BackingStore>,
    /// How its blocks are provided, where the pool has a choice; absent means: as the rest says.
    pub provisioning: Option<Provisioning>,
    /// The thin pool that its blocks come from, by name.
    pub thin_pool: Option<VolumeName>,
}

impl VolumeDef {
    /// A volume of that name as a pool of that type makes it when nothing else is said.
    pub fn new(name: VolumeName, pool_type: PoolType) -> Self {
        Self {
            name,
            key: None,
            kind: pool_type.info().volume_kind,
            capacity: None,
            allocation: None,
            physical: None,
            extents: Vec::new(),
            path: None,
            format: None,
            permissions: None,
            timestamps: None,
            compat: None,
            nocow: false,
            cluster_size: None,
            features: None,
            encryption: None,
            backing: None,
            provisioning: None,
            thin_pool: None,
        }
    }
}

/// How the blocks of a device are provided.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Provisioning {
    /// All of them from the beginning.
    Thick,
    /// Each when it is first written, from a store that others share.
    Thin,
    /// Those in which it differs from another volume, in a store of its own.
    Snapshot,
    /// Those that were written, in a store of its own.
    Sparse,
    /// It is the store that thin ones share.
    ThinPool,
}

impl Provisioning {
    /// All ways.
    pub const ALL: [Provisioning; 5] =
        [Self::Thick, Self::Thin, Self::Snapshot, Self::Sparse, Self::ThinPool];

    /// The word on the bus and in documents.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Thick => "thick",
            Self::Thin => "thin",
            Self::Snapshot => "snapshot",
            Self::Sparse => "sparse",
            Self::ThinPool => "thin-pool",
        }
    }

    /// The one of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|one| one.as_str() == name)
    }
}

/// Optional features of an image.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumeFeatures {
    /// Reference counts are written late.
    pub lazy_refcounts: bool,
    /// Sub-cluster allocation.
    pub extended_l2: bool,
    /// Data lives in another file.
    pub data_file: bool,
}

/// A range of a source device, in bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Extent {
    /// Device.
    pub device: String,
    /// First byte.
    pub start: u64,
    /// First byte after.
    pub end: u64,
}

/// Times of a file, each seconds and nanoseconds since the epoch.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Timestamps {
    /// Last access.
    pub atime: (i64, u32),
    /// Last modification.
    pub mtime: (i64, u32),
    /// Last change of the inode.
    pub ctime: (i64, u32),
    /// Creation, where the file system knows it.
    pub btime: Option<(i64, u32)>,
}

/// How a volume is encrypted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Encryption {
    /// `luks`, `qcow` or `default`.
    pub format: String,
    /// Passphrase secrets.
    pub secrets: Vec<SecretRef>,
    /// Cipher: name, key size in bits, mode, hash.
    pub cipher: Option<(String, u32, Option<String>, Option<String>)>,
    /// Initialisation vector: name, hash.
    pub ivgen: Option<(String, Option<String>)>,
}

impl Encryption {
    /// As a header says it, which names no secret.
    pub fn probed(format: &str) -> Self {
        Self { format: format.to_owned(), secrets: Vec::new(), cipher: None, ivgen: None }
    }
}

/// The image that another is a difference to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackingStore {
    /// Path, or what the header says where it is no path.
    pub path: String,
    /// Its format; absent when nobody said.
    pub format: Option<VolumeFormat>,
    /// Its owner, mode and label, in documents only.
    pub permissions: Option<Permissions>,
}

/// A volume as found on the storage.
///
/// There are many of these in memory, so what few volumes have is behind a box.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Volume {
    /// Name.
    pub name: VolumeName,
    /// Key, when it is not the path.
    pub key: Option<Box<str>>,
    /// Path that a virtual machine's configuration takes.
    pub path: Box<str>,
    /// Kind.
    pub kind: VolumeKind,
    /// Format.
    pub format: VolumeFormat,
    /// How the format is known.
    pub format_source: FormatSource,
    /// What its content says that it is, where that is not its format: a hint that somebody wrote
    /// another image into it.
    pub content_format: Option<VolumeFormat>,
    /// What a guest sees, in bytes.
    pub capacity: u64,
    /// What it takes in the pool, in bytes.
    pub allocation: u64,
    /// Size of the file or device, in bytes.
    pub physical: u64,
    /// Last modification, µs since the epoch.
    pub modified: u64,
    /// Permission bits, where it has any.
    pub mode: Option<u32>,
    /// Owner's uid.
    pub owner: Option<u32>,
    /// Group's gid.
    pub group: Option<u32>,
    /// SELinux label, where the host has such.
    pub label: Option<Box<str>>,
    /// Times, where known.
    pub timestamps: Option<Box<Timestamps>>,
    /// What its image header says, where it has one.
    pub image: Option<Box<ImageAttributes>>,
    /// Why it is not whole, when it was overwritten in part.
    pub incomplete: Option<Box<str>>,
    /// Ranges of the source it lies on.
    pub extents: Vec<Extent>,
    /// What is to be said of a device only.
    pub block: Option<Box<BlockAttributes>>,
}

/// What is to be said of a volume that is a device.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BlockAttributes {
    /// How its blocks are provided, where the pool has a choice.
    pub provisioning: Option<Provisioning>,
    /// The volume of its pool that it is or was a snapshot of.
    pub origin: Option<VolumeName>,
    /// The thin pool that its blocks come from.
    pub thin_pool: Option<VolumeName>,
    /// How full its store is, in hundredths of a percent.
    pub data_used: Option<u32>,
    /// How full the store of its metadata is, in hundredths of a percent.
    pub metadata_used: Option<u32>,
    /// The devices that are paths to it, of a multipath device.
    pub members: Vec<String>,
}

/// What an image's header says beyond format and capacity.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ImageAttributes {
    /// The image it is a difference to.
    pub backing: Option<BackingStore>,
    /// qcow2 compatibility level.
    pub compat: Option<&'static str>,
    /// Cluster size in bytes.
    pub cluster_size: Option<u64>,
    /// Features.
    pub features: VolumeFeatures,
    /// Encryption.
    pub encryption: Option<Encryption>,
}

impl Volume {
    /// The key: unique in the world.
    pub fn key(&self) -> &str {
        self.key.as_deref().unwrap_or(&self.path)
    }

    /// The image it is a difference to.
    pub fn backing(&self) -> Option<&BackingStore> {
        self.image.as_ref().and_then(|image| image.backing.as_ref())
    }

    /// The volume that it is or was a snapshot of, as a document says it.
    fn origin_store(&self) -> Option<BackingStore> {
        let origin = self.block.as_ref()?.origin.as_ref()?;
        let directory = self.path.rsplit_once('/')?.0;
        Some(BackingStore {
            path: format!("{directory}/{origin}"),
            format: None,
            permissions: None,
        })
    }

    /// The format of its content: a partition's type says nothing of that, its bytes are a guest's.
    pub fn content(&self) -> VolumeFormat {
        match self.format.is_image() {
            true => self.format,
            false => VolumeFormat::Raw,
        }
    }

    /// Whether its content is encrypted.
    pub fn encrypted(&self) -> bool {
        self.image.as_ref().is_some_and(|image| image.encryption.is_some())
    }

    /// The document that describes this volume.
    pub fn to_def(&self) -> VolumeDef {
        let image = self.image.as_deref().cloned().unwrap_or_default();
        let block = self.block.as_deref().cloned().unwrap_or_default();
        VolumeDef {
            name: self.name.clone(),
            key: Some(self.key().to_owned()),
            kind: self.kind,
            capacity: Some(self.capacity),
            allocation: Some(self.allocation),
            physical: Some(self.physical),
            extents: self.extents.clone(),
            path: Some(self.path.as_ref().to_owned()),
            format: Some(self.format),
            permissions: self.mode.is_some().then_some(Permissions {
                mode: self.mode,
                owner: self.owner,
                group: self.group,
                label: self.label.as_deref().map(str::to_owned),
            }),
            timestamps: self.timestamps.as_deref().copied(),
            compat: image.compat.map(str::to_owned),
            nocow: false,
            cluster_size: image.cluster_size,
            // As in libvirt, what can have features says which, even if none.
            features: (image.compat == Some("1.1") || image.features != VolumeFeatures::default())
                .then_some(image.features),
            encryption: image.encryption,
            backing: image.backing.or_else(|| self.origin_store()),
            provisioning: block.provisioning,
            thin_pool: block.thin_pool,
        }
    }
}

/// Room in a pool, in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// All of it.
    pub capacity: u64,
    /// What is taken.
    pub allocation: u64,
    /// What is free.
    pub available: u64,
}
