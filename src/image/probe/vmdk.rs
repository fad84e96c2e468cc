//! VMDK: sparse extents and text descriptors.
//! Source: VMware's "Virtual Disk Format 5.0"; limits as in QEMU's `block/vmdk.c`.

use super::content::{check, printable, sectors};
use super::{Content, Image, LARGEST_READ, Stop};
use crate::model::VolumeFormat;

/// How much of an embedded descriptor is read.
const DESCRIPTOR: usize = 20 * 512;

pub(super) fn parse(content: &Content<'_>) -> Result<Option<Image>, Stop> {
    if content.begins_with(b"KDMV") {
        return sparse(content).map(Some);
    }
    if content.begins_with(b"COWD") {
        let capacity = sectors(content.le32(12)?.into())?;
        return Ok(Some(Image::new(VolumeFormat::Vmdk, capacity)));
    }
    if content.size() < 16 || !is_descriptor(content.up_to(0, super::FIRST_READ)?) {
        return Ok(None);
    }
    check(content.size() <= LARGEST_READ as u64, || "its descriptor is too long".to_owned())?;
    let text = printable_lines(content.up_to(0, LARGEST_READ)?);
    let (mut capacity, mut others) = (0_u64, Vec::new());
    for (count, file) in text.lines().filter_map(extent) {
        capacity = capacity.saturating_add(count);
        others.extend(file.map(str::to_owned));
    }
    let mut image = Image::new(VolumeFormat::Vmdk, sectors(capacity)?);
    image.others = others;
    Ok(Some(image.with_backing(parent(&text), Some(VolumeFormat::Vmdk))))
}

fn sparse(content: &Content<'_>) -> Result<Image, Stop> {
    let version = content.le32(4)?;
    let (capacity, grain) = (content.le64(12)?, content.le64(20)?);
    let (at, length) = (content.le64(28)?, content.le64(36)?);
    let entries = u64::from(content.le32(44)?);
    check((1..=3).contains(&version), || format!("there is no version {version} of it"))?;
    check((1..=0x0020_0000).contains(&grain) && grain.is_power_of_two(), || {
        format!("its grains cannot be {grain} sectors")
    })?;
    check((1..=512).contains(&entries), || format!("its tables cannot have {entries} entries"))?;
    check(capacity.div_ceil(grain * entries) <= (512 << 20) / 4, || {
        "its first-level table is too large".to_owned()
    })?;
    let image = Image::new(VolumeFormat::Vmdk, sectors(capacity)?).with_clusters(grain * 512);
    if at == 0 || length == 0 {
        return Ok(image);
    }
    let text = printable_lines(content.up_to(sectors(at)?, DESCRIPTOR)?);
    Ok(image.with_backing(parent(&text), Some(VolumeFormat::Vmdk)))
}

/// Whether a text is a descriptor: comments and empty lines, then its version.
fn is_descriptor(bytes: &[u8]) -> bool {
    let mut lines = bytes.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii);
    let first = lines.find(|line| !line.is_empty() && !line.starts_with(b"#"));
    bytes.is_ascii() && matches!(first, Some(b"version=1" | b"version=2" | b"version=3"))
}

fn printable_lines(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    let lines = bytes[..end].split(|byte| *byte == b'\n');
    lines.map(|line| printable(line.trim_ascii())).collect::<Vec<_>>().join("\n")
}

/// An extent's sectors and file, if the line is one.
fn extent(line: &str) -> Option<(u64, Option<&str>)> {
    let mut words = line.splitn(4, ' ');
    matches!(words.next()?, "RW" | "RDONLY" | "NOACCESS").then_some(())?;
    let count = words.next()?.parse().ok()?;
    let _kind = words.next()?;
    let file = words.next().and_then(|rest| rest.split('"').nth(1));
    Some((count, file))
}

fn parent(text: &str) -> Option<String> {
    let line = text.lines().find_map(|line| line.strip_prefix("parentFileNameHint=\""))?;
    line.split('"').next().map(str::to_owned)
}
