//! VHD (Virtual PC). Source: Microsoft's "Virtual Hard Disk Image Format Specification"; capacity
//! as QEMU's `block/vpc.c` has it.

use super::content::{check, sectors};
use super::{Content, Image, Stop};
use crate::model::VolumeFormat;

const FOOTER: u64 = 512;
const FIXED: u32 = 2;
const DIFFERENCING: u32 = 4;
/// Sectors of the largest geometry: whoever has more states it in bytes.
const LARGEST_GEOMETRY: u64 = 65535 * 16 * 255;
/// Largest image, in sectors.
const MAX_SECTORS: u64 = 0xff00_0000;
/// Programs whose images are as large as they say, whatever their geometry.
const BY_SIZE: [&[u8]; 5] = [b"win ", b"qem2", b"d2v ", b"tap\0", b"CTXS"];
/// Most entries of the block table that QEMU reads.
const MAX_ENTRIES: u32 = i32::MAX as u32 / 4;

pub(super) fn parse(content: &Content<'_>) -> Result<Option<Image>, Stop> {
    if !content.begins_with(b"conectix") {
        return Ok(None);
    }
    footer(content, 0).map(Some)
}

/// A fixed image has its footer at the end alone.
pub(super) fn parse_end(content: &Content<'_>) -> Result<Option<Image>, Stop> {
    let Some(at) = content.size().checked_sub(FOOTER) else { return Ok(None) };
    if content.at(at, 8)? != b"conectix" {
        return Ok(None);
    }
    footer(content, at).map(Some)
}

fn footer(content: &Content<'_>, at: u64) -> Result<Image, Stop> {
    let whole = content.at(at, FOOTER as usize)?;
    let number = |offset: usize| u64::from(whole[offset]);
    let by_size = BY_SIZE.contains(&&whole[28..32]);
    let stated = content.be64(at + 48)?;
    let cylinders = u64::from(content.be16(at + 56)?);
    let geometry = cylinders * number(58) * number(59);
    let kind = content.be32(at + 60)?;
    let count = match by_size || geometry == LARGEST_GEOMETRY {
        true => stated / 512,
        false => geometry,
    };
    check(count <= MAX_SECTORS, || format!("it cannot have {count} sectors"))?;
    let image = Image::new(VolumeFormat::Vpc, sectors(count)?);
    if kind == FIXED {
        return Ok(image);
    }
    let header = content.be64(at + 16)?;
    let magic = content.at(header, 1024)?;
    check(magic.starts_with(b"cxsparse"), || "its dynamic header is missing".to_owned())?;
    let (entries, block) = (content.be32(header + 28)?, content.be32(header + 32)?);
    check(block.is_power_of_two() && block >= 512, || format!("its block size cannot be {block}"))?;
    check(entries <= MAX_ENTRIES, || format!("its block table cannot have {entries} entries"))?;
    check(u64::from(entries) * u64::from(block) >= count * 512, || {
        "its block table is too small".to_owned()
    })?;
    let image = image.with_clusters(block.into());
    if kind != DIFFERENCING {
        return Ok(image);
    }
    let units = magic[64..576].chunks_exact(2).map(|pair| u16::from_be_bytes([pair[0], pair[1]]));
    let units: Vec<u16> = units.take_while(|unit| *unit != 0).collect();
    let name = super::content::printable(String::from_utf16_lossy(&units).as_bytes());
    Ok(image.with_backing(Some(name), Some(VolumeFormat::Vpc)))
}
