//! Chains of images: what a volume is a difference to, and what its header may name.

use super::Images;
use crate::host::open_image;
use crate::image::lock::{self, Held};
use crate::image::node::Node;
use crate::image::probe::{LARGEST_READ, probe_file};
use crate::image::qcow2::Qcow2;
use crate::image::qemu_img::QemuImg;
use crate::image::{declared, formats};
use crate::model::{
    BackingStore, ErrorKind, FormatSource, Result, Volume, VolumeFormat, VolumeName,
};
use std::fs::File;
use std::os::unix::fs::FileExt;

/// Longest chain of backing files that is followed.
const MAX_CHAIN: usize = 64;

impl Images<'_> {
    /// The volume that a new one shall be a difference to, in its format: as declared, else as the
    /// caller says.
    pub(in crate::backend) fn base(
        &self,
        name: &VolumeName,
        backing: &BackingStore,
    ) -> Result<Base> {
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
        if self.ctx.known.file_of(&backing.path).is_none() {
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
        match formats::info(format) {
            Some(_) if format != VolumeFormat::Luks => {}
            Some(_) => {
                let what = "it is encrypted, and whoever opens the new volume would need its passphrase; clone it decrypted";
                return refuse(ErrorKind::NotSupported, what.to_owned());
            }
            None => {
                let what = format!("{format} is no format of images");
                return refuse(ErrorKind::NotSupported, what);
            }
        }
        let path = volume.path.to_string();
        let store = BackingStore { path, format: Some(format), permissions: None };
        let chain = self.chain(name, &store, 0)?;
        Ok(Base { store, capacity: volume.capacity, _chain: chain })
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
        match contradiction(volume, volume.content(), file) {
            Ok(None) => Ok(()),
            Ok(Some(what)) => Err(self.pool.volume_error(ErrorKind::Conflict, name, what)),
            Err(error) => Err(self.pool.volume_failed(name, "cannot read its header", &error)),
        }
    }

    /// A backing store with all below it, every one of them a known volume that is what it was
    /// declared to be: a tool follows what the header of any of them names.
    pub(in crate::backend) fn chain(
        &self,
        name: &VolumeName,
        backing: &BackingStore,
        depth: usize,
    ) -> Result<Chain> {
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
        let failed = |what: &str, error: &std::io::Error| {
            self.pool.volume_failed(
                name,
                &format!("cannot {what} backing store {}", backing.path),
                error,
            )
        };
        // Nobody deletes or shrinks it while it is read.
        let Some(path) = self.ctx.known.file_of(&backing.path) else {
            return refuse("is no file or device of this host");
        };
        let file =
            open_image(&path).and_then(lock::mark_read).map_err(|error| failed("open", &error))?;
        if let Some(what) = contradiction(&volume, format, file.get())
            .map_err(|error| failed("read the header of", &error))?
        {
            return refuse(&what);
        }
        let below = volume.backing().filter(|_| !is_plain(format));
        let below = below.map(|below| self.chain(name, below, depth + 1)).transpose()?;
        let (below, mut files) =
            below.map_or((None, Vec::new()), |below| (Some(below.node), below.files));
        let node = Node::of_open_file(file.get(), volume.kind, format, below);
        files.push(file);
        Ok(Chain { node, files })
    }
}

/// What a new volume is a difference to. Nobody deletes or shrinks it, nor what is below it, for as
/// long as this is kept: the new volume is not known yet.
pub(in crate::backend) struct Base {
    /// As it is declared.
    pub(in crate::backend) store: BackingStore,
    /// What a guest sees of it, in bytes.
    pub(in crate::backend) capacity: u64,
    _chain: Chain,
}

/// Images below another, each of them open and marked as read for as long as this is kept.
pub(in crate::backend) struct Chain {
    /// As QEMU is told of them.
    node: Node,
    files: Vec<Held<File>>,
}

/// Has a run keep a chain open; the chain as QEMU is told of it.
pub(in crate::backend) fn hand_over(run: QemuImg, chain: Option<Chain>) -> (QemuImg, Option<Node>) {
    match chain {
        Some(Chain { node, files }) => (run.keeping(files), Some(node)),
        None => (run, None),
    }
}

/// Whether an image of a format is its bytes, whatever they say.
fn is_plain(format: VolumeFormat) -> bool {
    matches!(format, VolumeFormat::Raw | VolumeFormat::Iso)
}

/// How the content of a volume contradicts its format and its declared backing file.
fn contradiction(
    volume: &Volume,
    format: VolumeFormat,
    file: &File,
) -> std::io::Result<Option<String>> {
    if is_plain(format) {
        return Ok(None);
    }
    let size = match file.metadata()?.len() {
        // A device.
        0 => volume.physical,
        size => size,
    };
    let verdict = probe_file(file, size, Some(format), &mut Vec::new())?;
    let directory = volume.path.rsplit_once('/').map_or("", |(directory, _)| directory);
    Ok(declared::contradiction(verdict, format, volume.backing(), directory))
}
