//! Opening the content of volumes.

use super::super::{VolumeAccess, VolumeIo};
use super::ImageDirectory;
use crate::host::{Access, FileStat, files, holders};
use crate::image::lock;
use crate::model::{ErrorKind, Result, Volume, VolumeFormat, VolumeKind, VolumeName};
use rustix::fs::FileType;
use std::ffi::CString;
use std::fs::File;

impl ImageDirectory<'_> {
    /// Opens a volume's content, which is the volume that the caller saw.
    pub(crate) fn open_volume(&self, volume: &Volume, access: VolumeAccess) -> Result<VolumeIo> {
        let name = &volume.name;
        if volume.format == VolumeFormat::Dir {
            let what = format!("a volume of kind {} cannot be opened", volume.kind.as_str());
            return Err(self.volume_error(ErrorKind::NotSupported, name, what));
        }
        let how = match access {
            VolumeAccess::Write { .. } => Access::ReadWrite,
            VolumeAccess::Read | VolumeAccess::ReadUnchanged => Access::Read,
        };
        let file = match volume.kind {
            VolumeKind::Ploop => self.open_ploop(name, how)?,
            _ => self.open_content(name, how)?,
        };
        let failed = |error: &_| self.volume_failed(name, "cannot tell what it is", error);
        let stat = FileStat::of(&file).map_err(|error| failed(&error))?;
        self.check_same(volume)?;
        let (kind, size) = match stat.kind {
            FileType::BlockDevice => {
                (VolumeKind::Block, files::device_size(&file).map_err(|error| failed(&error))?)
            }
            _ => (VolumeKind::File, stat.size),
        };
        let locked = |error| self.volume_failed(name, "cannot ask for its image lock", &error);
        match access {
            VolumeAccess::Write { force: true } => Ok(VolumeIo::free(file, kind, size)),
            VolumeAccess::Write { force: false } => {
                self.check_no_overlay(volume)?;
                if kind == VolumeKind::Block {
                    self.check_no_opener(name, &file)?;
                    return Ok(VolumeIo::free(file, kind, size));
                }
                match self.take(name, file)? {
                    Some(held) => Ok(VolumeIo::held(held, kind, size)),
                    None => Err(self.volume_error(ErrorKind::NotSupported, name, "it is no file")),
                }
            }
            VolumeAccess::Read => {
                lock::mark_read(file).map(|held| VolumeIo::held(held, kind, size)).map_err(locked)
            }
            VolumeAccess::ReadUnchanged => {
                let path = holders::path_of(&file).map_err(|error| failed(&error))?;
                match lock::hold_unchanged(file).map_err(locked)? {
                    Some(held) => Ok(VolumeIo::held(held, kind, size)),
                    None => Err(self.volume_error(
                        ErrorKind::Busy,
                        name,
                        format!("{} may write it; end that first", user(&path)),
                    )),
                }
            }
        }
    }

    /// Opens a volume's file or device, through a link only where that is root's.
    fn open_content(&self, name: &VolumeName, access: Access) -> Result<File> {
        let failed = |error: std::io::Error| self.volume_failed(name, "cannot open it", &error);
        match self.directory.open_file(name.as_str(), access) {
            Err(error) if error.raw_os_error() == Some(libc::ELOOP) => {
                let c_name = CString::new(name.as_str()).map_err(|error| failed(error.into()))?;
                match self.follow(&c_name, access).map_err(failed)? {
                    Some((file, _)) => Ok(file),
                    None => Err(self.volume_error(
                        ErrorKind::NotFound,
                        name,
                        "it is a symbolic link that leads nowhere, or is not root's all the way",
                    )),
                }
            }
            result => result.map_err(failed),
        }
    }

    /// Refuses a volume whose file is not what the caller saw.
    pub(super) fn check_same(&self, volume: &Volume) -> Result<Volume> {
        let name = &volume.name;
        let current = self.volume(name)?.ok_or_else(|| {
            self.volume_error(ErrorKind::NotFound, name, "it is gone; refresh the pool")
        })?;
        if (current.kind, current.format, current.format_source)
            != (volume.kind, volume.format, volume.format_source)
        {
            return Err(self.volume_error(
                ErrorKind::Conflict,
                name,
                "its file was replaced; refresh the pool and look at it again",
            ));
        }
        Ok(current)
    }

    /// Refuses a device that somebody else has open.
    fn check_no_opener(&self, name: &VolumeName, file: &File) -> Result<()> {
        let path = holders::path_of(file)
            .map_err(|error| self.volume_failed(name, "cannot tell where it is", &error))?;
        match holders::kernel_user(&path).or_else(|| holders::process(&path)) {
            None => Ok(()),
            Some(who) => Err(self.volume_error(
                ErrorKind::Busy,
                name,
                format!("{who} uses it; end that first"),
            )),
        }
    }
}

/// Who has a locked image open.
pub(super) fn user(path: &std::path::Path) -> String {
    holders::process(path)
        .unwrap_or_else(|| "a virtual machine or qemu program (by its lock)".to_owned())
}
