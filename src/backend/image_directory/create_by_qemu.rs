//! New volumes that qemu-img writes: every format but raw and qcow2, and what is encrypted.

use super::super::Preallocation;
use super::ImageDirectory;
use super::create::Made;
use crate::host::Temporary;
use crate::image::formats::{self, FormatInfo};
use crate::image::qemu_img::QemuImg;
use crate::image::vmdk;
use crate::model::{
    BackingStore, Encryption, ErrorKind, Result, VolumeDef, VolumeFormat, VolumeName,
};
use std::os::fd::AsRawFd;

impl ImageDirectory<'_> {
    pub(super) fn make_by_qemu(
        &self,
        def: &VolumeDef,
        format: VolumeFormat,
        how: Preallocation,
    ) -> Result<(Temporary<'_>, Made)> {
        let name = &def.name;
        let format = stored_format(format, def.encryption.as_ref());
        let info = self.creatable(name, format)?;
        let lock = self.check_encryption(name, info, def.encryption.as_ref())?;
        if def.backing.is_some() && !info.backing {
            let what = format!("a volume of format {format} cannot have a backing store here");
            return Err(self.volume_error(ErrorKind::InvalidArgument, name, what));
        }
        let base = def.backing.as_ref().map(|backing| self.base(name, backing)).transpose()?;
        // Nobody deletes or shrinks it while the new volume is not known yet.
        let _base = base.as_ref().map(|(volume, _)| self.read_base(name, volume)).transpose()?;
        let capacity = match (def.capacity, &base) {
            (None | Some(0), Some((volume, _))) => volume.capacity,
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
        let mut backing = None;
        if let Some((volume, base_format)) = &base {
            // Unopened: it was looked at above, and what it names is nobody's business here.
            run = run.arg("-u").arg("-b").arg(volume.path.as_ref());
            run = run.arg("-F").arg(formats::driver(*base_format));
            let path = volume.path.to_string();
            backing = Some(BackingStore { path, format: Some(*base_format), permissions: None });
        }
        self.format_options(run, def, info, how)?
            .arg(own_path(&new))
            .arg(capacity.to_string())
            .run(&*self.ctx.host, &self.ctx.limits)
            .map_err(|error| self.of_volume(name, error))?;
        self.name_by_qemu(def, &new, format)?;
        Ok((new, Made { format, backing, encryption: lock.map(|l| l.encryption) }))
    }

    /// The row of a format that can be made; `NotSupported` says why not.
    pub(super) fn creatable(
        &self,
        name: &VolumeName,
        format: VolumeFormat,
    ) -> Result<&'static FormatInfo> {
        let what = match formats::info(format) {
            Some(info) if info.creatable => return Ok(info),
            Some(_) => format!("QEMU can read {format} images but makes none"),
            None => format!("{format} is no format that an image can be made in"),
        };
        Err(self.volume_error(ErrorKind::NotSupported, name, what))
    }

    /// The encryption of a new volume, if it shall have any and its format can.
    pub(super) fn check_encryption(
        &self,
        name: &VolumeName,
        info: &FormatInfo,
        asked: Option<&Encryption>,
    ) -> Result<Option<super::encryption::Lock>> {
        let refuse = |what: String| Err(self.volume_error(ErrorKind::InvalidArgument, name, what));
        match asked {
            Some(_) if !info.encrypts => {
                refuse(format!("{} images cannot be encrypted; use qcow2 or raw", info.format))
            }
            None if info.format == VolumeFormat::Luks => {
                refuse("a luks volume needs a secret with its passphrase".to_owned())
            }
            asked => asked.map(|asked| self.lock_of(name, asked)).transpose(),
        }
    }

    /// The options of its format that a definition asks for.
    pub(super) fn format_options(
        &self,
        mut run: QemuImg,
        def: &VolumeDef,
        info: &FormatInfo,
        how: Preallocation,
    ) -> Result<QemuImg> {
        let name = &def.name;
        let refuse = |what: String| Err(self.volume_error(ErrorKind::InvalidArgument, name, what));
        let (format, word) = (info.format, how.as_str());
        if how != Preallocation::None {
            if !info.preallocations.contains(&word) {
                return refuse(format!("{format} images cannot be preallocated ({word})"));
            }
            run = run.option("preallocation", word);
        }
        for (key, value) in info.options {
            run = run.option(key, value);
        }
        let features = def.features.unwrap_or_default();
        if format == VolumeFormat::Qcow2 {
            if let Some(compat) = &def.compat {
                run = run.option("compat", compat);
            }
            if let Some(size) = def.cluster_size {
                run = run.option("cluster_size", &size.to_string());
            }
            if features.lazy_refcounts {
                run = run.option("lazy_refcounts", "on");
            }
            if features.extended_l2 {
                run = run.option("extended_l2", "on");
            }
        } else if features.lazy_refcounts || features.extended_l2 || def.compat.is_some() {
            return refuse(format!("compat and features are qcow2's, not those of {format}"));
        }
        Ok(run)
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

/// What a raw volume is on the storage when it is encrypted.
pub(super) fn stored_format(format: VolumeFormat, encryption: Option<&Encryption>) -> VolumeFormat {
    match (format, encryption) {
        (VolumeFormat::Raw, Some(_)) => VolumeFormat::Luks,
        (format, _) => format,
    }
}

/// A path by which qemu-img opens a file that has no name.
pub(super) fn own_path(new: &Temporary<'_>) -> String {
    format!("/proc/{}/fd/{}", std::process::id(), new.file().as_raw_fd())
}
