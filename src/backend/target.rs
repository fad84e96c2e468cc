//! Which directories may be a pool's target.

use crate::host::Directory;
use crate::model::{Error, ErrorKind, PoolDef, PoolType, Result};
use rustix::fs::{AtFlags, CWD, StatxFlags};
use std::path::Path;

/// The system's own directories: never a target themselves.
const SYSTEM: &[&str] = &[
    "/", "/bin", "/boot", "/dev", "/etc", "/home", "/lib", "/lib32", "/lib64", "/libx32", "/proc",
    "/root", "/run", "/sbin", "/sys", "/usr", "/var",
];

/// File systems of the kernel: nothing below them is a target either.
const KERNEL: &[&str] = &["/proc", "/sys"];

fn refuse(path: &Path) -> Error {
    Error::new(
        ErrorKind::InvalidArgument,
        format!(
            "target {}: a directory of the system is no pool; name one below it",
            path.display()
        ),
    )
}

/// Refuses a path that is no absolute, clean path or is one of the system's own directories.
pub(super) fn check_path(path: &str) -> Result<()> {
    let invalid = |why| {
        let shown = path.escape_debug().to_string();
        Error::new(ErrorKind::InvalidArgument, format!("target {shown}: {why}"))
    };
    if !path.starts_with('/') {
        return Err(invalid("not an absolute path"));
    }
    if path.chars().any(char::is_control) {
        return Err(invalid("contains a control character"));
    }
    if path.split('/').any(|part| part == ".." || part == ".") {
        return Err(invalid("contains '.' or '..'"));
    }
    check_canonical(Path::new(path))
}

/// Refuses a directory that turned out, links followed, to be one of the system's own.
pub(super) fn check_opened(directory: &Directory) -> Result<()> {
    let path = directory
        .canonical_path()
        .map_err(|error| Error::io("cannot tell where the target is", &error))?;
    check_canonical(&path)?;
    // Another name of one, as /usr/bin of /bin, or a bind mount of it.
    let opened = directory.stat();
    match SYSTEM.iter().any(|own| identity(own) == Some((opened.device, opened.inode))) {
        true => Err(refuse(&path)),
        false => Ok(()),
    }
}

/// Device and inode of a directory, links followed, as far as the kernel knows them: a dead server
/// is not asked.
fn identity(path: &str) -> Option<(u64, u64)> {
    let flags = AtFlags::NO_AUTOMOUNT | AtFlags::STATX_DONT_SYNC;
    let stat = rustix::fs::statx(CWD, path, flags, StatxFlags::INO).ok()?;
    let device = rustix::fs::makedev(stat.stx_dev_major, stat.stx_dev_minor);
    Some((device, stat.stx_ino))
}

fn check_canonical(path: &Path) -> Result<()> {
    // `Path` compares by components, so that doubled and trailing slashes do not matter.
    let system = SYSTEM.iter().any(|own| path == Path::new(own));
    let kernel = KERNEL.iter().any(|own| path.starts_with(own));
    if system || kernel { Err(refuse(path)) } else { Ok(()) }
}

/// The target path of a pool, which its type must have.
pub(super) fn target_path(pool: &PoolDef) -> Result<&str> {
    pool.target_path().ok_or_else(|| {
        Error::new(
            ErrorKind::InvalidArgument,
            format!("pool {} has no target path; define it with one", pool.name),
        )
    })
}

/// Opens the target directory of a pool that is being started; none when it does not exist.
pub(super) fn open_target(pool: &PoolDef) -> Result<Option<Directory>> {
    let path = target_path(pool)?;
    let directory = match Directory::open(Path::new(path)) {
        Ok(directory) => directory,
        Err(error) => match error.raw_os_error() {
            Some(libc::ENOENT) => return Ok(None),
            Some(libc::EACCES) if pool.pool_type == PoolType::NetFs => {
                let access = pool.access();
                let who = match access.owner {
                    None => "root; if its server trusts no root, state in the target's permissions the owner and group to work as".to_owned(),
                    Some(uid) => format!("uid {uid}, whom its server lets do nothing there"),
                };
                return Err(Error::new(
                    ErrorKind::Inaccessible,
                    format!("pool {}: {path} may not be opened by {who}", pool.name),
                ));
            }
            Some(libc::EACCES) => {
                return Err(Error::new(
                    ErrorKind::Inaccessible,
                    format!(
                        "pool {}: {path} may not be opened, or a symbolic link on the way is not root's; name the directory itself",
                        pool.name
                    ),
                ));
            }
            _ => {
                let what = format_args!("pool {}: cannot open {path}", pool.name);
                return Err(Error::io(what, &error));
            }
        },
    };
    check_opened(&directory)?;
    Ok(Some(directory))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_systems_own_directories_are_no_targets() {
        for path in ["/", "//", "/etc", "/etc/", "/usr", "/lib64", "/var", "/proc/1", "/sys/fs"] {
            assert!(check_path(path).is_err(), "{path}");
        }
        for path in ["", "images", "/var/../etc", "/srv/./x", "/srv/a\nb"] {
            assert!(check_path(path).is_err(), "{path:?}");
        }
        for path in ["/var/lib/libvirt/images", "/srv", "/home/me/pool", "/libvirt"] {
            assert!(check_path(path).is_ok(), "{path}");
        }
    }

    #[test]
    fn a_link_to_the_system_is_seen_through() {
        let base = tempfile::tempdir().unwrap();
        let link = base.path().join("link");
        std::os::unix::fs::symlink("/etc", &link).unwrap();
        assert!(check_opened(&Directory::open(&link).unwrap()).is_err());
        assert!(check_opened(&Directory::open(base.path()).unwrap()).is_ok());
    }

    #[test]
    fn the_systems_own_directories_are_recognised_by_other_names() {
        let bin = Path::new("/bin").canonicalize().unwrap();
        assert!(check_opened(&Directory::open(&bin).unwrap()).is_err(), "{}", bin.display());
        // Through a root that is not named "/": no link and no spelling tells.
        let same = Directory::open(Path::new("/usr")).unwrap();
        assert_eq!(identity("/usr"), Some((same.stat().device, same.stat().inode)));
        assert!(check_opened(&Directory::open(Path::new("/usr/share")).unwrap()).is_ok());
    }
}
