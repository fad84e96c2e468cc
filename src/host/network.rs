//! Changes of this host's network: a link, an address or a route that appears, as the kernel tells them
//! on a netlink socket (rtnetlink(7)).
//!
//! Called by `engine`, one for the daemon.

use super::netlink::Netlink;
use crate::model::{Error, Result};
use nix::sys::socket::SockProtocol;

/// Links, addresses and routes of both protocols (RTMGRP_*).
const GROUPS: u32 = 0x1 | 0x10 | 0x40 | 0x100 | 0x400;
/// What is new (RTM_NEWLINK, RTM_NEWADDR, RTM_NEWROUTE); what goes away brings no server back.
const NEW: [u16; 3] = [16, 20, 24];
/// How much may wait to be read, in bytes; when some are lost, something may have appeared.
const QUEUE: usize = 256 << 10;

/// Tells when something appears on the network.
#[derive(Debug)]
pub struct NetworkWatch(Netlink);

impl NetworkWatch {
    /// Listens from now on; to be made inside the tokio runtime.
    pub fn new() -> Result<Self> {
        Netlink::listen(SockProtocol::NetlinkRoute, GROUPS, QUEUE)
            .map(Self)
            .map_err(|error| Error::io("cannot listen for the network", &error))
    }

    /// Waits until something appears, or may have. Safe to cancel.
    pub async fn appearance(&self) -> Result<()> {
        loop {
            let message = self.0.next().await;
            match message.map_err(|error| Error::io("cannot listen for the network", &error))? {
                Some(message) if !tells_new(&message) => {}
                _ => return Ok(()),
            }
        }
    }
}

/// `struct nlmsghdr`: four bytes of length, two of type.
fn tells_new(mut messages: &[u8]) -> bool {
    while let Some((head, _)) = messages.split_at_checked(16) {
        let length = u32::from_ne_bytes([head[0], head[1], head[2], head[3]]);
        if NEW.contains(&u16::from_ne_bytes([head[4], head[5]])) {
            return true;
        }
        let step = usize::try_from(length).unwrap_or(usize::MAX).max(16).next_multiple_of(4);
        messages = messages.get(step..).unwrap_or_default();
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn message(kind: u16, length: u32) -> Vec<u8> {
        let mut message = length.to_ne_bytes().to_vec();
        message.extend(kind.to_ne_bytes());
        message.resize(16.max(length as usize), 0);
        message
    }

    #[test]
    fn only_what_is_new_is_told() {
        assert!(tells_new(&message(24, 16)));
        assert!(!tells_new(&message(25, 16)));
        assert!(tells_new(&[message(21, 20), message(20, 16)].concat()));
        // Nonsense ends.
        assert!(!tells_new(&message(17, 0)) && !tells_new(b"") && !tells_new(&[0; 15]));
        assert!(!tells_new(&u32::MAX.to_ne_bytes().repeat(8)));
    }

    #[test]
    fn a_link_that_comes_up_is_heard() {
        use nix::sched::{CloneFlags, unshare};
        // In a network of this thread alone.
        let allowed = std::thread::spawn(|| {
            if unshare(CloneFlags::CLONE_NEWNET).is_err() {
                return false;
            }
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.unwrap().block_on(async {
                let watch = NetworkWatch::new().unwrap();
                let never = tokio::time::timeout(Duration::from_millis(50), watch.appearance());
                assert!(never.await.is_err(), "nothing has changed yet");
                let mut up = std::process::Command::new("ip");
                up.args(["link", "set", "lo", "up"]);
                if !up.status().is_ok_and(|status| status.success()) {
                    return false;
                }
                let soon = tokio::time::timeout(Duration::from_secs(20), watch.appearance());
                soon.await.expect("a link").unwrap();
                true
            })
        });
        if !allowed.join().unwrap() {
            println!("RESULT host network-watch skip no private network here, or no ip(8)");
        }
    }
}
