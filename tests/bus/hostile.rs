//! Arguments of somebody who means harm or cannot type. The daemon answers each with a typed error and goes on.

use super::support::call::{Answer, Ask, Method, call};
use super::support::caller::Caller;
use super::support::interfaces::methods;
use super::support::world::{World, none, volume_names, with};
use anyhow::{Context, Result, ensure};
use poold::model::ErrorKind;
use std::collections::HashMap;
use zbus::Variant;

pub async fn wrong_signatures_are_refused() -> Result<()> {
    let world = World::start().await?;
    let images = world.active_pool("images").await?;
    let (volume, _) = images.create_volume("disk.raw", 1 << 20, &none()).await?;
    let job = images.refresh(&none()).await?;
    let poold = world.poold().await?;
    for method in methods()? {
        let path = match method.interface.as_str() {
            "org.poold1.Manager" => "/org/poold1",
            "org.poold1.Pool" => images.inner().path().as_str(),
            "org.poold1.Volume" => volume.as_str(),
            "org.poold1.Job" => job.as_str(),
            _ => continue,
        };
        let raw = Method { path, interface: &method.interface, member: &method.name };
        // Nothing, something else, one too many, and options whose values are not variants.
        let answers = [
            call(&world.root, raw, &(), Ask::Never).await?,
            call(&world.root, raw, &(0.5_f64, vec![(1_u8, "x")]), Ask::Never).await?,
            call(&world.root, raw, &("a", "b", "c", none(), none(), "d"), Ask::Never).await?,
            call(&world.root, raw, &(HashMap::from([("wait", 1_u64)]),), Ask::Never).await?,
        ];
        for answer in answers {
            let refused = answer.error() == "org.freedesktop.DBus.Error.InvalidArgs";
            ensure!(refused, "{}: {answer:?}", method.name);
        }
    }
    ensure!(world.poold().await? == poold, "poold died of it");
    Ok(())
}

pub async fn odd_documents_are_refused() -> Result<()> {
    let world = World::start().await?;
    let images = world.active_pool("images").await?;
    let poold = world.poold().await?;
    let deep = "<a>".repeat(500_000);
    let less_deep = "<a>".repeat(300_000);
    let padded = format!("<pool type='dir'><name>big</name>{}</pool>", " ".repeat(1 << 20));
    let documents = [
        ("", ErrorKind::InvalidXml),
        ("<pool", ErrorKind::InvalidXml),
        ("<volume/>", ErrorKind::InvalidXml),
        ("<pool type='dir'/><pool type='dir'/>", ErrorKind::InvalidXml),
        (
            "<!DOCTYPE pool [<!ENTITY a 'b'>]><pool type='dir'><name>&a;</name></pool>",
            ErrorKind::InvalidXml,
        ),
        ("<pool type='nosuch'><name>x</name></pool>", ErrorKind::InvalidXml),
        (
            "<pool type='dir'><name>../x</name><target><path>/tmp/x</path></target></pool>",
            ErrorKind::InvalidXml,
        ),
        (&padded, ErrorKind::InvalidXml),
        (&deep, ErrorKind::LimitsExceeded),
        (&less_deep, ErrorKind::InvalidXml),
    ];
    let nobody = Caller::nobody(&world).await?;
    for (document, kind) in documents {
        let shown: String = document.chars().take(60).collect();
        let error = world
            .manager()
            .await?
            .define_pool_xml(document, &none())
            .await
            .err()
            .with_context(|| format!("{shown} became a pool"))?;
        ensure!(error.kind() == kind, "{shown}: {:?} {error}", error.kind());
        // Nobody gets no further with it.
        let theirs = super::support::world::manager(&nobody.connection).await?;
        ensure!(
            theirs.define_pool_xml(document, &none()).await.is_err(),
            "{shown} became nobody's pool"
        );
        ensure!(
            images.create_volume_xml(document, &none()).await.is_err(),
            "{shown} became a volume"
        );
    }
    ensure!(world.poold().await? == poold, "poold died of it");
    ensure!(world.states().await?.len() == 1 && volume_names(&images).await?.is_empty());
    Ok(())
}

pub async fn odd_names_are_refused() -> Result<()> {
    let world = World::start().await?;
    let images = world.active_pool("images").await?;
    let manager = world.manager().await?;
    let (long, longest) = ("x".repeat(300), "x".repeat(255));
    let names = [
        "",
        ".",
        "..",
        "/",
        "../x",
        "a/b",
        "/etc/passwd",
        "-rf",
        "--help",
        "a\nb",
        "a\u{1}b",
        "a\u{7f}b",
        "\r",
        &long,
        "é\u{85}",
    ];
    for name in names {
        let target = world.pools().join("odd").to_string_lossy().into_owned();
        let settings = with("target", target);
        let error = images.create_volume(name, 1 << 20, &none()).await.err();
        let error = error.with_context(|| format!("{name:?} became a volume"))?;
        ensure!(
            error.kind() == ErrorKind::InvalidArgument,
            "volume {name:?}: {:?} {error}",
            error.kind()
        );
        let error = manager.define_pool("dir", name, &settings, &none()).await.err();
        let error = error.with_context(|| format!("{name:?} became a pool"))?;
        ensure!(
            error.kind() == ErrorKind::InvalidArgument,
            "pool {name:?}: {:?} {error}",
            error.kind()
        );
        ensure!(manager.lookup_pool(name, &none()).await.is_err());
        ensure!(images.lookup_volume(name, &none()).await.is_err());
    }
    // Odd, but names.
    for name in ["a b", "é", "$(reboot)", "a;b", "*", "a\\b", &longest] {
        images.create_volume(name, 1 << 16, &none()).await.with_context(|| format!("{name:?}"))?;
        let volume = world.volume(&images.lookup_volume(name, &none()).await?).await?;
        ensure!(volume.name().await? == name);
        volume.delete(&none()).await?;
    }
    // What is found is not ours to name: it is listed when it can be, counted when it cannot.
    let directory = world.pools().join("images");
    std::fs::write(directory.join("-rf"), "")?;
    std::fs::write(directory.join("line\nbreak"), "")?;
    images.refresh(&none()).await?;
    ensure!(volume_names(&images).await? == ["-rf"]);
    ensure!(images.skipped_entries().await? == 1);
    let found = world.volume(&images.lookup_volume("-rf", &none()).await?).await?;
    found.delete(&none()).await?;
    ensure!(!directory.join("-rf").exists());
    Ok(())
}

pub async fn unknown_options_and_objects_are_named() -> Result<()> {
    let world = World::start().await?;
    let images = world.active_pool("images").await?;
    let pool = images.inner().path().to_string();
    let unknown = images.refresh(&with("colour", "red")).await.err().context("accepted")?;
    ensure!(
        unknown.kind() == ErrorKind::InvalidArgument && unknown.message().contains("colour"),
        "{unknown}"
    );
    let wrong = images.refresh(&with("wait", "long")).await.err().context("accepted")?;
    ensure!(
        wrong.kind() == ErrorKind::InvalidArgument && wrong.message().contains("wait"),
        "{wrong}"
    );
    let huge = images.create_volume("x", u64::MAX, &none()).await.err().context("accepted")?;
    ensure!(
        matches!(huge.kind(), ErrorKind::InvalidArgument | ErrorKind::NoSpace),
        "{:?} {huge}",
        huge.kind()
    );

    let error = async |path: &str, interface: &str, member: &str| -> Result<String> {
        let method = Method { path, interface, member };
        let answer =
            call(&world.root, method, &(HashMap::<String, Variant<'_>>::new(),), Ask::Never)
                .await?;
        Ok(match answer {
            Answer::Error { name, .. } => name.replace("org.freedesktop.DBus.Error.", ""),
            Answer::Reply(_) => String::new(),
        })
    };
    let pool_interface = "org.poold1.Pool";
    let checks = [
        (pool.as_str(), pool_interface, "Nosuch", "UnknownMethod"),
        (pool.as_str(), "org.poold1.Nosuch", "Start", "UnknownInterface"),
        (
            "/org/poold1/pools/00000000000000000000000000000000",
            pool_interface,
            "Start",
            "UnknownObject",
        ),
        ("/org/poold1/pools/x_y", pool_interface, "Start", "UnknownObject"),
        ("/org/poold1/volumes/x/y/z", "org.poold1.Volume", "Delete", "UnknownObject"),
        ("/org/poold1/jobs/99999999999999999999999", "org.poold1.Job", "Cancel", "UnknownObject"),
        ("/", pool_interface, "Start", "UnknownObject"),
        // Without an interface a call goes by its member.
        (pool.as_str(), "", "Refresh", ""),
        (pool.as_str(), "org.freedesktop.DBus.Peer", "Nosuch", "UnknownMethod"),
    ];
    for (path, interface, member, wanted) in checks {
        let found = error(path, interface, member).await?;
        let fits = found == wanted
            // Where nothing is, there is no such interface either.
            || (wanted == "UnknownObject" && matches!(found.as_str(), "UnknownInterface" | "UnknownMethod") && path == "/");
        ensure!(fits, "{path} {interface} {member}: {found}, not {wanted}");
    }
    Ok(())
}

pub async fn system_directories_are_no_targets() -> Result<()> {
    let world = World::start().await?;
    let manager = world.manager().await?;
    let link = world.pools().join("link");
    std::os::unix::fs::symlink("/etc", &link)?;
    let link = link.to_string_lossy().into_owned();
    for target in [
        "/",
        "/etc",
        "/usr",
        "/boot",
        "/root",
        "/proc",
        "/dev",
        "/run",
        "/var",
        "/etc/",
        "//etc",
        "/tmp/../etc",
        "relative",
        "",
    ] {
        let defined =
            manager.define_pool("dir", "bad", &with("target", target), &with("start", true)).await;
        ensure!(defined.is_err(), "{target:?} became a pool");
    }
    // A link to one may only be seen when it is opened.
    let defined =
        manager.define_pool("dir", "bad", &with("target", link), &with("start", true)).await;
    ensure!(defined.is_err(), "a link to /etc became an active pool");
    ensure!(!world.states().await?.values().any(|state| state == "active"));
    Ok(())
}
