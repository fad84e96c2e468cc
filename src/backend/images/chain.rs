//! Chains of images: what a volume is a difference to, and what its header may name.

use super::Images;
use crate::image::formats;
use crate::image::lock::{self, Held};
use crate::image::node::Node;
use crate::image::probe::{LARGEST_READ, Verdict, probe_file, resolve_backing};
use crate::image::qcow2::Qcow2;
use crate::model::{
    BackingStore, ErrorKind, FormatSource, Result, Volume, VolumeFormat, VolumeKind, VolumeName,
};
use std::fs::File;
use std::os::unix::fs::{FileExt, OpenOptionsExt};

/// Longest chain of backing files that is followed.
const MAX_CHAIN: usize = 64;

impl Images<'_> {
    /// The volume that a new one shall be a difference to, and its format: as declared, else as
    /// the caller says.
    pub(in crate::backend) fn base(
        &self,
        name: &VolumeName,
        backing: &BackingStore,
    ) -> Result<(std::sync::Arc<Volume>, VolumeFormat)> {
        let refuse = |kind, what: String| {
            Err(self.pool.volume_error(
                kind,
                name,
                format!("backing store {}: {what}", backing.path),
            ))
        };
        let Some(volume) = self.ctx.known.by_path(&backing.path) else {
            let what = "is no volume of an active pool; start or refresh the pool that has it";
            return refuse(ErrorKind::NotFound, what.to_owned());
        };
        if !matches!(volume.kind, VolumeKind::File | VolumeKind::Block) {
            return refuse(
                ErrorKind::InvalidArgument,
                format!("a volume of kind {} cannot be one", volume.kind.as_str()),
            );
        }
        if let Some(why) = &volume.incomplete {
            return refuse(ErrorKind::Conflict, format!("it is not whole ({why})"));
        }
        let format = match (backing.format, volume.format_source) {
            (Some(stated), FormatSource::Declared) if stated != volume.format => {
                return refuse(
                    ErrorKind::Conflict,
                    format!("its format is declared {}, not {stated}", volume.format),
                );
            }
            (Some(stated), _) => stated,
            (None, FormatSource::Declared) => volume.format,
            (None, FormatSource::Probed) if volume.format == VolumeFormat::Raw => volume.format,
            (None, FormatSource::Probed) => {
                return refuse(
                    ErrorKind::InvalidArgument,
                    format!("only its content says that it is {}; state its format", volume.format),
                );
            }
        };
        if !matches!(format, VolumeFormat::Raw | VolumeFormat::Qcow2) {
            let what = format!("backing stores of format {format} are not implemented yet");
            return refuse(ErrorKind::NotSupported, what);
        }
        Ok((volume, format))
    }

    /// Opens the base of a new volume and says that it is read.
    pub(in crate::backend) fn read_base(
        &self,
        name: &VolumeName,
        base: &Volume,
    ) -> Result<Held<File>> {
        std::fs::File::options()
            .read(true)
            .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY)
            .open(&*base.path)
            .and_then(lock::mark_read)
            .map_err(|error| {
                let what = format!("cannot open its backing store {}", base.path);
                self.pool.volume_failed(name, &what, &error)
            })
    }

    /// The header of a qcow2 volume; `Conflict` when it names a file that was not declared.
    pub(in crate::backend) fn checked_header(
        &self,
        volume: &Volume,
        file: &File,
    ) -> Result<Box<Qcow2>> {
        let name = &volume.name;
        self.check_names(volume, file)?;
        let read = || -> std::io::Result<Vec<u8>> {
            let mut bytes = vec![
                0;
                LARGEST_READ.min(
                    usize::try_from(file.metadata()?.len()).unwrap_or(LARGEST_READ)
                )
            ];
            file.read_exact_at(&mut bytes, 0)?;
            Ok(bytes)
        };
        let bytes = read()
            .map_err(|error| self.pool.volume_failed(name, "cannot read its header", &error))?;
        Qcow2::parse(&bytes)
            .map(Box::new)
            .map_err(|flaw| self.pool.volume_error(ErrorKind::Conflict, name, flaw))
    }

    /// Refuses (`Conflict`) a volume whose content is no image of its format, or names files that
    /// were not declared.
    pub(in crate::backend) fn check_names(&self, volume: &Volume, file: &File) -> Result<()> {
        let name = &volume.name;
        if matches!(volume.format, VolumeFormat::Raw | VolumeFormat::Iso) {
            return Ok(());
        }
        let size = file
            .metadata()
            .map_err(|error| self.pool.volume_failed(name, "cannot read its size", &error))?
            .len();
        let size = if size == 0 { volume.physical } else { size };
        let verdict = probe_file(file, size, Some(volume.format), &mut Vec::new())
            .map_err(|error| self.pool.volume_failed(name, "cannot read its header", &error))?;
        let conflict = |what: String| Err(self.pool.volume_error(ErrorKind::Conflict, name, what));
        let image = match verdict {
            Verdict::Image(image)
                if formats::driver(image.format) == formats::driver(volume.format) =>
            {
                image
            }
            Verdict::Damaged { why, .. } => return conflict(why),
            Verdict::Image(_) | Verdict::Raw => {
                return conflict(format!("its content is no {} image", volume.format));
            }
        };
        let mut attributes = image.attributes;
        if let Some(backing) = &mut attributes.backing {
            let directory = volume.path.rsplit_once('/').map_or("", |(directory, _)| directory);
            resolve_backing(backing, directory);
        }
        if attributes.features.data_file || !image.others.is_empty() {
            let others = image.others.join(", ");
            return conflict(format!(
                "its header names the data file {others}, which was not declared"
            ));
        }
        match (&attributes.backing, volume.backing()) {
            (Some(found), Some(declared)) if found.path == declared.path => Ok(()),
            (None, None) => Ok(()),
            (Some(found), _) => conflict(format!(
                "its header names the backing file {}, which was not declared",
                found.path
            )),
            (None, Some(declared)) => {
                conflict(format!("its header does not name its backing file {}", declared.path))
            }
        }
    }

    /// A backing store with all below it, every one of them a known volume.
    pub(in crate::backend) fn chain(
        &self,
        name: &VolumeName,
        backing: &BackingStore,
        depth: usize,
    ) -> Result<Node> {
        let refuse = |what: &str| {
            let what = format!("backing store {}: {what}", backing.path);
            Err(self.pool.volume_error(ErrorKind::Conflict, name, what))
        };
        if depth >= MAX_CHAIN {
            return refuse("the chain of backing files is too long");
        }
        let Some(volume) = self.ctx.known.by_path(&backing.path) else {
            return refuse("is no volume of an active pool, and is not opened");
        };
        if volume.incomplete.is_some() {
            return refuse("is not whole");
        }
        let format = match volume.format_source {
            FormatSource::Declared => volume.format,
            FormatSource::Probed => match backing.format {
                Some(format) => format,
                None => return refuse("its format was declared by nobody"),
            },
        };
        let below = volume.backing().filter(|_| format != VolumeFormat::Raw);
        let below = below.map(|below| self.chain(name, below, depth + 1)).transpose()?;
        Ok(Node::new(&volume.path, volume.kind, format, below))
    }
}
