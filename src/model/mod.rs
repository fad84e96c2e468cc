//! What a pool, volume, source, target and secret *are*: plain types and their validation, no I/O.
//!
//! Every other layer may use this one; it uses none of them.

mod declaration;
mod draft;
mod error;
mod format;
mod name;
mod pool;
mod pool_type;
mod secret;
mod size;
mod source;
mod text;
mod volume;
mod wipe;

pub use declaration::{Declaration, FileIdentity};
pub use draft::{Flaw, PoolDraft};
pub use error::{Error, ErrorKind, Result};
pub use format::{FormatSource, VolumeFormat};
pub use name::{PoolName, VolumeName};
pub use pool::{AccessIds, Features, Permissions, PoolDef, RefreshAllocation, Target};
pub use pool_type::{Need, PoolType, PoolTypeInfo, VolumePaths};
pub use secret::{SecretDef, SecretDraft, SecretKind, SecretUsage, SecretValue};
pub use size::{format_size, parse_scaled};
pub use source::{
    Adapter, Auth, AuthKind, FcHost, FcParent, FreeExtent, HostAddress, PciAddress, ScsiHost,
    SecretRef, Source, SourceDevice,
};
pub use text::{clean_path, unprintable};
pub use uuid::Uuid;
pub use volume::{
    BackingStore, BlockAttributes, Encryption, Extent, ImageAttributes, Provisioning, Timestamps,
    Usage, Volume, VolumeDef, VolumeFeatures, VolumeKind,
};
pub use wipe::WipeAlgorithm;
