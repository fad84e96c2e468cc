//! A pool whose storage hangs in the kernel.

use super::support::caller::Caller;
use super::support::stuck::Stuck;
use super::support::world::{World, eventually, manager, none, pool, volume_names, with};
use anyhow::{Context, Result, ensure};
use futures_util::stream::{self, StreamExt, TryStreamExt};
use nix::sys::signal::Signal;

fn threads(pid: nix::unistd::Pid) -> Result<usize> {
    Ok(std::fs::read_dir(format!("/proc/{pid}/task"))?.count())
}

pub async fn a_pool_that_hangs_is_alone_with_it() -> Result<()> {
    let world = World::start_with("[timeouts]\nrefresh = \"3s\"\n").await?;
    let images = world.active_pool("images").await?;
    images.create_volume("there.raw", 1 << 20, &none()).await?;
    let stuck = Stuck::pool(&world, "stuck").await?;
    stuck.pool.create_volume("inside.raw", 1 << 20, &none()).await?;
    let poold = world.poold().await?;
    stuck.freeze()?;

    let hanging = stuck.pool.refresh(&with("wait", 0_u64)).await?;
    eventually("the refresh runs", async || {
        let job = poold::client::JobProxy::new(&world.root, hanging.clone()).await?;
        Ok(job.state().await? == "running")
    })
    .await?;

    // 1,000 calls elsewhere, a few at a time, reads and writes, root's and nobody's: all are answered.
    let nobody = Caller::nobody(&world).await?;
    let theirs = pool(&nobody.connection, &images.inner().path().to_owned().into()).await?;
    let their_manager = manager(&nobody.connection).await?;
    let our_manager = world.manager().await?;
    let target = world.pools().join("images/there.raw").to_string_lossy().into_owned();
    let inside = world.pools().join("stuck/inside.raw").to_string_lossy().into_owned();
    let one = async |number: usize| -> Result<()> {
        match number % 10 {
            0 => {
                images
                    .create_volume(&format!("v{number}.qcow2"), 1 << 20, &with("format", "qcow2"))
                    .await?;
            }
            1 => drop(theirs.list_volumes("", 0, &none()).await?),
            2 => drop(poold::client::objects(&nobody.connection, "/org/poold1/pools").await?),
            3 => drop(their_manager.lookup_volume(&target, &none()).await?),
            4 => drop(our_manager.list_pools(&none()).await?),
            5 => {
                our_manager
                    .define_pool_xml(&world.pool_xml(&format!("p{number}")), &none())
                    .await?;
            }
            6 => drop(images.refresh(&none()).await?),
            // What is known of the pool that hangs is known still.
            7 => ensure!(stuck.pool.volume_count().await? == 1),
            8 => drop(our_manager.lookup_volume(&inside, &none()).await?),
            _ => drop(their_manager.get_capabilities_xml(&none()).await?),
        }
        Ok(())
    };
    stream::iter(0..1000)
        .map(|number| {
            let one = &one;
            async move { one(number).await.with_context(|| format!("call {number}")) }
        })
        .buffer_unordered(32)
        .try_collect::<Vec<()>>()
        .await?;

    // The pool says that it does not answer, and costs no thread for each who asks it again.
    eventually(
        "the pool is inaccessible",
        async || Ok(stuck.pool.state().await? == "inaccessible"),
    )
    .await?;
    let before = threads(poold)?;
    for _ in 0..20 {
        let _ = stuck.pool.refresh(&with("wait", 0_u64)).await;
    }
    let after = threads(poold)?;
    ensure!(after <= before + 2, "{before} threads became {after}");

    // The service can end and come back beside it.
    world.end(Signal::SIGTERM).await?;
    ensure!(volume_names(&images).await?.contains(&"there.raw".to_owned()));
    ensure!(stuck.pool.state().await? != "inactive", "forgotten that it is active");

    stuck.thaw()?;
    eventually("the pool recovers", async || {
        let _ = stuck.pool.refresh(&none()).await;
        Ok(stuck.pool.state().await? == "active")
    })
    .await?;
    stuck.pool.create_volume("after.raw", 1 << 20, &none()).await?;
    ensure!(volume_names(&stuck.pool).await? == ["after.raw", "inside.raw"]);
    Ok(())
}
