//! Clusters of Virtuozzo Storage that are fakes: directories, and a `vstorage-mount` (tests/support/fakes) that mounts
//! them, as Virtuozzo's own cannot be installed.

use super::fault::Fault;
use super::runner::Skip;
use super::world::World;
use anyhow::Result;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::path::{Path, PathBuf};

/// The one that is there.
pub const CLUSTER: &str = "cloud";

/// The clusters, and the processes that serve where they are mounted.
pub struct Clusters(PathBuf);

impl Clusters {
    /// The clusters of a directory, which is made; a skip where nothing can serve them.
    pub fn below(directory: PathBuf) -> Result<Self> {
        if !["/dev/fuse", "/usr/bin/mergerfs"].iter().all(|needed| Path::new(needed).exists()) {
            let why = "needs mergerfs and /dev/fuse: scripts/setup.sh bus";
            return Err(Skip(why.to_owned()).into());
        }
        std::fs::create_dir_all(directory.join(CLUSTER))?;
        Ok(Self(directory))
    }

    /// Has a world's daemon find the programs that reach them.
    pub fn reached_from(&self, world: &World) -> Result<()> {
        let state = self.0.display().to_string();
        world.add_fakes(&["vstorage-mount", "ploop"], &[("fake-vstorage", &state)])
    }

    /// Where the files of the one that is there are.
    pub fn files(&self) -> PathBuf {
        self.0.join(CLUSTER)
    }

    /// Has all of them fail: what mounts them says so, and what is mounted hangs.
    pub fn fail(&self, fault: Fault) -> Result<()> {
        std::fs::write(self.0.join(".fault"), fault.word())?;
        self.signal(Signal::SIGSTOP)
    }

    /// From now on they serve again.
    pub fn recover(&self) -> Result<()> {
        std::fs::remove_file(self.0.join(".fault"))?;
        self.signal(Signal::SIGCONT)
    }

    /// Sends all processes that serve them a signal.
    fn signal(&self, signal: Signal) -> Result<()> {
        for entry in std::fs::read_dir(&self.0)? {
            let name = entry?.file_name();
            let Some(client) = name.to_str().and_then(|name| name.strip_prefix(".client-")) else {
                continue;
            };
            // It may have been unmounted, and its number be somebody else's by now.
            let runs = std::fs::read_to_string(format!("/proc/{client}/comm")).unwrap_or_default();
            if runs.trim_end() == "mergerfs" {
                kill(Pid::from_raw(client.parse()?), signal)?;
            }
        }
        Ok(())
    }
}
