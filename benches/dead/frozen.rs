//! A file system that hangs.

use anyhow::Context;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A FUSE file system, whose server hears no signal but SIGCONT once it is frozen.
pub struct Frozen {
    server: Child,
    target: PathBuf,
}

impl Frozen {
    /// Mounts one at `dead` below a directory.
    pub fn mount(place: &Path) -> anyhow::Result<Self> {
        let (behind, target) = (place.join("behind"), place.join("dead"));
        std::fs::create_dir_all(&behind)?;
        std::fs::create_dir_all(&target)?;
        let server = Command::new("bindfs")
            .arg("-f")
            .args([&behind, &target])
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("bindfs")?;
        let mounted = Self { server, target };
        let deadline = Instant::now() + Duration::from_secs(10);
        let line = format!(" {} fuse", mounted.target.display());
        while !std::fs::read_to_string("/proc/self/mounts")?.contains(&line) {
            anyhow::ensure!(Instant::now() < deadline, "bindfs does not mount");
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(mounted)
    }

    /// Where it is.
    pub fn target(&self) -> &Path {
        &self.target
    }

    /// From now on every call into it hangs.
    pub fn freeze(&self) -> anyhow::Result<()> {
        Ok(kill(self.pid(), Signal::SIGSTOP)?)
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(self.server.id().cast_signed())
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        let _ = kill(self.pid(), Signal::SIGCONT);
        let _ = Command::new("umount").arg("-l").arg(&self.target).status();
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}
