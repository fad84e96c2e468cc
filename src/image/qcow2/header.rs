//! The header and its extensions, as written and as found.

use crate::model::{
    BackingStore, Encryption as ModelEncryption, ImageAttributes, VolumeFeatures, VolumeFormat,
};
use std::fmt;

/// The first four bytes.
pub const MAGIC: [u8; 4] = *b"QFI\xfb";
/// Incompatible feature: data lives in another file.
pub const DATA_FILE: u64 = 1 << 2;
/// Incompatible feature: sub-clusters.
pub const EXTENDED_L2: u64 = 1 << 4;
/// Compatible feature: reference counts are written late.
pub const LAZY_REFCOUNTS: u64 = 1;

/// Header extension: end of the extensions.
pub const EXTENSION_END: u32 = 0;
/// Header extension: format of the backing file.
pub const EXTENSION_BACKING_FORMAT: u32 = 0xE279_2ACA;
/// Header extension: name of the data file.
const EXTENSION_DATA_FILE: u32 = 0x4441_5441;

/// Length of a header of version 2.
pub const V2_LENGTH: usize = 72;
/// Least length of a header of version 3.
const V3_LEAST: usize = 104;
/// Longest name of a backing file that QEMU reads.
pub const MAX_BACKING_NAME: usize = 1023;

/// Why bytes are no header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Flaw {
    /// So many bytes are needed.
    Short(usize),
    /// Version 1 is a format of its own.
    OtherFormat,
    /// A field has a value that cannot be.
    Field(&'static str, u64),
}

impl fmt::Display for Flaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Short(needed) => write!(f, "the qcow2 header is cut short of {needed} bytes"),
            Self::OtherFormat => f.write_str("it is a qcow image of version 1"),
            Self::Field(field, value) => {
                write!(f, "the qcow2 header has an impossible {field}: {value}")
            }
        }
    }
}

/// How the content is encrypted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encryption {
    /// The old AES scheme.
    Aes,
    /// LUKS.
    Luks,
}

/// The fields of a header; nothing follows from them that was not checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// 2 or 3.
    pub version: u32,
    /// Where the name of the backing file is, and its length.
    pub backing: Option<(u64, u32)>,
    /// Logarithm of the cluster size, 9 to 21.
    pub cluster_bits: u32,
    /// What a guest sees, in bytes.
    pub capacity: u64,
    /// Encryption.
    pub encryption: Option<Encryption>,
    /// Entries of the first-level table.
    pub l1_entries: u32,
    /// Where it is.
    pub l1_offset: u64,
    /// Where the reference count table is.
    pub refcount_table_offset: u64,
    /// Its clusters.
    pub refcount_table_clusters: u32,
    /// Internal snapshots.
    pub snapshots: u32,
    /// Features a reader must know.
    pub incompatible: u64,
    /// Features a reader may ignore.
    pub compatible: u64,
    /// Features a writer that does not know them must switch off.
    pub autoclear: u64,
    /// Logarithm of the bits of a reference count, at most 6.
    pub refcount_order: u32,
    /// Bytes of the header without extensions.
    pub length: u32,
}

/// The extensions that matter here, and the backing file's name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Extensions {
    /// Name of the backing file.
    pub backing_name: Option<Vec<u8>>,
    /// Format of the backing file.
    pub backing_format: Option<Vec<u8>>,
    /// Name of the data file.
    pub data_file: Option<Vec<u8>>,
}

/// A qcow2 image as its header describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Qcow2 {
    /// Fields.
    pub header: Header,
    /// Extensions.
    pub extensions: Extensions,
}

/// The bytes at an offset.
fn take<const N: usize>(bytes: &[u8], at: usize) -> Result<[u8; N], Flaw> {
    let end = at.checked_add(N).ok_or(Flaw::Short(usize::MAX))?;
    bytes.get(at..end).and_then(|b| b.try_into().ok()).ok_or(Flaw::Short(end))
}

fn u32_at(bytes: &[u8], at: usize) -> Result<u32, Flaw> {
    take(bytes, at).map(u32::from_be_bytes)
}

fn u64_at(bytes: &[u8], at: usize) -> Result<u64, Flaw> {
    take(bytes, at).map(u64::from_be_bytes)
}

impl Header {
    /// Reads the fields.
    pub fn parse(bytes: &[u8]) -> Result<Self, Flaw> {
        if take(bytes, 0)? != MAGIC {
            return Err(Flaw::OtherFormat);
        }
        let version = u32_at(bytes, 4)?;
        match version {
            0 | 1 => return Err(Flaw::OtherFormat),
            2 | 3 => {}
            other => return Err(Flaw::Field("version", other.into())),
        }
        let field = |ok: bool, name, value: u64| ok.then_some(()).ok_or(Flaw::Field(name, value));
        let cluster_bits = u32_at(bytes, 20)?;
        field((9..=21).contains(&cluster_bits), "cluster size", cluster_bits.into())?;
        let capacity = u64_at(bytes, 24)?;
        field(capacity <= i64::MAX as u64, "size", capacity)?;
        let encryption = match u32_at(bytes, 32)? {
            0 => None,
            1 => Some(Encryption::Aes),
            2 => Some(Encryption::Luks),
            other => return Err(Flaw::Field("encryption method", other.into())),
        };
        let backing = match (u64_at(bytes, 8)?, u32_at(bytes, 16)?) {
            (0, _) => None,
            (offset, length) => {
                field(length as usize <= MAX_BACKING_NAME, "backing name length", length.into())?;
                field(offset < 1 << cluster_bits, "backing name offset", offset)?;
                Some((offset, length))
            }
        };
        let mut header = Self {
            version,
            backing,
            cluster_bits,
            capacity,
            encryption,
            l1_entries: u32_at(bytes, 36)?,
            l1_offset: u64_at(bytes, 40)?,
            refcount_table_offset: u64_at(bytes, 48)?,
            refcount_table_clusters: u32_at(bytes, 56)?,
            snapshots: u32_at(bytes, 60)?,
            incompatible: 0,
            compatible: 0,
            autoclear: 0,
            refcount_order: 4,
            length: V2_LENGTH as u32,
        };
        take::<V2_LENGTH>(bytes, 0)?;
        if version == 3 {
            header.incompatible = u64_at(bytes, 72)?;
            header.compatible = u64_at(bytes, 80)?;
            header.autoclear = u64_at(bytes, 88)?;
            header.refcount_order = u32_at(bytes, 96)?;
            header.length = u32_at(bytes, 100)?;
            let length = header.length as usize;
            field(header.refcount_order <= 6, "refcount order", header.refcount_order.into())?;
            field(
                length >= V3_LEAST && length <= 1 << cluster_bits,
                "header length",
                length as u64,
            )?;
        }
        Ok(header)
    }

    /// Bytes of a cluster.
    pub fn cluster_size(&self) -> u64 {
        1 << self.cluster_bits
    }
}

impl Extensions {
    /// Reads what follows a header.
    fn parse(bytes: &[u8], header: &Header) -> Result<Self, Flaw> {
        let mut found = Self::default();
        let end = header.backing.map_or(header.cluster_size(), |(offset, _)| offset) as usize;
        let mut at = header.length as usize;
        while at + 8 <= end {
            let (kind, length) = (u32_at(bytes, at)?, u32_at(bytes, at + 4)? as usize);
            at += 8;
            if kind == EXTENSION_END {
                break;
            }
            if length > end - at {
                return Err(Flaw::Field("extension length", length as u64));
            }
            let slot = match kind {
                EXTENSION_BACKING_FORMAT => Some(&mut found.backing_format),
                EXTENSION_DATA_FILE => Some(&mut found.data_file),
                _ => None,
            };
            if let Some(slot) = slot {
                *slot = Some(extension(bytes, at, length)?.to_vec());
            }
            at += length.next_multiple_of(8);
        }
        if let Some((offset, length)) = header.backing {
            let (from, to) = (offset as usize, offset as usize + length as usize);
            found.backing_name = Some(bytes.get(from..to).ok_or(Flaw::Short(to))?.to_vec());
        }
        Ok(found)
    }
}

/// The content of an extension.
#[cfg(not(all(fuzzing, feature = "planted-bug")))]
fn extension(bytes: &[u8], at: usize, length: usize) -> Result<&[u8], Flaw> {
    bytes.get(at..at + length).ok_or(Flaw::Short(at + length))
}

/// The same without a look at the end: what `make fuzz-check` has to find.
#[cfg(all(fuzzing, feature = "planted-bug"))]
fn extension(bytes: &[u8], at: usize, length: usize) -> Result<&[u8], Flaw> {
    Ok(&bytes[at..at + length])
}

impl Qcow2 {
    /// Reads header and extensions from the first bytes of a file.
    pub fn parse(bytes: &[u8]) -> Result<Self, Flaw> {
        let header = Header::parse(bytes)?;
        let extensions = Extensions::parse(bytes, &header)?;
        Ok(Self { header, extensions })
    }

    /// What a volume shows of it. The backing file's name is as the header has it.
    pub fn attributes(&self) -> ImageAttributes {
        let Self { header, extensions } = self;
        let format = extensions.backing_format.as_deref().map(printable);
        ImageAttributes {
            backing: extensions.backing_name.as_deref().map(|name| BackingStore {
                path: printable(name),
                format: format.as_deref().and_then(VolumeFormat::from_name),
                permissions: None,
            }),
            compat: Some(if header.version == 2 { "0.10" } else { "1.1" }),
            cluster_size: Some(header.cluster_size()),
            features: VolumeFeatures {
                lazy_refcounts: header.compatible & LAZY_REFCOUNTS != 0,
                extended_l2: header.incompatible & EXTENDED_L2 != 0,
                data_file: header.incompatible & DATA_FILE != 0,
            },
            encryption: header.encryption.map(|encryption| match encryption {
                Encryption::Aes => ModelEncryption::probed("qcow"),
                Encryption::Luks => ModelEncryption::probed("luks"),
            }),
        }
    }
}

/// A name from a header as text that any document can hold.
fn printable(name: &[u8]) -> String {
    let text = String::from_utf8_lossy(name);
    text.chars().map(|c| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c }).collect()
}
