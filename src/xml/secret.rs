//! `<secret>`: what a secret is for; its value is in no document.

use super::element::Element;
use super::source::yes_no;
use super::writer::Writer;
use crate::model::{Result, SecretDef, SecretUsage, Uuid};
use std::fmt::Display;

/// Elements of `<secret>`.
pub(super) const CHILDREN: &[&str] = &["uuid", "description", "usage"];

/// All names that mean something somewhere in a secret's document.
pub(super) const VOCABULARY: &[&str] =
    &["secret", "uuid", "description", "usage", "volume", "name", "target"];

/// A kind of usage: its name, the element that says the usage name, and how it is made.
type Row = (&'static str, &'static str, fn(String) -> SecretUsage);

/// `cifs` is ours; the others are libvirt's.
const USAGES: &[Row] = &[
    ("volume", "volume", SecretUsage::Volume),
    ("ceph", "name", SecretUsage::Ceph),
    ("iscsi", "target", SecretUsage::Iscsi),
    ("cifs", "name", SecretUsage::Cifs),
];

/// Reads a secret's document. A missing uuid is generated.
pub(super) fn read(secret: &Element<'_>) -> Result<SecretDef> {
    let usage = match secret.element("usage", &["volume", "name", "target"])? {
        Some(element) => usage(&element)?,
        None => SecretUsage::None,
    };
    Ok(SecretDef {
        uuid: secret.uuid("uuid")?.unwrap_or_else(Uuid::new_v4),
        usage,
        description: secret.value("description")?,
        ephemeral: secret.yes_no("ephemeral")?.unwrap_or(false),
        private: secret.yes_no("private")?.unwrap_or(false),
    })
}

fn usage(element: &Element<'_>) -> Result<SecretUsage> {
    let kind = element.required("type")?;
    if kind == "none" {
        return Ok(SecretUsage::None);
    }
    let Some((_, name, make)) = USAGES.iter().find(|(known, ..)| *known == kind) else {
        let known: Vec<&str> = USAGES.iter().map(|(known, ..)| *known).collect();
        let message = format!("{kind:?} is none of none {}", known.join(" "));
        return Err(element.invalid_below("@type", message));
    };
    match element.value(name)? {
        Some(text) => Ok(make(text)),
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
        let Some((_, name, _)) = USAGES.iter().find(|(known, ..)| *known == kind) else { return };
        out.element("usage", &[("type", &kind)], |out| out.value(name, &[], &text));
    });
}
