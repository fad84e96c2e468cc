//! The types of pool whose servers run here: a row of the matrix each.

use super::super::support::ceph::{Cluster, cluster};
use super::super::support::gluster::{self as server, Gluster};
use super::super::support::tgt::{PASSWORD, TARGET, Tgt, set_password};
use super::super::support::world::{World, none};
use super::super::{gluster, rbd};
use super::Moment;
use anyhow::Result;
use nix::sys::signal::Signal;
use poold::client::PoolProxy;

/// A type of pool, with a server of its own.
pub(super) trait Served: Sized {
    /// The type, as the table has it.
    const TYPE: &'static str;
    /// The cells that are always tried: when its server is stopped, frozen, and replaced by garbage.
    const QUICK: [Moment; 3];

    /// Starts it; a skip where it cannot be.
    fn start() -> Result<Self>;
    /// Ends all of it.
    fn stop(&mut self) -> Result<()>;
    /// Starts all of it again, with what it had, where it was.
    fn start_again(&mut self) -> Result<()>;
    /// Sends a signal to all of it.
    fn signal(&self, signal: Signal) -> Result<()>;
    /// Where who looks for it knocks first.
    fn port(&self) -> u16;
    /// A process in its network, where that is not the tests' own.
    fn network(&self) -> Option<u32> {
        None
    }
    /// libvirt's document of a pool on it, which is called as the type.
    fn document(&self) -> String;
    /// Keeps the secret that the document names, if it names one.
    async fn set_secret(&self, world: &World) -> Result<()>;
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

    fn signal(&self, signal: Signal) -> Result<()> {
        self.0.signal(signal)
    }

    fn port(&self) -> u16 {
        self.0.port
    }

    fn document(&self) -> String {
        // However long this machine takes, an upload outlasts it.
        let options = "<rbd:config_opts><rbd:option name='rados_osd_op_timeout' value='120'/></rbd:config_opts>";
        rbd::document(Self::TYPE, &self.0, options)
    }

    async fn set_secret(&self, world: &World) -> Result<()> {
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

    fn signal(&self, signal: Signal) -> Result<()> {
        self.tgt.signal(signal)
    }

    fn port(&self) -> u16 {
        self.tgt.port
    }

    fn document(&self) -> String {
        self.tgt.document(Self::TYPE, TARGET)
    }

    async fn set_secret(&self, world: &World) -> Result<()> {
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

    fn signal(&self, signal: Signal) -> Result<()> {
        self.0.signal(signal)
    }

    fn port(&self) -> u16 {
        24_007
    }

    fn network(&self) -> Option<u32> {
        Some(self.0.network().process())
    }

    fn document(&self) -> String {
        gluster::document(Self::TYPE, &self.0, "/", "")
    }

    async fn set_secret(&self, _world: &World) -> Result<()> {
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
