//! qcow, version 1. Source: QEMU's `block/qcow.c`.

use super::content::{check, printable};
use super::{Content, Image, Stop};
use crate::model::{Encryption, VolumeFormat};

/// Longest name of a backing file.
const MAX_NAME: u32 = 1023;

pub(super) fn parse(content: &Content<'_>) -> Result<Option<Image>, Stop> {
    if !content.begins_with(b"QFI\xfb\0\0\0\x01") {
        return Ok(None);
    }
    let (name_at, name_length) = (content.be64(8)?, content.be32(16)?);
    let capacity = content.be64(24)?;
    let [cluster_bits, l2_bits] = [content.at(32, 1)?[0], content.at(33, 1)?[0]];
    let encryption = content.be32(36)?;
    check(capacity > 1, || format!("its size cannot be {capacity}"))?;
    check((9..=16).contains(&cluster_bits), || {
        format!("its cluster size cannot be 2^{cluster_bits}")
    })?;
    check((6..=13).contains(&l2_bits), || format!("its tables cannot have 2^{l2_bits} entries"))?;
    check(encryption <= 1, || format!("there is no encryption {encryption}"))?;
    // The first-level table must fit what QEMU reads.
    let entries = capacity.checked_add((1 << (cluster_bits + l2_bits)) - 1);
    let entries = entries.map(|bytes| bytes >> (cluster_bits + l2_bits));
    check(entries.is_some_and(|entries| entries <= (i32::MAX / 8) as u64), || {
        "its first-level table is too large".to_owned()
    })?;
    let name = match name_at {
        0 => None,
        _ => {
            check(name_length <= MAX_NAME, || "its backing file's name is too long".to_owned())?;
            Some(printable(content.at(name_at, name_length as usize)?))
        }
    };
    let mut image = Image::new(VolumeFormat::Qcow, capacity)
        .with_clusters(1 << cluster_bits)
        .with_backing(name, None);
    if encryption == 1 {
        image.attributes.encryption = Some(Encryption::probed("qcow"));
    }
    Ok(Some(image))
}
