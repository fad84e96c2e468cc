//! The types of pool whose servers run here: a row of the matrix each.

use super::super::support::ceph::{Cluster, cluster};
use super::super::support::fault::Fault;
use super::super::support::garbage::Garbage;
use super::super::support::gluster::{self as server, Gluster};
use super::super::support::tgt::{PASSWORD, TARGET, Tgt, set_password};
use super::super::support::vstorage::{CLUSTER, Clusters};
use super::super::support::world::{World, none};
use super::super::{gluster, rbd, vstorage};
use super::Moment;
use anyhow::Result;
use poold::client::PoolProxy;

/// A type of pool, with a server of its own.
pub(super) trait Served: Sized {
    /// The type, as the table has it.
    const TYPE: &'static str;
    /// The cells that are always tried: when its server is stopped, frozen, and replaced by garbage.
    const QUICK: [Moment; 3];
    /// What a pool that waits for it says.
    const WAITED_FOR: &'static str = "server 127.0.0.1";

    /// Starts it; a skip where it cannot be.
    fn start() -> Result<Self>;
    /// Ends all of it.
    fn stop(&mut self) -> Result<()>;
    /// Starts all of it again, with what it had, where it was.
    fn start_again(&mut self) -> Result<()>;
    /// Has all of it answer nothing.
    fn freeze(&self) -> Result<()>;
    /// Has it go on.
    fn thaw(&self) -> Result<()>;
    /// Ends all of it, and has noise answer in its place until what comes back is dropped.
    fn replace(&mut self) -> Result<Option<Garbage>>;
    /// A process in its network, where that is not the tests' own.
    fn network(&self) -> Option<u32> {
        None
    }
    /// libvirt's document of a pool on it, which is called as the type.
    fn document(&self) -> String;
    /// Gives a world what it needs to reach it: a secret that the document names, a program.
    async fn equip(&self, world: &World) -> Result<()>;
    /// The name of a volume of a pool, which is nobody else's and has room for 8 MiB.
    async fn volume(&self, pool: &PoolProxy<'_>, moment: Moment) -> Result<String>;
}

/// rbd: Ceph.
pub(super) struct Rbd(Cluster);

impl Served for Rbd {
    const TYPE: &'static str = "rbd";
    const QUICK: [Moment; 3] = [Moment::Start, Moment::Job, Moment::Daemon];

    fn start() -> Result<Self> {
        cluster("matrix").map(Self)
    }

    fn stop(&mut self) -> Result<()> {
        self.0.stop()
    }

    fn start_again(&mut self) -> Result<()> {
        self.0.start_again()
    }

    fn freeze(&self) -> Result<()> {
        self.0.freeze()
    }

    fn thaw(&self) -> Result<()> {
        self.0.thaw()
    }

    fn replace(&mut self) -> Result<Option<Garbage>> {
        self.stop()?;
        Garbage::at(self.0.port, None).map(Some)
    }

    fn document(&self) -> String {
        // However long this machine takes, an upload outlasts it.
        let options = "<rbd:config_opts><rbd:option name='rados_osd_op_timeout' value='120'/></rbd:config_opts>";
        rbd::document(Self::TYPE, &self.0, options)
    }

    async fn equip(&self, world: &World) -> Result<()> {
        rbd::set_key(world, &self.0.key()?).await
    }

    async fn volume(&self, pool: &PoolProxy<'_>, moment: Moment) -> Result<String> {
        let name = moment.word().to_owned();
        if !self.0.images()?.contains(&name) {
            pool.create_volume(&name, 8 << 20, &none()).await?;
        }
        Ok(name)
    }
}

/// iscsi-direct: tgt.
pub(super) struct TgtUnits {
    tgt: Tgt,
    /// Where its units are.
    _directory: tempfile::TempDir,
}

impl Served for TgtUnits {
    const TYPE: &'static str = "iscsi-direct";
    const QUICK: [Moment; 3] = [Moment::Job, Moment::Active, Moment::Start];

    fn start() -> Result<Self> {
        let directory = tempfile::tempdir()?;
        Ok(Self { tgt: Tgt::start(directory.path().to_owned())?, _directory: directory })
    }

    fn stop(&mut self) -> Result<()> {
        self.tgt.stop()
    }

    fn start_again(&mut self) -> Result<()> {
        self.tgt.start_again()
    }

    fn freeze(&self) -> Result<()> {
        self.tgt.freeze()
    }

    fn thaw(&self) -> Result<()> {
        self.tgt.thaw()
    }

    fn replace(&mut self) -> Result<Option<Garbage>> {
        self.stop()?;
        Garbage::at(self.tgt.port, None).map(Some)
    }

    fn document(&self) -> String {
        self.tgt.document(Self::TYPE, TARGET)
    }

    async fn equip(&self, world: &World) -> Result<()> {
        set_password(world, PASSWORD).await
    }

    async fn volume(&self, _pool: &PoolProxy<'_>, _moment: Moment) -> Result<String> {
        Ok("unit:0:0:3".to_owned())
    }
}

/// gluster: glusterd and a brick.
pub(super) struct Bricks(Gluster);

impl Served for Bricks {
    const TYPE: &'static str = "gluster";
    const QUICK: [Moment; 3] = [Moment::Daemon, Moment::Start, Moment::Active];

    fn start() -> Result<Self> {
        server::gluster("matrix").map(Self)
    }

    fn stop(&mut self) -> Result<()> {
        self.0.kill()
    }

    fn start_again(&mut self) -> Result<()> {
        self.0.start()
    }

    fn freeze(&self) -> Result<()> {
        self.0.freeze()
    }

    fn thaw(&self) -> Result<()> {
        self.0.thaw()
    }

    fn replace(&mut self) -> Result<Option<Garbage>> {
        self.stop()?;
        Garbage::at(server::PORT, self.network()).map(Some)
    }

    fn network(&self) -> Option<u32> {
        Some(self.0.network().process())
    }

    fn document(&self) -> String {
        gluster::document(Self::TYPE, &self.0, "/", "")
    }

    async fn equip(&self, _world: &World) -> Result<()> {
        Ok(())
    }

    async fn volume(&self, pool: &PoolProxy<'_>, moment: Moment) -> Result<String> {
        let name = moment.word().to_owned();
        if !self.0.files()?.contains(&name) {
            pool.create_volume(&name, 8 << 20, &none()).await?;
        }
        Ok(name)
    }
}

/// vstorage: clusters that are fakes. What is mounted hangs whatever is wrong with them: what Virtuozzo's client makes of it is
/// not known.
pub(super) struct Mounts {
    clusters: Clusters,
    directory: tempfile::TempDir,
}

impl Served for Mounts {
    const TYPE: &'static str = "vstorage";
    const QUICK: [Moment; 3] = [Moment::Active, Moment::Start, Moment::Start];
    const WAITED_FOR: &'static str = "cluster cloud";

    fn start() -> Result<Self> {
        let directory = tempfile::tempdir()?;
        Ok(Self { clusters: Clusters::below(directory.path().join("clusters"))?, directory })
    }

    fn stop(&mut self) -> Result<()> {
        self.clusters.fail(Fault::Stopped)
    }

    fn start_again(&mut self) -> Result<()> {
        self.clusters.recover()
    }

    fn freeze(&self) -> Result<()> {
        self.clusters.fail(Fault::Frozen)
    }

    fn thaw(&self) -> Result<()> {
        self.clusters.recover()
    }

    fn replace(&mut self) -> Result<Option<Garbage>> {
        self.clusters.fail(Fault::Garbage).map(|()| None)
    }

    fn document(&self) -> String {
        // Each world mounts it for itself alone.
        vstorage::document(Self::TYPE, CLUSTER, &self.directory.path().join("target"), "")
    }

    async fn equip(&self, world: &World) -> Result<()> {
        self.clusters.reached_from(world)
    }

    async fn volume(&self, pool: &PoolProxy<'_>, moment: Moment) -> Result<String> {
        let name = moment.word().to_owned();
        if !self.clusters.files().join(&name).exists() {
            pool.create_volume(&name, 8 << 20, &none()).await?;
        }
        Ok(name)
    }
}
