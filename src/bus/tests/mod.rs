//! Stories through the face: a real engine with directory pools, and peers that talk to it over
//! a socket, or a bus that the test itself plays.

mod authority;
mod calls;
mod documents;
mod jobs;
mod many;
mod signals;

use super::clients::{Client, Link};
use super::{Face, FaceOptions, peers};
use crate::auth::{Authority, Request};
use crate::backend::Backend;
use crate::engine::{Engine, EngineOptions};
use crate::host::SystemHost;
use crate::model::{Error, ErrorKind, Result};
use crate::store::Store;
use futures_util::StreamExt;
use std::collections::HashMap;
use std::future::Future;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use tempfile::TempDir;
use tokio::net::UnixStream;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use zbus::message::{Flags, Type};
use zbus::wire::DynamicType;
use zbus::{Connection, DBusError, Guid, Message, MessageStream, Variant, connection};

/// Room for signals that a test has not looked at yet.
const QUEUE: NonZeroUsize = NonZeroUsize::new(4096).unwrap();

/// No options.
type Options<'a> = HashMap<&'a str, Variant<'a>>;

/// A host with a poold.
struct World {
    dir: TempDir,
    engine: Engine,
    face: Face,
}

impl World {
    fn new() -> Self {
        Self::with(FaceOptions::default())
    }

    fn with(options: FaceOptions) -> Self {
        Self::on(options, crate::backend::all())
    }

    fn on(options: FaceOptions, backends: Vec<Arc<dyn Backend>>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("root")).unwrap();
        let options_of_engine = EngineOptions::default();
        let host = Arc::new(SystemHost);
        let engine = Engine::open(store, host, backends, options_of_engine).unwrap();
        let face = Face::new(engine.clone(), options).unwrap();
        engine.resume();
        Self { dir, engine, face }
    }

    /// A peer of that uid.
    async fn peer(&self, uid: u32) -> Peer {
        self.peer_with_room(uid, QUEUE).await
    }

    /// A peer that stops reading after a message.
    async fn deaf_peer(&self) -> Peer {
        self.peer_with_room(1000, NonZeroUsize::MIN).await
    }

    async fn peer_with_room(&self, uid: u32, room: NonZeroUsize) -> Peer {
        let (server, client) = UnixStream::pair().unwrap();
        let guid = Guid::generate();
        let attending = tokio::spawn(peers::attend(self.face.core.clone(), server, uid, guid));
        let builder = connection::Builder::unix_stream(client.into_std().unwrap());
        let connection = builder.p2p().max_queued(room).build().await.unwrap();
        Peer { signals: MessageStream::from(&connection), connection, attending }
    }

    /// A target directory for a pool.
    fn target(&self, name: &str) -> PathBuf {
        self.dir.path().canonicalize().unwrap().join("targets").join(name)
    }

    /// Defines, builds and starts a directory pool; its path.
    async fn pool(&self, peer: &Peer, name: &str) -> String {
        let settings = target_setting(&self.target(name));
        let options = Options::from([("build", "yes".into()), ("start", true.into())]);
        let reply = peer
            .call("/org/poold1", "org.poold1.Manager.DefinePool", &("dir", name, settings, options))
            .await
            .unwrap();
        let (pool, _job): (zbus::OwnedObjectPath, zbus::OwnedObjectPath) =
            reply.body().deserialize().unwrap();
        pool.as_str().to_owned()
    }
}

fn target_setting(target: &Path) -> Options<'static> {
    Options::from([("target", target.to_str().unwrap().to_owned().into())])
}

/// The path of the volumes of a pool.
fn volumes_of(pool: &str) -> String {
    pool.replace("/pools/", "/volumes/")
}

/// Somebody at the other end of the socket.
struct Peer {
    connection: Connection,
    signals: MessageStream,
    attending: JoinHandle<zbus::Result<()>>,
}

impl Peer {
    /// Calls `interface.member`; an error is its name and text.
    async fn call<B>(&self, path: &str, what: &str, body: &B) -> Result<Message, (String, String)>
    where
        B: serde::Serialize + DynamicType,
    {
        let (interface, member) = what.rsplit_once('.').unwrap();
        let reply =
            self.connection.call_method(None::<&str>, path, Some(interface), member, body).await;
        reply.map_err(|error| match error {
            zbus::Error::MethodError(name, text, _) => (name.to_string(), text.unwrap_or_default()),
            zbus::Error::FDO(error) => {
                (error.name().to_string(), error.description().unwrap_or_default().to_owned())
            }
            error => panic!("{what} on {path}: {error}"),
        })
    }

    /// Calls and takes the answer apart.
    async fn get<T, B>(&self, path: &str, what: &str, body: &B) -> T
    where
        T: serde::de::DeserializeOwned + zbus::wire::Type,
        B: serde::Serialize + DynamicType,
    {
        self.call(path, what, body).await.unwrap().body().deserialize().unwrap()
    }

    /// A property.
    async fn property<T>(&self, path: &str, interface: &str, name: &str) -> T
    where
        T: TryFrom<zbus::OwnedVariant>,
        T::Error: std::fmt::Debug,
    {
        let get = "org.freedesktop.DBus.Properties.Get";
        let value: zbus::OwnedVariant = self.get(path, get, &(interface, name)).await;
        T::try_from(value).unwrap()
    }

    /// Asks for signals, as everybody does who lists pools.
    async fn listen(&self) {
        let list = "org.freedesktop.DBus.ObjectManager.GetManagedObjects";
        self.call("/org/poold1/pools", list, &()).await.unwrap();
    }

    /// The next signal of that name below a path.
    async fn signal(&mut self, path: &str, member: &str) -> Message {
        loop {
            let message = self.signals.next().await.unwrap().unwrap();
            let header = message.header();
            if message.message_type() == Type::Signal
                && header.path().unwrap().as_str() == path
                && header.member().unwrap().as_str() == member
            {
                return message.clone();
            }
        }
    }
}

/// A bus that the test plays: it answers for the driver, and carries the calls of one caller.
struct FakeBus {
    client: Arc<Client>,
    answers: mpsc::UnboundedReceiver<Message>,
}

/// Says what it is told to, and remembers what it was asked.
#[derive(Default)]
struct FakeAuthority {
    asked: Mutex<Vec<Request>>,
    refuses: bool,
    hangs: bool,
    breaks: bool,
}

impl Authority for FakeAuthority {
    fn check<'a>(
        &'a self,
        request: &'a Request,
    ) -> Pin<Box<dyn Future<Output = Result<()>> + Send + 'a>> {
        Box::pin(async move {
            self.asked.lock().unwrap().push(request.clone());
            assert!(!self.breaks, "a defect that the test makes");
            if self.hangs {
                std::future::pending::<()>().await;
            }
            match self.refuses {
                true => Err(Error::new(ErrorKind::AccessDenied, "the test says no")),
                false => Ok(()),
            }
        })
    }
}

/// Two ends of one connection.
async fn pair() -> (Connection, Connection) {
    let (near, far) = UnixStream::pair().unwrap();
    let server = connection::Builder::unix_stream(near.into_std().unwrap())
        .server(Guid::generate())
        .p2p()
        .build();
    let client = connection::Builder::unix_stream(far.into_std().unwrap()).p2p().build();
    tokio::try_join!(server, client).unwrap()
}

impl FakeBus {
    /// A bus with one caller of uid 1000, whose name has an owner as long as `present`.
    async fn new(world: &World, authority: Arc<FakeAuthority>, present: bool) -> Self {
        let (connection, far_end) = pair().await;
        let (sent, answers) = mpsc::unbounded_channel();
        let mut stream = MessageStream::from(&far_end);
        let driver = far_end;
        tokio::spawn(async move {
            while let Some(Ok(message)) = stream.next().await {
                let header = message.header();
                match header.member().map(|member| member.as_str()) {
                    Some("GetConnectionUnixUser") => driver.reply(&header, &1000u32).await.unwrap(),
                    Some("NameHasOwner") => driver.reply(&header, &present).await.unwrap(),
                    _ => drop(sent.send(message.clone())),
                }
            }
        });
        let link = Arc::new(Link::Bus { connection, authority });
        let client = world.face.core.clients.caller(":1.7", &link);
        Self { client, answers }
    }

    /// What the caller is told: nothing, or the name of an error.
    async fn call<B>(&mut self, world: &World, path: &str, what: &str, body: &B) -> Option<String>
    where
        B: serde::Serialize + DynamicType,
    {
        self.send(world, path, what, Flags::empty(), body);
        self.answer().await
    }

    fn send<B>(&self, world: &World, path: &str, what: &str, flags: Flags, body: &B)
    where
        B: serde::Serialize + DynamicType,
    {
        let (interface, member) = what.rsplit_once('.').unwrap();
        let call = Message::method_call(path, member)
            .interface(interface)
            .sender(":1.7")
            .with_flags(flags)
            .build(body)
            .unwrap();
        world.face.core.accept(call, self.client.clone());
    }

    async fn answer(&mut self) -> Option<String> {
        let answer = self.answers.recv().await.unwrap();
        let header = answer.header();
        header.error_name().map(|name| name.to_string())
    }
}
