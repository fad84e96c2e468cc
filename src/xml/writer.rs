//! Writes documents as libvirt does: two spaces a level, single quotes, one element a line.

use std::fmt::{Display, Write};

/// Attributes, in order.
pub(super) type Attributes<'a> = &'a [(&'a str, &'a dyn Display)];

/// A document in the making.
#[derive(Debug, Default)]
pub(super) struct Writer {
    text: String,
    depth: usize,
}

impl Writer {
    /// Writes an element, its content by `content`.
    pub(super) fn element(
        &mut self,
        name: &str,
        attributes: Attributes<'_>,
        content: impl FnOnce(&mut Self),
    ) {
        self.start(name, attributes);
        self.text.push_str(">\n");
        self.depth += 1;
        content(self);
        self.depth -= 1;
        self.indent();
        self.end(name);
    }

    /// Writes an element that has nothing in it.
    pub(super) fn empty(&mut self, name: &str, attributes: Attributes<'_>) {
        self.start(name, attributes);
        self.text.push_str("/>\n");
    }

    /// Writes an element that has text in it.
    pub(super) fn value(&mut self, name: &str, attributes: Attributes<'_>, value: &dyn Display) {
        self.start(name, attributes);
        self.text.push('>');
        self.escaped(value);
        self.end(name);
    }

    /// The same, if there is a value.
    pub(super) fn optional(&mut self, name: &str, value: Option<&dyn Display>) {
        if let Some(value) = value {
            self.value(name, &[], value);
        }
    }

    /// Writes a size.
    pub(super) fn bytes(&mut self, name: &str, bytes: u64) {
        self.value(name, &[("unit", &"bytes")], &bytes);
    }

    /// The document.
    pub(super) fn finish(self) -> String {
        self.text
    }

    fn start(&mut self, name: &str, attributes: Attributes<'_>) {
        self.indent();
        self.text.push('<');
        self.text.push_str(name);
        for (name, value) in attributes {
            self.text.push(' ');
            self.text.push_str(name);
            self.text.push_str("='");
            self.escaped(value);
            self.text.push('\'');
        }
    }

    fn end(&mut self, name: &str) {
        self.text.push_str("</");
        self.text.push_str(name);
        self.text.push_str(">\n");
    }

    fn indent(&mut self) {
        self.text.extend(std::iter::repeat_n("  ", self.depth));
    }

    fn escaped(&mut self, value: &dyn Display) {
        // Writing to a String cannot fail.
        let _ = write!(Escaped(&mut self.text), "{value}");
    }
}

/// Escapes what is written through it.
struct Escaped<'a>(&'a mut String);

impl Write for Escaped<'_> {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        for c in text.chars() {
            match c {
                '<' => self.0.push_str("&lt;"),
                '>' => self.0.push_str("&gt;"),
                '&' => self.0.push_str("&amp;"),
                '\'' => self.0.push_str("&apos;"),
                '"' => self.0.push_str("&quot;"),
                '\t' | '\n' | '\r' => write!(self.0, "&#{};", u32::from(c))?,
                // An image's header may hold anything; XML cannot.
                c if c < ' ' || matches!(c, '\u{fffe}' | '\u{ffff}') => self.0.push('\u{fffd}'),
                c => self.0.push(c),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_in_a_value_can_end_it() {
        let mut writer = Writer::default();
        writer.empty("a", &[("b", &"'><x/>&\"\n\0")]);
        assert_eq!(writer.finish(), "<a b='&apos;&gt;&lt;x/&gt;&amp;&quot;&#10;\u{fffd}'/>\n");
    }
}
