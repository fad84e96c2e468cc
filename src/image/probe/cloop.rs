//! Compressed loop images. Source: QEMU's `block/cloop.c`.

use super::content::check;
use super::{Content, Image, Stop};
use crate::model::VolumeFormat;

const MAGIC: &[u8] =
    b"#!/bin/sh\n#V2.0 Format\nmodprobe cloop file=$0 && mount -r -t iso9660 /dev/cloop $1\n";
/// Largest block, and largest table of their offsets.
const MAX_BLOCK: u32 = 64 << 20;
const MAX_TABLE: u64 = 512 << 20;

pub(super) fn parse(content: &Content<'_>) -> Result<Option<Image>, Stop> {
    if !content.begins_with(MAGIC) {
        return Ok(None);
    }
    let (block, count) = (content.be32(128)?, content.be32(132)?);
    check(block > 0 && block.is_multiple_of(512) && block <= MAX_BLOCK, || {
        format!("its blocks cannot be {block} bytes")
    })?;
    check((u64::from(count) + 1) * 8 <= MAX_TABLE, || format!("it cannot have {count} blocks"))?;
    Ok(Some(Image::new(VolumeFormat::Cloop, u64::from(count) * u64::from(block))))
}
