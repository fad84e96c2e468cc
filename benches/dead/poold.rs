//! poold, on a private bus.

use crate::support::PrivateBus;
use crate::{Frozen, Line, calls};
use poold::client::{ManagerProxy, Options, PoolProxy};
use std::path::Path;
use zbus::wire::Variant;

/// Measures poold with the pools `well` and `dead` below a directory.
pub fn measure(place: &Path) -> anyhow::Result<Vec<Line>> {
    let root = place.join("root");
    std::fs::create_dir(&root)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(on_the_bus(place, &root))
}

async fn on_the_bus(place: &Path, root: &Path) -> anyhow::Result<Vec<Line>> {
    let bus = PrivateBus::start(root)?;
    let connection = poold::client::connect(Some(bus.address())).await?;
    let manager = ManagerProxy::new(&connection).await?;
    // Thawed before the daemon ends.
    let frozen = Frozen::mount(place)?;
    let pool = async |name: &str, directory: &Path| {
        let xml = format!(
            "<pool type='dir'><name>{name}</name><target><path>{}</path></target></pool>",
            directory.display()
        );
        let options = Options::from([("start", Variant::from(true))]);
        let (path, _) = manager.define_pool_xml(&xml, &options).await?;
        anyhow::Ok(PoolProxy::new(&connection, path).await?)
    };
    let (well, dead) =
        (pool("well", &place.join("well")).await?, pool("dead", frozen.target()).await?);
    let none = Options::new();
    let kinds = async || {
        let list = calls(async || Ok(manager.list_pools(&none).await.map(drop)?)).await?;
        let volumes = calls(async || Ok(well.list_volumes("", 0, &none).await.map(drop)?)).await?;
        let refresh = calls(async || Ok(well.refresh(&none).await.map(drop)?)).await?;
        anyhow::Ok([("list pools", list), ("list volumes", volumes), ("refresh", refresh)])
    };
    let before = kinds().await?;
    frozen.freeze()?;
    dead.refresh(&Options::from([("wait", Variant::from(0_u64))])).await?;
    let beside = kinds().await?;
    Ok(Line::pairs(before, beside))
}
