//! `org.poold1.Volume`: properties and methods of a volume.

use super::call::{About, Handlers, Plan, Reply, Request};
use super::exposed::{Exposed, Property, Selected};
use super::pool::path_value;
use super::{job, table};
use crate::auth::Action;
use crate::backend::ResizeOptions;
use crate::engine::{PoolHandle, PoolSnapshot};
use crate::model::{Error, ErrorKind, Result, Uuid, Volume, VolumeName};
use crate::path::{NONE, ObjectRef, volume_path};
use crate::xml;
use futures_util::FutureExt;
use serde::ser::{Serialize, SerializeSeq, Serializer};
use std::sync::Arc;
use zbus::wire::{Signature, Type, signature};

/// What no owner, group or mode is on the bus.
const NO_ID: u32 = u32::MAX;

/// A volume that a call is for.
#[derive(Clone)]
pub(super) struct VolumeTarget {
    /// Its pool.
    pub(super) pool: PoolHandle,
    /// Its name.
    pub(super) name: VolumeName,
}

impl VolumeTarget {
    /// How it is now.
    fn volume(&self) -> Result<Arc<Volume>> {
        let snapshot = self.pool.snapshot();
        snapshot.volumes.get(&self.name).cloned().ok_or_else(|| {
            Error::new(
                ErrorKind::NotFound,
                format!("pool {} has no volume {} any more", snapshot.def.name, self.name),
            )
        })
    }
}

/// A volume as the bus shows it.
#[derive(Clone)]
pub(super) struct VolumeView {
    /// Its pool.
    pub(super) pool: Uuid,
    /// Its state.
    pub(super) volume: Arc<Volume>,
    /// The job that works on it.
    pub(super) job: Option<u64>,
}

impl VolumeView {
    /// The view of a volume in a snapshot.
    pub(super) fn new(snapshot: &PoolSnapshot, name: &VolumeName, volume: &Arc<Volume>) -> Self {
        Self {
            pool: snapshot.def.uuid,
            volume: volume.clone(),
            job: snapshot.volume_jobs.get(name).copied(),
        }
    }

    /// A bound from above of what its texts and its path take in a message.
    pub(super) fn text_size(&self) -> usize {
        let volume = &self.volume;
        let backing = volume.backing().map_or(0, |backing| backing.path.len());
        volume.name.as_str().len() * 4 + volume.key().len() + volume.path.len() + backing + 256
    }
}

impl Exposed for VolumeView {
    const INTERFACE: &'static str = table::VOLUME;
    const PROPERTIES: &'static [Property<Self>] = &[
        Property::new("Name", |view| view.volume.name.as_str().into()),
        Property::new("Key", |view| view.volume.key().into()),
        Property::new("Path", |view| view.volume.path.as_ref().into()),
        Property::new("Kind", |view| view.volume.kind.as_str().into()),
        Property::new("Format", |view| view.volume.format.as_str().into()),
        Property::new("FormatSource", |view| view.volume.format_source.as_str().into()),
        Property::new("ContentFormat", |view| {
            view.volume.content_format.map_or("", |format| format.as_str()).into()
        }),
        Property::new("Pool", |view| path_value(ObjectRef::Pool(view.pool).path())),
        Property::new("Capacity", |view| view.volume.capacity.into()),
        Property::throttled("Allocation", |view| view.volume.allocation.into()),
        Property::throttled("Physical", |view| view.volume.physical.into()),
        Property::new("BackingPath", |view| {
            view.volume.backing().map_or("", |backing| backing.path.as_str()).into()
        }),
        Property::new("BackingFormat", |view| {
            let format = view.volume.backing().and_then(|backing| backing.format);
            format.map_or("", |format| format.as_str()).into()
        }),
        Property::new("Encrypted", |view| view.volume.encrypted().into()),
        Property::new("Incomplete", |view| view.volume.incomplete.is_some().into()),
        Property::new("IncompleteReason", |view| {
            view.volume.incomplete.as_deref().unwrap_or("").into()
        }),
        Property::throttled("Modified", |view| view.volume.modified.into()),
        Property::new("Mode", |view| view.volume.mode.unwrap_or(NO_ID).into()),
        Property::new("Owner", |view| view.volume.owner.unwrap_or(NO_ID).into()),
        Property::new("Group", |view| view.volume.group.unwrap_or(NO_ID).into()),
        Property::new("Job", |view| {
            path_value(view.job.map_or(NONE.to_owned(), |job| ObjectRef::Job(job).path()))
        }),
    ];

    fn path(&self) -> String {
        volume_path(self.pool, &self.volume.name)
    }
}

/// The properties of these names.
pub(super) fn select(names: &[String]) -> Result<Vec<&'static Property<VolumeView>>> {
    names
        .iter()
        .map(|name| {
            let found = VolumeView::PROPERTIES.iter().find(|property| property.name == name);
            found.ok_or_else(|| {
                Error::new(
                    ErrorKind::InvalidArgument,
                    format!("option \"properties\": volumes have no property {name:?}"),
                )
            })
        })
        .collect()
}

/// Volumes with some of their properties, as `a(oa{sv})`.
pub(super) struct Rows {
    /// The volumes.
    pub(super) views: Vec<VolumeView>,
    /// The properties.
    pub(super) properties: Vec<&'static Property<VolumeView>>,
}

impl Type for Rows {
    const SIGNATURE: &'static Signature = &signature!("a(oa{sv})");
}

impl Serialize for Rows {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut rows = serializer.serialize_seq(Some(self.views.len()))?;
        for view in &self.views {
            rows.serialize_element(&(view.path(), Selected(view, &self.properties)))?;
        }
        rows.end()
    }
}

/// The handlers.
pub(super) const METHODS: Handlers<VolumeTarget> = &[
    ("Delete", |call| delete(call).boxed()),
    ("Wipe", |call| later(call, "wiped").boxed()),
    ("Refresh", |call| refresh(call).boxed()),
    ("Resize", |call| resize(call).boxed()),
    ("Clone", |call| clone(call).boxed()),
    ("Upload", |call| later(call, "written from a descriptor").boxed()),
    ("Download", |call| later(call, "read through a descriptor").boxed()),
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
    let force = call.options.flag("force");
    Ok(Plan::act(about(&call), async move {
        let VolumeTarget { pool, name } = &call.target;
        let job = pool.delete_volume(name, force, &call.caller()).await?;
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
    changed.ok_or_else(|| {
        Error::new(
            ErrorKind::InvalidArgument,
            format!("a capacity of {capacity} bytes cannot change by {delta}"),
        )
    })
}

async fn clone(call: Call) -> Result<Plan> {
    VolumeName::new(call.args.text(0)?)?;
    Ok(later(call, "cloned").await?.needing(Action::ReadVolume, true))
}

async fn open(call: Call) -> Result<Plan> {
    let writes = match call.args.text(0)? {
        "r" => false,
        "w" => true,
        mode => {
            return Err(Error::new(
                ErrorKind::InvalidArgument,
                format!("mode {mode:?} is neither \"r\" nor \"w\""),
            ));
        }
    };
    Ok(later(call, "opened").await?.needing(Action::WriteVolume, writes))
}

/// What this version does not do yet: asked for and authorised as anything else.
async fn later(call: Call, done: &'static str) -> Result<Plan> {
    let name = call.target.name.clone();
    Ok(Plan::act(about(&call), async move {
        Err(Error::new(
            ErrorKind::NotSupported,
            format!("volume {name} cannot be {done}: this version of poold has no way to do it"),
        ))
    }))
}

async fn get_xml(call: Call) -> Result<Plan> {
    let pool_type = call.target.pool.snapshot().def.pool_type;
    let def = call.target.volume()?.to_def();
    Ok(Plan::answer(Reply::new(xml::write_volume(&def, pool_type))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_delta_grows_or_shrinks_and_never_wraps() {
        assert_eq!(changed_by(10, 5, false).unwrap(), 15);
        assert_eq!(changed_by(10, 5, true).unwrap(), 5);
        assert_eq!(changed_by(10, 11, true).unwrap_err().kind(), ErrorKind::InvalidArgument);
        assert!(changed_by(u64::MAX, 1, false).is_err());
    }
}
