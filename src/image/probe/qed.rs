//! QED. Source: QEMU's `docs/interop/qed_spec.rst`.

use super::content::{check, printable};
use super::{Content, Image, Stop};
use crate::model::VolumeFormat;

const BACKING_FILE: u64 = 1;
const BACKING_IS_RAW: u64 = 4;
const KNOWN_FEATURES: u64 = 7;
/// Longest name of a backing file.
const MAX_NAME: u32 = 1023;

pub(super) fn parse(content: &Content<'_>) -> Result<Option<Image>, Stop> {
    if !content.begins_with(b"QED\0") {
        return Ok(None);
    }
    let (cluster, table) = (content.le32(4)?, content.le32(8)?);
    let header = u64::from(content.le32(12)?);
    let features = content.le64(16)?;
    let (l1, capacity) = (content.le64(40)?, content.le64(48)?);
    let (name_at, name_length) = (content.le32(56)?, content.le32(60)?);
    check(features & !KNOWN_FEATURES == 0, || format!("it has unknown features {features:#x}"))?;
    check(cluster.is_power_of_two() && (4096..=64 << 20).contains(&cluster), || {
        format!("its cluster size cannot be {cluster}")
    })?;
    check(table.is_power_of_two() && table <= 16, || {
        format!("its tables cannot be {table} clusters")
    })?;
    let cluster = u64::from(cluster);
    let entries = u64::from(table) * cluster / 8;
    let most = entries.saturating_mul(entries).saturating_mul(cluster);
    check(capacity <= most && capacity.is_multiple_of(512), || {
        format!("its size cannot be {capacity}")
    })?;
    check(l1.is_multiple_of(cluster) && l1 < content.size(), || {
        "its first-level table is outside of it".to_owned()
    })?;
    let mut image = Image::new(VolumeFormat::Qed, capacity).with_clusters(cluster);
    if features & BACKING_FILE != 0 {
        let end = u64::from(name_at) + u64::from(name_length);
        check(name_length <= MAX_NAME && end <= header.saturating_mul(cluster), || {
            "its backing file's name is outside of its header".to_owned()
        })?;
        let name = printable(content.at(u64::from(name_at), name_length as usize)?);
        let format = (features & BACKING_IS_RAW != 0).then_some(VolumeFormat::Raw);
        image = image.with_backing(Some(name), format);
    }
    Ok(Some(image))
}
