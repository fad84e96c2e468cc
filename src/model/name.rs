//! Names of pools and volumes, valid by construction.

use super::text::unprintable;
use super::{Error, ErrorKind, Result};
use serde::{Deserialize, Serialize};
use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

/// Longest name of a pool or volume, in bytes (NAME_MAX).
const MAX_NAME: usize = 255;

/// Says why `name` cannot be a single path component that poold creates, if it cannot.
fn flaw(name: &str) -> Option<&'static str> {
    if name.is_empty() {
        Some("is empty")
    } else if name.len() > MAX_NAME {
        Some("is longer than 255 bytes")
    } else if name == "." || name == ".." {
        Some("is a directory of its own")
    } else if name.contains('/') {
        Some("contains '/'")
    } else if name.chars().any(unprintable) {
        Some("contains a control character")
    } else {
        None
    }
}

macro_rules! name_type {
    ($(#[$doc:meta])* $type:ident, $what:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $type(Arc<str>);

        impl $type {
            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl AsRef<str> for $type {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl Borrow<str> for $type {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl From<$type> for String {
            fn from(name: $type) -> String {
                name.0.as_ref().to_owned()
            }
        }

        impl TryFrom<String> for $type {
            type Error = Error;
            fn try_from(name: String) -> Result<Self> {
                Self::found(&name)
                    .ok_or_else(|| Error::new(ErrorKind::InvalidArgument, concat!("invalid ", $what, " name")))
            }
        }

        impl $type {
            /// A name to be created: additionally must not begin with `-`.
            pub fn new(name: &str) -> Result<Self> {
                let flaw = flaw(name).or(name.starts_with('-').then_some("begins with '-'"));
                match flaw {
                    None => Ok(Self(name.into())),
                    Some(flaw) => {
                        let shown: String = name.chars().take(64).collect();
                        Err(Error::new(
                            ErrorKind::InvalidArgument,
                            format!(concat!($what, " name {:?} {}"), shown, flaw),
                        ))
                    }
                }
            }

            /// The name of something found on the storage, if it can be shown as a name at all.
            pub fn found(name: &str) -> Option<Self> {
                flaw(name).is_none().then(|| Self(name.into()))
            }
        }
    };
}

name_type!(
    /// Name of a pool: one path component, since its definition is a file of that name.
    PoolName,
    "pool"
);
name_type!(
    /// Name of a volume: one path component.
    VolumeName,
    "volume"
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_escape_or_confuse_are_refused() {
        for name in ["", ".", "..", "../x", "a/b", "-rf", "a\nb", "a\0b", &"x".repeat(256)] {
            let error = VolumeName::new(name).expect_err(name);
            assert_eq!(error.kind(), ErrorKind::InvalidArgument);
            assert!(!error.message().contains('\n'), "{error}");
        }
        for name in ["disk.qcow2", "-", "ä ö", "...", &"x".repeat(255)] {
            assert_eq!(VolumeName::new(name).is_ok(), name != "-", "{name}");
        }
        assert!(VolumeName::found("-rf").is_some());
    }
}
