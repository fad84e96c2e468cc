//! Apple disk images, known by their last sector.

use super::content::sectors;
use super::{Content, Image, Stop};
use crate::model::VolumeFormat;

const TRAILER: u64 = 512;

pub(super) fn parse(content: &Content<'_>) -> Result<Option<Image>, Stop> {
    let Some(at) = content.size().checked_sub(TRAILER) else { return Ok(None) };
    if !content.at(at, TRAILER as usize)?.starts_with(b"koly") {
        return Ok(None);
    }
    let capacity = sectors(content.be64(at + 492)?)?;
    Ok(Some(Image::new(VolumeFormat::Dmg, capacity)))
}
