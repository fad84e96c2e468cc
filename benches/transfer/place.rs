//! File systems to measure on.

use crate::contender::done;
use anyhow::{Context, Result};
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::Command;

/// `f_type` of ext2, ext3 and ext4.
const EXT4: i64 = 0xef53;

/// A temporary directory on ext4, with the data that is moved.
pub struct Place {
    directory: PathBuf,
    /// The loop device's file system, where the temporary directory is on another one.
    _disk: Option<Disk>,
    base: tempfile::TempDir,
}

impl Place {
    /// A place with so much random data.
    pub fn on_ext4(mebibytes: u64) -> Result<Self> {
        let base = tempfile::Builder::new().prefix("poold-bench").tempdir()?;
        let here = rustix::fs::statfs(base.path())?.f_type == EXT4;
        let disk = match here {
            true => None,
            false => Some(Disk::make(base.path(), "ext4", mebibytes * 4 + 1024)?),
        };
        let directory = disk.as_ref().map_or(base.path().to_owned(), |disk| disk.mounted.clone());
        std::fs::create_dir(directory.join("pool"))?;
        let place = Self { directory, _disk: disk, base };
        let mut random = File::open("/dev/urandom")?.take(mebibytes << 20);
        std::io::copy(&mut random, &mut File::create(place.source())?)?;
        Ok(place)
    }

    /// The data.
    pub fn source(&self) -> PathBuf {
        self.path("source")
    }

    /// A path in the place.
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// A file system of another kind beside it.
    pub fn disk(&self, kind: &str, mebibytes: u64) -> Result<Disk> {
        Disk::make(self.base.path(), kind, mebibytes)
    }
}

/// A file system in a loop device, until dropped.
pub struct Disk {
    /// Where it is mounted.
    pub mounted: PathBuf,
}

impl Disk {
    fn make(base: &Path, kind: &str, mebibytes: u64) -> Result<Self> {
        let (device, mounted) = (base.join(format!("{kind}.disk")), base.join(kind));
        File::create(&device)?.set_len(mebibytes << 20)?;
        std::fs::create_dir(&mounted)?;
        done(Command::new(format!("mkfs.{kind}")).arg("-q").arg(&device))
            .with_context(|| format!("mkfs.{kind}"))?;
        done(Command::new("mount").args(["-o", "loop"]).arg(&device).arg(&mounted))?;
        Ok(Self { mounted })
    }

    /// A path on it.
    pub fn path(&self, name: &str) -> PathBuf {
        self.mounted.join(name)
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Lazily: the daemon's name space has it mounted too.
        let _ = Command::new("umount").arg("-l").arg(&self.mounted).status();
    }
}
