//! `<permissions>` of a pool's target, a volume or its backing store.

use super::element::Element;
use super::writer::Writer;
use crate::model::{Permissions, Result};
use std::fmt::Display;

/// Reads the `<permissions>` in `parent`; absent when nothing is said there.
pub(super) fn read(parent: &Element<'_>) -> Result<Option<Permissions>> {
    let children = &["mode", "owner", "group", "label"];
    let Some(element) = parent.element("permissions", children)? else { return Ok(None) };
    let permissions = Permissions {
        mode: element.parsed("mode", MODE, octal)?,
        owner: element.parsed("owner", "uid", id)?.flatten(),
        group: element.parsed("group", "gid", id)?.flatten(),
        label: element.value("label")?,
    };
    Ok((permissions != Permissions::default()).then_some(permissions))
}

/// Words of what is expected.
const MODE: &str = "octal mode up to 07777";

/// Reads them from attributes.
pub(super) fn read_attributes(element: &Element<'_>) -> Result<Permissions> {
    Ok(Permissions {
        mode: element.parsed_attribute("mode", MODE, octal)?,
        owner: element.parsed_attribute("owner", "uid", id)?.flatten(),
        group: element.parsed_attribute("group", "gid", id)?.flatten(),
        label: element.attribute("label")?.map(|label| label.to_string()),
    })
}

/// Writes them as the attributes of an element of a namespace.
pub(super) fn write_attributes(
    out: &mut Writer,
    name: &str,
    namespace: (&str, &dyn Display),
    permissions: &Permissions,
) {
    let mode = permissions.mode.map(|mode| format!("0{mode:o}"));
    let values: [(&str, Option<&dyn Display>); 4] = [
        ("mode", mode.as_ref().map(|mode| mode as _)),
        ("owner", permissions.owner.as_ref().map(|owner| owner as _)),
        ("group", permissions.group.as_ref().map(|group| group as _)),
        ("label", permissions.label.as_ref().map(|label| label as _)),
    ];
    let given = values.into_iter().filter_map(|(name, value)| Some((name, value?)));
    let attributes: Vec<_> = std::iter::once(namespace).chain(given).collect();
    out.empty(name, &attributes);
}

fn octal(text: &str) -> Option<u32> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    let mode = u32::from_str_radix(text, 8).ok().filter(|_| digits)?;
    (mode <= 0o7777).then_some(mode)
}

/// An id; -1 says that none is meant.
fn id(text: &str) -> Option<Option<u32>> {
    match text.parse::<i64>().ok()? {
        -1 => Some(None),
        number => Some(Some(u32::try_from(number).ok()?).filter(|id| *id != u32::MAX)),
    }
}

/// Writes `<permissions>` if there is something to say.
pub(super) fn write(out: &mut Writer, permissions: Option<&Permissions>) {
    let Some(permissions) = permissions.filter(|given| **given != Permissions::default()) else {
        return;
    };
    out.element("permissions", &[], |out| {
        if let Some(mode) = permissions.mode {
            out.value("mode", &[], &format!("0{mode:o}"));
        }
        out.optional("owner", permissions.owner.as_ref().map(|owner| owner as &dyn Display));
        out.optional("group", permissions.group.as_ref().map(|group| group as &dyn Display));
        out.optional("label", permissions.label.as_ref().map(|label| label as &dyn Display));
    });
}
