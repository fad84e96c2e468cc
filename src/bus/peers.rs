//! Peers: D-Bus without a bus, over the socket. The kernel vouches for a peer's uid.

use super::clients::{Client, Link, Outgoing};
use super::limits::Tally;
use super::router::Core;
use crate::model::{Error, Result};
use futures_util::StreamExt;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
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

/// Accepts peers until `closing`.
pub(super) fn serve(core: Arc<Core>, listener: OwnedFd, closing: CancellationToken) -> Result<()> {
    let listen = |error| Error::io("cannot listen for peers", &error);
    let listener = std::os::unix::net::UnixListener::from(listener);
    listener.set_nonblocking(true).map_err(listen)?;
    let listener = UnixListener::from_std(listener).map_err(listen)?;
    tokio::spawn(async move {
        let (all, by_uid) = (Arc::new(Tally::default()), Arc::new(Tally::default()));
        let guid = Guid::generate();
        loop {
            let accepted = tokio::select! {
                () = closing.cancelled() => return,
                accepted = listener.accept() => accepted,
            };
            let stream = match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
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
                let _tickets = tickets;
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
