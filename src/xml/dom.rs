//! A document as a tree with line numbers, within limits. Used by `element`, which reads it.

use super::element::invalid;
use crate::model::Result;
use quick_xml::XmlVersion;
use quick_xml::escape::resolve_predefined_entity;
use quick_xml::events::{BytesRef, BytesStart, Event};
use quick_xml::name::{NamespaceResolver, ResolveResult};
use quick_xml::reader::NsReader;

/// Longest document, in bytes.
pub(super) const MAX_BYTES: usize = 1 << 20;

/// Deepest nesting; libvirt's own documents have five levels.
const MAX_DEPTH: usize = 32;

/// Most elements of a document.
const MAX_ELEMENTS: usize = 20_000;

/// Most attributes of an element.
const MAX_ATTRIBUTES: usize = 64;

/// An element.
#[derive(Debug, Default)]
pub(super) struct Node {
    /// Name without prefix.
    pub(super) name: String,
    /// URI of its namespace; absent for none, which is where libvirt's own elements are.
    pub(super) namespace: Option<String>,
    /// Line of its start tag, from 1.
    pub(super) line: usize,
    /// Attributes without prefix: name and value.
    pub(super) attributes: Vec<(String, String)>,
    /// Elements in it.
    pub(super) children: Vec<Node>,
    /// All text directly in it.
    pub(super) text: String,
}

/// Reads a document: one root element, well-formed, without DOCTYPE, within the limits.
pub(super) fn parse(text: &str) -> Result<Node> {
    if text.len() > MAX_BYTES {
        return Err(invalid(1, "/", format!("the document is longer than {MAX_BYTES} bytes")));
    }
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut builder = Builder { text, line: 1, counted: 0, elements: 0, open: Vec::new() };
    builder.refuse_controls()?;
    builder.read()
}

/// What is known while reading.
struct Builder<'a> {
    text: &'a str,
    /// Line of the byte at `counted`.
    line: usize,
    counted: usize,
    elements: usize,
    /// Elements whose end is still to come, the root first.
    open: Vec<Node>,
}

impl Builder<'_> {
    fn read(mut self) -> Result<Node> {
        let mut reader = NsReader::from_str(self.text);
        reader.resolver_mut().set_max_namespace_bindings(MAX_ATTRIBUTES);
        let mut root = None;
        loop {
            let start = usize::try_from(reader.buffer_position()).unwrap_or(usize::MAX);
            self.count_lines(start);
            let event = match reader.read_event() {
                Ok(event) => event,
                Err(error) => {
                    self.count_lines(usize::try_from(reader.error_position()).unwrap_or(start));
                    return Err(self.invalid(error.to_string()));
                }
            };
            let done = match event {
                Event::Start(tag) => {
                    let node = self.node(&tag, reader.resolver(), root.is_some())?;
                    self.open.push(node);
                    None
                }
                Event::Empty(tag) => Some(self.node(&tag, reader.resolver(), root.is_some())?),
                Event::End(_) => self.open.pop(),
                Event::Text(text) if text.contains("]]>") => {
                    return Err(self.invalid("\"]]>\" in text"));
                }
                Event::Text(text) => {
                    self.append(&text.xml10_content())?;
                    None
                }
                Event::CData(_) | Event::GeneralRef(_) if self.open.is_empty() => {
                    return Err(self.invalid("text outside the root element"));
                }
                Event::CData(text) => {
                    self.append(&text.xml10_content())?;
                    None
                }
                Event::GeneralRef(reference) => {
                    let text = self.resolved(&reference)?;
                    self.append(&text)?;
                    None
                }
                Event::DocType(_) => return Err(self.invalid("DOCTYPE is not allowed")),
                Event::Decl(_) if start > 0 => {
                    return Err(self.invalid("an XML declaration must come first"));
                }
                Event::Decl(_) | Event::Comment(_) | Event::PI(_) => None,
                Event::Eof => break,
            };
            match (done, self.open.last_mut()) {
                (None, _) => {}
                (Some(node), Some(parent)) => parent.children.push(node),
                (Some(node), None) => root = Some(node),
            }
        }
        if let Some(node) = self.open.last() {
            let message = format!("<{}> of line {} has no end", node.name, node.line);
            return Err(self.invalid(message));
        }
        root.ok_or_else(|| self.invalid("there is no element"))
    }

    /// The text that a reference such as `&lt;` or `&#65;` stands for.
    fn resolved(&self, reference: &BytesRef<'_>) -> Result<String> {
        match reference.resolve_char_ref() {
            Ok(Some(c)) => Ok(c.to_string()),
            Ok(None) => match resolve_predefined_entity(reference) {
                Some(text) => Ok(text.to_owned()),
                None => {
                    let name = reference.as_ref();
                    Err(self.invalid(format!("unknown entity {name:?}")))
                }
            },
            Err(error) => Err(self.invalid(error.to_string())),
        }
    }

    fn node(
        &mut self,
        tag: &BytesStart<'_>,
        resolver: &NamespaceResolver,
        has_root: bool,
    ) -> Result<Node> {
        self.elements += 1;
        if !is_name(tag.name().0) {
            return Err(self.invalid(format!("{:?} is no name of an element", tag.name().0)));
        }
        let (namespace, local) = resolver.resolve_element(tag.name());
        let name = local.as_ref().to_owned();
        if has_root {
            return Err(self.invalid(format!("<{name}> is a second root element")));
        }
        if self.open.len() >= MAX_DEPTH {
            return Err(self.invalid(format!("elements are nested more than {MAX_DEPTH} deep")));
        }
        if self.elements > MAX_ELEMENTS {
            return Err(self.invalid(format!("there are more than {MAX_ELEMENTS} elements")));
        }
        let namespace = match namespace {
            ResolveResult::Bound(uri) if uri.0.is_empty() => None,
            ResolveResult::Bound(uri) => Some(uri.0.to_owned()),
            ResolveResult::Unbound => None,
            ResolveResult::Unknown(prefix) => {
                return Err(self.invalid(format!("<{prefix}:{name}>: unknown prefix")));
            }
        };
        let attributes = self.attributes(tag, &name)?;
        Ok(Node { name, namespace, line: self.line, attributes, ..Node::default() })
    }

    /// The attributes without prefix; those of other namespaces say nothing to us.
    fn attributes(&self, tag: &BytesStart<'_>, element: &str) -> Result<Vec<(String, String)>> {
        let flaw = |message: String| Err(self.invalid(format!("<{element}>: {message}")));
        let mut attributes: Vec<(String, String)> = Vec::new();
        // Its own check for duplicates takes time by the square of their number.
        for (index, attribute) in tag.attributes().with_checks(false).enumerate() {
            let attribute = match attribute {
                Ok(attribute) => attribute,
                Err(error) => return flaw(error.to_string()),
            };
            if index >= MAX_ATTRIBUTES {
                return flaw(format!("more than {MAX_ATTRIBUTES} attributes"));
            }
            if !is_name(attribute.key.0) {
                return flaw(format!("{:?} is no name of an attribute", attribute.key.0));
            }
            if attribute.value.contains('<') {
                return flaw(format!("'<' in attribute {:?}", attribute.key.0));
            }
            let value = match attribute.normalized_value(XmlVersion::Implicit1_0) {
                Ok(value) => value.into_owned(),
                Err(error) => return flaw(error.to_string()),
            };
            if attribute.key.as_namespace_binding().is_some() || attribute.key.prefix().is_some() {
                continue;
            }
            let name = attribute.key.0.to_owned();
            if attributes.iter().any(|(other, _)| *other == name) {
                return flaw(format!("attribute {name:?} twice"));
            }
            attributes.push((name, value));
        }
        Ok(attributes)
    }

    fn append(&mut self, text: &str) -> Result<()> {
        match self.open.last_mut() {
            Some(node) => node.text.push_str(text),
            None if text.trim_ascii().is_empty() => {}
            None => return Err(self.invalid("text outside the root element")),
        }
        Ok(())
    }

    /// Refuses what no XML document may hold, before anything else looks at it.
    fn refuse_controls(&mut self) -> Result<()> {
        let allowed = |c: char| matches!(c, '\t' | '\n' | '\r');
        let control = |c: char| (c < ' ' && !allowed(c)) || matches!(c, '\u{fffe}' | '\u{ffff}');
        match self.text.find(control) {
            Some(position) => {
                self.count_lines(position);
                Err(self.invalid("a control character"))
            }
            None => Ok(()),
        }
    }

    /// Moves the line number on to the byte at `position`.
    fn count_lines(&mut self, position: usize) {
        if let Some(passed) = self.text.as_bytes().get(self.counted..position) {
            self.line += passed.iter().filter(|byte| **byte == b'\n').count();
            self.counted = position;
        }
    }

    fn invalid(&self, message: impl Into<String>) -> crate::model::Error {
        let path: String = self.open.iter().map(|node| format!("/{}", node.name)).collect();
        invalid(self.line, if path.is_empty() { "/" } else { &path }, message.into())
    }
}

/// Whether this is a name, with or without prefix; quick-xml takes anything for one.
fn is_name(name: &str) -> bool {
    let starts = |c: char| c.is_ascii_alphabetic() || c == '_' || c > '\u{bf}';
    let follows = |c: char| starts(c) || c.is_ascii_digit() || matches!(c, '-' | '.' | '\u{b7}');
    let is_part = |part: &str| part.starts_with(starts) && part.chars().all(follows);
    match name.split_once(':') {
        Some((prefix, local)) => is_part(prefix) && is_part(local),
        None => is_part(name),
    }
}
