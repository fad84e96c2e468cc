//! Pools of type gluster on a real GlusterFS server; what they did is checked in its bricks and with its own tools.

use super::poolctl::{done, fails, noise, status_of};
use super::support::gluster::{Gluster, gluster};
use super::support::world::{World, eventually, none, volume_names, with};
use anyhow::{Context, Result, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use poold::client::PoolProxy;
use poold::model::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::process::Command;

const MIB: u64 = 1 << 20;
/// Servers are waited for in tests: not long.
const CONFIGURATION: &str = "[timeouts]\nretry-first = \"500ms\"\nretry-longest = \"1s\"\n";

/// libvirt's document of a pool of a directory of the server's volume.
pub(super) fn document(name: &str, server: &Gluster, dir: &str, more: &str) -> String {
    let volume = server.volume;
    format!(
        "<pool type='gluster'><name>{name}</name><source><host name='127.0.0.1'/><name>{volume}</name>\
         <dir path='{dir}'/></source>{more}</pool>"
    )
}

async fn define(world: &World, document: &str) -> Result<PoolProxy<'static>> {
    let (path, _) = world.manager().await?.define_pool_xml(document, &none()).await?;
    world.pool(&path).await
}

/// A world with an active pool `gl`.
async fn started(server: &Gluster) -> Result<(World, PoolProxy<'static>)> {
    let world = server.network().world(CONFIGURATION).await?;
    let pool = define(&world, &document("gl", server, "/", "")).await?;
    pool.start(&none()).await?;
    Ok((world, pool))
}

/// The daemon's mounts of GlusterFS, as the table has them.
fn mounts(world: &World) -> Result<Vec<String>> {
    let table =
        String::from_utf8(world.inside("cat").arg("/proc/self/mountinfo").output()?.stdout)?;
    let ours = |line: &&str| line.contains("fuse.glusterfs") && line.contains("/run/poold/mounts/");
    Ok(table.lines().filter(ours).map(str::to_owned).collect())
}

/// The process of GlusterFS's client for the pools of a world.
fn client(world: &World) -> Result<Pid> {
    let point = world.data("run/poold/mounts");
    let point = point.to_str().context("an odd directory")?;
    for process in std::fs::read_dir("/proc")? {
        let process = process?;
        let line = std::fs::read(process.path().join("cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line).into_owned();
        if line.split('\0').any(|argument| argument.starts_with(point)) {
            return Ok(Pid::from_raw(process.file_name().to_string_lossy().parse()?));
        }
    }
    anyhow::bail!("no client runs")
}

pub async fn files_serve_from_definition_to_end() -> Result<()> {
    let server = gluster("serving")?;
    let (world, pool) = started(&server).await?;
    let brick = server.brick();
    ensure!(pool.state().await? == "active" && pool.target_path().await?.is_empty());
    let table = mounts(&world)?;
    ensure!(table.len() == 1 && table[0].contains("nosuid,nodev,noexec"), "{table:?}");

    done(&world, "vol create gl/raw 10M").await?;
    done(&world, "vol create gl/image.qcow2 20M --format qcow2").await?;
    ensure!(brick.join("raw").metadata()?.len() == 10 * MIB);
    let info = Command::new("qemu-img")
        .args(["info", "--output=json"])
        .arg(brick.join("image.qcow2"))
        .output()?;
    let info: serde_json::Value = serde_json::from_slice(&info.stdout)?;
    ensure!(info["format"] == "qcow2" && info["virtual-size"] == 20 * MIB, "{info}");
    let shown = done(&world, "vol show gl/raw").await?;
    ensure!(
        shown.contains("gluster://127.0.0.1/serving/raw") && shown.contains("network"),
        "{shown}"
    );
    let manager = world.manager().await?;
    let path = manager.lookup_volume("gluster://127.0.0.1/serving/raw", &none()).await?;
    let volume = world.volume(&path).await?;
    ensure!(volume.key().await? == "gluster://127.0.0.1/serving/raw");
    let xml = volume.get_xml(&none()).await?;
    ensure!(
        xml.contains("<volume type='network'>") && xml.contains("<format type='raw'/>"),
        "{xml}"
    );
    let missing = manager.lookup_volume("gluster://127.0.0.1/serving/none", &none()).await;
    ensure!(missing.is_err_and(|error| error.kind() == ErrorKind::NotFound));
    fails(&world, "vol create gl/raw 1M", status_of(ErrorKind::Exists), "raw").await?;
    done(&world, "vol create gl/sub 0 --format dir").await?;
    ensure!(
        brick.join("sub").is_dir() && done(&world, "vol show gl/sub").await?.contains("netdir")
    );

    // Data, whole and in part.
    let file = world.pools().join("source");
    let content = noise(&file, 10)?;
    done(&world, &format!("vol upload gl/raw {}", file.display())).await?;
    ensure!(std::fs::read(brick.join("raw"))? == content, "it is in the brick");
    let out = world.pools().join("out");
    let part = format!("vol download gl/raw {} --offset 1M --length 2M", out.display());
    done(&world, &part).await?;
    ensure!(std::fs::read(&out)? == content[MIB as usize..3 * MIB as usize]);

    // Copies, into a directory and back, in another format; and a difference.
    world.active_pool("files").await?;
    done(&world, "vol clone gl/raw files/copy.qcow2 --format qcow2").await?;
    done(&world, "vol clone files/copy.qcow2 gl/back --format raw").await?;
    ensure!(std::fs::read(brick.join("back"))? == content, "it came back as it was");
    done(&world, "vol clone gl/raw again").await?;
    ensure!(std::fs::read(brick.join("again"))? == content);
    done(&world, "vol create gl/over.qcow2 --format qcow2 --backing gl/raw --backing-format raw")
        .await?;
    let header = std::fs::read(brick.join("over.qcow2"))?;
    let named = b"gluster://127.0.0.1/serving/raw";
    ensure!(header.windows(named.len()).any(|part| part == named), "a machine finds it");
    let busy = status_of(ErrorKind::Busy);
    fails(&world, "vol delete gl/raw", busy, "over.qcow2").await?;
    done(&world, "vol clone gl/over.qcow2 flat --format raw").await?;
    ensure!(
        std::fs::read(brick.join("flat"))? == content,
        "the difference was read with what is below"
    );

    done(&world, "vol resize gl/over.qcow2 30M").await?;
    done(&world, "vol resize gl/back 12M").await?;
    ensure!(brick.join("back").metadata()?.len() == 12 * MIB);
    let invalid = status_of(ErrorKind::InvalidArgument);
    fails(&world, "vol resize gl/back 4M", invalid, "shrink").await?;
    done(&world, "vol resize gl/back 4M --shrink").await?;
    ensure!(brick.join("back").metadata()?.len() == 4 * MIB);
    done(&world, "vol wipe gl/back").await?;
    ensure!(
        std::fs::read(brick.join("back"))?.iter().all(|byte| *byte == 0),
        "nothing of it is left"
    );

    // What another client does is seen, and its symbolic links lead nowhere.
    let other = world.pools().join("other");
    std::fs::create_dir(&other)?;
    let mounted = server
        .network()
        .inside("mount")
        .args(["-t", "glusterfs", "127.0.0.1:/serving"])
        .arg(&other)
        .status()?;
    ensure!(mounted.success());
    std::fs::write(other.join("theirs"), &content[..MIB as usize])?;
    std::fs::remove_file(other.join("again"))?;
    std::os::unix::fs::symlink("/etc/passwd", other.join("link"))?;
    ensure!(Command::new("umount").arg(&other).status()?.success());
    pool.refresh(&none()).await?;
    let mut names = volume_names(&pool).await?;
    names.sort();
    ensure!(
        names == ["back", "flat", "image.qcow2", "over.qcow2", "raw", "sub", "theirs"],
        "{names:?}"
    );
    ensure!(pool.skipped_entries().await? == 1, "the link");

    // A directory of the same volume is another pool.
    let sub = define(&world, &document("sub", &server, "/sub", "")).await?;
    sub.start(&none()).await?;
    done(&world, "vol create sub/inner 1M").await?;
    ensure!(brick.join("sub/inner").metadata()?.len() == MIB);
    let path = manager.lookup_volume("gluster://127.0.0.1/serving/sub/inner", &none()).await?;
    ensure!(world.volume(&path).await?.pool().await?.as_str() == sub.inner().path().as_str());
    done(&world, "vol delete sub/inner").await?;
    sub.stop(&none()).await?;
    let absent = define(&world, &document("absent", &server, "/no/such", "")).await?;
    let refused = absent.start(&none()).await;
    ensure!(refused.is_err_and(|error| error.kind() == ErrorKind::NotBuilt));
    ensure!(mounts(&world)?.len() == 1, "what could not start has no mount");

    for name in ["over.qcow2", "raw", "image.qcow2", "back", "flat", "theirs", "sub"] {
        done(&world, &format!("vol delete gl/{name}")).await?;
    }
    ensure!(server.files()? == ["link"], "nothing of ours is left: {:?}", server.files()?);
    pool.stop(&none()).await?;
    ensure!(mounts(&world)?.is_empty());
    let left = std::fs::read_dir(world.data("run/poold/mounts"))?.count();
    ensure!(left == 0, "{left} mount points are left");
    Ok(())
}

pub async fn a_server_that_is_gone_holds_up_nobody_and_comes_back() -> Result<()> {
    let server = gluster("gone")?;
    let (world, pool) = started(&server).await?;
    let files = world.active_pool("files").await?;
    pool.create_volume("one", MIB, &none()).await?;
    server.kill()?;
    let refused = pool.refresh(&with("wait", u64::MAX)).await;
    ensure!(refused.is_err_and(|error| error.kind() == ErrorKind::Inaccessible));
    ensure!(pool.state().await? == "inaccessible");
    ensure!(volume_names(&pool).await? == ["one"], "what was known is shown");
    files.create_volume("disk", MIB, &none()).await?;
    files.refresh(&none()).await?;
    // One that is not active says so too, and leaves nothing.
    let other =
        define(&world, &document("late", &server, "/", "").replace("127.0.0.1", "127.0.0.2"))
            .await?;
    let refused = other.start(&none()).await;
    ensure!(refused.is_err_and(|error| error.kind() == ErrorKind::Inaccessible));
    server.start()?;
    eventually("it is active again", async || Ok(pool.state().await? == "active")).await?;
    done(&world, "vol delete gl/one").await?;

    server.kill()?;
    pool.stop(&with("force", true)).await?;
    ensure!(pool.state().await? == "inactive" && mounts(&world)?.is_empty());
    server.start()?;
    pool.start(&none()).await?;
    ensure!(volume_names(&pool).await?.is_empty());
    Ok(())
}

pub async fn a_server_that_is_frozen_holds_up_nobody_and_is_stopped_by_force() -> Result<()> {
    let server = gluster("frozen")?;
    let world = server.network().world(&format!("{CONFIGURATION}refresh = \"3s\"\n")).await?;
    let pool = define(&world, &document("gl", &server, "/", "")).await?;
    pool.start(&none()).await?;
    let files = world.active_pool("files").await?;
    pool.create_volume("one", MIB, &none()).await?;
    server.freeze()?;
    let frozen = async {
        // A look at it, as its mount was seen, may have hung before the refresh began.
        let refused = pool.refresh(&with("wait", u64::MAX)).await.err().context("it was read")?;
        ensure!(matches!(refused.kind(), ErrorKind::TimedOut | ErrorKind::Inaccessible));
        ensure!(refused.message().contains("of pool gl did not end in 3.0 s"), "{refused}");
        let (name, _) = pool.last_error().await?;
        ensure!(ErrorKind::from_dbus_name(&name) == Some(ErrorKind::TimedOut), "{name}");
        ensure!(pool.state().await? == "inaccessible" && volume_names(&pool).await? == ["one"]);
        files.create_volume("disk", MIB, &none()).await?;
        pool.stop(&with("force", true)).await?;
        ensure!(pool.state().await? == "inactive" && mounts(&world)?.is_empty());
        anyhow::Ok(())
    };
    let frozen = frozen.await;
    server.thaw()?;
    frozen?;
    eventually("it starts again", async || Ok(pool.start(&none()).await.is_ok())).await?;
    ensure!(volume_names(&pool).await? == ["one"]);
    done(&world, "vol delete gl/one").await?;
    Ok(())
}

pub async fn the_client_outlives_the_service_and_is_started_again() -> Result<()> {
    let server = gluster("client")?;
    let (world, pool) = started(&server).await?;
    pool.create_volume("one", MIB, &none()).await?;
    let before = client(&world)?;
    world.end(Signal::SIGKILL).await?;
    world.poold().await?;
    eventually("it is active again", async || Ok(pool.state().await? == "active")).await?;
    ensure!(client(&world)? == before, "it is the same");
    ensure!(volume_names(&pool).await? == ["one"]);

    kill(before, Signal::SIGKILL)?;
    // The next look may be at one that is dying yet.
    eventually("there is a client again", async || {
        let read = pool.refresh(&none()).await.is_ok();
        Ok(read && client(&world).is_ok_and(|now| now != before))
    })
    .await?;
    ensure!(mounts(&world)?.len() == 1, "{:?}", mounts(&world)?);
    done(&world, "vol delete gl/one").await?;
    // Unmounted behind its back, nobody else would mount it again.
    let point = std::fs::read_dir(world.data("run/poold/mounts"))?.next().context("no mount")??;
    // Who reads it at that moment keeps it busy.
    eventually("it is unmounted", async || {
        Ok(world.inside("umount").arg(point.path()).status()?.success())
    })
    .await?;
    eventually("it is mounted again", async || Ok(mounts(&world)?.len() == 1)).await?;
    eventually("it is active again", async || Ok(pool.state().await? == "active")).await?;
    pool.create_volume("two", MIB, &none()).await?;
    ensure!(server.files()? == ["two"]);
    pool.stop(&none()).await?;
    Ok(())
}

pub async fn on_a_volume_that_trusts_no_root_all_is_done_as_who_owns_the_volumes() -> Result<()> {
    let server = gluster("squashed")?;
    let nobody = nix::unistd::User::from_name("nobody")?.context("no user nobody")?;
    let (uid, gid) = (nobody.uid.as_raw(), nobody.gid.as_raw());
    std::os::unix::fs::chown(server.brick(), Some(uid), Some(gid))?;
    server.tool(&["volume", "set", server.volume, "server.root-squash", "on"])?;
    let world = server.network().world(CONFIGURATION).await?;
    let more = format!(
        "<p:volume-permissions xmlns:p='https://poold.org/xmlns/pool/1' mode='0640' owner='{uid}' group='{gid}'/>"
    );
    let pool = define(&world, &document("gl", &server, "/", &more)).await?;
    pool.start(&none()).await?;
    for arguments in [
        "vol create gl/raw 4M",
        "vol create gl/image.qcow2 4M --format qcow2",
        "vol clone gl/image.qcow2 copy.vdi --format vdi",
        "vol resize gl/raw 5M",
        "vol wipe gl/raw",
    ] {
        done(&world, arguments).await?;
    }
    for name in server.files()? {
        let found = server.brick().join(&name).metadata()?;
        ensure!((found.uid(), found.gid()) == (uid, gid), "{name} is {}'s", found.uid());
        ensure!(found.mode() & 0o7777 == 0o640, "{name} has mode {:o}", found.mode());
        done(&world, &format!("vol delete gl/{name}")).await?;
    }
    ensure!(server.files()?.is_empty());
    pool.stop(&none()).await?;
    Ok(())
}

pub async fn volumes_of_a_server_are_found_and_mounted_as_shares() -> Result<()> {
    let server = gluster("shared")?;
    let world = server.network().world(CONFIGURATION).await?;
    let manager = world.manager().await?;
    let host = "<source><host name='127.0.0.1'/></source>";
    let found = manager.find_sources_xml("gluster", host, &none()).await?;
    ensure!(found.contains("<name>shared</name>") && found.contains("<dir path='/'/>"), "{found}");
    let spec = "<source><host name='127.0.0.1'/><format type='glusterfs'/></source>";
    for spec in [spec, host] {
        let found = manager.find_sources_xml("netfs", spec, &none()).await?;
        ensure!(found.contains("<dir path='shared'/>"), "{found}");
        ensure!(found.contains("<format type='glusterfs'/>"), "{found}");
    }
    let nobody = manager
        .find_sources_xml("gluster", "<source><host name='127.0.0.9' port='9'/></source>", &none())
        .await;
    ensure!(nobody.is_ok() || nobody.is_err_and(|error| error.kind() == ErrorKind::Inaccessible));

    let target = world.pools().join("share");
    let document = format!(
        "<pool type='netfs'><name>share</name><source><host name='127.0.0.1'/><dir path='shared'/>\
         <format type='glusterfs'/></source><target><path>{}</path></target></pool>",
        target.display()
    );
    let pool = define(&world, &document).await?;
    pool.start(&none()).await?;
    done(&world, "vol create share/raw 4M").await?;
    done(&world, "vol create share/image.qcow2 4M --format qcow2").await?;
    let path = target.join("raw").display().to_string();
    manager.lookup_volume(&path, &none()).await?;
    ensure!(server.files()? == ["image.qcow2", "raw"]);
    // Two pools of one volume see the same, each under its own names.
    let native = define(&world, &self::document("gl", &server, "/", "")).await?;
    native.start(&none()).await?;
    ensure!(volume_names(&native).await? == ["image.qcow2", "raw"]);
    done(&world, "vol delete gl/raw").await?;
    pool.refresh(&none()).await?;
    ensure!(volume_names(&pool).await? == ["image.qcow2"]);
    done(&world, "vol delete share/image.qcow2").await?;
    ensure!(server.files()?.is_empty());
    native.stop(&none()).await?;
    pool.stop(&none()).await?;
    Ok(())
}
