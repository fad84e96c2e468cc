//! A real Ceph cluster on this machine (tests/support/ceph.sh), and what its own tools say of it.

use super::garbage::free_port;
use super::runner::Skip;
use anyhow::{Context, Result, ensure};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::waitpid;
use nix::unistd::Pid;
use std::net::{Ipv6Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

/// Where it is, in memory that only this namespace has; the packages make the directory.
const DIRECTORY: &str = "/var/lib/ceph";

/// The programs that are not told where it is.
const AUTHTOOL: &str = "ceph-authtool";
const PYTHON: &str = "/usr/bin/python3";

/// A cluster, and a pool in it that is a case's own. It lasts as long as the tests, which have process and mount
/// namespaces of their own.
#[derive(Debug, Clone, Copy)]
pub struct Cluster {
    /// Of its monitor, for messenger 2 at 127.0.0.1.
    pub port: u16,
    /// The same for messenger 1.
    pub old_port: u16,
    /// The same for messenger 2 at ::1, where this machine has that.
    pub port_6: Option<u16>,
    /// Name of the Ceph pool.
    pub pool: &'static str,
}

/// The cluster of all cases, started by the first, with a new pool; a skip where Ceph is not installed.
pub fn cluster(pool: &'static str) -> Result<Cluster> {
    static STARTED: OnceLock<Cluster> = OnceLock::new();
    for program in ["ceph-mon", "ceph-osd", "ceph", "rbd", "qemu-storage-daemon"] {
        let found = Command::new("sh").args(["-c", "command -v \"$0\"", program]).output()?;
        if !found.status.success() {
            return Err(Skip(format!("no {program} here")).into());
        }
    }
    for path in ["/dev/fuse", DIRECTORY] {
        if !Path::new(path).exists() {
            return Err(Skip(format!("no {path} here")).into());
        }
    }
    let started = match STARTED.get() {
        Some(started) => *started,
        None => {
            let started = start()?;
            *STARTED.get_or_init(|| started)
        }
    };
    let cluster = Cluster { pool, ..started };
    cluster.admin("ceph", &["osd", "pool", "create", pool, "8"])?;
    cluster.admin("rbd", &["pool", "init", pool])?;
    Ok(cluster)
}

/// Starts it.
fn start() -> Result<Cluster> {
    let mounted = Command::new("mount").args(["-t", "tmpfs", "tmpfs", DIRECTORY]).status()?;
    ensure!(mounted.success(), "no room in memory for the cluster");
    let port = free_port()?;
    let old_port = another_port(port)?;
    let has_6 = TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_ok();
    let port_6 = if has_6 { Some(another_port(old_port)?) } else { None };
    let addresses = format!("v2:127.0.0.1:{port},v1:127.0.0.1:{old_port}");
    let sixth = port_6.map(|port| format!(",v2:[::1]:{port}")).unwrap_or_default();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/ceph.sh");
    let output = Command::new(script).args([DIRECTORY, &(addresses + &sixth)]).output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "no cluster: {said}");
    Ok(Cluster { port, old_port, port_6, pool: "" })
}

/// A free port that is not that one.
fn another_port(than: u16) -> Result<u16> {
    loop {
        let port = free_port()?;
        if port != than {
            return Ok(port);
        }
    }
}

impl Cluster {
    /// A file below its directory.
    pub fn file(&self, name: &str) -> PathBuf {
        Path::new(DIRECTORY).join(name)
    }

    /// The key of client.libvirt.
    pub fn key(&self) -> Result<String> {
        self.admin("ceph-authtool", &["-n", "client.libvirt", "-p", "client.libvirt.keyring"])
            .map(|key| key.trim().to_owned())
    }

    /// Runs one of its tools, as its administrator.
    pub fn run(&self, program: &str, arguments: &[&str]) -> Result<Output> {
        let mut command = Command::new(program);
        if ![AUTHTOOL, PYTHON].contains(&program) {
            command.args(["-c", "ceph.conf"]);
        }
        Ok(command.args(arguments).current_dir(DIRECTORY).output()?)
    }

    /// Runs one that has to succeed; what it said.
    pub fn admin(&self, program: &str, arguments: &[&str]) -> Result<String> {
        let output = self.run(program, arguments)?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{program} {arguments:?}: {said}");
        Ok(String::from_utf8(output.stdout)?)
    }

    /// `rbd` with these words, in JSON.
    pub fn rbd(&self, arguments: &[&str]) -> Result<serde_json::Value> {
        let arguments = [arguments, &["--format=json"]].concat();
        Ok(serde_json::from_str(&self.admin("rbd", &arguments)?)?)
    }

    /// Names of its images, those in the making too.
    pub fn images(&self) -> Result<Vec<String>> {
        let names = self.rbd(&["ls", self.pool])?;
        let names = names.as_array().context("no list")?;
        Ok(names.iter().filter_map(|name| name.as_str()).map(str::to_owned).collect())
    }

    /// An image as its tools name it.
    pub fn image(&self, name: &str) -> String {
        format!("{}/{name}", self.pool)
    }

    /// Content of an image.
    pub fn content(&self, image: &str) -> Result<Vec<u8>> {
        let image = self.image(image);
        let output = self.run("rbd", &["export", "--no-progress", &image, "-"])?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Ok(output.stdout)
    }

    /// Has all of it answer nothing.
    pub fn freeze(&self) -> Result<()> {
        self.signal(Signal::SIGSTOP)
    }

    /// Has it go on.
    pub fn thaw(&self) -> Result<()> {
        self.signal(Signal::SIGCONT)?;
        // Its leases have lapsed, and alone it may never renew one: what came in between waits for ever then.
        self.admin("ceph", &["osd", "down", "0"])?;
        Ok(())
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        self.daemons()?.into_iter().try_for_each(|(_, pid)| Ok(kill(pid, signal)?))
    }

    /// Ends all of it in order, so that it keeps what it has.
    pub fn stop(&self) -> Result<()> {
        for (daemon, pid) in self.daemons()? {
            kill(pid, Signal::SIGTERM)?;
            // They are in the background, and so this namespace's first process is their parent.
            waitpid(pid, None).with_context(|| format!("{daemon} does not end"))?;
        }
        Ok(())
    }

    /// Starts all of it again.
    pub fn start_again(&self) -> Result<()> {
        self.admin("ceph-mon", &["-i", "a"])?;
        self.admin("ceph-osd", &["-i", "0"])?;
        Ok(())
    }

    /// The OSD, which needs the monitor for its end, and the monitor.
    fn daemons(&self) -> Result<Vec<(&'static str, Pid)>> {
        let pid = |daemon| {
            let pid = std::fs::read_to_string(self.file(&format!("run/{daemon}.pid")))?;
            Ok((daemon, Pid::from_raw(pid.trim().parse()?)))
        };
        ["osd.0", "mon.a"].into_iter().map(pid).collect()
    }
}
