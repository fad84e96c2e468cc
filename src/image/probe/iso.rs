//! CD-ROM images: ISO 9660's first volume descriptor.

use super::{Content, Image, Stop};
use crate::model::VolumeFormat;

const DESCRIPTOR: u64 = 32768;
/// The shortest file that can have one.
const LEAST: u64 = DESCRIPTOR + 2048;

pub(super) fn parse(content: &Content<'_>) -> Result<Option<Image>, Stop> {
    let found = content.size() >= LEAST && &content.at(DESCRIPTOR, 6)?[1..] == b"CD001";
    Ok(found.then(|| Image::new(VolumeFormat::Iso, content.size())))
}
