//! Pools of type vstorage, by a `vstorage-mount` and a `ploop` that are fakes (tests/support/fakes): Virtuozzo's own
//! cannot be installed. The images are such as QEMU reads.

use super::poolctl::{done, fails, noise, status_of};
use super::support::fault::Fault;
use super::support::vstorage::{CLUSTER, Clusters};
use super::support::world::{World, eventually, none, volume_names, with};
use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use poold::client::PoolProxy;
use poold::model::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

const MIB: u64 = 1 << 20;
/// Clusters are waited for in tests: not long.
const CONFIGURATION: &str =
    "[timeouts]\nstart = \"3s\"\nretry-first = \"500ms\"\nretry-longest = \"1s\"\n";

/// A world with the fakes, and the cluster that is there.
async fn with_cluster() -> Result<(World, Clusters)> {
    let world = World::start_with(CONFIGURATION).await?;
    let clusters = Clusters::below(world.pools().join("clusters"))?;
    clusters.reached_from(&world)?;
    Ok((world, clusters))
}

/// libvirt's document of a pool of a cluster.
pub fn document(name: &str, cluster: &str, target: &Path, more: &str) -> String {
    format!(
        "<pool type='vstorage'><name>{name}</name><source><name>{cluster}</name></source>\
         <target><path>{}</path>{more}</target></pool>",
        target.display()
    )
}

async fn define(
    world: &World,
    name: &str,
    cluster: &str,
    more: &str,
) -> Result<PoolProxy<'static>> {
    world.define(&document(name, cluster, &world.pools().join(name), more)).await
}

/// The row of the mount table for a pool's target.
fn mounted(world: &World, name: &str) -> Result<Option<String>> {
    let table =
        String::from_utf8(world.inside("cat").arg("/proc/self/mountinfo").output()?.stdout)?;
    let target = world.pools().join(name).display().to_string();
    Ok(table.lines().find(|line| line.split(' ').nth(4) == Some(&target)).map(str::to_owned))
}

pub async fn a_cluster_serves_files_from_definition_to_end() -> Result<()> {
    let (world, clusters) = with_cluster().await?;
    let cluster = clusters.files();
    let owner = "<permissions><mode>0750</mode><owner>65534</owner><group>0</group></permissions>";
    let pool = define(&world, "vz", CLUSTER, owner).await?;
    pool.build(&none()).await?;
    pool.start(&none()).await?;
    let row = mounted(&world, "vz")?.context("it is not mounted")?;
    for wanted in ["vstorage://cloud", "nosuid", "nodev", "noexec"] {
        ensure!(row.contains(wanted), "{wanted}: {row}");
    }
    let found = cluster.metadata()?;
    ensure!((found.mode() & 0o7777, found.uid(), found.gid()) == (0o750, 65534, 0));

    done(&world, "vol create vz/raw 5M").await?;
    done(&world, "vol create vz/image.qcow2 5M --format qcow2").await?;
    let file = world.pools().join("source");
    let content = noise(&file, 5)?;
    done(&world, &format!("vol upload vz/raw {}", file.display())).await?;
    ensure!(std::fs::read(cluster.join("raw"))? == content, "it is in the cluster");
    done(&world, "vol resize vz/raw 6M").await?;
    done(&world, "vol clone vz/raw copy.qcow2 --format qcow2").await?;
    done(&world, "vol wipe vz/raw").await?;
    ensure!(std::fs::read(cluster.join("raw"))?.iter().all(|byte| *byte == 0));

    // The mount outlives the service, and what is mounted already is adopted.
    world.end(Signal::SIGKILL).await?;
    world.poold().await?;
    eventually("it is active", async || Ok(pool.state().await? == "active")).await?;
    ensure!(volume_names(&pool).await? == ["copy.qcow2", "image.qcow2", "raw"]);
    for name in ["raw", "image.qcow2", "copy.qcow2"] {
        done(&world, &format!("vol delete vz/{name}")).await?;
    }
    ensure!(std::fs::read_dir(&cluster)?.next().is_none());
    pool.stop(&none()).await?;
    ensure!(mounted(&world, "vz")?.is_none());
    pool.delete(&none()).await?;
    ensure!(!world.pools().join("vz").exists() && cluster.exists());
    Ok(())
}

pub async fn what_is_wrong_with_a_cluster_says_so() -> Result<()> {
    let (world, clusters) = with_cluster().await?;
    let cluster = clusters.files();
    let absent = define(&world, "absent", "nowhere", "").await?;
    let refused = absent.start(&none()).await.expect_err("there is no such cluster");
    ensure!(
        refused.kind() == ErrorKind::Inaccessible && refused.message().contains("nowhere"),
        "{refused}"
    );
    let nameless = "<permissions><owner>4000000000</owner></permissions>";
    let refused = define(&world, "nameless", "elsewhere", nameless).await?.start(&none()).await;
    ensure!(refused.is_err_and(|error| error.kind() == ErrorKind::InvalidArgument));

    // Unmounted behind its back is seen, and so is its return.
    let pool = define(&world, "vz", CLUSTER, "").await?;
    pool.start(&none()).await?;
    let target = world.pools().join("vz");
    ensure!(world.inside("umount").arg(&target).status()?.success());
    eventually("it is seen", async || Ok(pool.state().await? == "inaccessible")).await?;
    let again = world
        .inside("vstorage-mount")
        .args(["-c", CLUSTER])
        .arg(&target)
        .args(["-m", "711", "-g", "root", "-u", "root"])
        .status()?;
    ensure!(again.success());
    eventually("it is back", async || Ok(pool.state().await? == "active")).await?;
    pool.stop(&none()).await?;
    ensure!(cluster.exists());
    Ok(())
}

pub async fn a_cluster_that_does_not_answer_is_waited_for() -> Result<()> {
    let (world, clusters) = with_cluster().await?;
    let pool = define(&world, "vz", CLUSTER, "").await?;
    for (fault, said) in [
        (Fault::Frozen, "cluster cloud does not answer"),
        (Fault::Garbage, "cannot mount vstorage://cloud"),
    ] {
        clusters.fail(fault)?;
        let refused = pool.start(&with("retry", true)).await.expect_err("nobody answers");
        ensure!(refused.kind() == ErrorKind::Inaccessible, "{refused}");
        ensure!(refused.message().contains(said), "{refused}");
        eventually("it is tried again", async || Ok(pool.next_try().await? > 0)).await?;
        ensure!(mounted(&world, "vz")?.is_none());
        clusters.recover()?;
        eventually("it is active", async || Ok(pool.state().await? == "active")).await?;
        ensure!(pool.last_error().await?.0.is_empty());
        pool.stop(&none()).await?;
    }
    Ok(())
}

pub async fn ploop_volumes_are_directories_with_an_image() -> Result<()> {
    let (world, clusters) = with_cluster().await?;
    let cluster = clusters.files();
    let pool = define(&world, "vz", CLUSTER, "").await?;
    pool.start(&none()).await?;
    done(&world, "vol create vz/ct 20M --format ploop").await?;
    let volume = cluster.join("ct");
    ensure!(volume.join("root.hds").is_file() && volume.join("DiskDescriptor.xml").is_file());
    let shown = done(&world, "vol show vz/ct").await?;
    ensure!(shown.contains("ploop") && shown.contains("20 MiB"), "{shown}");
    let path = world.pools().join("vz/ct").display().to_string();
    let found = world.volume(&world.manager().await?.lookup_volume(&path, &none()).await?).await?;
    ensure!(found.kind().await? == "ploop" && found.capacity().await? == 20 * MIB);
    let xml = found.get_xml(&none()).await?;
    ensure!(
        xml.contains("<volume type='ploop'>") && xml.contains("<format type='ploop'/>"),
        "{xml}"
    );

    let described = |name: &str| -> Result<String> {
        Ok(std::fs::read_to_string(cluster.join(name).join("DiskDescriptor.xml"))?)
    };
    done(&world, "vol resize vz/ct 30M").await?;
    ensure!(described("ct")?.contains("<Disk_size>61440<"), "{}", described("ct")?);
    let invalid = status_of(ErrorKind::InvalidArgument);
    fails(&world, "vol resize vz/ct 10M", invalid, "shrink").await?;
    ensure!(found.capacity().await? == 30 * MIB);

    done(&world, "vol clone vz/ct copy").await?;
    ensure!(described("copy")? == described("ct")?);
    let image = |name: &str| std::fs::read(cluster.join(name).join("root.hds"));
    ensure!(image("copy")? == image("ct")?);
    // Content goes in and out as images, and the description follows.
    done(&world, "vol create vz/other 8M --format ploop").await?;
    let out = world.pools().join("out");
    done(&world, &format!("vol download vz/ct {}", out.display())).await?;
    ensure!(std::fs::read(&out)? == image("ct")?);
    done(&world, &format!("vol upload vz/other {}", out.display())).await?;
    ensure!(described("other")? == described("ct")?, "it fits what was written");
    done(&world, "vol clone vz/ct flat.qcow2 --format qcow2").await?;
    ensure!(cluster.join("flat.qcow2").is_file());
    let unsupported = status_of(ErrorKind::NotSupported);
    fails(&world, "vol clone vz/flat.qcow2 back --format ploop", unsupported, "ploop").await?;
    done(&world, "vol wipe vz/other").await?;
    ensure!(described("other")? == described("ct")?);
    // With snapshots the image is not all of it.
    std::fs::write(volume.join("root.hds.{5fbaabe3-6958-40ff-92a7-860e329aab41}"), "")?;
    fails(&world, &format!("vol download vz/ct {}", out.display()), unsupported, "snapshots")
        .await?;

    // A directory of somebody's is none.
    std::fs::create_dir(cluster.join("plain"))?;
    pool.refresh(&none()).await?;
    ensure!(done(&world, "vol show vz/plain").await?.contains("dir"));
    for name in ["ct", "copy", "other", "flat.qcow2", "plain"] {
        done(&world, &format!("vol delete vz/{name}")).await?;
    }
    let left = std::fs::read_dir(&cluster)?.count();
    ensure!(left == 0, "{left} entries are left");
    pool.stop(&none()).await?;
    Ok(())
}
