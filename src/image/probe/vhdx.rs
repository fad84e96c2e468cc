//! VHDX. Source: Microsoft's "MS-VHDX".

use super::content::check;
use super::{Content, Image, Stop};
use crate::model::VolumeFormat;

/// The first of the two region tables.
const REGIONS: u64 = 192 << 10;
/// Where the entries of the metadata begin, at the least.
const VALUES: u64 = 64 << 10;
const METADATA: [u8; 16] = *b"\x06\xa2\x7c\x8b\x90\x47\x9a\x4b\xb8\xfe\x57\x5f\x05\x0f\x88\x6e";
const PARAMETERS: [u8; 16] = *b"\x37\x67\xa1\xca\x36\xfa\x43\x4d\xb3\xb6\x33\xf0\xaa\x44\xe7\x6b";
const DISK_SIZE: [u8; 16] = *b"\x24\x42\xa5\x2f\x1b\xcd\x76\x48\xb2\x11\x5d\xbe\xd8\x3b\xf4\xb8";
/// Largest image.
const MAX_SIZE: u64 = 64 << 40;

pub(super) fn parse(content: &Content<'_>) -> Result<Option<Image>, Stop> {
    if !content.begins_with(b"vhdxfile") {
        return Ok(None);
    }
    let regions = content.at(REGIONS, 4096)?;
    check(regions.starts_with(b"regi"), || "its region table is missing".to_owned())?;
    let count = content.le32(REGIONS + 8)?;
    let Some(at) = entry(&regions[16..], count, &METADATA) else {
        return Err(Stop::Damaged("it has no metadata".to_owned()));
    };
    let metadata = content.le64(REGIONS + 16 + at + 16)?;
    let table = content.at(metadata, 4096)?;
    check(table.starts_with(b"metadata"), || "its metadata table is missing".to_owned())?;
    let count = content.le16(metadata + 10)?.into();
    let value = |id: &[u8; 16], name: &str| -> Result<u64, Stop> {
        let Some(at) = entry(&table[32..], count, id) else {
            return Err(Stop::Damaged(format!("its metadata has no {name}")));
        };
        let offset = u64::from(content.le32(metadata + 32 + at + 16)?);
        check(offset >= VALUES, || format!("its {name} is inside a table"))?;
        Ok(metadata.saturating_add(offset))
    };
    let capacity = content.le64(value(&DISK_SIZE, "size")?)?;
    let block = content.le32(value(&PARAMETERS, "block size")?)?;
    check(capacity <= MAX_SIZE && capacity.is_multiple_of(512), || {
        format!("its size cannot be {capacity}")
    })?;
    check(block.is_power_of_two() && (1 << 20..=256 << 20).contains(&block), || {
        format!("its block size cannot be {block}")
    })?;
    Ok(Some(Image::new(VolumeFormat::Vhdx, capacity).with_clusters(block.into())))
}

/// Where the entry of that id is among `count` ones of 32 bytes.
fn entry(table: &[u8], count: u32, id: &[u8; 16]) -> Option<u64> {
    let mut entries = table.chunks_exact(32).take(count as usize);
    entries.position(|entry| entry.starts_with(id)).map(|place| place as u64 * 32)
}
