//! Pools of type rbd on a real Ceph cluster with cephx; what they did is checked with Ceph's own tools.

mod making;
mod many;
mod snapshots;

use super::poolctl::{done, fails, noise, status_of};
use super::support::ceph::{Cluster, cluster};
use super::support::leaks::Watch;
use super::support::runner::Skip;
use super::support::world::{World, eventually, none, volume_names, with};
use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use poold::client::PoolProxy;
use poold::model::ErrorKind;
use std::process::{Child, Command, Stdio};

pub use making::*;
pub use many::*;
pub use snapshots::*;

const MIB: u64 = 1 << 20;
/// The way Ceph's daemons are waited for in tests: not long.
const CONFIGURATION: &str = "[timeouts]\nretry-first = \"500ms\"\nretry-longest = \"1s\"\n";

/// libvirt's document of a pool of the cluster.
pub(super) fn document(name: &str, cluster: &Cluster, more: &str) -> String {
    let host = format!("name='127.0.0.1' port='{}'", cluster.port);
    document_at(name, &host, cluster, more)
}

/// The same with another monitor.
fn document_at(name: &str, host: &str, cluster: &Cluster, more: &str) -> String {
    let pool = cluster.pool;
    format!(
        "<pool type='rbd' xmlns:rbd='http://libvirt.org/schemas/storagepool/rbd/1.0'><name>{name}</name>\
         <source><host {host}/><name>{pool}</name>\
         <auth type='ceph' username='libvirt'><secret usage='ceph key'/></auth></source>{more}</pool>"
    )
}

/// Keeps a value as the secret that the documents name.
pub(super) async fn set_key(world: &World, value: &str) -> Result<()> {
    world.set_secret("ceph", "ceph key", value).await
}

/// A world with an active pool `ceph`.
async fn started(cluster: &Cluster) -> Result<(World, PoolProxy<'static>)> {
    let world = World::start_with(CONFIGURATION).await?;
    set_key(&world, &cluster.key()?).await?;
    let pool = world.define(&document("ceph", cluster, "")).await?;
    pool.start(&none()).await?;
    Ok((world, pool))
}

/// A client that has an image open for writing, as a virtual machine has.
struct Guest(Child);

impl Guest {
    /// One that has it open by now.
    async fn open(cluster: &Cluster, image: &str) -> Result<Guest> {
        let node = serde_json::json!({
            "driver": "rbd", "node-name": "disk", "pool": cluster.pool, "image": image, "user": "admin",
            "conf": cluster.file("ceph.conf"),
        });
        let before = watchers(cluster, image)?;
        let child = Command::new("qemu-storage-daemon")
            .args(["--blockdev", &node.to_string(), "--chardev", "stdio,id=m", "--monitor", "m"])
            .arg("--nbd-server")
            .arg(format!("addr.type=unix,addr.path={}", cluster.file("guest.sock").display()))
            .args(["--export", "type=nbd,id=e,node-name=disk,writable=on"])
            .current_dir(cluster.file("."))
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()?;
        let guest = Guest(child);
        eventually("the guest has it open", async || Ok(watchers(cluster, image)? > before))
            .await?;
        Ok(guest)
    }

    /// Kills it: the cluster does not know of that for 30 s.
    fn dies(mut self) -> Result<()> {
        Ok(self.0.kill()?)
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        let pid = nix::unistd::Pid::from_raw(self.0.id().cast_signed());
        let _ = nix::sys::signal::kill(pid, Signal::SIGTERM);
        let _ = self.0.wait();
    }
}

/// How many have an image open.
fn watchers(cluster: &Cluster, image: &str) -> Result<usize> {
    let status = cluster.rbd(&["status", &cluster.image(image)])?;
    Ok(status["watchers"].as_array().context("no watchers")?.len())
}

fn size(cluster: &Cluster, image: &str) -> Result<u64> {
    cluster.rbd(&["info", &cluster.image(image)])?["size"].as_u64().context("no size")
}

pub async fn images_serve_from_definition_to_end() -> Result<()> {
    let cluster = cluster("serving")?;
    let (world, pool) = started(&cluster).await?;
    ensure!(pool.state().await? == "active");
    done(&world, "vol create ceph/one 10M").await?;
    ensure!(size(&cluster, "one")? == 10 * MIB);
    let shown = done(&world, "vol show ceph/one").await?;
    ensure!(shown.contains("serving/one") && shown.contains("network"), "{shown}");
    let manager = world.manager().await?;
    let path = manager.lookup_volume("rbd:serving/one", &none()).await?;
    ensure!(path == manager.lookup_volume("serving/one", &none()).await?, "both are its names");
    let exists = status_of(ErrorKind::Exists);
    fails(&world, "vol create ceph/one 10M", exists, "one").await?;
    let invalid = status_of(ErrorKind::InvalidArgument);
    fails(&world, "vol create ceph/a@b 10M", invalid, "'@'").await?;

    done(&world, "vol resize ceph/one 12M").await?;
    ensure!(size(&cluster, "one")? == 12 * MIB);
    fails(&world, "vol resize ceph/one 5000000B", invalid, "shrink").await?;
    done(&world, "vol resize ceph/one 5000000B --shrink").await?;
    ensure!(size(&cluster, "one")? == 5_000_000);
    done(&world, "vol resize ceph/one 6M").await?;

    // Data, whole and in part, sparse, from and to a pipe.
    let file = world.pools().join("source");
    let content = noise(&file, 6)?;
    let source = file.display();
    done(&world, &format!("vol upload ceph/one {source}")).await?;
    ensure!(cluster.content("one")? == content, "it is in the image");
    let out = world.pools().join("out");
    let part = format!("vol download ceph/one {} --offset 1M --length 2M", out.display());
    done(&world, &part).await?;
    ensure!(std::fs::read(&out)? == content[MIB as usize..3 * MIB as usize]);
    let mut sparse = vec![0; 6 * MIB as usize];
    sparse[5_000_000..5_000_100].fill(7);
    std::fs::write(&file, [])?;
    let holes = std::fs::OpenOptions::new().write(true).open(&file)?;
    holes.set_len(6 * MIB)?;
    std::os::unix::fs::FileExt::write_all_at(&holes, &sparse[5_000_000..5_000_100], 5_000_000)?;
    done(&world, &format!("vol upload ceph/one {source} --sparse")).await?;
    ensure!(cluster.content("one")? == sparse, "holes are zeros, to the byte");
    let used = cluster.rbd(&["du", "serving/one"])?;
    ensure!(used["images"][0]["used_size"].as_u64() == Some(2 * MIB), "holes take nothing: {used}");

    // Into a directory and back, as another format; and within the cluster.
    world.active_pool("files").await?;
    let said = done(&world, "vol clone ceph/one files/one.qcow2 --format qcow2").await?;
    ensure!(said.contains("method convert"), "{said}");
    done(&world, "vol clone files/one.qcow2 ceph/back").await?;
    ensure!(cluster.content("back")? == sparse, "it came back as it was");
    let said = done(&world, "vol clone ceph/one child").await?;
    ensure!(said.contains("method snapshot"), "{said}");
    let child = cluster.rbd(&["info", "serving/child"])?;
    ensure!(child["parent"]["image"] == "one", "{child}");
    ensure!(cluster.content("child")? == sparse);
    let busy = status_of(ErrorKind::Busy);
    fails(&world, "vol delete ceph/one", busy, "serving/child").await?;
    done(&world, "vol wipe ceph/child").await?;
    ensure!(cluster.content("child")?.iter().all(|byte| *byte == 0), "nothing of it is left");
    done(&world, "vol wipe ceph/back --algorithm trim").await?;
    let used = cluster.rbd(&["du", "serving/back"])?;
    // Its last object is no whole one: it keeps its room, and holds zeros.
    ensure!(used["images"][0]["used_size"].as_u64() <= Some(2 * MIB), "{used}");
    ensure!(cluster.content("back")?.iter().all(|byte| *byte == 0), "nothing of it is left");

    // What others do is seen; what somebody uses is left alone.
    cluster.admin("rbd", &["create", "--size=1M", "serving/theirs"])?;
    pool.refresh(&none()).await?;
    let mut names = volume_names(&pool).await?;
    names.sort();
    ensure!(names == ["back", "child", "one", "theirs"], "{names:?}");
    let guest = Guest::open(&cluster, "theirs").await?;
    for arguments in [
        "vol delete ceph/theirs".to_owned(),
        "vol resize ceph/theirs 500000B --shrink".to_owned(),
        format!("vol upload ceph/theirs {source} --length 1M"),
        "vol wipe ceph/theirs".to_owned(),
    ] {
        fails(&world, &arguments, busy, "127.0.0.1").await?;
    }
    done(&world, "vol resize ceph/theirs 2M").await?;
    drop(guest);

    for name in ["child", "one", "back", "theirs"] {
        done(&world, &format!("vol delete ceph/{name}")).await?;
    }
    ensure!(cluster.images()?.is_empty(), "nothing is left: {:?}", cluster.images()?);
    pool.stop(&none()).await?;
    nothing_is_left_on_the_host(&world)
}

/// Neither mounts nor files nor processes of what served images.
fn nothing_is_left_on_the_host(world: &World) -> Result<()> {
    let mounts = world.inside("cat").arg("/proc/self/mountinfo").output()?.stdout;
    ensure!(!String::from_utf8(mounts)?.contains("poold-served"), "a mount is left");
    for entry in std::fs::read_dir(world.data("run/poold"))? {
        let name = entry?.file_name();
        ensure!(!name.to_string_lossy().contains("served"), "{} is left", name.display());
    }
    for process in std::fs::read_dir("/proc")? {
        let cmdline = std::fs::read(process?.path().join("cmdline")).unwrap_or_default();
        let cmdline = String::from_utf8_lossy(&cmdline).into_owned();
        ensure!(!cmdline.contains("poold-served"), "{cmdline} still runs");
    }
    Ok(())
}

pub async fn what_is_wrong_with_a_cluster_is_told_apart() -> Result<()> {
    let cluster = cluster("wrong")?;
    let world = World::start_with(&format!("log-level = \"trace\"\n{CONFIGURATION}")).await?;
    let right = cluster.key()?;
    let watch = Watch::over(&right)?;
    let refused =
        async |pool: &PoolProxy<'_>, kind: ErrorKind, why: &str| match pool.start(&none()).await {
            Err(error) if error.kind() == kind && error.message().contains(why) => {
                ensure!(!error.message().contains(&right), "{error}");
                anyhow::Ok(())
            }
            other => anyhow::bail!("not {kind:?} with {why:?} but {other:?}"),
        };
    let pool = world.define(&document("ceph", &cluster, "")).await?;
    refused(&pool, ErrorKind::NotFound, "ceph key").await?;
    set_key(&world, "no key at all").await?;
    refused(&pool, ErrorKind::AuthenticationFailed, "ceph auth get-key").await?;
    let wrong = cluster.admin("ceph-authtool", &["--gen-print-key"])?;
    set_key(&world, wrong.trim()).await?;
    refused(&pool, ErrorKind::AuthenticationFailed, "refuse").await?;
    set_key(&world, &right).await?;
    let nobody = document("nobody", &cluster, "").replace("'libvirt'", "'nobody'");
    refused(&world.define(&nobody).await?, ErrorKind::AuthenticationFailed, "refuse").await?;
    let absent = document("absent", &cluster, "").replace("<name>wrong<", "<name>absent<");
    refused(&world.define(&absent).await?, ErrorKind::NotBuilt, "ceph osd pool create").await?;
    // A port that nobody listens at, and one where something else does.
    let free = std::net::TcpListener::bind("127.0.0.1:0")?;
    let port = free.local_addr()?.port();
    let other = world.define(&document("other", &Cluster { port, ..cluster }, "")).await?;
    refused(&other, ErrorKind::Inaccessible, "monitor").await?;
    drop(free);
    refused(&other, ErrorKind::Inaccessible, "monitor").await?;
    for option in ["name='mon_host' value='x'", "name='keyring' value='/etc/x'"] {
        let more = format!("<rbd:config_opts><rbd:option {option}/></rbd:config_opts>");
        let document = document("odd", &cluster, &more);
        let refused = world.manager().await?.define_pool_xml(&document, &none()).await;
        ensure!(refused.is_err_and(|error| error.kind() == ErrorKind::InvalidArgument));
    }
    pool.start(&none()).await?;
    pool.create_volume("one", MIB, &none()).await?;
    let io = world.pools().join("out");
    done(&world, &format!("vol download ceph/one {}", io.display())).await?;
    watch.nowhere(&world, &[]).await?;
    done(&world, "vol delete ceph/one").await?;
    Ok(())
}

pub async fn one_odd_image_is_one_odd_image() -> Result<()> {
    let cluster = cluster("odd")?;
    let (world, pool) = started(&cluster).await?;
    for name in ["good", "odd"] {
        pool.create_volume(name, MIB, &none()).await?;
    }
    let id = cluster.rbd(&["info", "odd/odd"])?["id"].as_str().context("no id")?.to_owned();
    let header = format!("rbd_header.{id}");
    cluster.admin("rados", &["-p", cluster.pool, "setomapval", &header, "size", "x"])?;
    pool.refresh(&none()).await?;
    ensure!(volume_names(&pool).await? == ["good"] && pool.skipped_entries().await? == 1);
    ensure!(pool.state().await? == "active");
    done(&world, "vol delete ceph/good").await?;

    // What images take is counted where the definition asks for it, beside one that cannot be.
    let allocation = async |name: &str, more: &str| {
        let pool = world.define(&document(name, &cluster, more)).await?;
        pool.start(&none()).await?;
        ensure!(volume_names(&pool).await? == ["thin"] && pool.skipped_entries().await? == 1);
        let volume = world.volume(&pool.lookup_volume("thin", &none()).await?).await?;
        let listed = volume.allocation().await?;
        volume.refresh(&none()).await?;
        ensure!(volume.allocation().await? == listed, "alone it is what it is among all");
        Ok(listed)
    };
    done(&world, "vol create ceph/thin 9M").await?;
    for (name, more, taken) in [
        ("unasked", "", 12 * MIB),
        ("capacity", "<refresh><volume allocation='capacity'/></refresh>", 12 * MIB),
        ("default", "<refresh><volume allocation='default'/></refresh>", 0),
    ] {
        let counted = allocation(name, more).await?;
        ensure!(counted == taken, "{name}: {counted}");
    }
    done(&world, "vol delete ceph/thin").await.map(drop)
}

pub async fn a_monitor_is_reached_by_the_old_messenger_and_by_ipv6() -> Result<()> {
    let cluster = cluster("reached")?;
    let world = World::start_with(CONFIGURATION).await?;
    let mut hosts = vec![
        // Either messenger, as Ceph tries at ports that are neither's.
        format!("name='127.0.0.1' port='{}'", cluster.old_port),
        format!("name='v1:127.0.0.1' port='{}'", cluster.old_port),
    ];
    if let Some(port) = cluster.port_6 {
        hosts.extend(
            ["::1", "[::1]", "v2:[::1]"].map(|name| format!("name='{name}' port='{port}'")),
        );
    }
    for (number, host) in hosts.iter().enumerate() {
        set_key(&world, &cluster.key()?).await?;
        let name = format!("pool{number}");
        let pool = world.define(&document_at(&name, host, &cluster, "")).await?;
        pool.start(&none()).await.with_context(|| host.clone())?;
        let (image, out) = (format!("image{number}"), world.pools().join("out"));
        pool.create_volume(&image, MIB, &none()).await?;
        // QEMU goes there too.
        done(&world, &format!("vol download {name}/{image} {}", out.display())).await?;
        pool.stop(&none()).await?;
    }
    // It says at once what it thinks of a wrong key.
    let wrong = cluster.admin("ceph-authtool", &["--gen-print-key"])?;
    set_key(&world, wrong.trim()).await?;
    let refused = status_of(ErrorKind::AuthenticationFailed);
    fails(&world, "start pool1", refused, "refuses the user or its key").await?;
    // One that speaks nothing else is not taken for dead.
    let only = format!("name='v2:127.0.0.1' port='{}'", cluster.old_port);
    world.define(&document_at("only", &only, &cluster, "")).await?;
    fails(&world, "start only", status_of(ErrorKind::Inaccessible), "v1:").await?;
    match cluster.port_6 {
        Some(_) => Ok(()),
        None => Err(Skip("no ::1 here: only IPv4 was tried".to_owned()).into()),
    }
}
