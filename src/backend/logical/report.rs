//! LVM's reports, as it writes them in JSON: pure functions.

#[cfg(test)]
mod tests;

use crate::model::{Error, ErrorKind, Extent, Provisioning, Result, Usage};
use serde::Deserialize;
use std::collections::BTreeSet;

/// What is asked of physical volumes, and of the groups that they are in.
pub(super) const PHYSICAL: &str = "pv_name,pv_uuid,vg_name,vg_uuid,vg_tags,vg_systemid,vg_exported,\
    vg_partial,vg_shared,vg_clustered";

/// What is asked of a group and all in it, at one moment.
pub(super) const GROUP: &[&str] = &[
    "--all",
    "--configreport",
    "vg",
    "--options",
    "vg_name,vg_uuid,vg_size,vg_free,vg_extent_size,vg_systemid,vg_exported,vg_partial,vg_shared,\
     vg_clustered",
    "--configreport",
    "pv",
    "--options",
    "pv_name,pv_uuid",
    "--configreport",
    "lv",
    "--options",
    "lv_name,lv_uuid,lv_attr,lv_layout,lv_size,lv_active,origin,origin_size,pool_lv,data_percent,\
     metadata_percent,lv_tags",
    "--configreport",
    "seg",
    "--options",
    "lv_uuid,seg_pe_ranges",
    "--configreport",
    "pvseg",
    "--options",
    "pvseg_start",
];

/// What is asked of a group's room alone, without waiting for whoever changes the group: a long job
/// of ours must not make its pool look dead.
pub(super) const ROOM: &[&str] =
    &["--nolocking", "--options", "vg_name,vg_size,vg_free,vg_partial"];

/// How a physical volume is called that is missing.
const MISSING: &str = "[unknown]";

#[derive(Deserialize)]
struct Report {
    report: Vec<Section>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Section {
    vg: Vec<GroupRow>,
    pv: Vec<PhysicalRow>,
    lv: Vec<VolumeRow>,
    seg: Vec<SegmentRow>,
}

/// What keeps a group from being used here.
#[derive(Debug, Default, Clone, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(super) struct Standing {
    /// The system that it belongs to, if only one may use it.
    #[serde(rename = "vg_systemid")]
    pub(super) system: String,
    #[serde(rename = "vg_exported")]
    exported: String,
    #[serde(rename = "vg_partial")]
    partial: String,
    #[serde(rename = "vg_shared")]
    shared: String,
    #[serde(rename = "vg_clustered")]
    clustered: String,
}

impl Standing {
    /// Whether it was made ready for another host.
    pub(super) fn exported(&self) -> bool {
        !self.exported.is_empty()
    }

    /// Whether devices of it are missing.
    pub(super) fn partial(&self) -> bool {
        !self.partial.is_empty()
    }

    /// Whether several hosts use it, with locks.
    pub(super) fn shared(&self) -> bool {
        !self.shared.is_empty() || !self.clustered.is_empty()
    }
}

/// A physical volume.
#[derive(Debug, Default, Clone, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(super) struct PhysicalRow {
    /// Its device.
    #[serde(rename = "pv_name")]
    pub(super) device: String,
    /// Its uuid in LVM's spelling.
    #[serde(rename = "pv_uuid")]
    pub(super) uuid: String,
    /// Its group, or empty.
    #[serde(rename = "vg_name")]
    pub(super) group: String,
    /// The uuid of that.
    #[serde(rename = "vg_uuid")]
    pub(super) group_uuid: String,
    #[serde(rename = "vg_tags")]
    group_tags: String,
    /// What keeps the group from being used.
    #[serde(flatten)]
    pub(super) standing: Standing,
}

impl PhysicalRow {
    /// Whether its device is not there.
    pub(super) fn missing(&self) -> bool {
        self.device == MISSING
    }

    /// Whether its group has a tag.
    pub(super) fn group_has(&self, tag: &str) -> bool {
        self.group_tags.split(',').any(|own| own == tag)
    }
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct GroupRow {
    vg_name: String,
    vg_uuid: String,
    vg_size: String,
    vg_free: String,
    vg_extent_size: String,
    #[serde(flatten)]
    standing: Standing,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct VolumeRow {
    lv_name: String,
    lv_uuid: String,
    lv_attr: String,
    lv_layout: String,
    lv_size: String,
    lv_active: String,
    origin: String,
    origin_size: String,
    pool_lv: String,
    data_percent: String,
    metadata_percent: String,
    lv_tags: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct SegmentRow {
    lv_uuid: String,
    seg_pe_ranges: String,
}

/// A volume group, with all that is a volume in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Group {
    /// Name.
    pub(super) name: String,
    /// uuid, in LVM's spelling.
    pub(super) uuid: String,
    /// Its room.
    pub(super) usage: Usage,
    /// The unit that room is given in.
    pub(super) extent: u64,
    /// What keeps it from being used.
    pub(super) standing: Standing,
    /// uuids of physical volumes that are missing.
    pub(super) missing: Vec<String>,
    /// Its volumes.
    pub(super) volumes: Vec<LogicalVolume>,
    /// What the kernel's device mapper needs for them, beyond what it always has.
    pub(super) targets: BTreeSet<&'static str>,
}

/// A logical volume that is one for people, too.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct LogicalVolume {
    /// Name.
    pub(super) name: String,
    /// uuid, in LVM's spelling.
    pub(super) uuid: String,
    /// How its blocks are provided.
    pub(super) provisioning: Provisioning,
    /// Bytes of its device.
    pub(super) size: u64,
    /// Bytes that it takes in the group, or of its thin pool.
    pub(super) allocation: u64,
    /// Whether it has a device now.
    pub(super) active: bool,
    /// What it is a snapshot of.
    pub(super) origin: Option<String>,
    /// Its thin pool.
    pub(super) thin_pool: Option<String>,
    /// How full its store is, in hundredths of a percent.
    pub(super) data_used: Option<u32>,
    /// How full that of its metadata is.
    pub(super) metadata_used: Option<u32>,
    /// Tags.
    pub(super) tags: Vec<String>,
    /// Why its content cannot be relied on.
    pub(super) damage: Option<&'static str>,
    /// Where it lies.
    pub(super) extents: Vec<Extent>,
}

impl Group {
    /// The volume of that name.
    pub(super) fn volume(&self, name: &str) -> Option<&LogicalVolume> {
        self.volumes.iter().find(|volume| volume.name == name)
    }
}

/// The physical volumes of a report.
pub(super) fn physical(json: &[u8]) -> Result<Vec<PhysicalRow>> {
    Ok(parse(json)?.report.into_iter().flat_map(|section| section.pv).collect())
}

/// The group of a report; none when it has none.
pub(super) fn group(json: &[u8], name: &str) -> Result<Option<Group>> {
    for section in parse(json)?.report {
        let Some(row) = section.vg.iter().find(|row| row.vg_name == name) else { continue };
        let extent = bytes(&row.vg_extent_size)?;
        let missing = section.pv.iter().filter(|row| row.missing());
        let volumes = section.lv.iter().map(|row| volume(row, &section.seg, extent));
        return Ok(Some(Group {
            name: row.vg_name.clone(),
            uuid: row.vg_uuid.clone(),
            usage: usage(bytes(&row.vg_size)?, bytes(&row.vg_free)?)?,
            extent,
            standing: row.standing.clone(),
            missing: missing.map(|row| row.uuid.clone()).collect(),
            targets: section.lv.iter().flat_map(targets).collect(),
            volumes: volumes.filter_map(Result::transpose).collect::<Result<_>>()?,
        }));
    }
    Ok(None)
}

/// The room of the group of a report; none when it has none that is whole.
pub(super) fn room(json: &[u8], name: &str) -> Result<Option<Usage>> {
    let mut rows = parse(json)?.report.into_iter().flat_map(|section| section.vg);
    let row = rows.find(|row| row.vg_name == name && !row.standing.partial());
    row.map(|row| usage(bytes(&row.vg_size)?, bytes(&row.vg_free)?)).transpose()
}

fn usage(capacity: u64, available: u64) -> Result<Usage> {
    let allocation = capacity.checked_sub(available);
    let allocation = allocation.ok_or_else(|| unclear("more room is free than there is"))?;
    Ok(Usage { capacity, allocation, available })
}

fn parse(json: &[u8]) -> Result<Report> {
    serde_json::from_slice(json).map_err(|error| unclear(error.to_string()))
}

fn unclear(why: impl std::fmt::Display) -> Error {
    Error::new(ErrorKind::ToolFailed, format!("LVM gave an unclear report: {why}"))
}

fn bytes(text: &str) -> Result<u64> {
    text.parse().map_err(|_| unclear(format_args!("{text:?} is no number of bytes")))
}

/// Hundredths of a percent.
fn percent(text: &str) -> Option<u32> {
    let (whole, part) = text.split_once('.').unwrap_or((text, "0"));
    let part: u32 = format!("{part:0<2}").get(..2)?.parse().ok()?;
    whole.parse::<u32>().ok()?.checked_mul(100)?.checked_add(part)
}

/// The targets of the device mapper that a row needs.
fn targets(row: &VolumeRow) -> impl Iterator<Item = &'static str> {
    let by_layout = row.lv_layout.split(',').filter_map(|word| match word {
        "thin" => Some("thin-pool"),
        "virtual" => Some("zero"),
        "raid" => Some("raid"),
        "mirror" => Some("mirror"),
        "cache" => Some("cache"),
        "writecache" => Some("writecache"),
        _ => None,
    });
    by_layout.chain(row.lv_attr.starts_with(['s', 'S']).then_some("snapshot"))
}

/// A row that is a volume for people; none for what volumes are made of.
fn volume(row: &VolumeRow, segments: &[SegmentRow], extent: u64) -> Result<Option<LogicalVolume>> {
    let is_store = row.lv_layout.split(',').any(|word| word == "pool");
    let mut attributes = row.lv_attr.chars();
    let (kind, state, health) = (attributes.next(), attributes.nth(3), attributes.nth(3));
    let (origin, hides_origin) = match row.origin.strip_prefix('[') {
        Some(_) => (None, true),
        None => (Some(row.origin.clone()).filter(|origin| !origin.is_empty()), false),
    };
    let provisioning = match kind {
        _ if row.lv_name.starts_with('[') => return Ok(None),
        Some('t') => Provisioning::ThinPool,
        Some('V') => Provisioning::Thin,
        Some('s' | 'S') if hides_origin => Provisioning::Sparse,
        Some('s' | 'S') => Provisioning::Snapshot,
        Some('-' | 'm' | 'M' | 'o' | 'O' | 'r' | 'R' | 'c' | 'C' | 'v') if !is_store => {
            Provisioning::Thick
        }
        _ => return Ok(None),
    };
    let own = bytes(&row.lv_size)?;
    let has_store = provisioning != Provisioning::Thick;
    let data_used = percent(&row.data_percent).filter(|_| has_store);
    let size = match provisioning {
        Provisioning::Snapshot | Provisioning::Sparse => bytes(&row.origin_size)?,
        _ => own,
    };
    let allocation = match provisioning {
        Provisioning::Thin => {
            let part = u128::from(own) * u128::from(data_used.unwrap_or(0)) / 10_000;
            u64::try_from(part).unwrap_or(own)
        }
        _ => own,
    };
    let damage = match (state, health) {
        (Some('I' | 'S'), _) => Some("its store was full, and its content is lost; delete it"),
        (_, Some('p')) => Some("a device that part of it lies on is missing"),
        _ => None,
    };
    let places = segments.iter().filter(|segment| segment.lv_uuid == row.lv_uuid);
    let ranges = places.flat_map(|place| place.seg_pe_ranges.split([' ', ',']));
    Ok(Some(LogicalVolume {
        name: row.lv_name.clone(),
        uuid: row.lv_uuid.clone(),
        provisioning,
        size,
        allocation,
        active: row.lv_active.starts_with("active"),
        origin,
        thin_pool: Some(row.pool_lv.clone()).filter(|pool| !pool.is_empty()),
        data_used,
        metadata_used: percent(&row.metadata_percent).filter(|_| has_store),
        tags: row.lv_tags.split(',').filter(|tag| !tag.is_empty()).map(str::to_owned).collect(),
        damage,
        extents: ranges.filter_map(|range| place(range, extent)).collect(),
    }))
}

/// `/dev/sda:5-7`, in extents of the group; none for a range of another logical volume.
fn place(range: &str, extent: u64) -> Option<Extent> {
    let (device, numbers) = range.rsplit_once(':')?;
    let (first, last) = numbers.split_once('-')?;
    let first: u64 = first.parse().ok()?;
    let end = last.parse::<u64>().ok()?.checked_add(1)?.checked_mul(extent)?;
    device.starts_with('/').then_some(())?;
    Some(Extent { device: device.to_owned(), start: first.checked_mul(extent)?, end })
}

/// Of LVM 2.03.16: a linear volume with a snapshot, a striped, a sparse one, a thin pool with a volume
/// and its snapshot.
#[cfg(test)]
pub(super) const RECORDED: &[u8] = include_bytes!("testdata/fullreport.json");
