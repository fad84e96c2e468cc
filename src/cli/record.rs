//! Objects as records: what `--json` prints and tables are made from.
//!
//! Keys are the D-Bus property names in lower case with dashes. What the bus writes as a number or
//! path that means "none" is null.

use crate::client::{ObjectPath, ObjectRef, Properties, to_json};
use serde_json::{Map, Value, json};

/// An object by its keys.
pub(super) type Record = Map<String, Value>;

/// Times, of which 0 means never.
const TIMES: &[&str] = &["last-refresh", "next-try", "modified", "started", "ended"];
/// Owner, group and mode, of which the largest number means none.
const PERMISSIONS: &[&str] = &["mode", "owner", "group"];
/// How full things are, of which the largest number means that it is not known.
const FULLNESS: &[&str] = &["data-used", "metadata-used"];
/// Pairs of error name and message, empty for none.
const ERRORS: &[&str] = &["last-error", "error"];

/// The record of an object; `object` is its path.
pub(super) fn record(path: &ObjectPath, properties: &Properties) -> Record {
    let mut record = changes(properties);
    record.insert("object".to_owned(), path.as_str().into());
    record.sort_keys();
    record
}

/// The record of some properties.
pub(super) fn changes(properties: &Properties) -> Record {
    let mut record: Record = properties
        .iter()
        .map(|(name, value)| {
            let key = kebab(name);
            let value = meaning(&key, to_json(value));
            (key, value)
        })
        .collect();
    record.sort_keys();
    record
}

fn meaning(key: &str, value: Value) -> Value {
    if TIMES.contains(&key) && value == 0
        || (PERMISSIONS.contains(&key) || FULLNESS.contains(&key)) && value == u32::MAX
        || key == "target-path" && value == ""
    {
        return Value::Null;
    }
    if ERRORS.contains(&key) {
        let part = |index: usize| value.get(index).and_then(Value::as_str).unwrap_or_default();
        return match part(0) {
            "" => Value::Null,
            name => json!({ "name": name, "message": part(1) }),
        };
    }
    if key == "job" {
        return value.as_str().and_then(job_number).map_or(Value::Null, Value::from);
    }
    value
}

/// The number of the job at that path.
pub(super) fn job_number(path: &str) -> Option<u64> {
    match ObjectRef::parse(path) {
        Some(ObjectRef::Job(number)) => Some(number),
        _ => None,
    }
}

/// `VolumeCount` -> `volume-count`.
fn kebab(name: &str) -> String {
    let mut key = String::with_capacity(name.len() + 2);
    for c in name.chars() {
        if c.is_ascii_uppercase() && !key.is_empty() {
            key.push('-');
        }
        key.push(c.to_ascii_lowercase());
    }
    key
}

/// The text of a key, empty if it is none.
pub(super) fn text<'a>(record: &'a Record, key: &str) -> &'a str {
    record.get(key).and_then(Value::as_str).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_the_property_names() {
        for (name, key) in
            [("Name", "name"), ("VolumeCount", "volume-count"), ("LastRefresh", "last-refresh")]
        {
            assert_eq!(kebab(name), key);
        }
    }

    #[test]
    fn what_means_none_is_null() {
        for (key, value) in [
            ("job", json!("/")),
            ("last-error", json!(["", ""])),
            ("mode", json!(u32::MAX)),
            ("ended", json!(0)),
        ] {
            assert_eq!(meaning(key, value), Value::Null, "{key}");
        }
        assert_eq!(meaning("job", json!("/org/poold1/jobs/7")), json!(7));
        assert_eq!(meaning("capacity", json!(0)), json!(0));
        assert_eq!(
            meaning("last-error", json!(["org.poold1.Error.Busy", "held"])),
            json!({"name": "org.poold1.Error.Busy", "message": "held"})
        );
    }
}
