//! Taking away what a job had begun to make. Each is known by a tag or uuid that the job gave it, so
//! that nothing is taken away that somebody else made.

use super::find::{self, Candidates};
use super::lvm::Lvm;
use super::report::{self, PhysicalRow};
use crate::host::{Host, Limits};
use crate::model::{Result, Uuid};
use std::path::Path;
use std::time::Duration;

/// How long it may take.
const PATIENCE: Duration = Duration::from_secs(120);
/// What the tag of something that is being made begins with.
const MAKING: &str = "poold.making.";

/// A tag for something that is about to be made.
pub(super) fn new_tag() -> String {
    format!("{MAKING}{}", Uuid::new_v4().simple())
}

/// Whether a tag says that something was being made.
pub(super) fn is_making(tag: &str) -> bool {
    tag.starts_with(MAKING)
}

/// A uuid for a physical volume, in LVM's spelling.
pub(super) fn new_uuid() -> String {
    let digits = Uuid::new_v4().simple().to_string();
    let (mut rest, mut parts) = (digits.as_str(), Vec::new());
    for length in [6, 4, 4, 4, 4, 4, 6] {
        let (part, others) = rest.split_at(length);
        parts.push(part);
        rest = others;
    }
    parts.join("-")
}

/// All physical volumes.
fn physical(host: &dyn Host, limits: &Limits) -> Result<Vec<PhysicalRow>> {
    find::physical(host, limits, &Candidates::all(&[])?.devices)
}

/// Name and devices of the group that physical volumes like this are in.
fn group_where(
    rows: &[PhysicalRow],
    like: impl Fn(&PhysicalRow) -> bool,
) -> Option<(String, Vec<String>)> {
    let own: Vec<_> = rows.iter().filter(|row| like(row)).collect();
    let there = own.iter().filter(|row| !row.missing());
    Some((own.first()?.group.clone(), there.map(|row| row.device.clone()).collect()))
}

/// Takes the devices of a group's volumes away. One that is in use keeps them: somebody found it
/// active meanwhile.
pub(in crate::backend) fn deactivate(host: &dyn Host, group: &str) -> Result<()> {
    let limits = Limits::within(PATIENCE);
    let rows = physical(host, &limits)?;
    let found = group_where(&rows, |row| row.group_uuid == group);
    let Some((name, devices)) = found else { return Ok(()) };
    let lvm = Lvm { host, limits: &limits, devices: &devices };
    if let Err(error) = lvm.run("vgchange", &["--yes", "--activate", "n", &name]) {
        tracing::warn!("volume group {name} stays active: {error}");
    }
    Ok(())
}

/// Removes the logical volumes with a tag from the group of a uuid.
pub(in crate::backend) fn remove_volume(host: &dyn Host, group: &str, tag: &str) -> Result<()> {
    let limits = Limits::within(PATIENCE);
    let rows = physical(host, &limits)?;
    let found = group_where(&rows, |row| row.group_uuid == group);
    let Some((name, devices)) = found else { return Ok(()) };
    let lvm = Lvm { host, limits: &limits, devices: &devices };
    let report = lvm.report("fullreport", &[report::GROUP, &[name.as_str()]].concat())?;
    let Some(group) = report::group(&report, &name)? else { return Ok(()) };
    for volume in group.volumes.iter().filter(|volume| volume.tags.iter().any(|own| own == tag)) {
        lvm.run("lvremove", &["--yes", "--force", &format!("{name}/{}", volume.name)])?;
    }
    Ok(())
}

/// Removes the volume group with a tag, if nothing is in it.
pub(in crate::backend) fn remove_group(host: &dyn Host, tag: &str) -> Result<()> {
    let limits = Limits::within(PATIENCE);
    let rows = physical(host, &limits)?;
    let found = group_where(&rows, |row| row.group_has(tag));
    let Some((name, devices)) = found else { return Ok(()) };
    let lvm = Lvm { host, limits: &limits, devices: &devices };
    lvm.run("vgremove", &[&name]).map(drop)
}

/// Makes a device no physical volume any more, if it is the one of that uuid and in no group.
pub(in crate::backend) fn remove_physical(
    host: &dyn Host,
    device: &Path,
    uuid: &str,
) -> Result<()> {
    let limits = Limits::within(PATIENCE);
    let devices = [device.display().to_string()];
    if !device.exists() {
        return Ok(());
    }
    let rows = find::physical(host, &limits, &devices)?;
    if !rows.iter().any(|row| row.uuid == uuid && row.group.is_empty()) {
        return Ok(());
    }
    let lvm = Lvm { host, limits: &limits, devices: &devices };
    lvm.run("pvremove", &["--yes", &devices[0]]).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uuid_has_lvms_spelling() {
        let uuid = new_uuid();
        let lengths: Vec<_> = uuid.split('-').map(str::len).collect();
        assert_eq!(lengths, [6, 4, 4, 4, 4, 4, 6]);
        assert!(is_making(&new_tag()) && new_tag() != new_tag());
    }
}
