//! The peer, with the same pools.

use crate::support::libvirt::{Client, Libvirt, POOL, in_namespace, make_pool};
use crate::{Frozen, Latency, Line, calls};
use anyhow::Context;
use std::path::Path;

/// Measures libvirt, in a namespace.
pub fn measure(place: &Path) -> anyhow::Result<Vec<Line>> {
    let said = in_namespace(place)?;
    let latency = |text: &str| -> Latency {
        let (median, most) = text.split_once(' ')?;
        Some((median.parse().ok()?, most.parse().ok()?))
    };
    let line = |line: &str| {
        let mut parts = line.split('|');
        let mut next = || parts.next().context("libvirt's figures");
        let call = next()?.to_owned();
        Ok(Line { call, before: latency(next()?), beside: latency(next()?) })
    };
    said.lines().map(line).collect()
}

/// What happens inside.
pub fn run_inside_namespace(place: &Path) -> anyhow::Result<()> {
    let libvirt = Libvirt::start()?;
    let frozen = Frozen::mount(place)?;
    make_pool("well", &place.join("well"))?;
    make_pool("dead", frozen.target())?;
    let _dbus = libvirt.on_the_bus()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let lines = runtime.block_on(over_dbus(&frozen))?;
    let cell =
        |latency: &Latency| latency.map_or(String::new(), |(p50, p99)| format!("{p50} {p99}"));
    for Line { call, before, beside } in &lines {
        println!("{call}|{}|{}", cell(before), cell(beside));
    }
    Ok(())
}

async fn over_dbus(frozen: &Frozen) -> anyhow::Result<Vec<Line>> {
    let client = Client::connect().await?;
    let connect = ("/org/libvirt/QEMU", "org.libvirt.Connect");
    client.pools().await?;
    let lookup = async |name: &str| {
        let reply = client.call(connect.0, connect.1, "StoragePoolLookupByName", &name).await?;
        anyhow::Ok(reply.body().deserialize::<zbus::wire::OwnedObjectPath>()?)
    };
    let (well, dead) = (lookup("well").await?, lookup("dead").await?);
    let on = async |path: &str, interface: &str, method: &str| {
        calls(async || Ok(client.call(path, interface, method, &0_u32).await.map(drop)?)).await
    };
    let kinds = async || {
        let list = on(connect.0, connect.1, "ListStoragePools").await?;
        let volumes = on(&well, POOL, "ListStorageVolumes").await?;
        let refresh = on(&well, POOL, "Refresh").await?;
        anyhow::Ok([("list pools", list), ("list volumes", volumes), ("refresh", refresh)])
    };
    let before = kinds().await?;
    frozen.freeze()?;
    let asked = client.call(&dead, POOL, "Refresh", &0_u32);
    // Its answer, if there is one, is nobody's.
    let _ = tokio::time::timeout(std::time::Duration::from_millis(500), asked).await;
    let beside = kinds().await?;
    Ok(Line::pairs(before, beside))
}
