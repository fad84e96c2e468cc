//! Networks that have nothing but themselves, in which servers have the ports that are theirs.

use super::world::World;
use anyhow::{Context, Result, ensure};
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

/// A network, by the process that keeps it. It lasts as long as the tests, which have a process namespace of their own.
#[derive(Debug, Clone, Copy)]
pub struct Network(u32);

impl Network {
    /// One more, with a loopback interface.
    pub fn new() -> Result<Self> {
        let mut keeper = Command::new("unshare")
            .args(["--net", "sh", "-c", "ip link set lo up && echo up && exec sleep infinity"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()?;
        let mut said = String::new();
        BufReader::new(keeper.stdout.take().context("no output")?).read_line(&mut said)?;
        ensure!(said == "up\n", "no network of its own");
        Ok(Self(keeper.id()))
    }

    /// A process in it.
    pub fn process(self) -> u32 {
        self.0
    }

    /// A program in it.
    pub fn inside(self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/proc/{}/ns/net", self.0)).args(["--", program]);
        command
    }

    /// A host in it.
    pub async fn world(self, configuration: &str) -> Result<World> {
        World::start_in_network_of(self.0, configuration).await
    }
}
