//! Deleting volumes, and who stands against it.

use super::ImageDirectory;
use crate::host::{Access, FileStat, holders};
use crate::image::lock::{self, Held};
use crate::model::{ErrorKind, Result, Volume, VolumeKind, VolumeName};
use rustix::fs::FileType;
use std::fs::File;
use std::os::fd::AsFd;

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
            Some(FileType::Directory) if volume.kind == VolumeKind::Ploop => {
                self.delete_ploop(name)
            }
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

    /// Refuses a volume in use (`Busy`); its image lock, where it has one.
    pub(super) fn check_deletable(&self, volume: &Volume) -> Result<Option<Held<File>>> {
        self.check_no_overlay(volume)?;
        let name = &volume.name;
        let opened = match volume.kind {
            VolumeKind::Ploop => self.ploop_file(name),
            _ => self.directory.open_file(name.as_str(), Access::Read),
        };
        match opened {
            Ok(file) => self.take(name, file),
            Err(error) => match error.raw_os_error() {
                // A link's file stays; what is gone or no file has no lock.
                Some(libc::ELOOP | libc::ENOENT | libc::ENXIO) => Ok(None),
                _ => Err(self.volume_failed(name, "cannot tell whether it is in use", &error)),
            },
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

    /// Takes the image lock of a regular file, or says who has it in use; other files have none.
    pub(super) fn take<F: AsFd>(&self, name: &VolumeName, file: F) -> Result<Option<Held<F>>> {
        let stat = FileStat::of(&file)
            .map_err(|error| self.volume_failed(name, "cannot tell what it is", &error))?;
        if !stat.kind.is_file() {
            return Ok(None);
        }
        let busy = |who: String| {
            Err(self.volume_error(ErrorKind::Busy, name, format!("{who} uses it; end that first")))
        };
        let path = holders::path_of(&file)
            .map_err(|error| self.volume_failed(name, "cannot tell where its file is", &error))?;
        if let Some(user) = holders::kernel_user(&path) {
            return busy(user);
        }
        let held = lock::hold(file)
            .map_err(|error| self.volume_failed(name, "cannot ask for its image lock", &error))?;
        match held {
            Some(held) => Ok(Some(held)),
            None => busy(super::open::user(&path)),
        }
    }
}
