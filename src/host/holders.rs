//! Who has a file or a block device in use: loop devices, swap, mounts, other processes.
//!
//! Asked of /sys and /proc alone, by path: nothing here touches the file's storage, which may hang.

use super::MountTable;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
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
    let devices = fs::read_dir(devices).ok()?.filter_map(Result::ok);
    let mut loops = devices.filter(|device| device.file_name().as_bytes().starts_with(b"loop"));
    let found = loops.find(|device| {
        let backing = fs::read(device.path().join("loop/backing_file")).unwrap_or_default();
        backing.strip_suffix(b"\n").unwrap_or(&backing) == path.as_os_str().as_bytes()
    })?;
    Some(found.file_name().to_string_lossy().into_owned())
}

/// Whether a path is in the first column of /proc/swaps, where blanks are octal escapes.
fn is_swap(table: &[u8], path: &Path) -> bool {
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
        .any(|line| line.strip_prefix(&escaped[..]).is_some_and(|rest| rest.first() == Some(&b' ')))
}

/// Who has a block device, its disk or a partition of it in use, for a message ("the mount at
/// /srv", "device dm-3"); none when it cannot be told.
pub fn device_user(device: u64) -> Option<String> {
    let mut numbers = vec![device];
    let own = PathBuf::from(format!("/sys/dev/block/{}", number_text(device)));
    let own = own.canonicalize().unwrap_or(own);
    let mut places = vec![own.clone()];
    // Whoever has a partition has part of its disk; whoever has the disk has all its partitions.
    let parts = fs::read_dir(&own).into_iter().flatten().flatten().map(|entry| entry.path());
    places.extend(parts.filter(|path| path.join("partition").exists()));
    if own.join("partition").exists() {
        places.extend(own.parent().map(Path::to_owned));
    }
    for place in &places {
        let holders = fs::read_dir(place.join("holders")).into_iter().flatten().flatten();
        if let Some(holder) = holders.map(|holder| holder.file_name()).next() {
            return Some(format!("device {}", holder.display()));
        }
        let text = fs::read_to_string(place.join("dev")).unwrap_or_default();
        numbers.extend(text.trim().split_once(':').and_then(|(major, minor)| {
            Some(rustix::fs::makedev(major.parse().ok()?, minor.parse().ok()?))
        }));
    }
    let is_it = |path: &Path| device_number(path).is_some_and(|number| numbers.contains(&number));
    let mounts = MountTable::read().unwrap_or_default();
    let mounted = mounts.iter().find(|mount| {
        let number = rustix::fs::makedev(mount.device.0, mount.device.1);
        numbers.contains(&number) || is_it(Path::new(&mount.source))
    });
    if let Some(mount) = mounted {
        return Some(format!("the mount at {}", mount.target.display()));
    }
    if swaps().iter().any(|path| is_it(path)) {
        return Some("swap".to_owned());
    }
    let devices = fs::read_dir("/sys/block").into_iter().flatten().flatten();
    for device in devices {
        let backing = fs::read(device.path().join("loop/backing_file")).unwrap_or_default();
        if is_it(Path::new(OsStr::from_bytes(backing.strip_suffix(b"\n").unwrap_or(&backing)))) {
            return Some(format!("loop device {}", device.file_name().display()));
        }
    }
    process_where(&is_it)
}

fn number_text(device: u64) -> String {
    format!("{}:{}", rustix::fs::major(device), rustix::fs::minor(device))
}

/// The number of the block device that a path below /dev names. Others are not looked at: their
/// storage may hang.
fn device_number(path: &Path) -> Option<u64> {
    if !path.starts_with("/dev") {
        return None;
    }
    let found = fs::metadata(path).ok()?;
    found.file_type().is_block_device().then(|| found.rdev())
}

/// The paths of swap in use.
fn swaps() -> Vec<PathBuf> {
    let table = fs::read("/proc/swaps").unwrap_or_default();
    let first = |line: &[u8]| line.split(|byte| *byte == b' ').next().map(<[u8]>::to_vec);
    let rows = table.split(|byte| *byte == b'\n').skip(1).filter_map(first);
    rows.map(|path| PathBuf::from(OsString::from_vec(path))).collect()
}

/// Another process that has the file at a path open, for a message ("qemu-nbd, process 123");
/// none when it cannot be told.
pub fn process(path: &Path) -> Option<String> {
    process_where(&|opened| opened == path)
}

/// Another process that has a file open whose path is as wanted.
fn process_where(wanted: &dyn Fn(&Path) -> bool) -> Option<String> {
    let own = std::process::id();
    let processes = fs::read_dir("/proc").ok()?.filter_map(Result::ok);
    let ids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let holder = ids.filter(|id| *id != own).find(|id| has_open(*id, wanted))?;
    let name = fs::read_to_string(format!("/proc/{holder}/comm")).unwrap_or_default();
    let name = name.trim_end().escape_debug().to_string();
    Some(format!("{}, process {holder}", if name.is_empty() { "a program" } else { &name }))
}

fn has_open(process: u32, wanted: &dyn Fn(&Path) -> bool) -> bool {
    let Ok(descriptors) = fs::read_dir(format!("/proc/{process}/fd")) else { return false };
    descriptors
        .filter_map(Result::ok)
        .any(|descriptor| fs::read_link(descriptor.path()).is_ok_and(|target| wanted(&target)))
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
