//! What QEMU is told of the format of an image that it makes.

use super::{Images, Lock};
use crate::backend::Preallocation;
use crate::image::formats::{self, FormatInfo};
use crate::image::qemu_img::QemuImg;
use crate::model::{Encryption, ErrorKind, Result, VolumeDef, VolumeFormat, VolumeName};

impl Images<'_> {
    /// The row of a format that can be made; `NotSupported` says why not.
    pub(in crate::backend) fn creatable(
        &self,
        name: &VolumeName,
        format: VolumeFormat,
    ) -> Result<&'static FormatInfo> {
        let what = match formats::info(format) {
            Some(info) if info.creatable => return Ok(info),
            Some(_) => format!("QEMU can read {format} images but makes none"),
            None => format!("{format} is no format that an image can be made in"),
        };
        Err(self.pool.volume_error(ErrorKind::NotSupported, name, what))
    }

    /// The encryption of a new volume, if it shall have any and its format can.
    pub(in crate::backend) fn check_encryption(
        &self,
        name: &VolumeName,
        info: &FormatInfo,
        asked: Option<&Encryption>,
    ) -> Result<Option<Lock>> {
        let refuse =
            |what: String| Err(self.pool.volume_error(ErrorKind::InvalidArgument, name, what));
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
    pub(in crate::backend) fn format_options(
        &self,
        mut run: QemuImg,
        def: &VolumeDef,
        info: &FormatInfo,
        how: Preallocation,
    ) -> Result<QemuImg> {
        let name = &def.name;
        let refuse =
            |what: String| Err(self.pool.volume_error(ErrorKind::InvalidArgument, name, what));
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
}

/// What a raw volume is on the storage when it is encrypted.
pub(in crate::backend) fn stored_format(
    format: VolumeFormat,
    encryption: Option<&Encryption>,
) -> VolumeFormat {
    match (format, encryption) {
        (VolumeFormat::Raw, Some(_)) => VolumeFormat::Luks,
        (format, _) => format,
    }
}
