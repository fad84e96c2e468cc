//! Pools of type rbd: a Ceph pool, whose images are the volumes. No image is ever mapped to a device: it is
//! listed, made and changed by `rbd`, and its content is served as a file by QEMU (`host::serve`).

mod cluster;
mod content;
mod images;
mod key;
mod list;
mod readings;
mod refusal;
mod snapshots;

use super::{
    Activation, ActivePool, Backend, BackendInfo, CloneSource, DeleteOptions, Listing, OpContext,
    Operation, Preallocation, ResizeOptions, StopOptions, VolumeAccess, VolumeIo, Watch,
    WipeOptions, unread,
};
use crate::model::{
    Error, ErrorKind, PoolDef, PoolType, Result, Usage, Volume, VolumeDef, VolumeName,
};
pub use cluster::Cluster;
use cluster::Session;
pub(super) use images::{FORGOTTEN, remove_image};
use readings::Readings;
pub(super) use snapshots::remove_snapshot;

/// The backend of rbd pools.
#[derive(Debug, Default)]
pub(super) struct Rbd {
    readings: Readings,
}

static INFO: BackendInfo = BackendInfo {
    pool_type: PoolType::Rbd,
    tools: &["rbd", "rados"],
    operations: &[
        Operation::Start,
        Operation::Stop,
        Operation::Refresh,
        Operation::CreateVolume,
        Operation::DeleteVolume,
        Operation::DeleteSnapshots,
        Operation::ResizeVolume,
        Operation::CloneVolume,
        Operation::WipeVolume,
        Operation::OpenVolume,
    ],
    watch: Watch::Timer,
};

/// What reading a pool fails with when it was removed from the cluster.
const LOST: ErrorKind = ErrorKind::NotBuilt;

/// An active pool and its cluster, for one operation.
struct Work<'a> {
    pool: &'a ActivePool,
    ctx: &'a OpContext,
    cluster: Cluster,
}

impl<'a> Work<'a> {
    fn on(pool: &'a ActivePool, ctx: &'a OpContext) -> Result<Self> {
        Ok(Self { pool, ctx, cluster: Cluster::of(&pool.def)? })
    }

    fn session(&self) -> Result<Session<'_>> {
        Session::new(&self.cluster, self.ctx)
    }
}

impl Backend for Rbd {
    fn info(&self) -> &'static BackendInfo {
        &INFO
    }

    /// What reads and writes the content of volumes.
    fn format_tools(&self) -> &'static [&'static str] {
        &["qemu-storage-daemon"]
    }

    fn check_definition(&self, pool: &PoolDef) -> Result<()> {
        Cluster::of(pool).map(drop)
    }

    fn start(&self, pool: &PoolDef, ctx: &OpContext) -> Result<Activation> {
        let cluster = Cluster::of(pool)?;
        let names = Session::new(&cluster, ctx)
            .and_then(|session| session.rbd(&["ls"], &["--format=json".to_owned()]));
        names.map(|_| Activation::default()).map_err(|error| match error.kind() {
            ErrorKind::NotBuilt => {
                let what = format!(
                    "pool {}: the cluster has no pool {}; make it with `ceph osd pool create` and `rbd pool init`",
                    pool.name,
                    cluster.pool()
                );
                Error::new(ErrorKind::NotBuilt, what)
            }
            _ => error.context(format_args!("pool {}", pool.name)),
        })
    }

    fn stop(&self, pool: &ActivePool, _options: StopOptions, _ctx: &OpContext) -> Result<()> {
        // Nothing else on this host knows of it.
        self.readings.forget(pool.def.uuid);
        Ok(())
    }

    fn refresh(&self, pool: &ActivePool, ctx: &OpContext) -> Result<Listing> {
        let work = Work::on(pool, ctx)?;
        let read = || {
            let session = work.session()?;
            let usage = list::room(&session)?;
            let (volumes, skipped) = self.readings.read(&work, &session)?;
            Ok(Listing { usage, volumes, skipped, ..Listing::default() })
        };
        read().map_err(|error| unread(&pool.def, error, LOST))
    }

    fn usage(&self, pool: &ActivePool, ctx: &OpContext) -> Result<Usage> {
        let work = Work::on(pool, ctx)?;
        work.session()
            .and_then(|session| list::room(&session))
            .map_err(|error| unread(&pool.def, error, LOST))
    }

    fn refresh_volume(
        &self,
        pool: &ActivePool,
        name: &VolumeName,
        ctx: &OpContext,
    ) -> Result<Option<Volume>> {
        let work = Work::on(pool, ctx)?;
        let session = work.session().map_err(|error| pool.of_volume(name, error))?;
        list::one(&work, &session, name)
    }

    fn create_volume(
        &self,
        pool: &ActivePool,
        def: &VolumeDef,
        preallocation: Preallocation,
        ctx: &OpContext,
    ) -> Result<Volume> {
        Work::on(pool, ctx)?.create(def, preallocation)
    }

    fn delete_volume(
        &self,
        pool: &ActivePool,
        volume: &Volume,
        options: DeleteOptions,
        ctx: &OpContext,
    ) -> Result<()> {
        Work::on(pool, ctx)?.delete(volume, options)
    }

    fn resize_volume(
        &self,
        pool: &ActivePool,
        volume: &Volume,
        capacity: u64,
        options: ResizeOptions,
        ctx: &OpContext,
    ) -> Result<Volume> {
        Work::on(pool, ctx)?.resize(volume, capacity, options)
    }

    fn open_volume(
        &self,
        pool: &ActivePool,
        volume: &Volume,
        access: VolumeAccess,
        ctx: &OpContext,
    ) -> Result<VolumeIo> {
        Work::on(pool, ctx)?.open(volume, access)
    }

    fn clone_volume(
        &self,
        pool: &ActivePool,
        def: &VolumeDef,
        source: &CloneSource,
        preallocation: Preallocation,
        ctx: &OpContext,
    ) -> Result<Volume> {
        Work::on(pool, ctx)?.clone_from(def, source, preallocation)
    }

    fn wipe_volume(
        &self,
        pool: &ActivePool,
        volume: &Volume,
        options: WipeOptions,
        ctx: &OpContext,
    ) -> Result<Volume> {
        Work::on(pool, ctx)?.wipe(volume, options)
    }
}
