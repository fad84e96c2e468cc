//! A real GlusterFS server of one brick for each volume (tests/support/gluster.sh) in a network of its own, and what
//! its own tools say of it.

use super::network::Network;
use super::runner::Skip;
use anyhow::{Context, Result, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

/// Where it keeps what it has, in memory that only this namespace has.
const DIRECTORY: &str = "/run/gluster/test";
/// Where its daemon answers, in that network.
pub const PORT: u16 = 24_007;

/// A volume of the server, which is a case's own. Both last as long as the tests, which have process and mount
/// namespaces of their own.
pub struct Gluster {
    /// Where the server is.
    network: Network,
    /// Name of the volume.
    pub volume: &'static str,
}

/// The server of all cases, started by the first, with a new volume; a skip where GlusterFS is not installed.
pub fn gluster(volume: &'static str) -> Result<Gluster> {
    static NETWORK: OnceLock<Network> = OnceLock::new();
    for program in ["glusterd", "gluster", "glusterfs", "mount.glusterfs", "ip"] {
        let found = Command::new("sh").args(["-c", "command -v \"$0\"", program]).output()?;
        if !found.status.success() {
            return Err(Skip(format!("no {program} here: scripts/setup.sh bus")).into());
        }
    }
    if !Path::new("/dev/fuse").exists() {
        return Err(Skip("no /dev/fuse here".to_owned()).into());
    }
    let network = match NETWORK.get() {
        Some(network) => *network,
        None => *NETWORK.get_or_init({
            let network = Network::new()?;
            Gluster { network, volume }.start()?;
            move || network
        }),
    };
    let server = Gluster { network, volume };
    let brick = format!("{}:{}", hostname()?, server.brick().display());
    server.tool(&["volume", "create", volume, "transport", "tcp", &brick, "force"])?;
    server.tool(&["volume", "start", volume])?;
    Ok(server)
}

fn hostname() -> Result<String> {
    nix::unistd::gethostname()?.into_string().ok().context("the host has an odd name")
}

impl Gluster {
    /// Starts the server, for the first time or again.
    pub fn start(&self) -> Result<()> {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/gluster.sh");
        let script = script.to_str().context("an odd directory")?;
        // Its daemons would keep a pipe open.
        let log =
            std::env::temp_dir().join(format!("poold-gluster.{}.log", self.network.process()));
        let file = std::fs::File::create(&log)?;
        let status = self
            .network
            .inside(script)
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file)
            .status()?;
        let said = std::fs::read_to_string(&log)?;
        std::fs::remove_file(log)?;
        ensure!(status.success(), "no GlusterFS server: {said}");
        Ok(())
    }

    /// Ends the server and the bricks at once.
    pub fn kill(&self) -> Result<()> {
        self.signal(Signal::SIGKILL)?;
        self.pid_files()?.into_iter().try_for_each(|file| Ok(std::fs::remove_file(file)?))
    }

    /// Has the server and the bricks answer nothing.
    pub fn freeze(&self) -> Result<()> {
        self.signal(Signal::SIGSTOP)
    }

    /// Has them go on.
    pub fn thaw(&self) -> Result<()> {
        self.signal(Signal::SIGCONT)
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        for file in self.pid_files()? {
            let pid = std::fs::read_to_string(&file)?;
            // One brick's process may serve several volumes.
            let _ = kill(Pid::from_raw(pid.trim().parse()?), signal);
        }
        Ok(())
    }

    fn pid_files(&self) -> Result<Vec<PathBuf>> {
        let mut files = vec![Path::new(DIRECTORY).join("glusterd.pid")];
        for volume in std::fs::read_dir("/run/gluster/vols")? {
            let entries = std::fs::read_dir(volume?.path())?.collect::<Result<Vec<_>, _>>()?;
            let entries = entries.into_iter().map(|entry| entry.path());
            files.extend(entries.filter(|path| path.extension().is_some_and(|end| end == "pid")));
        }
        Ok(files)
    }

    /// Where it is.
    pub fn network(&self) -> Network {
        self.network
    }

    /// `gluster` with these words, which has to succeed; what it said.
    pub fn tool(&self, arguments: &[&str]) -> Result<String> {
        let output =
            self.network.inside("gluster").arg("--mode=script").args(arguments).output()?;
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let complained = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "gluster {arguments:?}: {said}{complained}");
        Ok(said)
    }

    /// Where the server keeps the volume's files.
    pub fn brick(&self) -> PathBuf {
        Path::new(DIRECTORY).join("bricks").join(self.volume)
    }

    /// Names of the files that are in it.
    pub fn files(&self) -> Result<Vec<String>> {
        let entries = std::fs::read_dir(self.brick())?.collect::<Result<Vec<_>, _>>()?;
        let names =
            entries.into_iter().map(|entry| entry.file_name().to_string_lossy().into_owned());
        let mut names: Vec<_> = names.filter(|name| name != ".glusterfs").collect();
        names.sort();
        Ok(names)
    }
}
