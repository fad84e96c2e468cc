//! Who is connected: callers on the bus by their unique name, peers on the socket, and where
//! messages to them go.

use super::FaceOptions;
use super::errors;
use super::limits::{Tally, Ticket};
use crate::auth::Authority;
use crate::model::{Error, ErrorKind, Result, Uuid};
use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{OnceCell, OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_util::sync::CancellationToken;
use zbus::{Connection, Message};

/// The driver of a message bus.
pub(super) const DRIVER: &str = "org.freedesktop.DBus";
/// Its path.
pub(super) const DRIVER_PATH: &str = "/org/freedesktop/DBus";

/// A connection.
pub(super) enum Link {
    /// To a message bus.
    Bus {
        /// The connection.
        connection: Connection,
        /// Who is asked on behalf of its callers.
        authority: Arc<dyn Authority>,
    },
    /// To one peer.
    Peer {
        /// Messages that wait to be sent; when it is full, the peer does not read and is dropped.
        queue: mpsc::Sender<Outgoing>,
        /// Whether it wants signals.
        subscribed: AtomicBool,
    },
}

/// A message on its way to a peer, and its turn for large answers if it is one: held until it is
/// sent, so that who does not read cannot have more of them made.
pub(super) type Outgoing = (Message, Option<OwnedSemaphorePermit>);

/// Large answers on their way to one client at a time.
const LARGE_ANSWERS: usize = 2;

/// How long a peer that reads slowly holds up a burst of signals.
const PATIENCE: Duration = Duration::from_secs(1);

/// Somebody who calls.
pub(super) struct Client {
    /// Unique name; none for a peer.
    pub(super) name: Option<String>,
    /// Its connection.
    pub(super) link: Arc<Link>,
    /// Ends when it leaves.
    pub(super) gone: CancellationToken,
    /// Its turns for large answers.
    pub(super) large: Arc<Semaphore>,
    uid: OnceCell<u32>,
    listed: Mutex<BTreeSet<Uuid>>,
    id: u64,
}

/// Everybody who is connected.
#[derive(Default)]
pub(super) struct Clients {
    state: Mutex<State>,
    calls: Arc<Tally<u64>>,
}

#[derive(Default)]
struct State {
    by_name: HashMap<String, Arc<Client>>,
    peers: HashMap<u64, Arc<Client>>,
    next_id: u64,
}

impl Client {
    /// The uid that the transport vouches for.
    pub(super) async fn uid(&self) -> Result<u32> {
        let ask = || async {
            let (Link::Bus { connection, .. }, Some(name)) = (&*self.link, &self.name) else {
                return Err(Error::new(ErrorKind::AccessDenied, "a peer without credentials"));
            };
            connection
                .call_method(Some(DRIVER), DRIVER_PATH, Some(DRIVER), "GetConnectionUnixUser", name)
                .await
                .and_then(|reply| reply.body().deserialize())
                .map_err(|error| errors::of_zbus(&format!("the uid of {name}"), &error))
        };
        self.uid.get_or_try_init(ask).await.copied()
    }

    /// Whether it still is who it was: a unique name is never given twice.
    pub(super) async fn is_present(&self) -> bool {
        match (&*self.link, &self.name) {
            (Link::Bus { connection, .. }, Some(name)) if !self.gone.is_cancelled() => connection
                .call_method(Some(DRIVER), DRIVER_PATH, Some(DRIVER), "NameHasOwner", name)
                .await
                .and_then(|reply| reply.body().deserialize::<bool>())
                .unwrap_or(false),
            _ => !self.gone.is_cancelled(),
        }
    }

    /// Sends it an answer, when there is room.
    pub(super) async fn send(&self, message: Message, turn: Option<OwnedSemaphorePermit>) {
        let sent = match &*self.link {
            Link::Bus { connection, .. } => {
                connection.send(&message).await.map_err(|error| error.to_string())
            }
            Link::Peer { queue, .. } => tokio::select! {
                sent = queue.send((message, turn)) => sent.map_err(|_| "it left".to_owned()),
                () = self.gone.cancelled() => Ok(()),
            },
        };
        if let Err(why) = sent {
            tracing::debug!("an answer could not be sent: {why}");
        }
    }

    /// Notes that it has listed the volumes of a pool, and so follows them.
    pub(super) fn list(&self, pool: Uuid) {
        self.listed.lock().unwrap_or_else(PoisonError::into_inner).insert(pool);
    }

    /// Notes that a peer wants signals; everybody on a bus decides with its match rules.
    pub(super) fn subscribe(&self) {
        if let Link::Peer { subscribed, .. } = &*self.link {
            subscribed.store(true, Ordering::Release);
        }
    }

    fn follows(&self, pool: Uuid) -> bool {
        self.listed.lock().unwrap_or_else(PoisonError::into_inner).contains(&pool)
    }
}

impl Clients {
    /// The client of that unique name, who called just now.
    pub(super) fn caller(&self, name: &str, link: &Arc<Link>) -> Arc<Client> {
        let mut state = self.lock();
        if let Some(client) = state.by_name.get(name) {
            return client.clone();
        }
        let client = state.client(Some(name.to_owned()), link.clone(), OnceCell::new());
        state.by_name.insert(name.to_owned(), client.clone());
        client
    }

    /// A peer of that uid, who connected just now.
    pub(super) fn peer(&self, uid: u32, link: Arc<Link>) -> Arc<Client> {
        let mut state = self.lock();
        let client = state.client(None, link, OnceCell::new_with(Some(uid)));
        state.peers.insert(client.id, client.clone());
        client
    }

    /// The client of that unique name left the bus.
    pub(super) fn vanished(&self, name: &str) {
        if let Some(client) = self.lock().by_name.remove(name) {
            client.gone.cancel();
        }
    }

    /// A peer left, or is told to.
    pub(super) fn left(&self, client: &Client) {
        client.gone.cancel();
        self.lock().peers.remove(&client.id);
    }

    /// The bus itself is lost, and everybody on it.
    pub(super) fn bus_lost(&self) {
        for (_, client) in self.lock().by_name.drain() {
            client.gone.cancel();
        }
    }

    /// Begins a call, unless too many of the client's are under way.
    pub(super) fn begin(&self, client: &Client, options: &FaceOptions) -> Result<Ticket<u64>> {
        self.calls.enter(client.id, options.max_calls_per_caller, "calls")
    }

    /// Whether no call is under way.
    pub(super) fn is_quiet(&self) -> bool {
        self.calls.is_empty()
    }

    /// Whether nobody is connected who ever called.
    pub(super) fn is_empty(&self) -> bool {
        let state = self.lock();
        state.by_name.is_empty() && state.peers.is_empty()
    }

    /// Whether anybody present follows the volumes of a pool.
    pub(super) fn anybody_follows(&self, pool: Uuid) -> bool {
        let state = self.lock();
        state.by_name.values().chain(state.peers.values()).any(|client| client.follows(pool))
    }

    /// Sends a signal to every peer that wants signals; one that does not read is dropped.
    pub(super) fn signal_peers(&self, message: &Message) {
        let peers: Vec<_> = self.lock().peers.values().cloned().collect();
        for client in peers {
            let Link::Peer { queue, subscribed } = &*client.link else { continue };
            if subscribed.load(Ordering::Acquire)
                && queue.try_send((message.clone(), None)).is_err()
            {
                tracing::warn!("a peer does not read its signals and is disconnected");
                self.left(&client);
            }
        }
    }

    /// Waits for a moment until every peer that wants signals has room for so many.
    pub(super) async fn peers_have_room(&self, messages: usize) {
        let peers: Vec<_> = self.lock().peers.values().cloned().collect();
        for client in peers {
            if let Link::Peer { queue, subscribed } = &*client.link
                && subscribed.load(Ordering::Acquire)
                && queue.capacity() < messages
            {
                let room = queue.reserve_many(messages);
                let _ = tokio::time::timeout(PATIENCE, room).await;
            }
        }
    }

    /// Tells a caller that it has too much under way, without waiting for it.
    pub(super) fn refuse(&self, client: &Arc<Client>, answer: Message) {
        match &*client.link {
            Link::Peer { queue, .. } => {
                if queue.try_send((answer, None)).is_err() {
                    self.left(client);
                }
            }
            Link::Bus { .. } => {
                let client = client.clone();
                tokio::spawn(async move { client.send(answer, None).await });
            }
        }
    }

    /// Disconnects all peers.
    pub(super) fn dismiss_peers(&self) {
        for (_, client) in self.lock().peers.drain() {
            client.gone.cancel();
        }
    }

    /// Returns when no call is under way.
    pub(super) async fn quiet(&self) {
        self.calls.emptied().await;
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn client(&mut self, name: Option<String>, link: Arc<Link>, uid: OnceCell<u32>) -> Arc<Client> {
        self.next_id += 1;
        let gone = CancellationToken::new();
        let large = Arc::new(Semaphore::new(LARGE_ANSWERS));
        Arc::new(Client {
            name,
            link,
            gone,
            large,
            uid,
            listed: Mutex::default(),
            id: self.next_id,
        })
    }
}
