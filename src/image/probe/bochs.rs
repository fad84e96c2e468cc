//! Bochs's growing images. Source: QEMU's `block/bochs.c`.

use super::content::check;
use super::{Content, Image, Stop};
use crate::model::VolumeFormat;

const OLD: u32 = 0x0001_0000;
const NEW: u32 = 0x0002_0000;

pub(super) fn parse(content: &Content<'_>) -> Result<Option<Image>, Stop> {
    let is = |offset: u64, word: &[u8]| content.at(offset, word.len()).is_ok_and(|at| at == word);
    if !content.begins_with(b"Bochs Virtual HD Image\0") {
        return Ok(None);
    }
    let version = content.le32(64)?;
    if !is(32, b"Redolog\0") || !is(48, b"Growing\0") || ![OLD, NEW].contains(&version) {
        return Ok(None);
    }
    let (catalog, extent) = (content.le32(72)?, u64::from(content.le32(80)?));
    let size = content.le64(if version == NEW { 88 } else { 84 })?;
    check(catalog <= 0x0010_0000, || format!("its catalog cannot have {catalog} entries"))?;
    check(extent.is_power_of_two() && (512..=0x0080_0000).contains(&extent), || {
        format!("its extents cannot be {extent} bytes")
    })?;
    check(size.div_ceil(extent) <= u64::from(catalog), || {
        "its catalog is too small for its size".to_owned()
    })?;
    Ok(Some(Image::new(VolumeFormat::Bochs, size / 512 * 512)))
}
