//! A real NFS server in user space, nfs-ganesha with rpcbind (tests/support/ganesha.sh), in a network of its own.

use super::network::Network;
use super::runner::Skip;
use anyhow::{Context, Result};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// Where who looks for an export knocks first, and where its list is.
pub const RPCBIND: u16 = 111;
pub const MOUNTD: u16 = 20_048;
/// The directories that it exports: to everybody, to hosts of a network that has none, and with a blank.
pub const EXPORTS: [&str; 3] = ["/run/export/vms", "/run/export/others", "/run/export/with blank"];

/// The server; dropped, it ends.
pub struct Ganesha {
    network: Network,
    script: Child,
    /// rpcbind and ganesha.nfsd.
    daemons: Vec<Pid>,
}

impl Ganesha {
    /// Starts it; a skip where it, or what asks it, is not installed.
    pub fn start() -> Result<Self> {
        for program in ["ganesha.nfsd", "rpcbind", "showmount", "ip"] {
            let found = Command::new("sh").args(["-c", "command -v \"$0\"", program]).output()?;
            if !found.status.success() {
                return Err(Skip(format!("no {program} here: scripts/setup.sh bus")).into());
            }
        }
        let network = Network::new()?;
        let (script, daemons) = run(network)?;
        Ok(Self { network, script, daemons })
    }

    /// Where it is.
    pub fn network(&self) -> Network {
        self.network
    }

    /// Ends rpcbind and the server.
    pub fn stop(&mut self) -> Result<()> {
        self.signal(Signal::SIGKILL);
        self.script.wait()?;
        Ok(())
    }

    /// Starts both again.
    pub fn start_again(&mut self) -> Result<()> {
        (self.script, self.daemons) = run(self.network)?;
        Ok(())
    }

    /// Has both answer nothing.
    pub fn freeze(&self) {
        self.signal(Signal::SIGSTOP);
    }

    /// Has them go on.
    pub fn thaw(&self) {
        self.signal(Signal::SIGCONT);
    }

    /// Sends a signal to those of both that are there.
    fn signal(&self, signal: Signal) {
        for daemon in &self.daemons {
            let _ = kill(*daemon, signal);
        }
    }

    /// Ends the server alone: rpcbind goes on saying where it was.
    pub fn kill_server(&self) -> Result<()> {
        Ok(kill(*self.daemons.last().context("no server")?, Signal::SIGKILL)?)
    }
}

fn run(network: Network) -> Result<(Child, Vec<Pid>)> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/ganesha.sh");
    let mut script = network
        .inside("unshare")
        .args(["--mount", "--propagation=private"])
        .arg(script)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut said = String::new();
    BufReader::new(script.stdout.take().context("no output")?).read_line(&mut said)?;
    let daemons = said.split_whitespace().map(|pid| Ok(Pid::from_raw(pid.parse()?)));
    let daemons: Vec<_> = daemons.collect::<Result<_>>()?;
    anyhow::ensure!(daemons.len() == 2, "no NFS server: see above");
    Ok((script, daemons))
}

impl Drop for Ganesha {
    fn drop(&mut self) {
        self.signal(Signal::SIGKILL);
        let _ = self.script.wait();
    }
}
