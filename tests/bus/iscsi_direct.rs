//! Pools of type iscsi-direct on targets of tgt; what they did is checked in the files that are behind the units.

use super::poolctl::{done, fails, noise, status_of};
use super::support::leaks::Watch;
use super::support::tgt::{OTHER, PASSWORD, TARGET, Tgt, set_password};
use super::support::world::{World, eventually, none, volume_names};
use anyhow::{Context, Result, bail, ensure};
use poold::client::PoolProxy;
use poold::model::ErrorKind;

const MIB: u64 = 1 << 20;

/// Reads a pool until its password was seen where it may be, which it is for moments.
async fn read_until_it_was_seen(pool: &PoolProxy<'_>, watch: &Watch) -> Result<()> {
    eventually("it is seen where it may be", async || {
        pool.refresh(&none()).await?;
        Ok(watch.has_seen_it())
    })
    .await
}

pub async fn units_serve_without_the_kernel() -> Result<()> {
    let world = World::start_with("log-level = \"trace\"\n").await?;
    let tgt = Tgt::start(world.pools().join("units"))?;
    let watch = Watch::over_but_in(PASSWORD, "LIBISCSI_CHAP_PASSWORD")?;
    set_password(&world, PASSWORD).await?;
    let pool = world.define(&tgt.document("direct", TARGET)).await?;
    pool.start(&none()).await?;
    ensure!(volume_names(&pool).await? == ["unit:0:0:1", "unit:0:0:3"]);
    ensure!(pool.capacity().await? == 49 * MIB, "sizes are exact");
    let path = format!("ip-127.0.0.1:{}-iscsi-{TARGET}-lun-3", tgt.port);
    let found = world.manager().await?.lookup_volume(&path, &none()).await?;
    ensure!(world.volume(&found).await?.capacity().await? == 33 * MIB);

    let file = world.pools().join("source");
    let mut content = noise(&file, 3)?;
    done(&world, &format!("vol upload direct/unit:0:0:3 {}", file.display())).await?;
    content.resize(usize::try_from(33 * MIB)?, 0);
    ensure!(tgt.content(3)? == content, "it is in the unit");
    let out = world.pools().join("out");
    let part = format!("vol download direct/unit:0:0:3 {} --offset 1M --length 1M", out.display());
    done(&world, &part).await?;
    ensure!(std::fs::read(&out)? == content[MIB as usize..2 * MIB as usize]);
    world.active_pool("files").await?;
    done(&world, "vol clone direct/unit:0:0:3 files/copy.qcow2 --format qcow2").await?;
    done(&world, "vol clone files/copy.qcow2 files/copy.raw --format raw").await?;
    ensure!(std::fs::read(world.pools().join("files/copy.raw"))? == content);
    done(&world, "vol wipe direct/unit:0:0:3").await?;
    ensure!(tgt.content(3)?.iter().all(|byte| *byte == 0), "nothing of it is left");

    let unsupported = status_of(ErrorKind::NotSupported);
    fails(&world, "vol create direct/new 1M", unsupported, "iscsi-direct").await?;
    fails(&world, "vol delete direct/unit:0:0:1", unsupported, "iscsi-direct").await?;
    // What is made and changed there is seen when somebody looks.
    tgt.unit(2, 4, 5)?;
    tgt.admin("--mode logicalunit --op delete --tid 2 --lun 1")?;
    pool.refresh(&none()).await?;
    ensure!(volume_names(&pool).await? == ["unit:0:0:3", "unit:0:0:4"]);
    read_until_it_was_seen(&pool, &watch).await?;
    watch.nowhere(&world, &[]).await?;
    pool.stop(&none()).await?;
    Ok(())
}

pub async fn targets_are_found_and_refusals_told_apart() -> Result<()> {
    let world = World::start().await?;
    let tgt = Tgt::start(world.pools().join("units"))?;
    let source = format!("<source><host name='127.0.0.1' port='{}'/></source>", tgt.port);
    let manager = world.manager().await?;
    let found = manager.find_sources_xml("iscsi-direct", &source, &none()).await?;
    ensure!(found.contains(TARGET) && found.contains(OTHER), "{found}");

    let pool = world.define(&tgt.document("direct", TARGET)).await?;
    let kind = async |pool: &PoolProxy<'_>| match pool.start(&none()).await {
        Ok(_) => bail!("it started"),
        Err(error) => Ok((error.kind(), error.message().to_owned())),
    };
    ensure!(kind(&pool).await?.0 == ErrorKind::NotFound, "no secret");
    set_password(&world, "wrong.horse.99").await?;
    let (refused, said) = kind(&pool).await?;
    ensure!(refused == ErrorKind::AuthenticationFailed && !said.contains("wrong.horse"), "{said}");
    set_password(&world, PASSWORD).await?;
    let absent = world.define(&tgt.document("absent", &format!("{TARGET}:no"))).await?;
    ensure!(kind(&absent).await?.0 == ErrorKind::Inaccessible, "no such target");
    Ok(())
}

pub async fn a_portal_may_ask_for_a_password_before_it_tells_of_targets() -> Result<()> {
    let world = World::start_with("log-level = \"trace\"\n").await?;
    // tgtadm is given the password as an argument.
    let tgt = Tgt::start(world.pools().join("units"))?;
    let watch = Watch::over_but_in(PASSWORD, "LIBISCSI_CHAP_PASSWORD")?;
    tgt.admin("--mode account --op bind --user alice")?;
    set_password(&world, "wrong.horse.99").await?;
    let manager = world.manager().await?;
    let find = async |auth: &str| {
        let host = format!("<host name='127.0.0.1' port='{}'/>", tgt.port);
        let source = format!("<source>{host}{auth}</source>");
        manager.find_sources_xml("iscsi-direct", &source, &none()).await
    };
    let auth = "<auth type='chap' username='alice'><secret usage='units'/></auth>";
    let mut said = Vec::new();
    for asked in ["", auth] {
        let error = find(asked).await.expect_err("it is told");
        ensure!(error.kind() == ErrorKind::AuthenticationFailed, "{asked}: {error:?}");
        said.push(error.message().to_owned());
    }
    set_password(&world, PASSWORD).await?;
    let found = find(auth).await?;
    ensure!(found.contains(TARGET) && found.contains(OTHER), "{found}");
    said.push(found);
    let place = format!("--host 127.0.0.1:{} --auth-type chap --auth-username alice", tgt.port);
    let found = done(&world, &format!("sources iscsi-direct {place} --auth-secret units")).await?;
    ensure!(found.contains(TARGET), "{found}");
    said.push(found);

    // A pool finds its units so too, by a secret that is named by its uuid.
    let secrets = poold::client::objects(&world.root, "/org/poold1/secrets").await?;
    let path = secrets.into_keys().next().context("no secret")?;
    let uuid = poold::client::SecretProxy::new(&world.root, path).await?.uuid().await?;
    let document =
        tgt.document("direct", TARGET).replace("usage='units'", &format!("uuid='{uuid}'"));
    let pool = world.define(&document).await?;
    pool.start(&none()).await?;
    ensure!(volume_names(&pool).await?.len() == 2);
    read_until_it_was_seen(&pool, &watch).await?;
    watch.nowhere(&world, &said).await?;
    pool.stop(&none()).await?;
    Ok(())
}
