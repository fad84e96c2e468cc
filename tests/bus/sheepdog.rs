//! Pools of type sheepdog, by a `dog` that is a fake (tests/support/fakes/dog): no Sheepdog can be installed. It
//! answers as recorded from a real one.

use super::matrix::{Expected, Moment, plain};
use super::poolctl::{done, fails, status_of};
use super::support::fault::Fault;
use super::support::others::Others;
use super::support::world::{World, eventually, none, volume_names, with};
use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use poold::client::PoolProxy;
use poold::model::ErrorKind;
use std::path::PathBuf;

const MIB: u64 = 1 << 20;
/// Clusters are waited for in tests: not long.
const CONFIGURATION: &str = "[timeouts]\nretry-first = \"500ms\"\nretry-longest = \"1s\"\n";

/// The directory that is the fake's cluster.
struct Cluster(PathBuf);

impl Cluster {
    fn of(world: &World) -> Result<Self> {
        let cluster = Self(world.pools().join("cluster"));
        std::fs::create_dir(&cluster.0)?;
        let state = cluster.0.display().to_string();
        world.add_fakes(&["dog"], &[("fake-dog", &state)])?;
        Ok(cluster)
    }

    /// Makes it fail in some way, or no more.
    fn set(&self, fault: &str, value: Option<&str>) -> Result<()> {
        let path = self.0.join(fault);
        match value {
            Some(value) => Ok(std::fs::write(path, value)?),
            None => Ok(std::fs::remove_file(path)?),
        }
    }

    /// Names of its images, snapshots as `NAME@TAG`, and their sizes.
    fn images(&self) -> Result<Vec<(String, u64)>> {
        let images: serde_json::Value =
            serde_json::from_slice(&std::fs::read(self.0.join("vdis.json"))?)?;
        let image = |image: &serde_json::Value| {
            let (name, tag) = (image["name"].as_str()?, image["tag"].as_str()?);
            let name = if tag.is_empty() { name.to_owned() } else { format!("{name}@{tag}") };
            Some((name, image["size"].as_u64()?))
        };
        Ok(images.as_array().into_iter().flatten().filter_map(image).collect())
    }
}

async fn define(world: &World, host: &str) -> Result<PoolProxy<'static>> {
    let document = format!(
        "<pool type='sheepdog'><name>sheep</name><source>{host}<name>flock</name></source></pool>"
    );
    let (path, _) = world.manager().await?.define_pool_xml(&document, &none()).await?;
    world.pool(&path).await
}

pub async fn images_serve_from_definition_to_end() -> Result<()> {
    let world = World::start_with(CONFIGURATION).await?;
    let pool = define(&world, "<host name='127.0.0.1'/>").await?;
    let missing = pool.start(&none()).await;
    let missing = missing.expect_err("there is no dog");
    ensure!(missing.kind() == ErrorKind::ToolMissing && missing.message().contains("sheepdog"));
    let cluster = Cluster::of(&world)?;
    pool.start(&none()).await?;
    ensure!(pool.capacity().await? == 78_093_918_208);

    done(&world, "vol create sheep/one 10M").await?;
    ensure!(cluster.images()? == [("one".to_owned(), 10 * MIB)]);
    let shown = done(&world, "vol show sheep/one").await?;
    ensure!(shown.contains("flock/one") && shown.contains("network"), "{shown}");
    let manager = world.manager().await?;
    let path = manager.lookup_volume("flock/one", &none()).await?;
    ensure!(path == manager.lookup_volume("sheepdog:one", &none()).await?, "both are its names");
    fails(&world, "vol create sheep/one 1M", status_of(ErrorKind::Exists), "one").await?;
    let unsupported = status_of(ErrorKind::NotSupported);
    fails(&world, "vol create sheep/two 1M --preallocation full", unsupported, "written").await?;
    fails(
        &world,
        "vol create sheep/two 1M --format qcow2",
        status_of(ErrorKind::InvalidArgument),
        "qcow2",
    )
    .await?;

    done(&world, "vol resize sheep/one 12M").await?;
    ensure!(cluster.images()? == [("one".to_owned(), 12 * MIB)]);
    fails(&world, "vol resize sheep/one 4M --shrink", unsupported, "smaller").await?;
    let said = done(&world, "vol clone sheep/one two").await?;
    ensure!(said.contains("method snapshot"), "{said}");
    let images = cluster.images()?;
    let wanted = [("one".to_owned(), 12 * MIB), ("two".to_owned(), 12 * MIB)];
    ensure!(images == wanted, "the snapshot is gone, the clone is there: {images:?}");
    fails(&world, "vol clone sheep/one two", status_of(ErrorKind::Exists), "two").await?;

    // Content stays where it is, and whoever asks for it is told why.
    world.active_pool("files").await?;
    done(&world, "vol create files/raw 1M").await?;
    let file = world.pools().join("out").display().to_string();
    std::fs::write(&file, "x")?;
    for arguments in [
        format!("vol download sheep/one {file}"),
        format!("vol upload sheep/one {file}"),
        "vol clone sheep/one files/copy".to_owned(),
        "vol clone files/raw sheep/copy".to_owned(),
    ] {
        fails(&world, &arguments, unsupported, "dog vdi read").await?;
    }
    fails(&world, "vol wipe sheep/one", unsupported, "snapshots keep").await?;
    ensure!(cluster.images()?.len() == 2 && volume_names(&pool).await? == ["one", "two"]);

    // A deletion says success whatever happens; and what it did may show late.
    cluster.set("stuck", Some(""))?;
    fails(&world, "vol delete sheep/two", status_of(ErrorKind::ToolFailed), "does not show")
        .await?;
    ensure!(volume_names(&pool).await? == ["one", "two"]);
    cluster.set("stuck", None)?;
    cluster.set("late", Some("4"))?;
    done(&world, "vol delete sheep/two").await?;
    cluster.set("late", None)?;
    ensure!(cluster.images()?.len() == 1 && volume_names(&pool).await? == ["one"]);

    // What others do is seen, names with blanks too; snapshots are no volumes.
    let others = r#"[{"name":"a b","size":5,"tag":"","snapid":0,"parent":"","id":"1"},
        {"name":"one","size":7,"tag":"s1","snapid":1,"parent":"","id":"2"}]"#;
    std::fs::write(cluster.0.join("vdis.json"), others)?;
    pool.refresh(&none()).await?;
    ensure!(volume_names(&pool).await? == ["a b"]);
    let volume = world.volume(&pool.lookup_volume("a b", &none()).await?).await?;
    ensure!(volume.capacity().await? == 5);
    volume.delete(&none()).await?;
    pool.stop(&none()).await?;
    Ok(())
}

pub async fn a_cluster_that_is_gone_is_inaccessible_and_comes_back() -> Result<()> {
    let world = World::start_with(CONFIGURATION).await?;
    let cluster = Cluster::of(&world)?;
    let pool = define(&world, "<host name='127.0.0.1' port='7000'/>").await?;
    cluster.set(Fault::Stopped.word(), Some(""))?;
    let refused = pool.start(&none()).await.expect_err("it is down");
    ensure!(refused.kind() == ErrorKind::Inaccessible && refused.message().contains("7000"));
    cluster.set(Fault::Stopped.word(), None)?;
    pool.start(&none()).await?;
    pool.create_volume("one", MIB, &none()).await?;
    cluster.set(Fault::Stopped.word(), Some(""))?;
    let refused = pool.refresh(&none()).await;
    ensure!(refused.is_err_and(|error| error.kind() == ErrorKind::Inaccessible));
    ensure!(pool.state().await? == "inaccessible" && volume_names(&pool).await? == ["one"]);
    cluster.set(Fault::Stopped.word(), None)?;
    eventually("it is active again", async || Ok(pool.state().await? == "active")).await?;
    done(&world, "vol delete sheep/one").await?;
    Ok(())
}

/// What the pool says, as docs/dead-servers.md has it: an error, a state, the end of a creation and a message.
fn as_the_page_has_it(kind: ErrorKind, state: &str, creation: &str, said: &str) -> String {
    let error = kind.dbus_name().trim_start_matches("org.poold1.Error.").to_owned();
    format!("{error} | {state} | {creation} | {said}")
}

fn check(fault: Fault, moment: Moment, seen: &str) -> Result<()> {
    let expected = Expected::of("sheepdog", fault, moment)?;
    ensure!(
        expected.is(seen),
        "{fault:?} {moment:?}: docs/dead-servers.md says {:?}, and what is seen is {seen:?}",
        expected.0
    );
    Ok(())
}

pub async fn a_dead_cluster_says_what_the_page_of_dead_servers_says() -> Result<()> {
    let forever = with("wait", u64::MAX);
    for fault in Fault::ALL {
        let world =
            World::start_with(&format!("{CONFIGURATION}refresh = \"2s\"\nstart = \"2s\"\n"))
                .await?;
        let cluster = Cluster::of(&world)?;
        let data = world.data("").display().to_string();
        let pool = define(&world, "<host name='127.0.0.1'/>").await?;
        let back = async || {
            cluster.set(fault.word(), None)?;
            eventually("it is active again", async || {
                Ok(pool.state().await? == "active" && pool.last_error().await?.0.is_empty())
            })
            .await
        };
        let last = async |state: &str| -> Result<(ErrorKind, String)> {
            eventually(&format!("it is {state}"), async || {
                Ok(pool.state().await? == state && !pool.last_error().await?.0.is_empty())
            })
            .await?;
            let (name, said) = pool.last_error().await?;
            let said = plain(&said, &data).replace("pool sheep:", "pool sheepdog:");
            Ok((ErrorKind::from_dbus_name(&name).context("an odd error")?, said))
        };

        cluster.set(fault.word(), Some(""))?;
        pool.set_autostart(true, &none()).await?;
        world.manager().await?.autostart(&none()).await?;
        eventually("it says what it waits for", async || {
            let waits = pool.waiting_for().await? == "server 127.0.0.1";
            Ok(waits && pool.next_try().await? > 0)
        })
        .await?;
        let (kind, said) = last("inactive").await?;
        check(fault, Moment::Start, &as_the_page_has_it(kind, "inactive", "-", &said))?;
        back().await.context("after a start")?;

        pool.create_volume("one", MIB, &none()).await?;
        let others = Others::beside(&world, &pool).await?;
        cluster.set(fault.word(), Some(""))?;
        let (refreshed, calls) = tokio::join!(pool.refresh(&forever), others.a_thousand_calls());
        calls?;
        let refused = refreshed.err().context("it was read")?;
        ensure!(volume_names(&pool).await? == ["one"], "what was known is shown");
        let (_, said) = last("inaccessible").await?;
        check(
            fault,
            Moment::Active,
            &as_the_page_has_it(refused.kind(), "inaccessible", "-", &said),
        )?;
        back().await.context("while it was active")?;

        cluster.set(fault.word(), Some(""))?;
        let made = pool.create_volume("two", MIB, &forever).await;
        let made = made.err().context("it was made")?.kind();
        let made = as_the_page_has_it(made, "", "", "");
        let made = format!("failed {}", made.split(' ').next().unwrap_or_default());
        // One that was given up is what the pool says until it has returned.
        eventually("the pool is read in vain", async || {
            let read = pool.refresh(&forever).await;
            Ok(read.is_err() && pool.last_error().await?.0.ends_with(".Inaccessible"))
        })
        .await?;
        let (kind, said) = last("inaccessible").await?;
        check(fault, Moment::Job, &as_the_page_has_it(kind, "inaccessible", &made, &said))?;
        back().await.context("in a creation")?;
        ensure!(volume_names(&pool).await? == ["one"] && cluster.images()?.len() == 1);

        cluster.set(fault.word(), Some(""))?;
        world.end(Signal::SIGKILL).await?;
        world.manager().await?.version().await?;
        let (kind, said) = last("inaccessible").await?;
        check(fault, Moment::Daemon, &as_the_page_has_it(kind, "inaccessible", "-", &said))?;
        back().await.context("as a daemon began")?;
        ensure!(volume_names(&pool).await? == ["one"]);
    }
    Ok(())
}
