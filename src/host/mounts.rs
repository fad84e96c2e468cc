//! The mount table: what is mounted where, and when that changes.
//!
//! Called by `engine` (the watch) and by `backend` (the table).

use super::BlockDevice;
use crate::model::{Error, ErrorKind, Result};
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// The table of this process (proc_pid_mountinfo(5)).
const TABLE: &str = "/proc/self/mountinfo";

/// One mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// Its number, unique while it exists.
    pub id: u64,
    /// The mount that it is mounted on.
    pub parent: u64,
    /// Major and minor number of the file system's device.
    pub device: (u32, u32),
    /// Which directory of the file system it shows.
    pub root: PathBuf,
    /// Where it is mounted.
    pub target: PathBuf,
    /// Options of the mount (`rw,nosuid`).
    pub options: String,
    /// Type of the file system.
    pub fs_type: String,
    /// What was mounted (a device, `HOST:DIR`), as the file system tells.
    pub source: OsString,
    /// Options of the file system.
    pub fs_options: String,
}

impl Mount {
    /// Whether this is what is mounted there: the same text, or another name of the same device.
    pub fn is_of(&self, source: &OsStr) -> bool {
        if self.source == source {
            return true;
        }
        // Others are not looked at: their storage may hang.
        let device = |path: &OsStr| match Path::new(path).starts_with("/dev") {
            true => BlockDevice::at(Path::new(path)).ok().map(|device| device.number),
            false => None,
        };
        let Some(wanted) = device(source) else { return false };
        // File systems with several devices (btrfs) have a number of their own.
        self.device == (wanted.major, wanted.minor) || device(&self.source) == Some(wanted)
    }

    /// Whether nothing can be written there.
    pub fn is_read_only(&self) -> bool {
        let options = self.options.split(',').chain(self.fs_options.split(','));
        // The last is what ext4 says after an error since Linux 6.15.
        options.into_iter().any(|option| matches!(option, "ro" | "emergency_ro"))
    }
}

/// All mounts, in the kernel's order.
#[derive(Debug, Clone, Default)]
pub struct MountTable(Vec<Mount>);

impl MountTable {
    /// Reads the table. Never blocks for a dead server.
    pub fn read() -> Result<Self> {
        let bytes = std::fs::read(TABLE);
        let bytes = bytes.map_err(|e| Error::io(format_args!("cannot read {TABLE}"), &e))?;
        Self::parse(&bytes)
    }

    /// The table from what the kernel wrote.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        let lines = bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        lines
            .map(|line| parse_line(line).ok_or_else(|| unknown(line)))
            .collect::<Result<_>>()
            .map(Self)
    }

    /// All mounts.
    pub fn iter(&self) -> impl Iterator<Item = &Mount> {
        self.0.iter()
    }

    /// The mount that an absolute path without symbolic links is on; mounts that others cover do
    /// not count. Asks no file system.
    pub fn mount_of(&self, path: &Path) -> Option<&Mount> {
        let is_base = |mount: &&Mount| {
            mount.target == Path::new("/")
                && (mount.parent == mount.id
                    || !self.0.iter().any(|other| other.id == mount.parent))
        };
        let mut here = self.0.iter().find(is_base)?;
        // As the kernel walks: from each mount to the first one met on the way. Never in a circle, as
        // a table may look that changed while it was read.
        for _ in &self.0 {
            let children = self.0.iter().filter(|mount| {
                mount.parent == here.id && mount.id != here.id && path.starts_with(&mount.target)
            });
            match children.min_by_key(|mount| mount.target.components().count()) {
                Some(next) => here = next,
                None => break,
            }
        }
        Some(here)
    }

    /// The mount whose root a path is, if it is one.
    pub fn mounted_at(&self, path: &Path) -> Option<&Mount> {
        self.mount_of(path).filter(|mount| mount.target == path)
    }
}

fn unknown(line: &[u8]) -> Error {
    let line = String::from_utf8_lossy(line);
    Error::new(ErrorKind::Failed, format!("{TABLE} has a line of unknown form: {line:?}"))
}

/// `36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue`, with any
/// number of fields before the dash.
fn parse_line(line: &[u8]) -> Option<Mount> {
    let mut fields = line.split(|byte| *byte == b' ');
    let mut text = || fields.next().map(unescape);
    let (id, parent, device) = (text()?, text()?, text()?);
    let (root, target, options) = (text()?, text()?, text()?);
    fields.by_ref().find(|field| *field == b"-")?;
    let mut text = || fields.next().map(unescape);
    let (fs_type, source, fs_options) = (text()?, text()?, text()?);
    // Users choose the type of their FUSE mounts: one that is not UTF-8 must not hide the others.
    let lossy = |text: OsString| text.to_string_lossy().into_owned();
    let number = |text: OsString| text.to_str()?.parse().ok();
    let (major, minor) = device.to_str()?.split_once(':')?;
    Some(Mount {
        id: number(id)?,
        parent: number(parent)?,
        device: (major.parse().ok()?, minor.parse().ok()?),
        root: root.into(),
        target: target.into(),
        options: lossy(options),
        fs_type: lossy(fs_type),
        source,
        fs_options: lossy(fs_options),
    })
}

/// Undoes the kernel's `\ooo` for space, tab, line break, backslash and `#`.
fn unescape(field: &[u8]) -> OsString {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let [first, after @ ..] = rest {
        let digits = |digits: &[u8]| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 8).ok();
        match (first, after.get(..3).and_then(digits)) {
            (b'\\', Some(byte)) => {
                bytes.push(byte);
                rest = &after[3..];
            }
            _ => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    OsString::from_vec(bytes)
}

/// Tells when something is mounted, unmounted or moved.
#[derive(Debug)]
pub struct MountWatch(AsyncFd<File>);

impl MountWatch {
    /// Watches from now on; to be made inside the tokio runtime.
    pub fn new() -> Result<Self> {
        Self::of(Path::new(TABLE))
    }

    fn of(table: &Path) -> Result<Self> {
        let failed = |e| Error::io(format_args!("cannot watch {}", table.display()), &e);
        let file = File::open(table).map_err(failed)?;
        // SAFETY: a file owns its descriptor, which is the same for as long as it lives.
        unsafe { AsyncFd::register_with_interest(file, Interest::PRIORITY | Interest::ERROR) }
            .map(Self)
            .map_err(|error| failed(error.into()))
    }

    /// Waits for a change, or for several at once; read the table afterwards. Safe to cancel.
    pub async fn changed(&self) -> Result<()> {
        // The kernel keeps count of the changes per open file, and reports them to poll alone.
        let mut ready = self
            .0
            .ready(Interest::PRIORITY | Interest::ERROR)
            .await
            .map_err(|e| Error::io("cannot watch the mount table", &e))?;
        ready.clear_ready();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    const RECORDED: &[u8] = b"\
21 1 259:2 / / rw,relatime shared:1 - ext4 /dev/nvme0n1p2 rw
22 21 0:5 / /dev rw,nosuid shared:2 master:9 propagate_from:3 - devtmpfs udev rw,size=8k
23 21 0:20 / /srv rw,relatime - tmpfs tmpfs rw
24 23 0:40 / /srv/nfs\\040share/a\\134b\\011c rw,nosuid - nfs4 host.example:/export\\040one rw,vers=4.2
25 24 0:41 / /srv/nfs\\040share/a\\134b\\011c rw - tmpfs  rw
26 21 8:1 /sub /mnt rw - xfs /dev/sda1 rw
27 26 8:2 / /mnt/deep rw - xfs /dev/sda2 rw
28 26 8:3 / /mnt rw - xfs /dev/sda3 rw
";

    #[test]
    fn the_table_is_read_with_its_escapes() {
        let table = MountTable::parse(RECORDED).unwrap();
        let nfs = table.iter().find(|mount| mount.id == 24).unwrap();
        assert_eq!(nfs.target, Path::new("/srv/nfs share/a\\b\tc"));
        assert_eq!(nfs.source, "host.example:/export one");
        assert_eq!((nfs.fs_type.as_str(), nfs.device), ("nfs4", (0, 40)));
        assert_eq!(table.iter().count(), 8);
        assert_eq!(table.iter().find(|mount| mount.id == 25).unwrap().source, "");
        assert_eq!(table.iter().find(|mount| mount.id == 26).unwrap().root, Path::new("/sub"));
        let error = MountTable::parse(b"1 2 3").unwrap_err();
        assert!(error.message().contains("unknown form"), "{error}");
    }

    #[test]
    fn mounts_on_each_other_end_the_walk() {
        let said = b"1 0 8:1 / / rw - ext4 /dev/sda1 rw\n2 1 8:2 / /a rw - ext4 /dev/sda2 rw\n\
            1 2 8:3 / /a/b rw - ext4 /dev/sda3 rw\n";
        let table = MountTable::parse(said).unwrap();
        assert!(table.mount_of(Path::new("/a/b/c")).is_some());
    }

    #[test]
    fn a_path_is_on_the_mount_that_the_kernel_would_find() {
        let table = MountTable::parse(RECORDED).unwrap();
        for (path, id) in [
            ("/", 21),
            ("/etc/x", 21),
            ("/development", 21),
            ("/dev/sda", 22),
            ("/srv", 23),
            ("/srv/nfs share", 23),
            // One mount on top of another.
            ("/srv/nfs share/a\\b\tc/file", 25),
            // Covered: 28 hides what was mounted below 26.
            ("/mnt/deep/file", 28),
        ] {
            assert_eq!(table.mount_of(Path::new(path)).unwrap().id, id, "{path}");
        }
        assert_eq!(table.mounted_at(Path::new("/mnt")).unwrap().id, 28);
        assert_eq!(table.mounted_at(Path::new("/mnt/deep")), None);
        assert_eq!(MountTable::default().mount_of(Path::new("/")), None);
    }

    #[test]
    fn the_real_table_agrees_with_the_kernel() {
        use rustix::fs::{AtFlags, CWD, StatxFlags, statx};
        let table = MountTable::read().unwrap();
        for path in ["/", "/proc", "/dev", "/usr/bin"] {
            let path = Path::new(path).canonicalize().unwrap();
            let known = statx(CWD, &path, AtFlags::empty(), StatxFlags::MNT_ID).unwrap();
            let mount = table.mount_of(&path).unwrap();
            assert_eq!(mount.id, known.stx_mnt_id, "{}", path.display());
        }
    }

    #[test]
    fn a_mount_is_told() {
        use nix::mount::{MsFlags, mount, umount};
        use nix::sched::{CloneFlags, unshare};
        let dir = tempfile::TempDir::new().unwrap();
        let none = None::<&str>;
        // In a namespace of this thread alone.
        let allowed = std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                if unshare(CloneFlags::CLONE_NEWNS).is_err() {
                    return false;
                }
                mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).unwrap();
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
                runtime.unwrap().block_on(async {
                    let watch = MountWatch::of(Path::new("/proc/thread-self/mountinfo")).unwrap();
                    let soon = || tokio::time::timeout(Duration::from_secs(20), watch.changed());
                    let never = tokio::time::timeout(Duration::from_millis(50), watch.changed());
                    assert!(never.await.is_err(), "nothing has changed yet");
                    for _ in 0..2 {
                        mount(Some("/usr"), dir.path(), none, MsFlags::MS_BIND, none).unwrap();
                        soon().await.expect("a mount").unwrap();
                        umount(dir.path()).unwrap();
                        soon().await.expect("an unmount").unwrap();
                    }
                });
                true
            });
            thread.join().unwrap()
        });
        if !allowed {
            println!("RESULT host mount-watch skip no private mount namespace here");
        }
    }
}
