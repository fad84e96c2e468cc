//! Values that may be typed: which volume, sizes, modes, users.

use crate::model::{self, PoolType};
use clap::ValueEnum;
use std::str::FromStr;

/// Whether a pool's storage is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Build {
    /// Take it as it is
    No,
    /// Make it, unless that would destroy data
    Yes,
    /// Make it, even if that destroys data
    Overwrite,
}

impl Build {
    /// The word on the bus.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::No => "no",
            Self::Yes => "yes",
            Self::Overwrite => "overwrite",
        }
    }
}

/// Which volume is meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum VolumeRef {
    /// A path or key.
    Path(String),
    /// By name in a pool.
    Name {
        /// Name or UUID.
        pool: String,
        /// Name.
        volume: String,
    },
}

impl FromStr for VolumeRef {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.starts_with('/') {
            return Ok(Self::Path(text.to_owned()));
        }
        match text.split_once('/') {
            Some((pool, volume)) if !volume.is_empty() && !volume.contains('/') => {
                Ok(Self::Name { pool: pool.to_owned(), volume: volume.to_owned() })
            }
            _ => Err("a volume is POOL/NAME, or a path beginning with /".to_owned()),
        }
    }
}

/// A new capacity.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Resize {
    /// So much.
    To(u64),
    /// So much more.
    Grow(u64),
    /// So much less.
    Shrink(u64),
}

impl FromStr for Resize {
    type Err = model::Error;

    fn from_str(text: &str) -> model::Result<Self> {
        match (text.strip_prefix('+'), text.strip_prefix('-')) {
            (Some(more), _) => size(more).map(Self::Grow),
            (_, Some(less)) => size(less).map(Self::Shrink),
            _ => size(text).map(Self::To),
        }
    }
}

/// A size with an optional unit: 10G and 10GiB are 1024 each, 10GB is 1000.
pub(super) fn size(text: &str) -> model::Result<u64> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    model::parse_scaled(number, unit)
}

/// A type by its name.
pub(super) fn pool_type(text: &str) -> Result<PoolType, String> {
    PoolType::from_name(text).ok_or_else(|| {
        let known: Vec<_> = PoolType::ALL.iter().map(|known| known.as_str()).collect();
        format!("types are {}", known.join(" "))
    })
}

/// Permission bits.
pub(super) fn mode(text: &str) -> Result<u32, String> {
    match u32::from_str_radix(text, 8) {
        Ok(mode) if mode <= 0o7777 => Ok(mode),
        _ => Err("a mode is octal, at most 7777".to_owned()),
    }
}

/// A uid, or a user by name.
pub(super) fn user(text: &str) -> Result<u32, String> {
    if let Ok(uid) = text.parse() {
        return Ok(uid);
    }
    match nix::unistd::User::from_name(text) {
        Ok(Some(user)) => Ok(user.uid.as_raw()),
        _ => Err("no such user".to_owned()),
    }
}

/// A gid, or a group by name.
pub(super) fn group(text: &str) -> Result<u32, String> {
    if let Ok(gid) = text.parse() {
        return Ok(gid);
    }
    match nix::unistd::Group::from_name(text) {
        Ok(Some(group)) => Ok(group.gid.as_raw()),
        _ => Err("no such group".to_owned()),
    }
}

/// `NAME=VALUE`.
pub(super) fn assignment(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("must be NAME=VALUE".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_volume_is_named_by_pool_and_name_or_by_path() {
        let named = |pool: &str, volume: &str| VolumeRef::Name {
            pool: pool.to_owned(),
            volume: volume.to_owned(),
        };
        assert_eq!("images/a b.qcow2".parse(), Ok(named("images", "a b.qcow2")));
        assert_eq!("/srv/a".parse(), Ok(VolumeRef::Path("/srv/a".to_owned())));
        for wrong in ["images", "images/", "images/a/b", ""] {
            assert!(wrong.parse::<VolumeRef>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_new_size_may_be_relative() {
        for (text, wanted) in [
            ("10G", Resize::To(10 << 30)),
            ("+512MiB", Resize::Grow(512 << 20)),
            ("-1GB", Resize::Shrink(1_000_000_000)),
            ("7", Resize::To(7)),
        ] {
            assert_eq!(text.parse::<Resize>().unwrap(), wanted, "{text}");
        }
        for wrong in ["", "G", "--1", "1.5G", "10Q", "+"] {
            assert!(wrong.parse::<Resize>().is_err(), "{wrong}");
        }
    }
}
