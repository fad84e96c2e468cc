//! Wiping over the bus, and what a pool says of its new volumes.

use super::support::world::{World, none, with};
use anyhow::{Context, Result, ensure};
use poold::client::{JobProxy, PoolProxy};
use std::collections::HashMap;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::process::Command;

const SECRET: &[u8] = b"what nobody may see again";

/// Wipes a volume; its job's result as text.
async fn wipe(
    world: &World,
    pool: &PoolProxy<'_>,
    name: &str,
    algorithm: &'static str,
) -> Result<HashMap<String, String>> {
    let volume = world.volume(&pool.lookup_volume(name, &none()).await?).await?;
    let options = HashMap::from([
        ("algorithm", algorithm.into()),
        ("force", true.into()),
        // Many passes, each synced: as long as the disk takes.
        ("wait", u64::MAX.into()),
    ]);
    let job = JobProxy::builder(&world.root)
        .path(volume.wipe(&options).await?)
        .cache_properties(zbus::proxy::CacheProperties::No)
        .build()
        .await?;
    ensure!(job.operation().await? == "volume-wipe" && job.state().await? == "done");
    ensure!(!volume.incomplete().await?, "{name} is not whole");
    Ok(job.result().await?.into_iter().map(|(key, what)| (key, format!("{what:?}"))).collect())
}

pub async fn every_algorithm_wipes_and_says_what_it_did() -> Result<()> {
    let world = World::start().await?;
    let pool = world.active_pool("images").await?;
    for algorithm in [
        "zero",
        "trim",
        "random",
        "nnsa",
        "dod",
        "bsi",
        "gutmann",
        "schneier",
        "pfitzner7",
        "pfitzner33",
    ] {
        pool.create_volume(algorithm, 1 << 40, &none()).await?;
        let path = world.pools().join("images").join(algorithm);
        let file = std::fs::File::options().read(true).write(true).open(&path)?;
        file.write_all_at(SECRET, 1 << 35)?;
        let result = wipe(&world, &pool, algorithm, algorithm).await?;
        let mut found = [0; SECRET.len()];
        file.read_exact_at(&mut found, 1 << 35)?;
        ensure!(found != SECRET, "{algorithm} left it");
        ensure!(file.metadata()?.len() == 1 << 40 && file.metadata()?.blocks() < 2048, "it grew");
        for key in ["algorithm", "passes", "bytes", "guarantee"] {
            ensure!(result.contains_key(key), "{algorithm}: no {key} in {result:?}");
        }
        ensure!(result["algorithm"].contains(algorithm), "{result:?}");
    }
    Ok(())
}

pub async fn a_wiped_qcow2_image_is_an_empty_one() -> Result<()> {
    let world = World::start().await?;
    let pool = world.active_pool("images").await?;
    pool.create_volume("disk", 64 << 20, &with("format", "qcow2")).await?;
    let path = world.pools().join("images/disk");
    let qemu = |program: &str, arguments: &[&str]| -> Result<String> {
        let out = Command::new(program).args(arguments).arg(&path).output()?;
        let errors = String::from_utf8_lossy(&out.stderr);
        ensure!(out.status.success(), "{program} {arguments:?}: {errors}");
        Ok(String::from_utf8(out.stdout)?)
    };
    qemu("qemu-io", &["-f", "qcow2", "-c", "write -P 7 1M 8M"])?;
    let inode = path.metadata()?.ino();
    wipe(&world, &pool, "disk", "zero").await?;
    qemu("qemu-img", &["check", "-q", "-f", "qcow2"])?;
    qemu("qemu-io", &["-f", "qcow2", "-c", "read -P 0 0 64M"])?;
    let info: serde_json::Value =
        serde_json::from_str(&qemu("qemu-img", &["info", "--output=json"])?)?;
    ensure!(info["format"] == "qcow2" && info["virtual-size"] == 64 << 20, "{info}");
    ensure!(path.metadata()?.ino() == inode && path.metadata()?.len() < 1 << 20);
    let volume = world.volume(&pool.lookup_volume("disk", &none()).await?).await?;
    ensure!(volume.format_source().await? == "declared" && volume.capacity().await? == 64 << 20);
    Ok(())
}

pub async fn new_volumes_are_as_their_pool_says() -> Result<()> {
    let world = World::start().await?;
    let target = world.pools().join("team");
    let settings = HashMap::from([
        ("target", target.to_str().context("no text")?.into()),
        ("volume-mode", 0o640_u32.into()),
        ("volume-group", 4321_u32.into()),
    ]);
    let options = HashMap::from([("build", "yes".into()), ("start", true.into())]);
    let manager = world.manager().await?;
    let (path, _) = manager.define_pool("dir", "team", &settings, &options).await?;
    let pool = world.pool(&path).await?;
    let xml = pool.get_xml(&none()).await?;
    ensure!(xml.contains("volume-permissions"), "{xml}");
    // The same document is the same pool.
    ensure!(manager.define_pool_xml(&xml, &none()).await?.0 == path);
    pool.create_volume("disk", 4096, &none()).await?;
    world.end(nix::sys::signal::Signal::SIGTERM).await?;
    pool.create_volume("after-a-restart", 4096, &none()).await?;
    pool.create_volume("stated", 4096, &with("mode", 0o600_u32)).await?;
    for (name, mode) in [("disk", 0o640), ("after-a-restart", 0o640), ("stated", 0o600)] {
        let found = target.join(name).metadata()?;
        ensure!((found.mode() & 0o7777, found.gid()) == (mode, 4321), "{name}: {found:?}");
    }
    let mut program = settings;
    program.insert("volume-mode", 0o4755_u32.into());
    let refused = manager.define_pool("dir", "other", &program, &none()).await;
    ensure!(refused.is_err_and(|error| format!("{error:?}").contains("set-user-ID")));
    Ok(())
}
