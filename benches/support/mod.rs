//! What the benchmarks share.

#![allow(dead_code)] // Not every one of them needs all of it.

pub mod libvirt;

use anyhow::Context;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

/// Milliseconds since `start`.
pub fn milliseconds(start: Instant) -> f64 {
    start.elapsed().as_secs_f64() * 1e3
}

/// The median; 0 of nothing.
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}

/// `scripts/private-bus.sh`, until dropped.
pub struct PrivateBus {
    script: Child,
    address: String,
}

impl PrivateBus {
    /// A bus with the built poold on it, whose data is below `root`.
    pub fn start(root: &Path) -> anyhow::Result<Self> {
        let tree = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
        let mut script = Command::new(tree.join("scripts/private-bus.sh"))
            .arg("--root")
            .arg(root)
            .arg("--poold")
            .arg(env!("CARGO_BIN_EXE_poold"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let lines = BufReader::new(script.stdout.take().context("no output")?).lines();
        // All of it: a script that cannot write ends.
        let said: Vec<String> =
            lines.map_while(Result::ok).take_while(|line| line != "READY").collect();
        let address = said
            .iter()
            .find_map(|line| line.strip_prefix("DBUS_SYSTEM_BUS_ADDRESS=").map(str::to_owned))
            .context("scripts/private-bus.sh gave no address")?;
        Ok(Self { script, address })
    }

    /// Its address.
    pub fn address(&self) -> &str {
        &self.address
    }
}

impl Drop for PrivateBus {
    fn drop(&mut self) {
        drop(self.script.stdin.take());
        let _ = self.script.wait();
    }
}
