//! Questions: what is asked, how often, and what becomes of the answer.

use super::super::polkit::Polkit;
use super::*;
use crate::auth::{Action, Subject};
use std::time::Duration;

/// The details of a question by key.
fn details(request: &Request) -> HashMap<&'static str, String> {
    request.details.iter().cloned().collect()
}

#[tokio::test]
async fn one_request_asks_once_for_its_most_demanding_action_and_names_its_objects() {
    let world = World::new();
    let root = world.peer(0).await;
    let pool = world.pool(&root, "images").await;
    let create = ("disk", 4096u64, Options::new());
    let (volume, _): (zbus::OwnedObjectPath, zbus::OwnedObjectPath) =
        root.get(&pool, "org.poold1.Pool.CreateVolume", &create).await;
    let authority = Arc::new(FakeAuthority { refuses: true, ..FakeAuthority::default() });
    let mut bus = FakeBus::new(&world, authority.clone(), true).await;
    let target = world.target("images").to_str().unwrap().to_owned();
    let forced = Options::from([("force", true.into())]);
    let unforced = Options::from([("force", false.into())]);
    let manager = "/org/poold1";
    let backed = Options::from([("backing-path", "/x".into())]);
    let built = Options::from([("build", "yes".into())]);
    let not_built = Options::from([("build", "no".into())]);
    let define = |options| ("dir", "new", target_setting(&world.target("new")), options);

    let denied = Some("org.freedesktop.DBus.Error.AccessDenied".to_owned());
    let delete = "org.poold1.Volume.Delete";
    assert_eq!(bus.call(&world, &volume, delete, &unforced).await, denied);
    assert_eq!(bus.call(&world, &volume, delete, &forced).await, denied);
    let create = "org.poold1.Pool.CreateVolume";
    assert_eq!(bus.call(&world, &pool, create, &("new", 1u64, backed)).await, denied);
    let define_pool = "org.poold1.Manager.DefinePool";
    assert_eq!(bus.call(&world, manager, define_pool, &define(not_built)).await, denied);
    assert_eq!(bus.call(&world, manager, define_pool, &define(built)).await, denied);
    let open = "org.poold1.Volume.Open";
    assert_eq!(bus.call(&world, &volume, open, &("w", Options::new())).await, denied);
    assert_eq!(bus.call(&world, &pool, "org.poold1.Pool.GetXml", &Options::new()).await, None);

    let asked = authority.asked.lock().unwrap();
    let actions: Vec<_> = asked.iter().map(|request| request.action).collect();
    assert_eq!(
        actions,
        [
            Action::DeleteVolume,
            Action::Force,
            Action::ReadVolume,
            Action::DefinePool,
            Action::BuildPool,
            Action::WriteVolume
        ]
    );
    let subject = Subject { uid: 1000, bus_name: Some(":1.7".to_owned()) };
    assert!(asked.iter().all(|request| request.subject == subject && !request.interactive));
    let of_delete = details(&asked[0]);
    assert_eq!(of_delete["pool"], "images");
    assert_eq!(of_delete["pool.type"], "dir");
    assert_eq!(of_delete["pool.target"], target);
    assert_eq!(of_delete["volume"], "disk");
    assert_eq!(of_delete["path"], format!("{target}/disk"));
    assert_eq!(details(&asked[2])["volume"], "new");
    assert_eq!(details(&asked[3])["pool.target"], world.target("new").to_str().unwrap());
    assert!(world.target("images").join("disk").exists());
}

#[tokio::test]
async fn uncommon_mount_options_need_more_than_defining() {
    let world = World::new();
    let authority = Arc::new(FakeAuthority { refuses: true, ..FakeAuthority::default() });
    let mut bus = FakeBus::new(&world, authority.clone(), true).await;
    for (options, action) in [("soft", Action::DefinePool), ("context=x", Action::CustomOptions)] {
        let settings = Options::from([
            ("target", "/mnt/share".into()),
            ("hosts", vec!["server"].into()),
            ("dir", "/export".into()),
            ("mount-options", vec![options].into()),
        ]);
        let define = ("netfs", "share", settings, Options::new());
        bus.call(&world, "/org/poold1", "org.poold1.Manager.DefinePool", &define).await.unwrap();
        assert_eq!(authority.asked.lock().unwrap().last().unwrap().action, action);
    }
}

#[tokio::test]
async fn who_may_define_in_one_place_does_not_take_over_a_pool_that_is_in_another() {
    let world = World::new();
    let root = world.peer(0).await;
    world.pool(&root, "images").await;
    let uuid = world.engine.pools()[0].uuid().to_string();
    let authority = Arc::new(FakeAuthority { refuses: true, ..FakeAuthority::default() });
    let mut bus = FakeBus::new(&world, authority.clone(), true).await;
    for (name, uuid, target, shown) in [
        ("images", Some(&uuid), "images", true),
        ("images", Some(&uuid), "mine", false),
        ("images", None, "mine", false),
        ("mine", Some(&uuid), "mine", false),
        ("mine", None, "mine", true),
    ] {
        let mut settings = target_setting(&world.target(target));
        if let Some(uuid) = uuid {
            settings.insert("uuid", uuid.as_str().into());
        }
        let define = ("dir", name, settings, Options::new());
        bus.call(&world, "/org/poold1", "org.poold1.Manager.DefinePool", &define).await.unwrap();
        let asked = authority.asked.lock().unwrap();
        let details = details(asked.last().unwrap());
        assert_eq!(details.contains_key("pool.target"), shown, "{name} {uuid:?} {target}");
    }
}

#[tokio::test]
async fn a_dialog_is_shown_only_to_who_allows_it() {
    let world = World::new();
    let authority = Arc::new(FakeAuthority::default());
    let mut bus = FakeBus::new(&world, authority.clone(), true).await;
    let autostart = "org.poold1.Manager.Autostart";
    let quiet = Options::from([("auth.no_user_interaction", true.into())]);
    for (flags, options) in [
        (Flags::empty(), Options::new()),
        (Flags::ALLOW_INTERACTIVE_AUTH, Options::new()),
        (Flags::ALLOW_INTERACTIVE_AUTH, quiet),
    ] {
        bus.send(&world, "/org/poold1", autostart, flags, &options);
        assert_eq!(bus.answer().await, None);
    }
    let asked = authority.asked.lock().unwrap();
    let interactive: Vec<_> = asked.iter().map(|request| request.interactive).collect();
    assert_eq!(interactive, [false, true, false]);
}

#[tokio::test]
async fn a_yes_for_a_caller_who_has_left_is_a_no() {
    let world = World::new();
    let root = world.peer(0).await;
    let pool = world.pool(&root, "images").await;
    let mut bus = FakeBus::new(&world, Arc::new(FakeAuthority::default()), false).await;
    let stop = bus.call(&world, &pool, "org.poold1.Pool.Stop", &Options::new()).await;
    assert_eq!(stop.unwrap(), "org.freedesktop.DBus.Error.AccessDenied");
    assert_eq!(root.property::<String>(&pool, "org.poold1.Pool", "State").await, "active");
}

#[tokio::test]
async fn a_frozen_authority_holds_up_nobody_but_who_asked_and_asks_are_counted() {
    let options = FaceOptions { max_authorisations_per_uid: 1, ..FaceOptions::default() };
    let world = World::with(options);
    let authority = Arc::new(FakeAuthority { hangs: true, ..FakeAuthority::default() });
    let mut bus = FakeBus::new(&world, authority.clone(), true).await;
    let autostart = "org.poold1.Manager.Autostart";
    let list = "org.poold1.Manager.ListPools";
    let none = Options::new();
    bus.send(&world, "/org/poold1", autostart, Flags::empty(), &none);
    while authority.asked.lock().unwrap().is_empty() {
        tokio::task::yield_now().await;
    }
    assert_eq!(bus.call(&world, "/org/poold1", list, &none).await, None);
    let second = bus.call(&world, "/org/poold1", autostart, &none).await;
    assert_eq!(second.unwrap(), "org.freedesktop.DBus.Error.LimitsExceeded");
    assert!(!world.face.is_idle());

    // It leaves: the question is withdrawn, and nothing is under way any more.
    world.face.core.clients.vanished(":1.7");
    world.face.core.clients.quiet().await;
    assert!(world.face.is_idle());
}

/// polkitd as the test plays it: the questions it gets, and the way to answer them.
async fn polkitd() -> (Polkit, MessageStream, Connection) {
    let (near, far) = pair().await;
    (Polkit::new(near), MessageStream::from(&far), far)
}

fn question(interactive: bool) -> Request {
    Request {
        action: Action::DeleteVolume,
        subject: Subject { uid: 1000, bus_name: Some(":1.7".to_owned()) },
        interactive,
        details: vec![("pool", "images".to_owned())],
    }
}

#[tokio::test]
async fn polkit_is_asked_about_the_bus_name_and_its_answer_holds() {
    type Body = (
        (String, HashMap<String, zbus::OwnedVariant>),
        String,
        HashMap<String, String>,
        u32,
        String,
    );
    let (polkit, mut asked, polkitd) = polkitd().await;
    for (interactive, answer, expected) in [
        (false, (true, false), None),
        (false, (false, true), Some(ErrorKind::InteractiveAuthorizationRequired)),
        (true, (false, true), Some(ErrorKind::AccessDenied)),
        (false, (false, false), Some(ErrorKind::AccessDenied)),
    ] {
        let request = question(interactive);
        let answering = async {
            let message = asked.next().await.unwrap().unwrap();
            let (subject, action, details, flags, _): Body = message.body().deserialize().unwrap();
            assert_eq!(subject.0, "system-bus-name");
            assert_eq!(String::try_from(subject.1["name"].try_clone().unwrap()).unwrap(), ":1.7");
            assert_eq!(action, "org.poold1.delete-volume");
            assert_eq!(details["pool"], "images");
            assert_eq!(flags, u32::from(interactive));
            let none = HashMap::<String, String>::new();
            polkitd.reply(&message.header(), &((answer.0, answer.1, none),)).await.unwrap();
        };
        let (result, ()) = tokio::join!(polkit.check(&request), answering);
        assert_eq!(result.err().map(|error| error.kind()), expected);
    }
}

#[tokio::test]
async fn any_failure_of_polkit_is_a_no() {
    let (polkit, mut asked, polkitd) = polkitd().await;
    let request = question(false);
    for (error, said) in [
        ("org.freedesktop.DBus.Error.ServiceUnknown", "polkit is not there"),
        ("org.freedesktop.systemd1.NoSuchUnit", "polkit is not there"),
        ("org.freedesktop.PolicyKit1.Error.Failed", "polkit failed: why"),
    ] {
        let answering = async {
            let message = asked.next().await.unwrap().unwrap();
            polkitd.reply_error(&message.header(), error, &"why").await.unwrap();
        };
        let (result, ()) = tokio::join!(polkit.check(&request), answering);
        let refused = result.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::AccessDenied, "{error}");
        assert!(refused.message().contains(said), "{refused}");
    }
    let answering = async {
        let message = asked.next().await.unwrap().unwrap();
        polkitd.reply(&message.header(), &"nonsense").await.unwrap();
    };
    let (result, ()) = tokio::join!(polkit.check(&request), answering);
    assert_eq!(result.unwrap_err().kind(), ErrorKind::AccessDenied);
    let nameless = Request { subject: Subject { uid: 1000, bus_name: None }, ..question(false) };
    assert_eq!(polkit.check(&nameless).await.unwrap_err().kind(), ErrorKind::AccessDenied);
}

#[tokio::test]
async fn a_question_whose_asker_leaves_is_withdrawn() {
    let (polkit, mut asked, _polkitd) = polkitd().await;
    let request = question(true);
    {
        let checking = polkit.check(&request);
        tokio::select! {
            _ = checking => panic!("nobody answered"),
            message = asked.next() => drop(message.unwrap().unwrap()),
        }
    }
    let withdrawn = asked.next().await.unwrap().unwrap();
    assert_eq!(withdrawn.header().member().unwrap().as_str(), "CancelCheckAuthorization");
}

#[tokio::test(start_paused = true)]
async fn polkit_that_never_answers_is_a_no_in_time() {
    let (polkit, mut asked, _polkitd) = polkitd().await;
    let request = question(false);
    let started = tokio::time::Instant::now();
    let refused = polkit.check(&request).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::AccessDenied);
    assert!(started.elapsed() < Duration::from_secs(25), "before the caller's own time-out");
    drop(asked.next().await);
}
