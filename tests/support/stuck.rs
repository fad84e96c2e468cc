//! A pool whose storage really hangs: a directory on a FUSE file system whose server is stopped by a signal.

use super::runner::Skip;
use super::world::{World, eventually};
use anyhow::{Context, Result};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use poold::client::PoolProxy;
use std::process::{Child, Stdio};

/// The pool and the server below it.
pub struct Stuck {
    pub pool: PoolProxy<'static>,
    server: Child,
}

impl Stuck {
    /// An active pool that answers until it is frozen.
    pub async fn pool(world: &World, name: &str) -> Result<Stuck> {
        let behind = world.pools().join(format!("{name}.behind"));
        let target = world.pools().join(name);
        std::fs::create_dir_all(&behind)?;
        std::fs::create_dir_all(&target)?;
        if !std::path::Path::new("/dev/fuse").exists() {
            return Err(Skip("no FUSE here".into()).into());
        }
        let server = world
            .inside("bindfs")
            .arg("-f")
            .args([&behind, &target])
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("bindfs")?;
        let mounts = format!("/proc/{}/mounts", server.id());
        let line = format!(" {} fuse", target.display());
        eventually("the FUSE file system is mounted", async || {
            Ok(std::fs::read_to_string(&mounts).unwrap_or_default().contains(&line))
        })
        .await?;
        let pool = world.active_pool(name).await?;
        Ok(Stuck { pool, server })
    }

    /// From now on every call into it hangs.
    pub fn freeze(&self) -> Result<()> {
        Ok(kill(self.pid(), Signal::SIGSTOP)?)
    }

    /// All that hung goes on.
    pub fn thaw(&self) -> Result<()> {
        Ok(kill(self.pid(), Signal::SIGCONT)?)
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(self.server.id().cast_signed())
    }
}

impl Drop for Stuck {
    fn drop(&mut self) {
        let _ = self.thaw();
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}
