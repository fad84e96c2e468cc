//! A directory of image files: what pools of types dir, fs, netfs, vstorage and gluster share.
//!
//! Every operation opens the directory anew and compares it with what the start found.

mod build;
mod clone;
mod create;
mod create_by_qemu;
mod delete;
mod entry;
mod link;
mod open;
mod ploop;
mod pool;
mod qcow2;
mod resize;
mod wipe;

use super::images::Images;
use super::mount;
use super::{Activation, ActivePool, Listing, OpContext, Operation};
use crate::host::{Directory, HIDDEN_PREFIX, files};
use crate::model::{Error, ErrorKind, PoolTypeInfo, Result, Usage, Volume, VolumeName};
pub(super) use build::{build, build_only, delete};
use entry::Found;
pub(super) use ploop::TOOL as PLOOP;
pub(super) use pool::ImagePool;
use std::borrow::Cow;
use std::ffi::CString;
use std::path::Path;

/// What all such pools can do.
pub(super) const OPERATIONS: &[Operation] = &[
    Operation::Build,
    Operation::Start,
    Operation::Stop,
    Operation::Delete,
    Operation::Refresh,
    Operation::CreateVolume,
    Operation::DeleteVolume,
    Operation::ResizeVolume,
    Operation::CloneVolume,
    Operation::WipeVolume,
    Operation::OpenVolume,
];

/// What a start remembers of the directory, to recognise it later.
pub(super) fn activation(directory: &Directory) -> Activation {
    let stat = directory.stat();
    Activation {
        mount_id: stat.mount_id,
        directory: Some((stat.device, stat.inode)),
        born: stat.btime,
        ..Activation::default()
    }
}

/// The directory of an active pool, open for one operation.
pub(super) struct ImageDirectory<'a> {
    pool: &'a ActivePool,
    ctx: &'a OpContext,
    /// Where it is on this host, without a slash at its end.
    path: &'a str,
    /// What the paths of its volumes have for it.
    outward: Cow<'a, str>,
    directory: Directory,
}

impl<'a> ImageDirectory<'a> {
    /// Opens it; `Inaccessible` when it is not the one that the pool was started with.
    pub(super) fn open(pool: &'a ActivePool, ctx: &'a OpContext) -> Result<Self> {
        let name = &pool.def.name;
        let path = pool.directory()?;
        let directory = Directory::open(Path::new(path)).map_err(|error| {
            Error::new(
                ErrorKind::Inaccessible,
                format!("pool {name}: cannot open its directory {path}: {error}; restore it, or stop the pool"),
            )
        })?;
        let found = activation(&directory);
        let started = &pool.activation;
        let same_directory = (started.directory.is_none() || started.directory == found.directory)
            && (started.born.is_none() || started.born == found.born);
        // The same file system mounted again, or seen by a daemon in another mount namespace, has
        // another mount id; without a birth, another disk in its place could have all the numbers.
        let same_mount = started.mount_id.is_none()
            || started.mount_id == found.mount_id
            || (same_directory && started.born.is_some());
        let same = same_mount && same_directory;
        if !same && !mount::is_mounted_again(pool, &found)? {
            let what = if same_directory { "is on another mount" } else { "was replaced" };
            return Err(Error::new(
                ErrorKind::Inaccessible,
                format!(
                    "pool {name}: its directory {path} {what} since the pool was started; restore it, or stop and start the pool"
                ),
            ));
        }
        let path = path.trim_end_matches('/');
        let outward = match &pool.activation.files {
            Some(_) => pool.def.volume_directory().unwrap_or(Cow::Borrowed(path)),
            None => Cow::Borrowed(path),
        };
        Ok(Self { pool, ctx, path, outward, directory })
    }

    /// Room on its file system.
    pub(super) fn usage(&self) -> Result<Usage> {
        files::usage(&self.directory).map_err(|error| self.failed("cannot read its usage", &error))
    }

    /// Room and all volumes. One odd entry is counted and stops nothing.
    pub(super) fn list(&self) -> Result<Listing> {
        let mut listing = Listing { usage: self.usage()?, ..Listing::default() };
        let mut reader = entry::Reader::new(self);
        let mut seen = 0_u32;
        self.directory
            .for_each_entry(|name, kind| {
                seen = seen.wrapping_add(1);
                if seen.is_multiple_of(64) {
                    self.ctx.limits.check().map_err(ListError::Ours)?;
                }
                match reader.read(name, kind)? {
                    Found::Volume(volume) => listing.volumes.push(volume),
                    Found::Skipped => listing.skipped += 1,
                    Found::Nothing => {}
                }
                Ok(())
            })
            .map_err(|error| match error {
                ListError::Ours(error) => error,
                ListError::Io(error) => self.failed("cannot list its directory", &error),
            })?;
        Ok(listing)
    }

    /// One volume; none when it is not there or is no volume.
    pub(super) fn volume(&self, name: &VolumeName) -> Result<Option<Volume>> {
        let Ok(c_name) = CString::new(name.as_str()) else { return Ok(None) };
        match entry::Reader::new(self).read(&c_name, rustix::fs::FileType::Unknown) {
            Ok(Found::Volume(volume)) => Ok(Some(volume)),
            Ok(Found::Skipped | Found::Nothing) => Ok(None),
            Err(error) => Err(self.volume_failed(name, "cannot read it", &error)),
        }
    }

    /// Removes what died in the making.
    pub(super) fn sweep(&self) -> Result<()> {
        self.directory.sweep().map_err(|error| {
            self.failed(&format!("cannot remove left-over {HIDDEN_PREFIX}* files"), &error)
        })
    }

    /// The path of a volume.
    fn volume_path(&self, name: &str) -> String {
        self.info().volume_path(&self.outward, name)
    }

    /// What its type needs and offers.
    fn info(&self) -> &'static PoolTypeInfo {
        self.pool.def.pool_type.info()
    }

    /// An error of the pool as a whole.
    fn failed(&self, what: &str, error: &std::io::Error) -> Error {
        Error::io(format_args!("pool {}: {what}", self.pool.def.name), error)
    }

    /// An error of one volume, the operating system's.
    fn volume_failed(&self, name: &VolumeName, what: &str, error: &std::io::Error) -> Error {
        self.pool.volume_failed(name, what, error)
    }

    /// An error of one volume.
    fn volume_error(
        &self,
        kind: ErrorKind,
        name: &VolumeName,
        what: impl std::fmt::Display,
    ) -> Error {
        self.pool.volume_error(kind, name, what)
    }

    /// An error that does not say which volume it is of.
    fn of_volume(&self, name: &VolumeName, error: Error) -> Error {
        self.pool.of_volume(name, error)
    }

    /// Work on images, wherever they lie.
    fn images(&self) -> Images<'a> {
        Images { pool: self.pool, ctx: self.ctx }
    }
}

/// Why a listing ended early.
enum ListError {
    Ours(Error),
    Io(std::io::Error),
}

impl From<std::io::Error> for ListError {
    fn from(error: std::io::Error) -> Self {
        Self::Io(error)
    }
}
