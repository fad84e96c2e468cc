//! How poold comes, goes and comes back.

use super::support::caller::{Caller, NOBODY};
use super::support::world::{POOLD, World, eventually, manager, none, pool, volume_names, with};
use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::Signal;
use poold::model::ErrorKind;
use std::process::{Command, Stdio};

pub async fn the_first_call_to_the_name_starts_poold() -> Result<()> {
    let world = World::start().await?;
    ensure!(world.owner("org.poold1").await?.is_none(), "it ran before anybody called");
    let version = world.manager().await?.version().await?;
    ensure!(version == env!("CARGO_PKG_VERSION"), "Version is {version}");
    ensure!(world.owner("org.poold1").await?.is_some());
    Ok(())
}

pub async fn a_service_that_is_killed_comes_back_with_everything() -> Result<()> {
    let world = World::start().await?;
    let images = world.active_pool("images").await?;
    images.create_volume("a.raw", 1 << 20, &none()).await?;
    images.create_volume("b.qcow2", 1 << 30, &with("format", "qcow2")).await?;
    let other = world.manager().await?;
    other.define_pool_xml(&world.pool_xml("idle"), &none()).await?;
    // Without what changes with the disk that it is on.
    let definition = async || -> Result<String> {
        let xml = images.get_xml(&none()).await?;
        Ok(xml.lines().filter(|line| !line.contains("unit='bytes'")).collect())
    };
    let before = (world.states().await?, definition().await?, images.uuid().await?);
    for signal in [Signal::SIGKILL, Signal::SIGTERM] {
        world.end(signal).await?;
        ensure!(volume_names(&images).await? == ["a.raw", "b.qcow2"], "volumes after {signal}");
        let after = (world.states().await?, definition().await?, images.uuid().await?);
        ensure!(before == after, "after {signal}: {before:?} became {after:?}");
    }
    let volume = world.volume(&images.lookup_volume("b.qcow2", &none()).await?).await?;
    ensure!(volume.format_source().await? == "declared", "the declared format was forgotten");
    Ok(())
}

pub async fn the_first_connection_to_the_socket_starts_poold() -> Result<()> {
    let world = World::start().await?;
    let socket = world.data("run/poold/bus");
    std::fs::create_dir_all(socket.parent().context("no parent")?)?;
    let mut listener = Command::new("systemd-socket-activate")
        .arg("--listen")
        .arg(&socket)
        .args([POOLD, "--address", world.address(), "--root"])
        .arg(world.data(""))
        .stderr(Stdio::null())
        .spawn()
        .context("systemd-socket-activate")?;
    let outcome = async {
        eventually("somebody listens", async || Ok(socket.exists())).await?;
        std::fs::set_permissions(&socket, std::os::unix::fs::PermissionsExt::from_mode(0o666))?;
        ensure!(world.owner("org.poold1").await?.is_none(), "it ran before anybody connected");
        let path = socket.to_string_lossy();
        let root = Caller::on_socket(&path, 0).await?;
        let theirs = manager(&root.connection).await?;
        let (images, _) = theirs.define_pool_xml(&world.pool_xml("images"), &none()).await?;
        // What root defined on the socket is on the bus, and nobody may read it there and here.
        ensure!(world.manager().await?.lookup_pool("images", &none()).await? == images);
        let nobody = Caller::on_socket(&path, NOBODY).await?;
        let name = pool(&nobody.connection, &images).await?.name().await?;
        ensure!(name == "images", "nobody reads {name:?}");
        let refused =
            manager(&nobody.connection).await?.define_pool_xml(&world.pool_xml("x"), &none()).await;
        match refused {
            Err(error) if error.kind() == ErrorKind::AccessDenied => Ok(()),
            other => bail!("nobody defined a pool on the socket: {other:?}"),
        }
    }
    .await;
    let _ = listener.kill();
    listener.wait()?;
    outcome
}

pub async fn pools_marked_autostart_start_once_per_boot() -> Result<()> {
    let world = World::start().await?;
    let images = world.active_pool("images").await?;
    images.set_autostart(true, &none()).await?;
    world.active_pool("by-hand").await?;
    let becomes = async |name: &str, wanted: &str| {
        eventually(&format!("{name} is {wanted}"), async || {
            Ok(world.states().await?[name] == wanted)
        })
        .await
    };

    world.reboot().await?;
    becomes("images", "active").await?;
    ensure!(world.states().await?["by-hand"] == "inactive", "started without a mark");

    // A pool stopped by hand stays stopped: when the service restarts, and when it is asked to autostart.
    images.stop(&none()).await?;
    world.end(Signal::SIGTERM).await?;
    world.manager().await?.autostart(&with("wait", u64::MAX)).await?;
    ensure!(world.states().await?["images"] == "inactive", "started again within the boot");
    world.end(Signal::SIGKILL).await?;
    ensure!(world.states().await?["images"] == "inactive", "started again after kill -9");

    world.reboot().await?;
    becomes("images", "active").await
}

pub async fn an_autostart_that_fails_is_tried_again() -> Result<()> {
    let world =
        World::start_with("[timeouts]\nretry-first = \"100ms\"\nretry-longest = \"1s\"\n").await?;
    let images = world.active_pool("images").await?;
    images.set_autostart(true, &none()).await?;
    let (there, away) = (world.pools().join("images"), world.pools().join("away"));
    std::fs::rename(&there, &away)?;
    world.reboot().await?;
    eventually("the error is shown", async || Ok(!images.last_error().await?.0.is_empty())).await?;
    ensure!(images.state().await? != "active");
    ensure!(images.next_try().await? > 0, "NextTry says nothing");
    std::fs::rename(&away, &there)?;
    eventually("the pool starts when its directory is there", async || {
        Ok(images.state().await? == "active")
    })
    .await?;
    let error = images.last_error().await?;
    ensure!(error.0.is_empty(), "the old error is still shown: {error:?}");
    Ok(())
}

pub async fn a_damaged_definition_is_reported_and_left_alone() -> Result<()> {
    let world = World::start().await?;
    world.active_pool("images").await?;
    world.end(Signal::SIGTERM).await?;
    let damaged = world.data("etc/poold/pools/damaged.xml");
    let text = "<pool type='dir'>\n  <name>damaged</nam";
    std::fs::write(&damaged, text)?;
    let empty = world.data("etc/poold/pools/empty.xml");
    std::fs::write(&empty, "")?;

    let manager = world.manager().await?;
    let problems = manager.problems().await?;
    for path in [&damaged, &empty] {
        let path = path.to_string_lossy();
        ensure!(
            problems.iter().any(|(name, why)| **name == *path && !why.is_empty()),
            "{path} is not in {problems:?}"
        );
    }
    ensure!(std::fs::read_to_string(&damaged)? == text, "the damaged file was changed");
    ensure!(world.states().await?["images"] == "active", "another pool suffered");
    // Put right, it is a pool at the next start and no problem any more.
    std::fs::write(&damaged, world.pool_xml("damaged"))?;
    std::fs::remove_file(&empty)?;
    world.end(Signal::SIGTERM).await?;
    ensure!(manager.problems().await?.is_empty());
    ensure!(world.states().await?["damaged"] == "inactive");
    Ok(())
}
