//! Upload and download: a volume's content from or to a descriptor of the client's, for every type
//! of pool in the same way.

use super::{ActivePool, Backend, OpContext};
use crate::model::{Error, ErrorKind, Result, Volume};
use std::os::fd::OwnedFd;

/// Which part of a volume is transferred, and how.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TransferOptions {
    /// First byte in the volume.
    pub offset: u64,
    /// How many bytes; absent means to the end of the volume (download) or of the source (upload).
    pub length: Option<u64>,
    /// Holes stay holes: not read, not written; in a descriptor that can have none, zeros.
    pub sparse: bool,
    /// Although the volume is in use.
    pub force: bool,
}

/// A client's descriptor that was checked: a file, block device, pipe or stream socket, open for
/// what it is to do.
#[derive(Debug)]
pub struct Peer(OwnedFd);

impl Peer {
    /// To read from; `InvalidArgument` says what is wrong with it. Does not block.
    pub fn source(descriptor: OwnedFd) -> Result<Self> {
        Ok(Self(descriptor))
    }

    /// To write into; `InvalidArgument` says what is wrong with it. Does not block.
    pub fn destination(descriptor: OwnedFd) -> Result<Self> {
        Ok(Self(descriptor))
    }
}

/// Writes what `source` delivers into a volume, syncs it and reads the volume again. From the first
/// byte until it is written as it should be the volume is marked incomplete.
pub fn upload(
    _backend: &dyn Backend,
    _pool: &ActivePool,
    volume: &Volume,
    _source: Peer,
    _options: TransferOptions,
    _ctx: &OpContext,
) -> Result<Volume> {
    Err(Error::new(ErrorKind::NotSupported, format!("volume {}: not yet", volume.name)))
}

/// Writes a volume's content into `destination`.
pub fn download(
    _backend: &dyn Backend,
    _pool: &ActivePool,
    volume: &Volume,
    _destination: Peer,
    _options: TransferOptions,
    _ctx: &OpContext,
) -> Result<()> {
    Err(Error::new(ErrorKind::NotSupported, format!("volume {}: not yet", volume.name)))
}
