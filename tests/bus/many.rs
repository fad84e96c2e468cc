//! Many at once.

use super::support::call::{Ask, Method, call};
use super::support::caller::Caller;
use super::support::stuck::Stuck;
use super::support::world::{World, manager, none, pool, volume_names, with};
use anyhow::{Context, Result, ensure};
use futures_util::future::try_join_all;
use std::collections::HashSet;
use std::process::Command;

pub async fn two_hundred_clients_at_once() -> Result<()> {
    let world = World::start().await?;
    let images = world.active_pool("images").await?;
    let path = images.inner().path().to_owned().into();
    // Nobody has some of them; the bus gives a user 256 connections.
    let nobodies = try_join_all((0..20).map(|_| Caller::nobody(&world))).await?;
    let roots = try_join_all((0..180).map(|_| world.connect())).await?;
    let path = &path;
    let of_root = roots.iter().enumerate().map(|(number, connection)| async move {
        let images = pool(connection, path).await?;
        let name = format!("v{number}.raw");
        let (volume, _) = images.create_volume(&name, 1 << 16, &none()).await?;
        ensure!(images.lookup_volume(&name, &none()).await? == volume);
        ensure!(!manager(connection).await?.list_pools(&none()).await?.is_empty());
        Ok(())
    });
    let of_nobody = nobodies.iter().map(|caller| async move {
        for _ in 0..20 {
            pool(&caller.connection, path).await?.list_volumes("", 10, &none()).await?;
        }
        anyhow::Ok(())
    });
    tokio::try_join!(try_join_all(of_root), try_join_all(of_nobody))?;
    ensure!(volume_names(&images).await?.len() == 180);
    Ok(())
}

pub async fn a_caller_with_too_many_calls_is_told() -> Result<()> {
    let world = World::start_with("[limits]\ncalls-per-caller = 32\n").await?;
    let stuck = Stuck::pool(&world, "stuck").await?;
    stuck.freeze()?;
    let job = stuck.pool.refresh(&with("wait", 0_u64)).await?;
    let greedy = Caller::nobody(&world).await?;
    let connection = &greedy.connection;
    let wait = Method { path: job.as_str(), interface: "org.poold1.Job", member: "Wait" };
    let body = (with("wait", 2_000_000_u64),);
    let calls = (0..64).map(|_| call(connection, wait, &body, Ask::Never));
    let answers = try_join_all(calls).await?;
    let told =
        answers.iter().filter(|a| a.error() == "org.freedesktop.DBus.Error.LimitsExceeded").count();
    ensure!(told >= 32, "only {told} of 64 calls were too many: {:?}", answers.last());
    ensure!(told < 64, "none was let in");
    // Others are not concerned, and neither are the caller's next ones.
    world.manager().await?.list_pools(&none()).await?;
    manager(connection).await?.list_pools(&none()).await?;
    stuck.thaw()
}

pub async fn ten_thousand_files_are_all_listed() -> Result<()> {
    const MANY: usize = 10_000;
    let world = World::start().await?;
    let directory = world.pools().join("images");
    std::fs::create_dir(&directory)?;
    for number in 0..MANY {
        std::fs::write(directory.join(format!("disk-{number}.raw")), "x")?;
    }
    let images = world.active_pool("images").await?;
    let (mut seen, mut after) = (HashSet::new(), String::new());
    loop {
        let (page, next) = images.list_volumes(&after, 1000, &none()).await?;
        ensure!(page.len() <= 1000);
        for (path, _) in page {
            ensure!(seen.insert(path.clone()), "{path} came twice");
        }
        if next.is_empty() {
            break;
        }
        after = next;
    }
    ensure!(seen.len() == MANY, "{} in pages", seen.len());
    let managed = poold::client::objects(&world.root, images.volumes().await?.as_str()).await?;
    ensure!(managed.len() == MANY, "{} objects", managed.len());
    let mut command = Command::new("busctl");
    command.arg(format!("--address={}", world.address())).args(["tree", "--list", "org.poold1"]);
    let output = tokio::task::spawn_blocking(move || command.output()).await?.context("busctl")?;
    let tree = String::from_utf8_lossy(&output.stdout).into_owned();
    let shown = tree.lines().filter(|line| line.contains("/volumes/")).count();
    ensure!(shown > MANY, "busctl tree shows {shown}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}
