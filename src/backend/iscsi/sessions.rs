//! The iSCSI sessions that the kernel has, as sysfs tells them.

use super::portal::Portal;
use crate::backend::scsi::disks;
use crate::host::BlockDevice;
use crate::model::{Error, Result};
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// What it says of a session that serves.
const LOGGED_IN: &str = "LOGGED_IN";

/// A session, whoever made it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Session {
    /// Its number.
    pub(super) id: u32,
    /// The target's name.
    pub(super) target: String,
    /// The name of the interface record that it was made with.
    pub(super) interface: String,
    /// The initiator's name.
    pub(super) initiator: String,
    /// The portals of its connections: as they were asked for, and as they are.
    pub(super) portals: Vec<Portal>,
    /// `LOGGED_IN`, `FAILED` or `FREE`.
    pub(super) state: String,
    /// What its SCSI devices are below, in sysfs.
    device: PathBuf,
}

/// The sessions of a host, below a sysfs.
#[derive(Debug)]
pub(super) struct Sessions {
    class: PathBuf,
}

impl Default for Sessions {
    fn default() -> Self {
        Self::at(Path::new("/sys/class"))
    }
}

impl Sessions {
    /// Those of another sysfs.
    pub(super) fn at(class: &Path) -> Self {
        Self { class: class.to_owned() }
    }

    /// All sessions, in the order of their numbers.
    pub(super) fn all(&self) -> Vec<Session> {
        let entries = entries(&self.class.join("iscsi_session"));
        let mut found: Vec<Session> =
            entries.iter().filter_map(|path| self.session(path)).collect();
        found.sort_by_key(|session| session.id);
        found
    }

    /// None when it ends meanwhile.
    fn session(&self, path: &Path) -> Option<Session> {
        let id = path.file_name()?.to_str()?.strip_prefix("session")?.parse().ok()?;
        let connections = entries(&self.class.join("iscsi_connection"));
        let own = format!("connection{id}:");
        let own = connections.iter().filter(|path| {
            path.file_name()
                .and_then(|name| name.to_str())
                .is_some_and(|name| name.starts_with(&own))
        });
        let portal = |path: &Path, prefix: &str| {
            let host = read(&path.join(format!("{prefix}address")))?;
            let port = read(&path.join(format!("{prefix}port")))?.parse().ok()?;
            Some(Portal::new(&host, port))
        };
        Some(Session {
            id,
            target: read(&path.join("targetname"))?,
            interface: read(&path.join("ifacename")).unwrap_or_default(),
            initiator: read(&path.join("initiatorname")).unwrap_or_default(),
            portals: own
                .flat_map(|path| [portal(path, "persistent_"), portal(path, "")])
                .flatten()
                .collect(),
            state: read(&path.join("state"))?,
            device: fs::canonicalize(path.join("device")).ok()?,
        })
    }
}

impl Session {
    /// Whether it serves.
    pub(super) fn is_logged_in(&self) -> bool {
        self.state == LOGGED_IN
    }

    /// Has the kernel look at the units that it knows, and for others; returns when it has.
    pub(super) fn scan(&self) -> Result<()> {
        let failed = |what: &Path, error| {
            let id = self.id;
            Error::io(format_args!("session {id}: cannot write {}", what.display()), &error)
        };
        for unit in self.units() {
            let path = unit.join("rescan");
            match fs::write(&path, "1") {
                Err(error) if error.kind() != ErrorKind::NotFound => {
                    return Err(failed(&path, error));
                }
                // It went meanwhile.
                _ => {}
            }
        }
        // .../host3/session1, and a host has no other session.
        let host = self.device.parent().unwrap_or(&self.device);
        for scan in entries(&host.join("scsi_host")).iter().map(|host| host.join("scan")) {
            fs::write(&scan, "- - -").map_err(|error| failed(&scan, error))?;
        }
        Ok(())
    }

    /// The SCSI devices behind it, in sysfs.
    fn units(&self) -> impl Iterator<Item = PathBuf> {
        let targets = entries(&self.device).into_iter().filter(|path| starts_with(path, "target"));
        // A directory of attributes beside them has no type.
        targets.flat_map(|target| entries(&target)).filter(|unit| unit.join("type").exists())
    }

    /// The disks behind it that the kernel knows, and how many more it is still looking at.
    pub(super) fn disks(&self) -> (Vec<BlockDevice>, usize) {
        let is_disk = |unit: &PathBuf| read(&unit.join("type")).as_deref() == Some(disks::TYPE);
        let disks: Vec<PathBuf> = self.units().filter(is_disk).collect();
        let found: Vec<BlockDevice> = disks
            .iter()
            .flat_map(|disk| entries(&disk.join("block")))
            .filter_map(|block| BlockDevice::named(block.file_name()?.to_str()?).ok())
            .collect();
        let missing = disks.len().saturating_sub(found.len());
        (found, missing)
    }
}

fn starts_with(path: &Path, prefix: &str) -> bool {
    path.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.starts_with(prefix))
}

/// What a directory has, in order.
fn entries(directory: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(directory) else { return Vec::new() };
    let mut paths: Vec<PathBuf> =
        entries.filter_map(Result::ok).map(|entry| entry.path()).collect();
    paths.sort_unstable();
    paths
}

fn read(path: &Path) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    let text = text.trim();
    // The kernel's word for what was not said.
    (!text.is_empty() && text != "<NULL>" && text != "(null)").then(|| text.to_owned())
}
