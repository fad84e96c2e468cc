//! The records that open-iscsi keeps of targets. Those of our sessions are written here, because they
//! hold what must not be an argument of iscsiadm: arguments are for everybody to see.
//!
//! Format and lock are those of `idbm.c` in open-iscsi's sources.

use super::portal::Portal;
use crate::host::Limits;
use crate::model::{Error, ErrorKind, Result};
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;
use zeroize::Zeroizing;

/// Where the records are: in Debian's and in Fedora's packages.
const DATABASES: [&str; 2] = ["/etc/iscsi", "/var/lib/iscsi"];
/// The records of targets in one.
const NODES: &str = "nodes";
/// The records of interfaces in one.
const INTERFACES: &str = "ifaces";
/// What new records say.
const CONFIGURATION: &str = "/etc/iscsi/iscsid.conf";
/// The directory of the lock on all of them.
const LOCK: &str = "/run/lock/iscsi";
/// The setting that says for which interface a record is.
const INTERFACE: &str = "iface.iscsi_ifacename";
/// How long iscsiadm itself waits for that.
const PATIENCE: Duration = Duration::from_secs(30);
/// Longest value, in bytes.
const LONGEST: usize = 255;

/// A value that iscsiadm reads back as it is: it takes blanks away at both ends.
pub(super) fn is_value(text: &str) -> bool {
    let printable = !text.chars().any(char::is_control);
    !text.is_empty() && text.len() <= LONGEST && printable && text.trim() == text
}

/// The records of all targets.
#[derive(Debug)]
pub(super) struct Records {
    databases: Vec<PathBuf>,
    lock: PathBuf,
    configuration: PathBuf,
}

impl Default for Records {
    fn default() -> Self {
        Self {
            databases: DATABASES.map(PathBuf::from).into(),
            lock: PathBuf::from(LOCK),
            configuration: PathBuf::from(CONFIGURATION),
        }
    }
}

impl Records {
    /// Those of other places.
    #[cfg(test)]
    pub(super) fn at(base: &Path) -> Self {
        Self {
            databases: vec![base.join("none"), base.to_owned()],
            lock: base.join("lock"),
            configuration: base.join("iscsid.conf"),
        }
    }

    /// Makes records of a target at portals for an interface, which has one itself, and says in them
    /// what open-iscsi's configuration says of new ones, then `settings`. They are root's alone.
    pub(super) fn make(
        &self,
        target: &str,
        portals: &[&Portal],
        interface: &str,
        settings: &[(&str, &str)],
        limits: &Limits,
    ) -> Result<()> {
        if let Some((name, _)) = settings.iter().find(|(_, value)| !is_value(value)) {
            let what = format!(
                "open-iscsi cannot keep this {name}: it has at most {LONGEST} bytes, no control characters, and no blanks at its ends"
            );
            return Err(Error::new(ErrorKind::InvalidArgument, what));
        }
        let database = self.database_of(interface).ok_or_else(|| {
            let what = format!("open-iscsi has no record of interface {interface}");
            Error::new(ErrorKind::Failed, what)
        })?;
        let _lock = Lock::take(&self.lock, limits)?;
        let defaults = fs::read_to_string(&self.configuration).unwrap_or_default();
        for portal in portals {
            let group = self.group(target, portal, interface)?;
            let mut own = vec![("node.name", target), (INTERFACE, interface)];
            let (host, port) = (portal.host(), portal.port().to_string());
            own.extend([("node.conn[0].address", host), ("node.conn[0].port", &port)]);
            let number = group.map(|group| group.to_string());
            // As of a target that nobody discovered: the login says which it is.
            own.push(("node.tpgt", number.as_deref().unwrap_or("-1")));
            own.extend([("iface.transport_name", "tcp"), ("node.discovery_type", "static")]);
            own.extend(settings);
            let directory = database.join(NODES).join(target);
            let record = match &number {
                None => directory.join(portal.record()),
                Some(group) => {
                    directory.join(format!("{},{group}", portal.record())).join(interface)
                }
            };
            write(&record, &text(&defaults, &own)).map_err(|error| {
                Error::io(format_args!("cannot write {}", record.display()), &error)
            })?;
        }
        Ok(())
    }

    /// The database that has the record of an interface: iscsiadm knows which of them it was built for.
    pub(super) fn database_of(&self, interface: &str) -> Option<&Path> {
        let has = |database: &&PathBuf| database.join(INTERFACES).join(interface).is_file();
        self.databases.iter().find(has).map(PathBuf::as_path)
    }

    /// The portal group that others' records of a target have for a portal. A record without one
    /// would stand before theirs, and there can be only one such: a `Conflict` when there is.
    fn group(&self, target: &str, portal: &Portal, interface: &str) -> Result<Option<u16>> {
        let name = portal.record();
        for entry in self.portals(target)? {
            let Some(found) = entry.file_name().and_then(|found| found.to_str()) else { continue };
            if found == name && entry.is_file() && !is_for(&entry, interface) {
                let what = format!(
                    "open-iscsi has a record of {target} at {portal} already; log in by it, or remove it: iscsiadm -m node -T {target} -p {portal} -o delete"
                );
                return Err(Error::new(ErrorKind::Conflict, what));
            }
            let group = found.strip_prefix(&name).and_then(|rest| rest.strip_prefix(','));
            if let Some(group) = group.and_then(|group| group.parse().ok()) {
                return Ok(Some(group));
            }
        }
        Ok(None)
    }

    /// Removes all records of a target for an interface, the directories that held nothing else, and
    /// the record of the interface.
    pub(super) fn remove(&self, target: &str, interface: &str, limits: &Limits) -> Result<()> {
        let own = || -> Result<Vec<PathBuf>> {
            let interfaces =
                self.databases.iter().map(|database| database.join(INTERFACES).join(interface));
            let mut all = self.of(target, interface)?;
            all.extend(interfaces.filter(|record| record.is_file()));
            Ok(all)
        };
        if own()?.is_empty() {
            return Ok(());
        }
        let _lock = Lock::take(&self.lock, limits)?;
        for record in own()? {
            match fs::remove_file(&record) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    let what = format_args!("cannot remove {}", record.display());
                    return Err(Error::io(what, &error));
                }
                _ => {}
            }
            let kept =
                |above: &&Path| [NODES, INTERFACES].iter().all(|kept| !above.ends_with(kept));
            for above in record.ancestors().skip(1).take_while(kept) {
                // One that holds something else stays.
                if fs::remove_dir(above).is_err() {
                    break;
                }
            }
        }
        Ok(())
    }

    /// Whether there is a record of a target at a portal for an interface.
    pub(super) fn has(&self, target: &str, portal: &Portal, interface: &str) -> Result<bool> {
        let name = portal.record();
        let is_at = |part: &OsStr| {
            let rest = part.to_str().and_then(|part| part.strip_prefix(&name));
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(','))
        };
        Ok(self.of(target, interface)?.iter().any(|record| record.iter().any(is_at)))
    }

    /// The files of the records of a target for an interface.
    fn of(&self, target: &str, interface: &str) -> Result<Vec<PathBuf>> {
        // Of a portal: ADDRESS,PORT,GROUP/INTERFACE; ADDRESS,PORT where the group is not known.
        let records = self.portals(target)?.into_iter().filter_map(|portal| {
            let within = portal.join(interface);
            match within.is_file() {
                true => Some(within),
                false => (portal.is_file() && is_for(&portal, interface)).then_some(portal),
            }
        });
        Ok(records.collect())
    }

    /// What the databases have of the portals of a target.
    fn portals(&self, target: &str) -> Result<Vec<PathBuf>> {
        let mut found = Vec::new();
        for portals in self.databases.iter().map(|database| database.join(NODES).join(target)) {
            match fs::read_dir(&portals) {
                Ok(entries) => {
                    found.extend(entries.filter_map(Result::ok).map(|entry| entry.path()));
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => {
                    let what = format_args!("cannot read {}", portals.display());
                    return Err(Error::io(what, &error));
                }
            }
        }
        found.sort_unstable();
        Ok(found)
    }
}

/// Whether a record says that it is for an interface.
fn is_for(record: &Path, interface: &str) -> bool {
    // It may hold a secret.
    let text = fs::read_to_string(record).map(Zeroizing::new).unwrap_or_default();
    let mut named = text.lines().filter_map(|line| line.strip_prefix(INTERFACE)?.split_once('='));
    named.any(|(_, name)| name.trim() == interface)
}

/// In place, as iscsiadm writes: another file beside it would be another record. One that is not
/// whole when the machine stops is removed with the start that made it.
fn write(record: &Path, text: &str) -> io::Result<()> {
    if let Some(directory) = record.parent() {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
    }
    let mut options = File::options();
    options.write(true).create(true).truncate(true).mode(0o600).custom_flags(libc::O_NOFOLLOW);
    let mut file = options.open(record)?;
    file.set_permissions(fs::Permissions::from_mode(0o600))?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

/// A record: what the configuration says of all of them, then what this one says.
fn text(configuration: &str, settings: &[(&str, &str)]) -> Zeroizing<String> {
    let lines = configuration.lines().filter_map(|line| line.trim().split_once('='));
    let common = lines.map(|(name, value)| (name.trim(), value.trim()));
    let common = common.filter(|(name, value)| {
        name.starts_with("node.")
            && !value.is_empty()
            && settings.iter().all(|(own, _)| own != name)
    });
    // Room for all, so that no secret is left behind by a move.
    let room = settings.iter().map(|(name, value)| name.len() + value.len() + 4).sum::<usize>();
    let mut text = Zeroizing::new(String::with_capacity(configuration.len() + room + 64));
    text.push_str("# BEGIN RECORD\n");
    for (name, value) in common.chain(settings.iter().copied()) {
        for part in [name, " = ", value, "\n"] {
            text.push_str(part);
        }
    }
    text.push_str("# END RECORD\n");
    text
}

/// iscsiadm's lock, which a second name of a file is.
struct Lock(PathBuf);

impl Lock {
    fn take(directory: &Path, limits: &Limits) -> Result<Self> {
        let failed = |error: io::Error| Error::io("cannot lock open-iscsi's records", &error);
        let made = fs::DirBuilder::new().mode(0o770).create(directory);
        match made {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(failed(error));
            }
            _ => {}
        }
        let (file, second) = (directory.join("lock"), directory.join("lock.write"));
        File::options().write(true).create(true).truncate(false).open(&file).map_err(failed)?;
        let link = || match fs::hard_link(&file, &second) {
            Ok(()) => Some(Ok(())),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => None,
            Err(error) => Some(Err(error)),
        };
        match limits.look_for(PATIENCE, link)? {
            Some(linked) => linked.map(|()| Self(second)).map_err(failed),
            None => {
                let what = format!(
                    "open-iscsi's records are locked; if no iscsiadm runs, remove {}",
                    second.display()
                );
                Err(Error::new(ErrorKind::Busy, what))
            }
        }
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_file(&self.0) {
            tracing::error!("cannot remove {}: {error}", self.0.display());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_says_what_the_configuration_says_and_more() {
        let configuration = "# node.x = y\nnode.startup = automatic\niscsid.startup = x\n\
            node.session.timeo.replacement_timeout = 120\nnode.empty =\n";
        let settings = [("node.startup", "manual"), ("node.session.auth.password", "a = b c")];
        assert_eq!(
            *text(configuration, &settings),
            "# BEGIN RECORD\nnode.session.timeo.replacement_timeout = 120\n\
             node.startup = manual\nnode.session.auth.password = a = b c\n# END RECORD\n"
        );
    }

    fn put(base: &Path, record: &str, interface: &str) -> PathBuf {
        let path = base.join("nodes/iqn.a").join(record);
        write(&path, &text("", &[(INTERFACE, interface)])).unwrap();
        path
    }

    fn portal(host: &str) -> Portal {
        Portal::new(host, 3260)
    }

    #[test]
    fn records_are_roots_alone_and_those_of_others_stay_as_they_are() {
        let base = tempfile::tempdir().unwrap();
        let records = Records::at(base.path());
        let others = [
            put(base.path(), "192.0.2.1,3260,7/default", "default"),
            put(base.path(), "192.0.2.3,3260", "default"),
        ];
        let before = fs::read_to_string(&others[0]).unwrap();
        let make = |value: &str, hosts: &[&str]| {
            let portals: Vec<Portal> = hosts.iter().map(|host| portal(host)).collect();
            let portals: Vec<&Portal> = portals.iter().collect();
            let settings = [("node.session.auth.password", value)];
            records.make("iqn.a", &portals, "ours", &settings, &Limits::default())
        };
        let hosts = ["192.0.2.1", "2001:db8::1"];
        assert_eq!(make("secret", &hosts).unwrap_err().kind(), ErrorKind::Failed);
        for interface in ["ours", "default"] {
            write(&base.path().join("ifaces").join(interface), "x").unwrap();
        }
        make("secret", &hosts).unwrap();
        make("secret", &hosts).unwrap();
        let ours = [("192.0.2.1,3260,7/ours", "7"), ("2001:db8::1,3260", "-1")];
        for (path, group) in ours {
            let path = base.path().join("nodes/iqn.a").join(path);
            let text = fs::read_to_string(&path).unwrap();
            assert!(text.contains("auth.password = secret\n"), "{text}");
            assert!(text.contains(&format!("node.tpgt = {group}\n")), "{text}");
            assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        }
        let has = |host: &str| records.has("iqn.a", &portal(host), "ours").unwrap();
        assert!(has("192.0.2.1") && has("2001:db8::1"));
        assert!(!has("192.0.2.3") && !has("192.0.2"), "others have the first");
        assert_eq!(make("secret", &["192.0.2.3"]).unwrap_err().kind(), ErrorKind::Conflict);
        for value in ["", " x", "x ", "x\ny", &"x".repeat(256)] {
            let error = make(value, &hosts).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{value:?}");
        }
        assert!(!base.path().join("lock/lock.write").exists());

        records.remove("iqn.a", "ours", &Limits::default()).unwrap();
        records.remove("iqn.a", "ours", &Limits::default()).unwrap();
        for (path, _) in ours {
            assert!(!base.path().join("nodes/iqn.a").join(path).exists());
        }
        assert!(others.iter().all(|path| fs::read_to_string(path).unwrap() == before));
        assert!(base.path().join("ifaces/default").exists());
        assert!(!base.path().join("ifaces/ours").exists());
    }

    #[test]
    fn the_directories_of_the_last_record_go_with_it() {
        let base = tempfile::tempdir().unwrap();
        put(base.path(), "192.0.2.1,3260,1/ours", "ours");
        Records::at(base.path()).remove("iqn.a", "ours", &Limits::default()).unwrap();
        let left: Vec<_> = fs::read_dir(base.path().join("nodes")).unwrap().collect();
        assert!(left.is_empty(), "{left:?}");
    }

    #[test]
    fn the_lock_of_another_is_waited_for() {
        let base = tempfile::tempdir().unwrap();
        let held = Lock::take(base.path(), &Limits::default()).unwrap();
        let error = Lock::take(base.path(), &Limits::within(Duration::from_millis(50)));
        assert_eq!(error.err().unwrap().kind(), ErrorKind::TimedOut);
        drop(held);
        Lock::take(base.path(), &Limits::default()).unwrap();
    }
}
