//! `org.freedesktop.DBus.Properties`, on every object.

use super::call::{Handlers, Plan, Reply, Request};
use super::exposed::{All, Exposed};
use super::job::JobView;
use super::manager::ManagerView;
use super::pool::PoolView;
use super::router::{Core, Object};
use super::secret::SecretView;
use super::table::Table;
use super::volume::VolumeView;
use crate::model::{Error, ErrorKind, Result};
use futures_util::FutureExt;
use serde::{Serialize, Serializer};
use std::collections::HashMap;
use zbus::wire::{Signature, Type, signature};
use zbus::{OwnedVariant, Variant};

/// The handlers.
pub(super) const METHODS: Handlers<Object> = &[
    ("Get", |call| get(call).boxed()),
    ("GetAll", |call| get_all(call).boxed()),
    ("Set", |call| set(call).boxed()),
];

/// Something to be done with an object's view, whatever its type.
trait Visit {
    type Output;
    fn visit<T: Exposed + Send>(self, view: T) -> Self::Output;
}

/// Lets `visit` see the object, if it has properties.
async fn view<V: Visit>(core: &Core, object: &Object, visit: V) -> Result<Option<V::Output>> {
    Ok(match object {
        Object::Manager => Some(visit.visit(ManagerView::read(core).await?)),
        Object::Pool(pool) => Some(visit.visit(PoolView::new(core, pool.snapshot()))),
        Object::Volume(target) => {
            let snapshot = target.pool.snapshot();
            let volume = snapshot.volumes.get(&target.name);
            volume.map(|found| visit.visit(VolumeView::new(&snapshot, &target.name, found)))
        }
        Object::Job(job) => Some(visit.visit(JobView(job.snapshot()))),
        Object::Secret(uuid) => {
            core.engine.secret(*uuid).map(|secret| visit.visit(SecretView(secret)))
        }
        Object::Node(_) | Object::Pools | Object::Volumes(_) | Object::Jobs | Object::Secrets => {
            None
        }
    })
}

struct One<'a>(&'a str);

impl Visit for One<'_> {
    type Output = Option<Result<OwnedVariant, zbus::Error>>;
    fn visit<T: Exposed + Send>(self, view: T) -> Self::Output {
        let found = T::PROPERTIES.iter().find(|property| property.name == self.0)?;
        Some((found.get)(&view).try_to_owned())
    }
}

struct Every;

impl Visit for Every {
    type Output = Reply;
    fn visit<T: Exposed + Send>(self, view: T) -> Reply {
        Reply::new(Owned(view))
    }
}

struct Owned<T: Exposed>(T);

impl<T: Exposed> Type for Owned<T> {
    const SIGNATURE: &'static Signature = &signature!("a{sv}");
}

impl<T: Exposed> Serialize for Owned<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        All(&self.0).serialize(serializer)
    }
}

/// Refuses interfaces that the object does not have.
fn check_interface(call: &Request<Object>) -> Result<&str> {
    let interface = call.args.text(0)?;
    if interface.is_empty() || call.target.interfaces().contains(&interface) {
        return Ok(interface);
    }
    Err(Error::new(
        ErrorKind::UnknownInterface,
        format!("the object has no interface {interface:?}"),
    ))
}

fn unknown_property(name: &str) -> Error {
    Error::new(ErrorKind::UnknownProperty, format!("the object has no property {name:?}"))
}

/// Whether the properties of an interface are those of the object's view.
fn has_properties(interface: &str) -> bool {
    interface.is_empty()
        || Table::get().interface(interface).is_some_and(|found| !found.properties.is_empty())
}

async fn get(call: Request<Object>) -> Result<Plan> {
    let interface = check_interface(&call)?;
    let name = call.args.text(1)?;
    let found = match has_properties(interface) {
        true => view(&call.core, &call.target, One(name)).await?.flatten(),
        false => None,
    };
    let value = found.ok_or_else(|| unknown_property(name))?;
    let value = value.map_err(|error| super::errors::of_zbus("a property", &error))?;
    Ok(Plan::answer(Reply::new(value)))
}

async fn get_all(call: Request<Object>) -> Result<Plan> {
    let interface = check_interface(&call)?;
    let reply = match has_properties(interface) {
        true => view(&call.core, &call.target, Every).await?,
        false => None,
    };
    let none = || Reply::new(HashMap::<String, Variant<'static>>::new());
    Ok(Plan::answer(reply.unwrap_or_else(none)))
}

async fn set(call: Request<Object>) -> Result<Plan> {
    let interface = check_interface(&call)?;
    let name = call.args.text(1)?;
    let known = Table::get().interface(interface).and_then(|found| found.property(name));
    match known {
        Some(_) => Err(Error::new(
            ErrorKind::PropertyReadOnly,
            format!("{interface}.{name} changes by methods only"),
        )),
        None => Err(unknown_property(name)),
    }
}
