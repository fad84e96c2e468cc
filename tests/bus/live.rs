//! What happens is seen: signals, the directory watch, jobs beside each other, and directories that change under us.

use super::support::call::PATIENCE;
use super::support::caller::NOBODY;
use super::support::world::{World, eventually, none, volume_names, with};
use anyhow::{Context, Result, bail, ensure};
use futures_util::StreamExt;
use poold::client::{JobProxy, PoolProxy};
use poold::model::ErrorKind;
use std::collections::HashMap;
use std::os::unix::fs::{lchown, symlink};
use zbus::message::Type;
use zbus::wire::DynamicType;
use zbus::{Connection, MatchRule, Message, MessageStream};

/// A connection that hears all of poold's signals, in the order in which everything arrives.
async fn listener(world: &World) -> Result<(Connection, MessageStream)> {
    let connection = world.connect().await?;
    let rule = MatchRule::builder().msg_type(Type::Signal).sender("org.poold1").build()?;
    zbus::fdo::DBusProxy::new(&connection).await?.add_match_rule(rule).await?;
    let stream = MessageStream::from(&connection);
    Ok((connection, stream))
}

/// Calls, and returns the signals (member and path of what they are about) that came before the reply.
async fn signals_before_reply<B: serde::Serialize + DynamicType>(
    world: &World,
    path: &str,
    member: &str,
    body: &B,
) -> Result<Vec<String>> {
    let (connection, mut stream) = listener(world).await?;
    let interface = match path.split('/').nth(3) {
        None => "org.poold1.Manager",
        Some("pools") => "org.poold1.Pool",
        Some(_) => "org.poold1.Volume",
    };
    let call = Message::method_call(path, member)
        .destination("org.poold1")
        .interface(interface)
        .build(body)?;
    connection.send(&call).await?;
    let mut seen = Vec::new();
    loop {
        let message =
            tokio::time::timeout(PATIENCE, stream.next()).await?.context("the bus left")??;
        let header = message.header();
        if header.reply_serial() == Some(call.primary_header().serial_num()) {
            ensure!(message.message_type() == Type::MethodReturn, "{member}: {message:?}");
            return Ok(seen);
        }
        if message.message_type() == Type::Signal {
            let member = header.member().map(ToString::to_string).unwrap_or_default();
            let about = match member.as_str() {
                "InterfacesAdded" | "InterfacesRemoved" => object_of(&message)?,
                _ => header.path().map(ToString::to_string).unwrap_or_default(),
            };
            seen.push(format!("{member} {about}"));
        }
    }
}

/// The object in the first argument.
fn object_of(message: &Message) -> Result<String> {
    let body = message.body();
    let fields: zbus::wire::Structure<'_> = body.deserialize()?;
    match fields.fields().first() {
        Some(zbus::Variant::ObjectPath(path)) => Ok(path.to_string()),
        other => bail!("not an object: {other:?}"),
    }
}

pub async fn signals_come_before_the_reply() -> Result<()> {
    let world = World::start().await?;
    let has = |seen: &[String], wanted: &str| -> Result<()> {
        ensure!(seen.iter().any(|signal| signal.starts_with(wanted)), "no {wanted} in {seen:?}");
        Ok(())
    };
    std::fs::create_dir(world.pools().join("images"))?;
    let body = (world.pool_xml("images"), none());
    let seen = signals_before_reply(&world, "/org/poold1", "DefinePoolXml", &body).await?;
    let path = world.manager().await?.lookup_pool("images", &none()).await?;
    has(&seen, &format!("InterfacesAdded {path}"))?;

    let seen = signals_before_reply(&world, path.as_str(), "Start", &(none(),)).await?;
    has(&seen, &format!("PropertiesChanged {path}"))?;
    has(&seen, "InterfacesAdded /org/poold1/jobs/")?;

    let body = ("disk.raw", 1_u64 << 20, none());
    let seen = signals_before_reply(&world, path.as_str(), "CreateVolume", &body).await?;
    let volume = world.pool(&path).await?.lookup_volume("disk.raw", &none()).await?;
    has(&seen, &format!("InterfacesAdded {volume}"))?;

    let seen =
        signals_before_reply(&world, volume.as_str(), "Resize", &(2_u64 << 20, none())).await?;
    has(&seen, &format!("PropertiesChanged {volume}"))?;

    let seen = signals_before_reply(&world, volume.as_str(), "Delete", &(none(),)).await?;
    has(&seen, &format!("InterfacesRemoved {volume}"))?;

    let seen = signals_before_reply(&world, path.as_str(), "SetAutostart", &(true, none())).await?;
    has(&seen, &format!("PropertiesChanged {path}"))?;
    signals_before_reply(&world, path.as_str(), "Stop", &(none(),)).await?;
    let seen = signals_before_reply(&world, path.as_str(), "Undefine", &(none(),)).await?;
    has(&seen, &format!("InterfacesRemoved {path}"))
}

/// Waits for a signal about an object whose path ends so.
async fn hear(stream: &mut MessageStream, member: &str, end: &str) -> Result<()> {
    let wait = async {
        while let Some(message) = stream.next().await {
            let message = message?;
            if message.header().member().is_some_and(|found| found.as_str() == member)
                && object_of(&message).is_ok_and(|object| object.ends_with(end))
            {
                return Ok(());
            }
        }
        bail!("the bus left")
    };
    tokio::time::timeout(PATIENCE, wait).await.with_context(|| format!("no {member} for {end}"))?
}

pub async fn a_dropped_file_is_announced_without_a_refresh() -> Result<()> {
    let world = World::start().await?;
    let images = world.active_pool("images").await?;
    let before = images.last_refresh().await?;
    let (_connection, mut stream) = listener(&world).await?;
    let directory = world.pools().join("images");

    std::fs::write(directory.join("foreign"), vec![7; 4096])?;
    hear(&mut stream, "InterfacesAdded", "/foreign").await?;
    let volume = world.volume(&images.lookup_volume("foreign", &none()).await?).await?;
    eventually("its whole size is shown", async || Ok(volume.physical().await? == 4096)).await?;

    std::fs::rename(directory.join("foreign"), directory.join("renamed"))?;
    hear(&mut stream, "InterfacesAdded", "/renamed").await?;
    std::fs::remove_file(directory.join("renamed"))?;
    hear(&mut stream, "InterfacesRemoved", "/renamed").await?;
    ensure!(volume_names(&images).await?.is_empty());
    ensure!(images.last_refresh().await? == before, "there was a refresh");
    Ok(())
}

/// Starts to create a volume that takes a while: allocated in full. Returns its job while it runs.
async fn long_job(pool: &PoolProxy<'_>, name: &str, capacity: u64) -> Result<JobProxy<'static>> {
    let options = HashMap::from([("preallocation", "full".into()), ("wait", 0_u64.into())]);
    let (_, job) = pool.create_volume(name, capacity, &options).await?;
    let job = JobProxy::builder(pool.inner().connection())
        .path(job)
        .cache_properties(zbus::proxy::CacheProperties::No)
        .build()
        .await?;
    eventually("the job has begun", async || Ok(job.state().await? != "queued")).await?;
    Ok(job)
}

/// Sizes to try until a job is slow enough on this machine to be looked at while it runs.
const SIZES: [u64; 4] = [256 << 20, 512 << 20, 1 << 30, 2 << 30];

pub async fn a_refresh_runs_beside_a_job() -> Result<()> {
    let world = World::start().await?;
    let images = world.active_pool("images").await?;
    for capacity in SIZES {
        let name = format!("big-{capacity}.raw");
        let job = long_job(&images, &name, capacity).await?;
        std::fs::write(world.pools().join("images/foreign"), "x")?;
        images.refresh(&with("wait", u64::MAX)).await?;
        let (names, beside) = (volume_names(&images).await?, job.state().await? == "running");
        if beside {
            ensure!(names.contains(&"foreign".to_owned()), "the refresh missed a file: {names:?}");
            ensure!(!names.contains(&name), "half a volume is listed: {names:?}");
        }
        job.wait(&with("wait", u64::MAX)).await?;
        let names = volume_names(&images).await?;
        ensure!(names.contains(&name), "the refresh lost the volume: {names:?}");
        let volume = images.lookup_volume(&name, &none()).await?;
        world.volume(&volume).await?.delete(&none()).await?;
        if beside {
            return Ok(());
        }
    }
    bail!("no job was slow enough to be seen running")
}

pub async fn a_cancelled_job_leaves_nothing() -> Result<()> {
    let world = World::start().await?;
    let images = world.active_pool("images").await?;
    for capacity in SIZES {
        let job = long_job(&images, "big.raw", capacity).await?;
        job.cancel(&none()).await?;
        match job.wait(&with("wait", u64::MAX)).await {
            Err(error) if error.kind() == ErrorKind::Cancelled => {
                ensure!(volume_names(&images).await?.is_empty(), "it is listed");
                let left = std::fs::read_dir(world.pools().join("images"))?.count();
                ensure!(left == 0, "{left} files are left");
                return Ok(());
            }
            // It was done before the cancel came.
            Ok(()) => {
                let volume = images.lookup_volume("big.raw", &none()).await?;
                world.volume(&volume).await?.delete(&none()).await?;
            }
            Err(error) => bail!("{error}"),
        }
    }
    bail!("no job was slow enough to be cancelled")
}

pub async fn of_two_callers_one_wins() -> Result<()> {
    let world = World::start().await?;
    let images = world.active_pool("images").await?;
    let other = world.connect().await?;
    let theirs =
        super::support::world::pool(&other, &images.inner().path().to_owned().into()).await?;
    for number in 0..20 {
        let name = format!("v{number}.raw");
        let (options, more) = (none(), none());
        let (one, two) = tokio::join!(
            images.create_volume(&name, 1 << 20, &options),
            theirs.create_volume(&name, 2 << 20, &more)
        );
        let (wanted, error) = match (one, two) {
            (Ok(_), Err(error)) => (1 << 20, error),
            (Err(error), Ok(_)) => (2 << 20, error),
            other => bail!("{name}: {other:?}"),
        };
        ensure!(matches!(error.kind(), ErrorKind::Exists | ErrorKind::Busy), "{error:?}");
        let volume = world.volume(&theirs.lookup_volume(&name, &none()).await?).await?;
        ensure!(volume.capacity().await? == wanted, "the loser's size");
    }
    Ok(())
}

pub async fn a_link_in_the_place_of_the_directory_is_not_followed() -> Result<()> {
    let world = World::start().await?;
    // A pool in a directory of somebody's who is not root, and a victim that is root's.
    lchown(world.pools(), Some(NOBODY), Some(NOBODY))?;
    let images = world.active_pool("images").await?;
    let (disk, _) = images.create_volume("disk.raw", 1 << 20, &none()).await?;
    let victim = world.data("victim");
    std::fs::create_dir(&victim)?;
    std::fs::write(victim.join("disk.raw"), "precious")?;
    let (there, away) = (world.pools().join("images"), world.pools().join("away"));
    std::fs::rename(&there, &away)?;
    symlink(&victim, &there)?;
    lchown(&there, Some(NOBODY), Some(NOBODY))?;

    let volume = world.volume(&disk).await?;
    let attempts = [
        ("CreateVolume", images.create_volume("new.raw", 1 << 20, &none()).await.is_err()),
        ("Resize", volume.resize(2 << 20, &none()).await.is_err()),
        ("Delete", volume.delete(&none()).await.is_err()),
    ];
    let found: Vec<_> =
        std::fs::read_dir(&victim)?.map(|e| e.map(|e| e.file_name())).collect::<Result<_, _>>()?;
    ensure!(found == ["disk.raw"], "the victim has {found:?}");
    ensure!(
        std::fs::read_to_string(victim.join("disk.raw"))? == "precious",
        "the victim's file changed"
    );
    for (what, refused) in attempts {
        ensure!(refused, "{what} said that it was done");
    }
    ensure!(images.refresh(&none()).await.is_err(), "the link was taken for the pool");
    // Nor is it at a start.
    let _ = images.stop(&none()).await;
    ensure!(images.start(&none()).await.is_err(), "started on the link");
    std::fs::remove_file(&there)?;
    std::fs::rename(&away, &there)?;
    images.start(&none()).await?;
    ensure!(volume_names(&images).await? == ["disk.raw"]);
    Ok(())
}

pub async fn a_directory_removed_or_replaced_is_noticed() -> Result<()> {
    let world = World::start().await?;
    let images = world.active_pool("images").await?;
    images.create_volume("disk.raw", 1 << 20, &none()).await?;
    let directory = world.pools().join("images");
    std::fs::rename(&directory, world.pools().join("away"))?;
    eventually("the pool is inaccessible", async || Ok(images.state().await? == "inaccessible"))
        .await?;
    ensure!(!images.last_error().await?.1.is_empty(), "and says nothing about it");
    std::fs::rename(world.pools().join("away"), &directory)?;
    eventually("the pool is back", async || Ok(images.state().await? == "active")).await?;
    ensure!(volume_names(&images).await? == ["disk.raw"]);
    Ok(())
}

pub async fn a_mount_over_the_directory_is_noticed() -> Result<()> {
    let world = World::start().await?;
    let images = world.active_pool("images").await?;
    images.create_volume("disk.raw", 1 << 20, &none()).await?;
    let directory = world.pools().join("images");
    let run = |program: &str, arguments: &[&str]| -> Result<()> {
        let done = world.inside(program).args(arguments).arg(&directory).status()?;
        ensure!(done.success(), "{program}: {done}");
        Ok(())
    };
    for _ in 0..2 {
        run("mount", &["-t", "tmpfs", "tmpfs"])?;
        eventually(
            "the pool is inaccessible",
            async || Ok(images.state().await? == "inaccessible"),
        )
        .await?;
        ensure!(images.create_volume("new.raw", 1 << 20, &none()).await.is_err(), "not refused");
        ensure!(volume_names(&images).await? == ["disk.raw"], "the old list stays");
        run("umount", &[])?;
        eventually("the pool is back", async || Ok(images.state().await? == "active")).await?;
        ensure!(volume_names(&images).await? == ["disk.raw"]);
        std::fs::write(directory.join("dropped"), "x")?;
        eventually("it is followed again", async || {
            Ok(volume_names(&images).await? == ["disk.raw", "dropped"])
        })
        .await?;
        std::fs::remove_file(directory.join("dropped"))?;
        eventually("and that is seen", async || Ok(images.volume_count().await? == 1)).await?;
    }
    Ok(())
}

pub async fn changes_that_come_in_a_burst_are_all_seen() -> Result<()> {
    let world = World::start().await?;
    let images = world.active_pool("images").await?;
    let directory = world.pools().join("images");
    for number in 0..5000 {
        std::fs::write(directory.join(format!("f{number}")), "x")?;
    }
    eventually("all are volumes", async || Ok(images.volume_count().await? == 5000)).await?;
    for number in 0..5000 {
        if number % 2 == 0 {
            std::fs::remove_file(directory.join(format!("f{number}")))?;
        }
    }
    eventually("half are gone", async || Ok(images.volume_count().await? == 2500)).await
}
