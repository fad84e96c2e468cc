//! The D-Bus face of the engine: router, objects, signals, polkit, peers.
//!
//! The only layer besides `client` that knows zbus.

use crate::engine::Engine;
use crate::model::Result;
use std::os::fd::OwnedFd;
use std::time::Duration;

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

/// The face: one router that serves a bus and peers.
#[derive(Clone)]
pub struct Face {}

#[allow(unused_variables)]
impl Face {
    /// A face of `engine`, serving nobody yet.
    pub fn new(engine: Engine, options: FaceOptions) -> Result<Self> {
        todo!()
    }

    /// Connects to a message bus (an address, or the system bus) and serves calls by unique name;
    /// the well-known name is not requested yet.
    pub async fn connect(&self, address: Option<&str>) -> Result<()> {
        todo!()
    }

    /// Requests `org.poold1`: the last step of starting up.
    pub async fn request_name(&self) -> Result<()> {
        todo!()
    }

    /// Serves peers that connect to a listening unix socket.
    pub async fn serve_peers(&self, listener: OwnedFd) -> Result<()> {
        todo!()
    }

    /// Whether nothing on the face speaks against an exit: no authorisation or call under way, no
    /// peer connected, no caller of ours still on the bus.
    pub fn is_idle(&self) -> bool {
        todo!()
    }

    /// Waits until the bus connection is lost.
    pub async fn lost(&self) {
        todo!()
    }

    /// Releases the name, answers what is queued, flushes, closes.
    pub async fn close(&self) {
        todo!()
    }
}
