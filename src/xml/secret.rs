//! `<secret>`: what a secret is for; its value is in no document.

use super::element::Element;
use super::source::yes_no;
use super::writer::Writer;
use crate::model::{Result, SecretDef, SecretDraft, SecretUsage};
use std::fmt::Display;

/// Elements of `<secret>`.
pub(super) const CHILDREN: &[&str] = &["uuid", "description", "usage"];

/// All names that mean something somewhere in a secret's document.
pub(super) const VOCABULARY: &[&str] =
    &["secret", "uuid", "description", "usage", "volume", "name", "target"];

/// Kinds of usage, and the element that says the usage name. `cifs` is ours; the others are libvirt's.
const USAGES: &[(&str, &str)] = &[
    ("volume", "volume"),
    ("ceph", "name"),
    ("iscsi", "target"),
    ("cifs", "name"),
    ("tls", "name"),
    ("vtpm", "name"),
];

/// Reads a secret's document.
pub(super) fn read(secret: &Element<'_>) -> Result<SecretDraft> {
    let usage = match secret.element("usage", &["volume", "name", "target"])? {
        Some(element) => usage(&element)?,
        None => SecretUsage::None,
    };
    Ok(SecretDraft {
        uuid: secret.uuid("uuid")?,
        usage: Some(usage),
        description: secret.value("description")?,
        ephemeral: secret.yes_no("ephemeral")?.unwrap_or(false),
        private: Some(secret.yes_no("private")?.unwrap_or(false)),
    })
}

fn usage(element: &Element<'_>) -> Result<SecretUsage> {
    let kind = element.required("type")?;
    if kind == "none" {
        return Ok(SecretUsage::None);
    }
    let Some((_, name)) = USAGES.iter().find(|(known, _)| *known == kind) else {
        let known: Vec<&str> = USAGES.iter().map(|(known, _)| *known).collect();
        let message = format!("{kind:?} is none of none {}", known.join(" "));
        return Err(element.invalid_below("@type", message));
    };
    match element.value(name)? {
        Some(text) => SecretUsage::from_parts(&kind, &text)
            .map_err(|error| element.invalid_below(name, error.message())),
        None => Err(element.invalid_below(name, "is missing")),
    }
}

/// Writes a secret's document.
pub(super) fn write(out: &mut Writer, secret: &SecretDef) {
    let flags: [(&str, &dyn Display); 2] =
        [("ephemeral", &yes_no(secret.ephemeral)), ("private", &yes_no(secret.private))];
    out.element("secret", &flags, |out| {
        out.value("uuid", &[], &secret.uuid);
        out.optional("description", secret.description.as_ref().map(|text| text as &dyn Display));
        let (kind, text) = secret.usage.parts();
        let Some((_, name)) = USAGES.iter().find(|(known, _)| *known == kind) else { return };
        out.element("usage", &[("type", &kind)], |out| out.value(name, &[], &text));
    });
}
