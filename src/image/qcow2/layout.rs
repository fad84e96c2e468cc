//! New images: where everything is, and writing it.
//!
//! An image is its header, the reference count table, the reference count blocks, the first-level
//! table and, when the content is mapped from the start, second-level tables and data, one after
//! the other. Every cluster in it is referred to once.

use super::header::{
    EXTENDED_L2, EXTENSION_BACKING_FORMAT, EXTENSION_END, LAZY_REFCOUNTS, MAGIC, MAX_BACKING_NAME,
    V2_LENGTH,
};
use super::{MAX_CLUSTER, MAX_L1_BYTES, MAX_REFCOUNT_TABLE_BYTES, MIN_CLUSTER};
use crate::model::{Error, ErrorKind, Result, format_size};
use std::fs::File;
use std::os::unix::fs::FileExt;

/// Granularity of a capacity, in bytes.
const SECTOR: u64 = 512;
/// Length of the headers of version 3 that are written.
const V3_LENGTH: usize = 112;
/// Bits of a reference count: two bytes.
const REFCOUNT_ORDER: u32 = 4;
/// Smallest cluster of an image with sub-clusters.
const MIN_EXTENDED_CLUSTER: u64 = 16 << 10;
/// In table entries: the cluster is referred to once.
const COPIED: u64 = 1 << 63;
/// In the second word of extended entries: all 32 sub-clusters are there.
const ALL_SUBCLUSTERS: u64 = 0xffff_ffff;
/// First offset that no table entry can hold.
const MAX_FILE: u64 = 1 << 56;

/// Version of the format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// 2, compatibility level 0.10.
    V2,
    /// 3, compatibility level 1.1.
    V3,
}

impl Version {
    /// The version of a compatibility level.
    pub fn from_compat(compat: &str) -> Option<Self> {
        match compat {
            "0.10" => Some(Self::V2),
            "1.1" => Some(Self::V3),
            _ => None,
        }
    }
}

/// A new image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spec {
    /// What a guest sees, in bytes; rounded up to 512.
    pub capacity: u64,
    /// Cluster size in bytes.
    pub cluster_size: u64,
    /// Version.
    pub version: Version,
    /// Reference counts are written late.
    pub lazy_refcounts: bool,
    /// Sub-cluster allocation.
    pub extended_l2: bool,
    /// Name and format of the backing file.
    pub backing: Option<(String, &'static str)>,
    /// All content has its place from the start.
    pub mapped: bool,
}

/// Where everything in a new image is; numbers count clusters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    header: Vec<u8>,
    cluster: u64,
    refcount_table: u64,
    refcount_blocks: u64,
    blocks: u64,
    l1: u64,
    l1_entries: u64,
    /// Second-level tables; as many as there are first-level entries when mapped.
    l2: u64,
    entries_per_l2: u64,
    words_per_entry: u64,
    data: u64,
    data_clusters: u64,
    total: u64,
}

fn invalid(message: String) -> Error {
    Error::new(ErrorKind::InvalidArgument, message)
}

/// Entries of a second-level table, and the 8-byte words of each.
fn l2_shape(cluster: u64, extended: bool) -> (u64, u64) {
    let words = if extended { 2 } else { 1 };
    (cluster / 8 / words, words)
}

/// Entries of the first-level table that a capacity needs; `InvalidArgument`, naming the limit and
/// the cluster size that would do, when QEMU would not open the image.
pub(super) fn l1_entries(capacity: u64, cluster: u64, extended: bool) -> Result<u64> {
    let reach = |cluster: u64| cluster * l2_shape(cluster, extended).0;
    let most = |cluster: u64| reach(cluster) * (MAX_L1_BYTES / 8);
    if capacity > most(MAX_CLUSTER) {
        return Err(invalid(format!(
            "a qcow2 image has at most {}, with clusters of {}",
            format_size(most(MAX_CLUSTER)),
            format_size(MAX_CLUSTER),
        )));
    }
    if capacity > most(cluster) {
        let mut larger = cluster;
        while capacity > most(larger) {
            larger *= 2;
        }
        return Err(invalid(format!(
            "a qcow2 image with clusters of {} has at most {}; a cluster size of {} would do",
            format_size(cluster),
            format_size(most(cluster)),
            format_size(larger),
        )));
    }
    Ok(capacity.div_ceil(reach(cluster)))
}

impl Layout {
    /// Lays out an image; `InvalidArgument` for what cannot be.
    pub fn plan(spec: &Spec) -> Result<Self> {
        let cluster = spec.cluster_size;
        let capacity = spec.capacity.checked_next_multiple_of(SECTOR).unwrap_or(u64::MAX);
        check(spec)?;
        let (entries_per_l2, words_per_entry) = l2_shape(cluster, spec.extended_l2);
        let l1_entries = l1_entries(capacity, cluster, spec.extended_l2)?;
        let l1_clusters = (l1_entries * 8).div_ceil(cluster);
        let data_clusters = if spec.mapped { capacity.div_ceil(cluster) } else { 0 };
        let l2_clusters = data_clusters.div_ceil(entries_per_l2);

        let fixed = 1 + l1_clusters + l2_clusters + data_clusters;
        let (mut table, mut blocks) = (1, 1);
        // Table and blocks count themselves; more of them are needed until nothing changes.
        let total = loop {
            let total = fixed + table + blocks;
            let blocks_needed = total.div_ceil(cluster / 2);
            let table_needed = (blocks_needed * 8).div_ceil(cluster);
            if blocks_needed <= blocks && table_needed <= table {
                break total;
            }
            (table, blocks) = (table_needed.max(table), blocks_needed.max(blocks));
        };
        let file = u128::from(total) * u128::from(cluster);
        if table * cluster > MAX_REFCOUNT_TABLE_BYTES.max(cluster) || file > u128::from(MAX_FILE) {
            return Err(invalid(format!(
                "a fully allocated qcow2 image of {} is too large for clusters of {}; choose \
                 larger clusters (at most {})",
                format_size(capacity),
                format_size(cluster),
                format_size(MAX_CLUSTER),
            )));
        }
        let refcount_blocks = 1 + table;
        let l1 = refcount_blocks + blocks;
        let l2 = l1 + l1_clusters;
        let mut layout = Self {
            header: Vec::new(),
            cluster,
            refcount_table: 1,
            refcount_blocks,
            blocks,
            l1,
            l1_entries,
            l2,
            entries_per_l2,
            words_per_entry,
            data: l2 + l2_clusters,
            data_clusters,
            total,
        };
        layout.header = layout.header(spec, capacity)?;
        Ok(layout)
    }

    /// Bytes of the file.
    pub fn file_size(&self) -> u64 {
        self.total * self.cluster
    }

    /// First byte of mapped content; it reaches to the end of the file.
    pub fn data_offset(&self) -> u64 {
        self.data * self.cluster
    }

    /// Bytes that [`Layout::write`] writes.
    pub fn written(&self) -> u64 {
        let pointers =
            self.blocks + (self.data - self.l2) + self.data_clusters * self.words_per_entry;
        self.header.len() as u64 + pointers * 8 + self.total * 2
    }

    /// The header, its extensions and the backing file's name.
    fn header(&self, spec: &Spec, capacity: u64) -> Result<Vec<u8>> {
        let length = match spec.version {
            Version::V2 => V2_LENGTH,
            Version::V3 => V3_LENGTH,
        };
        let mut header = vec![0; length];
        let mut put = |at: usize, bytes: &[u8]| {
            if let Some(place) = header.get_mut(at..at + bytes.len()) {
                place.copy_from_slice(bytes);
            }
        };
        put(0, &MAGIC);
        put(
            4,
            &match spec.version {
                Version::V2 => 2_u32,
                Version::V3 => 3,
            }
            .to_be_bytes(),
        );
        put(20, &self.cluster.trailing_zeros().to_be_bytes());
        put(24, &capacity.to_be_bytes());
        put(36, &(self.l1_entries as u32).to_be_bytes());
        put(40, &(self.l1 * self.cluster).to_be_bytes());
        put(48, &(self.refcount_table * self.cluster).to_be_bytes());
        let table = self.refcount_blocks - self.refcount_table;
        put(56, &(table as u32).to_be_bytes());
        if spec.version == Version::V3 {
            let incompatible = if spec.extended_l2 { EXTENDED_L2 } else { 0 };
            let compatible = if spec.lazy_refcounts { LAZY_REFCOUNTS } else { 0 };
            put(72, &incompatible.to_be_bytes());
            put(80, &compatible.to_be_bytes());
            put(96, &REFCOUNT_ORDER.to_be_bytes());
            put(100, &(V3_LENGTH as u32).to_be_bytes());
        }
        let extension = |header: &mut Vec<u8>, kind: u32, content: &[u8]| {
            header.extend(kind.to_be_bytes());
            header.extend((content.len() as u32).to_be_bytes());
            header.extend(content);
            header.resize(header.len().next_multiple_of(8), 0);
        };
        if let Some((_, format)) = &spec.backing {
            extension(&mut header, EXTENSION_BACKING_FORMAT, format.as_bytes());
        }
        extension(&mut header, EXTENSION_END, b"");
        if let Some((name, _)) = &spec.backing {
            let room = (self.cluster as usize).saturating_sub(header.len()).min(MAX_BACKING_NAME);
            if name.is_empty() || name.len() > room {
                return Err(invalid(format!(
                    "the name of the backing file has {} bytes; this image has room for 1 to {room}",
                    name.len(),
                )));
            }
            let offset = header.len() as u64;
            header[8..16].copy_from_slice(&offset.to_be_bytes());
            header[16..20].copy_from_slice(&(name.len() as u32).to_be_bytes());
            header.extend(name.as_bytes());
        }
        Ok(header)
    }

    /// Writes all but content to an empty file, the header last. `step` is told of bytes written
    /// and may end it; `failed` makes its errors.
    pub fn write(
        &self,
        file: &File,
        step: &mut dyn FnMut(u64) -> Result<()>,
        failed: &dyn Fn(std::io::Error) -> Error,
    ) -> Result<()> {
        file.set_len(self.file_size()).map_err(failed)?;
        let mut put = |at: u64, bytes: &[u8]| {
            file.write_all_at(bytes, at).map_err(failed)?;
            step(bytes.len() as u64)
        };
        let cluster = self.cluster;
        let mut table = Vec::new();
        for block in 0..self.blocks {
            table.extend(((self.refcount_blocks + block) * cluster).to_be_bytes());
        }
        put(self.refcount_table * cluster, &table)?;

        let per_block = cluster / 2;
        let ones: Vec<u8> = [0, 1].repeat(per_block as usize);
        for block in 0..self.blocks {
            let counted = self.total.saturating_sub(block * per_block).min(per_block);
            put((self.refcount_blocks + block) * cluster, &ones[..2 * counted as usize])?;
        }
        let tables = self.data - self.l2;
        let mut l1 = Vec::new();
        for table in 0..tables {
            l1.extend((((self.l2 + table) * cluster) | COPIED).to_be_bytes());
        }
        put(self.l1 * cluster, &l1)?;
        let mut l2 = Vec::with_capacity(cluster as usize);
        for table in 0..tables {
            let first = table * self.entries_per_l2;
            let end = self.data_clusters.min(first + self.entries_per_l2);
            l2.clear();
            for entry in first..end {
                l2.extend((((self.data + entry) * cluster) | COPIED).to_be_bytes());
                if self.words_per_entry == 2 {
                    l2.extend(ALL_SUBCLUSTERS.to_be_bytes());
                }
            }
            put((self.l2 + table) * cluster, &l2)?;
        }
        put(0, &self.header)
    }
}

/// Refuses values that QEMU refuses.
fn check(spec: &Spec) -> Result<()> {
    let cluster = spec.cluster_size;
    if !cluster.is_power_of_two() || !(MIN_CLUSTER..=MAX_CLUSTER).contains(&cluster) {
        return Err(invalid(format!(
            "cluster size {cluster}: must be a power of two from 512 bytes to 2 MiB"
        )));
    }
    if spec.capacity == 0 {
        return Err(invalid("a qcow2 image has at least 1 byte".to_owned()));
    }
    if spec.version == Version::V2 && (spec.lazy_refcounts || spec.extended_l2) {
        return Err(invalid(
            "lazy_refcounts and extended_l2 need compat 1.1; leave compat out".to_owned(),
        ));
    }
    if spec.extended_l2 && cluster < MIN_EXTENDED_CLUSTER {
        return Err(invalid(format!(
            "extended_l2 needs clusters of at least {}",
            format_size(MIN_EXTENDED_CLUSTER)
        )));
    }
    if spec.mapped && spec.backing.is_some() {
        return Err(invalid(
            "a fully mapped image hides its backing store; leave preallocation or the backing \
             store out"
                .to_owned(),
        ));
    }
    Ok(())
}
