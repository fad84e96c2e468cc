//! `org.poold1.Manager`: properties and methods of the service as a whole.

use super::args::Options;
use super::call::{About, Handlers, Plan, Reply, Request, object_path};
use super::exposed::{Exposed, Property};
use super::limits::blocking;
use super::router::Core;
use super::{creation, job, secret, settings, table};
use crate::auth::Action;
use crate::engine::{DefineOptions, Engine, PoolTypeStatus};
use crate::model::{Error, ErrorKind, PoolDef, Result, Source};
use crate::path::{NONE, ObjectRef, ROOT, volume_path};
use crate::store::Problem;
use crate::xml;
use futures_util::FutureExt;
use std::collections::HashMap;
use std::sync::Arc;
use zbus::Variant;

/// What this version knows beyond the first.
const FEATURES: &[&str] = &[];

/// The manager as the bus shows it.
#[derive(Clone)]
pub(super) struct ManagerView {
    types: Vec<PoolTypeStatus>,
    problems: Vec<Problem>,
}

impl ManagerView {
    /// How it is now. Looks for tools on the host.
    pub(super) fn new(engine: &Engine) -> Self {
        Self { types: engine.pool_types(), problems: engine.problems() }
    }

    /// How it is now, found out off the tasks of the bus.
    pub(super) async fn read(core: &Core) -> Result<Self> {
        let engine = core.engine.clone();
        blocking(move || Self::new(&engine)).await
    }
}

impl Exposed for ManagerView {
    const INTERFACE: &'static str = table::MANAGER;
    const PROPERTIES: &'static [Property<Self>] = &[
        Property::new("Version", |_| env!("CARGO_PKG_VERSION").into()),
        Property::new("Features", |_| FEATURES.into()),
        Property::new("PoolTypes", |manager| pool_types(&manager.types)),
        Property::new("Problems", |manager| {
            let row = |problem: &Problem| {
                (problem.path.to_string_lossy().into_owned(), problem.message.clone())
            };
            manager.problems.iter().map(row).collect::<Vec<_>>().into()
        }),
    ];

    fn path(&self) -> String {
        ROOT.to_owned()
    }
}

fn pool_types(types: &[PoolTypeStatus]) -> Variant<'_> {
    let mut rows: HashMap<&str, HashMap<&str, Variant<'_>>> = HashMap::new();
    for status in types {
        let info = status.pool_type.info();
        let volume_formats: Vec<_> =
            info.volume_formats.iter().map(|format| format.as_str()).collect();
        let default = info.default_volume_format.map_or("", |format| format.as_str());
        let row = HashMap::from([
            ("available", status.available.into()),
            ("missing-tools", status.missing_tools.as_slice().into()),
            ("missing-format-tools", status.missing_format_tools.as_slice().into()),
            ("operations", status.operations.as_slice().into()),
            ("source-formats", info.source_formats.into()),
            ("default-source-format", info.default_source_format.unwrap_or("").into()),
            ("volume-formats", volume_formats.into()),
            ("default-volume-format", default.into()),
        ]);
        rows.insert(status.pool_type.as_str(), row);
    }
    rows.into()
}

/// The handlers.
pub(super) const METHODS: Handlers<()> = &[
    ("DefinePool", |call| define_pool(call).boxed()),
    ("DefinePoolXml", |call| define_pool_xml(call).boxed()),
    ("LookupPool", |call| lookup_pool(call).boxed()),
    ("LookupPoolByTarget", |call| lookup_pool_by_target(call).boxed()),
    ("LookupVolume", |call| lookup_volume(call).boxed()),
    ("ListPools", |call| list_pools(call).boxed()),
    ("FindSources", |call| find_sources(call).boxed()),
    ("FindSourcesXml", |call| find_sources_xml(call).boxed()),
    ("GetCapabilitiesXml", |call| get_capabilities_xml(call).boxed()),
    ("Autostart", |call| autostart(call).boxed()),
    ("SetSecret", |call| secret::set(call).boxed()),
    ("SetSecretXml", |call| secret::set_xml(call).boxed()),
];

type Call = Request<()>;

async fn define_pool(mut call: Call) -> Result<Plan> {
    let given = call.args.take_dict(2)?;
    let def = settings::pool(call.args.text(0)?, call.args.text(1)?, given)?;
    define(call, def)
}

async fn define_pool_xml(call: Call) -> Result<Plan> {
    let text = call.args.text(0)?.to_owned();
    let def = call.core.parsers.run(call.uid, move || xml::parse_pool(&text)).await?;
    define(call, def)
}

fn define(call: Call, def: PoolDef) -> Result<Plan> {
    let options = define_options(&call.options)?;
    let custom = settings::has_custom_options(&def);
    let existing = redefined(&call.core.engine, &def);
    let mut about = About::pool(&def);
    // Who may define pools in one place may not take over a pool that is in another.
    if existing.iter().any(|old| old.target != def.target || old.pool_type != def.pool_type) {
        about.target = None;
    }
    let plan = Plan::act(about, async move {
        if redefined(&call.core.engine, &def) != existing {
            return Err(Error::new(
                ErrorKind::Conflict,
                format!("pool {} was redefined meanwhile; look at it and try again", def.name),
            ));
        }
        if call.options.flag("validate-only") {
            call.core.engine.check_definition(&def)?;
            return Reply::paths(NONE.to_owned(), NONE.to_owned());
        }
        let (pool, job) = call.core.engine.define_pool(def, options, &call.caller()).await?;
        let path = ObjectRef::Pool(pool.uuid()).path();
        let Some(job) = job else { return Reply::paths(path, NONE.to_owned()) };
        job::finish(&call, &job).await?;
        Reply::paths(path, ObjectRef::Job(job.id()).path())
    });
    Ok(plan.needing(Action::CustomOptions, custom))
}

/// The definitions that a new one would take the place of, or be in conflict with.
fn redefined(engine: &Engine, def: &PoolDef) -> Vec<Arc<PoolDef>> {
    let by_name = engine.find_pool(def.name.as_str()).ok();
    let pools = engine.pool(def.uuid).into_iter().chain(by_name);
    pools
        .map(|pool| pool.snapshot())
        .flat_map(|pool| [Some(pool.def.clone()), pool.next_def.clone()])
        .flatten()
        .collect()
}

fn define_options(options: &Options) -> Result<DefineOptions> {
    Ok(DefineOptions {
        start: options.flag("start"),
        autostart: options.flag("autostart"),
        build: creation::build_mode(options)?,
        transient: options.flag("transient"),
    })
}

async fn lookup_pool(call: Call) -> Result<Plan> {
    let pool = call.core.engine.find_pool(call.args.text(0)?)?;
    Ok(Plan::answer(Reply::path(ObjectRef::Pool(pool.uuid()).path())?))
}

async fn lookup_pool_by_target(call: Call) -> Result<Plan> {
    let pool = call.core.engine.find_pool_by_target(call.args.text(0)?)?;
    Ok(Plan::answer(Reply::path(ObjectRef::Pool(pool.uuid()).path())?))
}

async fn lookup_volume(call: Call) -> Result<Plan> {
    Ok(Plan::read(async move {
        let (pool, name) = call.core.engine.find_volume(call.args.text(0)?).await?;
        Reply::path(volume_path(pool.uuid(), &name))
    }))
}

async fn list_pools(call: Call) -> Result<Plan> {
    let (pool_type, state) = (call.options.text("type"), call.options.text("state"));
    if let Some(word) = pool_type {
        settings::pool_type(word)?;
    }
    let mut snapshots: Vec<_> =
        call.core.engine.pools().iter().map(|pool| pool.snapshot()).collect();
    snapshots.retain(|pool| {
        pool_type.is_none_or(|word| pool.def.pool_type.as_str() == word)
            && state.is_none_or(|word| pool.state.as_str() == word)
    });
    snapshots.sort_by(|one, other| one.def.name.cmp(&other.def.name));
    let paths: Vec<_> = snapshots
        .iter()
        .map(|pool| object_path(ObjectRef::Pool(pool.def.uuid).path()))
        .collect::<Result<_>>()?;
    Ok(Plan::answer(Reply::new(paths)))
}

/// What stands for the name of a pool when a request is about none in particular; no pool can
/// have it.
const ANY_POOL: &str = "any/all";

/// What a request is about that is about no pool in particular.
fn about_any(pool_type: &'static str) -> About {
    About { pool: Some((ANY_POOL.to_owned(), pool_type)), ..About::default() }
}

async fn find_sources(mut call: Call) -> Result<Plan> {
    let pool_type = settings::pool_type(call.args.text(0)?)?;
    let given = call.args.take_dict(1)?;
    let spec = settings::source(pool_type, given)?;
    Ok(Plan::act(about_any(pool_type.as_str()), async move {
        let sources = call.core.engine.find_sources(pool_type, spec).await?;
        let rows: Vec<_> = sources.iter().map(settings::of_source).collect();
        Ok(Reply::new(rows))
    }))
}

async fn find_sources_xml(call: Call) -> Result<Plan> {
    let pool_type = settings::pool_type(call.args.text(0)?)?;
    let text = call.args.text(1)?.to_owned();
    let spec = match text.trim() {
        "" => Source::default(),
        _ => {
            let parse = move || xml::parse_source(&text, pool_type);
            call.core.parsers.run(call.uid, parse).await?
        }
    };
    Ok(Plan::act(about_any(pool_type.as_str()), async move {
        let sources = call.core.engine.find_sources(pool_type, spec).await?;
        Ok(Reply::new(xml::write_sources(&sources, pool_type)))
    }))
}

async fn get_capabilities_xml(call: Call) -> Result<Plan> {
    let types = call.core.engine.pool_types();
    let available =
        |pool_type| types.iter().any(|status| status.pool_type == pool_type && status.available);
    Ok(Plan::answer(Reply::new(xml::write_capabilities(available))))
}

async fn autostart(call: Call) -> Result<Plan> {
    Ok(Plan::act(about_any(""), async move {
        let jobs = call.core.engine.autostart(&call.caller()).await?;
        let paths: Vec<_> = jobs
            .iter()
            .map(|job| object_path(ObjectRef::Job(job.id()).path()))
            .collect::<Result<_>>()?;
        if call.options.number("wait").is_some() {
            for job in &jobs {
                job::finish(&call, job).await?;
            }
        }
        Ok(Reply::new(paths))
    }))
}
