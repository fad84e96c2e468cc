//! What listeners hear.

use super::*;

type Interfaces = HashMap<String, HashMap<String, zbus::OwnedVariant>>;

#[tokio::test]
async fn a_new_volume_is_announced_before_the_call_that_made_it_returns() {
    let world = World::new();
    let mut root = world.peer(0).await;
    let pool = world.pool(&root, "images").await;
    root.listen().await;
    let create = ("disk", 4096u64, Options::new());
    root.call(&pool, "org.poold1.Pool.CreateVolume", &create).await.unwrap();

    let (mut announced, mut returned) = (false, 0);
    while returned < 2 {
        let message = root.signals.next().await.unwrap().unwrap();
        let header = message.header();
        match message.message_type() {
            Type::Signal if header.path().unwrap().as_str() == volumes_of(&pool) => {
                let (path, mut interfaces): (zbus::OwnedObjectPath, Interfaces) =
                    message.body().deserialize().unwrap();
                assert!(path.as_str().ends_with("/disk"));
                let mut volume = interfaces.remove("org.poold1.Volume").unwrap();
                let capacity = volume.remove("Capacity").unwrap();
                assert_eq!(u64::try_from(capacity).unwrap(), 4096);
                announced = true;
            }
            // DefinePool, then CreateVolume.
            Type::MethodReturn if message.body().signature().to_string_no_parens() == "oo" => {
                returned += 1;
            }
            _ => {}
        }
    }
    assert!(announced, "the answer came first");
}

#[tokio::test]
async fn a_dropped_file_is_announced_without_a_refresh() {
    let world = World::new();
    let mut root = world.peer(0).await;
    let pool = world.pool(&root, "images").await;
    root.listen().await;
    std::fs::write(world.target("images").join("dropped"), "data").unwrap();
    let added = root.signal(&volumes_of(&pool), "InterfacesAdded").await;
    let (path, _): (zbus::OwnedObjectPath, Interfaces) = added.body().deserialize().unwrap();
    assert!(path.as_str().ends_with("/dropped"));
    std::fs::remove_file(world.target("images").join("dropped")).unwrap();
    let removed = root.signal(&volumes_of(&pool), "InterfacesRemoved").await;
    let (gone, interfaces): (zbus::OwnedObjectPath, Vec<String>) =
        removed.body().deserialize().unwrap();
    assert_eq!((gone, interfaces), (path, vec!["org.poold1.Volume".to_owned()]));
}

#[tokio::test]
async fn a_pool_comes_changes_and_goes() {
    let world = World::new();
    let mut root = world.peer(0).await;
    root.listen().await;
    let pool = world.pool(&root, "images").await;
    let added = root.signal("/org/poold1/pools", "InterfacesAdded").await;
    let (path, _): (zbus::OwnedObjectPath, Interfaces) = added.body().deserialize().unwrap();
    assert_eq!(path.as_str(), pool);
    root.call(&pool, "org.poold1.Pool.SetAutostart", &(true, Options::new())).await.unwrap();
    loop {
        let changed = root.signal(&pool, "PropertiesChanged").await;
        let (interface, changed, invalidated): (
            String,
            HashMap<String, zbus::OwnedVariant>,
            Vec<String>,
        ) = changed.body().deserialize().unwrap();
        assert_eq!((interface.as_str(), invalidated.len()), ("org.poold1.Pool", 0));
        if changed.contains_key("Autostart") {
            break;
        }
    }
    root.call(&pool, "org.poold1.Pool.Stop", &Options::new()).await.unwrap();
    root.call(&pool, "org.poold1.Pool.Undefine", &Options::new()).await.unwrap();
    let removed = root.signal("/org/poold1/pools", "InterfacesRemoved").await;
    let (gone, _): (zbus::OwnedObjectPath, Vec<String>) = removed.body().deserialize().unwrap();
    assert_eq!(gone.as_str(), pool);
}

#[tokio::test]
async fn a_burst_is_announced_only_to_who_has_listed_the_volumes() {
    let world = World::new();
    let mut root = world.peer(0).await;
    let pool = world.pool(&root, "images").await;
    root.listen().await;
    let stop = "org.poold1.Pool.Stop";
    let start = "org.poold1.Pool.Start";
    let none = Options::new();
    root.call(&pool, stop, &none).await.unwrap();
    for number in 0..300 {
        std::fs::write(world.target("images").join(format!("disk{number}")), "x").unwrap();
    }

    root.call(&pool, start, &none).await.unwrap();
    root.call(&pool, stop, &none).await.unwrap();
    let list = "org.freedesktop.DBus.ObjectManager.GetManagedObjects";
    root.call(&volumes_of(&pool), list, &()).await.unwrap();
    root.call(&pool, start, &none).await.unwrap();

    // What the first start found was not announced, what the second found was, all of it, before
    // the call returned.
    let mut added = 0;
    let mut returned = 0;
    while returned < 7 {
        let message = root.signals.next().await.unwrap().unwrap();
        match message.message_type() {
            Type::MethodReturn => returned += 1,
            Type::Signal => {
                let header = message.header();
                let of_volumes = header.path().unwrap().as_str() == volumes_of(&pool);
                let is_addition = header.member().unwrap().as_str() == "InterfacesAdded";
                if of_volumes && is_addition {
                    // DefinePool, GetManagedObjects, Stop, Start, Stop, GetManagedObjects, Start.
                    assert_eq!(returned, 6, "a burst that nobody had asked for");
                    added += 1;
                }
            }
            _ => {}
        }
    }
    assert_eq!(added, 300);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_does_not_read_is_disconnected_and_holds_up_nobody() {
    let world = World::new();
    let root = world.peer(0).await;
    let pool = world.pool(&root, "images").await;
    let deaf = world.deaf_peer().await;
    let list = "org.freedesktop.DBus.ObjectManager.GetManagedObjects";
    deaf.call(&volumes_of(&pool), list, &()).await.unwrap();
    for number in 0..6000 {
        std::fs::write(world.target("images").join(format!("disk{number}")), "x").unwrap();
    }
    root.call(&pool, "org.poold1.Pool.Refresh", &Options::new()).await.unwrap();
    deaf.attending.await.unwrap().unwrap();
    assert_eq!(root.property::<String>(&pool, "org.poold1.Pool", "State").await, "active");
}
