//! Peers: D-Bus without a bus, over the socket. The kernel vouches for a peer's uid.

use super::clients::{Client, Link, Outgoing};
use super::limits::{Tally, Ticket};
use super::router::Core;
use crate::model::{Error, Result};
use futures_util::StreamExt;
use std::future::poll_fn;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use zbus::{Connection, Guid, connection};

/// Messages that wait for a peer to read them.
const QUEUE: usize = 4096;

/// Longest handshake.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// How long a peer may take to read one message.
const PATIENCE: Duration = Duration::from_secs(30);

/// How long the last messages to a peer may take.
const FAREWELL: Duration = Duration::from_secs(1);

/// The way in for peers. It is closed before the daemon leaves, and only while nobody is inside:
/// who comes later waits in the socket for the next daemon and is not cut off by this one.
#[derive(Default)]
pub(super) struct Door {
    closed: Mutex<bool>,
    inside: Arc<Tally<()>>,
}

impl Door {
    /// Whether no peer is connected or about to be.
    pub(super) fn is_quiet(&self) -> bool {
        self.inside.is_empty()
    }

    /// Closes it for good if nobody is inside and `idle` says so too.
    pub(super) fn close_if(&self, idle: impl FnOnce() -> bool) -> bool {
        let mut closed = self.closed.lock().unwrap_or_else(PoisonError::into_inner);
        *closed |= self.is_quiet() && idle();
        *closed
    }

    /// Lets the next one in; none when it is closed.
    fn accept(&self, listener: &UnixListener, cx: &mut Context<'_>) -> Poll<Option<Arrival>> {
        let closed = self.closed.lock().unwrap_or_else(PoisonError::into_inner);
        if *closed {
            return Poll::Ready(None);
        }
        listener.poll_accept(cx).map(|accepted| {
            Some(accepted.and_then(|(stream, _)| {
                let inside =
                    self.inside.enter((), usize::MAX, "peers").map_err(io::Error::other)?;
                Ok((stream, inside))
            }))
        })
    }
}

/// A peer that was let in.
type Arrival = io::Result<(UnixStream, Ticket<()>)>;

/// Accepts peers until the door is closed or `closing`.
pub(super) fn serve(
    core: Arc<Core>,
    listener: OwnedFd,
    door: Arc<Door>,
    closing: CancellationToken,
) -> Result<()> {
    let listen = |error| Error::io("cannot listen for peers", &error);
    let listener = std::os::unix::net::UnixListener::from(listener);
    listener.set_nonblocking(true).map_err(listen)?;
    let listener = UnixListener::from_std(listener).map_err(listen)?;
    tokio::spawn(async move {
        let (all, by_uid) = (Arc::new(Tally::default()), Arc::new(Tally::default()));
        let guid = Guid::generate();
        loop {
            let arrival = tokio::select! {
                () = closing.cancelled() => return,
                arrival = poll_fn(|cx| door.accept(&listener, cx)) => arrival,
            };
            let (stream, inside) = match arrival {
                None => return,
                Some(Ok(arrived)) => arrived,
                Some(Err(error)) => {
                    tracing::warn!("a peer could not be accepted: {error}");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            };
            let Ok(uid) = stream.peer_cred().map(|credentials| credentials.uid()) else { continue };
            let max = core.options.max_peers;
            // No user takes all the places, and root always finds one.
            let tickets = match uid {
                0 => Ok(None),
                uid => all
                    .enter((), max, "peers")
                    .and_then(|one| Ok(Some((one, by_uid.enter(uid, (max / 4).max(1), "peers")?)))),
            };
            let Ok(tickets) = tickets else {
                tracing::warn!("uid {uid} has too many peers connected; one more is refused");
                continue;
            };
            let (core, guid) = (core.clone(), guid.clone());
            tokio::spawn(async move {
                let _tickets = (inside, tickets);
                if let Err(why) = attend(core, stream, uid, guid).await {
                    tracing::debug!("a peer of uid {uid} could not connect: {why}");
                }
            });
        }
    });
    Ok(())
}

/// Serves one peer until it leaves.
pub(super) async fn attend(
    core: Arc<Core>,
    stream: UnixStream,
    uid: u32,
    guid: Guid<'static>,
) -> zbus::Result<()> {
    let handshake = connection::Builder::unix_stream(stream.into_std()?)
        .server(guid)
        .p2p()
        .validate_bodies()
        .build_message_stream();
    let Ok(stream) = tokio::time::timeout(HANDSHAKE, handshake).await else { return Ok(()) };
    let mut stream = stream?;
    let (queue, outgoing) = mpsc::channel(QUEUE);
    let link = Link::Peer { queue, subscribed: AtomicBool::new(false) };
    let client = core.clients.peer(uid, Arc::new(link));
    core.update_watched();
    tokio::spawn(pump(Connection::from(&stream), client.clone(), outgoing));
    loop {
        tokio::select! {
            () = client.gone.cancelled() => break,
            message = stream.next() => match message {
                Some(Ok(message)) => core.accept(message, client.clone()),
                Some(Err(_)) | None => break,
            },
        }
    }
    core.clients.left(&client);
    core.update_watched();
    Ok(())
}

/// Sends what is queued, one after the other; a peer that does not read is dropped.
async fn pump(connection: Connection, client: Arc<Client>, mut outgoing: mpsc::Receiver<Outgoing>) {
    loop {
        let next = tokio::select! {
            () = client.gone.cancelled() => break,
            next = outgoing.recv() => next,
        };
        let Some((message, _turn)) = next else { break };
        match tokio::time::timeout(PATIENCE, connection.send(&message)).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) | Err(_) => break,
        }
    }
    client.gone.cancel();
    let rest = async {
        while let Ok((message, _turn)) = outgoing.try_recv() {
            if connection.send(&message).await.is_err() {
                break;
            }
        }
    };
    let _ = tokio::time::timeout(FAREWELL, rest).await;
    let _ = connection.close().await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_door_closes_only_while_nobody_is_inside_and_nobody_enters_then() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("bus");
        let listener = UnixListener::bind(&path).unwrap();
        let door = Door::default();
        assert!(!door.close_if(|| false));
        let first = UnixStream::connect(&path).await.unwrap();
        let arrived = poll_fn(|cx| door.accept(&listener, cx)).await.unwrap().unwrap();
        assert!(!door.close_if(|| true), "somebody is inside");
        drop((first, arrived));
        assert!(door.close_if(|| true));
        let _later = UnixStream::connect(&path).await.unwrap();
        assert!(poll_fn(|cx| door.accept(&listener, cx)).await.is_none());
        // It waits for whoever serves the socket next.
        let next = Door::default();
        assert!(poll_fn(|cx| next.accept(&listener, cx)).await.unwrap().is_ok());
    }
}
