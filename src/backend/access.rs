//! Work in a pool's directory as its access uid and gid, while what is poold's own stays root's.

use super::image_directory::ImageDirectory;
use super::{ActivePool, Journal, OpContext, Records, Secrets, Undo};
use crate::host::{Acting, act_as};
use crate::model::{
    AccessIds, Declaration, Error, PoolDef, Result, SecretKind, SecretRef, SecretValue, Uuid,
    VolumeName,
};
use std::sync::Arc;

/// Acts as who may work with a pool's files, until what is returned is dropped.
pub(super) fn act_for(pool: &PoolDef) -> Result<Acting> {
    let access = pool.access();
    act_as(access).map_err(|error| {
        let id = |id: Option<u32>| id.map_or_else(|| "root".to_owned(), |id| id.to_string());
        let (owner, group) = (id(access.owner), id(access.group));
        Error::io(format_args!("pool {}: cannot act as {owner}:{group}", pool.name), &error)
    })
}

/// Does `work` in the directory of an active pool.
pub(super) fn within<R>(
    pool: &ActivePool,
    ctx: &OpContext,
    work: impl FnOnce(&ImageDirectory<'_>) -> Result<R>,
) -> Result<R> {
    if pool.def.access() == AccessIds::OURS {
        return work(&ImageDirectory::open(pool, ctx)?);
    }
    let ctx = OpContext {
        records: Arc::new(OfRoot(Arc::clone(&ctx.records))),
        journal: Arc::new(OfRoot(Arc::clone(&ctx.journal))),
        secrets: Arc::new(OfRoot(Arc::clone(&ctx.secrets))),
        ..ctx.clone()
    };
    let _acting = act_for(&pool.def)?;
    work(&ImageDirectory::open(pool, &ctx)?)
}

/// What poold keeps on this host, whoever its caller acts as.
struct OfRoot<T: ?Sized>(Arc<T>);

fn ours() -> Result<Acting> {
    act_as(AccessIds::OURS).map_err(|error| Error::io("cannot act as root again", &error))
}

impl Records for OfRoot<dyn Records> {
    fn declared(&self, pool: Uuid, name: &VolumeName) -> Option<Declaration> {
        self.0.declared(pool, name)
    }

    fn declared_of_inode(&self, pool: Uuid, inode: u64) -> Option<Declaration> {
        self.0.declared_of_inode(pool, inode)
    }

    fn in_doubt(&self, pool: Uuid, name: &VolumeName) -> bool {
        self.0.in_doubt(pool, name)
    }

    fn declare(&self, pool: Uuid, name: &VolumeName, declaration: &Declaration) -> Result<()> {
        let _ours = ours()?;
        self.0.declare(pool, name, declaration)
    }

    fn forget(&self, pool: Uuid, name: &VolumeName) -> Result<()> {
        let _ours = ours()?;
        self.0.forget(pool, name)
    }
}

impl Journal for OfRoot<dyn Journal> {
    fn record(&self, undo: &Undo) -> Result<()> {
        let _ours = ours()?;
        self.0.record(undo)
    }
}

impl Secrets for OfRoot<dyn Secrets> {
    fn value(&self, secret: &SecretRef, kind: SecretKind) -> Result<SecretValue> {
        let _ours = ours()?;
        self.0.value(secret, kind)
    }
}
