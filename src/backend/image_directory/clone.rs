//! New volumes with the content of others: shared blocks where the file system can, else a copy,
//! else a conversion by qemu-img.

use super::super::{CloneSource, Preallocation};
use super::ImageDirectory;
use super::create::Made;
use super::create_by_qemu::{own_path, stored_format};
use crate::host::copy::{Copier, Failure, Holes};
use crate::host::files;
use crate::image::node::Node;
use crate::image::qemu_img::QemuImg;
use crate::model::{Encryption, ErrorKind, Result, Volume, VolumeDef, VolumeFormat, VolumeKind};
use std::os::fd::AsRawFd;
use std::time::Duration;

/// Word for a clone that is not encrypted although its source is.
const DECRYPTED: &str = "none";

impl ImageDirectory<'_> {
    /// Creates a volume with another one's content, whole or not at all, and reads it.
    pub(crate) fn clone_volume(
        &self,
        def: &VolumeDef,
        source: &CloneSource,
        how: Preallocation,
    ) -> Result<Volume> {
        let name = &def.name;
        let from = &*source.volume;
        if let Some(why) = &from.incomplete {
            let what = format!("its source {} is not whole ({why})", from.path);
            return Err(self.volume_error(ErrorKind::Conflict, name, what));
        }
        let asked = def.encryption.as_ref();
        let decrypts = asked.is_some_and(|asked| asked.format == DECRYPTED);
        let new_lock = asked.filter(|_| !decrypts);
        let format = match def.format.unwrap_or(from.format) {
            VolumeFormat::Luks if decrypts => VolumeFormat::Raw,
            format => stored_format(format, new_lock),
        };
        self.check_new(def, format)?;
        let as_it_is = format == from.format
            && from.backing().is_none()
            && new_lock.is_none()
            && !(decrypts && from.encrypted());
        if def.capacity.is_some_and(|capacity| capacity != from.capacity) {
            let what = "a clone has its source's capacity; clone it, then resize it";
            return Err(self.volume_error(ErrorKind::InvalidArgument, name, what));
        }
        match as_it_is {
            true => self.copy_volume(def, source, how),
            false => self.convert_volume(def, source, format, new_lock, how),
        }?;
        self.read_new(name)
    }

    /// The same bytes.
    fn copy_volume(&self, def: &VolumeDef, source: &CloneSource, how: Preallocation) -> Result<()> {
        let (name, from) = (&def.name, source.io.file());
        let preallocates = match how {
            Preallocation::Metadata => {
                let what = "a copy is allocated as its source; preallocate falloc or full";
                return Err(self.volume_error(ErrorKind::InvalidArgument, name, what));
            }
            Preallocation::None => def.allocation.is_some_and(|bytes| bytes >= source.io.size),
            Preallocation::Falloc | Preallocation::Full => true,
        };
        self.check_names(&source.volume, from)?;
        // Shared blocks need the same kind of file.
        let nocow = def.nocow || files::has_no_copy_on_write(from);
        let def = &VolumeDef { nocow, ..def.clone() };
        let new = self.temporary(def, if preallocates { source.io.size } else { 0 })?;
        self.ctx.progress.set_total(source.io.size);
        let mut done = |bytes| self.ctx.progress.add(bytes);
        let limits = &self.ctx.limits;
        let mut copier = Copier { limits, idle: Duration::MAX, done: &mut done };
        let failed = |failure: Failure| failure.into_error(format_args!("volume {name}"));
        let is_file = source.io.kind == VolumeKind::File;
        let method =
            if !preallocates && is_file && copier.reflink(from, new.file()).map_err(failed)? {
                self.ctx.progress.add(source.io.size);
                "reflink"
            } else {
                new.file()
                    .set_len(source.io.size)
                    .map_err(|error| self.volume_failed(name, "cannot make it so large", &error))?;
                let holes = if preallocates { Holes::Fill } else { Holes::Skip };
                let (start, target) = ((from, 0), (new.file(), 0));
                copier.files(start, target, source.io.size, holes).map_err(failed)?;
                "copy"
            };
        self.ctx.findings.say("method", method);
        let encryption = source.volume.image.as_ref().and_then(|image| image.encryption.clone());
        self.finish(def, new, Made { encryption, ..Made::of(source.volume.format) })
    }

    /// The same content in another form.
    fn convert_volume(
        &self,
        def: &VolumeDef,
        source: &CloneSource,
        format: VolumeFormat,
        encryption: Option<&Encryption>,
        how: Preallocation,
    ) -> Result<()> {
        let (name, from) = (&def.name, &*source.volume);
        let info = self.creatable(name, format)?;
        let lock = self.check_encryption(name, info, encryption)?;
        self.check_names(from, source.io.file())?;
        let chain = from.backing().map(|backing| self.chain(name, backing, 0)).transpose()?;
        let own = format!("/proc/{}/fd/{}", std::process::id(), source.io.file().as_raw_fd());
        let mut node = Node::new(&own, source.io.kind, from.format, chain);
        let mut run = QemuImg::new("convert").arg("-O").arg(info.driver);
        if let Some(id) = self.unlock(&mut run, from)? {
            node = node.encrypted(&id);
        }
        if let Some(lock) = &lock {
            run = lock.apply(run, format).map_err(|error| self.of_volume(name, error))?;
        }
        let allocated = match how {
            Preallocation::Falloc | Preallocation::Full => from.capacity,
            Preallocation::None | Preallocation::Metadata => 0,
        };
        let new = self.temporary(def, allocated)?;
        let run = self.format_options(run, def, info, how)?.image(&node).arg(own_path(&new));
        let total = from.capacity;
        self.ctx.progress.set_total(total);
        let mut told = 0;
        run.run_with_progress(&*self.ctx.host, &self.ctx.limits, &mut |part| {
            // The capacity is far below what a double holds exactly enough for a bar.
            let now = ((total as f64) * part) as u64;
            self.ctx.progress.add(now.saturating_sub(told));
            told = told.max(now);
        })
        .map_err(|error| self.of_volume(name, error))?;
        self.ctx.findings.say("method", "convert");
        let encryption = lock.map(|lock| lock.encryption);
        self.name_by_qemu(def, &new, format)?;
        self.finish(def, new, Made { encryption, ..Made::of(format) })
    }
}
