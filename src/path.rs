//! Object paths: what object a path names, and the path of an object; for both ends of the bus,
//! `bus` and `client`.

use crate::model::{Uuid, VolumeName};
use std::fmt::Write;

/// The manager's path; every other one is below.
pub const ROOT: &str = "/org/poold1";
/// The ObjectManager of all pools.
pub const POOLS: &str = "/org/poold1/pools";
/// The ObjectManager of all jobs.
pub const JOBS: &str = "/org/poold1/jobs";
/// What "no object" is on the bus.
pub const NONE: &str = "/";

/// A node of the object tree; whether a pool, volume, job or secret of that name exists is
/// another question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ObjectRef {
    /// `/`
    Root,
    /// `/org`
    Org,
    /// `/org/poold1`
    Manager,
    /// `/org/poold1/pools`
    Pools,
    /// One pool.
    Pool(Uuid),
    /// `/org/poold1/volumes`
    VolumesRoot,
    /// The volumes of one pool.
    Volumes(Uuid),
    /// One volume.
    Volume(Uuid, VolumeName),
    /// `/org/poold1/jobs`
    Jobs,
    /// One job.
    Job(u64),
    /// `/org/poold1/secrets`
    Secrets,
    /// One secret.
    Secret(Uuid),
}

impl ObjectRef {
    /// What a path names. Every object has exactly one path: other spellings name nothing.
    pub fn parse(path: &str) -> Option<Self> {
        match path {
            "/" => return Some(Self::Root),
            "/org" => return Some(Self::Org),
            _ => {}
        }
        let mut parts = path.strip_prefix(ROOT)?.split('/');
        if !parts.next()?.is_empty() {
            return None;
        }
        let object = match (parts.next(), parts.next(), parts.next(), parts.next()) {
            (None, ..) => Self::Manager,
            (Some("pools"), None, ..) => Self::Pools,
            (Some("pools"), Some(uuid), None, _) => Self::Pool(parse_uuid(uuid)?),
            (Some("volumes"), None, ..) => Self::VolumesRoot,
            (Some("volumes"), Some(uuid), None, _) => Self::Volumes(parse_uuid(uuid)?),
            (Some("volumes"), Some(uuid), Some(label), None) => {
                Self::Volume(parse_uuid(uuid)?, VolumeName::found(&unescape(label)?)?)
            }
            (Some("jobs"), None, ..) => Self::Jobs,
            (Some("jobs"), Some(number), None, _) => Self::Job(number.parse().ok()?),
            (Some("secrets"), None, ..) => Self::Secrets,
            (Some("secrets"), Some(uuid), None, _) => Self::Secret(parse_uuid(uuid)?),
            _ => return None,
        };
        (object.path() == path).then_some(object)
    }

    /// Its path.
    pub fn path(&self) -> String {
        match self {
            Self::Root => "/".to_owned(),
            Self::Org => "/org".to_owned(),
            Self::Manager => ROOT.to_owned(),
            Self::Pools => POOLS.to_owned(),
            Self::Pool(uuid) => format!("{POOLS}/{}", uuid.simple()),
            Self::VolumesRoot => format!("{ROOT}/volumes"),
            Self::Volumes(uuid) => format!("{ROOT}/volumes/{}", uuid.simple()),
            Self::Volume(uuid, name) => volume_path(*uuid, name),
            Self::Jobs => JOBS.to_owned(),
            Self::Job(number) => format!("{JOBS}/{number}"),
            Self::Secrets => format!("{ROOT}/secrets"),
            Self::Secret(uuid) => format!("{ROOT}/secrets/{}", uuid.simple()),
        }
    }
}

/// The path of a volume.
pub fn volume_path(pool: Uuid, name: &VolumeName) -> String {
    let mut path = String::with_capacity(64 + name.as_str().len());
    let _ = write!(path, "{ROOT}/volumes/{}/", pool.simple());
    escape(name.as_str(), &mut path);
    path
}

/// Appends `label` as one element of an object path, as sd-bus's `sd_bus_path_encode` does: ASCII
/// letters and digits stay, but for a digit at the start; every other byte is `_` and two hex
/// digits; the empty string is `_`.
pub fn escape(label: &str, path: &mut String) {
    if label.is_empty() {
        path.push('_');
    }
    for (position, byte) in label.bytes().enumerate() {
        if byte.is_ascii_alphabetic() || (byte.is_ascii_digit() && position > 0) {
            path.push(char::from(byte));
        } else {
            let _ = write!(path, "_{byte:02x}");
        }
    }
}

/// The label that an element of an object path stands for.
fn unescape(element: &str) -> Option<String> {
    if element == "_" {
        return Some(String::new());
    }
    let mut label = Vec::with_capacity(element.len());
    let mut bytes = element.bytes();
    while let Some(byte) = bytes.next() {
        if byte == b'_' {
            let digit = |byte: Option<u8>| char::from(byte?).to_digit(16);
            let value = digit(bytes.next())? * 16 + digit(bytes.next())?;
            label.push(u8::try_from(value).ok()?);
        } else {
            label.push(byte);
        }
    }
    String::from_utf8(label).ok()
}

fn parse_uuid(text: &str) -> Option<Uuid> {
    (text.len() == 32).then(|| Uuid::try_parse(text).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn escaping_is_sd_buss() {
        for (label, expected) in [
            ("", "_"),
            ("disk", "disk"),
            ("a.qcow2", "a_2eqcow2"),
            ("9p", "_39p"),
            ("a9", "a9"),
            ("_", "_5f"),
            ("ä", "_c3_a4"),
        ] {
            let mut escaped = String::new();
            escape(label, &mut escaped);
            assert_eq!(escaped, expected);
            assert_eq!(unescape(expected).as_deref(), Some(label));
        }
    }

    #[test]
    fn an_object_has_one_path_only() {
        let uuid = "0123456789abcdef0123456789abcdef";
        let volume = |label: &str| format!("/org/poold1/volumes/{uuid}/{label}");
        assert!(ObjectRef::parse(&volume("a_2eb")).is_some());
        for path in [
            "/org/poold".to_owned(),
            "/org/poold1/".to_owned(),
            "/org/poold12".to_owned(),
            "/org/poold1/jobs/01".to_owned(),
            "/org/poold1/jobs/99999999999999999999".to_owned(),
            format!("/org/poold1/pools/{}", uuid.to_uppercase()),
            format!("/org/poold1/pools/{uuid}/x"),
            "/org/poold1/pools/01234567-89ab-cdef-0123-456789abcdef".to_owned(),
            volume("a_2Eb"),
            volume("_61"),
            volume("a_"),
            volume("a_2"),
            volume("_"),
            volume("_2e_2e"),
            volume("_ff"),
            volume("a/b"),
        ] {
            assert_eq!(ObjectRef::parse(&path), None, "{path}");
        }
    }

    fn objects() -> impl Strategy<Value = ObjectRef> {
        let uuid = any::<u128>().prop_map(Uuid::from_u128);
        let name = "\\PC{1,40}".prop_filter_map("a name", |name| VolumeName::found(&name));
        prop_oneof![
            Just(ObjectRef::Root),
            Just(ObjectRef::Org),
            Just(ObjectRef::Manager),
            Just(ObjectRef::Pools),
            Just(ObjectRef::VolumesRoot),
            Just(ObjectRef::Jobs),
            Just(ObjectRef::Secrets),
            uuid.clone().prop_map(ObjectRef::Pool),
            uuid.clone().prop_map(ObjectRef::Volumes),
            uuid.clone().prop_map(ObjectRef::Secret),
            any::<u64>().prop_map(ObjectRef::Job),
            (uuid, name).prop_map(|(uuid, name)| ObjectRef::Volume(uuid, name)),
        ]
    }

    proptest! {
        #[test]
        fn a_path_names_the_object_it_was_made_from(object in objects()) {
            let path = object.path();
            let element = |part: &str| part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
            prop_assert!(path == "/" || path[1..].split('/').all(|part| !part.is_empty() && element(part)));
            prop_assert_eq!(ObjectRef::parse(&path), Some(object));
        }

        #[test]
        fn no_path_is_a_surprise(path in "/org/poold1(/[a-z]{1,8})?(/[A-Za-z0-9_]{0,40}){0,3}") {
            if let Some(object) = ObjectRef::parse(&path) {
                prop_assert_eq!(object.path(), path);
            }
        }
    }
}
