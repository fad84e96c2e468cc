//! Pools of type dir: a directory on the host.

use super::image_directory::{self, ImageDirectory};
use super::target::{check_opened, check_path, target_path};
use super::{
    Activation, ActivePool, Backend, BackendInfo, BuildMode, CloneSource, Listing, OpContext,
    Operation, Preallocation, ResizeOptions, StopOptions, VolumeAccess, VolumeIo, Watch,
    WipeOptions,
};
use crate::host::Directory;
use crate::model::{
    Error, ErrorKind, PoolDef, PoolType, Result, Usage, Volume, VolumeDef, VolumeName,
};
use std::path::Path;

/// The backend of dir pools.
#[derive(Debug)]
pub(super) struct Dir;

static INFO: BackendInfo = BackendInfo {
    pool_type: PoolType::Dir,
    implemented: true,
    tools: &[],
    operations: &[
        Operation::Build,
        Operation::Start,
        Operation::Stop,
        Operation::Delete,
        Operation::Refresh,
        Operation::CreateVolume,
        Operation::DeleteVolume,
        Operation::ResizeVolume,
        Operation::CloneVolume,
        Operation::WipeVolume,
        Operation::OpenVolume,
    ],
    watch: Watch::Directory,
};

impl Backend for Dir {
    fn info(&self) -> &'static BackendInfo {
        &INFO
    }

    fn check_definition(&self, pool: &PoolDef) -> Result<()> {
        check_path(target_path(pool)?)
    }

    fn build(&self, pool: &PoolDef, mode: BuildMode, ctx: &OpContext) -> Result<()> {
        self.check_definition(pool)?;
        if mode == BuildMode::Overwrite {
            return Err(Error::new(
                ErrorKind::NotSupported,
                format!(
                    "pool {}: a directory has no data to overwrite; build it without overwrite",
                    pool.name
                ),
            ));
        }
        image_directory::build(pool, ctx)
    }

    fn start(&self, pool: &PoolDef, _ctx: &OpContext) -> Result<Activation> {
        self.check_definition(pool)?;
        let path = target_path(pool)?;
        let directory =
            Directory::open(Path::new(path)).map_err(|error| match error.raw_os_error() {
                Some(libc::ENOENT) => Error::new(
                    ErrorKind::NotBuilt,
                    format!(
                        "pool {}: directory {path} does not exist; build the pool first",
                        pool.name
                    ),
                ),
                Some(libc::EACCES) => Error::new(
                    ErrorKind::Inaccessible,
                    format!(
                        "pool {}: {path} may not be opened, or a symbolic link on the way is not root's; name the directory itself",
                        pool.name
                    ),
                ),
                _ => Error::io(format_args!("pool {}: cannot open {path}", pool.name), &error),
            })?;
        check_opened(&directory)?;
        Ok(image_directory::activation(&directory))
    }

    fn stop(&self, _pool: &ActivePool, _options: StopOptions, _ctx: &OpContext) -> Result<()> {
        Ok(())
    }

    fn delete(&self, pool: &PoolDef, with_volumes: bool, ctx: &OpContext) -> Result<()> {
        self.check_definition(pool)?;
        image_directory::delete(pool, with_volumes, ctx)
    }

    fn refresh(&self, pool: &ActivePool, ctx: &OpContext) -> Result<Listing> {
        ImageDirectory::open(pool, ctx)?.list()
    }

    fn usage(&self, pool: &ActivePool, ctx: &OpContext) -> Result<Usage> {
        ImageDirectory::open(pool, ctx)?.usage()
    }

    fn refresh_volume(
        &self,
        pool: &ActivePool,
        name: &VolumeName,
        ctx: &OpContext,
    ) -> Result<Option<Volume>> {
        ImageDirectory::open(pool, ctx)?.volume(name)
    }

    fn create_volume(
        &self,
        pool: &ActivePool,
        def: &VolumeDef,
        preallocation: Preallocation,
        ctx: &OpContext,
    ) -> Result<Volume> {
        ImageDirectory::open(pool, ctx)?.create(def, preallocation)
    }

    fn delete_volume(
        &self,
        pool: &ActivePool,
        volume: &Volume,
        force: bool,
        ctx: &OpContext,
    ) -> Result<()> {
        ImageDirectory::open(pool, ctx)?.delete_volume(volume, force)
    }

    fn resize_volume(
        &self,
        pool: &ActivePool,
        volume: &Volume,
        capacity: u64,
        options: ResizeOptions,
        ctx: &OpContext,
    ) -> Result<Volume> {
        ImageDirectory::open(pool, ctx)?.resize(volume, capacity, options)
    }

    fn open_volume(
        &self,
        pool: &ActivePool,
        volume: &Volume,
        access: VolumeAccess,
        ctx: &OpContext,
    ) -> Result<VolumeIo> {
        ImageDirectory::open(pool, ctx)?.open_volume(volume, access)
    }

    fn clone_volume(
        &self,
        pool: &ActivePool,
        def: &VolumeDef,
        source: &CloneSource,
        preallocation: Preallocation,
        ctx: &OpContext,
    ) -> Result<Volume> {
        ImageDirectory::open(pool, ctx)?.clone_volume(def, source, preallocation)
    }

    fn wipe_volume(
        &self,
        pool: &ActivePool,
        volume: &Volume,
        options: WipeOptions,
        ctx: &OpContext,
    ) -> Result<Volume> {
        ImageDirectory::open(pool, ctx)?.wipe(volume, options)
    }

    fn sweep(&self, pool: &ActivePool, ctx: &OpContext) -> Result<()> {
        ImageDirectory::open(pool, ctx)?.sweep()
    }
}
