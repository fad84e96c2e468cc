//! A real iSCSI target in user space (tgt) with two targets, each with a user of its own.

use super::garbage::free_port;
use super::runner::Skip;
use super::world::World;
use anyhow::{Result, bail, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

const MIB: u64 = 1 << 20;
/// The target of the tests, with units 1 and 3.
pub const TARGET: &str = "iqn.2026-01.org.example:units";
/// The target that is listed before it, and refuses its user.
pub const OTHER: &str = "iqn.2026-01.org.example:other";
/// What opens it.
pub const PASSWORD: &str = "correct.horse.7";

/// The daemon; it ends when this is dropped.
pub struct Tgt {
    daemon: Child,
    control: String,
    /// Where it answers.
    pub port: u16,
    directory: PathBuf,
}

impl Tgt {
    /// Starts it, with its units in a directory; a skip where it, or what uses it, is not installed.
    pub fn start(directory: PathBuf) -> Result<Self> {
        for program in ["tgtd", "tgtadm", "iscsi-ls", "qemu-storage-daemon"] {
            let found =
                ["/usr/sbin", "/usr/bin"].iter().any(|dir| Path::new(dir).join(program).exists());
            if !found || !Path::new("/dev/fuse").exists() {
                bail!(Skip(format!("needs {program} and /dev/fuse: scripts/setup.sh bus")));
            }
        }
        std::fs::create_dir_all("/var/run/tgtd")?;
        std::fs::create_dir_all(&directory)?;
        // All areas have one directory for the sockets that it is controlled by.
        let port = free_port()?;
        let control = port.to_string();
        let tgt = Self { daemon: daemon(&control, port)?, control, port, directory };
        tgt.make_targets()?;
        Ok(tgt)
    }

    fn make_targets(&self) -> Result<()> {
        let ready = (0..500).any(|_| {
            let ready = self.admin("--mode system --op show").is_ok();
            if !ready {
                std::thread::sleep(Duration::from_millis(20));
            }
            ready
        });
        ensure!(ready, "tgtd does not answer");
        // The list of targets begins with the one that refuses.
        self.target(1, OTHER, "bob", "another.horse.8")?;
        self.unit(1, 1, 8)?;
        self.target(2, TARGET, "alice", PASSWORD)?;
        for (number, mebibytes) in [(1, 16), (3, 33)] {
            self.unit(2, number, mebibytes)?;
        }
        Ok(())
    }

    /// Ends it.
    pub fn stop(&mut self) -> Result<()> {
        self.daemon.kill()?;
        self.daemon.wait()?;
        Ok(())
    }

    /// Starts it again, with what it had, where it was.
    pub fn start_again(&mut self) -> Result<()> {
        self.daemon = daemon(&self.control, self.port)?;
        self.make_targets()
    }

    /// Has it answer nothing.
    pub fn freeze(&self) -> Result<()> {
        self.signal(Signal::SIGSTOP)
    }

    /// Has it go on.
    pub fn thaw(&self) -> Result<()> {
        self.signal(Signal::SIGCONT)
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        Ok(kill(Pid::from_raw(self.daemon.id().cast_signed()), signal)?)
    }

    /// Runs tgtadm, which has to succeed.
    pub fn admin(&self, arguments: &str) -> Result<()> {
        let output = Command::new("tgtadm")
            .args(["-C", &self.control, "--lld", "iscsi"])
            .args(arguments.split_whitespace())
            .output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "tgtadm {arguments}: {said}");
        Ok(())
    }

    fn target(&self, id: u32, name: &str, user: &str, password: &str) -> Result<()> {
        self.admin(&format!("--mode target --op new --tid {id} -T {name}"))?;
        self.admin(&format!("--mode account --op new --user {user} --password {password}"))?;
        self.admin(&format!("--mode account --op bind --tid {id} --user {user}"))?;
        self.admin(&format!("--mode target --op bind --tid {id} -I ALL"))
    }

    /// Makes a unit, with zeros or what it had before.
    pub fn unit(&self, target: u32, number: u32, mebibytes: u64) -> Result<()> {
        let file = self.directory.join(format!("{target}-{number}"));
        let open = std::fs::OpenOptions::new().write(true).create(true).truncate(false).open(&file);
        open?.set_len(mebibytes * MIB)?;
        let file = file.display();
        self.admin(&format!("--mode logicalunit --op new --tid {target} --lun {number} -b {file}"))
    }

    /// What is in a unit of the target.
    pub fn content(&self, number: u32) -> Result<Vec<u8>> {
        Ok(std::fs::read(self.directory.join(format!("2-{number}")))?)
    }

    /// libvirt's document of a pool on one of its targets.
    pub fn document(&self, name: &str, target: &str) -> String {
        let port = self.port;
        format!(
            "<pool type='iscsi-direct'><name>{name}</name><source><host name='127.0.0.1' port='{port}'/>\
             <device path='{target}'/><initiator><iqn name='iqn.2026-01.org.example:poold'/></initiator>\
             <auth type='chap' username='alice'><secret usage='units'/></auth></source></pool>"
        )
    }
}

impl Drop for Tgt {
    fn drop(&mut self) {
        let _ = self.daemon.kill();
        let _ = self.daemon.wait();
        let _ = std::fs::remove_file(format!("/var/run/tgtd/socket.{}", self.control));
    }
}

fn daemon(control: &str, port: u16) -> Result<Child> {
    let child = Command::new("tgtd")
        .args(["-f", "-C", control, "--iscsi", &format!("portal=127.0.0.1:{port}")])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    Ok(child)
}

/// Keeps a value as the secret that its documents name.
pub async fn set_password(world: &World, value: &str) -> Result<()> {
    world.set_secret("iscsi", "units", value).await
}
