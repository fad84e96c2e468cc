//! What a program reads as a file and nobody else sees: memory that is sealed, named by a path that
//! only root may open.

use super::files;
use crate::model::{Error, Result};
use rustix::fs::{MemfdFlags, SealFlags};
use std::fs::File;
use std::io::Write;

/// Bytes, maybe secret, that programs can read as a file for as long as this lives. They are in no
/// argument, environment or file of a disk.
#[derive(Debug)]
pub struct Sealed(File);

impl Sealed {
    /// Seals bytes; `name` is what /proc calls them.
    pub fn new(name: &str, bytes: &[u8]) -> Result<Self> {
        let failed =
            |error: std::io::Error| Error::io(format_args!("cannot keep a {name}"), &error);
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let memory = rustix::fs::memfd_create(name, flags);
        let mut file = File::from(memory.map_err(|error| failed(error.into()))?);
        file.write_all(bytes).map_err(failed)?;
        let seals = SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE;
        rustix::fs::fcntl_add_seals(&file, seals).map_err(|error| failed(error.into()))?;
        Ok(Self(file))
    }

    /// Where programs find it.
    pub fn path(&self) -> String {
        files::own_path(&self.0)
    }
}
