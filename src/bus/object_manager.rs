//! `org.freedesktop.DBus.ObjectManager`: pools, the volumes of each pool, jobs, secrets.

use super::call::{Handlers, MAX_MESSAGE, Plan, Reply, Request};
use super::errors;
use super::exposed::{Exposed, Interfaces};
use super::job::JobView;
use super::pool::PoolView;
use super::router::Object;
use super::secret::SecretView;
use super::volume::VolumeView;
use crate::engine::PoolSnapshot;
use crate::model::Result;
use futures_util::FutureExt;
use serde::ser::{Serialize, SerializeMap, Serializer};
use std::sync::Arc;
use zbus::ObjectPath;
use zbus::wire::{Signature, Type, signature};

/// What a volume takes in a listing at least: the names of its properties and their numbers.
const VOLUME_FLOOR: usize = 450;

/// The handlers.
pub(super) const METHODS: Handlers<Object> =
    &[("GetManagedObjects", |call| get_managed_objects(call).boxed())];

async fn get_managed_objects(call: Request<Object>) -> Result<Plan> {
    Ok(Plan::read(async move {
        call.client.subscribe();
        let core = &call.core;
        match &call.target {
            Object::Volumes(pool) => {
                pool.loaded().await?;
                call.client.list(pool.uuid());
                let snapshot = pool.snapshot();
                if snapshot.volumes.len() > MAX_MESSAGE / VOLUME_FLOOR {
                    return Err(errors::too_large("the list of all volumes"));
                }
                core.large(&call.client, move || volumes(snapshot)).await
            }
            Object::Pools => {
                let pools = core.engine.pools();
                let view = |pool: &crate::engine::PoolHandle| PoolView::new(core, pool.snapshot());
                Ok(Reply::new(Objects(pools.iter().map(view).collect())))
            }
            Object::Jobs => {
                let jobs = core.engine.jobs();
                Ok(Reply::new(Objects(jobs.iter().map(|job| JobView(job.snapshot())).collect())))
            }
            Object::Secrets => {
                let secrets = core.engine.secrets();
                Ok(Reply::new(Objects(secrets.into_iter().map(SecretView).collect())))
            }
            _ => Ok(Reply::new(Objects::<JobView>(Vec::new()))),
        }
    }))
}

/// The volumes of a pool; told to page when a listing would be too large, before it is written.
fn volumes(snapshot: Arc<PoolSnapshot>) -> Result<Reply> {
    let views: Vec<_> = snapshot
        .volumes
        .iter()
        .map(|(name, volume)| VolumeView::new(&snapshot, name, volume))
        .collect();
    let floor: usize = views.iter().map(|view| VOLUME_FLOOR + view.volume.path.len()).sum();
    if floor > MAX_MESSAGE {
        return Err(errors::too_large("the list of all volumes"));
    }
    Ok(Reply::new(Objects(views)))
}

/// Objects with their one interface each, as `a{oa{sa{sv}}}`.
struct Objects<T>(Vec<T>);

impl<T> Type for Objects<T> {
    const SIGNATURE: &'static Signature = &signature!("a{oa{sa{sv}}}");
}

impl<T: Exposed> Serialize for Objects<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for view in &self.0 {
            let path = ObjectPath::try_from(view.path()).map_err(serde::ser::Error::custom)?;
            map.serialize_entry(&path, &Interfaces(view))?;
        }
        map.end()
    }
}
