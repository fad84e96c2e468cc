//! Files and directories in the making: without a name, or under a hidden one, until they are whole.

use super::{Access, Directory, c_name};
use crate::host::files;
use rustix::fs::{AtFlags, CWD, FileType, FlockOperation, Mode, OFlags};
use std::ffi::CStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

/// Names that begin so are files in the making: hidden from listings and swept.
pub const HIDDEN_PREFIX: &str = ".poold-";

pub(super) fn hidden_name() -> String {
    format!("{HIDDEN_PREFIX}{}", uuid::Uuid::new_v4().simple())
}

/// Whether a name is one that [`hidden_name`] makes, not merely somebody's that begins alike.
fn is_hidden_name(name: &CStr) -> bool {
    let rest = name.to_bytes().strip_prefix(HIDDEN_PREFIX.as_bytes());
    rest.is_some_and(|rest| rest.len() == 32 && rest.iter().all(u8::is_ascii_hexdigit))
}

impl Directory {
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

    /// Makes a directory under a hidden name, open to its owner alone.
    pub fn create_temporary_directory(&self) -> io::Result<TemporaryDirectory<'_>> {
        let hidden = hidden_name();
        let made = self.make_directory(&hidden)?;
        rustix::fs::flock(&made, FlockOperation::LockExclusive)?;
        Ok(TemporaryDirectory { directory: self, made, hidden: Some(hidden) })
    }

    /// The same under a hidden name, where the file system has no files without name.
    pub(super) fn create_hidden(&self) -> io::Result<Temporary<'_>> {
        let hidden = hidden_name();
        let flags = OFlags::RDWR | OFlags::CLOEXEC | OFlags::CREATE | OFlags::EXCL;
        let mode = Mode::RUSR | Mode::WUSR;
        let fd = rustix::fs::openat(&self.fd, hidden.as_str(), flags, mode)?;
        let temporary = Temporary { directory: self, file: File::from(fd), hidden: Some(hidden) };
        // Says to a sweep that its maker lives.
        files::claim(&temporary.file)?;
        Ok(temporary)
    }

    /// Removes hidden files whose makers died.
    pub fn sweep(&self) -> io::Result<()> {
        let mut left_over = Vec::new();
        self.for_each_entry(|name, _| {
            if is_hidden_name(name) {
                left_over.push(name.to_owned());
            }
            Ok::<(), io::Error>(())
        })?;
        for name in left_over {
            let Ok(stat) = self.stat_entry(&name) else { continue };
            let (access, remove) = match stat.kind {
                FileType::RegularFile => (Access::ReadWrite, AtFlags::empty()),
                FileType::Directory => (Access::Read, AtFlags::REMOVEDIR),
                _ => continue,
            };
            let Ok(file) = self.open_entry(&name, access) else { continue };
            let abandoned = match access {
                Access::ReadWrite => files::claim(&file).is_ok(),
                Access::Read => {
                    rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok()
                }
            };
            if abandoned {
                use rustix::io::Errno;
                if remove == AtFlags::REMOVEDIR
                    && let Ok(directory) = self.open_directory(&name.to_string_lossy())
                {
                    directory.remove_files()?;
                }
                match rustix::fs::unlinkat(&self.fd, &name, remove) {
                    Ok(()) | Err(Errno::NOENT | Errno::NOTEMPTY) => {}
                    Err(error) => return Err(error.into()),
                }
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
                // Through /proc: AT_EMPTY_PATH needs a capability of its own (CAP_DAC_READ_SEARCH).
                let own = format!("/proc/self/fd/{}", self.file.as_raw_fd());
                rustix::fs::linkat(CWD, own, at, &name, AtFlags::SYMLINK_FOLLOW)?;
            }
        }
        self.directory.sync().inspect_err(|_| {
            // What failed is not there; the first error is what matters.
            let _ = rustix::fs::unlinkat(at, &name, AtFlags::empty());
        })
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

/// A directory in the making; gone when dropped before it is published.
#[derive(Debug)]
pub struct TemporaryDirectory<'a> {
    directory: &'a Directory,
    made: Directory,
    hidden: Option<String>,
}

impl TemporaryDirectory<'_> {
    /// The directory.
    pub fn made(&self) -> &Directory {
        &self.made
    }

    /// Gives it a name that must be free, and waits until the name is on the storage.
    pub fn publish(mut self, name: &str) -> io::Result<()> {
        use rustix::fs::RenameFlags;
        use rustix::io::Errno;
        let name = c_name(name)?;
        let at = &self.directory.fd;
        if let Some(hidden) = &self.hidden {
            let flags = RenameFlags::NOREPLACE;
            match rustix::fs::renameat_with(at, hidden.as_str(), at, &name, flags) {
                // NFS has no such flag; at worst an empty directory made this moment is replaced.
                Err(Errno::INVAL) if self.directory.stat_entry(&name).is_err() => {
                    rustix::fs::renameat(at, hidden.as_str(), at, &name)?;
                }
                result => result?,
            }
        }
        self.hidden = None;
        self.directory.sync().inspect_err(|_| {
            let _ = rustix::fs::unlinkat(at, &name, AtFlags::REMOVEDIR);
        })
    }
}

impl Drop for TemporaryDirectory<'_> {
    fn drop(&mut self) {
        if let Some(hidden) = &self.hidden {
            // A failure leaves a hidden directory, which the next sweep removes.
            let _ = self.made.remove_files();
            let _ = self.directory.remove_directory(hidden);
        }
    }
}
