//! The proxies against the interface documents: every call is made once, on a socket pair.

use super::*;
use crate::model::Result;
use futures_util::StreamExt;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use zbus::proxy::CacheProperties;
use zbus::{Connection, Guid, MessageStream};

const DOCUMENTS: [&str; 5] = [
    include_str!("../../dbus/interfaces/org.poold1.Manager.xml"),
    include_str!("../../dbus/interfaces/org.poold1.Pool.xml"),
    include_str!("../../dbus/interfaces/org.poold1.Volume.xml"),
    include_str!("../../dbus/interfaces/org.poold1.Job.xml"),
    include_str!("../../dbus/interfaces/org.poold1.Secret.xml"),
];

/// (interface, member) and the signature of what goes in, or of a property.
type Members = BTreeMap<(String, String), String>;

/// Methods and properties that the documents declare.
fn declared() -> (Members, Members) {
    let (mut methods, mut properties) = (Members::new(), Members::new());
    for document in DOCUMENTS {
        let (mut interface, mut method) = (String::new(), String::new());
        for line in document.lines().map(str::trim) {
            let attribute = |name: &str| {
                let start = line.find(&format!(" {name}=\""))? + name.len() + 3;
                line[start..].split('"').next().map(str::to_owned)
            };
            let name = attribute("name").unwrap_or_default();
            if line.starts_with("<interface ") {
                interface = name;
            } else if line.starts_with("<property ") {
                properties.insert((interface.clone(), name), attribute("type").unwrap());
            } else if line.starts_with("<method ") {
                methods.insert((interface.clone(), name.clone()), String::new());
                method = name;
            } else if line.starts_with("<arg ") && line.contains("direction=\"in\"") {
                let signature = methods.get_mut(&(interface.clone(), method.clone())).unwrap();
                signature.push_str(&attribute("type").unwrap());
            }
        }
    }
    (methods, properties)
}

/// A peer that refuses every call after noting it.
async fn peer() -> (Connection, Arc<Mutex<Vec<zbus::Message>>>) {
    let (ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
    let server = async {
        let guid = Guid::generate();
        zbus::connection::Builder::unix_stream(theirs).server(guid).p2p().build().await
    };
    let client = zbus::connection::Builder::unix_stream(ours).p2p().build();
    let (server, client) = tokio::join!(server, client);
    let (server, calls) = (server.unwrap(), Arc::new(Mutex::new(Vec::new())));
    let seen = Arc::clone(&calls);
    tokio::spawn(async move {
        let mut stream = MessageStream::from(&server);
        while let Some(Ok(message)) = stream.next().await {
            seen.lock().unwrap().push(message.clone());
            let header = message.header();
            server.reply_error(&header, "org.poold1.Error.Busy", &"noted").await.unwrap();
        }
    });
    (client.unwrap(), calls)
}

/// Notes that `result` was refused as the peer refuses, not for a reason of our own.
fn refused<T: std::fmt::Debug>(result: Result<T>) {
    assert_eq!(result.unwrap_err().kind(), crate::model::ErrorKind::Busy);
}

/// A proxy that asks for each property by itself.
macro_rules! at {
    ($proxy:ident, $connection:expr, $path:expr) => {
        $proxy::builder(&$connection)
            .path($path)
            .cache_properties(CacheProperties::No)
            .build()
            .await
            .unwrap()
    };
}

macro_rules! call {
    ($proxy:expr; $($method:ident($($arg:expr),*)),* $(,)?) => {
        $(refused($proxy.$method($($arg),*).await);)*
    };
}

#[tokio::test]
async fn every_method_and_property_of_the_documents_has_a_proxy_of_its_signature() {
    let (connection, calls) = peer().await;
    let no = Options::new();
    let null = std::fs::File::open("/dev/null").unwrap();
    let descriptor = || zbus::wire::Fd::from(&null);

    let manager = at!(ManagerProxy, connection, "/org/poold1");
    call!(manager; version(), features(), pool_types(), problems(),
        define_pool("dir", "p", &no, &no), define_pool_xml("<pool/>", &no), lookup_pool("p", &no),
        lookup_pool_by_target("/t", &no), lookup_volume("/t/v", &no), list_pools(&no),
        find_sources("fs", &no, &no), find_sources_xml("fs", "", &no), get_capabilities_xml(&no),
        autostart(&no), set_secret(descriptor(), &no), set_secret_xml(descriptor(), "<secret/>", &no));
    let pool = at!(PoolProxy, connection, "/org/poold1/pools/1");
    call!(pool; name(), uuid(), pool_type(), state(), persistent(), autostart(), capacity(),
        allocation(), available(), volumes(), volume_count(), skipped_entries(), volumes_stale(),
        target_path(), operations(), last_refresh(), last_error(), waiting_for(), next_try(),
        start(&no), stop(&no), build(&no), delete(&no), refresh(&no), undefine(&no),
        set_autostart(true, &no), create_volume("v", 1, &no), create_volume_xml("<volume/>", &no),
        lookup_volume("v", &no), get_xml(&no), list_volumes("", 0, &no));
    let volume = at!(VolumeProxy, connection, "/org/poold1/volumes/1/v");
    call!(volume; name(), key(), path(), kind(), format(), format_source(), content_format(), pool(), capacity(),
        allocation(), physical(), backing_path(), backing_format(), provisioning(), origin(),
        thin_pool(), data_used(), metadata_used(), member_paths(), encrypted(), incomplete(), incomplete_reason(),
        modified(), mode(), owner(), group(), job(),
        delete(&no), wipe(&no), refresh(&no), resize(1, &no), clone("w", &no),
        upload(descriptor(), &no), download(descriptor(), &no), open("r", &no), get_xml(&no));
    let job = at!(JobProxy, connection, "/org/poold1/jobs/1");
    call!(job; operation(), state(), bytes(), total_bytes(), rate(), objects(), caller_uid(),
        started(), ended(), error(), result(), cancelable(), cancel(&no), wait(&no));
    let secret = at!(SecretProxy, connection, "/org/poold1/secrets/1");
    call!(secret; uuid(), usage_type(), usage_name(), description(), ephemeral(), private(),
        get_xml(&no), delete(&no));

    let (mut methods, mut properties) = (Members::new(), BTreeSet::new());
    for message in calls.lock().unwrap().iter() {
        let header = message.header();
        let interface = header.interface().unwrap().to_string();
        let member = header.member().unwrap().to_string();
        if interface == "org.freedesktop.DBus.Properties" {
            let body = message.body();
            let (interface, property): (String, String) = body.deserialize().unwrap();
            assert_eq!(member, "Get");
            properties.insert((interface, property));
        } else {
            let signature = header.signature().to_string_no_parens();
            methods.insert((interface, member), signature);
        }
    }
    let (declared_methods, declared_properties) = declared();
    assert_eq!(methods, declared_methods);
    assert_eq!(properties, declared_properties.into_keys().collect());
}
