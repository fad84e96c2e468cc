//! Who uses a block device.

use super::{BlockDevice, DeviceNumber};
use crate::host::{Limits, MountTable};
use crate::model::Result;
use rustix::fs::{AtFlags, CWD, FileType, StatxFlags};
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::Duration;

/// How often, and how far apart, a device is asked whether it is free: udev and others look into
/// new ones for a moment.
pub(in crate::host) const LOOKS: u32 = 10;
pub(in crate::host) const PAUSE: Duration = Duration::from_millis(100);

impl BlockDevice {
    /// Who uses it, for a message ("the mount at /srv", "swap", "qemu-nbd, process 12"); none when
    /// nobody does, as far as the kernel says. Whoever has a partition has part of its disk, and
    /// whoever has the disk has all its partitions.
    pub fn user(&self) -> Result<Option<String>> {
        let disk = self.partition().map(|(disk, _)| disk);
        let family = [vec![self.clone()], self.partitions(), disk.into_iter().collect()].concat();
        for device in &family {
            if let Some(user) = device.kernel_user()? {
                return Ok(Some(match device == self {
                    true => user,
                    false => format!("{user} (of {})", device.name),
                }));
            }
        }
        Ok(super::super::holders::process_where(&|opened| {
            number_at(opened).is_some_and(|number| family.iter().any(|own| own.number == number))
        }))
    }

    /// The same, but for those who only look: udev and others open a device that changed for a moment.
    pub fn lasting_user(&self, limits: &Limits) -> Result<Option<String>> {
        for _ in 1..LOOKS {
            if self.user()?.is_none() {
                return Ok(None);
            }
            limits.check()?;
            std::thread::sleep(PAUSE);
        }
        self.user()
    }

    /// The mount, swap, loop device or device on top that uses it itself.
    pub fn kernel_user(&self) -> Result<Option<String>> {
        if let Some(holder) = self.holders().first() {
            return Ok(Some(format!("device {}", holder.title())));
        }
        if let Some(target) = self.mounted_on()? {
            return Ok(Some(format!("the mount at {target}")));
        }
        if self.is_swap() {
            return Ok(Some("swap".to_owned()));
        }
        Ok(self.loop_user())
    }

    /// Where it is mounted in this mount namespace, if it is.
    pub fn mounted_on(&self) -> Result<Option<String>> {
        let table = MountTable::read()?;
        let mount = table.iter().find(|mount| {
            // Some file systems (btrfs) have a number of their own.
            mount.device == (self.number.major, self.number.minor)
                || mount.source.as_bytes().starts_with(b"/dev/")
                    && BlockDevice::at(Path::new(&mount.source)).is_ok_and(|found| found == *self)
        });
        Ok(mount.map(|mount| mount.target.display().to_string()))
    }

    fn is_swap(&self) -> bool {
        let table = fs::read_to_string("/proc/swaps").unwrap_or_default();
        let devices = table.lines().skip(1).filter_map(|line| line.split_whitespace().next());
        devices
            .filter(|path| path.starts_with("/dev/"))
            .any(|path| BlockDevice::at(Path::new(path)).is_ok_and(|found| found == *self))
    }

    /// The loop device whose content it is.
    fn loop_user(&self) -> Option<String> {
        let all = BlockDevice::all().ok()?;
        let device =
            all.iter().filter(|device| device.name.starts_with("loop")).find(|device| {
                let backing = device.attribute("loop/backing_file");
                backing.is_some_and(|backing| Path::new(&backing) == self.node())
            })?;
        Some(format!("loop device {}", device.name))
    }
}

/// The number of the block device that an entry of /proc/PID/fd leads to, as far as the kernel knows it.
fn number_at(opened: &Path) -> Option<DeviceNumber> {
    // Its number decides, as a container may have other names for it; a look at what is no device
    // node could reach a dead server.
    let target = fs::read_link(opened).ok()?;
    if !target.as_os_str().as_bytes().starts_with(b"/dev/") {
        return None;
    }
    let flags = AtFlags::NO_AUTOMOUNT | AtFlags::STATX_DONT_SYNC;
    let stat = rustix::fs::statx(CWD, opened, flags, StatxFlags::TYPE).ok()?;
    let is_block = FileType::from_raw_mode(stat.stx_mode.into()) == FileType::BlockDevice;
    is_block.then_some(DeviceNumber { major: stat.stx_rdev_major, minor: stat.stx_rdev_minor })
}
