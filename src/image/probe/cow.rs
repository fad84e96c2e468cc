//! User-mode Linux's cow, version 2. Source: Linux's `arch/um/drivers/cow_user.c`.

use super::content::{check, printable_to_zero};
use super::{Content, Image, Stop};
use crate::model::VolumeFormat;

pub(super) fn parse(content: &Content<'_>) -> Result<Option<Image>, Stop> {
    if !content.begins_with(b"OOOM\0\0\0\x02") {
        return Ok(None);
    }
    let name = printable_to_zero(content.at(8, 1024)?);
    let capacity = content.be64(1036)?;
    check(capacity <= i64::MAX as u64, || format!("its size cannot be {capacity}"))?;
    let name = Some(name).filter(|name| !name.is_empty());
    Ok(Some(Image::new(VolumeFormat::Cow, capacity).with_backing(name, None)))
}
