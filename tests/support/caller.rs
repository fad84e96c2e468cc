//! Callers that are somebody else: a process of that user owns the connection, this one drives it.
//!
//! A bus knows its clients by the credentials of whoever connected. The process forked here gives up its privileges,
//! connects, hands the socket over and stays, so that polkit finds a living process of that user behind the name.

use super::world::World;
use anyhow::{Context, Result, ensure};
use nix::sys::socket::{
    AddressFamily, ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, SockType, recvmsg,
    sendmsg, socketpair,
};
use std::io::{IoSlice, IoSliceMut, Read};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};
use zbus::Connection;
use zbus::connection::Builder;

/// The first argument that makes the test binary such a process; the socket path and the uid follow.
pub const ARGUMENT: &str = "--caller";

/// Nobody's uid and gid on Debian; only that they are not root's matters.
pub const NOBODY: u32 = 65534;

/// A connection of another user.
pub struct Caller {
    pub connection: Connection,
    process: Child,
    /// Its end tells the process to end.
    _line: OwnedFd,
}

impl Caller {
    /// Nobody on the bus.
    pub async fn nobody(world: &World) -> Result<Caller> {
        Self::on_bus(world, NOBODY).await
    }

    /// A user on the bus.
    pub async fn on_bus(world: &World, uid: u32) -> Result<Caller> {
        let (stream, process, line) = connect_as(&world.bus_socket(), uid)?;
        let connection = Builder::unix_stream(stream).user_id(uid).build().await?;
        Ok(Caller { connection, process, _line: line })
    }

    /// A user on poold's own socket.
    pub async fn on_socket(path: &str, uid: u32) -> Result<Caller> {
        let (stream, process, line) = connect_as(path, uid)?;
        let connection = Builder::unix_stream(stream).user_id(uid).p2p().build().await?;
        Ok(Caller { connection, process, _line: line })
    }

    /// The process that polkit takes for the caller.
    pub fn pid(&self) -> u32 {
        self.process.id()
    }
}

impl Drop for Caller {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn connect_as(path: &str, uid: u32) -> Result<(UnixStream, Child, OwnedFd)> {
    let (ours, theirs) =
        socketpair(AddressFamily::Unix, SockType::Stream, None, SockFlag::SOCK_CLOEXEC)?;
    let process = Command::new(std::env::current_exe()?)
        .args([ARGUMENT, path, &uid.to_string()])
        .stdin(Stdio::from(theirs))
        .stdout(Stdio::null())
        .spawn()?;
    let mut byte = [0];
    let mut space = nix::cmsg_space!([std::os::fd::RawFd; 1]);
    let mut buffer = [IoSliceMut::new(&mut byte)];
    let message =
        recvmsg::<()>(ours.as_raw_fd(), &mut buffer, Some(&mut space), MsgFlags::MSG_CMSG_CLOEXEC)?;
    let mut received = None;
    for control in message.cmsgs()? {
        if let ControlMessageOwned::ScmRights(fds) = control {
            // SAFETY: the kernel made this descriptor for this message, and nobody else has it.
            received = fds.first().map(|fd| unsafe { OwnedFd::from_raw_fd(*fd) });
        }
    }
    let stream = UnixStream::from(received.context("the other process could not connect")?);
    Ok((stream, process, ours))
}

/// The life of such a process: becomes the user, connects, hands over, waits for the end.
pub fn main(arguments: &[String]) -> Result<()> {
    let [path, uid] = arguments else { anyhow::bail!("{ARGUMENT} PATH UID") };
    let uid: u32 = uid.parse()?;
    nix::unistd::setgroups(&[])?;
    nix::unistd::setgid(uid.into())?;
    nix::unistd::setuid(uid.into())?;
    ensure!(uid == 0 || nix::unistd::setuid(0.into()).is_err(), "still root");
    let stream = UnixStream::connect(path)?;
    let fds = [stream.as_raw_fd()];
    sendmsg::<()>(
        0,
        &[IoSlice::new(b"!")],
        &[ControlMessage::ScmRights(&fds)],
        MsgFlags::empty(),
        None,
    )?;
    drop(stream);
    let _ = std::io::stdin().read(&mut [0]);
    Ok(())
}
