//! The socket for peers: passed by systemd, or made here when asked for.

use crate::host;
use crate::model::{Error, ErrorKind, Result};
use nix::sys::socket::{
    AddressFamily, SockaddrLike, SockaddrStorage, getsockname, getsockopt, sockopt,
};
use std::fs::{Permissions, remove_file, set_permissions};
use std::io::ErrorKind as IoKind;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

/// Where peers connect.
#[derive(Debug, Default)]
pub(super) struct Sockets {
    /// Listening sockets.
    pub(super) listening: Vec<OwnedFd>,
    /// The one that was made here and is to be removed at the end.
    made: Option<PathBuf>,
}

impl Sockets {
    /// What systemd passed; if it passed nothing and `listen` is wished, `bus` in `run_dir`.
    pub(super) fn open(run_dir: &Path, listen: bool) -> Result<Self> {
        let listening = host::take_passed_descriptors()?;
        for socket in &listening {
            check(socket)?;
        }
        if !listen || !listening.is_empty() {
            return Ok(Self { listening, made: None });
        }
        let path = run_dir.join("bus");
        Ok(Self { listening: vec![bind(&path)?.into()], made: Some(path) })
    }

    /// Removes the socket that was made here.
    pub(super) fn remove(&self) {
        if let Some(path) = &self.made
            && let Err(error) = remove_file(path)
        {
            tracing::warn!("cannot remove {}: {error}", path.display());
        }
    }
}

/// Refuses what is not a listening unix stream socket, which a wrong unit file may pass.
fn check(socket: &OwnedFd) -> Result<()> {
    let fd = socket.as_raw_fd();
    let unix = getsockname::<SockaddrStorage>(fd)
        .is_ok_and(|address| address.family() == Some(AddressFamily::Unix));
    let listening = getsockopt(socket, sockopt::AcceptConn).unwrap_or(false);
    if unix && listening {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::InvalidArgument,
        format!(
            "descriptor {fd}, passed by the service manager, is no listening unix stream socket; \
             see ListenStream= in poold.socket"
        ),
    ))
}

/// A socket at `path` that anybody may connect to; a dead one there is replaced.
fn bind(path: &Path) -> Result<UnixListener> {
    let failed = |error| Error::io(format!("cannot listen on {}", path.display()), &error);
    let listener = match UnixListener::bind(path) {
        Err(error) if error.kind() == IoKind::AddrInUse => match UnixStream::connect(path) {
            Err(error) if error.kind() == IoKind::ConnectionRefused => {
                remove_file(path).map_err(failed)?;
                UnixListener::bind(path)
            }
            _ => {
                return Err(Error::new(
                    ErrorKind::Busy,
                    format!("another poold serves {}; stop it first", path.display()),
                ));
            }
        },
        other => other,
    };
    let listener = listener.map_err(failed)?;
    set_permissions(path, Permissions::from_mode(0o666)).map_err(failed)?;
    Ok(listener)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dead_socket_is_replaced_and_a_live_one_respected() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("bus");
        drop(bind(&path).unwrap());
        let listener = bind(&path).unwrap();
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o666);
        let error = bind(&path).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Busy);
        drop(listener);
    }

    #[test]
    fn only_a_listening_unix_stream_socket_is_taken() {
        let dir = tempfile::tempdir().unwrap();
        check(&UnixListener::bind(dir.path().join("a")).unwrap().into()).unwrap();
        let (connected, _other) = UnixStream::pair().unwrap();
        check(&connected.into()).unwrap_err();
        check(&std::net::TcpListener::bind("127.0.0.1:0").unwrap().into()).unwrap_err();
        check(&std::fs::File::open("/dev/null").unwrap().into()).unwrap_err();
    }
}
