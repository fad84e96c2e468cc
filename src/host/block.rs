//! Block devices: what the kernel says of one, who uses it, and by which names it is known.
//!
//! All of it is read from /sys, /proc and the names in /dev: nothing here does I/O on a device, which
//! may hang. Used by `backend`.

pub mod partitions;
pub(super) mod user;

use super::FileStat;
use rustix::fs::FileType;
use std::collections::BTreeMap;
use std::fmt;
use std::fs::{self, File};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// The kernel's sector, in which sysfs counts.
const SECTOR: u64 = 512;

/// What the device mapper's uuid of a multipath device begins with; a partition's begins with
/// `partN-`.
pub const MULTIPATH: &str = "mpath-";

/// Major and minor number of a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeviceNumber {
    /// Major.
    pub major: u32,
    /// Minor.
    pub minor: u32,
}

impl DeviceNumber {
    /// From the kernel's `dev_t`.
    pub fn from_raw(device: u64) -> Self {
        Self { major: rustix::fs::major(device), minor: rustix::fs::minor(device) }
    }

    /// From `8:1`, as sysfs has it.
    pub fn parse(text: &str) -> Option<Self> {
        let (major, minor) = text.trim().split_once(':')?;
        Some(Self { major: major.parse().ok()?, minor: minor.parse().ok()? })
    }
}

impl fmt::Display for DeviceNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.major, self.minor)
    }
}

/// A block device that the kernel has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlockDevice {
    /// Its number.
    pub number: DeviceNumber,
    /// The kernel's name ("sda1", "dm-3").
    pub name: String,
    /// Its directory in sysfs, without symbolic links.
    sys: PathBuf,
}

/// Where a partition lies on its disk, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PartitionPlace {
    /// Number in the partition table.
    pub number: u32,
    /// First byte.
    pub start: u64,
    /// Length.
    pub size: u64,
}

impl BlockDevice {
    /// The device that a path leads to, links followed; ENOTBLK when that is no block device.
    pub fn at(path: &Path) -> io::Result<Self> {
        // Only looked at: a device whose storage is gone cannot hold this up.
        let meta = fs::metadata(path)?;
        match meta.mode() & libc::S_IFMT {
            libc::S_IFBLK => Self::numbered(DeviceNumber::from_raw(meta.rdev())),
            _ => Err(io::Error::from_raw_os_error(libc::ENOTBLK)),
        }
    }

    /// The device that is open.
    pub fn of(file: impl AsFd) -> io::Result<Self> {
        let stat = rustix::fs::fstat(file)?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::BlockDevice => Self::numbered(DeviceNumber::from_raw(stat.st_rdev)),
            _ => Err(io::Error::from_raw_os_error(libc::ENOTBLK)),
        }
    }

    /// The device of a number; `NotFound` when the kernel has none.
    pub fn numbered(number: DeviceNumber) -> io::Result<Self> {
        Self::in_sysfs(&Path::new("/sys/dev/block").join(number.to_string()))
    }

    /// The device of the kernel's name.
    pub fn named(name: &str) -> io::Result<Self> {
        if name.is_empty() || name.starts_with('.') || name.contains('/') {
            return Err(io::ErrorKind::NotFound.into());
        }
        Self::in_sysfs(&Path::new("/sys/class/block").join(name))
    }

    fn in_sysfs(link: &Path) -> io::Result<Self> {
        let sys = fs::canonicalize(link)?;
        let number = fs::read_to_string(sys.join("dev"))?;
        let number = DeviceNumber::parse(&number).ok_or(io::ErrorKind::InvalidData)?;
        let name = sys.file_name().and_then(|name| name.to_str());
        let name = name.ok_or(io::ErrorKind::InvalidData)?.to_owned();
        Ok(Self { number, name, sys })
    }

    /// All block devices, in the order of their names.
    pub fn all() -> io::Result<Vec<Self>> {
        let mut names: Vec<_> =
            fs::read_dir("/sys/class/block")?.filter_map(Result::ok).map(|e| e.path()).collect();
        names.sort();
        // One that goes meanwhile is none.
        Ok(names.iter().filter_map(|path| Self::in_sysfs(path).ok()).collect())
    }

    /// The kernel's node for it, whatever other names it has.
    pub fn node(&self) -> PathBuf {
        Path::new("/dev").join(self.name.replace('!', "/"))
    }

    /// Its directory in sysfs, without symbolic links: it tells the bus and the adapter.
    pub fn sysfs(&self) -> &Path {
        &self.sys
    }

    /// An attribute in sysfs, without white space around it; none when there is no such.
    pub fn attribute(&self, name: &str) -> Option<String> {
        let text = fs::read_to_string(self.sys.join(name)).ok()?;
        Some(text.trim().to_owned())
    }

    fn count(&self, name: &str) -> io::Result<u64> {
        let text = fs::read_to_string(self.sys.join(name))?;
        text.trim().parse().map_err(|_| io::ErrorKind::InvalidData.into())
    }

    /// Its size in bytes.
    pub fn size(&self) -> io::Result<u64> {
        self.count("size")?.checked_mul(SECTOR).ok_or(io::ErrorKind::InvalidData.into())
    }

    /// Whether it can only be read.
    pub fn read_only(&self) -> bool {
        self.attribute("ro").as_deref() == Some("1")
    }

    /// The disk that it is a partition of, and where on it.
    pub fn partition(&self) -> Option<(Self, PartitionPlace)> {
        let number = self.count("partition").ok()?;
        let start = self.count("start").ok()?.checked_mul(SECTOR)?;
        let place =
            PartitionPlace { number: number.try_into().ok()?, start, size: self.size().ok()? };
        Some((Self::in_sysfs(self.sys.parent()?).ok()?, place))
    }

    /// Its partitions that the kernel knows, in the order of their numbers.
    pub fn partitions(&self) -> Vec<Self> {
        let Ok(entries) = fs::read_dir(&self.sys) else { return Vec::new() };
        let children = entries.filter_map(Result::ok).map(|entry| entry.path());
        let mut found: Vec<(u64, Self)> = children
            .filter(|path| path.join("partition").exists())
            .filter_map(|path| Self::in_sysfs(&path).ok())
            .filter_map(|device| Some((device.count("partition").ok()?, device)))
            .collect();
        found.sort_by_key(|(number, _)| *number);
        found.into_iter().map(|(_, device)| device).collect()
    }

    /// The devices that are built on it (device mapper, md, bcache).
    pub fn holders(&self) -> Vec<Self> {
        self.related("holders")
    }

    /// The devices that it is built on.
    pub fn slaves(&self) -> Vec<Self> {
        self.related("slaves")
    }

    fn related(&self, how: &str) -> Vec<Self> {
        let Ok(entries) = fs::read_dir(self.sys.join(how)) else { return Vec::new() };
        let links = entries.filter_map(Result::ok).map(|entry| entry.path());
        links.filter_map(|path| Self::in_sysfs(&path).ok()).collect()
    }

    /// Name and uuid in the device mapper ("vg0-data", "LVM-..." or "mpath-..."), if it is one of its
    /// devices.
    pub fn mapped(&self) -> Option<(String, String)> {
        Some((self.attribute("dm/name")?, self.attribute("dm/uuid")?))
    }

    /// Why it, or a device that it is built on, answers nothing: whoever reads it now waits for that to
    /// end.
    pub fn why_dead(&self) -> Option<&'static str> {
        if self.attribute("dm/suspended").as_deref() == Some("1") {
            return Some("is suspended");
        }
        match self.attribute("device/state").as_deref() {
            Some("offline" | "transport-offline" | "cancel" | "deleted") => {
                return Some("is offline");
            }
            Some("blocked") => return Some("is blocked"),
            _ => {}
        }
        // Of several paths to one device, any that lives will do.
        let mut below = self.slaves();
        if self.mapped().is_some_and(|(_, uuid)| uuid.starts_with(MULTIPATH))
            && below.iter().any(|path| path.why_dead().is_none())
        {
            below.clear();
        }
        let disk = self.partition().map(|(disk, _)| disk);
        below.iter().chain(&disk).find_map(Self::why_dead)
    }

    /// The multipath device that it is a path of: whoever uses it uses that.
    pub fn multipath(&self) -> Option<Self> {
        let is_one =
            |device: &Self| device.mapped().is_some_and(|(_, uuid)| uuid.starts_with(MULTIPATH));
        self.holders().into_iter().find(is_one)
    }

    /// A name for people: the device mapper's where it has one.
    pub fn title(&self) -> String {
        match self.mapped() {
            Some((name, _)) => name,
            None => self.name.clone(),
        }
    }

    /// Opens its node; with `exclusively`, EBUSY when the kernel uses it (mounted, in a RAID, swap),
    /// and nobody mounts it while it is open.
    pub fn open(&self, write: bool, exclusively: bool) -> io::Result<File> {
        let flags = libc::O_NONBLOCK | libc::O_NOCTTY | if exclusively { libc::O_EXCL } else { 0 };
        let file = File::options().read(true).write(write).custom_flags(flags).open(self.node())?;
        // Another device may have taken the name since.
        match Self::of(&file)? == *self {
            true => Ok(file),
            false => Err(io::ErrorKind::NotFound.into()),
        }
    }

    /// What udev knows of it (`ID_SERIAL`), as udev's database has it; none before udev has looked at
    /// it, or where no udev runs.
    pub fn udev_property(&self, name: &str) -> Option<String> {
        let database = fs::read_to_string(self.udev_record()).ok()?;
        let mut properties = database.lines().filter_map(|line| line.strip_prefix("E:"));
        properties.find_map(|pair| Some(pair.strip_prefix(name)?.strip_prefix('=')?.to_owned()))
    }

    /// Whether udev has made all names of it, or none runs that would.
    pub fn is_named_by_udev(&self) -> bool {
        !Path::new("/run/udev/control").exists() || self.udev_record().exists()
    }

    fn udev_record(&self) -> PathBuf {
        PathBuf::from(format!("/run/udev/data/b{}", self.number))
    }

    /// What its node says: owner, mode and times.
    pub fn stat(&self) -> io::Result<FileStat> {
        FileStat::at(&self.node())
    }
}

/// The names of devices in a directory of names, as /dev/disk/by-path: of several of one device, the
/// first.
pub fn names_in(directory: &Path) -> io::Result<BTreeMap<DeviceNumber, PathBuf>> {
    let mut names: Vec<PathBuf> =
        fs::read_dir(directory)?.filter_map(Result::ok).map(|entry| entry.path()).collect();
    names.sort_unstable();
    let mut found = BTreeMap::new();
    for name in names {
        let Ok(meta) = fs::metadata(&name) else { continue };
        if meta.mode() & libc::S_IFMT == libc::S_IFBLK {
            found.entry(DeviceNumber::from_raw(meta.rdev())).or_insert(name);
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read() {
        assert_eq!(DeviceNumber::parse("8:17\n"), Some(DeviceNumber { major: 8, minor: 17 }));
        assert_eq!(DeviceNumber::parse("8"), None);
        assert_eq!(DeviceNumber { major: 253, minor: 3 }.to_string(), "253:3");
    }

    #[test]
    fn every_device_of_this_machine_is_the_one_of_its_number_and_node() {
        let all = BlockDevice::all().unwrap();
        for device in &all {
            assert_eq!(BlockDevice::numbered(device.number).unwrap(), *device);
            assert_eq!(BlockDevice::named(&device.name).unwrap(), *device);
            device.size().unwrap();
            if let Ok(found) = BlockDevice::at(&device.node()) {
                assert_eq!(found, *device, "{}", device.node().display());
            }
        }
        println!("{} devices", all.len());
    }

    #[test]
    fn what_is_no_device_is_told_from_what_is_not_there() {
        let no_device = BlockDevice::at(Path::new("/dev/null")).unwrap_err();
        assert_eq!(no_device.raw_os_error(), Some(libc::ENOTBLK));
        let gone = BlockDevice::at(Path::new("/dev/no such device")).unwrap_err();
        assert_eq!(gone.kind(), io::ErrorKind::NotFound);
        assert!(BlockDevice::named("../block").is_err());
    }
}
