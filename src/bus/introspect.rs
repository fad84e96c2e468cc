//! `org.freedesktop.DBus.Introspectable` and `Peer`: what is at a path, one level of it.

use super::call::{Handlers, MAX_MESSAGE, Plan, Reply, Request};
use super::router::{Core, Object};
use super::table::Table;
use crate::engine::PoolSnapshot;
use crate::model::{Error, ErrorKind, Result, Uuid};
use crate::path::{ObjectRef, escape};
use futures_util::FutureExt;
use std::fmt::Write;

const HEAD: &str = "<!DOCTYPE node PUBLIC \"-//freedesktop//DTD D-BUS Object Introspection 1.0//EN\"\n \"http://www.freedesktop.org/standards/dbus/1.0/introspect.dtd\">\n<node>\n";

/// Room for children; the rest is for the interfaces.
const MAX_CHILDREN: usize = MAX_MESSAGE - (1 << 20);

/// The handlers of Introspectable.
pub(super) const METHODS: Handlers<Object> = &[("Introspect", |call| introspect(call).boxed())];

/// The handlers of Peer.
pub(super) const PEER_METHODS: Handlers<Object> =
    &[("Ping", |call| ping(call).boxed()), ("GetMachineId", |call| machine_id(call).boxed())];

async fn introspect(call: Request<Object>) -> Result<Plan> {
    let interfaces = call.target.interfaces();
    Ok(match &call.target {
        Object::Volumes(pool) => {
            let snapshot = pool.snapshot();
            let make = move || Ok(Reply::new(document(interfaces, volumes(&snapshot))));
            Plan::read(async move { call.core.large(&call.client, make).await })
        }
        object => {
            Plan::answer(Reply::new(document(interfaces, children(&call.core, object).into_iter())))
        }
    })
}

/// The names of the children of an object other than a pool's volumes.
fn children(core: &Core, object: &Object) -> Vec<String> {
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    let uuid = |uuid: Uuid| uuid.simple().to_string();
    match object {
        Object::Node(ObjectRef::Root) => names(&["org"]),
        Object::Node(ObjectRef::Org) => names(&["poold1"]),
        Object::Manager => names(&["jobs", "pools", "secrets", "volumes"]),
        Object::Pools | Object::Node(_) => {
            core.engine.pools().iter().map(|pool| uuid(pool.uuid())).collect()
        }
        Object::Jobs => core.engine.jobs().iter().map(|job| job.id().to_string()).collect(),
        Object::Pool(_)
        | Object::Volumes(_)
        | Object::Volume(_)
        | Object::Job(_)
        | Object::Secret(_) => Vec::new(),
        Object::Secrets => core.engine.secrets().iter().map(|secret| uuid(secret.uuid)).collect(),
    }
}

/// The names of the children of a pool's volumes.
fn volumes(snapshot: &PoolSnapshot) -> impl Iterator<Item = String> {
    snapshot.volumes.keys().map(|name| {
        let mut label = String::with_capacity(name.as_str().len() + 8);
        escape(name.as_str(), &mut label);
        label
    })
}

/// The document of a node. Children that would not fit a message are left out: whoever has so
/// many pages through them.
fn document(interfaces: &[&str], children: impl Iterator<Item = String>) -> String {
    let mut text = HEAD.to_owned();
    for interface in interfaces.iter().filter_map(|name| Table::get().interface(name)) {
        text.push_str("  ");
        text.push_str(&interface.xml);
        text.push('\n');
    }
    for child in children {
        if text.len() > MAX_CHILDREN {
            text.push_str("  <!-- and more: page with org.poold1.Pool.ListVolumes -->\n");
            break;
        }
        let _ = writeln!(text, "  <node name=\"{child}\"/>");
    }
    text.push_str("</node>\n");
    text
}

async fn ping(_call: Request<Object>) -> Result<Plan> {
    Ok(Plan::answer(Reply::empty()))
}

async fn machine_id(_call: Request<Object>) -> Result<Plan> {
    Ok(Plan::read(async {
        let read = || {
            ["/etc/machine-id", "/var/lib/dbus/machine-id"]
                .iter()
                .find_map(|path| std::fs::read_to_string(path).ok())
                .map(|id| id.trim().to_owned())
        };
        match super::limits::blocking(read).await? {
            Some(id) => Ok(Reply::new(id)),
            None => Err(Error::new(
                ErrorKind::NotFound,
                "this host has no machine id; systemd-machine-id-setup makes one",
            )),
        }
    }))
}

#[cfg(test)]
mod tests {
    use super::super::table;
    use super::*;

    #[test]
    fn introspection_shows_what_the_documents_declare() {
        let all: Vec<_> = Table::get().interfaces().iter().map(|i| i.name.as_str()).collect();
        let shown = document(&all, std::iter::empty());
        for interface in Table::get().interfaces() {
            let start = shown.find(&format!("<interface name=\"{}\"", interface.name)).unwrap();
            let end = start + shown[start..].find("</interface>").unwrap();
            let shown = &shown[start..end];
            let declared = interface.methods.iter().map(|method| ("method", &method.name));
            let declared =
                declared.chain(interface.properties.iter().map(|found| ("property", &found.name)));
            for (kind, name) in declared {
                assert!(shown.contains(&format!("<{kind} name=\"{name}\"")), "{name}");
            }
        }
        assert!(shown.contains("org.poold1.Action"), "the reference is part of the answer");
        assert!(shown.starts_with("<!DOCTYPE node") && shown.ends_with("</node>\n"));
        assert!(!shown.contains("<!--"));
    }

    #[test]
    fn a_hundred_thousand_children_fit_a_message_and_more_than_fit_are_cut() {
        let interfaces = [table::PEER, table::OBJECT_MANAGER];
        let text = document(&interfaces, (0..100_000).map(|n| format!("volume{n}")));
        assert_eq!(text.matches("<node name=").count(), 100_000);
        let long = "_c3".repeat(255);
        let text = document(&interfaces, (0..100_000).map(|_| long.clone()));
        assert!(text.len() < MAX_MESSAGE && text.contains("ListVolumes"));
        assert!(text.ends_with("</node>\n"));
    }
}
