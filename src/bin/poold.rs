//! The storage daemon.

use std::process::ExitCode;

fn main() -> ExitCode {
    poold::daemon::main()
}
