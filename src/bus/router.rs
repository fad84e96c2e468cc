//! From a message to its answer: resolves the path, finds the member in the table, checks the
//! arguments, asks the authority once, and runs the handler, each call as a task of its own.
//!
//! The order of every call: read within limits, one question, the caller still there, act.

use super::args::{self, Options};
use super::call::{About, Handlers, Plan, Reply, Request};
use super::clients::{Client, Clients, Link, Outgoing};
use super::limits::{Parsers, Tally};
use super::signals::Signals;
use super::table::{self, Access, Interface, Method, Table};
use super::target::Targets;
use super::volume::VolumeTarget;
use super::{
    FaceOptions, errors, introspect, job, manager, object_manager, pool, properties, secret,
    volume_methods,
};
use crate::auth::{self, Action, Subject};
use crate::engine::{Engine, JobHandle, PoolHandle};
use crate::model::{Error, ErrorKind, PoolType, Result, Uuid};
use crate::path::ObjectRef;
use futures_util::FutureExt;
use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use tokio::sync::Semaphore;
use zbus::Message;
use zbus::message::{Flags, Header, Type};

/// Large answers made at a time.
const LARGE_ANSWERS: usize = 4;

/// What all calls share.
pub(super) struct Core {
    pub(super) engine: Engine,
    pub(super) options: FaceOptions,
    pub(super) clients: Clients,
    pub(super) signals: Signals,
    pub(super) parsers: Parsers,
    pub(super) targets: Targets,
    pub(super) operations: HashMap<PoolType, Vec<&'static str>>,
    authorisations: Arc<Tally<u32>>,
    large: Semaphore,
}

/// An object that exists.
#[derive(Clone)]
pub(super) enum Object {
    /// A node on the way to others.
    Node(ObjectRef),
    Manager,
    Pools,
    Pool(PoolHandle),
    Volumes(PoolHandle),
    Volume(VolumeTarget),
    Jobs,
    Job(JobHandle),
    Secrets,
    Secret(Uuid),
}

impl Object {
    /// Its interfaces.
    pub(super) fn interfaces(&self) -> &'static [&'static str] {
        use table::{INTROSPECTABLE as I, OBJECT_MANAGER as O, PEER as P, PROPERTIES as R};
        match self {
            Self::Node(_) => &[P, I],
            Self::Manager => &[P, I, R, table::MANAGER],
            Self::Pools | Self::Volumes(_) | Self::Jobs | Self::Secrets => &[P, I, R, O],
            Self::Pool(_) => &[P, I, R, table::POOL],
            Self::Volume(_) => &[P, I, R, table::VOLUME],
            Self::Job(_) => &[P, I, R, table::JOB],
            Self::Secret(_) => &[P, I, R, table::SECRET],
        }
    }
}

impl Core {
    pub(super) fn new(engine: Engine, options: FaceOptions, signals: Signals) -> Self {
        let types = engine.pool_types();
        Self {
            operations: types.into_iter().map(|row| (row.pool_type, row.operations)).collect(),
            engine,
            options,
            signals,
            clients: Clients::default(),
            parsers: Parsers::default(),
            targets: Targets::default(),
            authorisations: Arc::default(),
            large: Semaphore::new(LARGE_ANSWERS),
        }
    }

    /// Takes a call and returns at once; the answer is sent when it is there.
    pub(super) fn accept(self: &Arc<Self>, message: Message, client: Arc<Client>) {
        if message.message_type() != Type::MethodCall {
            return;
        }
        let core = self.clone();
        let ticket = match self.clients.begin(&client, &self.options) {
            Ok(ticket) => ticket,
            Err(error) => {
                if let Some(answer) = refusal(&message, &error) {
                    self.clients.refuse(&client, answer);
                }
                return;
            }
        };
        tokio::spawn(async move {
            let _ticket = ticket;
            let served = AssertUnwindSafe(core.serve(&message, &client)).catch_unwind().await;
            let answer = served.unwrap_or_else(|_| {
                Err(Error::new(
                    ErrorKind::Failed,
                    "a defect in poold ended this call; its log says more",
                ))
            });
            match answer {
                Ok(_) if no_reply(&message) => {}
                Ok((answer, turn)) => client.send(answer, turn).await,
                Err(error) => {
                    if let Some(answer) = refusal(&message, &error) {
                        client.send(answer, None).await;
                    }
                }
            }
        });
    }

    async fn serve(self: &Arc<Self>, message: &Message, client: &Arc<Client>) -> Result<Outgoing> {
        let header = message.header();
        let uid = client.uid().await?;
        let path = header.path().map_or("", |path| path.as_str());
        let (object, interface, method) = self.find(path, &header)?;
        let (args, options) = args::read(message, method)?;
        let flags = message.primary_header().flags();
        let interactive = flags.contains(Flags::ALLOW_INTERACTIVE_AUTH)
            && !options.flag("auth.no_user_interaction");
        let mut needs = declared_needs(method, &options)?;
        let request = |object| Request {
            core: self.clone(),
            client: client.clone(),
            uid,
            target: object,
            args,
            options,
        };
        let plan = prepare(object, interface, method, request).await?;
        needs.extend(plan.needs);
        if let Some(action) = Action::most_demanding(needs) {
            self.authorise(action, client, uid, interactive, plan.about).await?;
            record(interface, method, uid, path);
        }
        let outcome = plan.act.await;
        if let Some(pool) = plan.changes {
            self.signals.barrier(pool).await;
        }
        let reply = outcome?;
        if reply.signature != method.output {
            let name = &method.name;
            tracing::error!("{name} answers {} instead of {}", reply.signature, method.output);
            return Err(Error::new(ErrorKind::Failed, format!("a defect in {name}")));
        }
        reply.write(Message::method_return(&header)).await
    }

    /// The object, interface and method that a call is for.
    fn find(
        &self,
        path: &str,
        header: &Header<'_>,
    ) -> Result<(Object, &'static Interface, &'static Method)> {
        let member = header.member().map_or("", |member| member.as_str());
        let wanted = header.interface().map(|interface| interface.as_str());
        if wanted == Some(table::PEER) {
            let object = Object::Node(ObjectRef::Root);
            return find_method(object, wanted, member, path);
        }
        let object = self.resolve(path).ok_or_else(|| errors::unknown_object(path))?;
        find_method(object, wanted, member, path)
    }

    /// The object at a path, if it exists.
    pub(super) fn resolve(&self, path: &str) -> Option<Object> {
        Some(match ObjectRef::parse(path)? {
            node @ (ObjectRef::Root | ObjectRef::Org | ObjectRef::VolumesRoot) => {
                Object::Node(node)
            }
            ObjectRef::Manager => Object::Manager,
            ObjectRef::Pools => Object::Pools,
            ObjectRef::Pool(uuid) => Object::Pool(self.engine.pool(uuid)?),
            ObjectRef::Volumes(uuid) => Object::Volumes(self.engine.pool(uuid)?),
            ObjectRef::Volume(uuid, name) => {
                let pool = self.engine.pool(uuid)?;
                pool.snapshot().volumes.get(&name)?;
                Object::Volume(VolumeTarget { pool, name })
            }
            ObjectRef::Jobs => Object::Jobs,
            ObjectRef::Job(number) => Object::Job(self.engine.job(number)?),
            ObjectRef::Secrets => Object::Secrets,
            ObjectRef::Secret(uuid) => Object::Secret(self.engine.secret(uuid)?.uuid),
        })
    }

    /// The one question of a request.
    async fn authorise(
        &self,
        action: Action,
        client: &Client,
        uid: u32,
        interactive: bool,
        about: About,
    ) -> Result<()> {
        if uid == 0 {
            return Ok(());
        }
        let Link::Bus { authority, .. } = &*client.link else {
            return Err(Error::new(
                ErrorKind::AccessDenied,
                format!("{} needs root on this socket; use the system bus", action.id()),
            ));
        };
        let max = self.options.max_authorisations_per_uid;
        let _ticket = self.authorisations.enter(uid, max, "authorisations")?;
        let details = self.details(about).await;
        let subject = Subject { uid, bus_name: client.name.clone() };
        let question = auth::Request { action, subject, interactive, details };
        tokio::select! {
            answer = authority.check(&question) => answer?,
            () = client.gone.cancelled() => return Err(left()),
        }
        if client.is_present().await { Ok(()) } else { Err(left()) }
    }

    async fn details(&self, about: About) -> Vec<(&'static str, String)> {
        let mut details = Vec::new();
        if let Some((name, pool_type)) = about.pool {
            details.push(("pool", name));
            if !pool_type.is_empty() {
                details.push(("pool.type", pool_type.to_owned()));
            }
        }
        if let Some(target) = about.target
            && let Some(target) = self.targets.resolve(target).await
        {
            details.push(("pool.target", target));
        }
        details.extend(about.volume.map(|volume| ("volume", volume)));
        details.extend(about.path.map(|path| ("path", path)));
        details
    }

    /// Makes a large answer off the tasks of the bus, a bounded number at a time.
    pub(super) async fn large(
        &self,
        client: &Client,
        make: impl FnOnce() -> Result<Reply> + Send + 'static,
    ) -> Result<Reply> {
        let closed = |_| Error::new(ErrorKind::Failed, "poold is ending");
        let turn = client.large.clone().acquire_owned().await.map_err(closed)?;
        let _one_of_few = self.large.acquire().await.map_err(closed)?;
        Ok(super::limits::blocking(make).await??.holding(turn))
    }

    /// Tells the engine whether anybody is there.
    pub(super) fn update_watched(&self) {
        self.engine.set_watched(!self.clients.is_empty());
    }

    /// Whether no question is being asked.
    pub(super) fn asks_nobody(&self) -> bool {
        self.authorisations.is_empty()
    }
}

/// Says in the log who does what.
fn record(interface: &Interface, method: &Method, uid: u32, path: &str) {
    tracing::info!(
        POOLD_CALLER_UID = uid,
        "uid {uid} calls {}.{} on {path}",
        interface.name,
        method.name
    );
}

fn left() -> Error {
    Error::new(ErrorKind::AccessDenied, "the caller left before it was authorised")
}

fn no_reply(message: &Message) -> bool {
    message.primary_header().flags().contains(Flags::NO_REPLY_EXPECTED)
}

/// The answer to a call that failed, if its caller wants one.
fn refusal(message: &Message, error: &Error) -> Option<Message> {
    if no_reply(message) {
        return None;
    }
    match errors::reply(&message.header(), error) {
        Ok(answer) => Some(answer),
        Err(why) => {
            tracing::error!("an error could not be written: {why}");
            None
        }
    }
}

/// What a method needs by its declaration and the options given.
fn declared_needs(method: &Method, options: &Options) -> Result<Vec<Action>> {
    let mut needs = match method.access {
        Access::Free => Vec::new(),
        Access::Needs(action) => vec![action],
        Access::Undeclared => {
            return Err(Error::new(
                ErrorKind::AccessDenied,
                format!("nobody may call {}: it declares no action", method.name),
            ));
        }
    };
    for (key, action) in &method.option_actions {
        if options.applies(key) {
            needs.push(*action);
        }
    }
    Ok(needs)
}

fn find_method(
    object: Object,
    wanted: Option<&str>,
    member: &str,
    path: &str,
) -> Result<(Object, &'static Interface, &'static Method)> {
    let table = Table::get();
    let names = object.interfaces();
    if let Some(wanted) = wanted.filter(|wanted| !names.contains(wanted)) {
        return Err(Error::new(
            ErrorKind::UnknownInterface,
            format!("{path} has no interface {wanted}; it has {}", names.join(", ")),
        ));
    }
    let found = names
        .iter()
        .filter(|name| wanted.is_none_or(|wanted| wanted == **name))
        .filter_map(|name| table.interface(name))
        .find_map(|interface| Some((interface, interface.method(member)?)));
    let (interface, method) = found.ok_or_else(|| {
        Error::new(ErrorKind::UnknownMethod, format!("{path} has no method {member:?}"))
    })?;
    Ok((object, interface, method))
}

/// Lets the handler of a method read its call.
async fn prepare(
    object: Object,
    interface: &Interface,
    method: &Method,
    request: impl FnOnce(Object) -> Request<Object>,
) -> Result<Plan> {
    let request = request(object);
    match interface.name.as_str() {
        table::PEER => run(introspect::PEER_METHODS, method, request).await,
        table::INTROSPECTABLE => run(introspect::METHODS, method, request).await,
        table::PROPERTIES => run(properties::METHODS, method, request).await,
        table::OBJECT_MANAGER => run(object_manager::METHODS, method, request).await,
        _ => match request.target.clone() {
            Object::Manager => run(manager::METHODS, method, request.with(())).await,
            Object::Pool(pool) => run(pool::METHODS, method, request.with(pool)).await,
            Object::Volume(volume) => {
                run(volume_methods::METHODS, method, request.with(volume)).await
            }
            Object::Job(job) => run(job::METHODS, method, request.with(job)).await,
            Object::Secret(uuid) => run(secret::METHODS, method, request.with(uuid)).await,
            _ => Err(unhandled(method)),
        },
    }
}

async fn run<T>(handlers: Handlers<T>, method: &Method, request: Request<T>) -> Result<Plan> {
    match handlers.iter().find(|(name, _)| *name == method.name) {
        Some((_, handler)) => handler(request).await,
        None => Err(unhandled(method)),
    }
}

fn unhandled(method: &Method) -> Error {
    Error::new(ErrorKind::NotSupported, format!("poold does not have {} yet", method.name))
}

impl<T> Request<T> {
    fn with<U>(self, target: U) -> Request<U> {
        let Self { core, client, uid, args, options, .. } = self;
        Request { core, client, uid, target, args, options }
    }
}
