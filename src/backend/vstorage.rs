//! Pools of type vstorage: a cluster of Virtuozzo Storage, mounted on the target by `vstorage-mount`.

use super::image_directory::{self, ImagePool};
use super::target::{check_path, target_path};
use super::{Activation, ActivePool, BackendInfo, BuildMode, OpContext, StopOptions, Watch, mount};
use crate::host::{Command, Lifetime, Mount, tool_missing};
use crate::model::{Error, ErrorKind, PoolDef, PoolType, Result};
use nix::unistd::{Gid, Group, Uid, User};
use std::path::Path;

/// The backend of vstorage pools.
#[derive(Debug)]
pub(super) struct Vstorage;

const MOUNT: &str = "vstorage-mount";

static INFO: BackendInfo = BackendInfo {
    pool_type: PoolType::Vstorage,
    tools: &[MOUNT, mount::TOOLS[0], mount::TOOLS[1]],
    operations: image_directory::OPERATIONS,
    watch: Watch::Directory,
};

/// Mode of the mounted directory when the definition says none, as in libvirt.
const MODE: u32 = 0o711;

/// What refusals of its own mean: it names none that could be told apart.
const REFUSALS: &[(&str, ErrorKind)] = &[("", ErrorKind::Inaccessible)];

impl ImagePool for Vstorage {
    fn info(&self) -> &'static BackendInfo {
        &INFO
    }

    fn format_tools(&self) -> &'static [&'static str] {
        &[image_directory::PLOOP]
    }

    fn check_definition(&self, pool: &PoolDef) -> Result<()> {
        check_path(target_path(pool)?)?;
        cluster(pool).map(drop)
    }

    fn build(&self, pool: &PoolDef, mode: BuildMode, ctx: &OpContext) -> Result<()> {
        self.check_definition(pool)?;
        image_directory::build_only(pool, mode, "only the mount point of a cluster is built", ctx)
    }

    fn start(&self, pool: &PoolDef, ctx: &OpContext) -> Result<Activation> {
        self.check_definition(pool)?;
        if ctx.host.find_tool(MOUNT).is_none() {
            return Err(tool_missing(MOUNT).context(format_args!("pool {}", pool.name)));
        }
        let (cluster, source) = (cluster(pool)?, source(pool)?);
        let (user, group) = (user(pool)?, group(pool)?);
        let stated = pool.target.as_ref().and_then(|target| target.permissions.as_ref());
        let mode = format!("{:o}", stated.and_then(|stated| stated.mode).unwrap_or(MODE));
        // In libvirt's order.
        let by = |mount_point: &Path| Command {
            program: MOUNT,
            args: vec![
                "-c".into(),
                cluster.into(),
                mount_point.into(),
                "-m".into(),
                mode.clone().into(),
                "-g".into(),
                group.clone().into(),
                "-u".into(),
                user.clone().into(),
            ],
            lifetime: Lifetime::Scope(pool.uuid),
            ..Command::default()
        };
        let plan = mount::Plan {
            pool,
            source: &source,
            fs_type: "vstorage",
            options: &[],
            lifetime: Lifetime::Scope(pool.uuid),
            is_ours: &|mount: &Mount| is_of(mount, &source),
            refusals: REFUSALS,
            by: Some(&by),
        };
        plan.start(ctx).map_err(|error| match error.kind() {
            ErrorKind::TimedOut => {
                let what = format!("pool {}: cluster {cluster} does not answer", pool.name);
                Error::new(ErrorKind::Inaccessible, what)
            }
            _ => error,
        })
    }

    fn stop(&self, pool: &ActivePool, options: StopOptions, ctx: &OpContext) -> Result<()> {
        mount::unmount(pool, options, ctx)
    }

    fn delete(&self, pool: &PoolDef, with_volumes: bool, ctx: &OpContext) -> Result<()> {
        self.check_definition(pool)?;
        mount::delete_target(pool, &source(pool)?, with_volumes, ctx)
    }

    fn check_storage(&self, pool: &ActivePool, _ctx: &OpContext) -> Result<()> {
        mount::check_mounted(pool, || source(&pool.def))
    }
}

/// The name of a pool's cluster.
fn cluster(pool: &PoolDef) -> Result<&str> {
    pool.source.name.as_deref().ok_or_else(|| {
        let what = format!("pool {} names no cluster; define it with one", pool.name);
        Error::new(ErrorKind::InvalidArgument, what)
    })
}

/// What the mount table has for it.
fn source(pool: &PoolDef) -> Result<String> {
    cluster(pool).map(|cluster| format!("vstorage://{cluster}"))
}

fn is_of(mount: &Mount, source: &str) -> bool {
    mount.source == source && mount.root == Path::new("/")
}

/// The name of the target's owner: `vstorage-mount` takes no number.
fn user(pool: &PoolDef) -> Result<String> {
    let stated = pool.target.as_ref().and_then(|target| target.permissions.as_ref());
    let uid = stated.and_then(|stated| stated.owner).unwrap_or(0);
    let found = User::from_uid(Uid::from_raw(uid)).ok().flatten();
    found.map(|user| user.name).ok_or_else(|| nameless(pool, "owner", uid))
}

/// The name of its group.
fn group(pool: &PoolDef) -> Result<String> {
    let stated = pool.target.as_ref().and_then(|target| target.permissions.as_ref());
    let gid = stated.and_then(|stated| stated.group).unwrap_or(0);
    let found = Group::from_gid(Gid::from_raw(gid)).ok().flatten();
    found.map(|group| group.name).ok_or_else(|| nameless(pool, "group", gid))
}

fn nameless(pool: &PoolDef, what: &str, id: u32) -> Error {
    let what = format!(
        "pool {}: its target's {what} {id} has no name on this host, and {MOUNT} takes names only",
        pool.name
    );
    Error::new(ErrorKind::InvalidArgument, what)
}

#[cfg(test)]
mod tests {
    use super::super::tests::fixture::definition;
    use super::*;
    use crate::host::MountTable;
    use crate::model::Permissions;

    fn pool() -> PoolDef {
        let mut pool = definition(PoolType::Vstorage, Path::new("/srv/vz"));
        pool.source.name = Some("cluster".to_owned());
        pool
    }

    #[test]
    fn only_the_same_cluster_is_recognised() {
        let table = MountTable::parse(
            b"1 1 8:1 / / rw - ext4 /dev/vda1 rw\n\
              2 1 0:40 / /a rw - fuse.vstorage vstorage://cluster rw\n\
              3 1 0:41 / /b rw - fuse.vstorage vstorage://cluster2 rw\n\
              4 1 0:40 /sub /c rw - fuse.vstorage vstorage://cluster rw\n",
        )
        .unwrap();
        let source = source(&pool()).unwrap();
        let found: Vec<_> =
            table.iter().filter(|mount| is_of(mount, &source)).map(|mount| mount.id).collect();
        assert_eq!(found, [2]);
    }

    #[test]
    fn who_owns_the_target_has_a_name() {
        let mut pool = pool();
        assert_eq!((user(&pool).unwrap(), group(&pool).unwrap()), ("root".into(), "root".into()));
        let stated = Permissions { owner: Some(4_000_000_000), ..Permissions::default() };
        pool.target.as_mut().unwrap().permissions = Some(stated);
        assert_eq!(user(&pool).unwrap_err().kind(), ErrorKind::InvalidArgument);
    }
}
