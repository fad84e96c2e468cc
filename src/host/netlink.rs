//! Sockets on which the kernel and udev tell what happens (netlink(7)).

use nix::sys::socket::{
    AddressFamily, ControlMessageOwned, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType,
    bind, recvmsg, setsockopt, socket, sockopt,
};
use std::io::{self, IoSliceMut};
use std::os::fd::{AsRawFd, OwnedFd};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Longest message that is read whole: the kernel's have 2 KiB to 16, udev's grow with the names of a device.
const MESSAGE: usize = 64 << 10;

/// A socket that listens to groups of one protocol.
#[derive(Debug)]
pub(super) struct Netlink(AsyncFd<OwnedFd>);

impl Netlink {
    /// Listens from now on; to be made inside the tokio runtime. `queue` is how many bytes may wait
    /// to be read.
    pub(super) fn listen(protocol: SockProtocol, groups: u32, queue: usize) -> io::Result<Self> {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let socket = socket(AddressFamily::Netlink, SockType::Raw, flags, protocol)?;
        // Beyond the host's limit where that is allowed.
        let _ = setsockopt(&socket, sockopt::RcvBufForce, &queue)
            .or_else(|_| setsockopt(&socket, sockopt::RcvBuf, &queue));
        setsockopt(&socket, sockopt::PassCred, &true)?;
        bind(socket.as_raw_fd(), &NetlinkAddr::new(0, groups))?;
        // SAFETY: it owns its descriptor, which is the same for as long as it lives.
        let socket = unsafe { AsyncFd::register_with_interest(socket, Interest::READABLE) }?;
        Ok(Self(socket))
    }

    /// The next message of the kernel's or of root's; none when some were lost, so that anything may
    /// have happened. Safe to cancel.
    pub(super) async fn next(&self) -> io::Result<Option<Vec<u8>>> {
        loop {
            let mut ready = self.0.readable().await?;
            match ready.try_io(|socket| receive(socket.get_ref())) {
                Ok(Ok(Some(message))) => return Ok(Some(message)),
                // Somebody else's, or cut.
                Ok(Ok(None)) => {}
                Ok(Err(error)) if error.raw_os_error() == Some(libc::ENOBUFS) => return Ok(None),
                Ok(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(Err(error)) => return Err(error),
                Err(_would_block) => {}
            }
        }
    }
}

/// One message, if it is whole and from who may say so.
fn receive(socket: &OwnedFd) -> io::Result<Option<Vec<u8>>> {
    let mut bytes = vec![0; MESSAGE];
    let mut control = nix::cmsg_space!(nix::sys::socket::UnixCredentials);
    let (length, trusted) = {
        let mut parts = [IoSliceMut::new(&mut bytes)];
        let message = recvmsg::<NetlinkAddr>(
            socket.as_raw_fd(),
            &mut parts,
            Some(&mut control),
            MsgFlags::MSG_DONTWAIT,
        )?;
        let by_root = message.cmsgs()?.any(|control| match control {
            ControlMessageOwned::ScmCredentials(sender) => sender.uid() == 0,
            _ => false,
        });
        (message.bytes, by_root && !message.flags.contains(MsgFlags::MSG_TRUNC))
    };
    bytes.truncate(length);
    Ok(trusted.then_some(bytes))
}
