//! Changing the capacity of volumes.

use super::super::ResizeOptions;
use super::ImageDirectory;
use crate::backend::images::hand_over;
use crate::host::{Access, FileStat};
use crate::image::formats;
use crate::image::node::Node;
use crate::image::qemu_img::QemuImg;
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
        let is_ploop = volume.kind == VolumeKind::Ploop;
        if !is_ploop && volume.kind != self.info().volume_kind {
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
        if is_ploop {
            let current = self.check_same(volume)?;
            if capacity < current.capacity && !options.shrink {
                return Err(self.shrinks(name));
            }
            self.resize_ploop(&current, capacity)?;
            return self.read_new(name);
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
            _ => self.resize_image(&current, &file, capacity, options),
        }?;
        file.sync_all().map_err(|error| {
            if current.format == VolumeFormat::Raw && capacity > stat.size {
                // As it was before; the first error is what matters.
                let _ = file.set_len(stat.size);
            }
            self.volume_failed(name, "cannot write it to the storage", &error)
        })?;
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

    /// Changes the capacity of an image: in place where that is possible, else by QEMU.
    fn resize_image(
        &self,
        volume: &Volume,
        file: &File,
        capacity: u64,
        options: ResizeOptions,
    ) -> Result<()> {
        let (name, format) = (&volume.name, volume.format);
        let refuse = |what: &str| Err(self.volume_error(ErrorKind::NotSupported, name, what));
        let Some(info) = formats::info(format) else {
            return refuse(&format!("{format} is no format of images"));
        };
        let capacity = capacity.checked_next_multiple_of(512).unwrap_or(capacity);
        let shrinks = capacity < volume.capacity;
        match (info.grows, info.shrinks) {
            (true, true) => {}
            (true, false) if !shrinks => {}
            (true, _) => return refuse(&format!("QEMU cannot make {format} images smaller")),
            (false, _) => {
                let what = "QEMU cannot change the capacity of images of its format";
                return refuse(&format!("{what} ({format}); clone it into qcow2 or raw"));
            }
        }
        if options.allocate && !info.preallocations.contains(&"falloc") {
            return refuse(&format!("{format} images cannot be allocated beforehand"));
        }
        if shrinks {
            self.check_no_overlay(volume)?;
        }
        // Never by force: two writers of the tables destroy an image.
        let held = self.take(name, file)?;
        self.images().check_names(volume, file)?;
        if capacity == volume.capacity {
            return Ok(());
        }
        let chain =
            volume.backing().map(|backing| self.images().chain(name, backing, 0)).transpose()?;
        let in_place = format == VolumeFormat::Qcow2 && !options.allocate;
        if in_place && self.grow_qcow2(volume, file, capacity)? {
            return Ok(());
        }
        if options.allocate {
            self.check_room(name, capacity.saturating_sub(volume.capacity))?;
        }
        // qemu-img takes the lock itself.
        drop(held);
        let mut run = QemuImg::new("resize").arg("-q");
        let (kept, below) = hand_over(run, chain);
        run = kept;
        let mut node = Node::of_open_file(file, volume.kind, format, below);
        if let Some(id) = self.images().unlock(&mut run, volume)? {
            node = node.encrypted(&id);
        }
        if shrinks {
            run = run.arg("--shrink");
        } else if options.allocate {
            run = run.arg("--preallocation=falloc");
        }
        run.arg("--")
            .image(&node)
            .arg(capacity.to_string())
            .run(&*self.ctx.host, &self.ctx.limits)
            .map_err(|error| self.of_volume(name, error))
    }

    /// The refusal of a smaller capacity that nobody said is meant.
    pub(super) fn shrinks(&self, name: &VolumeName) -> Error {
        let what = "it is larger than that; say shrink to cut off its end";
        self.volume_error(ErrorKind::InvalidArgument, name, what)
    }
}
