//! What the creator of a volume declared it to be, and which file that was.

use super::{BackingStore, Encryption, VolumeFormat};
use serde::{Deserialize, Serialize};

/// Which file it is, whatever its name: survives a rename, not a replacement.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileIdentity {
    /// Inode number.
    pub inode: u64,
    /// Birth time (seconds, nanoseconds), where the file system knows it.
    pub birth: Option<(i64, u32)>,
    /// The kernel's file handle, where the file system has them.
    pub handle: Option<Vec<u8>>,
}

/// What a volume's creator declared; holds as long as the identity matches.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Declaration {
    /// The file that was declared; absent where the storage itself keeps names unique.
    pub identity: Option<FileIdentity>,
    /// The key of the volume that was declared, where it is no file: another that has its name is
    /// not it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// Format.
    pub format: VolumeFormat,
    /// Whether nobody declared that: it is what the content said when the volume was marked
    /// incomplete.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub probed: bool,
    /// The image it is a difference to.
    pub backing: Option<BackingStore>,
    /// How it is encrypted, and with which secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encryption: Option<Encryption>,
    /// Why it is not whole, while it is not.
    pub incomplete: Option<String>,
}
