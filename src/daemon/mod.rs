//! The process: configuration, activation, lifecycle, logging.

use std::process::ExitCode;

/// Runs poold with the process's arguments.
pub fn main() -> ExitCode {
    todo!()
}
