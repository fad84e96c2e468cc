//! What a secret is; its value is never part of this.

use super::{Error, ErrorKind, Result, Uuid, unprintable};
use std::fmt;
use zeroize::Zeroizing;

/// A secret's description.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretDef {
    /// Identity.
    pub uuid: Uuid,
    /// What it is for.
    pub usage: SecretUsage,
    /// Free text.
    pub description: Option<String>,
    /// Whether it is gone with the daemon.
    pub ephemeral: bool,
    /// Whether its value can never be read back.
    pub private: bool,
}

/// A secret as somebody states it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SecretDraft {
    /// Which one; absent: that of the usage, or a new one.
    pub uuid: Option<Uuid>,
    /// What it is for; absent: as it was, or nothing in particular.
    pub usage: Option<SecretUsage>,
    /// Free text; absent: as it was.
    pub description: Option<String>,
    /// Whether it is gone with the daemon.
    pub ephemeral: bool,
    /// Whether its value can never be read back; absent: as it was, or not.
    pub private: Option<bool>,
}

impl SecretDraft {
    /// The secret, where there was none.
    pub fn complete(self) -> SecretDef {
        SecretDef {
            uuid: self.uuid.unwrap_or_else(Uuid::new_v4),
            usage: self.usage.unwrap_or(SecretUsage::None),
            description: self.description,
            ephemeral: self.ephemeral,
            private: self.private.unwrap_or(false),
        }
    }
}

/// What a secret is for; the text is the usage name by which others refer to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SecretUsage {
    /// Nothing in particular.
    None,
    /// The passphrase of a volume, by its key.
    Volume(String),
    /// A Ceph user's key.
    Ceph(String),
    /// A CHAP password.
    Iscsi(String),
    /// A CIFS user's password.
    Cifs(String),
    /// What opens a TLS key; no pool needs it.
    Tls(String),
    /// What seals the state of a virtual TPM; no pool needs it.
    Vtpm(String),
}

/// A kind of usage: `SecretUsage::Ceph` and the like.
pub type SecretKind = fn(String) -> SecretUsage;

impl SecretUsage {
    /// The word for what it is for, and the usage name.
    pub fn parts(&self) -> (&'static str, &str) {
        match self {
            Self::None => ("none", ""),
            Self::Volume(name) => ("volume", name),
            Self::Ceph(name) => ("ceph", name),
            Self::Iscsi(name) => ("iscsi", name),
            Self::Cifs(name) => ("cifs", name),
            Self::Tls(name) => ("tls", name),
            Self::Vtpm(name) => ("vtpm", name),
        }
    }

    /// The usage of that word and name.
    pub fn from_parts(word: &str, name: &str) -> Result<Self> {
        let invalid = |message: String| Err(Error::new(ErrorKind::InvalidArgument, message));
        let make = match word {
            "none" if name.is_empty() => return Ok(Self::None),
            "none" => {
                return invalid("a secret for nothing in particular has no usage name".into());
            }
            "volume" => Self::Volume,
            "ceph" => Self::Ceph,
            "iscsi" => Self::Iscsi,
            "cifs" => Self::Cifs,
            "tls" => Self::Tls,
            "vtpm" => Self::Vtpm,
            _ => {
                return invalid(format!(
                    "{word:?} is none of none, volume, ceph, iscsi, cifs, tls and vtpm"
                ));
            }
        };
        match name.chars().find(|c| unprintable(*c)) {
            _ if name.is_empty() => invalid(format!("a secret for {word} needs a usage name")),
            Some(found) => invalid(format!("a usage name cannot have the character {found:?}")),
            None => Ok(make(name.to_owned())),
        }
    }
}

/// The value of a secret: kept out of logs, wiped from memory when it is dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretValue(Zeroizing<Vec<u8>>);

impl SecretValue {
    /// A value.
    pub fn new(bytes: Vec<u8>) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// Its bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for SecretValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretValue(..)")
    }
}
