//! A directory held open, and operations on its entries that cannot leave it.
//!
//! Used by `backend`. It is opened anew for each operation and closed after it: a descriptor that
//! is kept would make an unmount fail.

use super::FileStat;
use rustix::fs::{AtFlags, CWD, FileType, FlockOperation, Mode, OFlags, RawDir, ResolveFlags};
use std::ffi::{CStr, CString};
use std::fs::File;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

/// Names that begin so are files in the making: hidden from listings and swept.
pub const HIDDEN_PREFIX: &str = ".poold-";

/// What a file is opened for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Reading.
    Read,
    /// Reading and writing.
    ReadWrite,
}

/// A directory held open.
#[derive(Debug)]
pub struct Directory {
    fd: OwnedFd,
    stat: FileStat,
}

impl AsFd for Directory {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

fn c_name(name: &str) -> io::Result<CString> {
    if name.is_empty() || name == "." || name == ".." || name.contains('/') {
        return Err(io::Error::from_raw_os_error(libc::EINVAL));
    }
    CString::new(name).map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))
}

impl Directory {
    /// Opens the directory at an absolute path, symbolic links on the way followed.
    pub fn open(path: &Path) -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(CWD, path, flags, Mode::empty())?;
        let stat = FileStat::of(&fd)?;
        Ok(Self { fd, stat })
    }

    /// What it was when it was opened.
    pub fn stat(&self) -> &FileStat {
        &self.stat
    }

    /// Its path without symbolic links, as the kernel sees it now.
    pub fn canonical_path(&self) -> io::Result<PathBuf> {
        std::fs::read_link(format!("/proc/self/fd/{}", self.fd.as_raw_fd()))
    }

    /// Calls `visit` for each entry but `.` and `..`, until it fails.
    pub fn for_each_entry<E: From<io::Error>>(
        &self,
        mut visit: impl FnMut(&CStr, FileType) -> Result<(), E>,
    ) -> Result<(), E> {
        let own = rustix::fs::openat(
            &self.fd,
            c".",
            OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC,
            Mode::empty(),
        )
        .map_err(io::Error::from)?;
        let mut buffer = vec![MaybeUninit::<u8>::uninit(); 64 << 10];
        let mut entries = RawDir::new(own, &mut buffer);
        while let Some(entry) = entries.next() {
            let entry = entry.map_err(io::Error::from)?;
            if entry.file_name() != c"." && entry.file_name() != c".." {
                visit(entry.file_name(), entry.file_type())?;
            }
        }
        Ok(())
    }

    /// What an entry is; of a symbolic link, the link.
    pub fn stat_entry(&self, name: &CStr) -> io::Result<FileStat> {
        FileStat::read(&self.fd, name)
    }

    /// What the entry of that name is, if there is one.
    pub fn find(&self, name: &str) -> io::Result<Option<FileStat>> {
        match self.stat_entry(&c_name(name)?) {
            Ok(stat) => Ok(Some(stat)),
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Opens an entry that is no symbolic link, without waiting for whatever it is.
    pub fn open_entry(&self, name: &CStr, access: Access) -> io::Result<File> {
        let access = match access {
            Access::Read => OFlags::RDONLY,
            Access::ReadWrite => OFlags::RDWR,
        };
        let flags = access | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOCTTY;
        let resolve =
            ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        let fd = rustix::fs::openat2(&self.fd, name, flags, Mode::empty(), resolve)?;
        Ok(File::from(fd))
    }

    /// Opens the entry of that name.
    pub fn open_file(&self, name: &str, access: Access) -> io::Result<File> {
        self.open_entry(&c_name(name)?, access)
    }

    /// The text of a symbolic link.
    pub fn read_link(&self, name: &CStr) -> io::Result<PathBuf> {
        use std::os::unix::ffi::OsStringExt;
        let text = rustix::fs::readlinkat(&self.fd, name, Vec::new())?;
        Ok(PathBuf::from(std::ffi::OsString::from_vec(text.into_bytes())))
    }

    /// Removes a file, or a link itself.
    pub fn unlink(&self, name: &str) -> io::Result<()> {
        Ok(rustix::fs::unlinkat(&self.fd, c_name(name)?, AtFlags::empty())?)
    }

    /// Removes an empty directory.
    pub fn remove_directory(&self, name: &str) -> io::Result<()> {
        Ok(rustix::fs::unlinkat(&self.fd, c_name(name)?, AtFlags::REMOVEDIR)?)
    }

    /// Makes a directory, open to its owner alone, and opens it.
    pub fn make_directory(&self, name: &str) -> io::Result<Directory> {
        rustix::fs::mkdirat(&self.fd, c_name(name)?, Mode::RWXU)?;
        self.open_directory(name)
    }

    /// Opens a directory in it that is no symbolic link.
    pub fn open_directory(&self, name: &str) -> io::Result<Directory> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(&self.fd, c_name(name)?, flags, Mode::empty())?;
        let stat = FileStat::of(&fd)?;
        Ok(Directory { fd, stat })
    }

    /// Waits until its entries are on the storage.
    pub fn sync(&self) -> io::Result<()> {
        Ok(rustix::fs::fsync(&self.fd)?)
    }

    /// Makes a file that has no name yet, readable to its owner alone.
    pub fn create_temporary(&self) -> io::Result<Temporary<'_>> {
        use rustix::io::Errno;
        let mode = Mode::RUSR | Mode::WUSR;
        let flags = OFlags::RDWR | OFlags::CLOEXEC;
        match rustix::fs::openat(&self.fd, c".", flags | OFlags::TMPFILE, mode) {
            Ok(fd) => Ok(Temporary { directory: self, file: File::from(fd), hidden: None }),
            Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::INVAL) => self.create_hidden(),
            Err(error) => Err(error.into()),
        }
    }

    /// The same under a hidden name, where the file system has no files without name.
    fn create_hidden(&self) -> io::Result<Temporary<'_>> {
        let hidden = format!("{HIDDEN_PREFIX}{}", uuid::Uuid::new_v4().simple());
        let flags = OFlags::RDWR | OFlags::CLOEXEC | OFlags::CREATE | OFlags::EXCL;
        let mode = Mode::RUSR | Mode::WUSR;
        let fd = rustix::fs::openat(&self.fd, hidden.as_str(), flags, mode)?;
        let temporary = Temporary { directory: self, file: File::from(fd), hidden: Some(hidden) };
        // Says to a sweep that its maker lives.
        rustix::fs::flock(&temporary.file, FlockOperation::LockExclusive)?;
        Ok(temporary)
    }

    /// Removes hidden files whose makers died.
    pub fn sweep(&self) -> io::Result<()> {
        let mut left_over = Vec::new();
        self.for_each_entry(|name, _| {
            if name.to_bytes().starts_with(HIDDEN_PREFIX.as_bytes()) {
                left_over.push(name.to_owned());
            }
            Ok::<(), io::Error>(())
        })?;
        for name in left_over {
            let Ok(file) = self.open_entry(&name, Access::Read) else { continue };
            if !FileStat::of(&file)?.kind.is_file() {
                continue;
            }
            if rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok() {
                rustix::fs::unlinkat(&self.fd, &name, AtFlags::empty())?;
            }
        }
        Ok(())
    }
}

/// A file in the making; gone when dropped before it is published.
#[derive(Debug)]
pub struct Temporary<'a> {
    directory: &'a Directory,
    file: File,
    hidden: Option<String>,
}

impl Temporary<'_> {
    /// The file.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Gives it a name that must be free, and waits until the name is on the storage.
    pub fn publish(mut self, name: &str) -> io::Result<()> {
        let name = c_name(name)?;
        let at = &self.directory.fd;
        match self.hidden.take() {
            Some(hidden) => {
                if let Err(error) = rename_to_free(at, &hidden, &name) {
                    self.hidden = Some(hidden);
                    return Err(error);
                }
            }
            None => {
                // Through /proc: AT_EMPTY_PATH needs a capability that the unit does not grant.
                let own = format!("/proc/self/fd/{}", self.file.as_raw_fd());
                rustix::fs::linkat(CWD, own, at, &name, AtFlags::SYMLINK_FOLLOW)?;
            }
        }
        self.directory.sync()
    }
}

/// Renames within a directory to a name that must be free.
fn rename_to_free(at: &OwnedFd, from: &str, to: &CStr) -> io::Result<()> {
    use rustix::io::Errno;
    match rustix::fs::renameat_with(at, from, at, to, rustix::fs::RenameFlags::NOREPLACE) {
        Ok(()) => Ok(()),
        // NFS has no such flag; a link does not replace either.
        Err(Errno::INVAL | Errno::NOSYS) => {
            rustix::fs::linkat(at, from, at, to, AtFlags::empty())?;
            Ok(rustix::fs::unlinkat(at, from, AtFlags::empty())?)
        }
        Err(error) => Err(error.into()),
    }
}

impl Drop for Temporary<'_> {
    fn drop(&mut self) {
        if let Some(hidden) = &self.hidden {
            // A failure leaves a hidden file, which the next sweep removes.
            let _ = rustix::fs::unlinkat(&self.directory.fd, hidden.as_str(), AtFlags::empty());
        }
    }
}
