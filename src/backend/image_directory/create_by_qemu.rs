//! New volumes that qemu-img writes: every format but raw and qcow2, and what is encrypted.

use super::super::Preallocation;
use super::ImageDirectory;
use super::create::Made;
use crate::backend::images::stored_format;
use crate::host::{Temporary, files};
use crate::image::formats;
use crate::image::qemu_img::QemuImg;
use crate::image::vmdk;
use crate::model::{ErrorKind, Result, VolumeDef, VolumeFormat};

impl ImageDirectory<'_> {
    pub(super) fn make_by_qemu(
        &self,
        def: &VolumeDef,
        format: VolumeFormat,
        how: Preallocation,
    ) -> Result<(Temporary<'_>, Made)> {
        let name = &def.name;
        let format = stored_format(format, def.encryption.as_ref());
        let info = self.images().creatable(name, format)?;
        let lock = self.images().check_encryption(name, info, def.encryption.as_ref())?;
        if def.backing.is_some() && !info.backing {
            let what = format!("a volume of format {format} cannot have a backing store here");
            return Err(self.volume_error(ErrorKind::InvalidArgument, name, what));
        }
        let base =
            def.backing.as_ref().map(|backing| self.images().base(name, backing)).transpose()?;
        let capacity = match (def.capacity, &base) {
            (None | Some(0), Some(base)) => base.capacity,
            (capacity, _) => capacity.unwrap_or(0),
        };
        let allocated = match how {
            Preallocation::Falloc | Preallocation::Full => capacity,
            Preallocation::None | Preallocation::Metadata => 0,
        };
        let new = self.temporary(def, allocated)?;
        let mut run = QemuImg::new("create").arg("-q").arg("-f").arg(info.driver);
        if let Some(lock) = &lock {
            run = lock.apply(run, format).map_err(|error| self.of_volume(name, error))?;
        }
        let backing = base.as_ref().map(|base| base.store.clone());
        if let Some(store) = &backing {
            // Unopened: it was looked at above, and what it names is nobody's business here.
            run = run.arg("-u").arg("-b").arg(&store.path);
            run = run.arg("-F").arg(formats::driver(store.format.unwrap_or(VolumeFormat::Raw)));
        }
        self.images()
            .format_options(run, def, info, how)?
            .arg(files::own_path(new.file()))
            .arg(capacity.to_string())
            .run(&*self.ctx.host, &self.ctx.limits)
            .map_err(|error| self.of_volume(name, error))?;
        self.name_by_qemu(def, &new, format)?;
        Ok((new, Made { format, backing, encryption: lock.map(|l| l.encryption) }))
    }

    /// Writes the volume's name into what qemu-img wrote under another, where its format has it.
    pub(super) fn name_by_qemu(
        &self,
        def: &VolumeDef,
        new: &Temporary<'_>,
        format: VolumeFormat,
    ) -> Result<()> {
        if format != VolumeFormat::Vmdk {
            return Ok(());
        }
        vmdk::rename(new.file(), def.name.as_str())
            .map_err(|error| self.volume_failed(&def.name, "cannot write its name into it", &error))
    }
}
