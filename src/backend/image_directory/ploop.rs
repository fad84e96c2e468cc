//! Ploop volumes: directories with an image and its description, as Virtuozzo's `ploop` makes them. The content is
//! the image's; what the description has of it is made to fit by `ploop` afterwards.

use super::ImageDirectory;
use crate::backend::{CloneSource, Preallocation};
use crate::host::copy::{Copier, Failure, Holes};
use crate::host::{Access, Command, Directory, FileStat, TemporaryDirectory, files, holders};
use crate::model::{
    Declaration, ErrorKind, PoolType, Result, Volume, VolumeDef, VolumeFormat, VolumeKind,
    VolumeName,
};
use std::ffi::{CStr, OsString};
use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

/// The program.
pub(in crate::backend) const TOOL: &str = "ploop";

/// The image, and what describes it.
const IMAGE: &str = "root.hds";
const DESCRIPTION: &str = "DiskDescriptor.xml";
/// The description that is being replaced.
const OLD_DESCRIPTION: &str = "DiskDescriptor.xml.poold";

/// What a listing of snapshots has for each of them: the files of their differences.
const DIFFERENCE: &[u8] = b"root.hds.";

/// Mode of the directory when the definition says none.
const DEFAULT_MODE: u32 = 0o700;

const MIB: u64 = 1 << 20;

/// The image of a directory that is a ploop volume; none of any other directory.
pub(super) fn image(place: &Directory, name: &CStr) -> io::Result<Option<(File, FileStat)>> {
    let Ok(name) = name.to_str() else { return Ok(None) };
    let directory = place.open_directory(name)?;
    let is_file = |name| -> io::Result<bool> {
        Ok(directory.find(name)?.is_some_and(|found| found.kind.is_file()))
    };
    if !(is_file(IMAGE)? && is_file(DESCRIPTION)?) {
        return Ok(None);
    }
    let file = directory.open_file(IMAGE, Access::Read)?;
    let stat = FileStat::of(&file)?;
    Ok(Some((file, stat)))
}

/// A size as `ploop` takes it.
fn mebibytes(bytes: u64) -> OsString {
    format!("{}M", bytes.div_ceil(MIB)).into()
}

impl ImageDirectory<'_> {
    /// Whether a new volume of a format is a directory with an image, and not the image alone.
    pub(super) fn is_ploop(&self, def: &VolumeDef, format: VolumeFormat) -> bool {
        let by_type = self.pool.def.pool_type == PoolType::Vstorage;
        format == VolumeFormat::Ploop && (by_type || def.kind == VolumeKind::Ploop)
    }

    /// Makes an empty one, with a file system in it as `ploop` does.
    pub(super) fn create_ploop(&self, def: &VolumeDef, how: Preallocation) -> Result<()> {
        let name = &def.name;
        self.check_thin(name, how)?;
        let refuse = |kind, what| Err(self.volume_error(kind, name, what));
        if def.encryption.is_some() {
            return refuse(ErrorKind::NotSupported, "ploop volumes are not encrypted");
        }
        if def.backing.is_some() {
            return refuse(ErrorKind::NotSupported, "a ploop volume has no backing store");
        }
        let Some(capacity) = def.capacity.filter(|capacity| *capacity > 0) else {
            return refuse(ErrorKind::InvalidArgument, "a ploop volume needs a capacity");
        };
        let new = self.temporary_ploop(name)?;
        let image = self.path_in(name, new.made(), IMAGE)?;
        let args = vec![
            "init".into(),
            "-s".into(),
            mebibytes(capacity),
            "-t".into(),
            "ext4".into(),
            image.into(),
        ];
        self.ploop(name, args)?;
        self.finish_ploop(def, new)
    }

    /// Makes one that has another one's content.
    pub(super) fn copy_ploop(
        &self,
        def: &VolumeDef,
        source: &CloneSource,
        how: Preallocation,
    ) -> Result<()> {
        let name = &def.name;
        self.check_thin(name, how)?;
        self.images().check_names(&source.volume, source.io.file())?;
        let new = self.temporary_ploop(name)?;
        let failed = |error: io::Error| self.volume_failed(name, "cannot create its image", &error);
        let file = new.made().create_temporary().map_err(failed)?;
        file.file().set_len(source.io.size).map_err(failed)?;
        self.ctx.progress.set_total(source.io.size);
        let mut done = |bytes| self.ctx.progress.add(bytes);
        let mut copier = Copier { limits: &self.ctx.limits, idle: Duration::MAX, done: &mut done };
        copier
            .files((source.io.file(), 0), (file.file(), 0), source.io.size, Holes::Skip)
            .map_err(|failure: Failure| failure.into_error(format_args!("volume {name}")))?;
        file.publish(IMAGE).map_err(failed)?;
        self.describe_in(name, new.made())?;
        self.ctx.findings.say("method", "copy");
        self.finish_ploop(def, new)
    }

    /// Changes the capacity of one.
    pub(super) fn resize_ploop(&self, volume: &Volume, capacity: u64) -> Result<()> {
        let name = &volume.name;
        let directory = self.ploop_directory(name)?;
        let _held = self.take(name, self.ploop_image(name, &directory, Access::Read)?)?;
        let description = self.path_in(name, &directory, DESCRIPTION)?;
        let args = vec!["resize".into(), "-s".into(), mebibytes(capacity), description.into()];
        self.ploop(name, args)
    }

    /// The image of one, to be read or written. With snapshots it is not all of the content.
    pub(super) fn open_ploop(&self, name: &VolumeName, access: Access) -> Result<File> {
        let directory = self.ploop_directory(name)?;
        let description = self.path_in(name, &directory, DESCRIPTION)?;
        let args = vec!["snapshot-list".into(), description.into()];
        let command = Command { program: TOOL, args, ..Command::default() };
        let listed = self.ctx.host.run(&command, &self.ctx.limits);
        let listed = listed.map_err(|error| self.of_volume(name, error))?;
        if listed.stdout.windows(DIFFERENCE.len()).any(|part| part == DIFFERENCE) {
            let what = "it has snapshots, so that its image is not all of it; merge them first (`ploop snapshot-merge`)";
            return Err(self.volume_error(ErrorKind::NotSupported, name, what));
        }
        self.ploop_image(name, &directory, access)
    }

    /// Makes the description fit an image that was written.
    pub(crate) fn describe_ploop(&self, name: &VolumeName) -> Result<()> {
        self.describe_in(name, &self.ploop_directory(name)?)
    }

    fn check_thin(&self, name: &VolumeName, how: Preallocation) -> Result<()> {
        let what = "ploop allocates an image as it is written; leave preallocation out";
        match how {
            Preallocation::None => Ok(()),
            _ => Err(self.volume_error(ErrorKind::NotSupported, name, what)),
        }
    }

    /// The image of one, whatever it is part of.
    pub(super) fn ploop_file(&self, name: &VolumeName) -> io::Result<File> {
        self.directory.open_directory(name.as_str())?.open_file(IMAGE, Access::Read)
    }

    /// Deletes one.
    pub(super) fn delete_ploop(&self, name: &VolumeName) -> io::Result<()> {
        self.directory.remove_with_files(name.as_str())
    }

    fn describe_in(&self, name: &VolumeName, directory: &Directory) -> Result<()> {
        // `ploop` makes none where there is one.
        let had = match directory.rename(DESCRIPTION, OLD_DESCRIPTION) {
            Ok(()) => true,
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => false,
            Err(error) => {
                return Err(self.volume_failed(name, "cannot replace its description", &error));
            }
        };
        let own = self.path_of(name, directory)?;
        let image = own.join(IMAGE);
        let args = vec!["restore-descriptor".into(), own.into(), image.into()];
        let done = self.ploop(name, args);
        if had {
            // What is left of it says nothing to anybody.
            let _ = match done {
                Ok(()) => directory.unlink(OLD_DESCRIPTION),
                Err(_) => directory.rename(OLD_DESCRIPTION, DESCRIPTION),
            };
        }
        done
    }

    fn ploop(&self, name: &VolumeName, args: Vec<OsString>) -> Result<()> {
        let command = Command { program: TOOL, args, ..Command::default() };
        let done = self.ctx.host.run(&command, &self.ctx.limits);
        done.map(drop).map_err(|error| self.of_volume(name, error))
    }

    fn temporary_ploop(&self, name: &VolumeName) -> Result<TemporaryDirectory<'_>> {
        let new = self.directory.create_temporary_directory();
        new.map_err(|error| self.volume_failed(name, "cannot make its directory", &error))
    }

    fn ploop_directory(&self, name: &VolumeName) -> Result<Directory> {
        let directory = self.directory.open_directory(name.as_str());
        directory.map_err(|error| self.volume_failed(name, "cannot open its directory", &error))
    }

    fn ploop_image(
        &self,
        name: &VolumeName,
        directory: &Directory,
        access: Access,
    ) -> Result<File> {
        let image = directory.open_file(IMAGE, access);
        image.map_err(|error| self.volume_failed(name, "cannot open its image", &error))
    }

    /// Where a directory is, for a program.
    fn path_of(&self, name: &VolumeName, directory: &Directory) -> Result<PathBuf> {
        holders::path_of(directory)
            .map_err(|error| self.volume_failed(name, "cannot tell where its directory is", &error))
    }

    fn path_in(&self, name: &VolumeName, directory: &Directory, file: &str) -> Result<PathBuf> {
        self.path_of(name, directory).map(|path| path.join(file))
    }

    /// Owner and mode, synced; declared; then its name.
    fn finish_ploop(&self, def: &VolumeDef, new: TemporaryDirectory<'_>) -> Result<()> {
        let name = &def.name;
        let failed =
            |error: io::Error| self.volume_failed(name, "cannot write it to the storage", &error);
        let image = self.ploop_image(name, new.made(), Access::ReadWrite)?;
        image.sync_all().map_err(failed)?;
        self.set_permissions(def, new.made(), DEFAULT_MODE)?;
        new.made().sync().map_err(failed)?;
        let identity = files::identity(&image).map_err(failed)?;
        let declaration = Declaration {
            identity: Some(identity),
            key: None,
            format: VolumeFormat::Ploop,
            probed: false,
            backing: None,
            encryption: None,
            incomplete: None,
        };
        let pool = self.pool.def.uuid;
        self.ctx.records.declare(pool, name, &declaration)?;
        new.publish(name.as_str()).map_err(|error| {
            let _ = self.ctx.records.forget(pool, name);
            match error.raw_os_error() {
                Some(libc::EEXIST | libc::ENOTEMPTY) => self.exists(name),
                _ => self.volume_failed(name, "cannot give it its name", &error),
            }
        })
    }
}
