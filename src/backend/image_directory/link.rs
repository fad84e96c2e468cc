//! Symbolic links in the directory, followed only where nobody but root has a hand in them.

use super::ImageDirectory;
use crate::host::FileStat;
use rustix::fs::{CWD, FileType, Mode, OFlags};
use std::collections::VecDeque;
use std::ffi::{CStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::{Component, Path, PathBuf};

/// Links on a way, as the kernel counts them.
const MAX_LINKS: usize = 40;

impl ImageDirectory<'_> {
    /// The file or block device that a link leads to, opened for reading; none when it leads to
    /// something else, nowhere, or on a way that somebody other than root can change.
    pub(super) fn follow(&self, name: &CStr) -> io::Result<Option<(File, FileStat)>> {
        let link = self.directory.stat_entry(name)?;
        if !is_roots(&link) {
            return Ok(None);
        }
        let target = self.directory.read_link(name)?;
        let end = match walk(&Path::new(self.path).join(target)) {
            Ok(Some(end)) => end,
            Ok(None) => return Ok(None),
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => return Ok(None),
            Err(error) => return Err(error),
        };
        let stat = FileStat::of(&end)?;
        if !matches!(stat.kind, FileType::RegularFile | FileType::BlockDevice) {
            return Ok(None);
        }
        // What was looked at is what is opened, whatever has happened to the path since.
        let own = format!("/proc/self/fd/{}", end.as_raw_fd());
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOCTTY;
        let file = File::from(rustix::fs::openat(CWD, own, flags, Mode::empty())?);
        Ok(Some((file, stat)))
    }
}

/// Whether root owns it, or whoever this process is.
fn is_roots(stat: &FileStat) -> bool {
    stat.owner == 0 || stat.owner == rustix::process::geteuid().as_raw()
}

/// Whether only root can change what a directory's names mean: it is root's, and others either
/// cannot write it or cannot rename what is not theirs (the sticky bit).
fn is_roots_directory(stat: &FileStat) -> bool {
    is_roots(stat) && (stat.mode & 0o022 == 0 || stat.mode & 0o1000 != 0)
}

/// Walks an absolute path component by component; the handle (O_PATH) of its end.
fn walk(path: &Path) -> io::Result<Option<OwnedFd>> {
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
        if !is_roots_directory(&FileStat::of(&here)?) {
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

fn open_handle(at: impl std::os::fd::AsFd, path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(rustix::fs::openat(at, path, flags, Mode::empty())?)
}

fn components(path: &Path) -> VecDeque<OsString> {
    path.components()
        .filter(|part| matches!(part, Component::Normal(_) | Component::ParentDir))
        .map(|part| part.as_os_str().to_owned())
        .collect()
}
