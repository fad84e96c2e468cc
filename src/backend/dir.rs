//! Pools of type dir: a directory on the host.

use super::image_directory::{self, ImagePool};
use super::target::{check_path, open_target, target_path};
use super::{Activation, ActivePool, BackendInfo, BuildMode, OpContext, StopOptions, Watch};
use crate::model::{Error, ErrorKind, PoolDef, PoolType, Result};

/// The backend of dir pools.
#[derive(Debug)]
pub(super) struct Dir;

static INFO: BackendInfo = BackendInfo {
    pool_type: PoolType::Dir,
    tools: &[],
    operations: image_directory::OPERATIONS,
    watch: Watch::Directory,
};

impl ImagePool for Dir {
    fn info(&self) -> &'static BackendInfo {
        &INFO
    }

    fn check_definition(&self, pool: &PoolDef) -> Result<()> {
        check_path(target_path(pool)?)
    }

    fn build(&self, pool: &PoolDef, mode: BuildMode, ctx: &OpContext) -> Result<()> {
        self.check_definition(pool)?;
        image_directory::build_only(pool, mode, "a directory has no data to overwrite", ctx)
    }

    fn start(&self, pool: &PoolDef, _ctx: &OpContext) -> Result<Activation> {
        self.check_definition(pool)?;
        let path = target_path(pool)?;
        let directory = open_target(pool)?.ok_or_else(|| {
            let message = format!(
                "pool {}: directory {path} does not exist; build the pool first",
                pool.name
            );
            Error::new(ErrorKind::NotBuilt, message)
        })?;
        Ok(image_directory::activation(&directory))
    }

    fn stop(&self, _pool: &ActivePool, _options: StopOptions, _ctx: &OpContext) -> Result<()> {
        Ok(())
    }

    fn delete(&self, pool: &PoolDef, with_volumes: bool, ctx: &OpContext) -> Result<()> {
        self.check_definition(pool)?;
        image_directory::delete(pool, with_volumes, ctx)
    }
}
