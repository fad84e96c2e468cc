//! Writing to the terminal, or to whatever stands in its place.

use crate::model::{Error, ErrorKind};
use anyhow::Context;
use serde_json::Value;
use std::fmt::Write as _;
use std::io::{self, IsTerminal, Write};

/// Writes to standard output; a closed pipe is an error that `main` knows.
pub(super) fn print(text: &str) -> anyhow::Result<()> {
    let mut stdout = io::stdout().lock();
    let written = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
    written.context("cannot write to standard output")
}

/// Writes one JSON value and a line break; `pretty` for a result, not for one of a stream.
pub(super) fn print_json(value: &Value, pretty: bool) -> anyhow::Result<()> {
    let text =
        if pretty { serde_json::to_string_pretty(value) } else { serde_json::to_string(value) };
    let mut safe = String::new();
    for c in text?.chars() {
        // JSON itself escapes only those below space.
        if c.is_control() && c != '\n' {
            let _ = write!(safe, "\\u{:04x}", u32::from(c));
        } else {
            safe.push(c);
        }
    }
    safe.push('\n');
    print(&safe)
}

/// Writes an XML document, as it is or as JSON.
pub(super) fn print_document(xml: &str, json: bool) -> anyhow::Result<()> {
    if json {
        return print_json(&serde_json::json!({ "xml": xml }), true);
    }
    print(xml)
}

/// Says what went wrong, and what may help, on standard error.
pub(super) fn complain(error: &anyhow::Error) {
    let mut text = format!("poolctl: {}\n", printable(&format!("{error:#}")));
    if let Some(hint) = error.downcast_ref::<Error>().and_then(|error| hint(error.kind())) {
        let _ = writeln!(text, "poolctl: {hint}");
    }
    let _ = io::stderr().write_all(text.as_bytes());
}

/// A remark on standard error that does not change the result.
pub(super) fn warn(text: &str) {
    let _ = writeln!(io::stderr(), "poolctl: {}", printable(text));
}

fn hint(kind: ErrorKind) -> Option<&'static str> {
    match kind {
        ErrorKind::InteractiveAuthorizationRequired => {
            Some("run it on a terminal without --no-ask, where polkit can ask, or as root")
        }
        ErrorKind::AccessDenied => {
            Some("run it as root, or see polkit(8) for rules that permit it")
        }
        _ => None,
    }
}

/// `text` with control characters shown instead of obeyed.
pub(super) fn printable(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' | '\t' => safe.push(' '),
            // Those that turn the direction of text make a name look like another.
            c if c.is_control()
                || ('\u{202a}'..='\u{202e}').contains(&c)
                || ('\u{2066}'..='\u{2069}').contains(&c) =>
            {
                let _ = write!(safe, "{}", c.escape_default());
            }
            c => safe.push(c),
        }
    }
    safe
}

/// How to emphasise a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Emphasis {
    /// As it is.
    None,
    /// The line above others.
    Heading,
    /// At work.
    Active,
    /// Not in use.
    Faint,
    /// Something is wrong.
    Alarm,
}

/// Whether standard output takes colours: a terminal whose user did not object.
pub(super) fn colours() -> bool {
    let objects = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
    io::stdout().is_terminal() && !objects && !dumb
}

/// `line` emphasised, if `colours`.
pub(super) fn emphasise(line: &str, emphasis: Emphasis, colours: bool) -> String {
    let code = match emphasis {
        Emphasis::None => return line.to_owned(),
        Emphasis::Heading => "1",
        Emphasis::Active => "32",
        Emphasis::Faint => "2",
        Emphasis::Alarm => "31",
    };
    if colours { format!("\x1b[{code}m{line}\x1b[0m") } else { line.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_cannot_steer_the_terminal() {
        assert_eq!(printable("a\u{1b}[2Jb\u{9b}c\u{202e}d\ne"), "a\\u{1b}[2Jb\\u{9b}c\\u{202e}d e");
        assert_eq!(printable("Größe 日本"), "Größe 日本");
    }
}
