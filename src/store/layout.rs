//! Where everything is, below one root. Called by the rest of `store`.

use super::atomic;
use crate::model::{Error, ErrorKind, Result};
use std::path::{Path, PathBuf};

/// Directories and their modes, parents first. Ours are for root alone, except the one that holds
/// the socket and the one that holds the configuration.
const DIRECTORIES: [(&str, u32); 15] = [
    ("run", 0o755),
    ("run/poold", 0o755),
    ("run/poold/pools", 0o700),
    ("run/poold/private", 0o700),
    ("run/poold/mounts", 0o700),
    ("etc", 0o755),
    ("etc/poold", 0o755),
    ("etc/poold/pools", 0o700),
    ("etc/poold/autostart", 0o700),
    ("var", 0o755),
    ("var/lib", 0o755),
    ("var/lib/poold", 0o700),
    ("var/lib/poold/jobs", 0o700),
    ("var/lib/poold/secrets", 0o700),
    ("var/lib/poold/volumes", 0o700),
];

/// The directories of one poold.
#[derive(Debug)]
pub(super) struct Layout {
    root: PathBuf,
    /// `run/poold`.
    pub(super) run: PathBuf,
    /// Run-time state of pools.
    pub(super) run_pools: PathBuf,
    /// What programs are given by file while they run.
    pub(super) private: PathBuf,
    /// What pools without a target have mounted. Nothing in it is ever removed but empty directories.
    pub(super) mounts: PathBuf,
    /// Definitions.
    pub(super) pools: PathBuf,
    /// Links to the definitions of pools that are started at boot.
    pub(super) autostart: PathBuf,
    /// Journals.
    pub(super) jobs: PathBuf,
    /// Secrets.
    pub(super) secrets: PathBuf,
    /// Declarations.
    pub(super) volumes: PathBuf,
}

impl Layout {
    pub(super) fn new(root: &Path) -> Self {
        Self {
            root: root.to_owned(),
            run: root.join("run/poold"),
            run_pools: root.join("run/poold/pools"),
            private: root.join("run/poold/private"),
            mounts: root.join("run/poold/mounts"),
            pools: root.join("etc/poold/pools"),
            autostart: root.join("etc/poold/autostart"),
            jobs: root.join("var/lib/poold/jobs"),
            secrets: root.join("var/lib/poold/secrets"),
            volumes: root.join("var/lib/poold/volumes"),
        }
    }

    /// Makes what is missing. Without `run/poold` there is no daemon; the others are tried again
    /// when something is to be written there, so that a full or read-only disk stops no start.
    pub(super) fn make(&self) -> Result<()> {
        std::fs::create_dir_all(&self.root)
            .map_err(|e| Error::io(format_args!("cannot make {}", self.root.display()), &e))?;
        for (path, mode) in DIRECTORIES {
            match atomic::make_dir(&self.root.join(path), mode) {
                Err(error) if path.starts_with("run") => return Err(error),
                Err(error) => tracing::warn!("{error}"),
                Ok(()) => {}
            }
        }
        Ok(())
    }

    /// Removes what a daemon that died left half-written.
    pub(super) fn sweep(&self) {
        for dir in [
            &self.run,
            &self.run_pools,
            &self.pools,
            &self.autostart,
            &self.jobs,
            &self.secrets,
            &self.volumes,
        ] {
            atomic::sweep(dir);
        }
    }

    /// Runs `write`; when a directory is missing (somebody removed it), makes it and tries again.
    pub(super) fn writing<T>(&self, write: impl Fn() -> Result<T>) -> Result<T> {
        match write() {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                self.make()?;
                write()
            }
            done => done,
        }
    }
}
