//! Pools of more images than a refresh has time for.

use super::*;
use poold::client::VolumeProxy;

/// Read in nearly two seconds by a whole processor.
const MANY: usize = 600;
/// A refresh has little time, and nobody has to ask for one.
const HURRIED: &str = "refresh = \"2s\"\nrescan = \"1s\"\n";

/// Makes images by librbd, as a program for each takes ten times as long.
const MAKE: &str = "
import rados, rbd, sys, threading
with rados.Rados(conffile='ceph.conf', name='client.admin') as cluster:
    pool, many, at_once = cluster.open_ioctx(sys.argv[1]), int(sys.argv[2]), 16
    def make(first):
        for number in range(first, many, at_once):
            rbd.RBD().create(pool, f'image{number:05}', 1 << 20)
    threads = [threading.Thread(target=make, args=(first,)) for first in range(at_once)]
    for thread in threads: thread.start()
    for thread in threads: thread.join()
";

pub async fn of_many_images_all_are_read_however_long_that_takes() -> Result<()> {
    let cluster = cluster("many")?;
    // The distribution's own, which has Ceph's modules.
    if !cluster.run("/usr/bin/python3", &["-c", "import rados, rbd"])?.status.success() {
        return Err(Skip("no python3-rbd here".to_owned()).into());
    }
    cluster.admin("/usr/bin/python3", &["-c", MAKE, cluster.pool, &MANY.to_string()])?;
    let world = World::start_with(&format!("{CONFIGURATION}{HURRIED}")).await?;
    set_key(&world, &cluster.key()?).await?;
    let pool = world.define(&document("ceph", &cluster, "")).await?;
    pool.start(&with("wait", u64::MAX)).await?;
    ensure!(volume_names(&pool).await?.len() == MANY);

    // One that cannot be read is one that cannot be read.
    let id = cluster.rbd(&["info", "many/image00009"])?["id"].as_str().context("no id")?.to_owned();
    let header = format!("rbd_header.{id}");
    cluster.admin("rados", &["-p", cluster.pool, "setomapval", &header, "size", "x"])?;
    pool.refresh(&with("wait", u64::MAX)).await?;
    ensure!(volume_names(&pool).await?.len() == MANY - 1);

    // Names tell what others make and remove.
    cluster.admin("rbd", &["create", "--size=3M", "many/new"])?;
    cluster.admin("rbd", &["rm", "--no-progress", "many/image00007"])?;
    eventually("it is seen", async || {
        let names = volume_names(&pool).await?;
        let has = |name: &str| names.iter().any(|has| has == name);
        Ok(has("new") && !has("image00007") && names.len() == MANY - 1)
    })
    .await?;
    let volume = async |name: &str| -> Result<VolumeProxy<'static>> {
        world.volume(&pool.lookup_volume(name, &none()).await?).await
    };
    ensure!(volume("new").await?.capacity().await? == 3 * MIB);
    // Sizes are seen by who asks for them.
    cluster.admin("rbd", &["resize", "--no-progress", "--size=2M", "many/image00008"])?;
    pool.refresh(&with("wait", u64::MAX)).await?;
    ensure!(volume("image00008").await?.capacity().await? == 2 * MIB);
    ensure!(pool.state().await? == "active" && pool.skipped_entries().await? == 1);
    pool.stop(&none()).await?;
    Ok(())
}
