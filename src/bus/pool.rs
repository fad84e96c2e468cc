//! `org.poold1.Pool`: properties and methods of a pool.

use super::call::{About, Handlers, Plan, Reply, Request, object_path};
use super::exposed::{Exposed, Property};
use super::router::Core;
use super::settings::invalid;
use super::volume::{self, VolumeView};
use super::{creation, job, table};
use crate::auth::Action;
use crate::backend::{BuildMode, StopOptions};
use crate::engine::{CreateVolumeOptions, PoolHandle, PoolSnapshot};
use crate::model::{Error, ErrorKind, Result, Uuid, VolumeDef, VolumeName};
use crate::path::{ObjectRef, volume_path};
use crate::xml;
use futures_util::FutureExt;
use std::ops::Bound;
use std::sync::Arc;
use zbus::Variant;

/// What a page of ListVolumes may take, by a bound from above.
const PAGE: usize = 24 << 20;

/// A pool as the bus shows it.
#[derive(Clone)]
pub(super) struct PoolView {
    /// Its state.
    pub(super) snapshot: Arc<PoolSnapshot>,
    /// What its type can do.
    pub(super) operations: Vec<&'static str>,
}

impl PoolView {
    /// The view of a snapshot.
    pub(super) fn new(core: &Core, snapshot: Arc<PoolSnapshot>) -> Self {
        let operations = core.operations.get(&snapshot.def.pool_type).cloned().unwrap_or_default();
        Self { snapshot, operations }
    }

    /// Its identity.
    pub(super) fn uuid(&self) -> Uuid {
        self.snapshot.def.uuid
    }
}

impl Exposed for PoolView {
    const INTERFACE: &'static str = table::POOL;
    const PROPERTIES: &'static [Property<Self>] = &[
        Property::new("Name", |pool| pool.snapshot.def.name.as_str().into()),
        Property::new("Uuid", |pool| pool.uuid().to_string().into()),
        Property::new("Type", |pool| pool.snapshot.def.pool_type.as_str().into()),
        Property::new("State", |pool| pool.snapshot.state.as_str().into()),
        Property::new("Persistent", |pool| pool.snapshot.persistent.into()),
        Property::new("Autostart", |pool| pool.snapshot.autostart.into()),
        Property::throttled("Capacity", |pool| pool.snapshot.usage.capacity.into()),
        Property::throttled("Allocation", |pool| pool.snapshot.usage.allocation.into()),
        Property::throttled("Available", |pool| pool.snapshot.usage.available.into()),
        Property::new("Volumes", |pool| path_value(ObjectRef::Volumes(pool.uuid()).path())),
        Property::throttled("VolumeCount", |pool| {
            u32::try_from(pool.snapshot.volumes.len()).unwrap_or(u32::MAX).into()
        }),
        Property::new("SkippedEntries", |pool| pool.snapshot.skipped.into()),
        Property::new("VolumesStale", |pool| pool.snapshot.stale.into()),
        Property::new("TargetPath", |pool| pool.snapshot.def.target_path().unwrap_or("").into()),
        Property::new("Operations", |pool| pool.operations.as_slice().into()),
        Property::throttled("LastRefresh", |pool| pool.snapshot.last_refresh.into()),
        Property::new("LastError", |pool| error_value(pool.snapshot.last_error.as_ref())),
        Property::new("WaitingFor", |pool| pool.snapshot.waiting_for.as_str().into()),
        Property::new("NextTry", |pool| pool.snapshot.next_try.into()),
    ];

    fn path(&self) -> String {
        ObjectRef::Pool(self.uuid()).path()
    }
}

/// An object path as a value; one that poold made is well formed.
pub(super) fn path_value(path: String) -> Variant<'static> {
    match object_path(path) {
        Ok(path) => path.into(),
        Err(_) => zbus::ObjectPath::default().into(),
    }
}

/// An error as name and message, both empty for none.
pub(super) fn error_value(error: Option<&Error>) -> Variant<'_> {
    match error {
        Some(error) => (error.kind().dbus_name(), error.message()).into(),
        None => ("", "").into(),
    }
}

/// The handlers.
pub(super) const METHODS: Handlers<PoolHandle> = &[
    ("Start", |call| start(call).boxed()),
    ("Stop", |call| stop(call).boxed()),
    ("Build", |call| build(call).boxed()),
    ("Delete", |call| delete(call).boxed()),
    ("Refresh", |call| refresh(call).boxed()),
    ("Undefine", |call| undefine(call).boxed()),
    ("SetAutostart", |call| set_autostart(call).boxed()),
    ("CreateVolume", |call| create_volume(call).boxed()),
    ("CreateVolumeXml", |call| create_volume_xml(call).boxed()),
    ("LookupVolume", |call| lookup_volume(call).boxed()),
    ("GetXml", |call| get_xml(call).boxed()),
    ("ListVolumes", |call| list_volumes(call).boxed()),
];

type Call = Request<PoolHandle>;

fn about(call: &Call) -> About {
    About::pool(&call.target.snapshot().def)
}

async fn start(call: Call) -> Result<Plan> {
    let build = creation::build_mode(&call.options)?;
    Ok(Plan::act(about(&call), async move {
        let job = match call.options.flag("retry") {
            true => call.target.start_until_active(build, &call.caller()).await?,
            false => call.target.start(build, &call.caller()).await?,
        };
        job::reply(&call, &job).await
    }))
}

async fn stop(call: Call) -> Result<Plan> {
    let options =
        StopOptions { force: call.options.flag("force"), release: call.options.flag("release") };
    Ok(Plan::act(about(&call), async move {
        let job = call.target.stop(options, &call.caller()).await?;
        job::reply(&call, &job).await
    }))
}

async fn build(call: Call) -> Result<Plan> {
    let mode = match call.options.flag("overwrite") {
        true => BuildMode::Overwrite,
        false => BuildMode::KeepData,
    };
    Ok(Plan::act(about(&call), async move {
        let job = call.target.build(mode, &call.caller()).await?;
        job::reply(&call, &job).await
    }))
}

async fn delete(call: Call) -> Result<Plan> {
    let with_volumes = call.options.flag("volumes");
    Ok(Plan::act(about(&call), async move {
        let job = call.target.delete(with_volumes, &call.caller()).await?;
        job::reply(&call, &job).await
    }))
}

async fn refresh(call: Call) -> Result<Plan> {
    Ok(Plan::act(about(&call), async move {
        let job = call.target.refresh(&call.caller()).await?;
        job::reply(&call, &job).await
    }))
}

async fn undefine(call: Call) -> Result<Plan> {
    Ok(Plan::act(about(&call), async move {
        call.target.undefine().await?;
        Ok(Reply::empty())
    }))
}

async fn set_autostart(call: Call) -> Result<Plan> {
    let autostart = call.args.flag(0)?;
    Ok(Plan::act(about(&call), async move {
        call.target.set_autostart(autostart).await?;
        Ok(Reply::empty())
    }))
}

async fn create_volume(call: Call) -> Result<Plan> {
    let pool_type = call.target.snapshot().def.pool_type;
    let (name, capacity) = (call.args.text(0)?, call.args.number(1)?);
    let def = creation::volume(pool_type, name, capacity, &call.options)?;
    create(call, def)
}

async fn create_volume_xml(call: Call) -> Result<Plan> {
    let text = call.args.text(0)?.to_owned();
    let pool_type = call.target.snapshot().def.pool_type;
    let parse = move || xml::parse_volume(&text, pool_type);
    let def = call.core.parsers.run(call.uid, parse).await?;
    create(call, def)
}

fn create(call: Call, def: VolumeDef) -> Result<Plan> {
    let options = CreateVolumeOptions { preallocation: creation::preallocation(&call.options)? };
    if def.encryption.as_ref().is_some_and(|encryption| encryption.format == "none") {
        return Err(invalid("a new volume is not encrypted unless that is said".to_owned()));
    }
    creation::check_secret(&call.core.engine, &def)?;
    let about = About::volume(&call.target.snapshot().def, def.name.as_str(), None);
    let reads = def.backing.is_some();
    let plan = Plan::act(about, async move {
        let volume = volume_path(call.target.uuid(), &def.name);
        let job = call.target.create_volume(def, options, &call.caller()).await?;
        job::finish(&call, &job).await?;
        Reply::paths(volume, ObjectRef::Job(job.id()).path())
    });
    Ok(plan.needing(Action::ReadVolume, reads))
}

async fn lookup_volume(call: Call) -> Result<Plan> {
    Ok(Plan::read(async move {
        let name = call.args.text(0)?;
        call.target.loaded().await?;
        let snapshot = call.target.snapshot();
        match snapshot.volumes.get_key_value(name) {
            Some((name, _)) => Reply::path(volume_path(call.target.uuid(), name)),
            None => Err(Error::new(
                ErrorKind::NotFound,
                format!("pool {} has no volume {name:?}", snapshot.def.name),
            )),
        }
    }))
}

async fn get_xml(call: Call) -> Result<Plan> {
    let snapshot = call.target.snapshot();
    let inactive = call.options.flag("inactive");
    let mut def = match &snapshot.next_def {
        Some(next) if inactive => Arc::clone(next),
        _ => Arc::clone(&snapshot.def),
    };
    if !inactive && !snapshot.free_extents.is_empty() {
        let def = Arc::make_mut(&mut def);
        if let Some(device) = def.source.devices.first_mut() {
            device.free_extents = snapshot.free_extents.to_vec();
        }
    }
    Ok(Plan::answer(Reply::new(xml::write_pool(&def, snapshot.usage))))
}

async fn list_volumes(call: Call) -> Result<Plan> {
    let after = call.args.text(0)?.to_owned();
    let limit = match call.args.number(1)? {
        0 => usize::MAX,
        limit => usize::try_from(limit).unwrap_or(usize::MAX),
    };
    let properties = match call.options.texts("properties") {
        None => VolumeView::PROPERTIES.iter().collect(),
        Some(names) => volume::select(&names)?,
    };
    Ok(Plan::read(async move {
        call.target.loaded().await?;
        call.client.list(call.target.uuid());
        let snapshot = call.target.snapshot();
        let make = move || Ok(Reply::new(page(&snapshot, &after, limit, properties, PAGE)));
        call.core.large(&call.client, make).await
    }))
}

/// The volumes after a name, as many as `limit` and `room` bytes allow, and the name to go on
/// after.
fn page(
    snapshot: &PoolSnapshot,
    after: &str,
    limit: usize,
    properties: Vec<&'static Property<VolumeView>>,
    room: usize,
) -> (volume::Rows, String) {
    let start = match after {
        "" => Bound::Unbounded,
        after => Bound::Excluded(after),
    };
    let mut following = snapshot.volumes.range::<_, str>((start, Bound::Unbounded)).peekable();
    let fixed: usize = properties.iter().map(|property| property.name.len() + 40).sum();
    let (mut views, mut taken) = (Vec::new(), 0);
    let mut last: Option<&VolumeName> = None;
    while let Some((name, volume)) = following.peek() {
        let view = VolumeView::new(snapshot, name, volume);
        taken += fixed + view.text_size();
        if !views.is_empty() && (taken > room || views.len() >= limit) {
            break;
        }
        views.push(view);
        last = Some(name);
        following.next();
    }
    let next = match (following.peek(), last) {
        (Some(_), Some(last)) => last.as_str().to_owned(),
        _ => String::new(),
    };
    (volume::Rows { views, properties }, next)
}
