//! One entry of the directory as a volume.

use super::{ImageDirectory, ploop};
use crate::host::{Access, FileStat, HIDDEN_PREFIX, files};
use crate::image::probe::{Verdict, hint_of_name, probe_file, resolve_backing};
use crate::model::{
    Declaration, FileIdentity, FormatSource, ImageAttributes, Timestamps, Volume, VolumeFormat,
    VolumeKind, VolumeName,
};
use rustix::fs::FileType;
use std::ffi::CStr;
use std::fs::File;
use std::io;

/// Where fsck puts what it finds, in the root of ext file systems: theirs, and nobody's volume.
const LOST_AND_FOUND: &CStr = c"lost+found";

/// Why a volume whose declaration may be lost is not to be used.
const IN_DOUBT: &str = "what its creator declared cannot be read; see the manager's problems";

/// Whether NFS keeps a deleted file by this name for those who have it open.
fn is_deleted(name: &CStr) -> bool {
    let rest = name.to_bytes().strip_prefix(b".nfs");
    rest.is_some_and(|rest| rest.len() == 24 && rest.iter().all(u8::is_ascii_hexdigit))
}

/// What an entry is to a listing.
pub(super) enum Found {
    /// A volume.
    Volume(Volume),
    /// No volume, or one that cannot be read or named.
    Skipped,
    /// Nothing that anybody should see: gone, or in the making.
    Nothing,
}

/// Reads entries, one after the other.
pub(super) struct Reader<'a> {
    place: &'a ImageDirectory<'a>,
    header: Vec<u8>,
    /// Whether files have labels that mean something.
    labels: bool,
}

impl<'a> Reader<'a> {
    pub(super) fn new(place: &'a ImageDirectory<'a>) -> Self {
        Self { place, header: Vec::new(), labels: files::has_labels() }
    }

    /// Reads an entry whose type is `kind` as far as is known. Never waits for the entry. Fails
    /// only for want of resources, which says nothing of the entry.
    pub(super) fn read(&mut self, name: &CStr, kind: FileType) -> io::Result<Found> {
        if name.to_bytes().starts_with(HIDDEN_PREFIX.as_bytes()) || is_deleted(name) {
            return Ok(Found::Nothing);
        }
        if name == LOST_AND_FOUND && self.is_directory(name, kind) {
            return Ok(Found::Nothing);
        }
        let Some(volume_name) = name.to_str().ok().and_then(VolumeName::found) else {
            return Ok(Found::Skipped);
        };
        match self.read_named(name, volume_name, kind) {
            Ok(Some(volume)) => Ok(Found::Volume(volume)),
            Ok(None) => Ok(Found::Skipped),
            Err(error) => match error.raw_os_error() {
                Some(libc::ENOENT) => Ok(Found::Nothing),
                Some(libc::EMFILE | libc::ENFILE | libc::ENOMEM) => Err(error),
                _ => {
                    tracing::debug!("{}: skipped: {error}", name.to_string_lossy());
                    Ok(Found::Skipped)
                }
            },
        }
    }

    fn is_directory(&self, name: &CStr, kind: FileType) -> bool {
        let stat = || self.place.directory.stat_entry(name);
        match kind {
            FileType::Unknown => stat().is_ok_and(|stat| stat.kind == FileType::Directory),
            kind => kind == FileType::Directory,
        }
    }

    fn read_named(
        &mut self,
        name: &CStr,
        volume_name: VolumeName,
        kind: FileType,
    ) -> io::Result<Option<Volume>> {
        let directory = &self.place.directory;
        match kind {
            FileType::RegularFile => {
                let file = directory.open_entry(name, Access::Read)?;
                let stat = FileStat::of(&file)?;
                self.open_volume(volume_name, &stat, &file)
            }
            FileType::Directory => {
                let stat = directory.stat_entry(name)?;
                if stat.kind != FileType::Directory {
                    return Ok(None);
                }
                // Of others' directories, one that may not be looked into is one as well.
                match ploop::image(directory, name).ok().flatten() {
                    Some((file, of_file)) => {
                        let found = self.open_volume(volume_name, &of_file, &file)?;
                        Ok(found.map(|found| ploop_volume(found, &stat)))
                    }
                    None => Ok(Some(self.directory_volume(volume_name, &stat))),
                }
            }
            FileType::Symlink => match self.place.follow(name, Access::Read)? {
                Some((file, stat)) => self.open_volume(volume_name, &stat, &file),
                None => Ok(None),
            },
            FileType::BlockDevice => {
                let file = directory.open_entry(name, Access::Read)?;
                let stat = FileStat::of(&file)?;
                self.open_volume(volume_name, &stat, &file)
            }
            FileType::Unknown => {
                let kind = directory.stat_entry(name)?.kind;
                match kind {
                    FileType::Unknown => Ok(None),
                    kind => self.read_named(name, volume_name, kind),
                }
            }
            _ => Ok(None),
        }
    }

    /// The volume of an open file or block device.
    fn open_volume(
        &mut self,
        name: VolumeName,
        stat: &FileStat,
        file: &File,
    ) -> io::Result<Option<Volume>> {
        let (kind, size) = match stat.kind {
            FileType::RegularFile => (self.place.info().volume_kind, stat.size),
            FileType::BlockDevice => (VolumeKind::Block, files::device_size(file)?),
            _ => return Ok(None),
        };
        let declared = self.declared(&name, stat, file);
        let doubt = declared.is_none() && self.in_doubt(&name);
        let mut volume = self.bare(name, kind, stat);
        if self.labels {
            volume.label = files::label(file).map(String::into_boxed_str);
        }
        volume.physical = size;
        volume.capacity = size;
        if kind == VolumeKind::Block {
            volume.allocation = size;
        }
        let hint = match &declared {
            Some(declaration) if !declaration.probed => Some(declaration.format),
            _ => hint_of_name(volume.name.as_str()),
        };
        // A guest may have written a header into what was declared raw.
        if doubt {
            volume.incomplete = Some(IN_DOUBT.into());
            return Ok(Some(volume));
        }
        let verdict = probe_file(file, size, hint, &mut self.header)?;
        let Some(declaration) = declared else {
            describe(&mut volume, verdict, &self.place.outward);
            return Ok(Some(volume));
        };
        volume.incomplete = declaration.incomplete.map(String::into_boxed_str);
        if declaration.probed {
            describe(&mut volume, verdict, &self.place.outward);
            return Ok(Some(volume));
        }
        let found = format_of(&verdict);
        volume.format_source = FormatSource::Declared;
        volume.format = declaration.format;
        if !agrees(found, declaration.format) {
            volume.content_format = Some(found);
            if declaration.format != VolumeFormat::Raw {
                volume.capacity = 0;
            }
        } else if declaration.format != VolumeFormat::Raw {
            describe(&mut volume, verdict, &self.place.outward);
            volume.format = declaration.format;
        }
        if declaration.backing.is_some()
            || declaration.encryption.is_some()
            || volume.image.is_some()
        {
            let image = volume.image.get_or_insert_default();
            image.backing = declaration.backing;
            if declaration.encryption.is_some() {
                image.encryption = declaration.encryption;
            }
        }
        Ok(Some(volume))
    }

    /// What was declared of this very file.
    fn declared(&self, name: &VolumeName, stat: &FileStat, file: &File) -> Option<Declaration> {
        let place = self.place;
        // One of another file of this name is not forgotten: the file may come back, and a job may
        // have replaced both since this entry was opened.
        let (records, pool) = (&place.ctx.records, place.pool.def.uuid);
        let is_it = |identity: &FileIdentity| stat.is(identity, || files::kernel_handle(file));
        let by_name = records.declared(pool, name);
        if let Some(declaration) = by_name.filter(|what| what.identity.as_ref().is_none_or(is_it)) {
            return Some(declaration);
        }
        // A file that was renamed is what it was. An inode number alone does not prove that.
        let renamed = records.declared_of_inode(pool, stat.inode).filter(|what| {
            let identity = what.identity.as_ref();
            identity.is_some_and(|it| (it.birth.is_some() || it.handle.is_some()) && is_it(it))
        })?;
        // Its old name may be given to another file, and declared of that.
        if let Err(error) = records.declare(pool, name, &renamed) {
            tracing::warn!("volume {name}, which was renamed: {error}");
        }
        Some(renamed)
    }

    fn in_doubt(&self, name: &VolumeName) -> bool {
        self.place.ctx.records.in_doubt(self.place.pool.def.uuid, name)
    }

    fn directory_volume(&self, name: VolumeName, stat: &FileStat) -> Volume {
        let mut volume = self.bare(name, self.place.info().directory_kind(), stat);
        volume.format = VolumeFormat::Dir;
        volume.capacity = stat.size;
        volume
    }

    /// What a volume of any kind has.
    fn bare(&self, name: VolumeName, kind: VolumeKind, stat: &FileStat) -> Volume {
        Volume {
            key: None,
            path: self.place.volume_path(name.as_str()).into_boxed_str(),
            name,
            kind,
            format: VolumeFormat::Raw,
            format_source: FormatSource::Probed,
            content_format: None,
            capacity: 0,
            allocation: stat.allocated,
            physical: stat.size,
            modified: stat.modified(),
            mode: Some(stat.mode),
            owner: Some(stat.owner),
            group: Some(stat.group),
            label: None,
            timestamps: Some(Box::new(Timestamps {
                atime: stat.atime,
                mtime: stat.mtime,
                ctime: stat.ctime,
                btime: stat.btime,
            })),
            image: None,
            incomplete: None,
            extents: Vec::new(),
            block: None,
        }
    }
}

/// The volume that a directory with an image and its description is, of what its image is.
fn ploop_volume(image: Volume, directory: &FileStat) -> Volume {
    let is_ploop = image.format == VolumeFormat::Ploop;
    Volume {
        kind: VolumeKind::Ploop,
        format: VolumeFormat::Ploop,
        content_format: if is_ploop { image.content_format } else { Some(image.format) },
        capacity: if is_ploop { image.capacity } else { 0 },
        mode: Some(directory.mode),
        owner: Some(directory.owner),
        group: Some(directory.group),
        ..image
    }
}

/// Fills in what a header says. A damaged image has no capacity that could be believed.
fn describe(volume: &mut Volume, verdict: Verdict, directory: &str) {
    match verdict {
        Verdict::Raw => volume.format = VolumeFormat::Raw,
        Verdict::Damaged { format, .. } => {
            volume.format = format;
            volume.capacity = 0;
        }
        Verdict::Image(image) => {
            let mut attributes = image.attributes;
            if let Some(backing) = &mut attributes.backing {
                resolve_backing(backing, directory);
            }
            volume.format = image.format;
            volume.capacity = image.capacity;
            if attributes != ImageAttributes::default() {
                volume.image = Some(Box::new(attributes));
            }
        }
    }
}

/// The format that a verdict is about.
fn format_of(verdict: &Verdict) -> VolumeFormat {
    match verdict {
        Verdict::Raw => VolumeFormat::Raw,
        Verdict::Damaged { format, .. } => *format,
        Verdict::Image(image) => image.format,
    }
}

/// Whether content is what was declared, as far as content can say: two names are of one format,
/// and a raw volume may hold a CD-ROM.
fn agrees(content: VolumeFormat, declared: VolumeFormat) -> bool {
    use VolumeFormat::{Iso, Raw, Vhd, Vpc};
    content == declared || matches!((content, declared), (Vpc, Vhd) | (Iso, Raw) | (Raw, Iso))
}
