//! A directory held open, and operations on its entries that cannot leave it.
//!
//! Used by `backend`. It is opened anew for each operation and closed after it: a descriptor that
//! is kept would make an unmount fail.

mod temporary;

use super::FileStat;
use super::way::{Trust, distrusted, walk};
use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, RawDir};
use std::ffi::{CStr, CString};
use std::fs::File;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use temporary::hidden_name;
pub use temporary::{HIDDEN_PREFIX, Temporary, TemporaryDirectory};

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
    /// Opens the directory at an absolute path. Symbolic links on the way are followed when they are
    /// root's: somebody who owns a directory above must not be able to send a pool elsewhere.
    pub fn open(path: &Path) -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(CWD, path, flags, Mode::empty())?;
        let stat = FileStat::of(&fd)?;
        let opened = Self { fd, stat };
        if opened.canonical_path()? == path {
            return Ok(opened);
        }
        // There was a link on the way, or another spelling.
        let end = walk(path, Trust::Links)?.ok_or_else(distrusted)?;
        let fd = rustix::fs::openat(&end, c".", flags, Mode::empty())?;
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
    ///
    /// A single component that is no link cannot lead out of the directory. (openat2 and its
    /// RESOLVE_BENEATH would say the same; systemd's RestrictSUIDSGID= blocks that call.)
    pub fn open_entry(&self, name: &CStr, access: Access) -> io::Result<File> {
        if name.to_bytes().contains(&b'/') || matches!(name.to_bytes(), b"" | b"." | b"..") {
            return Err(io::Error::from_raw_os_error(libc::EINVAL));
        }
        let access = match access {
            Access::Read => OFlags::RDONLY,
            Access::ReadWrite => OFlags::RDWR,
        };
        let flags = access | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOCTTY;
        Ok(File::from(rustix::fs::openat(&self.fd, name, flags, Mode::empty())?))
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

    /// Renames a file in it, over another one.
    pub fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        Ok(rustix::fs::renameat(&self.fd, c_name(from)?, &self.fd, c_name(to)?)?)
    }

    /// Removes an empty directory.
    pub fn remove_directory(&self, name: &str) -> io::Result<()> {
        Ok(rustix::fs::unlinkat(&self.fd, c_name(name)?, AtFlags::REMOVEDIR)?)
    }

    /// Removes the files and links in it, but no directories.
    pub fn remove_files(&self) -> io::Result<()> {
        let mut names = Vec::new();
        self.for_each_entry(|name, _| {
            names.push(name.to_owned());
            Ok::<(), io::Error>(())
        })?;
        for name in names {
            match rustix::fs::unlinkat(&self.fd, &name, AtFlags::empty()) {
                Ok(()) | Err(rustix::io::Errno::NOENT | rustix::io::Errno::ISDIR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Removes a directory with the files in it. At once nobody sees it any more; what is left when this dies is
    /// swept. One that holds directories is left as it is (ENOTEMPTY).
    pub fn remove_with_files(&self, name: &str) -> io::Result<()> {
        let directory = self.open_directory(name)?;
        directory.for_each_entry(|name, _| match directory.stat_entry(name)?.kind {
            FileType::Directory => Err(io::Error::from_raw_os_error(libc::ENOTEMPTY)),
            _ => Ok(()),
        })?;
        let hidden = hidden_name();
        let flags = rustix::fs::RenameFlags::NOREPLACE;
        match rustix::fs::renameat_with(&self.fd, c_name(name)?, &self.fd, hidden.as_str(), flags) {
            // Some file systems have no such flag; nobody else makes this name.
            Err(rustix::io::Errno::INVAL) => {
                rustix::fs::renameat(&self.fd, c_name(name)?, &self.fd, hidden.as_str())?;
            }
            renamed => renamed?,
        }
        directory.remove_files()?;
        self.remove_directory(&hidden)
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
}

#[cfg(test)]
mod tests;
