//! Who has a file, or something on a mount, in use: loop devices, swap, mounts, other processes.
//!
//! Asked of /sys and /proc alone, by path: nothing here touches the file's storage, which may hang.

use super::MountTable;
use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::path::{Path, PathBuf};

/// Where an open file is, as the kernel sees it now.
pub fn path_of(file: impl AsFd) -> io::Result<PathBuf> {
    fs::read_link(format!("/proc/self/fd/{}", file.as_fd().as_raw_fd()))
}

/// The loop device or swap that uses the file at a path, for a message ("loop device loop3").
pub fn kernel_user(path: &Path) -> Option<String> {
    loop_device(Path::new("/sys/block"), path)
        .map(|name| format!("loop device {name}"))
        .or_else(|| is_swap(&fs::read("/proc/swaps").ok()?, path).then(|| "swap".to_owned()))
}

fn loop_device(devices: &Path, path: &Path) -> Option<String> {
    loop_device_where(devices, &|backing| backing == path)
}

fn loop_device_where(devices: &Path, wanted: &dyn Fn(&Path) -> bool) -> Option<String> {
    use std::os::unix::ffi::OsStrExt;
    let devices = fs::read_dir(devices).ok()?.filter_map(Result::ok);
    let mut loops = devices.filter(|device| device.file_name().as_bytes().starts_with(b"loop"));
    let found = loops.find(|device| {
        let backing = fs::read(device.path().join("loop/backing_file")).unwrap_or_default();
        let backing = backing.strip_suffix(b"\n").unwrap_or(&backing);
        !backing.is_empty() && wanted(Path::new(std::ffi::OsStr::from_bytes(backing)))
    })?;
    Some(found.file_name().to_string_lossy().into_owned())
}

/// Whether a path is in the first column of /proc/swaps, where blanks are octal escapes.
fn is_swap(table: &[u8], path: &Path) -> bool {
    has_swap(table, path, b' ')
}

/// Whether a path with `end` after it begins a row.
fn has_swap(table: &[u8], path: &Path, end: u8) -> bool {
    use std::os::unix::ffi::OsStrExt;
    let mut escaped = Vec::new();
    for byte in path.as_os_str().as_bytes() {
        match byte {
            b' ' | b'\t' | b'\n' | b'\\' => escaped.extend(format!("\\{byte:03o}").bytes()),
            _ => escaped.push(*byte),
        }
    }
    table
        .split(|byte| *byte == b'\n')
        .skip(1)
        .any(|line| line.strip_prefix(&escaped[..]).is_some_and(|rest| rest.first() == Some(&end)))
}

/// Who uses something on the file system mounted at a path, for a message ("the mount at /srv/x/y",
/// "qemu-system-x86, process 123"); none when it cannot be told.
pub fn mount_user(mount_point: &Path) -> Option<String> {
    let inside = |path: &Path| path.starts_with(mount_point);
    let mounts = MountTable::read().unwrap_or_default();
    let beneath = mounts.iter().find(|mount| inside(&mount.target) && mount.target != mount_point);
    if let Some(mount) = beneath {
        return Some(format!("the mount at {}", mount.target.display()));
    }
    if has_swap(&fs::read("/proc/swaps").unwrap_or_default(), mount_point, b'/') {
        return Some("swap".to_owned());
    }
    loop_device_where(Path::new("/sys/block"), &inside)
        .map(|name| format!("loop device {name}"))
        .or_else(|| process_where(&|link| fs::read_link(link).is_ok_and(|to| inside(&to))))
}

/// Whether a process serves the FUSE mount at a path: of those that are not started by hand, such have
/// the path as their last argument.
pub fn is_served(mount_point: &Path) -> bool {
    use std::os::unix::ffi::OsStrExt;
    let processes = fs::read_dir("/proc").into_iter().flatten().filter_map(Result::ok);
    processes.filter_map(|process| fs::read(process.path().join("cmdline")).ok()).any(|line| {
        let mut arguments = line.strip_suffix(b"\0").unwrap_or(&line).split(|byte| *byte == 0);
        arguments.next_back() == Some(mount_point.as_os_str().as_bytes())
    })
}

/// Another process that has the file at a path open, for a message ("qemu-nbd, process 123");
/// none when it cannot be told.
pub fn process(path: &Path) -> Option<String> {
    process_where(&|opened| fs::read_link(opened).is_ok_and(|target| target == path))
}

/// Another process that has something open, runs it or is in it, as wanted; asked for each link in
/// /proc/PID that leads to such.
pub(super) fn process_where(wanted: &dyn Fn(&Path) -> bool) -> Option<String> {
    let own = std::process::id();
    let processes = fs::read_dir("/proc").ok()?.filter_map(Result::ok);
    let ids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let holder = ids.filter(|id| *id != own).find(|id| {
        let own = PathBuf::from(format!("/proc/{id}"));
        let descriptors = fs::read_dir(own.join("fd")).into_iter().flatten();
        let descriptors = descriptors.filter_map(Result::ok).map(|entry| entry.path());
        let links = ["cwd", "root", "exe"].into_iter().map(|link| own.join(link));
        links.chain(descriptors).any(|link| wanted(&link))
    })?;
    let name = fs::read_to_string(format!("/proc/{holder}/comm")).unwrap_or_default();
    let name = name.trim_end().escape_debug().to_string();
    Some(format!("{}, process {holder}", if name.is_empty() { "a program" } else { &name }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};

    #[test]
    fn a_process_that_has_a_file_open_is_named() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let path = path_of(file.as_file()).unwrap();
        assert_eq!(process(&path), None, "this process does not count");
        let stdin = Stdio::from(file.reopen().unwrap());
        let mut child = Command::new("sleep").arg("1000").stdin(stdin).spawn().unwrap();
        let found = process(&path);
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(found.unwrap().ends_with(&format!("process {}", child.id())));
    }

    #[test]
    fn who_serves_a_mount_names_it_last() {
        let point = Path::new("/mnt/a place of its own");
        assert!(!is_served(point));
        let served = ["-c", "read wait", "client"];
        let mut child =
            Command::new("sh").args(served).arg(point).stdin(Stdio::piped()).spawn().unwrap();
        // Until it has become that program, it is this one.
        let found = (0..500).any(|_| {
            std::thread::sleep(std::time::Duration::from_millis(10));
            is_served(point)
        });
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(found);
        assert!(!is_served(point));
    }

    #[test]
    fn a_loop_device_is_found_by_its_backing_file() {
        let base = tempfile::tempdir().unwrap();
        for (device, backing) in [("loop0", "/a\n"), ("loop1", "/pool/an image\n"), ("sda", "")] {
            let directory = base.path().join(device).join("loop");
            fs::create_dir_all(&directory).unwrap();
            fs::write(directory.join("backing_file"), backing).unwrap();
        }
        let find = |path: &str| loop_device(base.path(), Path::new(path));
        assert_eq!(find("/pool/an image").as_deref(), Some("loop1"));
        assert_eq!(find("/pool/an"), None);
    }

    #[test]
    fn swap_files_are_found_with_blanks_in_their_names() {
        let table =
            b"Filename\tType\tSize\n/swap\\040file   file  1 0 -2\n/dev/dm-1 partition 1 0\n";
        assert!(is_swap(table, Path::new("/swap file")));
        assert!(is_swap(table, Path::new("/dev/dm-1")));
        assert!(!is_swap(table, Path::new("/swap")));
        assert!(!is_swap(table, Path::new("Filename")));
    }
}
