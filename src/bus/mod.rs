//! The D-Bus face of the engine: router, objects, signals, polkit, peers.
//!
//! The only layer besides `client` that knows zbus.

mod args;
mod call;
mod clients;
mod creation;
mod errors;
mod exposed;
#[cfg(any(test, fuzzing))]
pub mod fuzz;
mod introspect;
mod job;
mod limits;
mod listen;
mod manager;
mod object_manager;
mod peers;
mod polkit;
mod pool;
mod properties;
mod router;
mod secret;
mod settings;
mod signals;
mod table;
mod target;
#[cfg(test)]
mod tests;
mod throttle;
mod volume;
mod volume_methods;

use crate::engine::Engine;
use crate::model::{Error, ErrorKind, Result};
use listen::Bus;
use peers::Door;
use router::Core;
use signals::{Announcer, Signals};
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// How long the answers of calls under way may take when the face closes.
const FAREWELL: Duration = Duration::from_secs(5);

/// Limits of the face.
#[derive(Debug, Clone)]
pub struct FaceOptions {
    /// How long a job method waits when the caller does not say.
    pub wait: Duration,
    /// Authorisations under way, per uid.
    pub max_authorisations_per_uid: usize,
    /// Calls under way, per connection name.
    pub max_calls_per_caller: usize,
    /// Peers connected.
    pub max_peers: usize,
}

impl Default for FaceOptions {
    fn default() -> Self {
        Self {
            wait: Duration::from_secs(15),
            max_authorisations_per_uid: 16,
            max_calls_per_caller: 512,
            max_peers: 64,
        }
    }
}

/// The face: one router that serves a bus and peers; clones share it.
#[derive(Clone)]
pub struct Face {
    core: Arc<Core>,
    bus: Arc<Mutex<Option<Bus>>>,
    door: Arc<Door>,
    closing: CancellationToken,
}

impl Face {
    /// A face of `engine`, serving nobody yet. Needs a tokio runtime.
    pub fn new(engine: Engine, options: FaceOptions) -> Result<Self> {
        let changes = engine.changes();
        let (signals, barriers) = Signals::new();
        let core = Arc::new(Core::new(engine, options, signals));
        let announcing = tokio::spawn(Announcer::new(&core, changes, barriers).run());
        tokio::spawn(async {
            if announcing.await.is_err() {
                tracing::error!("a defect ended the signals; restart poold to have them again");
            }
        });
        Ok(Self {
            core,
            bus: Arc::default(),
            door: Arc::default(),
            closing: CancellationToken::new(),
        })
    }

    /// Connects to a message bus (an address, or the system bus) and serves calls by unique name;
    /// the well-known name is not requested yet.
    pub async fn connect(&self, address: Option<&str>) -> Result<()> {
        let bus = Bus::connect(self.core.clone(), address).await?;
        *self.bus.lock().unwrap_or_else(PoisonError::into_inner) = Some(bus);
        Ok(())
    }

    /// Requests `org.poold1`: the last step of starting up.
    pub async fn request_name(&self) -> Result<()> {
        match self.bus() {
            Some(bus) => bus.request_name().await,
            None => Ok(()),
        }
    }

    /// Serves peers that connect to a listening unix socket.
    pub async fn serve_peers(&self, listener: OwnedFd) -> Result<()> {
        peers::serve(self.core.clone(), listener, self.door.clone(), self.closing.clone())
    }

    /// Whether nothing on the face speaks against an exit: no authorisation or call under way, no
    /// peer connected, no caller of ours still on the bus.
    pub fn is_idle(&self) -> bool {
        let clients = &self.core.clients;
        self.core.asks_nobody() && clients.is_quiet() && clients.is_empty() && self.door.is_quiet()
    }

    /// If [idle](Self::is_idle), lets no more peers in and returns true; then only `close` is left
    /// to do. Who connects from now on waits in the socket for the next daemon.
    pub fn lock_up(&self) -> bool {
        self.door.close_if(|| self.is_idle())
    }

    /// Asks logind to put off a shutdown of the host until the descriptor is closed.
    pub async fn inhibit_shutdown(&self, why: &str) -> Result<OwnedFd> {
        match self.bus() {
            Some(bus) => bus.inhibit_shutdown(why).await,
            None => Err(Error::new(ErrorKind::NotSupported, "no bus, no logind")),
        }
    }

    /// Waits until the bus connection is lost; for ever when there is none.
    pub async fn lost(&self) {
        match self.bus() {
            Some(bus) => bus.lost().await,
            None => std::future::pending().await,
        }
    }

    /// Releases the name, answers what is queued, flushes, closes.
    pub async fn close(&self) {
        self.closing.cancel();
        let bus = self.bus();
        if let Some(bus) = &bus {
            bus.release_name().await;
        }
        if tokio::time::timeout(FAREWELL, self.core.clients.quiet()).await.is_err() {
            tracing::warn!("calls that did not end are left unanswered");
        }
        self.core.clients.dismiss_peers();
        if let Some(bus) = bus {
            bus.close().await;
        }
    }

    fn bus(&self) -> Option<Bus> {
        self.bus.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
