//! polkit's text agent, so that a user of a plain terminal (ssh, console) can be asked.

use std::io::IsTerminal;
use std::process::Stdio;
use tokio::io::AsyncReadExt;
use tokio::process::{Child, Command};

/// Asks on this terminal for as long as it is kept; a graphical agent goes before it.
pub(super) struct Agent {
    _child: Child,
}

impl Agent {
    /// Starts the agent if it can be of use: on a terminal, not for root, where polkit has one. As
    /// a fallback it serves only callers that have a login session.
    pub(super) async fn start() -> Option<Self> {
        if nix::unistd::geteuid().is_root() || !std::io::stdin().is_terminal() {
            return None;
        }
        let mut child = Command::new("pkttyagent")
            .args(["--process", &std::process::id().to_string(), "--notify-fd", "1", "--fallback"])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .ok()?;
        // It closes the descriptor when it is registered, or ends.
        let mut registered = child.stdout.take()?;
        registered.read_to_end(&mut Vec::new()).await.ok()?;
        Some(Self { _child: child })
    }
}
