//! QEMU's image locks: bytes 100 and on of an image say what its holder does, bytes 200 and on
//! what it lets nobody else do (`block/file-posix.c` of QEMU).
//!
//! They belong to the open file, which a child that is being started shares until it runs its
//! program: so they are released, not left to the closing of the file.

use nix::fcntl::{FcntlArg, fcntl};
use std::io;
use std::os::fd::AsFd;

/// First byte of both ranges.
const FIRST: i64 = 100;
/// Bytes up to the end of the second range.
const LENGTH: i64 = 200;
/// Permissions that have a byte: consistent read, write, unchanged write, resize.
const PERMISSIONS: i64 = 4;
/// First byte of what nobody else may do.
const UNSHARED: i64 = 200;

fn range(kind: libc::c_int, start: i64, length: i64) -> libc::flock {
    libc::flock {
        l_type: kind as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: start,
        l_len: length,
        l_pid: 0,
    }
}

/// Whether a file system without locks said so.
fn has_no_locks(error: nix::Error) -> bool {
    use nix::Error as E;
    matches!(error, E::ENOLCK | E::EOPNOTSUPP | E::ENOSYS | E::EINVAL)
}

/// Whether anybody else has the image open as QEMU does. Where the file system has no locks,
/// nobody can say so.
pub fn is_held(file: impl AsFd) -> io::Result<bool> {
    is_taken(file, FIRST, LENGTH)
}

fn is_taken(file: impl AsFd, start: i64, length: i64) -> io::Result<bool> {
    let mut probe = range(libc::F_WRLCK, start, length);
    match fcntl(file, FcntlArg::F_OFD_GETLK(&mut probe)) {
        Ok(_) => Ok(i32::from(probe.l_type) != libc::F_UNLCK),
        Err(error) if has_no_locks(error) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// An image that is locked until this is dropped.
#[derive(Debug)]
pub struct Held<F: AsFd>(F);

impl<F: AsFd> Held<F> {
    /// The image.
    pub fn get(&self) -> &F {
        &self.0
    }

    /// The image, which stays locked until its open file is closed everywhere.
    pub fn keep(self) -> F {
        let kept = std::mem::ManuallyDrop::new(self);
        // SAFETY: `kept` is neither used nor dropped after this, so the file has one owner.
        unsafe { std::ptr::read(&raw const kept.0) }
    }
}

impl<F: AsFd> Drop for Held<F> {
    fn drop(&mut self) {
        // A failure leaves the lock to the closing of the file.
        let _ = fcntl(&self.0, FcntlArg::F_OFD_SETLK(&range(libc::F_UNLCK, FIRST, LENGTH)));
    }
}

/// Takes a range; false when somebody has taken it for himself.
fn set(file: impl AsFd, start: i64, length: i64) -> io::Result<bool> {
    match fcntl(file, FcntlArg::F_OFD_SETLK(&range(libc::F_RDLCK, start, length))) {
        Ok(_) => Ok(true),
        Err(nix::Error::EAGAIN | nix::Error::EACCES) => Ok(false),
        Err(error) if has_no_locks(error) => Ok(true),
        Err(error) => Err(error.into()),
    }
}

/// Takes the image for this process alone; none when somebody has it open.
pub fn hold<F: AsFd>(file: F) -> io::Result<Option<Held<F>>> {
    let held = Held(file);
    let free = set(&held.0, FIRST, PERMISSIONS)?
        && set(&held.0, UNSHARED, PERMISSIONS)?
        && !is_held(&held.0)?;
    Ok(free.then_some(held))
}

/// Says that the image is read and must not change meanwhile; none when somebody may write it.
pub fn hold_unchanged<F: AsFd>(file: F) -> io::Result<Option<Held<F>>> {
    /// Permissions to write and to change the size.
    const WRITERS: [i64; 2] = [1, 3];
    let held = Held(file);
    set(&held.0, FIRST, 1)?;
    for writer in WRITERS {
        let free = set(&held.0, UNSHARED + writer, 1)? && !is_taken(&held.0, FIRST + writer, 1)?;
        if !free {
            return Ok(None);
        }
    }
    Ok(Some(held))
}

/// Says that the image is read: nobody takes it for himself meanwhile. As QEMU has it, readers and
/// a writer who lets others read go together.
pub fn mark_read<F: AsFd>(file: F) -> io::Result<Held<F>> {
    let held = Held(file);
    set(&held.0, FIRST, 1)?;
    Ok(held)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{BufRead, BufReader, Write};
    use std::process::{Child, Command, Stdio};

    fn image() -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(1 << 20).unwrap();
        file
    }

    /// qemu-io with an image open: it answers a command once the image is.
    fn qemu_io(path: &std::path::Path, options: &[&str]) -> Child {
        let mut child = Command::new("qemu-io")
            .args(options)
            .args(["-f", "raw"])
            .arg(path)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        child.stdin.as_mut().unwrap().write_all(b"length\n").unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        assert!(line.contains("MiB"), "{line}");
        child
    }

    #[test]
    fn an_image_that_qemu_has_open_is_held() {
        let image = image();
        let ours = image.reopen().unwrap();
        assert!(!is_held(&ours).unwrap());
        for options in [&[][..], &["-r"]] {
            let mut qemu = qemu_io(image.path(), options);
            assert!(is_held(&ours).unwrap(), "{options:?}");
            assert!(hold(&ours).unwrap().is_none(), "{options:?}");
            qemu.kill().unwrap();
            qemu.wait().unwrap();
            assert!(!is_held(&ours).unwrap(), "{options:?}");
        }
    }

    #[test]
    fn qemu_does_not_open_an_image_that_is_held() {
        let image = image();
        let ours = image.reopen().unwrap();
        let open = || {
            let command = ["-f", "raw", "-c", "length"];
            Command::new("qemu-io").args(command).arg(image.path()).output().unwrap()
        };
        let held = hold(&ours).unwrap().unwrap();
        let refused = open();
        let said = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(!refused.status.success() && said.contains("lock"), "{said}");
        drop(held);
        assert!(open().status.success());
    }

    #[test]
    fn readers_go_together_and_keep_others_from_taking_the_image() {
        let image = image();
        let (one, other) = (image.reopen().unwrap(), image.reopen().unwrap());
        let first = mark_read(&one).unwrap();
        let second = mark_read(&other).unwrap();
        assert!(hold(&image.reopen().unwrap()).unwrap().is_none());
        drop((first, second));
        assert!(hold(&other).unwrap().is_some());
    }

    #[test]
    fn two_holders_exclude_each_other() {
        let image = image();
        let (one, other) = (image.reopen().unwrap(), image.reopen().unwrap());
        let held = hold(&one).unwrap();
        assert!(held.is_some() && hold(&other).unwrap().is_none());
        drop(held);
        assert!(hold(&other).unwrap().is_some());
    }

    #[test]
    fn a_child_that_shares_the_open_file_does_not_keep_the_lock() {
        let image = image();
        let held = hold(image.reopen().unwrap()).unwrap().unwrap();
        let stdin = Stdio::from(held.0.try_clone().unwrap());
        let mut child = Command::new("sleep").arg("1000").stdin(stdin).spawn().unwrap();
        drop(held);
        let free = hold(image.as_file()).unwrap().is_some();
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(free);
    }
}
