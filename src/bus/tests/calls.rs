//! Calls and their answers.

use super::*;

fn name<T>(result: Result<T, (String, String)>) -> String {
    match result {
        Ok(_) => "success".to_owned(),
        Err((name, _)) => name,
    }
}

#[tokio::test]
async fn a_pool_is_defined_filled_and_undefined() {
    let world = World::new();
    let root = world.peer(0).await;
    let pool = world.pool(&root, "images").await;
    assert_eq!(root.property::<String>(&pool, "org.poold1.Pool", "State").await, "active");

    let options = Options::from([("format", "qcow2".into())]);
    let (volume, job): (zbus::OwnedObjectPath, zbus::OwnedObjectPath) =
        root.get(&pool, "org.poold1.Pool.CreateVolume", &("disk.qcow2", 1u64 << 30, options)).await;
    assert_eq!(volume.as_str(), format!("{}/disk_2eqcow2", volumes_of(&pool)));
    assert_eq!(root.property::<u64>(&volume, "org.poold1.Volume", "Capacity").await, 1 << 30);
    assert_eq!(root.property::<String>(&job, "org.poold1.Job", "State").await, "done");

    let path = world.target("images").join("disk.qcow2");
    let found: zbus::OwnedObjectPath = root
        .get(
            "/org/poold1",
            "org.poold1.Manager.LookupVolume",
            &(path.to_str().unwrap(), Options::new()),
        )
        .await;
    assert_eq!(found, volume);

    let none = Options::new();
    root.call(&volume, "org.poold1.Volume.Resize", &(2u64 << 30, &none)).await.unwrap();
    assert_eq!(root.property::<u64>(&volume, "org.poold1.Volume", "Capacity").await, 2 << 30);
    root.call(&volume, "org.poold1.Volume.Delete", &none).await.unwrap();
    assert!(!path.exists());
    assert!(
        name(root.call(&volume, "org.poold1.Volume.Delete", &none).await)
            .ends_with("UnknownObject")
    );
    root.call(&pool, "org.poold1.Pool.Stop", &none).await.unwrap();
    root.call(&pool, "org.poold1.Pool.Undefine", &none).await.unwrap();
    let pools: Vec<zbus::OwnedObjectPath> =
        root.get("/org/poold1", "org.poold1.Manager.ListPools", &none).await;
    assert!(pools.is_empty());
}

#[tokio::test]
async fn what_does_not_exist_is_answered_with_the_standard_errors() {
    let world = World::new();
    let peer = world.peer(1000).await;
    let none = Options::new();
    for (path, what, error) in [
        ("/org/poold1/pools/x", "org.poold1.Pool.Start", "UnknownObject"),
        ("/org/poold2", "org.freedesktop.DBus.Introspectable.Introspect", "UnknownObject"),
        ("/org/poold1", "org.poold1.Pool.Start", "UnknownInterface"),
        ("/org", "org.freedesktop.DBus.Properties.GetAll", "UnknownInterface"),
        ("/org/poold1", "org.poold1.Manager.Nonsense", "UnknownMethod"),
        ("/org/poold1", "org.poold1.Manager.ListPools", "success"),
    ] {
        assert!(name(peer.call(path, what, &none).await).ends_with(error), "{path} {what}");
    }
    let ping = peer.call("/nowhere/at/all", "org.freedesktop.DBus.Peer.Ping", &()).await;
    assert_eq!(name(ping), "success");
    let get = "org.freedesktop.DBus.Properties.Get";
    let set = "org.freedesktop.DBus.Properties.Set";
    let manager = "org.poold1.Manager";
    let value = Variant::from("2");
    let unknown = peer.call("/org/poold1", get, &(manager, "Nonsense")).await;
    assert!(name(unknown).ends_with("UnknownProperty"));
    let read_only = peer.call("/org/poold1", set, &(manager, "Version", &value)).await;
    assert!(name(read_only).ends_with("PropertyReadOnly"));
    let wrong = peer.call("/org/poold1", "org.poold1.Manager.ListPools", &("x", 1u32)).await;
    assert!(name(wrong).ends_with("InvalidArgs"));
}

#[tokio::test]
async fn a_call_without_an_interface_goes_by_its_member() {
    let world = World::new();
    let peer = world.peer(1000).await;
    let reply = peer
        .connection
        .call_method(None::<&str>, "/org/poold1", None::<&str>, "ListPools", &Options::new())
        .await
        .unwrap();
    assert!(reply.body().deserialize::<Vec<zbus::OwnedObjectPath>>().unwrap().is_empty());
}

#[tokio::test]
async fn hostile_names_and_documents_are_refused_by_kind() {
    let world = World::new();
    let root = world.peer(0).await;
    let pool = world.pool(&root, "images").await;
    let long = "x".repeat(300);
    for bad in ["../x", "-rf", "a\nb", "", ".", &long] {
        let create = (bad, 4096u64, Options::new());
        let refused = root.call(&pool, "org.poold1.Pool.CreateVolume", &create).await;
        assert_eq!(name(refused), "org.poold1.Error.InvalidArgument", "{bad:?}");
        let settings = target_setting(&world.target("other"));
        let define = ("dir", bad, settings, Options::new());
        let refused = root.call("/org/poold1", "org.poold1.Manager.DefinePool", &define).await;
        assert_eq!(name(refused), "org.poold1.Error.InvalidArgument", "{bad:?}");
    }
    for (document, error) in [
        ("<pool", "InvalidXml".to_owned()),
        ("<domain/>", "InvalidXml".to_owned()),
        (&"x".repeat((1 << 20) + 1), "InvalidXml".to_owned()),
        (&"x".repeat(2 << 20), "LimitsExceeded".to_owned()),
    ] {
        let define = (document, Options::new());
        let refused = root.call("/org/poold1", "org.poold1.Manager.DefinePoolXml", &define).await;
        assert!(name(refused).ends_with(&error), "{} bytes", document.len());
    }
}

#[tokio::test]
async fn a_peer_that_is_not_root_reads_and_changes_nothing() {
    let world = World::new();
    let root = world.peer(0).await;
    let pool = world.pool(&root, "images").await;
    let peer = world.peer(1000).await;
    let none = Options::new();
    let xml: String = peer.get(&pool, "org.poold1.Pool.GetXml", &none).await;
    assert!(xml.contains("<name>images</name>"));
    for method in ["Stop", "Refresh", "Undefine", "Build", "Delete"] {
        let refused = peer.call(&pool, &format!("org.poold1.Pool.{method}"), &none).await;
        assert_eq!(name(refused), "org.freedesktop.DBus.Error.AccessDenied", "{method}");
    }
    assert_eq!(peer.property::<String>(&pool, "org.poold1.Pool", "State").await, "active");
}

#[tokio::test]
async fn a_volume_is_listed_page_by_page() {
    let world = World::new();
    let root = world.peer(0).await;
    let target = world.target("images");
    std::fs::create_dir_all(&target).unwrap();
    for number in 0..10 {
        std::fs::write(target.join(format!("disk{number}")), "x").unwrap();
    }
    let pool = world.pool(&root, "images").await;
    type Rows = Vec<(zbus::OwnedObjectPath, HashMap<String, zbus::OwnedVariant>)>;
    let (mut after, mut names) = (String::new(), Vec::new());
    loop {
        let options = Options::from([("properties", vec!["Name"].into())]);
        let (rows, next): (Rows, String) =
            root.get(&pool, "org.poold1.Pool.ListVolumes", &(after.as_str(), 4u32, options)).await;
        assert!(rows.len() <= 4);
        for (_, mut properties) in rows {
            names.push(String::try_from(properties.remove("Name").unwrap()).unwrap());
            assert!(properties.is_empty(), "only what was asked for");
        }
        after = next;
        if after.is_empty() {
            break;
        }
    }
    let expected: Vec<_> = (0..10).map(|number| format!("disk{number}")).collect();
    assert_eq!(names, expected);
    let options = Options::from([("properties", vec!["Nmae"].into())]);
    let refused = root.call(&pool, "org.poold1.Pool.ListVolumes", &("", 0u32, options)).await;
    assert!(refused.unwrap_err().1.contains("Nmae"));
}

#[tokio::test]
async fn volumes_are_copied_opened_and_filled() {
    use std::io::{Read, Write};
    let world = World::new();
    let root = world.peer(0).await;
    let pool = world.pool(&root, "images").await;
    let none = Options::new();
    let created: (zbus::OwnedObjectPath, zbus::OwnedObjectPath) =
        root.get(&pool, "org.poold1.Pool.CreateVolume", &("disk", 5u64, &none)).await;
    let volume = created.0.as_str();
    let (reader, mut writer) = std::io::pipe().unwrap();
    writer.write_all(b"hello").unwrap();
    drop(writer);
    let upload = (zbus::Fd::from(&reader), &none);
    let job: zbus::OwnedObjectPath = root.get(volume, "org.poold1.Volume.Upload", &upload).await;
    drop(reader);
    root.call(job.as_str(), "org.poold1.Job.Wait", &none).await.unwrap();
    let clone: (zbus::OwnedObjectPath, zbus::OwnedObjectPath) =
        root.get(volume, "org.poold1.Volume.Clone", &("copy", &none)).await;
    let open: zbus::wire::OwnedFd =
        root.get(clone.0.as_str(), "org.poold1.Volume.Open", &("r", &none)).await;
    let mut content = String::new();
    std::fs::File::from(std::os::fd::OwnedFd::from(open)).read_to_string(&mut content).unwrap();
    assert_eq!(content, "hello");
    let refused = root.call(volume, "org.poold1.Volume.Open", &("rw", &none)).await;
    assert_eq!(name(refused), "org.poold1.Error.InvalidArgument");
    let null = std::fs::File::open("/dev/null").unwrap();
    let refused =
        root.call(volume, "org.poold1.Volume.Upload", &(zbus::Fd::from(&null), &none)).await;
    assert_eq!(name(refused), "org.poold1.Error.InvalidArgument");
    let wrong = Options::from([("algorithm", "rot13".into())]);
    let refused = root.call(volume, "org.poold1.Volume.Wipe", &wrong).await;
    assert_eq!(name(refused), "org.poold1.Error.InvalidArgument");
}

#[tokio::test]
async fn a_secret_is_kept_replaced_and_forgotten() {
    use std::io::Write;
    let world = World::new();
    let mut root = world.peer(0).await;
    root.listen().await;
    let set = async |peer: &Peer, value: &[u8], options: Options<'_>| {
        let (reader, mut writer) = std::io::pipe().unwrap();
        writer.write_all(value).unwrap();
        drop(writer);
        let body = (zbus::Fd::from(&reader), options);
        peer.call("/org/poold1", "org.poold1.Manager.SetSecret", &body).await
    };
    let named = |name: &'static str| Options::from([("usage-name", name.into())]);
    let reply = set(&root, b"one", named("disk")).await.unwrap();
    let path: zbus::OwnedObjectPath = reply.body().deserialize().unwrap();
    root.signal("/org/poold1/secrets", "InterfacesAdded").await;
    let path = path.as_str();
    let usage: String = root.property(path, "org.poold1.Secret", "UsageType").await;
    assert_eq!(usage, "volume");
    let again = set(&root, b"two", named("disk")).await.unwrap();
    let again: zbus::OwnedObjectPath = again.body().deserialize().unwrap();
    assert_eq!(again.as_str(), path);
    let other = "7a7a7a7a-0000-4000-8000-000000000000";
    let conflict = Options::from([("uuid", other.into()), ("usage-name", "disk".into())]);
    assert_eq!(name(set(&root, b"x", conflict).await), "org.poold1.Error.Conflict");
    assert_eq!(name(set(&root, b"", named("disk")).await), "org.poold1.Error.InvalidArgument");
    let large = set(&root, &[1; 64 << 10], named("large")).await;
    assert!(large.is_ok(), "64 KiB are not too much");
    let nobody = world.peer(1000).await;
    let refused = set(&nobody, b"x", named("mine")).await;
    assert_eq!(name(refused), "org.freedesktop.DBus.Error.AccessDenied");
    root.call(path, "org.poold1.Secret.Delete", &Options::new()).await.unwrap();
    root.signal("/org/poold1/secrets", "InterfacesRemoved").await;
    let gone = root.call(path, "org.poold1.Secret.Delete", &Options::new()).await;
    assert_eq!(name(gone), "org.freedesktop.DBus.Error.UnknownObject");
}

#[tokio::test]
async fn validating_changes_nothing() {
    let world = World::new();
    let root = world.peer(0).await;
    let options = Options::from([("validate-only", true.into()), ("start", true.into())]);
    let define = ("dir", "images", target_setting(&world.target("images")), options);
    let paths: (zbus::OwnedObjectPath, zbus::OwnedObjectPath) =
        root.get("/org/poold1", "org.poold1.Manager.DefinePool", &define).await;
    assert_eq!((paths.0.as_str(), paths.1.as_str()), ("/", "/"));
    assert!(world.engine.pools().is_empty());
}

#[tokio::test]
async fn types_without_a_backend_are_shown_as_unavailable() {
    let world = World::new();
    let peer = world.peer(1000).await;
    type Types = HashMap<String, HashMap<String, zbus::OwnedVariant>>;
    let mut types: Types = peer.property("/org/poold1", "org.poold1.Manager", "PoolTypes").await;
    assert_eq!(types.len(), crate::model::PoolType::ALL.len());
    for (name, available) in [("dir", true), ("sheepdog", false)] {
        let row = types.get_mut(name).unwrap();
        assert_eq!(bool::try_from(row.remove("available").unwrap()).unwrap(), available, "{name}");
    }
}

#[tokio::test]
async fn one_caller_cannot_have_more_calls_under_way_than_allowed() {
    let world = World::with(FaceOptions { max_calls_per_caller: 1, ..FaceOptions::default() });
    let authority = Arc::new(FakeAuthority { hangs: true, ..FakeAuthority::default() });
    let mut bus = FakeBus::new(&world, authority, true).await;
    let autostart = "org.poold1.Manager.Autostart";
    bus.send(&world, "/org/poold1", autostart, Flags::empty(), &Options::new());
    let second =
        bus.call(&world, "/org/poold1", "org.poold1.Manager.ListPools", &Options::new()).await;
    assert_eq!(second.unwrap(), "org.freedesktop.DBus.Error.LimitsExceeded");
    let peer = world.peer(1000).await;
    let others = peer.call("/org/poold1", "org.poold1.Manager.ListPools", &Options::new()).await;
    assert_eq!(name(others), "success", "others are answered as before");
}

#[tokio::test]
async fn a_face_is_idle_when_everybody_has_left() {
    let world = World::new();
    assert!(world.face.is_idle());
    let peer = world.peer(0).await;
    peer.call("/org/poold1", "org.freedesktop.DBus.Peer.Ping", &()).await.unwrap();
    assert!(!world.face.is_idle());
    let Peer { connection, attending, signals } = peer;
    drop(signals);
    connection.close().await.unwrap();
    attending.await.unwrap().unwrap();
    world.face.core.clients.quiet().await;
    assert!(world.face.is_idle());
}

#[tokio::test]
async fn a_defect_ends_one_call_and_not_the_service() {
    let world = World::new();
    let authority = Arc::new(FakeAuthority { breaks: true, ..FakeAuthority::default() });
    let mut bus = FakeBus::new(&world, authority, true).await;
    let none = Options::new();
    let broken = bus.call(&world, "/org/poold1", "org.poold1.Manager.Autostart", &none).await;
    assert_eq!(broken.unwrap(), "org.freedesktop.DBus.Error.Failed");
    assert_eq!(bus.call(&world, "/org/poold1", "org.poold1.Manager.ListPools", &none).await, None);
}
