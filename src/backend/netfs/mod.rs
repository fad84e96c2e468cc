//! Pools of type netfs: a share of a server, mounted on the target.

mod credentials;
mod share;
mod sources;

use super::image_directory::{self, ImagePool};
use super::target::{check_path, target_path};
use super::{
    Activation, ActivePool, BackendInfo, BuildMode, OpContext, Operation, StopOptions, Watch, mount,
};
use crate::host::{Lifetime, Mount, tool_missing};
use crate::model::{Error, ErrorKind, PoolDef, PoolType, Result, Source};
use credentials::CredentialsFile;
use share::Share;

/// The backend of netfs pools.
#[derive(Debug)]
pub(super) struct NetFs;

static INFO: BackendInfo = BackendInfo {
    pool_type: PoolType::NetFs,
    tools: &mount::TOOLS,
    operations: &[
        Operation::Build,
        Operation::Start,
        Operation::Stop,
        Operation::Delete,
        Operation::Refresh,
        Operation::FindSources,
        Operation::CreateVolume,
        Operation::DeleteVolume,
        Operation::ResizeVolume,
        Operation::CloneVolume,
        Operation::WipeVolume,
        Operation::OpenVolume,
    ],
    watch: Watch::Directory,
};

/// Mounts the share that a definition names on its target, or adopts it where it is mounted there.
pub(super) fn mount_share(pool: &PoolDef, ctx: &OpContext) -> Result<Activation> {
    let share = Share::of(pool)?;
    let helper = share.helper();
    if ctx.host.find_tool(helper).is_none() {
        return Err(tool_missing(helper).context(format_args!("pool {}", pool.name)));
    }
    // It is gone when the mount has come about, or has not.
    let credentials = pool.source.auth.as_ref();
    let credentials =
        credentials.map(|auth| CredentialsFile::write(pool, auth, ctx)).transpose()?;
    let credentials = credentials.as_ref().map(CredentialsFile::path);
    let (source, options) = (share.source(), share.options(credentials));
    let plan = mount::Plan {
        pool,
        source: &source,
        fs_type: share.fs_type(),
        options: &options,
        lifetime: if share.by_process() { Lifetime::Scope(pool.uuid) } else { Lifetime::Ours },
        is_ours: &|mount: &Mount| share.is_mounted_as(mount),
        refusals: share.refusals(),
        by: None,
    };
    plan.start(ctx).map_err(|error| share.failed(error))
}

/// What a definition's share is called where it is mounted.
pub(super) fn share_source(pool: &PoolDef) -> Result<String> {
    Share::of(pool).map(|share| share.source())
}

impl ImagePool for NetFs {
    fn info(&self) -> &'static BackendInfo {
        &INFO
    }

    fn format_tools(&self) -> &'static [&'static str] {
        &share::TOOLS
    }

    fn check_definition(&self, pool: &PoolDef) -> Result<()> {
        check_path(target_path(pool)?)?;
        Share::of(pool)?;
        mount::check_options(pool)
    }

    fn find_sources(&self, spec: &Source, ctx: &OpContext) -> Result<Vec<Source>> {
        sources::find(spec, ctx)
    }

    fn build(&self, pool: &PoolDef, mode: BuildMode, ctx: &OpContext) -> Result<()> {
        self.check_definition(pool)?;
        image_directory::build_only(pool, mode, "only the mount point of a share is built", ctx)
    }

    fn start(&self, pool: &PoolDef, ctx: &OpContext) -> Result<Activation> {
        self.check_definition(pool)?;
        mount_share(pool, ctx)
    }

    fn stop(&self, pool: &ActivePool, options: StopOptions, ctx: &OpContext) -> Result<()> {
        mount::unmount(pool, options, ctx)
    }

    fn delete(&self, pool: &PoolDef, with_volumes: bool, ctx: &OpContext) -> Result<()> {
        self.check_definition(pool)?;
        mount::delete_target(pool, &share_source(pool)?, with_volumes, ctx)
    }

    fn check_storage(&self, pool: &ActivePool, _ctx: &OpContext) -> Result<()> {
        mount::check_mounted(pool, || share_source(&pool.def))
    }

    fn condition(&self, pool: &ActivePool, _ctx: &OpContext) -> Result<()> {
        let Some(mount) = mount::unasked_read_only(pool)? else { return Ok(()) };
        Err(Error::new(
            ErrorKind::Inaccessible,
            format!("pool {}: {} is mounted read-only", pool.def.name, mount.source.display()),
        ))
    }
}
