//! What backends say of themselves holds.

use super::fixture::{Pool, backend_of, context, definition, started, volume_def};
use crate::backend::{
    self, Activation, ActivePool, Backend, BuildMode, CloneSource, DeleteOptions, OpContext,
    Operation, Preallocation, ResizeOptions, StopOptions, VolumeAccess, WipeOptions, unsupported,
};
use crate::model::*;
use std::sync::Arc;

#[test]
fn every_type_has_one_backend() {
    let all = backend::all();
    assert_eq!(all.len(), PoolType::ALL.len());
    for pool_type in PoolType::ALL {
        assert_eq!(all.iter().filter(|b| b.info().pool_type == pool_type).count(), 1);
    }
}

/// The error of an operation called in a way that does no harm.
fn attempt(
    backend: &dyn Backend,
    pool: &ActivePool,
    volume: &Volume,
    operation: Operation,
    ctx: &OpContext,
) -> Option<Error> {
    let new = volume_def("again", VolumeFormat::Raw, Some(1));
    match operation {
        Operation::Build => backend.build(&pool.def, BuildMode::KeepData, ctx).err(),
        Operation::Start => backend.start(&pool.def, ctx).err(),
        Operation::Stop => backend.stop(pool, StopOptions::default(), ctx).err(),
        Operation::Delete => backend.delete(&pool.def, false, ctx).err(),
        Operation::Refresh => backend
            .refresh(pool, ctx)
            .err()
            .or(backend.usage(pool, ctx).err())
            .or(backend.refresh_volume(pool, &volume.name, ctx).err()),
        Operation::FindSources => backend.find_sources(&Source::default(), ctx).err(),
        Operation::CreateVolume => {
            backend.create_volume(pool, &new, Preallocation::None, ctx).err()
        }
        Operation::DeleteVolume => {
            backend.delete_volume(pool, volume, DeleteOptions::default(), ctx).err()
        }
        Operation::DeleteSnapshots => {
            let options = DeleteOptions { snapshots: true, ..DeleteOptions::default() };
            backend.delete_volume(pool, volume, options, ctx).err()
        }
        Operation::ResizeVolume => {
            backend.resize_volume(pool, volume, 2, ResizeOptions::default(), ctx).err()
        }
        Operation::CloneVolume => {
            let def = PoolDef { pool_type: PoolType::Dir, ..pool.def.as_ref().clone() };
            let dir = ActivePool { def: Arc::new(def), ..pool.clone() };
            let own = backend_of(PoolType::Dir);
            let io = own.open_volume(&dir, volume, VolumeAccess::ReadUnchanged, ctx).unwrap();
            let source = CloneSource { pool: pool.def.uuid, volume: Arc::new(volume.clone()), io };
            backend.clone_volume(pool, &new, &source, Preallocation::None, ctx).err()
        }
        Operation::WipeVolume => {
            backend.wipe_volume(pool, volume, WipeOptions::default(), ctx).err()
        }
        Operation::OpenVolume => backend.open_volume(pool, volume, VolumeAccess::Read, ctx).err(),
    }
}

#[test]
fn operations_are_what_the_methods_can_do() {
    for pool_type in PoolType::ALL {
        let Pool { base, world, .. } = started();
        let backend = backend_of(pool_type);
        let mut def = definition(PoolType::Dir, &base.path().join("pool"));
        let volume = backend_of(PoolType::Dir)
            .create_volume(
                &ActivePool { def: Arc::new(def.clone()), activation: Activation::default() },
                &volume_def("v", VolumeFormat::Raw, Some(1)),
                Preallocation::None,
                &context(&world),
            )
            .unwrap();
        def.pool_type = pool_type;
        let pool = ActivePool { def: Arc::new(def), activation: Activation::default() };
        for operation in Operation::ALL {
            let offers = |operation| backend.info().operations.contains(&operation);
            // What none can delete is refused as such.
            if operation == Operation::DeleteSnapshots && !offers(Operation::DeleteVolume) {
                assert!(!offers(operation), "{pool_type}");
                continue;
            }
            let error = attempt(&*backend, &pool, &volume, operation, &context(&world));
            let refusal = unsupported(backend.info(), operation);
            let refused = error.is_some_and(|error| error.message() == refusal.message());
            assert_eq!(offers(operation), !refused, "{pool_type} {}", operation.as_str());
        }
    }
}
