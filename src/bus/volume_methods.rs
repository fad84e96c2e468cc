//! The methods of `org.poold1.Volume`.

use super::call::{About, Handlers, Plan, Reply, Request};
use super::settings::invalid;
use super::volume::VolumeTarget;
use super::{creation, job};
use crate::auth::Action;
use crate::backend::{
    DeleteOptions, Peer, ResizeOptions, TransferOptions, VolumeAccess, WipeOptions,
};
use crate::engine::CreateVolumeOptions;
use crate::model::{Result, WipeAlgorithm};
use crate::path::{ObjectRef, volume_path};
use crate::xml;
use futures_util::FutureExt;
use std::os::fd::OwnedFd;
use zbus::Fd;

/// The handlers.
pub(super) const METHODS: Handlers<VolumeTarget> = &[
    ("Delete", |call| delete(call).boxed()),
    ("Wipe", |call| wipe(call).boxed()),
    ("Refresh", |call| refresh(call).boxed()),
    ("Resize", |call| resize(call).boxed()),
    ("Clone", |call| clone(call).boxed()),
    ("Upload", |call| upload(call).boxed()),
    ("Download", |call| download(call).boxed()),
    ("Open", |call| open(call).boxed()),
    ("GetXml", |call| get_xml(call).boxed()),
];

type Call = Request<VolumeTarget>;

fn about(call: &Call) -> About {
    let snapshot = call.target.pool.snapshot();
    let path = snapshot.volumes.get(&call.target.name).map(|volume| volume.path.as_ref());
    About::volume(&snapshot.def, call.target.name.as_str(), path)
}

async fn delete(call: Call) -> Result<Plan> {
    let options = DeleteOptions {
        force: call.options.flag("force"),
        snapshots: call.options.flag("snapshots"),
    };
    Ok(Plan::act(about(&call), async move {
        let VolumeTarget { pool, name } = &call.target;
        let job = pool.delete_volume(name, options, &call.caller()).await?;
        job::reply(&call, &job).await
    }))
}

async fn refresh(call: Call) -> Result<Plan> {
    Ok(Plan::act(about(&call), async move {
        let VolumeTarget { pool, name } = &call.target;
        let job = pool.refresh_volume(name, &call.caller()).await?;
        job::reply(&call, &job).await
    }))
}

async fn resize(call: Call) -> Result<Plan> {
    let number = call.args.number(0)?;
    let options = ResizeOptions {
        shrink: call.options.flag("shrink"),
        allocate: call.options.flag("allocate"),
        force: call.options.flag("force"),
    };
    let capacity = match call.options.flag("delta") {
        true => changed_by(call.target.volume()?.capacity, number, options.shrink)?,
        false => number,
    };
    Ok(Plan::act(about(&call), async move {
        let VolumeTarget { pool, name } = &call.target;
        let job = pool.resize_volume(name, capacity, options, &call.caller()).await?;
        job::reply(&call, &job).await
    }))
}

/// The capacity that is `delta` more, or less when it is to shrink.
fn changed_by(capacity: u64, delta: u64, shrink: bool) -> Result<u64> {
    let changed = match shrink {
        true => capacity.checked_sub(delta),
        false => capacity.checked_add(delta),
    };
    changed
        .ok_or_else(|| invalid(format!("a capacity of {capacity} bytes cannot change by {delta}")))
}

async fn wipe(call: Call) -> Result<Plan> {
    let algorithm = match call.options.text("algorithm") {
        None => WipeAlgorithm::default(),
        Some(word) => WipeAlgorithm::from_name(word).ok_or_else(|| {
            let known: Vec<_> = WipeAlgorithm::ALL.iter().map(|each| each.as_str()).collect();
            invalid(format!("option \"algorithm\" is one of {}, not {word:?}", known.join(", ")))
        })?,
    };
    let options = WipeOptions {
        algorithm,
        allocate: call.options.flag("allocate"),
        force: call.options.flag("force"),
    };
    Ok(Plan::act(about(&call), async move {
        let VolumeTarget { pool, name } = &call.target;
        let job = pool.wipe_volume(name, options, &call.caller()).await?;
        job::reply(&call, &job).await
    }))
}

async fn clone(call: Call) -> Result<Plan> {
    let source = &call.target.pool;
    let target = match call.options.text("pool") {
        None => source.clone(),
        Some(pool) => call.core.engine.find_pool(pool)?,
    };
    let def = creation::cloned(&target.snapshot().def, call.args.text(0)?, &call.options)?;
    let options = CreateVolumeOptions { preallocation: creation::preallocation(&call.options)? };
    creation::check_secret(&call.core.engine, &def)?;
    let shallow = call.options.flag("shallow");
    // The question is about what is made; who may read the source is part of it.
    let about = About {
        path: Some(call.target.volume()?.path.to_string()),
        ..About::volume(&target.snapshot().def, def.name.as_str(), None)
    };
    let plan = Plan::act(about, async move {
        let volume = volume_path(target.uuid(), &def.name);
        let VolumeTarget { pool, name } = &call.target;
        let caller = call.caller();
        let job = match shallow {
            true => pool.clone_shallow(name, &target, def, options, &caller).await?,
            false => pool.clone_volume(name, &target, def, options, &caller).await?,
        };
        job::finish(&call, &job).await?;
        Reply::paths(volume, ObjectRef::Job(job.id()).path())
    });
    Ok(plan.needing(Action::ReadVolume, true))
}

fn transfer_options(call: &Call) -> TransferOptions {
    TransferOptions {
        offset: call.options.number("offset").unwrap_or(0),
        length: call.options.number("length"),
        sparse: call.options.flag("sparse"),
        force: call.options.flag("force"),
        ..TransferOptions::default()
    }
}

async fn upload(mut call: Call) -> Result<Plan> {
    let source = Peer::source(call.args.take_descriptor(0)?)?;
    let options = transfer_options(&call);
    Ok(Plan::act(about(&call), async move {
        let VolumeTarget { pool, name } = &call.target;
        let job = pool.upload_volume(name, source, options, &call.caller()).await?;
        Reply::path(ObjectRef::Job(job.id()).path())
    }))
}

async fn download(mut call: Call) -> Result<Plan> {
    let destination = Peer::destination(call.args.take_descriptor(0)?)?;
    let options = transfer_options(&call);
    Ok(Plan::act(about(&call), async move {
        let VolumeTarget { pool, name } = &call.target;
        let job = pool.download_volume(name, destination, options, &call.caller()).await?;
        Reply::path(ObjectRef::Job(job.id()).path())
    }))
}

async fn open(call: Call) -> Result<Plan> {
    let access = match call.args.text(0)? {
        "r" => VolumeAccess::Read,
        "w" => VolumeAccess::Write { force: call.options.flag("force") },
        mode => return Err(invalid(format!("mode {mode:?} is neither \"r\" nor \"w\""))),
    };
    let plan = Plan::act(about(&call), async move {
        let file = call.target.pool.open_volume(&call.target.name, access).await?;
        Ok(Reply::new(Fd::from(OwnedFd::from(file))))
    });
    Ok(plan.needing(Action::WriteVolume, access != VolumeAccess::Read))
}

async fn get_xml(call: Call) -> Result<Plan> {
    let pool_type = call.target.pool.snapshot().def.pool_type;
    let def = call.target.volume()?.to_def();
    Ok(Plan::answer(Reply::new(xml::write_volume(&def, pool_type))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ErrorKind;

    #[test]
    fn a_delta_grows_or_shrinks_and_never_wraps() {
        assert_eq!(changed_by(10, 5, false).unwrap(), 15);
        assert_eq!(changed_by(10, 5, true).unwrap(), 5);
        assert_eq!(changed_by(10, 11, true).unwrap_err().kind(), ErrorKind::InvalidArgument);
        assert!(changed_by(u64::MAX, 1, false).is_err());
    }
}
