//! Where an iSCSI target answers.

use crate::model::{Error, ErrorKind, HostAddress, Result, Source};
use std::fmt;
use std::net::IpAddr;

/// The port of iSCSI (RFC 7143).
const PORT: u16 = 3260;
/// Longest name of a target or an initiator, in bytes (RFC 7143).
const LONGEST_NAME: usize = 223;

/// Where a target answers: a host and a TCP port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::backend) struct Portal {
    /// Name or address, an IPv6 address without brackets.
    host: String,
    port: u16,
}

impl Portal {
    /// The one that a source names.
    pub(in crate::backend) fn of(host: &HostAddress) -> Self {
        let name = host.name.strip_prefix('[').and_then(|name| name.strip_suffix(']'));
        let name = name.unwrap_or(&host.name).to_owned();
        Self { host: name, port: host.port.unwrap_or(PORT) }
    }

    /// One as the kernel and open-iscsi have it.
    pub(super) fn new(host: &str, port: u16) -> Self {
        Self { host: host.to_owned(), port }
    }

    /// From `127.0.0.1:3260` or `[::1]:3260`.
    pub(in crate::backend) fn parse(text: &str) -> Option<Self> {
        let (host, port) = text.rsplit_once(':')?;
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        let port = port.parse().ok().filter(|_| !host.is_empty())?;
        Some(Self::new(host, port))
    }

    /// As a source names it.
    pub(in crate::backend) fn address(&self) -> HostAddress {
        let port = (self.port != PORT).then_some(self.port);
        HostAddress { name: self.host.clone(), port }
    }

    /// Name or address, an IPv6 address without brackets.
    pub(super) fn host(&self) -> &str {
        &self.host
    }

    /// TCP port.
    pub(super) fn port(&self) -> u16 {
        self.port
    }

    /// What open-iscsi calls its records of targets there.
    pub(super) fn record(&self) -> String {
        format!("{},{}", self.host, self.port)
    }

    /// Whether `other` is the same address, or the same name.
    pub(super) fn is(&self, other: &Self) -> bool {
        let host = match (self.ip(), other.ip()) {
            (Some(own), Some(others)) => own == others,
            (None, None) => self.host.eq_ignore_ascii_case(&other.host),
            _ => false,
        };
        host && self.port == other.port
    }

    /// Whether `other` is an address that may be behind this name. None is resolved: what is behind one
    /// cannot be told, and counts.
    pub(super) fn may_be(&self, other: &Self) -> bool {
        self.ip().is_none() && other.ip().is_some() && self.port == other.port
    }

    fn ip(&self) -> Option<IpAddr> {
        self.host.parse().ok()
    }
}

impl fmt::Display for Portal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.contains(':') {
            true => write!(f, "[{}]:{}", self.host, self.port),
            false => write!(f, "{}:{}", self.host, self.port),
        }
    }
}

/// Refuses what no portal, target or initiator can be called: all three become arguments of tools,
/// parts of their addresses and names of files.
pub(super) fn check_names(source: &Source) -> Result<()> {
    let refuse = |what: String| Err(Error::new(ErrorKind::InvalidArgument, what));
    if let Some(host) = source.hosts.iter().find(|host| !is_host(&host.name)) {
        return refuse(format!("{:?} is no host name or address", host.name));
    }
    let targets = source.devices.iter().map(|device| &device.path);
    match targets.chain(&source.initiator_iqn).find(|name| !is_name(name)) {
        Some(name) => {
            refuse(format!("{name:?} is no iSCSI name; one is as iqn.2026-01.org.example:storage"))
        }
        None => Ok(()),
    }
}

/// Whether a text can be a host: a name, an IPv4 address, or an IPv6 address with or without
/// brackets and scope.
fn is_host(text: &str) -> bool {
    let inner = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-._:%".contains(&byte);
    !inner.is_empty() && !inner.starts_with('-') && inner.bytes().all(allowed)
}

/// Whether a text is an iSCSI name (RFC 3720, 3.2.6.3): `iqn.`, `eui.` or `naa.`, then what is left
/// after stringprep.
fn is_name(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-._:".contains(&byte);
    let kind = ["iqn.", "eui.", "naa."].iter().any(|kind| text.starts_with(kind));
    kind && text.len() <= LONGEST_NAME && text.bytes().all(allowed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn portal(name: &str, port: Option<u16>) -> Portal {
        Portal::of(&HostAddress { name: name.to_owned(), port })
    }

    #[test]
    fn portals_are_written_and_read() {
        for (name, port, text) in [
            ("192.0.2.1", None, "192.0.2.1:3260"),
            ("san.example.org", Some(860), "san.example.org:860"),
            ("2001:db8::1", None, "[2001:db8::1]:3260"),
            ("[2001:db8::1]", Some(1), "[2001:db8::1]:1"),
        ] {
            assert_eq!(portal(name, port).to_string(), text);
            assert_eq!(Portal::parse(text), Some(portal(name, port)));
        }
        for text in ["", "192.0.2.1", ":3260", "192.0.2.1:x", "192.0.2.1:70000", "[]:1"] {
            assert_eq!(Portal::parse(text), None, "{text:?}");
        }
    }

    #[test]
    fn a_portal_is_known_by_its_address_or_its_name() {
        let is = |own: &str, other: &str| portal(own, None).is(&portal(other, None));
        assert!(is("2001:db8::1", "2001:0db8:0:0::1"));
        assert!(is("san", "SAN") && !is("san", "nas") && !is("san", "192.0.2.1"));
        let may_be = |own: &str, other: &str| portal(own, None).may_be(&portal(other, None));
        assert!(may_be("san", "192.0.2.1") && !may_be("san", "nas"));
        assert!(!may_be("192.0.2.1", "192.0.2.2") && !may_be("192.0.2.1", "san"));
        assert!(!is("192.0.2.1", "192.0.2.2") && !is("192.0.2.1", "san"));
        assert!(!portal("192.0.2.1", Some(1)).is(&portal("192.0.2.1", None)));
        assert!(!portal("san", Some(1)).may_be(&portal("192.0.2.1", None)));
    }

    #[test]
    fn what_could_be_an_option_or_a_path_is_no_name() {
        for good in ["san", "192.0.2.1", "fe80::1%eth0", "[::1]"] {
            assert!(is_host(good), "{good}");
        }
        for bad in ["", "-p", "[]", "a b", "a/b", "a,b", "a\nb", "[-x]"] {
            assert!(!is_host(bad), "{bad:?}");
        }
        for good in
            ["iqn.2026-01.org.example:a.b-c", "eui.02004567A425678D", "naa.52004567BA64678D"]
        {
            assert!(is_name(good), "{good}");
        }
        for bad in ["", "iqn", "iqn.a/../b", "x:iqn.", "iqn.a b", "iqn.a,b", "iqn.\u{e4}"] {
            assert!(!is_name(bad), "{bad:?}");
        }
    }
}
