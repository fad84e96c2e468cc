//! poold, started by its bus name on a private bus, on the same images.

use crate::figures::{Figures, resident_mib};
use crate::pool_directory::PoolDirectory;
use crate::support::{PrivateBus, median, milliseconds};
use poold::client::{ManagerProxy, Options, PoolProxy, VolumeProxy};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;
use zbus::wire::Variant;

/// Measures poold on these images.
pub fn measure(directory: &PoolDirectory) -> anyhow::Result<Figures> {
    let root = directory.scratch("root")?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut figures = Figures::default();
    runtime.block_on(define_and_work(directory, &root, &mut figures))?;
    runtime.block_on(start_again(directory, &root, &mut figures))?;
    Ok(figures)
}

/// A pool over the images is defined and worked with.
async fn define_and_work(
    directory: &PoolDirectory,
    root: &Path,
    figures: &mut Figures,
) -> anyhow::Result<()> {
    let bus = PrivateBus::start(root)?;
    let connection = poold::client::connect(Some(bus.address())).await?;
    let manager = ManagerProxy::new(&connection).await?;
    manager.version().await?;
    figures.set("rss-idle", resident_mib(daemon_pid(&connection).await?)?);

    let xml = format!(
        "<pool type='dir'><name>bench</name><target><path>{}</path></target></pool>",
        directory.images().display()
    );
    let options =
        Options::from([("start", Variant::from(true)), ("wait", Variant::from(u64::MAX))]);
    let (path, _) = manager.define_pool_xml(&xml, &options).await?;
    let pool = PoolProxy::new(&connection, path).await?;

    let start = Instant::now();
    pool.refresh(&Options::from([("wait", Variant::from(u64::MAX))])).await?;
    figures.set("refresh", milliseconds(start));
    figures.set("refresh-each", milliseconds(start) * 1e3 / directory.size as f64);

    let start = Instant::now();
    let listed = list(&pool).await?;
    figures.set("list", milliseconds(start));
    anyhow::ensure!(listed == directory.size, "{listed} of {} volumes were listed", directory.size);

    let start = Instant::now();
    let output = Command::new("busctl")
        .arg(format!("--address={}", bus.address()))
        .args(["tree", "--list", "org.poold1"])
        .stderr(Stdio::inherit())
        .output()?;
    figures.set("tree", milliseconds(start));
    anyhow::ensure!(output.status.success(), "busctl tree failed");
    figures.set("rss", resident_mib(daemon_pid(&connection).await?)?);

    for format in ["raw", "qcow2"] {
        let mut times = Vec::new();
        for number in 0..21 {
            let name = format!("new-{number}.{format}");
            let options = Options::from([("format", Variant::from(format))]);
            let start = Instant::now();
            let (volume, _) = pool.create_volume(&name, 1 << 30, &options).await?;
            times.push(milliseconds(start));
            let volume = VolumeProxy::new(&connection, volume).await?;
            volume.delete(&Options::new()).await?;
        }
        figures.set(&format!("create-{format}"), median(times));
    }
    Ok(())
}

/// The daemon starts with the pool active, as after an upgrade.
async fn start_again(
    directory: &PoolDirectory,
    root: &Path,
    figures: &mut Figures,
) -> anyhow::Result<()> {
    let bus = PrivateBus::start(root)?;
    let connection = poold::client::connect(Some(bus.address())).await?;
    let manager = ManagerProxy::new(&connection).await?;
    let start = Instant::now();
    let path = manager.lookup_pool("bench", &Options::new()).await?;
    figures.set("first-answer", milliseconds(start));
    let pool = PoolProxy::new(&connection, path).await?;
    let listed = list(&pool).await?;
    figures.set("loaded", milliseconds(start));
    anyhow::ensure!(
        listed == directory.size,
        "{listed} of {} volumes after the restart",
        directory.size
    );
    Ok(())
}

/// Pages through all volumes with all their properties; how many there are.
async fn list(pool: &PoolProxy<'_>) -> anyhow::Result<usize> {
    let (mut after, mut count) = (String::new(), 0);
    loop {
        let (volumes, next) = pool.list_volumes(&after, 0, &Options::new()).await?;
        count += volumes.len();
        if next.is_empty() {
            return Ok(count);
        }
        after = next;
    }
}

async fn daemon_pid(connection: &zbus::Connection) -> anyhow::Result<u32> {
    let bus = zbus::fdo::DBusProxy::new(connection).await?;
    Ok(bus.get_connection_unix_process_id("org.poold1".try_into()?).await?)
}
