//! Pools of type sheepdog: a Sheepdog cluster, whose virtual disk images are the volumes.
//!
//! All is done by `dog`. QEMU has no driver for Sheepdog any more, so that nothing on this host reads and writes an
//! image as a file: content stays on the cluster.

mod dog;
mod list;

use super::block_volumes::{BlockVolumes, Found};
use super::{
    Activation, ActivePool, Backend, BackendInfo, CloneSource, DeleteOptions, Listing, OpContext,
    Operation, Preallocation, ResizeOptions, StopOptions, Undo, Watch, unread,
};
use crate::model::{
    ErrorKind, PoolDef, PoolType, Result, Usage, Uuid, Volume, VolumeDef, VolumeFormat, VolumeName,
};
pub use dog::Node as SheepdogNode;
pub(super) use dog::remove_snapshot;
use dog::{Dog, Node, TOOL};
use list::Vdi;

/// The backend of sheepdog pools.
#[derive(Debug)]
pub(super) struct Sheepdog;

/// Why content neither comes nor goes.
const NO_CONTENT: &str =
    "QEMU has no driver for Sheepdog any more; use `dog vdi read` and `dog vdi write`";

static INFO: BackendInfo = BackendInfo {
    pool_type: PoolType::Sheepdog,
    tools: &[TOOL],
    operations: &[
        Operation::Start,
        Operation::Stop,
        Operation::Refresh,
        Operation::CreateVolume,
        Operation::DeleteVolume,
        Operation::ResizeVolume,
        Operation::CloneVolume,
    ],
    watch: Watch::Timer,
};

/// Why it cannot do some of the rest.
pub(super) const REASONS: &[(Operation, &str)] = &[
    (Operation::OpenVolume, NO_CONTENT),
    (Operation::WipeVolume, "snapshots keep what was there; delete the image and create it anew"),
    (Operation::Build, "a cluster is formatted on its nodes, by `dog cluster format`"),
];

/// What the names of snapshots that clones are made from begin with.
const OURS: &str = "poold-";

/// What reading a pool fails with when its cluster is not there: `dog` gives no answer that could be read.
const LOST: ErrorKind = ErrorKind::ToolFailed;

/// An active pool and its cluster, for one operation.
struct Work<'a> {
    pool: &'a ActivePool,
    ctx: &'a OpContext,
    node: Node,
}

impl<'a> Work<'a> {
    fn on(pool: &'a ActivePool, ctx: &'a OpContext) -> Result<Self> {
        Ok(Self { pool, ctx, node: Node::of(&pool.def)? })
    }

    fn dog(&self) -> Dog<'_> {
        Dog { node: &self.node, host: self.ctx.host.as_ref(), limits: &self.ctx.limits }
    }

    fn blocks(&self) -> BlockVolumes<'_> {
        BlockVolumes::new(self.pool, self.ctx)
    }

    /// An image as a volume; none when it has a name that no volume has.
    fn volume(&self, vdi: &Vdi) -> Option<Volume> {
        let name = VolumeName::found(&vdi.name)?;
        let cluster = self.pool.def.source.name.as_deref().unwrap_or_default();
        Some(self.blocks().volume(Found {
            key: Some(format!("{cluster}/{name}")),
            path: name.to_string(),
            name,
            device: None,
            capacity: vdi.size,
            allocation: vdi.used,
            format: VolumeFormat::Raw,
            extents: Vec::new(),
            attributes: None,
        }))
    }

    fn read(&self, name: &VolumeName) -> Result<Option<Volume>> {
        let found = self.dog().find(name.as_str());
        let found = found.map_err(|error| self.pool.of_volume(name, error))?;
        Ok(found.and_then(|vdi| self.volume(&vdi)))
    }

    fn read_again(&self, name: &VolumeName) -> Result<Volume> {
        self.read(name)?.ok_or_else(|| {
            self.pool.volume_error(ErrorKind::NotFound, name, "it is gone; refresh the pool")
        })
    }

    /// Refuses what no image can be.
    fn check_new(&self, def: &VolumeDef, how: Preallocation) -> Result<()> {
        let refuse = |what| Err(self.pool.volume_error(ErrorKind::NotSupported, &def.name, what));
        if def.encryption.is_some() {
            return refuse("volumes of sheepdog pools are not encrypted by poold; leave it out");
        }
        if def.backing.is_some() {
            return refuse("an image of Sheepdog has no backing store; clone the volume");
        }
        if how != Preallocation::None {
            return refuse("Sheepdog allocates an image as it is written; leave preallocation out");
        }
        let raw = [VolumeFormat::Raw, VolumeFormat::None, VolumeFormat::Unknown];
        let def =
            VolumeDef { format: def.format.filter(|format| !raw.contains(format)), ..def.clone() };
        self.blocks().check_new(&def)
    }

    /// Makes an image that begins as another one is.
    fn share(&self, def: &VolumeDef, from: &Volume) -> Result<Volume> {
        let name = &def.name;
        let named = |error| self.pool.of_volume(name, error);
        if def.capacity.is_some_and(|capacity| capacity != from.capacity) {
            let what = "a clone has its source's capacity; clone it, then resize it";
            return Err(self.pool.volume_error(ErrorKind::InvalidArgument, name, what));
        }
        let tag = format!("{OURS}{}", Uuid::new_v4());
        let (dog, vdi) = (self.dog(), from.name.as_str());
        self.ctx.journal.record(&Undo::RemoveSheepdogSnapshot {
            node: self.node.clone(),
            vdi: vdi.to_owned(),
            tag: tag.clone(),
        })?;
        dog.clone_by(&tag, vdi, name.as_str()).map_err(named)?;
        let volume = self.read_again(name)?;
        if let Err(error) = dog.delete_snapshot(&tag, vdi) {
            // The volume is whole, and the snapshot in nobody's way.
            tracing::warn!(POOLD_POOL = %self.pool.def.name, "snapshot {tag} of {vdi} stays: {error}");
        }
        self.ctx.findings.say("method", "snapshot");
        Ok(volume)
    }
}

impl Backend for Sheepdog {
    fn info(&self) -> &'static BackendInfo {
        &INFO
    }

    fn check_definition(&self, pool: &PoolDef) -> Result<()> {
        Node::of(pool).map(drop)
    }

    fn start(&self, pool: &PoolDef, ctx: &OpContext) -> Result<Activation> {
        let node = Node::of(pool)?;
        let dog = Dog { node: &node, host: ctx.host.as_ref(), limits: &ctx.limits };
        dog.room().map_err(|error| unread(pool, error, LOST))?;
        Ok(Activation::default())
    }

    fn stop(&self, _pool: &ActivePool, _options: StopOptions, _ctx: &OpContext) -> Result<()> {
        // Nothing on this host knows of it.
        Ok(())
    }

    fn refresh(&self, pool: &ActivePool, ctx: &OpContext) -> Result<Listing> {
        let work = Work::on(pool, ctx)?;
        let read = || {
            let dog = work.dog();
            let (usage, (found, mut skipped)) = (dog.room()?, dog.list()?);
            let mut volumes = Vec::with_capacity(found.len());
            for vdi in &found {
                match work.volume(vdi) {
                    Some(volume) => volumes.push(volume),
                    None => skipped += 1,
                }
            }
            Ok(Listing { usage, volumes, skipped, ..Listing::default() })
        };
        read().map_err(|error| unread(&pool.def, error, LOST))
    }

    fn usage(&self, pool: &ActivePool, ctx: &OpContext) -> Result<Usage> {
        let work = Work::on(pool, ctx)?;
        work.dog().room().map_err(|error| unread(&pool.def, error, LOST))
    }

    fn refresh_volume(
        &self,
        pool: &ActivePool,
        name: &VolumeName,
        ctx: &OpContext,
    ) -> Result<Option<Volume>> {
        Work::on(pool, ctx)?.read(name)
    }

    fn create_volume(
        &self,
        pool: &ActivePool,
        def: &VolumeDef,
        preallocation: Preallocation,
        ctx: &OpContext,
    ) -> Result<Volume> {
        let work = Work::on(pool, ctx)?;
        work.check_new(def, preallocation)?;
        let size = work.blocks().device_size(def)?;
        let made = work.dog().create(def.name.as_str(), size);
        made.map_err(|error| pool.of_volume(&def.name, error))?;
        work.read_again(&def.name)
    }

    fn delete_volume(
        &self,
        pool: &ActivePool,
        volume: &Volume,
        options: DeleteOptions,
        ctx: &OpContext,
    ) -> Result<()> {
        let force = options.only_force(&INFO)?;
        let work = Work::on(pool, ctx)?;
        if !force {
            work.blocks().check_no_overlay(volume)?;
        }
        let name = &volume.name;
        work.dog().delete(name.as_str()).map_err(|error| pool.of_volume(name, error))?;
        work.blocks().forget(name)
    }

    fn resize_volume(
        &self,
        pool: &ActivePool,
        volume: &Volume,
        capacity: u64,
        _options: ResizeOptions,
        ctx: &OpContext,
    ) -> Result<Volume> {
        let work = Work::on(pool, ctx)?;
        let name = &volume.name;
        // The caller's may be older than the image.
        let current = work.read_again(name)?;
        if capacity < current.capacity {
            let what = "Sheepdog cannot make an image smaller; create a smaller one";
            return Err(pool.volume_error(ErrorKind::NotSupported, name, what));
        }
        if capacity > current.capacity {
            let resized = work.dog().resize(name.as_str(), capacity);
            resized.map_err(|error| pool.of_volume(name, error))?;
        }
        work.read_again(name)
    }

    fn share_volume(
        &self,
        pool: &ActivePool,
        def: &VolumeDef,
        source: &Volume,
        preallocation: Preallocation,
        ctx: &OpContext,
    ) -> Result<Option<Volume>> {
        let work = Work::on(pool, ctx)?;
        work.check_new(def, preallocation)?;
        work.share(def, source).map(Some)
    }

    fn clone_volume(
        &self,
        pool: &ActivePool,
        def: &VolumeDef,
        _source: &CloneSource,
        _preallocation: Preallocation,
        _ctx: &OpContext,
    ) -> Result<Volume> {
        let what = format!("only volumes of its own pool can be cloned: {NO_CONTENT}");
        Err(pool.volume_error(ErrorKind::NotSupported, &def.name, what))
    }
}
