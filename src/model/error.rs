//! The one error type: a kind to match on, a message for a person, and the cause beneath it.

use std::fmt;

/// Result of everything in poold that can fail.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong, in a form that programs match on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum ErrorKind {
    /// No such pool, volume, job or secret.
    NotFound,
    /// The name is taken.
    Exists,
    /// An argument or option has a value that cannot be.
    InvalidArgument,
    /// A document is not what it should be; the message has line and path.
    InvalidXml,
    /// This type of pool or volume cannot do that.
    NotSupported,
    /// In use; the message names the holder.
    Busy,
    /// The job goes on; the message names it.
    InProgress,
    /// The pool must be active for this.
    NotActive,
    /// The pool must not be active for this.
    Active,
    /// Not enough room.
    NoSpace,
    /// A program that this needs is not installed; the message names its package.
    ToolMissing,
    /// A program failed; the message has its exit status and last line.
    ToolFailed,
    /// The deadline passed.
    TimedOut,
    /// The storage does not answer, or is not what it was.
    Inaccessible,
    /// Cancelled on request.
    Cancelled,
    /// Contradicts another definition or what the storage says of itself.
    Conflict,
    /// The pool's storage has not been made yet.
    NotBuilt,
    /// The pool's storage holds data already.
    AlreadyBuilt,
    /// The server refused the credentials.
    AuthenticationFailed,
    /// The caller may not do this.
    AccessDenied,
    /// The caller may do this after authenticating interactively.
    InteractiveAuthorizationRequired,
    /// Too many, too large or too deep.
    LimitsExceeded,
    /// No object at this D-Bus path.
    UnknownObject,
    /// The object has no such interface.
    UnknownInterface,
    /// The interface has no such method.
    UnknownMethod,
    /// The interface has no such property.
    UnknownProperty,
    /// The property cannot be written.
    PropertyReadOnly,
    /// The arguments do not have the method's signature.
    InvalidArgs,
    /// A defect in poold or a failure that has no better name.
    Failed,
}

use ErrorKind as K;

/// Every kind with its D-Bus name and poolctl's exit status: the only place where these are said.
const KINDS: &[(ErrorKind, &str, u8)] = &[
    (K::Failed, "org.freedesktop.DBus.Error.Failed", 1),
    (K::InvalidArgument, "org.poold1.Error.InvalidArgument", 3),
    (K::InvalidXml, "org.poold1.Error.InvalidXml", 3),
    (K::InvalidArgs, "org.freedesktop.DBus.Error.InvalidArgs", 3),
    (K::NotFound, "org.poold1.Error.NotFound", 4),
    (K::UnknownObject, "org.freedesktop.DBus.Error.UnknownObject", 4),
    (K::UnknownInterface, "org.freedesktop.DBus.Error.UnknownInterface", 4),
    (K::UnknownMethod, "org.freedesktop.DBus.Error.UnknownMethod", 4),
    (K::UnknownProperty, "org.freedesktop.DBus.Error.UnknownProperty", 4),
    (K::PropertyReadOnly, "org.freedesktop.DBus.Error.PropertyReadOnly", 4),
    (K::Exists, "org.poold1.Error.Exists", 5),
    (K::Conflict, "org.poold1.Error.Conflict", 5),
    (K::AlreadyBuilt, "org.poold1.Error.AlreadyBuilt", 5),
    (K::Busy, "org.poold1.Error.Busy", 6),
    (K::InProgress, "org.poold1.Error.InProgress", 7),
    (K::NotActive, "org.poold1.Error.NotActive", 8),
    (K::Active, "org.poold1.Error.Active", 8),
    (K::NotBuilt, "org.poold1.Error.NotBuilt", 8),
    (K::NotSupported, "org.poold1.Error.NotSupported", 9),
    (K::NoSpace, "org.poold1.Error.NoSpace", 10),
    (K::ToolMissing, "org.poold1.Error.ToolMissing", 11),
    (K::ToolFailed, "org.poold1.Error.ToolFailed", 11),
    (K::TimedOut, "org.poold1.Error.TimedOut", 12),
    (K::Inaccessible, "org.poold1.Error.Inaccessible", 13),
    (K::Cancelled, "org.poold1.Error.Cancelled", 14),
    (K::LimitsExceeded, "org.freedesktop.DBus.Error.LimitsExceeded", 15),
    (K::AuthenticationFailed, "org.poold1.Error.AuthenticationFailed", 16),
    (K::AccessDenied, "org.freedesktop.DBus.Error.AccessDenied", 17),
    (
        K::InteractiveAuthorizationRequired,
        "org.freedesktop.DBus.Error.InteractiveAuthorizationRequired",
        17,
    ),
];

impl ErrorKind {
    /// Every kind there is.
    pub fn all() -> impl Iterator<Item = ErrorKind> {
        KINDS.iter().map(|(kind, _, _)| *kind)
    }

    /// The D-Bus error name.
    pub fn dbus_name(self) -> &'static str {
        self.row().1
    }

    /// The exit status of poolctl.
    pub fn exit_status(self) -> u8 {
        self.row().2
    }

    /// The kind that has this D-Bus error name.
    pub fn from_dbus_name(name: &str) -> Option<ErrorKind> {
        KINDS.iter().find(|(_, dbus, _)| *dbus == name).map(|(kind, _, _)| *kind)
    }

    fn row(self) -> &'static (ErrorKind, &'static str, u8) {
        KINDS.iter().find(|(kind, _, _)| *kind == self).unwrap_or(&KINDS[0])
    }
}

/// An error: its kind, a message that names the object and what to do next, and its cause.
#[derive(Debug, Clone)]
pub struct Error {
    kind: ErrorKind,
    message: String,
}

impl Error {
    /// An error of `kind` with a message for a person.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into() }
    }

    /// An operating system error, met while doing `what` ("cannot open /x").
    ///
    /// The kind follows the error number: a full disk is `NoSpace`, a name that is taken is
    /// `Exists`, a dead server is `Inaccessible`.
    pub fn io(what: impl fmt::Display, error: &std::io::Error) -> Self {
        let kind = match error.raw_os_error() {
            Some(libc::ENOENT) => K::NotFound,
            Some(libc::EEXIST) => K::Exists,
            Some(libc::ENOSPC | libc::EDQUOT) => K::NoSpace,
            Some(libc::EBUSY | libc::ETXTBSY) => K::Busy,
            Some(libc::EOPNOTSUPP | libc::ENOSYS) => K::NotSupported,
            Some(libc::EFBIG | libc::EINVAL | libc::ENAMETOOLONG) => K::InvalidArgument,
            Some(_) => K::Inaccessible,
            None if error.kind() == std::io::ErrorKind::TimedOut => K::TimedOut,
            None => K::Failed,
        };
        Self::new(kind, format!("{what}: {error}"))
    }

    /// What went wrong.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// The message, without the kind.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// The same error with `context: ` before its message.
    #[must_use]
    pub fn context(mut self, context: impl fmt::Display) -> Self {
        self.message = format!("{context}: {}", self.message);
        self
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_one_name_of_its_own() {
        let mut names: Vec<_> = ErrorKind::all().map(ErrorKind::dbus_name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), ErrorKind::all().count());
        for kind in ErrorKind::all() {
            assert_eq!(ErrorKind::from_dbus_name(kind.dbus_name()), Some(kind));
        }
    }

    #[test]
    fn a_full_disk_is_no_space() {
        let error = Error::io("cannot write x", &std::io::Error::from_raw_os_error(libc::ENOSPC));
        assert_eq!(error.kind(), ErrorKind::NoSpace);
        assert!(error.to_string().starts_with("cannot write x: "));
    }
}
