//! Which devices a volume group is on.
//!
//! LVM is only shown devices that may be physical volumes, never logical ones: what is inside of a
//! volume is its guest's. A device that does not answer keeps nobody from the groups on others.

use super::lvm::Lvm;
use super::report::{self, PhysicalRow, Standing};
use crate::host::{BlockDevice, Host, Limits};
use crate::model::{Error, ErrorKind, PoolDef, Result, SourceDevice};
use std::path::Path;
use std::time::{Duration, Instant};

/// What udev calls the content of a physical volume.
pub(super) const MEMBER: &str = "LVM2_member";
/// How long all devices together may take to be read, and one alone when they do not.
const TOGETHER: Duration = Duration::from_secs(20);
const ALONE: Duration = Duration::from_secs(5);

/// Devices that may be physical volumes.
#[derive(Debug, Default)]
pub(super) struct Candidates {
    /// Those that can be looked at.
    pub(super) devices: Vec<String>,
    /// Those that do not answer, and why.
    pub(super) dead: Vec<(BlockDevice, &'static str)>,
}

impl Candidates {
    /// All that the host has, and those named.
    pub(super) fn all(named: &[SourceDevice]) -> Result<Self> {
        let named: Vec<BlockDevice> = named
            .iter()
            .filter_map(|device| BlockDevice::at(Path::new(&device.path)).ok())
            .collect();
        let all = BlockDevice::all()
            .map_err(|error| Error::io("cannot tell which block devices there are", &error))?;
        let has_udev = Path::new("/run/udev/control").exists();
        let mut found = Self::default();
        for device in all {
            let may_be = match has_udev {
                true => device.udev_property("ID_FS_TYPE").as_deref() == Some(MEMBER),
                false => device.size().is_ok_and(|size| size > 0),
            };
            if !(may_be || named.contains(&device)) || is_inside(&device) || has_path(&device) {
                continue;
            }
            match device.why_dead() {
                None => found.devices.push(device.node().display().to_string()),
                Some(why) => found.dead.push((device, why)),
            }
        }
        Ok(found)
    }
}

/// Whether it is a volume of ours, or lies in one: a logical volume, a zvol, a partition of these or
/// a loop device on them.
fn is_inside(device: &BlockDevice) -> bool {
    let of_lvm = device.mapped().is_some_and(|(_, uuid)| uuid.contains("LVM-"));
    let backing = device.attribute("loop/backing_file").filter(|path| path.starts_with("/dev/"));
    let backing = backing.and_then(|path| BlockDevice::at(Path::new(&path)).ok());
    let below = device.slaves().into_iter().chain(device.partition().map(|(disk, _)| disk));
    of_lvm || device.name.starts_with("zd") || below.chain(backing).any(|below| is_inside(&below))
}

/// Whether it is one of the paths to a device that is to be used instead.
fn has_path(device: &BlockDevice) -> bool {
    let is_multipath = |(_, uuid): (String, String)| uuid.starts_with("mpath-");
    device.holders().iter().any(|holder| holder.mapped().is_some_and(is_multipath))
}

/// The physical volumes on some devices; one that does not answer is left out.
pub(super) fn physical(
    host: &dyn Host,
    limits: &Limits,
    devices: &[String],
) -> Result<Vec<PhysicalRow>> {
    match physical_within(host, limits, devices, TOGETHER) {
        Err(error) if error.kind() == ErrorKind::TimedOut && limits.check().is_ok() => {}
        read => return read,
    }
    let mut found = Vec::new();
    for device in devices {
        limits.check()?;
        match physical_within(host, limits, std::slice::from_ref(device), ALONE) {
            // Alone, each says that the others are missing.
            Ok(rows) => found.extend(rows.into_iter().filter(|row| !row.missing())),
            Err(error) => tracing::warn!("{device} is not looked at: {error}"),
        }
    }
    // Together, without what does not answer.
    let devices: Vec<String> = found.iter().map(|row| row.device.clone()).collect();
    physical_within(host, limits, &devices, TOGETHER)
}

fn physical_within(
    host: &dyn Host,
    limits: &Limits,
    devices: &[String],
    patience: Duration,
) -> Result<Vec<PhysicalRow>> {
    if devices.is_empty() {
        return Ok(Vec::new());
    }
    let by = Instant::now() + patience;
    let deadline = limits.deadline.map_or(by, |deadline| deadline.min(by));
    let limits = Limits { deadline: Some(deadline), cancel: limits.cancel.clone() };
    let lvm = Lvm { host, limits: &limits, devices };
    report::physical(&lvm.report("pvs", &["--foreign", "--shared", "-o", report::PHYSICAL])?)
}

/// A volume group that is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Located {
    /// Name.
    pub(super) name: String,
    /// Its devices.
    pub(super) devices: Vec<String>,
    /// What keeps it from being used.
    standing: Standing,
    /// uuids of physical volumes that are missing.
    missing: Vec<String>,
}

impl Located {
    /// The groups that physical volumes are in.
    pub(super) fn all(rows: &[PhysicalRow]) -> Vec<Self> {
        let mut found: Vec<(&str, Self)> = Vec::new();
        for row in rows.iter().filter(|row| !row.group.is_empty()) {
            let at = found.iter().position(|(uuid, _)| *uuid == row.group_uuid);
            let at = at.unwrap_or_else(|| {
                let (name, standing) = (row.group.clone(), row.standing.clone());
                let group = Self { name, devices: Vec::new(), standing, missing: Vec::new() };
                found.push((&row.group_uuid, group));
                found.len() - 1
            });
            let group = &mut found[at].1;
            match row.missing() {
                true => group.missing.push(row.uuid.clone()),
                false => group.devices.push(row.device.clone()),
            }
        }
        found.into_iter().map(|(_, group)| group).collect()
    }

    /// Refuses a group that is not this host's to use, or not all there.
    pub(super) fn check(&self, host: &dyn Host, limits: &Limits) -> Result<()> {
        let Self { name, devices, standing, missing } = self;
        let lvm = Lvm { host, limits, devices };
        let refuse =
            |kind, what: String| Err(Error::new(kind, format!("volume group {name} {what}")));
        if standing.shared() {
            let what = "is shared by several hosts with locks, which poold does not take part in";
            return refuse(ErrorKind::NotSupported, what.to_owned());
        }
        if standing.exported() {
            let what =
                format!("is exported, to go to another host; have it here by: vgimport {name}");
            return refuse(ErrorKind::Conflict, what);
        }
        if !standing.system.is_empty() && standing.system != system(&lvm)? {
            let owner = &standing.system;
            let what = format!("belongs to the host with system id {owner}; only that may use it");
            return refuse(ErrorKind::Conflict, what);
        }
        if standing.partial() || !missing.is_empty() {
            let missing = missing.join(", ");
            let what = format!("is not whole: bring back its physical volumes {missing}");
            return refuse(ErrorKind::Inaccessible, what);
        }
        Ok(())
    }
}

/// This host's system id; empty when it has none.
fn system(lvm: &Lvm<'_>) -> Result<String> {
    let said = lvm.run("systemid", &[])?.stdout;
    let said = String::from_utf8_lossy(&said);
    Ok(said.split_once(':').map(|(_, id)| id.trim().to_owned()).unwrap_or_default())
}

/// The name of a pool's volume group.
pub(super) fn group_name(pool: &PoolDef) -> &str {
    pool.source.name.as_deref().unwrap_or(pool.name.as_str())
}

/// The volume group of a pool, if there is one.
pub(super) fn locate(pool: &PoolDef, host: &dyn Host, limits: &Limits) -> Result<Option<Located>> {
    let name = group_name(pool);
    let refuse = |kind, what: String| Err(Error::new(kind, format!("volume group {name}: {what}")));
    let candidates = Candidates::all(&pool.source.devices)?;
    for SourceDevice { path, .. } in &pool.source.devices {
        let device = BlockDevice::at(Path::new(path)).ok();
        let dead = candidates.dead.iter().find(|(dead, _)| Some(dead) == device.as_ref());
        if let Some((_, why)) = dead {
            return refuse(ErrorKind::Inaccessible, format!("its device {path} {why}"));
        }
    }
    let rows = physical(host, limits, &candidates.devices)?;
    let mut groups = Located::all(&rows);
    groups.retain(|group| group.name == name);
    if !pool.source.devices.is_empty() && !groups.is_empty() {
        let others: Vec<_> = groups.iter().flat_map(|group| &group.devices).cloned().collect();
        groups.retain(|group| is_on(group, &pool.source.devices));
        if groups.is_empty() {
            let what = format!(
                "it is on {}, and not on the devices that the pool names",
                others.join(", ")
            );
            return refuse(ErrorKind::Conflict, what);
        }
    }
    if groups.len() > 1 {
        let what = "there are several of that name; name the devices of the one that is meant";
        return refuse(ErrorKind::Conflict, what.to_owned());
    }
    Ok(groups.pop())
}

/// Whether a group is on these devices, as far as they are there.
fn is_on(group: &Located, named: &[SourceDevice]) -> bool {
    let same = |own: &str, path: &str| {
        let number = |path| BlockDevice::at(Path::new(path)).map(|device| device.number).ok();
        own == path || number(own).is_some_and(|own| Some(own) == number(path))
    };
    let mut there = named.iter().filter(|named| Path::new(&named.path).exists()).peekable();
    there.peek().is_some()
        && there.all(|named| group.devices.iter().any(|own| same(own, &named.path)))
}
