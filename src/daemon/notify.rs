//! What the service manager is told.

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    AddressFamily, ControlMessage, MsgFlags, SockFlag, SockType, UnixAddr, sendmsg, socket,
};
use sd_notify::NotifyState;
use std::io::IoSlice;
use std::os::fd::{AsFd, AsRawFd};
use tracing::warn;

/// Tells it; nothing happens when nobody listens.
pub(super) fn tell(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        warn!("cannot notify the service manager: {error}");
    }
}

/// Says that a reload has begun.
pub(super) fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => tell(&[NotifyState::Reloading, now]),
        Err(error) => warn!("cannot read the clock: {error}"),
    }
}

/// Waits until everything told so far has been taken note of: the service manager closes the
/// descriptor that comes with BARRIER=1. Blocks, for 5 s at most.
pub(super) fn barrier() {
    let Some(path) = std::env::var_os("NOTIFY_SOCKET") else { return };
    if let Err(error) = send_barrier(&path) {
        warn!("the service manager does not take notice: {error}");
    }
}

fn send_barrier(path: &std::ffi::OsStr) -> nix::Result<()> {
    let (ours, theirs) = nix::unistd::pipe()?;
    let socket = socket(AddressFamily::Unix, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)?;
    let address = match path.as_encoded_bytes() {
        [b'@', name @ ..] => UnixAddr::new_abstract(name)?,
        _ => UnixAddr::new(path)?,
    };
    sendmsg(
        socket.as_raw_fd(),
        &[IoSlice::new(b"BARRIER=1")],
        &[ControlMessage::ScmRights(&[theirs.as_raw_fd()])],
        MsgFlags::empty(),
        Some(&address),
    )?;
    drop(theirs);
    let mut hang_up = [PollFd::new(ours.as_fd(), PollFlags::empty())];
    match poll(&mut hang_up, PollTimeout::from(5000u16))? {
        0 => Err(nix::Error::ETIMEDOUT),
        _ => Ok(()),
    }
}
