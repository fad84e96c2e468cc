//! qcow2, versions 2 and 3: what `image::qcow2` reads of it.

use super::content::printable;
use super::{Content, Image, LARGEST_READ, Stop};
use crate::image::qcow2::{Flaw, MAGIC, Qcow2};
use crate::model::VolumeFormat;

pub(super) fn parse(content: &Content<'_>) -> Result<Option<Image>, Stop> {
    if !content.begins_with(&MAGIC) {
        return Ok(None);
    }
    let mut known = content.up_to(0, super::FIRST_READ)?;
    loop {
        match Qcow2::parse(known) {
            Ok(image) => {
                let data_file = image.extensions.data_file.as_deref().map(printable);
                return Ok(Some(Image {
                    format: VolumeFormat::Qcow2,
                    capacity: image.header.capacity,
                    attributes: image.attributes(),
                    others: data_file.into_iter().collect(),
                }));
            }
            Err(Flaw::OtherFormat) => return Ok(None),
            Err(Flaw::Short(needed)) if needed > known.len() && needed <= LARGEST_READ => {
                known = content.at(0, needed)?;
            }
            Err(flaw) => return Err(Stop::Damaged(flaw.to_string())),
        }
    }
}
