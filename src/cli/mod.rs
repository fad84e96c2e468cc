//! poolctl: commands and their rendering.

use std::process::ExitCode;

/// Runs poolctl with the process's arguments.
pub fn main() -> ExitCode {
    todo!()
}
