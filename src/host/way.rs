//! Walking a path by hand, so that symbolic links of somebody who is not root lead nobody astray.
//!
//! Used by [`Directory::open`](super::Directory::open) and, through [`walk`], by `backend`.

use super::{Access, FileStat};
use rustix::fs::{CWD, FileType, Mode, OFlags};
use rustix::io::Errno;
use std::collections::VecDeque;
use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::{Component, Path, PathBuf};

/// Links on a way, as the kernel counts them.
const MAX_LINKS: usize = 40;

/// What of a way must be root's, or whose this process is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trust {
    /// The links: a directory on the way may be anybody's.
    Links,
    /// The links and every directory on the way: nobody else can change where it leads.
    WholeWay,
}

/// Walks an absolute path component by component, links followed: a handle (O_PATH) of its end, or
/// none if something on the way is not to be trusted.
pub fn walk(path: &Path, trust: Trust) -> io::Result<Option<OwnedFd>> {
    let mut links = 0;
    let mut left: VecDeque<OsString> = components(path);
    let mut here = open_handle(CWD, Path::new("/"))?;
    let mut above: Vec<OwnedFd> = Vec::new();
    while let Some(part) = left.pop_front() {
        if part == ".." {
            if let Some(parent) = above.pop() {
                here = parent;
            }
            continue;
        }
        if trust == Trust::WholeWay && !is_roots_directory(&FileStat::of(&here)?) {
            return Ok(None);
        }
        let next = open_handle(&here, Path::new(&part))?;
        let stat = FileStat::of(&next)?;
        if stat.kind != FileType::Symlink {
            above.push(std::mem::replace(&mut here, next));
            continue;
        }
        links += 1;
        if links > MAX_LINKS || !is_roots(&stat) {
            return Ok(None);
        }
        let text = rustix::fs::readlinkat(&next, c"", Vec::new())?;
        let target = PathBuf::from(OsString::from_vec(text.into_bytes()));
        if target.is_absolute() {
            above.clear();
            here = open_handle(CWD, Path::new("/"))?;
        }
        for part in components(&target).into_iter().rev() {
            left.push_front(part);
        }
    }
    Ok(Some(here))
}

/// Opens the file or block device that a handle is of.
pub fn reopen(handle: &OwnedFd, access: Access) -> io::Result<File> {
    let own = format!("/proc/self/fd/{}", handle.as_raw_fd());
    let access = match access {
        Access::Read => OFlags::RDONLY,
        Access::ReadWrite => OFlags::RDWR,
    };
    let flags = access | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOCTTY;
    Ok(File::from(rustix::fs::openat(CWD, own, flags, Mode::empty())?))
}

/// Opens a file or block device for reading, through links only where they are root's.
pub fn open_image(path: &Path) -> io::Result<File> {
    let handle = walk(path, Trust::Links)?.ok_or_else(distrusted)?;
    match FileStat::of(&handle)?.kind {
        FileType::RegularFile | FileType::BlockDevice => reopen(&handle, Access::Read),
        _ => Err(io::Error::other("it is no file or block device")),
    }
}

/// Whether root owns it, or whoever this process is.
pub fn is_roots(stat: &FileStat) -> bool {
    stat.owner == 0 || stat.owner == rustix::process::geteuid().as_raw()
}

/// Whether only root can change what a directory's names mean: it is root's, and others either
/// cannot write it or cannot rename what is not theirs (the sticky bit).
fn is_roots_directory(stat: &FileStat) -> bool {
    is_roots(stat) && (stat.mode & 0o022 == 0 || stat.mode & 0o1000 != 0)
}

fn open_handle(at: impl AsFd, path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(rustix::fs::openat(at, path, flags, Mode::empty())?)
}

fn components(path: &Path) -> VecDeque<OsString> {
    path.components()
        .filter(|part| matches!(part, Component::Normal(_) | Component::ParentDir))
        .map(|part| part.as_os_str().to_owned())
        .collect()
}

/// The error for a way that is not to be trusted, as the kernel has it for its own such rule
/// (fs.protected_symlinks).
pub(super) fn distrusted() -> io::Error {
    Errno::ACCESS.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{lchown, symlink};

    #[test]
    fn a_link_is_followed_only_when_it_is_roots_or_ours() {
        let base = tempfile::tempdir().unwrap();
        let base = base.path().canonicalize().unwrap();
        std::fs::create_dir(base.join("there")).unwrap();
        symlink("there", base.join("link")).unwrap();
        let end = walk(&base.join("link"), Trust::Links).unwrap().unwrap();
        let there = FileStat::of(open_handle(CWD, &base.join("there")).unwrap()).unwrap();
        assert_eq!(FileStat::of(&end).unwrap().inode, there.inode);
        if rustix::process::geteuid().is_root() {
            lchown(base.join("link"), Some(65534), Some(65534)).unwrap();
            assert!(walk(&base.join("link"), Trust::Links).unwrap().is_none());
            assert!(super::super::Directory::open(&base.join("link")).is_err());
        }
    }

    #[test]
    fn a_directory_of_anybodys_is_no_way_for_what_must_be_roots() {
        let base = tempfile::tempdir().unwrap();
        let base = base.path().canonicalize().unwrap();
        let shared = base.join("shared");
        std::fs::create_dir_all(shared.join("there")).unwrap();
        let anybody = std::os::unix::fs::PermissionsExt::from_mode(0o777);
        std::fs::set_permissions(&shared, anybody).unwrap();
        assert!(walk(&shared.join("there"), Trust::WholeWay).unwrap().is_none());
        assert!(walk(&shared.join("there"), Trust::Links).unwrap().is_some());
    }
}
