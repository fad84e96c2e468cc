//! A directory held open, and operations on its entries that cannot leave it.
//!
//! Used by `backend`. It is opened anew for each operation and closed after it: a descriptor that
//! is kept would make an unmount fail.

use super::way::{Trust, distrusted, walk};
use super::{FileStat, files};
use rustix::fs::{AtFlags, CWD, FileType, FlockOperation, Mode, OFlags, RawDir};
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

fn hidden_name() -> String {
    format!("{HIDDEN_PREFIX}{}", uuid::Uuid::new_v4().simple())
}

/// Whether a name is one that [`hidden_name`] makes, not merely somebody's that begins alike.
fn is_hidden_name(name: &CStr) -> bool {
    let rest = name.to_bytes().strip_prefix(HIDDEN_PREFIX.as_bytes());
    rest.is_some_and(|rest| rest.len() == 32 && rest.iter().all(u8::is_ascii_hexdigit))
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
    fn create_hidden(&self) -> io::Result<Temporary<'_>> {
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn place() -> (tempfile::TempDir, Directory) {
        let base = tempfile::tempdir().unwrap();
        let directory = Directory::open(base.path()).unwrap();
        (base, directory)
    }

    #[test]
    fn nothing_outside_the_directory_can_be_named() {
        let (base, directory) = place();
        std::fs::create_dir(base.path().join("sub")).unwrap();
        std::fs::write(base.path().join("sub/file"), "").unwrap();
        std::os::unix::fs::symlink("/etc/passwd", base.path().join("link")).unwrap();
        for name in ["", ".", "..", "sub/file", "../x", "/etc/passwd", "a\0b"] {
            assert!(directory.open_file(name, Access::Read).is_err(), "{name:?}");
            assert!(directory.unlink(name).is_err(), "{name:?}");
            if let Ok(name) = CString::new(name) {
                assert!(directory.open_entry(&name, Access::Read).is_err(), "{name:?}");
            }
            assert!(directory.find(name).is_err(), "{name:?}");
        }
        let error = directory.open_file("link", Access::Read).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ELOOP));
        assert!(directory.find("link").unwrap().unwrap().kind.is_symlink());
    }

    #[test]
    fn a_file_appears_whole_or_not_at_all_with_and_without_files_that_have_no_name() {
        let (base, directory) = place();
        for create in [Directory::create_temporary, Directory::create_hidden] {
            let mut new = create(&directory).unwrap();
            new.file.write_all(b"whole").unwrap();
            drop(create(&directory).unwrap());
            directory.sweep().unwrap();
            new.publish("file").unwrap();
            let taken = create(&directory).unwrap().publish("file").unwrap_err();
            assert_eq!(taken.raw_os_error(), Some(libc::EEXIST));
            assert_eq!(std::fs::read(base.path().join("file")).unwrap(), b"whole");
            assert_eq!(std::fs::read_dir(base.path()).unwrap().count(), 1);
            directory.unlink("file").unwrap();
        }
    }

    #[test]
    fn a_name_that_cannot_be_synced_is_taken_back() {
        let (base, directory) = place();
        // A handle (O_PATH): it makes and names files but cannot sync.
        let fd = rustix::fs::openat(&directory, c".", OFlags::PATH, Mode::empty()).unwrap();
        let handle = Directory { fd, stat: directory.stat };
        for create in [Directory::create_temporary, Directory::create_hidden] {
            create(&handle).unwrap().publish("file").unwrap_err();
        }
        handle.create_temporary_directory().unwrap().publish("sub").unwrap_err();
        assert_eq!(std::fs::read_dir(base.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_directory_with_files_goes_whole_and_one_with_directories_stays() {
        let (base, directory) = place();
        for name in ["files", "nested"] {
            std::fs::create_dir(base.path().join(name)).unwrap();
            std::fs::write(base.path().join(name).join("file"), "x").unwrap();
        }
        std::fs::create_dir(base.path().join("nested/inner")).unwrap();
        directory.remove_with_files("files").unwrap();
        assert!(!base.path().join("files").exists());
        let error = directory.remove_with_files("nested").unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ENOTEMPTY));
        assert!(base.path().join("nested/file").exists());
        assert_eq!(std::fs::read_dir(base.path()).unwrap().count(), 1, "nothing else is left");
        // One that died in the making is swept with what is in it.
        let left = base.path().join(format!("{HIDDEN_PREFIX}{:032x}", 7));
        std::fs::create_dir(&left).unwrap();
        std::fs::write(left.join("file"), "x").unwrap();
        directory.sweep().unwrap();
        assert!(!left.exists());
        // And what is given up goes with it.
        let new = directory.create_temporary_directory().unwrap();
        std::fs::write(new.made().canonical_path().unwrap().join("file"), "x").unwrap();
        drop(new);
        assert_eq!(std::fs::read_dir(base.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_renamed_file_is_the_same_and_a_copy_is_not() {
        let (base, directory) = place();
        std::fs::write(base.path().join("a"), "x").unwrap();
        let identity = super::super::files::identity(File::open(base.path().join("a")).unwrap());
        let identity = identity.unwrap();
        let is = |name: &str, identity: &crate::model::FileIdentity| {
            let file = directory.open_file(name, Access::Read).unwrap();
            let handle = || super::super::files::kernel_handle(&file);
            FileStat::of(&file).unwrap().is(identity, handle)
        };
        std::fs::rename(base.path().join("a"), base.path().join("b")).unwrap();
        std::fs::copy(base.path().join("b"), base.path().join("a")).unwrap();
        assert!(is("b", &identity));
        assert!(!is("a", &identity));
        let nameless = crate::model::FileIdentity { birth: None, ..identity };
        if nameless.handle.is_some() {
            assert!(is("b", &nameless));
            let other = crate::model::FileIdentity { handle: Some(vec![1]), ..nameless };
            assert!(!is("b", &other));
        }
    }
}
