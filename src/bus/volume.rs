//! `org.poold1.Volume`: properties of a volume; its methods are in `volume_methods`.

use super::exposed::{Exposed, Property, Selected};
use super::pool::path_value;
use super::table;
use crate::engine::{PoolHandle, PoolSnapshot};
use crate::model::{BlockAttributes, Error, ErrorKind, Result, Uuid, Volume, VolumeName};
use crate::path::{NONE, ObjectRef, volume_path};
use serde::ser::{Serialize, SerializeSeq, Serializer};
use std::sync::Arc;
use zbus::Variant;
use zbus::wire::{Signature, Type, signature};

/// What no owner, group or mode is on the bus.
const NO_ID: u32 = u32::MAX;

/// What no fullness is on the bus.
const UNKNOWN: u32 = u32::MAX;

fn name_or_empty(name: Option<&VolumeName>) -> Variant<'static> {
    Variant::from(name.map_or("", |name| name.as_str()).to_owned())
}

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
    pub(super) fn volume(&self) -> Result<Arc<Volume>> {
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

    fn block(&self) -> Option<&BlockAttributes> {
        self.volume.block.as_deref()
    }

    /// A bound from above of what its texts and its path take in a message.
    pub(super) fn text_size(&self) -> usize {
        let volume = &self.volume;
        let backing = volume.backing().map_or(0, |backing| backing.path.len());
        let block = self.block();
        let names = block.iter().flat_map(|block| [&block.origin, &block.thin_pool]).flatten();
        let names: usize = names.map(|name| name.as_str().len()).sum();
        let members = block.iter().flat_map(|block| &block.members);
        let members: usize = members.map(|member| member.len() + 8).sum();
        volume.name.as_str().len() * 4
            + volume.key().len()
            + volume.path.len()
            + backing
            + names
            + members
            + 384
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
        Property::new("Provisioning", |view| {
            let provisioning = view.block().and_then(|block| block.provisioning);
            provisioning.map_or("", |provisioning| provisioning.as_str()).into()
        }),
        Property::new("Origin", |view| {
            name_or_empty(view.block().and_then(|block| block.origin.as_ref()))
        }),
        Property::new("ThinPool", |view| {
            name_or_empty(view.block().and_then(|block| block.thin_pool.as_ref()))
        }),
        Property::throttled("DataUsed", |view| {
            view.block().and_then(|block| block.data_used).unwrap_or(UNKNOWN).into()
        }),
        Property::throttled("MetadataUsed", |view| {
            view.block().and_then(|block| block.metadata_used).unwrap_or(UNKNOWN).into()
        }),
        Property::new("MemberPaths", |view| {
            let members = view.volume.block.as_ref().map(|block| block.members.clone());
            members.unwrap_or_default().into()
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
