//! LUKS, versions 1 and 2. Source: the on-disk format specifications of cryptsetup.

use super::content::{check, sectors};
use super::{Content, Image, LARGEST_READ, Stop};
use crate::model::{Encryption, VolumeFormat};

/// Where the metadata of version 2 begins.
const METADATA: u64 = 4096;

pub(super) fn parse(content: &Content<'_>) -> Result<Option<Image>, Stop> {
    if !content.begins_with(b"LUKS\xba\xbe") {
        return Ok(None);
    }
    let payload = match content.be16(6)? {
        1 => sectors(content.be32(104)?.into())?,
        2 => payload_of_2(content)?,
        version => return Err(Stop::Damaged(format!("there is no version {version} of it"))),
    };
    let Some(capacity) = content.size().checked_sub(payload) else {
        return Err(Stop::Damaged("its content begins behind its end".to_owned()));
    };
    let mut image = Image::new(VolumeFormat::Luks, capacity);
    image.attributes.encryption = Some(Encryption::probed("luks"));
    Ok(Some(image))
}

/// Where the content of an image of version 2 begins.
fn payload_of_2(content: &Content<'_>) -> Result<u64, Stop> {
    let header = content.be64(8)?;
    check(header > METADATA, || format!("its header cannot be {header} bytes"))?;
    let length = usize::try_from(header - METADATA).unwrap_or(LARGEST_READ).min(LARGEST_READ);
    let json = content.up_to(METADATA, length)?;
    let end = json.iter().position(|byte| *byte == 0).unwrap_or(json.len());
    let metadata: Option<serde_json::Value> = serde_json::from_slice(&json[..end]).ok();
    let offset = metadata.as_ref().and_then(|metadata| {
        metadata.get("segments")?.get("0")?.get("offset")?.as_str()?.parse().ok()
    });
    offset.ok_or_else(|| Stop::Damaged("its metadata does not say where its content is".to_owned()))
}
