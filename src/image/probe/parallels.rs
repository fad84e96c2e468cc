//! Parallels and ploop images. Source: QEMU's `docs/interop/parallels.txt`.

use super::content::{check, sectors};
use super::{Content, Image, Stop};
use crate::model::VolumeFormat;

pub(super) fn parse(content: &Content<'_>) -> Result<Option<Image>, Stop> {
    let first = content.begins_with(b"WithoutFreeSpace");
    if !first && !content.begins_with(b"WithouFreSpacExt") {
        return Ok(None);
    }
    let version = content.le32(16)?;
    let (tracks, entries) = (content.le32(28)?, content.le32(32)?);
    let count = content.le64(36)?;
    // The first of the two had room for four bytes.
    let count = if first { count & u64::from(u32::MAX) } else { count };
    check(version == 2, || format!("there is no version {version} of it"))?;
    check((1..=i32::MAX as u32 / 513).contains(&tracks), || {
        format!("its clusters cannot be {tracks} sectors")
    })?;
    check(entries <= i32::MAX as u32 / 4, || format!("its table cannot have {entries} entries"))?;
    let cluster = u64::from(tracks) * 512;
    Ok(Some(Image::new(VolumeFormat::Ploop, sectors(count)?).with_clusters(cluster)))
}
