//! A call on its way through a handler: what it asks, what it needs, how it is answered.

use super::args::{Args, Options};
use super::clients::{Client, Outgoing};
use super::errors;
use super::limits::blocking;
use super::router::Core;
use crate::auth::Action;
use crate::engine::Caller;
use crate::model::{Error, ErrorKind, PoolDef, Result, Uuid};
use futures_util::future::BoxFuture;
use serde::Serialize;
use std::sync::Arc;
use tokio::sync::OwnedSemaphorePermit;
use zbus::message::Builder;
use zbus::wire::{DynamicType, Signature};
use zbus::{Message, ObjectPath};

/// Largest message sent: a stock system bus disconnects who passes 32 MiB.
pub(super) const MAX_MESSAGE: usize = 30 << 20;

/// A checked call on an object of type `T`.
pub(super) struct Request<T> {
    /// What everything shares.
    pub(super) core: Arc<Core>,
    /// Who calls.
    pub(super) client: Arc<Client>,
    /// Its uid.
    pub(super) uid: u32,
    /// The object.
    pub(super) target: T,
    /// The arguments.
    pub(super) args: Args,
    /// The options, all of them declared and of the declared type.
    pub(super) options: Options,
}

impl<T> Request<T> {
    /// On whose behalf the engine acts.
    pub(super) fn caller(&self) -> Caller {
        Caller { uid: self.uid }
    }
}

/// Reads a call and says what it needs; changes nothing. The future in the plan does the work.
pub(super) type Handler<T> = fn(Request<T>) -> BoxFuture<'static, Result<Plan>>;

/// The handlers of an interface, by method.
pub(super) type Handlers<T> = &'static [(&'static str, Handler<T>)];

/// What a call is about to do.
pub(super) struct Plan {
    /// Actions that its content needs, besides those that its declaration says.
    pub(super) needs: Vec<Action>,
    /// What the question is about.
    pub(super) about: About,
    /// Does it. Polled only when the caller may.
    pub(super) act: BoxFuture<'static, Result<Reply>>,
    /// Whether signals may come of it, which have to go out before the answer.
    pub(super) changes: Option<Option<Uuid>>,
}

impl Plan {
    /// A plan that only reads, and has the answer already.
    pub(super) fn answer(reply: Reply) -> Self {
        Self::read(async { Ok(reply) })
    }

    /// A plan that only reads.
    pub(super) fn read(
        act: impl std::future::Future<Output = Result<Reply>> + Send + 'static,
    ) -> Self {
        Self { needs: Vec::new(), about: About::default(), act: Box::pin(act), changes: None }
    }

    /// A plan that changes something.
    pub(super) fn act(
        about: About,
        act: impl std::future::Future<Output = Result<Reply>> + Send + 'static,
    ) -> Self {
        let changes = Some(about.uuid);
        Self { needs: Vec::new(), about, act: Box::pin(act), changes }
    }

    /// The same plan, which needs one more action if `so`.
    pub(super) fn needing(mut self, action: Action, so: bool) -> Self {
        if so {
            self.needs.push(action);
        }
        self
    }
}

/// What a request is about: shown in the dialog, and what rules decide by.
#[derive(Debug, Default, Clone)]
pub(super) struct About {
    /// The pool's identity, when it has one already.
    pub(super) uuid: Option<Uuid>,
    /// The pool's name and type, the latter empty when it is about no one type.
    pub(super) pool: Option<(String, &'static str)>,
    /// The pool's target as defined.
    pub(super) target: Option<String>,
    /// The volume's name.
    pub(super) volume: Option<String>,
    /// The volume's path.
    pub(super) path: Option<String>,
}

impl About {
    /// About a pool.
    pub(super) fn pool(def: &PoolDef) -> Self {
        Self {
            uuid: Some(def.uuid),
            pool: Some((def.name.as_str().to_owned(), def.pool_type.as_str())),
            target: def.target_path().map(str::to_owned),
            ..Self::default()
        }
    }

    /// About a volume of a pool.
    pub(super) fn volume(def: &PoolDef, name: &str, path: Option<&str>) -> Self {
        Self { volume: Some(name.to_owned()), path: path.map(str::to_owned), ..Self::pool(def) }
    }
}

type Write = Box<dyn FnOnce(Builder<'static>) -> zbus::Result<Message> + Send>;

/// The values that a method returns.
pub(super) struct Reply {
    /// Their signature, to be held against the declaration.
    pub(super) signature: Signature,
    write: Write,
    turn: Option<OwnedSemaphorePermit>,
}

impl Reply {
    /// A reply with these values.
    pub(super) fn new<B: Serialize + DynamicType + Send + 'static>(body: B) -> Self {
        let signature = body.signature();
        Self { signature, write: Box::new(move |builder| builder.build(&body)), turn: None }
    }

    /// The same reply, which holds its caller's turn until it is sent.
    pub(super) fn holding(self, turn: OwnedSemaphorePermit) -> Self {
        Self { turn: Some(turn), ..self }
    }

    /// A reply without values.
    pub(super) fn empty() -> Self {
        Self::new(())
    }

    /// Object paths, each as an argument of its own, known to be well formed.
    pub(super) fn path(path: String) -> Result<Self> {
        Ok(Self::new(object_path(path)?))
    }

    /// Two object paths.
    pub(super) fn paths(first: String, second: String) -> Result<Self> {
        Ok(Self::new((object_path(first)?, object_path(second)?)))
    }

    /// The message that answers a call; a large one is written off the tasks of the bus.
    pub(super) async fn write(self, builder: Builder<'static>) -> Result<Outgoing> {
        let Self { write, turn, .. } = self;
        let written = match &turn {
            None => write(builder),
            Some(_) => blocking(move || write(builder)).await?,
        };
        let message =
            written.map_err(|error| errors::of_zbus("the answer cannot be written", &error))?;
        if message.data().len() > MAX_MESSAGE {
            return Err(errors::too_large("the answer"));
        }
        Ok((message, turn))
    }
}

/// A path that poold made, as the bus takes it.
pub(super) fn object_path(path: String) -> Result<ObjectPath<'static>> {
    ObjectPath::try_from(path.clone())
        .map_err(|_| Error::new(ErrorKind::Failed, format!("{path} is no object path")))
}
