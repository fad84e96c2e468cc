//! `model::Error` as a D-Bus error message, and the errors that only the bus has.

use crate::model::{Error, ErrorKind};
use zbus::Message;
use zbus::message::Header;

/// Longest text of an error.
const MAX_TEXT: usize = 4096;

/// The error reply to a call.
pub(super) fn reply(header: &Header<'_>, error: &Error) -> zbus::Result<Message> {
    let mut text: String = error.message().replace('\0', "\u{fffd}");
    if text.len() > MAX_TEXT {
        let end = (0..=MAX_TEXT).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
        text.truncate(end);
    }
    Message::error(header, error.kind().dbus_name()).build(&text)
}

/// Nothing at this path.
pub(super) fn unknown_object(path: &str) -> Error {
    Error::new(ErrorKind::UnknownObject, format!("there is no object {path}"))
}

/// A reply that would pass what a bus takes.
pub(super) fn too_large(what: &str) -> Error {
    Error::new(
        ErrorKind::LimitsExceeded,
        format!("{what} would pass 30 MiB; page with org.poold1.Pool.ListVolumes"),
    )
}

/// A failure of the connection or the serialisation.
pub(super) fn of_zbus(what: &str, error: &zbus::Error) -> Error {
    Error::new(ErrorKind::Failed, format!("{what}: {error}"))
}
