//! A volume's content, open.

use crate::host::{Server, copy::Holes};
use crate::image::lock::Held;
use crate::model::{Error, ErrorKind, Result, VolumeKind};
use std::fs::File;
use std::os::fd::AsFd;

/// What a volume's content is opened for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VolumeAccess {
    /// Reading, also while somebody writes it.
    Read,
    /// Reading what does not change meanwhile; refused while somebody may write it.
    ReadUnchanged,
    /// Reading and writing; refused while somebody uses it, unless `force`.
    Write {
        /// Although it is in use.
        force: bool,
    },
}

/// A volume's content, open, as a file or device whatever its pool is made of: what is on a server only
/// is a file that a program serves (`host::serve`). Its image lock, where it has one, is held until this
/// is dropped.
#[derive(Debug)]
pub struct VolumeIo {
    file: Content,
    /// What it is.
    pub kind: VolumeKind,
    /// Its size in bytes when it was opened: of the file or device, not of what a guest sees.
    pub size: u64,
}

#[derive(Debug)]
enum Content {
    Held(Held<File>),
    Free(File),
    /// With the program that serves it, which ends after the file is closed.
    Served(File, #[expect(dead_code, reason = "held for its drop")] Server),
}

impl VolumeIo {
    /// An open file or block device, and its lock.
    pub fn held(file: Held<File>, kind: VolumeKind, size: u64) -> Self {
        Self { file: Content::Held(file), kind, size }
    }

    /// An open file or block device that has no image lock, or whose lock is not asked for.
    pub fn free(file: File, kind: VolumeKind, size: u64) -> Self {
        Self { file: Content::Free(file), kind, size }
    }

    /// An image on a server, which a program serves as a file.
    pub fn served((file, server): (File, Server), size: u64) -> Self {
        Self { file: Content::Served(file, server), kind: VolumeKind::Network, size }
    }

    /// The file or device.
    pub fn file(&self) -> &File {
        match &self.file {
            Content::Held(held) => held.get(),
            Content::Free(file) | Content::Served(file, _) => file,
        }
    }

    /// How holes are made in it.
    pub fn holes(&self) -> Holes {
        match &self.file {
            Content::Served(..) => Holes::Zero,
            Content::Held(_) | Content::Free(_) => Holes::Punch,
        }
    }

    /// The descriptor, for somebody else: the lock belongs to the open file and lasts until the
    /// last descriptor of it is closed. What a program serves lasts no longer than this.
    pub fn into_file(self) -> Result<File> {
        match self.file {
            Content::Held(held) => Ok(held.keep()),
            Content::Free(file) => Ok(file),
            Content::Served(..) => Err(Error::new(
                ErrorKind::NotSupported,
                "volumes that are on a server only have no descriptor; use Upload and Download",
            )),
        }
    }
}

impl AsFd for VolumeIo {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.file().as_fd()
    }
}
