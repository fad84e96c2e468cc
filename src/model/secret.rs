//! What a secret is; its value is never part of this.

use super::Uuid;
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
