//! Images that are made in steps: whole, or not there.

use super::*;
use poold::client::{JobProxy, Options};

/// What an image takes.
fn used(cluster: &Cluster, image: &str) -> Result<u64> {
    let said = cluster.rbd(&["du", &cluster.image(image)])?;
    said["images"][0]["used_size"].as_u64().context("no size")
}

pub async fn images_are_thick_or_begin_as_others_are() -> Result<()> {
    let cluster = cluster("making")?;
    let (world, pool) = started(&cluster).await?;
    for how in ["full", "falloc"] {
        done(&world, &format!("vol create ceph/{how} 9M --preallocation {how}")).await?;
        ensure!(used(&cluster, how)? == 9 * MIB, "{how}: every object is there");
        ensure!(cluster.content(how)?.iter().all(|byte| *byte == 0));
    }
    let invalid = status_of(ErrorKind::InvalidArgument);
    fails(&world, "vol create ceph/x 1M --preallocation metadata", invalid, "metadata").await?;

    // As another one of the pool is, and larger if so wished.
    let file = world.pools().join("source");
    let mut content = noise(&file, 9)?;
    done(&world, &format!("vol upload ceph/full {}", file.display())).await?;
    done(&world, "vol create ceph/child --backing ceph/full").await?;
    done(&world, "vol create ceph/large 12M --backing ceph/full").await?;
    for (name, bytes) in [("child", 9 * MIB), ("large", 12 * MIB)] {
        let info = cluster.rbd(&["info", &cluster.image(name)])?;
        ensure!(
            info["parent"]["image"] == "full" && info["size"].as_u64() == Some(bytes),
            "{info}"
        );
        ensure!(used(&cluster, name)? == 0, "it shares all");
        content.resize(usize::try_from(bytes)?, 0);
        ensure!(cluster.content(name)? == content);
    }
    for (backing, kind) in
        [("making/none", ErrorKind::NotFound), ("elsewhere/full", ErrorKind::InvalidArgument)]
    {
        let options = Options::from([("backing-path", backing.into())]);
        let refused = pool.create_volume("y", MIB, &options).await;
        ensure!(refused.is_err_and(|error| error.kind() == kind), "{backing}");
    }
    ensure!(cluster.images()?.len() == 4, "{:?}", cluster.images()?);

    // Cancelled half-way.
    slowed(&cluster)?;
    let options = Options::from([("preallocation", "full".into()), ("wait", 0_u64.into())]);
    let (_, job) = pool.create_volume("long", 600 * MIB, &options).await?;
    in_the_making(&cluster).await?;
    let job = JobProxy::builder(pool.inner().connection()).path(job).build().await?;
    job.cancel(&none()).await?;
    let waited = job.wait(&none()).await;
    let cancelled = waited.as_ref().is_err_and(|error| error.kind() == ErrorKind::Cancelled);
    ensure!(cancelled, "{waited:?}");
    ensure!(cluster.images()?.len() == 4, "{:?}", cluster.images()?);
    ensure!(pool.state().await? == "active");

    // And with the service killed, and somebody who has no lock that could be broken.
    pool.create_volume("long", 600 * MIB, &options).await?;
    let image = in_the_making(&cluster).await?;
    let guest = Guest::open(&cluster, &image).await?;
    world.end(Signal::SIGKILL).await?;
    guest.dies()?;
    world.poold().await?;
    eventually("what it left is removed", async || {
        ensure!(pool.state().await? == "active", "it is not given up meanwhile");
        Ok(cluster.images()?.len() == 4)
    })
    .await?;
    for name in ["child", "large", "full", "falloc"] {
        done(&world, &format!("vol delete ceph/{name}")).await?;
    }
    Ok(())
}

/// From now on to write a hundred MiB takes a few seconds.
fn slowed(cluster: &Cluster) -> Result<()> {
    let limit = ["config", "pool", "set", cluster.pool, "rbd_qos_write_bps_limit", "20M"];
    cluster.admin("rbd", &limit)?;
    Ok(())
}

/// Waits until there is an image that is not whole and is being written: who writes has its lock. (It is listed before
/// it can be opened, and a client that dies before it has the lock is remembered for 30 s.)
async fn in_the_making(cluster: &Cluster) -> Result<String> {
    let mut image = None;
    eventually("the job has begun", async || {
        let is_written = |name: &String| {
            let locks = cluster.rbd(&["lock", "ls", &cluster.image(name)]);
            locks.is_ok_and(|locks| locks.as_array().is_some_and(|locks| !locks.is_empty()))
        };
        let mut names = cluster.images()?.into_iter();
        image = names.find(|name| name.starts_with(".poold-") && is_written(name));
        Ok(image.is_some())
    })
    .await?;
    image.context("no image")
}

pub async fn a_copy_that_dies_half_way_leaves_no_image() -> Result<()> {
    let cluster = cluster("copying")?;
    let (world, pool) = started(&cluster).await?;
    world.active_pool("files").await?;
    let file = world.pools().join("source");
    noise(&file, 200)?;
    done(&world, "vol create files/big 200M").await?;
    done(&world, &format!("vol upload files/big {}", file.display())).await?;
    let big = world
        .volume(
            &world
                .manager()
                .await?
                .lookup_volume(&world.pools().join("files/big").display().to_string(), &none())
                .await?,
        )
        .await?;
    slowed(&cluster)?;
    let options = Options::from([("wait", 0_u64.into()), ("pool", "ceph".into())]);
    big.clone("copy", &options).await?;
    in_the_making(&cluster).await?;
    world.end(Signal::SIGKILL).await?;
    world.poold().await?;
    eventually("what it left is removed", async || Ok(cluster.images()?.is_empty())).await?;
    ensure!(volume_names(&pool).await?.is_empty());
    nothing_is_left_on_the_host(&world)
}
