//! Reads values out of a document's tree, strictly: what is there twice, in the wrong place or
//! not what it should be is an error with line and path; what nobody knows is ignored.

use super::dom::Node;
use crate::model::{Error, ErrorKind, Result, SecretRef, Uuid, parse_scaled, unprintable};
use std::str::FromStr;

/// Longest path and longest message of an error: both may quote the document.
const MAX_QUOTED: usize = 300;

/// `InvalidXml` with line and path.
pub(super) fn invalid(line: usize, path: &str, message: impl AsRef<str>) -> Error {
    let quoted = |text: &str| -> String {
        let shown = text.chars().map(|c| if unprintable(c) { '\u{fffd}' } else { c });
        shown.take(MAX_QUOTED).collect()
    };
    let message = format!("line {line}, {}: {}", quoted(path), quoted(message.as_ref()));
    Error::new(ErrorKind::InvalidXml, message)
}

/// An element with its place in the document.
#[derive(Debug, Clone)]
pub(super) struct Element<'a> {
    node: &'a Node,
    path: String,
    /// Names that mean something somewhere in this kind of document; elsewhere, they are misplaced.
    vocabulary: &'static [&'static str],
}

impl<'a> Element<'a> {
    /// The root, which must be called `name` and have no namespace.
    pub(super) fn root(
        node: &'a Node,
        name: &str,
        children: &[&str],
        vocabulary: &'static [&'static str],
    ) -> Result<Self> {
        let element = Self { node, path: format!("/{}", node.name), vocabulary };
        if node.name != name || node.namespace.is_some() {
            return Err(element.invalid(format!("the root element must be <{name}>")));
        }
        element.has_only(children)?;
        Ok(element)
    }

    /// `InvalidXml` about this element.
    pub(super) fn invalid(&self, message: impl AsRef<str>) -> Error {
        invalid(self.node.line, &self.path, message)
    }

    /// `InvalidXml` about the element or attribute (`@name`) `below`, whether or not it is there.
    pub(super) fn invalid_below(&self, below: &str, message: impl AsRef<str>) -> Error {
        let mut node = self.node;
        for name in below.split('/') {
            match node.children.iter().find(|child| child.name == name) {
                Some(child) => node = child,
                None => break,
            }
        }
        invalid(node.line, &format!("{}/{below}", self.path), message)
    }

    /// The only child of that name, with nothing in it but unknown elements and `children`.
    pub(super) fn element(&self, name: &str, children: &[&str]) -> Result<Option<Element<'a>>> {
        self.in_namespace(None, name, children)
    }

    /// The same in the namespace `uri`.
    pub(super) fn in_namespace(
        &self,
        uri: Option<&str>,
        name: &str,
        children: &[&str],
    ) -> Result<Option<Element<'a>>> {
        let Some(child) = self.only(uri, name)? else { return Ok(None) };
        child.has_only(children)?;
        Ok(Some(child))
    }

    /// All children of that name in that namespace.
    pub(super) fn all(
        &self,
        uri: Option<&str>,
        name: &str,
        children: &[&str],
    ) -> Result<Vec<Element<'a>>> {
        let nodes: Vec<&Node> = self.named(uri, name).collect();
        let many = nodes.len() > 1;
        let elements = nodes.into_iter().enumerate().map(|(index, node)| {
            let place = if many { format!("[{}]", index + 1) } else { String::new() };
            let path = format!("{}/{name}{place}", self.path);
            let element = Element { node, path, vocabulary: self.vocabulary };
            element.has_only(children)?;
            Ok(element)
        });
        elements.collect()
    }

    /// Names of the elements in this one.
    pub(super) fn child_names(&self) -> impl Iterator<Item = &'a str> {
        self.node.children.iter().map(|child| child.name.as_str())
    }

    /// Text of the only child of that name; an empty one counts as absent, as in libvirt.
    pub(super) fn value(&self, name: &str) -> Result<Option<String>> {
        let Some(child) = self.only(None, name)? else { return Ok(None) };
        child.refuse_misplaced(&[])?;
        let text = child.node.text.as_str();
        child.refuse_controls(text)?;
        Ok((!text.is_empty()).then(|| text.to_owned()))
    }

    /// The same for what is no free text: space around it means nothing.
    fn word(&self, name: &str) -> Result<Option<(Element<'a>, &'a str)>> {
        let Some(child) = self.only(None, name)? else { return Ok(None) };
        child.refuse_misplaced(&[])?;
        let text = child.node.text.trim_ascii();
        child.refuse_controls(text)?;
        Ok((!text.is_empty()).then_some((child, text)))
    }

    /// What `parse` makes of the text of the only child of that name.
    pub(super) fn parsed<T>(
        &self,
        name: &str,
        what: &str,
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> Result<Option<T>> {
        let Some((child, text)) = self.word(name)? else { return Ok(None) };
        match parse(text) {
            Some(value) => Ok(Some(value)),
            None => Err(child.invalid(format!("{text:?} is no {what}"))),
        }
    }

    /// The uuid in the only child of that name.
    pub(super) fn uuid(&self, name: &str) -> Result<Option<Uuid>> {
        self.parsed(name, "uuid", parse_uuid)
    }

    /// The size in the only child of that name, in bytes; at most what a file can have.
    pub(super) fn size(&self, name: &str) -> Result<Option<u64>> {
        let Some((child, text)) = self.word(name)? else { return Ok(None) };
        let unit = child.attribute("unit")?.unwrap_or_default();
        let size = parse_scaled(text, unit).map_err(|error| child.invalid(error.message()))?;
        if size > i64::MAX.unsigned_abs() {
            return Err(child.invalid("is larger than 8 EiB - 1"));
        }
        Ok(Some(size))
    }

    /// An attribute.
    pub(super) fn attribute(&self, name: &str) -> Result<Option<&'a str>> {
        let attribute = self.node.attributes.iter().find(|(known, _)| known == name);
        let Some((_, value)) = attribute else { return Ok(None) };
        if value.chars().any(unprintable) {
            return Err(self.invalid_below(&format!("@{name}"), "contains a control character"));
        }
        Ok(Some(value))
    }

    /// An attribute that must be there.
    pub(super) fn required(&self, name: &str) -> Result<String> {
        match self.attribute(name)? {
            Some(value) => Ok(value.to_owned()),
            None => Err(self.invalid_below(&format!("@{name}"), "is missing")),
        }
    }

    /// What `parse` makes of an attribute.
    pub(super) fn parsed_attribute<T>(
        &self,
        name: &str,
        what: &str,
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> Result<Option<T>> {
        let Some(text) = self.attribute(name)? else { return Ok(None) };
        match parse(text.trim_ascii()) {
            Some(value) => Ok(Some(value)),
            None => {
                let message = format!("{text:?} is no {what}");
                Err(self.invalid_below(&format!("@{name}"), message))
            }
        }
    }

    /// `yes` or `no`.
    pub(super) fn yes_no(&self, name: &str) -> Result<Option<bool>> {
        self.parsed_attribute(name, "\"yes\" or \"no\"", |word| match word {
            "yes" => Some(true),
            "no" => Some(false),
            _ => None,
        })
    }

    /// A number, decimal or hexadecimal after `0x`.
    pub(super) fn number<T: FromStr + TryFrom<u64>>(&self, name: &str) -> Result<Option<T>> {
        self.parsed_attribute(name, "number in range", |word| match word.strip_prefix("0x") {
            Some(digits) if !digits.starts_with('+') => {
                T::try_from(u64::from_str_radix(digits, 16).ok()?).ok()
            }
            _ if word.starts_with('+') => None,
            _ => word.parse().ok(),
        })
    }

    /// Which secret the attributes `uuid` or `usage` name.
    pub(super) fn secret(&self) -> Result<SecretRef> {
        let uuid = self.parsed_attribute("uuid", "uuid", parse_uuid)?;
        match (uuid, self.attribute("usage")?) {
            (Some(uuid), None) => Ok(SecretRef::Uuid(uuid)),
            (None, Some(usage)) if !usage.is_empty() => Ok(SecretRef::Usage(usage.to_owned())),
            (Some(_), Some(_)) => Err(self.invalid("has both uuid and usage")),
            _ => Err(self.invalid("needs a uuid or usage")),
        }
    }

    fn named(&self, uri: Option<&str>, name: &str) -> impl Iterator<Item = &'a Node> {
        let matches = move |node: &&Node| node.name == name && node.namespace.as_deref() == uri;
        self.node.children.iter().filter(matches)
    }

    fn only(&self, uri: Option<&str>, name: &str) -> Result<Option<Element<'a>>> {
        let mut nodes = self.named(uri, name);
        let Some(node) = nodes.next() else { return Ok(None) };
        let path = format!("{}/{name}", self.path);
        match nodes.next() {
            Some(second) => Err(invalid(second.line, &path, "is there twice")),
            None => Ok(Some(Element { node, path, vocabulary: self.vocabulary })),
        }
    }

    /// Refuses text, and elements that belong elsewhere.
    fn has_only(&self, children: &[&str]) -> Result<()> {
        if !self.node.text.trim_ascii().is_empty() {
            return Err(self.invalid("has text, where only elements belong"));
        }
        self.refuse_misplaced(children)
    }

    fn refuse_misplaced(&self, children: &[&str]) -> Result<()> {
        let known = |node: &&Node| node.namespace.is_none() && !children.contains(&&*node.name);
        let elsewhere = |node: &&Node| self.vocabulary.contains(&&*node.name);
        match self.node.children.iter().filter(known).find(elsewhere) {
            Some(node) => {
                let path = format!("{}/{}", self.path, node.name);
                Err(invalid(node.line, &path, "is misplaced; it means nothing here"))
            }
            None => Ok(()),
        }
    }

    fn refuse_controls(&self, text: &str) -> Result<()> {
        match text.chars().any(unprintable) {
            true => Err(self.invalid("contains a control character")),
            false => Ok(()),
        }
    }
}

/// A uuid as libvirt writes them, with or without hyphens.
fn parse_uuid(text: &str) -> Option<Uuid> {
    matches!(text.len(), 32 | 36).then(|| Uuid::try_parse(text).ok())?
}
