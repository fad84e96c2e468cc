//! Definitions that cannot stand beside each other.

use super::*;
use crate::model::{HostAddress, SourceDevice};

async fn conflict(world: &World, def: PoolDef) -> Error {
    let checked = world.engine.check_definition(&def).unwrap_err();
    let options = DefineOptions::default();
    let error = world.engine.define_pool(def, options, &ROOT).await.err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    assert_eq!(checked.message(), error.message());
    error
}

#[tokio::test]
async fn the_same_name_uuid_or_target_is_refused_and_the_other_pool_named() {
    let world = World::new();
    world.defined("first").await;
    let mut name = pool_def("first");
    name.uuid = Uuid::new_v4();
    name.target.as_mut().unwrap().path = "/srv/x".to_owned();
    let mut uuid = pool_def("second");
    uuid.uuid = pool_def("first").uuid;
    let mut target = pool_def("second");
    target.target.as_mut().unwrap().path = "/srv/first".to_owned();
    for def in [name, uuid, target] {
        let error = conflict(&world, def).await;
        assert!(error.message().contains("pool first"), "{error}");
    }
    assert_eq!(world.engine.pools().len(), 1);
}

#[tokio::test]
async fn the_same_source_is_refused_as_libvirt_does() {
    let world = World::new();
    let on = |name: &str, pool_type, host: &str, dir: Option<&str>, device: Option<&str>| {
        let mut def = pool_def(name);
        def.pool_type = pool_type;
        def.source.hosts = vec![HostAddress { name: host.to_owned(), port: None }];
        def.source.dir = dir.map(str::to_owned);
        def.source.format = Some("auto".to_owned());
        let devices = device.into_iter().map(|path| SourceDevice {
            path: path.to_owned(),
            part_separator: None,
            free_extents: Vec::new(),
        });
        def.source.devices = devices.collect();
        if pool_type == PoolType::Iscsi {
            // Not of its own: the names of all devices are there.
            def.target.as_mut().unwrap().path = "/dev/disk/by-path".to_owned();
        }
        def
    };
    let options = DefineOptions::default();
    for def in [
        on("nfs", PoolType::NetFs, "server", Some("/a"), None),
        on("fs", PoolType::Fs, "", None, Some("/dev/sdx1")),
        on("iscsi", PoolType::Iscsi, "portal", None, Some("iqn.2000-01.x:y")),
    ] {
        world.engine.define_pool(def, options, &ROOT).await.unwrap();
    }
    for (def, other) in [
        (on("nfs2", PoolType::NetFs, "server", Some("/a"), None), "nfs"),
        (on("lvm", PoolType::Logical, "", None, Some("/dev/sdx1")), "fs"),
        (on("iscsi2", PoolType::Iscsi, "portal", None, Some("iqn.2000-01.x:y")), "iscsi"),
    ] {
        let error = conflict(&world, def).await;
        assert!(error.message().contains(&format!("pool {other} ")), "{error}");
    }
    for def in [
        on("nfs3", PoolType::NetFs, "server", Some("/b"), None),
        on("iscsi3", PoolType::Iscsi, "another", None, Some("iqn.2000-01.x:y")),
    ] {
        world.engine.define_pool(def, options, &ROOT).await.unwrap();
    }
}

#[tokio::test]
async fn of_two_that_define_at_once_one_wins() {
    let world = World::new();
    let mut other = pool_def("second");
    other.target.as_mut().unwrap().path = "/srv/first".to_owned();
    let options = DefineOptions::default();
    let (one, two) = tokio::join!(
        world.engine.define_pool(pool_def("first"), options, &ROOT),
        world.engine.define_pool(other, options, &ROOT),
    );
    assert_eq!([one.is_ok(), two.is_ok()].iter().filter(|ok| **ok).count(), 1);
    assert_eq!(world.engine.pools().len(), 1);
}
