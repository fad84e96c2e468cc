//! Changing the capacity of volumes.

use super::super::ResizeOptions;
use super::ImageDirectory;
use crate::host::{Access, FileStat};
use crate::model::{Error, ErrorKind, Result, Volume, VolumeFormat, VolumeKind, VolumeName};
use std::fs::File;

impl ImageDirectory<'_> {
    /// Changes a volume's capacity and reads it.
    pub(crate) fn resize(
        &self,
        volume: &Volume,
        capacity: u64,
        options: ResizeOptions,
    ) -> Result<Volume> {
        let name = &volume.name;
        if volume.kind != VolumeKind::File {
            return Err(self.volume_error(
                ErrorKind::NotSupported,
                name,
                format!("a volume of kind {} has no size to change", volume.kind.as_str()),
            ));
        }
        if capacity > i64::MAX as u64 {
            return Err(self.volume_error(
                ErrorKind::InvalidArgument,
                name,
                "no file can be as large as this capacity",
            ));
        }
        let file = self
            .directory
            .open_file(name.as_str(), Access::ReadWrite)
            .map_err(|error| self.volume_failed(name, "cannot open it for writing", &error))?;
        let stat = FileStat::of(&file)
            .map_err(|error| self.volume_failed(name, "cannot read its size", &error))?;
        // The volume as it is now: the caller's may be older than its file.
        let current = self.check_same(volume)?;
        if let Some(why) = &current.incomplete {
            return Err(self.volume_error(
                ErrorKind::Conflict,
                name,
                format!("it is not whole ({why})"),
            ));
        }
        if capacity < current.capacity && !options.shrink {
            return Err(self.shrinks(name));
        }
        match current.format {
            VolumeFormat::Raw => self.resize_raw(&current, &file, stat.size, capacity, options),
            VolumeFormat::Qcow2 => self.resize_qcow2(&current, &file, capacity, options),
            format => Err(self.volume_error(
                ErrorKind::NotSupported,
                name,
                format!("resizing format {format} is not implemented yet"),
            )),
        }?;
        file.sync_all()
            .map_err(|error| self.volume_failed(name, "cannot write it to the storage", &error))?;
        self.volume(name)?.ok_or_else(|| {
            self.volume_error(ErrorKind::NotFound, name, "it is gone; refresh the pool")
        })
    }

    fn resize_raw(
        &self,
        volume: &Volume,
        file: &File,
        size: u64,
        capacity: u64,
        options: ResizeOptions,
    ) -> Result<()> {
        let name = &volume.name;
        let _held = if capacity < size && !options.force {
            self.check_no_overlay(volume)?;
            self.take(name, file)?
        } else {
            None
        };
        if capacity > size && options.allocate {
            self.check_room(name, capacity - size)?;
            self.ctx.progress.set_total(capacity - size);
        }
        file.set_len(capacity)
            .map_err(|error| self.volume_failed(name, "cannot change its size", &error))?;
        if capacity > size && options.allocate {
            self.allocate_range(name, file, size, capacity).inspect_err(|_| {
                // As it was before; the first error is what matters.
                let _ = file.set_len(size);
            })?;
        }
        Ok(())
    }

    /// The refusal of a smaller capacity that nobody said is meant.
    pub(super) fn shrinks(&self, name: &VolumeName) -> Error {
        let what = "it is larger than that; say shrink to cut off its end";
        self.volume_error(ErrorKind::InvalidArgument, name, what)
    }
}
