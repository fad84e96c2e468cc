//! VDI (VirtualBox). Source: QEMU's `block/vdi.c`.

use super::content::check;
use super::{Content, Image, Stop};
use crate::model::VolumeFormat;

const SIGNATURE: u32 = 0xbeda_107f;
const BLOCK: u32 = 1 << 20;

pub(super) fn parse(content: &Content<'_>) -> Result<Option<Image>, Stop> {
    if content.size() < 512 || content.le32(64)? != SIGNATURE {
        return Ok(None);
    }
    let version = content.le32(68)?;
    check(version == 0x0001_0001, || format!("there is no version {version:#x} of it"))?;
    let (sector, capacity) = (content.le32(360)?, content.le64(368)?);
    let (block, blocks) = (content.le32(376)?, content.le32(384)?);
    check(sector == 512, || format!("its sectors cannot be {sector} bytes"))?;
    check(block == BLOCK, || format!("its blocks cannot be {block} bytes"))?;
    check(capacity <= u64::from(blocks) * u64::from(block), || {
        format!("its size of {capacity} is more than its blocks hold")
    })?;
    let capacity = capacity.next_multiple_of(512);
    Ok(Some(Image::new(VolumeFormat::Vdi, capacity).with_clusters(block.into())))
}
