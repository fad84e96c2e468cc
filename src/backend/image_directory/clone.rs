//! New volumes with the content of others: shared blocks where the file system can, else a copy,
//! else a conversion by qemu-img.

use super::super::{CloneSource, Preallocation};
use super::ImageDirectory;
use super::create::Made;
use crate::backend::images::Conversion;
use crate::host::copy::{Copier, Failure, Holes};
use crate::host::files;
use crate::model::{ErrorKind, Result, Volume, VolumeDef, VolumeFormat, VolumeKind};
use std::time::Duration;

impl ImageDirectory<'_> {
    /// Creates a volume with another one's content, whole or not at all, and reads it.
    pub(crate) fn clone_volume(
        &self,
        def: &VolumeDef,
        source: &CloneSource,
        how: Preallocation,
    ) -> Result<Volume> {
        let (name, from) = (&def.name, &*source.volume);
        let format = def.format.unwrap_or(from.content());
        let plan = Conversion::plan(&self.images(), def, source, format)?;
        self.check_new(def, plan.format)?;
        if def.capacity.is_some_and(|capacity| capacity != from.capacity) {
            let what = "a clone has its source's capacity; clone it, then resize it";
            return Err(self.volume_error(ErrorKind::InvalidArgument, name, what));
        }
        let is_ploop = match plan.format {
            VolumeFormat::Ploop if from.kind == VolumeKind::Ploop => true,
            format => self.is_ploop(def, format),
        };
        if is_ploop && !plan.is_copy {
            let what = "only a ploop volume can be cloned into one; create it, and fill it by its own tools";
            return Err(self.volume_error(ErrorKind::NotSupported, name, what));
        }
        match plan.is_copy {
            true if is_ploop => self.copy_ploop(def, source, how),
            true => self.copy_volume(def, source, how),
            false => self.convert_volume(def, source, &plan, how),
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
        self.images().check_names(&source.volume, from)?;
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
        self.finish(def, new, Made { encryption, ..Made::of(source.volume.content()) })
    }

    /// The same content in another form.
    fn convert_volume(
        &self,
        def: &VolumeDef,
        source: &CloneSource,
        plan: &Conversion,
        how: Preallocation,
    ) -> Result<()> {
        let (name, format, images) = (&def.name, plan.format, self.images());
        let info = images.creatable(name, format)?;
        let lock = images.check_encryption(name, info, plan.encryption.as_ref())?;
        let allocated = match how {
            Preallocation::Falloc | Preallocation::Full => source.volume.capacity,
            Preallocation::None | Preallocation::Metadata => 0,
        };
        let new = self.temporary(def, allocated)?;
        images.convert(def, source, (info, lock.as_ref()), how, files::own_path(new.file()))?;
        self.name_by_qemu(def, &new, format)?;
        let encryption = lock.map(|lock| lock.encryption);
        self.finish(def, new, Made { encryption, ..Made::of(format) })
    }
}
