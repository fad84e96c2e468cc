//! Deleting volumes, and who stands against it.

use super::ImageDirectory;
use crate::host::{Access, holders};
use crate::image::lock;
use crate::model::{ErrorKind, Result, Volume, VolumeName};
use rustix::fs::FileType;
use std::fs::File;

impl ImageDirectory<'_> {
    /// Deletes a volume: of a symbolic link, the link; of directories, empty ones. One that is
    /// gone already is success.
    pub(crate) fn delete_volume(&self, volume: &Volume, force: bool) -> Result<()> {
        let name = &volume.name;
        // Held until the name is gone, so that no machine starts on it meanwhile.
        let _held = if force { None } else { self.check_deletable(volume)? };
        let found = self
            .directory
            .find(name.as_str())
            .map_err(|error| self.volume_failed(name, "cannot look for it", &error))?;
        let removed = match found.map(|stat| stat.kind) {
            None => Ok(()),
            Some(FileType::Directory) => self.directory.remove_directory(name.as_str()),
            Some(_) => self.directory.unlink(name.as_str()),
        };
        match removed {
            Ok(()) => {}
            Err(error) => match error.raw_os_error() {
                Some(libc::ENOENT) => {}
                Some(libc::ENOTEMPTY | libc::EEXIST) => {
                    return Err(self.volume_error(
                        ErrorKind::Busy,
                        name,
                        "the directory is not empty; empty it first",
                    ));
                }
                _ => return Err(self.volume_failed(name, "cannot delete it", &error)),
            },
        }
        self.directory
            .sync()
            .map_err(|error| self.volume_failed(name, "cannot write to the storage", &error))?;
        self.ctx.records.forget(self.pool.def.uuid, name)
    }

    /// Refuses a volume in use (`Busy`); its open file, which holds the image lock.
    pub(super) fn check_deletable(&self, volume: &Volume) -> Result<Option<File>> {
        self.check_no_overlay(volume)?;
        let name = &volume.name;
        match self.directory.open_file(name.as_str(), Access::Read) {
            Ok(file) => {
                self.take(name, &file)?;
                Ok(Some(file))
            }
            // A link's file stays; a directory has no lock; what is gone or unreadable neither.
            Err(_) => Ok(None),
        }
    }

    /// Refuses a volume that another one is a difference to.
    pub(super) fn check_no_overlay(&self, volume: &Volume) -> Result<()> {
        match self.ctx.known.overlay_of(&volume.path) {
            None => Ok(()),
            Some(overlay) => Err(self.volume_error(
                ErrorKind::Busy,
                &volume.name,
                format!("it is the backing file of {overlay}; delete that first"),
            )),
        }
    }

    /// Takes the image lock of a regular file, or says who has it in use.
    pub(super) fn take(&self, name: &VolumeName, file: &File) -> Result<()> {
        let regular = file.metadata().is_ok_and(|metadata| metadata.is_file());
        if !regular {
            return Ok(());
        }
        let busy = |who: String| {
            Err(self.volume_error(ErrorKind::Busy, name, format!("{who} uses it; end that first")))
        };
        let path = holders::path_of(file)
            .map_err(|error| self.volume_failed(name, "cannot tell where its file is", &error))?;
        if let Some(user) = holders::kernel_user(&path) {
            return busy(user);
        }
        let free = lock::hold(file)
            .map_err(|error| self.volume_failed(name, "cannot ask for its image lock", &error))?;
        match free {
            true => Ok(()),
            false => {
                busy(holders::process(&path).unwrap_or_else(|| {
                    "a virtual machine or qemu program (by its lock)".to_owned()
                }))
            }
        }
    }
}
