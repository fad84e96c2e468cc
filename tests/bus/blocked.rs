//! A pool whose storage hangs in the kernel.

use super::support::others::Others;
use super::support::stuck::Stuck;
use super::support::world::{World, eventually, none, volume_names, with};
use anyhow::{Result, ensure};
use nix::sys::signal::Signal;

fn threads(pid: nix::unistd::Pid) -> Result<usize> {
    Ok(std::fs::read_dir(format!("/proc/{pid}/task"))?.count())
}

pub async fn a_pool_that_hangs_is_alone_with_it() -> Result<()> {
    let world = World::start_with("[timeouts]\nrefresh = \"3s\"\n").await?;
    let stuck = Stuck::pool(&world, "stuck").await?;
    let others = Others::beside(&world, &stuck.pool).await?;
    stuck.pool.create_volume("inside.raw", 1 << 20, &none()).await?;
    let poold = world.poold().await?;
    stuck.freeze()?;

    let hanging = stuck.pool.refresh(&with("wait", 0_u64)).await?;
    eventually("the refresh runs", async || {
        let job = poold::client::JobProxy::new(&world.root, hanging.clone()).await?;
        Ok(job.state().await? == "running")
    })
    .await?;
    others.a_thousand_calls().await?;
    // What is known of the pool that hangs is known still.
    let inside = world.pools().join("stuck/inside.raw").to_string_lossy().into_owned();
    world.manager().await?.lookup_volume(&inside, &none()).await?;
    ensure!(stuck.pool.volume_count().await? == 1);

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
    ensure!(volume_names(others.images()).await?.contains(&"there.raw".to_owned()));
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
