//! Events of devices: what appears, changes and goes, as udev tells it after it has made the names,
//! or the kernel where no udev runs.
//!
//! Called by `engine`; the format of udev's messages is that of libudev (`udev_monitor_netlink_header`
//! in systemd's sources).

use super::netlink::Netlink;
use crate::model::{Error, Result};
use nix::sys::socket::SockProtocol;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Multicast groups of NETLINK_KOBJECT_UEVENT.
const KERNEL: u32 = 1;
const UDEV: u32 = 2;
/// How much may wait to be read: a host with many disks tells thousands at once.
const QUEUE: usize = 8 << 20;

/// Something that happened to a device.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DeviceEvent {
    properties: BTreeMap<String, String>,
}

impl DeviceEvent {
    /// One with these properties, as `NAME=VALUE`.
    pub fn of<'a>(properties: impl IntoIterator<Item = &'a str>) -> Self {
        let pairs = properties.into_iter().filter_map(|pair| pair.split_once('='));
        Self { properties: pairs.map(|(k, v)| (k.to_owned(), v.to_owned())).collect() }
    }

    /// A property (`DEVNAME`, `DM_VG_NAME`, `ID_FS_TYPE`).
    pub fn property(&self, name: &str) -> Option<&str> {
        self.properties.get(name).map(String::as_str)
    }

    /// Whether it is about a block device.
    pub fn is_block(&self) -> bool {
        self.property("SUBSYSTEM") == Some("block")
    }

    /// Whether the device is gone.
    pub fn is_removal(&self) -> bool {
        self.property("ACTION") == Some("remove")
    }

    /// The kernel's name of the device ("sda1").
    pub fn name(&self) -> Option<&str> {
        self.property("DEVPATH")?.rsplit('/').next()
    }

    /// Whether the device has or had this path in /dev.
    pub fn is_named(&self, path: &Path) -> bool {
        self.paths().any(|own| own == path)
    }

    /// All paths of the device: its node, then the links to it.
    pub fn paths(&self) -> impl Iterator<Item = PathBuf> {
        let node = self.property("DEVNAME").map(|name| Path::new("/dev").join(name));
        let links = self.property("DEVLINKS").unwrap_or_default();
        node.into_iter().chain(links.split_whitespace().map(PathBuf::from))
    }

    /// From a message of the kernel (`add@/devices/...`, then the properties) or of udev.
    fn parse(message: &[u8]) -> Option<Self> {
        let properties = match message.strip_prefix(b"libudev\0") {
            None => message.splitn(2, |byte| *byte == 0).nth(1)?,
            Some(header) => {
                let word = |at: usize| <[u8; 4]>::try_from(header.get(at..at + 4)?).ok();
                if u32::from_be_bytes(word(0)?) != 0xfeed_cafe {
                    return None;
                }
                let (start, length) = (u32::from_ne_bytes(word(8)?), u32::from_ne_bytes(word(12)?));
                let start = usize::try_from(start).ok()?;
                message.get(start..start.checked_add(usize::try_from(length).ok()?)?)?
            }
        };
        let texts = properties.split(|byte| *byte == 0);
        Some(Self::of(texts.filter_map(|text| std::str::from_utf8(text).ok())))
    }
}

/// Events of all devices.
#[derive(Debug)]
pub struct DeviceEvents(Netlink);

impl DeviceEvents {
    /// Listens from now on; to be made inside the tokio runtime.
    pub fn new() -> Result<Self> {
        let group = if Path::new("/run/udev/control").exists() { UDEV } else { KERNEL };
        Netlink::listen(SockProtocol::NetlinkKObjectUEvent, group, QUEUE)
            .map(Self)
            .map_err(|error| Error::io("cannot listen for devices", &error))
    }

    /// The next event; none when some were lost, so that anything may have happened. Safe to cancel.
    pub async fn next(&self) -> Result<Option<DeviceEvent>> {
        loop {
            let message = self.0.next().await;
            match message.map_err(|error| Error::io("cannot listen for devices", &error))? {
                None => return Ok(None),
                Some(message) => {
                    if let Some(event) = DeviceEvent::parse(&message) {
                        return Ok(Some(event));
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As udev 252 sends it: header of 40 bytes, then the properties.
    fn of_udev(properties: &[u8]) -> Vec<u8> {
        let mut message = b"libudev\0".to_vec();
        message.extend(0xfeed_cafe_u32.to_be_bytes());
        for word in [40, 40, properties.len() as u32, 0, 0, 0, 0] {
            message.extend(word.to_ne_bytes());
        }
        message.extend(properties);
        message
    }

    const PROPERTIES: &[u8] = b"ACTION=add\0DEVPATH=/devices/virtual/block/dm-3\0SUBSYSTEM=block\0\
        DEVNAME=/dev/dm-3\0DM_VG_NAME=vg0\0DEVLINKS=/dev/vg0/data /dev/mapper/vg0-data\0";

    #[test]
    fn messages_of_udev_and_of_the_kernel_are_read() {
        let by_kernel = [b"add@/devices/virtual/block/dm-3\0", PROPERTIES].concat();
        for message in [of_udev(PROPERTIES), by_kernel] {
            let event = DeviceEvent::parse(&message).unwrap();
            assert!(event.is_block() && !event.is_removal());
            assert_eq!(event.name(), Some("dm-3"));
            assert_eq!(event.property("DM_VG_NAME"), Some("vg0"));
            for path in ["/dev/dm-3", "/dev/vg0/data", "/dev/mapper/vg0-data"] {
                assert!(event.is_named(Path::new(path)), "{path}");
            }
            assert!(!event.is_named(Path::new("/dev/vg0/other")));
        }
    }

    #[test]
    fn messages_that_are_none_are_no_events() {
        let mut wrong = of_udev(PROPERTIES);
        wrong[8] = 0;
        assert_eq!(DeviceEvent::parse(&wrong), None);
        let mut beyond = of_udev(PROPERTIES);
        beyond[20..24].copy_from_slice(&u32::MAX.to_ne_bytes());
        assert_eq!(DeviceEvent::parse(&beyond), None);
        for bytes in [&b""[..], b"libudev", b"libudev\0", b"\xff\xff"] {
            assert_eq!(DeviceEvent::parse(bytes), None);
        }
    }

    #[tokio::test]
    async fn a_device_that_is_told_again_is_heard() {
        // Root may have the kernel tell a device again.
        let Ok(devices) = super::super::BlockDevice::all() else { return };
        let Some(device) = devices.first() else { return };
        let events = DeviceEvents::new().unwrap();
        if std::fs::write(device.sysfs().join("uevent"), "change").is_err() {
            println!("RESULT host device-events skip /sys cannot be written here");
            return;
        }
        let heard = async {
            loop {
                let event = events.next().await.unwrap();
                if event.is_some_and(|event| event.name() == Some(&device.name)) {
                    return;
                }
            }
        };
        tokio::time::timeout(std::time::Duration::from_secs(20), heard).await.expect("an event");
    }
}
