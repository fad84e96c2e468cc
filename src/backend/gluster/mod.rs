//! Pools of type gluster: a volume of GlusterFS, or a directory in it, whose files are poold's volumes.
//!
//! It is mounted where only poold looks; what others use are the volumes' `gluster://` paths.

mod sources;

use super::access::act_for;
use super::image_directory::{self, ImagePool};
use super::target::target_path;
use super::{
    Activation, ActivePool, BackendInfo, Journal, OpContext, Operation, StopOptions, Undo, Watch,
    mount, netfs,
};
use crate::host::{Directory, MountTable, holders};
use crate::model::{Error, ErrorKind, PoolDef, PoolType, Result, Source, Target};
pub(super) use sources::{can_find_sources, volumes};
use std::path::Path;
use std::sync::Arc;

/// The backend of gluster pools.
#[derive(Debug)]
pub(super) struct Gluster;

static INFO: BackendInfo = BackendInfo {
    pool_type: PoolType::Gluster,
    tools: &[mount::TOOLS[0], mount::TOOLS[1], "mount.glusterfs"],
    operations: &[
        Operation::Start,
        Operation::Stop,
        Operation::Refresh,
        Operation::FindSources,
        Operation::CreateVolume,
        Operation::DeleteVolume,
        Operation::ResizeVolume,
        Operation::CloneVolume,
        Operation::WipeVolume,
        Operation::OpenVolume,
    ],
    watch: Watch::Timer,
};

impl ImagePool for Gluster {
    fn info(&self) -> &'static BackendInfo {
        &INFO
    }

    /// What finds sources.
    fn format_tools(&self) -> &'static [&'static str] {
        &[sources::TOOL]
    }

    fn check_definition(&self, pool: &PoolDef) -> Result<()> {
        directory_in(pool)?;
        private(pool, Path::new("/")).and_then(|share| netfs::share_source(&share)).map(drop)
    }

    fn find_sources(&self, spec: &Source, ctx: &OpContext) -> Result<Vec<Source>> {
        sources::find(spec, ctx)
    }

    fn start(&self, pool: &PoolDef, ctx: &OpContext) -> Result<Activation> {
        self.check_definition(pool)?;
        let share = private(pool, &ctx.mounts)?;
        // Also where a mount was left behind, which is taken over.
        ctx.journal.record(&Undo::Unmount {
            mount_point: target_path(&share)?.into(),
            source: netfs::share_source(&share)?,
        })?;
        mount_for(pool, ctx)
    }

    fn stop(&self, pool: &ActivePool, options: StopOptions, ctx: &OpContext) -> Result<()> {
        mount::unmount(pool, options, ctx)?;
        match std::fs::remove_dir(target_path(&private(&pool.def, &ctx.mounts)?)?) {
            // An empty directory is in nobody's way.
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                tracing::debug!(POOLD_POOL = %pool.def.name, POOLD_POOL_UUID = %pool.def.uuid, "cannot remove its mount point: {error}");
            }
            _ => {}
        }
        Ok(())
    }

    fn check_storage(&self, pool: &ActivePool, ctx: &OpContext) -> Result<()> {
        let mounted = mount::mount_of(pool)?;
        if mounted.is_some_and(|mount| holders::is_served(&mount.target)) {
            return Ok(());
        }
        // Nobody but poold knows of the mount, so that nobody else mounts it again.
        tracing::warn!(POOLD_POOL = %pool.def.name, POOLD_POOL_UUID = %pool.def.uuid, "pool {}: its client has ended, and is started again", pool.def.name);
        let ctx = OpContext { journal: Arc::new(Stays), ..ctx.clone() };
        mount_for(&pool.def, &ctx)
            .map(drop)
            .map_err(|error| Error::new(ErrorKind::Inaccessible, error.message()))
    }

    fn condition(&self, pool: &ActivePool, _ctx: &OpContext) -> Result<()> {
        let Some(mount) = mount::unasked_read_only(pool)? else { return Ok(()) };
        let (name, source) = (&pool.def.name, mount.source.display());
        let what = format!("pool {name}: Gluster volume {source} can only be read");
        Err(Error::new(ErrorKind::Inaccessible, what))
    }
}

/// What is mounted again for a pool that is active stays mounted if poold dies: the pool's next stop
/// finds it.
struct Stays;

impl Journal for Stays {
    fn record(&self, _undo: &Undo) -> Result<()> {
        Ok(())
    }
}

/// The pool as the share that poold mounts for itself, below `mounts`: all of the Gluster volume.
fn private(pool: &PoolDef, mounts: &Path) -> Result<PoolDef> {
    let path = mounts.join(pool.uuid.to_string());
    let path = path.to_str().ok_or_else(|| {
        let what = format!("pool {}: {} is not UTF-8", pool.name, path.display());
        Error::new(ErrorKind::InvalidArgument, what)
    })?;
    let source = Source {
        format: Some("glusterfs".to_owned()),
        dir: pool.source.name.clone(),
        ..pool.source.clone()
    };
    let target = Target { path: path.to_owned(), permissions: None };
    Ok(PoolDef { source, target: Some(target), ..pool.clone() })
}

/// The directory of a pool in its Gluster volume, without slashes around it.
fn directory_in(pool: &PoolDef) -> Result<&str> {
    let dir = pool.source.dir.as_deref().unwrap_or_default().trim_matches('/');
    match dir.split('/').any(|part| part == "..") {
        false => Ok(dir),
        true => {
            let what = format!("pool {}: its directory /{dir} must not contain '..'", pool.name);
            Err(Error::new(ErrorKind::InvalidArgument, what))
        }
    }
}

/// Mounts a pool's Gluster volume, in the place of a mount whose client has ended, and finds the pool's
/// directory in it.
fn mount_for(pool: &PoolDef, ctx: &OpContext) -> Result<Activation> {
    let share = private(pool, &ctx.mounts)?;
    let point = target_path(&share)?;
    let left = MountTable::read()?.mounted_at(Path::new(point)).cloned();
    if let Some(left) = left.filter(|left| !holders::is_served(&left.target)) {
        mount::take_away(&left, ctx)
            .map_err(|error| error.context(format_args!("pool {}", pool.name)))?;
    }
    let mounted = netfs::mount_share(&share, ctx)?;
    let (dir, name) = (directory_in(pool)?, pool.source.name.as_deref().unwrap_or_default());
    let files = match dir {
        "" => point.to_owned(),
        dir => format!("{point}/{dir}"),
    };
    let absent = || {
        let what = format!(
            "pool {}: Gluster volume {name} has no directory /{dir}; make it there",
            pool.name
        );
        Error::new(ErrorKind::NotBuilt, what)
    };
    let _acting = act_for(pool)?;
    let directory =
        Directory::open(Path::new(&files)).map_err(|error| match error.raw_os_error() {
            Some(libc::ENOENT | libc::ENOTDIR) => absent(),
            _ => {
                let what = format_args!("pool {}: cannot open /{dir} of {name}", pool.name);
                Error::io(what, &error)
            }
        })?;
    let found = image_directory::activation(&directory);
    // A symbolic link of the volume's would mean another directory here.
    if found.mount_id != mounted.mount_id {
        return Err(absent());
    }
    Ok(Activation { mount: mounted.mount, files: Some(files), ..found })
}

#[cfg(test)]
mod tests {
    use super::super::tests::fixture::definition;
    use super::*;
    use crate::model::HostAddress;

    fn pool(name: &str, dir: &str) -> PoolDef {
        let mut pool = definition(PoolType::Gluster, Path::new("/unused"));
        pool.target = None;
        pool.source.hosts = vec![HostAddress { name: "nas".to_owned(), port: None }];
        pool.source.name = Some(name.to_owned());
        pool.source.dir = Some(dir.to_owned());
        pool
    }

    #[test]
    fn all_of_the_volume_is_mounted_where_poold_alone_looks() {
        let pool = pool("vol", "/vms/a");
        let share = private(&pool, Path::new("/run/poold/mounts")).unwrap();
        let path = format!("/run/poold/mounts/{}", pool.uuid);
        assert_eq!(target_path(&share).unwrap(), path);
        assert_eq!(netfs::share_source(&share).unwrap(), "nas:/vol");
        assert_eq!(directory_in(&pool).unwrap(), "vms/a");
    }

    #[test]
    fn what_is_no_place_in_a_volume_is_refused() {
        for (name, dir) in [("vol", "/../etc"), ("vol", "/a/.."), ("/", "/")] {
            let error = Gluster.check_definition(&pool(name, dir)).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{name} {dir}");
        }
        Gluster.check_definition(&pool("vol", "/a/b..c")).unwrap();
    }
}
