//! The connection to a message bus: taking calls, noticing who leaves, owning the name.

use super::clients::{DRIVER, DRIVER_PATH, Link};
use super::errors;
use super::polkit::Polkit;
use super::router::Core;
use crate::model::{Error, ErrorKind, Result};
use futures_util::StreamExt;
use std::num::NonZeroUsize;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use zbus::message::{Sequence, Type};
use zbus::{Connection, Message, MessageStream, connection};

/// Our name.
const NAME: &str = "org.poold1";

/// RequestName: do not wait for another owner to go.
const DO_NOT_QUEUE: u32 = 4;
/// Replies of RequestName that mean that the name is ours.
const OWNED: [u32; 2] = [1, 4];

/// Messages received and not looked at yet.
const QUEUE: NonZeroUsize = NonZeroUsize::new(1024).unwrap();

/// How long the bus itself may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// Everybody who leaves the bus, in one match rule.
const MATCH: &str = "type='signal',sender='org.freedesktop.DBus',\
                     interface='org.freedesktop.DBus',member='NameOwnerChanged'";

/// The connection; clones share it.
#[derive(Clone)]
pub(super) struct Bus {
    connection: Connection,
    lost: CancellationToken,
    processed: watch::Receiver<Sequence>,
}

impl Bus {
    /// Connects and takes calls from now on.
    pub(super) async fn connect(core: Arc<Core>, address: Option<&str>) -> Result<Self> {
        let builder = match address {
            Some(address) => connection::Builder::address(address),
            None => connection::Builder::system(),
        };
        let failed = |error| errors::of_zbus("cannot connect to the message bus", &error);
        let stream = builder.max_queued(QUEUE).build_message_stream().await.map_err(failed)?;
        let connection = Connection::from(&stream);
        let lost = CancellationToken::new();
        let (processing, processed) = watch::channel(Sequence::default());
        core.signals.connect(Some(connection.clone()));
        tokio::spawn(receive(core, stream, lost.clone(), processing));
        let bus = Self { connection, lost, processed };
        bus.driver("AddMatch", &MATCH).await?;
        Ok(bus)
    }

    /// Takes the name.
    pub(super) async fn request_name(&self) -> Result<()> {
        let reply = self.driver("RequestName", &(NAME, DO_NOT_QUEUE)).await?;
        match reply.body().deserialize::<u32>() {
            Ok(code) if OWNED.contains(&code) => Ok(()),
            _ => Err(Error::new(
                ErrorKind::Exists,
                format!("another process owns {NAME} on the message bus; is poold running?"),
            )),
        }
    }

    /// Gives the name back, and returns when every call that came by it has been taken.
    pub(super) async fn release_name(&self) {
        if let Ok(reply) = self.driver("ReleaseName", &NAME).await {
            let position = reply.recv_position();
            let mut processed = self.processed.clone();
            let taken = processed.wait_for(|processed| *processed >= position);
            let _ = tokio::time::timeout(PATIENCE, taken).await;
        }
    }

    /// Takes an inhibitor of shutdowns from logind.
    pub(super) async fn inhibit_shutdown(&self, why: &str) -> Result<OwnedFd> {
        let failed = |error| errors::of_zbus("cannot inhibit a shutdown", &error);
        let body = ("shutdown", "poold", why, "block");
        let call = self.connection.call_method(
            Some("org.freedesktop.login1"),
            "/org/freedesktop/login1",
            Some("org.freedesktop.login1.Manager"),
            "Inhibit",
            &body,
        );
        let Ok(reply) = tokio::time::timeout(PATIENCE, call).await else {
            return Err(Error::new(ErrorKind::TimedOut, "logind does not answer Inhibit"));
        };
        let reply = reply.map_err(failed)?;
        let inhibitor: zbus::wire::OwnedFd = reply.body().deserialize().map_err(failed)?;
        Ok(inhibitor.into())
    }

    /// Returns when the connection is lost.
    pub(super) async fn lost(&self) {
        self.lost.cancelled().await;
    }

    /// Closes it; what was sent has been flushed.
    pub(super) async fn close(self) {
        let _ = self.connection.close().await;
    }

    async fn driver<B>(&self, method: &str, body: &B) -> Result<Message>
    where
        B: serde::Serialize + zbus::wire::DynamicType,
    {
        let call =
            self.connection.call_method(Some(DRIVER), DRIVER_PATH, Some(DRIVER), method, body);
        match tokio::time::timeout(PATIENCE, call).await {
            Ok(reply) => reply.map_err(|error| errors::of_zbus(method, &error)),
            Err(_) => Err(Error::new(
                ErrorKind::TimedOut,
                format!("the message bus does not answer {method}"),
            )),
        }
    }
}

/// Takes messages until the connection is lost; never waits for what it starts.
async fn receive(
    core: Arc<Core>,
    mut stream: MessageStream,
    lost: CancellationToken,
    processing: watch::Sender<Sequence>,
) {
    let connection = Connection::from(&stream);
    let authority = Arc::new(Polkit::new(connection.clone()));
    let link = Arc::new(Link::Bus { connection, authority });
    while let Some(Ok(message)) = stream.next().await {
        let header = message.header();
        let sender = header.sender().map(|sender| sender.to_string());
        match (message.message_type(), sender) {
            (Type::MethodCall, Some(sender)) => {
                let client = core.clients.caller(&sender, &link);
                core.update_watched();
                core.accept(message.clone(), client);
            }
            (Type::Signal, Some(sender)) if sender == DRIVER => {
                if let Some(name) = vanished(&message) {
                    core.clients.vanished(&name);
                    core.update_watched();
                }
            }
            _ => {}
        }
        processing.send_replace(message.recv_position());
    }
    core.signals.connect(None);
    core.clients.bus_lost();
    core.update_watched();
    lost.cancel();
}

/// The unique name that a NameOwnerChanged says has gone.
fn vanished(message: &Message) -> Option<String> {
    let header = message.header();
    if header.member()?.as_str() != "NameOwnerChanged" {
        return None;
    }
    let (name, _, owner): (String, String, String) = message.body().deserialize().ok()?;
    (name.starts_with(':') && owner.is_empty()).then_some(name)
}
