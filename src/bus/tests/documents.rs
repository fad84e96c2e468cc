//! The interface documents against the code: handlers, properties, what introspection shows.

use super::super::call::Handlers;
use super::super::exposed::Exposed;
use super::super::manager::ManagerView;
use super::super::pool::PoolView;
use super::super::table::{Interface, Table};
use super::super::volume::VolumeView;
use super::super::{
    introspect, job, manager, object_manager, pool, properties, secret, volume_methods,
};
use super::*;

/// The names of handlers.
fn names<T>(handlers: Handlers<T>) -> Vec<&'static str> {
    handlers.iter().map(|(name, _)| *name).collect()
}

#[test]
fn every_method_of_the_documents_has_a_handler_and_every_handler_a_method() {
    for (interface, mut handled) in [
        ("org.freedesktop.DBus.Peer", names(introspect::PEER_METHODS)),
        ("org.freedesktop.DBus.Introspectable", names(introspect::METHODS)),
        ("org.freedesktop.DBus.Properties", names(properties::METHODS)),
        ("org.freedesktop.DBus.ObjectManager", names(object_manager::METHODS)),
        ("org.poold1.Manager", names(manager::METHODS)),
        ("org.poold1.Pool", names(pool::METHODS)),
        ("org.poold1.Volume", names(volume_methods::METHODS)),
        ("org.poold1.Job", names(job::METHODS)),
        ("org.poold1.Secret", names(secret::METHODS)),
    ] {
        let interface = Table::get().interface(interface).unwrap();
        let mut declared: Vec<_> =
            interface.methods.iter().map(|method| method.name.as_str()).collect();
        declared.sort_unstable();
        handled.sort_unstable();
        assert_eq!(declared, handled, "{}", interface.name);
    }
    assert_eq!(Table::get().interfaces().len(), 9);
}

fn check_properties<T: Exposed>() -> &'static Interface {
    let interface = Table::get().interface(T::INTERFACE).unwrap();
    let declared: Vec<_> =
        interface.properties.iter().map(|property| property.name.as_str()).collect();
    let exposed: Vec<_> = T::PROPERTIES.iter().map(|property| property.name).collect();
    assert_eq!(declared, exposed, "{}", interface.name);
    interface
}

/// The type that a document gives a property.
fn declared_type(interface: &Interface, property: &str) -> String {
    let start = format!("<property name=\"{property}\" type=\"");
    let (_, rest) = interface.xml.split_once(&start).unwrap();
    rest.split_once('"').unwrap().0.to_owned()
}

#[tokio::test]
async fn properties_are_those_of_the_documents_and_of_their_types() {
    check_properties::<ManagerView>();
    check_properties::<PoolView>();
    check_properties::<VolumeView>();
    check_properties::<job::JobView>();

    let world = World::new();
    let root = world.peer(0).await;
    let pool = world.pool(&root, "images").await;
    let create = (("disk"), 4096u64, Options::from([("format", "raw".into())]));
    let created: (zbus::OwnedObjectPath, zbus::OwnedObjectPath) =
        root.get(&pool, "org.poold1.Pool.CreateVolume", &create).await;
    for (path, interface) in [
        ("/org/poold1", "org.poold1.Manager"),
        (pool.as_str(), "org.poold1.Pool"),
        (created.0.as_str(), "org.poold1.Volume"),
        (created.1.as_str(), "org.poold1.Job"),
    ] {
        let all: HashMap<String, zbus::OwnedVariant> =
            root.get(path, "org.freedesktop.DBus.Properties.GetAll", &interface).await;
        let interface = Table::get().interface(interface).unwrap();
        assert_eq!(all.len(), interface.properties.len());
        for (name, value) in all {
            let found = value.value_signature().to_string();
            assert_eq!(found, declared_type(interface, &name), "{}.{name}", interface.name);
        }
    }
}

#[tokio::test]
async fn every_node_from_the_root_on_introspects_and_names_its_children() {
    let world = World::new();
    let root = world.peer(0).await;
    let pool = world.pool(&root, "images").await;
    let create = ("a disk", 4096u64, Options::new());
    root.call(&pool, "org.poold1.Pool.CreateVolume", &create).await.unwrap();

    let mut waiting = vec!["/".to_owned()];
    let mut seen = Vec::new();
    while let Some(path) = waiting.pop() {
        let text: String =
            root.get(&path, "org.freedesktop.DBus.Introspectable.Introspect", &()).await;
        for child in text.split("<node name=\"").skip(1) {
            let child = child.split_once('"').unwrap().0;
            waiting.push(format!("{}/{child}", path.trim_end_matches('/')));
        }
        seen.push(path);
    }
    let volume = format!("{}/a_20disk", volumes_of(&pool));
    for path in ["/org", "/org/poold1/jobs", "/org/poold1/secrets", &pool, &volume] {
        assert!(seen.iter().any(|seen| seen == path), "{path} in {seen:?}");
    }
}
