//! Types of pool whose volumes are image files: each says only what is its own.

use crate::backend::access::within;
use crate::backend::{
    Activation, ActivePool, Backend, BackendInfo, BuildMode, CloneSource, DeleteOptions, Listing,
    OpContext, Operation, Preallocation, ResizeOptions, StopOptions, VolumeAccess, VolumeIo,
    WipeOptions, unsupported,
};
use crate::model::{PoolDef, Result, Source, Usage, Volume, VolumeDef, VolumeKind, VolumeName};

/// A type of pool whose volumes are image files in its target directory: how that directory comes
/// and goes. What is done with volumes is the same for all of them.
pub(in crate::backend) trait ImagePool: Send + Sync {
    /// As [`Backend::info`].
    fn info(&self) -> &'static BackendInfo;

    /// As [`Backend::format_tools`].
    fn format_tools(&self) -> &'static [&'static str] {
        &[]
    }

    /// As [`Backend::check_definition`].
    fn check_definition(&self, pool: &PoolDef) -> Result<()>;

    /// As [`Backend::find_sources`].
    fn find_sources(&self, _spec: &Source, _ctx: &OpContext) -> Result<Vec<Source>> {
        Err(unsupported(ImagePool::info(self), Operation::FindSources))
    }

    /// As [`Backend::build`].
    fn build(&self, _pool: &PoolDef, _mode: BuildMode, _ctx: &OpContext) -> Result<()> {
        Err(unsupported(ImagePool::info(self), Operation::Build))
    }

    /// As [`Backend::start`].
    fn start(&self, pool: &PoolDef, ctx: &OpContext) -> Result<Activation>;

    /// As [`Backend::stop`].
    fn stop(&self, pool: &ActivePool, options: StopOptions, ctx: &OpContext) -> Result<()>;

    /// As [`Backend::delete`].
    fn delete(&self, _pool: &PoolDef, _with_volumes: bool, _ctx: &OpContext) -> Result<()> {
        Err(unsupported(ImagePool::info(self), Operation::Delete))
    }

    /// Refuses (`Inaccessible`) a pool whose storage is gone although its directory can be opened, or
    /// brings it back. No I/O on the storage.
    fn check_storage(&self, _pool: &ActivePool, _ctx: &OpContext) -> Result<()> {
        Ok(())
    }

    /// As [`Backend::condition`].
    fn condition(&self, _pool: &ActivePool, _ctx: &OpContext) -> Result<()> {
        Ok(())
    }
}

impl<T: ImagePool> Backend for T {
    fn info(&self) -> &'static BackendInfo {
        ImagePool::info(self)
    }

    fn format_tools(&self) -> &'static [&'static str] {
        ImagePool::format_tools(self)
    }

    fn check_definition(&self, pool: &PoolDef) -> Result<()> {
        ImagePool::check_definition(self, pool)
    }

    fn find_sources(&self, spec: &Source, ctx: &OpContext) -> Result<Vec<Source>> {
        ImagePool::find_sources(self, spec, ctx)
    }

    fn build(&self, pool: &PoolDef, mode: BuildMode, ctx: &OpContext) -> Result<()> {
        ImagePool::build(self, pool, mode, ctx)
    }

    fn start(&self, pool: &PoolDef, ctx: &OpContext) -> Result<Activation> {
        ImagePool::start(self, pool, ctx)
    }

    fn stop(&self, pool: &ActivePool, options: StopOptions, ctx: &OpContext) -> Result<()> {
        ImagePool::stop(self, pool, options, ctx)
    }

    fn delete(&self, pool: &PoolDef, with_volumes: bool, ctx: &OpContext) -> Result<()> {
        ImagePool::delete(self, pool, with_volumes, ctx)
    }

    fn condition(&self, pool: &ActivePool, ctx: &OpContext) -> Result<()> {
        ImagePool::condition(self, pool, ctx)
    }

    fn refresh(&self, pool: &ActivePool, ctx: &OpContext) -> Result<Listing> {
        self.check_storage(pool, ctx)?;
        within(pool, ctx, |place| place.list())
    }

    fn usage(&self, pool: &ActivePool, ctx: &OpContext) -> Result<Usage> {
        self.check_storage(pool, ctx)?;
        within(pool, ctx, |place| place.usage())
    }

    fn refresh_volume(
        &self,
        pool: &ActivePool,
        name: &VolumeName,
        ctx: &OpContext,
    ) -> Result<Option<Volume>> {
        within(pool, ctx, |place| place.volume(name))
    }

    fn create_volume(
        &self,
        pool: &ActivePool,
        def: &VolumeDef,
        preallocation: Preallocation,
        ctx: &OpContext,
    ) -> Result<Volume> {
        within(pool, ctx, |place| place.create(def, preallocation))
    }

    fn delete_volume(
        &self,
        pool: &ActivePool,
        volume: &Volume,
        options: DeleteOptions,
        ctx: &OpContext,
    ) -> Result<()> {
        let force = options.only_force(ImagePool::info(self))?;
        within(pool, ctx, |place| place.delete_volume(volume, force))
    }

    fn resize_volume(
        &self,
        pool: &ActivePool,
        volume: &Volume,
        capacity: u64,
        options: ResizeOptions,
        ctx: &OpContext,
    ) -> Result<Volume> {
        within(pool, ctx, |place| place.resize(volume, capacity, options))
    }

    fn open_volume(
        &self,
        pool: &ActivePool,
        volume: &Volume,
        access: VolumeAccess,
        ctx: &OpContext,
    ) -> Result<VolumeIo> {
        within(pool, ctx, |place| place.open_volume(volume, access))
    }

    fn volume_written(&self, pool: &ActivePool, volume: &Volume, ctx: &OpContext) -> Result<()> {
        match volume.kind {
            VolumeKind::Ploop => within(pool, ctx, |place| place.describe_ploop(&volume.name)),
            _ => Ok(()),
        }
    }

    fn clone_volume(
        &self,
        pool: &ActivePool,
        def: &VolumeDef,
        source: &CloneSource,
        preallocation: Preallocation,
        ctx: &OpContext,
    ) -> Result<Volume> {
        within(pool, ctx, |place| place.clone_volume(def, source, preallocation))
    }

    fn wipe_volume(
        &self,
        pool: &ActivePool,
        volume: &Volume,
        options: WipeOptions,
        ctx: &OpContext,
    ) -> Result<Volume> {
        within(pool, ctx, |place| place.wipe(volume, options))
    }

    fn sweep(&self, pool: &ActivePool, ctx: &OpContext) -> Result<()> {
        within(pool, ctx, |place| place.sweep())
    }
}
