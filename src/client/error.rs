//! D-Bus errors -> kinds of errors.

use crate::model::{Error, ErrorKind};
use zbus::DBusError;

/// Names by which a bus says that nobody serves `org.poold1`, or not any more.
const NO_SERVICE: &[&str] = &[
    "org.freedesktop.DBus.Error.ServiceUnknown",
    "org.freedesktop.DBus.Error.NameHasNoOwner",
    "org.freedesktop.DBus.Error.NoReply",
    "org.freedesktop.DBus.Error.Disconnected",
    "org.freedesktop.DBus.Error.NoServer",
];

impl From<zbus::Error> for Error {
    fn from(error: zbus::Error) -> Self {
        match error {
            zbus::Error::MethodError(name, text, _) => named(name.as_str(), text.as_deref()),
            zbus::Error::FDO(error) => from_fdo(&error),
            zbus::Error::InputOutput(error) => {
                Error::new(ErrorKind::Failed, format!("connection to poold lost: {error}"))
            }
            error => Error::new(ErrorKind::Failed, error.to_string()),
        }
    }
}

impl From<zbus::fdo::Error> for Error {
    fn from(error: zbus::fdo::Error) -> Self {
        match error {
            // A wrapper around what the call itself met.
            zbus::fdo::Error::ZBus(error) => error.into(),
            error => from_fdo(&error),
        }
    }
}

fn from_fdo(error: &zbus::fdo::Error) -> Error {
    named(error.name().as_str(), error.description())
}

/// The error of a D-Bus name and text, as in a reply or in a property (`LastError`, `Job.Error`).
fn named(name: &str, text: Option<&str>) -> Error {
    let text = text.filter(|text| !text.is_empty()).unwrap_or(name);
    match ErrorKind::from_dbus_name(name) {
        Some(kind) => Error::new(kind, text),
        None if NO_SERVICE.contains(&name) => Error::new(
            ErrorKind::Failed,
            format!("poold does not answer on this bus ({text}); is poold.service installed?"),
        ),
        None => Error::new(ErrorKind::Failed, format!("{name}: {text}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_an_error_says_its_kind() {
        for kind in ErrorKind::all() {
            let error = named(kind.dbus_name(), Some("why"));
            assert_eq!((error.kind(), error.message()), (kind, "why"));
        }
        assert_eq!(named("org.example.Odd", None).message(), "org.example.Odd: org.example.Odd");
    }

    #[test]
    fn standard_errors_keep_their_kind_although_zbus_knows_them_itself() {
        let error = zbus::Error::FDO(Box::new(zbus::fdo::Error::AccessDenied("no".into())));
        let error = Error::from(error);
        assert_eq!((error.kind(), error.message()), (ErrorKind::AccessDenied, "no"));
    }

    #[test]
    fn a_bus_without_poold_says_so() {
        let error = zbus::Error::FDO(Box::new(zbus::fdo::Error::ServiceUnknown("none".into())));
        assert!(Error::from(error).message().starts_with("poold does not answer"));
    }
}
