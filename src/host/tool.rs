//! Running other programs: absolute path, minimal environment, deadline, cancel, process group.

use super::Limits;
use crate::model::Result;
use std::ffi::OsString;
use std::path::PathBuf;

/// A program to run, found by name in the system's directories.
#[derive(Debug, Clone, Default)]
pub struct Command {
    /// Name, without directory.
    pub program: &'static str,
    /// Arguments.
    pub args: Vec<OsString>,
    /// Standard input; empty means /dev/null.
    pub input: Vec<u8>,
    /// Exit statuses that are no failure, beside 0.
    pub accept: &'static [i32],
}

/// What a program said.
#[derive(Debug, Clone, Default)]
pub struct Output {
    /// Exit status.
    pub status: i32,
    /// Standard output.
    pub stdout: Vec<u8>,
    /// Standard error.
    pub stderr: Vec<u8>,
}

/// The outside world as backends see it; recorded tool output replays behind it in tests.
pub trait Host: Send + Sync {
    /// Runs a program to its end. Not installed: `ToolMissing` with its package. A status that is
    /// not accepted: `ToolFailed` with the last line of standard error.
    fn run(&self, command: &Command, limits: &Limits) -> Result<Output>;

    /// Where a program is installed, if it is.
    fn find_tool(&self, program: &str) -> Option<PathBuf>;
}

/// The real host.
#[derive(Debug, Default)]
pub struct SystemHost;
