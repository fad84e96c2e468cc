//! Finding the service: on a message bus, or directly on its own socket.

use crate::model::{Error, ErrorKind, Result};
use zbus::Connection;
use zbus::connection::Builder;

/// poold's own socket, for hosts and moments without a message bus.
pub const SOCKET: &str = "unix:path=/run/poold/bus";

/// Connects to the service.
///
/// Without an address: by the system bus, or by [`SOCKET`] when there is no bus. An address may be
/// that of a bus or of poold's own socket: a bus answers `Hello`, poold does not.
pub async fn connect(address: Option<&str>) -> Result<Connection> {
    let Some(address) = address else {
        return match Builder::system().build().await {
            Ok(connection) => Ok(connection),
            Err(error) => {
                connect_peer(SOCKET).await.map_err(|_| cannot_connect("the system bus", &error))
            }
        };
    };
    match Builder::address(address).build().await {
        Ok(connection) => Ok(connection),
        Err(zbus::Error::MethodError(..) | zbus::Error::FDO(_)) => connect_peer(address).await,
        Err(error) => Err(cannot_connect(address, &error)),
    }
}

/// Connects to poold's own socket: no bus between, so the only caller that may change things is root.
pub async fn connect_peer(address: &str) -> Result<Connection> {
    Builder::address(address).p2p().build().await.map_err(|error| cannot_connect(address, &error))
}

fn cannot_connect(what: &str, error: &zbus::Error) -> Error {
    let why = match error {
        // Its text repeats the address.
        zbus::Error::Connection(error, _) => error.to_string(),
        error => error.to_string(),
    };
    Error::new(ErrorKind::Failed, format!("cannot connect to {what}: {why}"))
}
