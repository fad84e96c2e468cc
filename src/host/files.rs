//! Open files: what they are, which file it is, and what may be changed through the descriptor.
//!
//! Used by `image` and `backend`. Functions answer `std::io::Result`: the caller knows the object
//! that a message has to name.

use crate::model::{FileIdentity, Permissions, Usage};
use rustix::fs::{
    AtFlags, CWD, FallocateFlags, FileType, Gid, IFlags, Mode, Statx, StatxFlags, Uid, XattrFlags,
};
use std::fs::File;
use std::io::{self, Seek, SeekFrom, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::path::Path;

/// What the kernel says of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileStat {
    /// Type.
    pub kind: FileType,
    /// Permission bits.
    pub mode: u32,
    /// Owner's uid.
    pub owner: u32,
    /// Group's gid.
    pub group: u32,
    /// Device number, opaque.
    pub device: u64,
    /// Inode number.
    pub inode: u64,
    /// The mount it was reached by, where the kernel says it.
    pub mount_id: Option<u64>,
    /// Bytes.
    pub size: u64,
    /// Bytes that it takes.
    pub allocated: u64,
    /// Last access (seconds, nanoseconds).
    pub atime: (i64, u32),
    /// Last modification.
    pub mtime: (i64, u32),
    /// Last change of the inode.
    pub ctime: (i64, u32),
    /// Creation, where the file system knows it.
    pub btime: Option<(i64, u32)>,
}

impl FileStat {
    /// Of the entry `name` of a directory, a symbolic link itself; empty: of `at` itself.
    pub(super) fn read(at: impl AsFd, name: &std::ffi::CStr) -> io::Result<Self> {
        let flags = AtFlags::EMPTY_PATH | AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT;
        let mask = StatxFlags::BASIC_STATS | StatxFlags::BTIME | StatxFlags::MNT_ID;
        Ok(Self::from(rustix::fs::statx(at, name, flags, mask)?))
    }

    /// Of what a path leads to, links followed.
    pub fn at(path: &Path) -> io::Result<Self> {
        let mask = StatxFlags::BASIC_STATS | StatxFlags::BTIME | StatxFlags::MNT_ID;
        Ok(Self::from(rustix::fs::statx(CWD, path, AtFlags::NO_AUTOMOUNT, mask)?))
    }

    /// Last modification, µs since the epoch.
    pub fn modified(&self) -> u64 {
        let (seconds, nanoseconds) = self.mtime;
        let seconds = u64::try_from(seconds).unwrap_or(0);
        seconds.saturating_mul(1_000_000).saturating_add(u64::from(nanoseconds / 1000))
    }

    /// Of an open file.
    pub fn of(file: impl AsFd) -> io::Result<Self> {
        Self::read(file, c"")
    }

    /// Whether this is the file whose identity was recorded. `handle` reads its kernel handle,
    /// which is asked for only where there is no birth time to compare.
    pub fn is(&self, identity: &FileIdentity, handle: impl FnOnce() -> Option<Vec<u8>>) -> bool {
        self.inode == identity.inode
            && match (self.btime, identity.birth) {
                (Some(found), Some(recorded)) => found == recorded,
                _ => handle() == identity.handle,
            }
    }
}

impl From<Statx> for FileStat {
    fn from(stat: Statx) -> Self {
        let time = |t: rustix::fs::StatxTimestamp| (t.tv_sec, t.tv_nsec);
        let has = |flag: StatxFlags| stat.stx_mask & flag.bits() != 0;
        Self {
            kind: FileType::from_raw_mode(stat.stx_mode.into()),
            mode: u32::from(stat.stx_mode) & 0o7777,
            owner: stat.stx_uid,
            group: stat.stx_gid,
            device: rustix::fs::makedev(stat.stx_dev_major, stat.stx_dev_minor),
            inode: stat.stx_ino,
            mount_id: has(StatxFlags::MNT_ID).then_some(stat.stx_mnt_id),
            size: stat.stx_size,
            allocated: stat.stx_blocks.saturating_mul(512),
            atime: time(stat.stx_atime),
            mtime: time(stat.stx_mtime),
            ctime: time(stat.stx_ctime),
            btime: has(StatxFlags::BTIME).then(|| time(stat.stx_btime)),
        }
    }
}

/// A path by which a program that this process runs opens what it has open itself, with or without
/// a name.
pub fn own_path(file: impl AsFd) -> String {
    format!("/proc/{}/fd/{}", std::process::id(), file.as_fd().as_raw_fd())
}

/// Which file it is, to be recognised later whatever its name.
pub fn identity(file: impl AsFd) -> io::Result<FileIdentity> {
    let stat = FileStat::of(&file)?;
    Ok(FileIdentity { inode: stat.inode, birth: stat.btime, handle: kernel_handle(file) })
}

/// Longest kernel file handle (MAX_HANDLE_SZ).
const MAX_HANDLE: usize = 128;

/// The kernel's handle of an open file: its type (four bytes) and content; none where the file
/// system has no handles.
pub fn kernel_handle(file: impl AsFd) -> Option<Vec<u8>> {
    #[repr(C)]
    struct Handle {
        bytes: u32,
        kind: i32,
        content: [u8; MAX_HANDLE],
    }
    let mut handle = Handle { bytes: MAX_HANDLE as u32, kind: 0, content: [0; MAX_HANDLE] };
    let mut mount: libc::c_int = 0;
    // SAFETY: the descriptor and the empty, terminated path live through the call; `handle` has
    // the kernel's layout of `struct file_handle` and room for as many bytes as it says.
    let result = unsafe {
        libc::syscall(
            libc::SYS_name_to_handle_at,
            file.as_fd().as_raw_fd(),
            c"".as_ptr(),
            &raw mut handle,
            &raw mut mount,
            libc::AT_EMPTY_PATH,
        )
    };
    let length = usize::try_from(handle.bytes).ok()?;
    let content = handle.content.get(..length)?;
    (result == 0).then(|| [&handle.kind.to_le_bytes()[..], content].concat())
}

/// Sets what `permissions` say of owner, group, mode and label, the mode last.
pub fn set_permissions(file: impl AsFd, permissions: &Permissions) -> io::Result<()> {
    let owner = permissions.owner.map(Uid::from_raw);
    let group = permissions.group.map(Gid::from_raw);
    if owner.is_some() || group.is_some() {
        rustix::fs::fchown(&file, owner, group)?;
    }
    if let Some(label) = &permissions.label {
        let value = [label.as_bytes(), b"\0"].concat();
        rustix::fs::fsetxattr(&file, "security.selinux", &value, XattrFlags::empty())?;
    }
    if let Some(mode) = permissions.mode {
        rustix::fs::fchmod(&file, Mode::from_raw_mode(mode & 0o7777))?;
    }
    Ok(())
}

/// Takes a file in the making for whoever has it open here; fails when somebody has taken it.
///
/// On a byte that no image has: on a network file system a lock of the whole file (flock) would
/// stand against those that QEMU takes.
pub fn claim(file: impl AsFd) -> io::Result<()> {
    const BYTE: i64 = 1 << 62;
    let lock = libc::flock {
        l_type: libc::F_WRLCK as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: BYTE,
        l_len: 1,
        l_pid: 0,
    };
    nix::fcntl::fcntl(file, nix::fcntl::FcntlArg::F_OFD_SETLK(&lock))?;
    Ok(())
}

/// Whether the kernel enforces or watches SELinux labels.
pub fn has_labels() -> bool {
    std::path::Path::new("/sys/fs/selinux/enforce").exists()
}

/// The SELinux label of an open file, if it has one.
pub fn label(file: impl AsFd) -> Option<String> {
    /// Longer ones are the kernel's to refuse.
    const LONGEST: usize = 1024;
    let mut value = [0; LONGEST];
    let length = rustix::fs::fgetxattr(file, "security.selinux", &mut value[..]).ok()?;
    let text = std::str::from_utf8(value.get(..length)?).ok()?;
    Some(text.trim_end_matches('\0').to_owned())
}

/// Switches copy-on-write of an empty file or directory on or off, where the file system (btrfs)
/// has that; elsewhere `false`.
pub fn set_copy_on_write(file: impl AsFd, on: bool) -> io::Result<bool> {
    let unsupported = |error: &rustix::io::Errno| {
        use rustix::io::Errno;
        matches!(*error, Errno::NOTTY | Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL)
    };
    let change = || {
        let mut flags = rustix::fs::ioctl_getflags(&file)?;
        flags.set(IFlags::NOCOW, !on);
        rustix::fs::ioctl_setflags(&file, flags)
    };
    match change() {
        Ok(()) => Ok(true),
        Err(error) if unsupported(&error) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Whether copy-on-write of a file is switched off.
pub fn has_no_copy_on_write(file: impl AsFd) -> bool {
    rustix::fs::ioctl_getflags(file).is_ok_and(|flags| flags.contains(IFlags::NOCOW))
}

/// Allocates a range without writing it, the file growing as needed; `false` where the file
/// system cannot.
pub fn allocate(file: impl AsFd, offset: u64, length: u64) -> io::Result<bool> {
    use rustix::io::Errno;
    loop {
        match rustix::fs::fallocate(&file, FallocateFlags::empty(), offset, length) {
            Ok(()) => return Ok(true),
            Err(Errno::INTR) => {}
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => return Ok(false),
            Err(error) => return Err(error.into()),
        }
    }
}

/// Writes zeros over a range.
pub fn write_zeros(mut file: &File, offset: u64, length: u64) -> io::Result<()> {
    static ZEROS: [u8; 1 << 18] = [0; 1 << 18];
    file.seek(SeekFrom::Start(offset))?;
    let mut left = length;
    while left > 0 {
        let step = left.min(ZEROS.len() as u64);
        file.write_all(&ZEROS[..step as usize])?;
        left -= step;
    }
    Ok(())
}

/// Room on the file system that `file` is on.
pub fn usage(file: impl AsFd) -> io::Result<Usage> {
    let stat = rustix::fs::fstatvfs(file)?;
    let capacity = stat.f_blocks.saturating_mul(stat.f_frsize);
    let available = stat.f_bavail.saturating_mul(stat.f_frsize);
    Ok(Usage { capacity, allocation: capacity.saturating_sub(available), available })
}

/// Bytes of a block device.
pub fn device_size(file: impl AsFd) -> io::Result<u64> {
    Ok(rustix::fs::seek(file, rustix::fs::SeekFrom::End(0))?)
}
