//! Commands on pools.

use super::follow::{Step, complete, follow, report};
use super::options::PoolCommand;
use super::output::{self, Emphasis};
use super::record::{Record, changes, job_number, record, text};
use super::session::Session;
use super::settings::SourceSettings;
use super::table::{Field, Shown};
use crate::client::{self, Options};
use crate::model::PoolType;
use serde_json::{Value as JsonValue, json};

/// Columns of `list`.
const COLUMNS: &[Field] = &[
    ("NAME", "name", Shown::Text),
    ("STATE", "state", Shown::Text),
    ("AUTOSTART", "autostart", Shown::Flag),
    ("TYPE", "type", Shown::Text),
    ("CAPACITY", "capacity", Shown::Room),
    ("USED", "allocation", Shown::Room),
    ("FREE", "available", Shown::Room),
    ("VOLUMES", "volume-count", Shown::Number),
];

/// Lines of `show`.
const DETAILS: &[Field] = &[
    ("Name", "name", Shown::Text),
    ("UUID", "uuid", Shown::Text),
    ("Type", "type", Shown::Text),
    ("State", "state", Shown::Text),
    ("Last error", "last-error", Shown::Error),
    ("Waiting for", "waiting-for", Shown::Text),
    ("Next try", "next-try", Shown::Time),
    ("Persistent", "persistent", Shown::Flag),
    ("Autostart", "autostart", Shown::Flag),
    ("Target", "target-path", Shown::Text),
    ("Capacity", "capacity", Shown::Room),
    ("Used", "allocation", Shown::Room),
    ("Free", "available", Shown::Room),
    ("Volumes", "volume-count", Shown::Number),
    ("Skipped", "skipped-entries", Shown::IfAny),
    ("Stale", "volumes-stale", Shown::IfAny),
    ("Last refresh", "last-refresh", Shown::Time),
    ("Can", "operations", Shown::Text),
    ("Object", "object", Shown::Text),
];

/// Columns of `sources`: those in which there is something.
const SOURCES: &[Field] = &[
    ("HOST", "hosts", Shown::Text),
    ("DEVICE", "devices", Shown::Text),
    ("DIRECTORY", "dir", Shown::Text),
    ("NAME", "source-name", Shown::Text),
    ("ADAPTER", "adapter", Shown::Text),
    ("INITIATOR", "initiator", Shown::Text),
    ("FORMAT", "source-format", Shown::Text),
];

/// Columns of `types`.
const TYPES: &[Field] = &[
    ("TYPE", "type", Shown::Text),
    ("AVAILABLE", "available", Shown::Flag),
    ("VOLUMES ARE", "default-volume-format", Shown::Text),
    ("WHY NOT", "why-not", Shown::Text),
];

/// Runs a command on pools.
pub(super) async fn run(session: &Session, command: PoolCommand) -> anyhow::Result<()> {
    match command {
        PoolCommand::List { pool_type, state } => {
            let wanted = [("type", pool_type.map(|known| known.to_string())), ("state", state)];
            list(session, &wanted).await
        }
        PoolCommand::Show { pool } => show(session, &pool).await,
        PoolCommand::Start { pool: name, build, retry } => {
            let (mut options, _agent) = session.start_job_with([("retry", retry)]).await;
            options.extend(build.map(|build| ("build", build.as_str().into())));
            let pool = session.pool(&name).await?;
            let job = pool.start(&options).await?;
            let step = step("Starting", "Started", &name);
            complete(session, job, Some(&pool.object_path()), &step).await
        }
        PoolCommand::Stop { pool: name, force, release } => {
            let flags = [("force", force), ("release", release)];
            let (options, _agent) = session.start_job_with(flags).await;
            let pool = session.pool(&name).await?;
            // A transient pool is gone afterwards, and so is what could be shown.
            let object = pool.persistent().await?.then(|| pool.object_path());
            let job = pool.stop(&options).await?;
            complete(session, job, object.as_ref(), &step("Stopping", "Stopped", &name)).await
        }
        PoolCommand::Build { pool: name, overwrite } => {
            let (options, _agent) = session.start_job_with([("overwrite", overwrite)]).await;
            let pool = session.pool(&name).await?;
            let job = pool.build(&options).await?;
            let step = step("Building", "Built", &name);
            complete(session, job, Some(&pool.object_path()), &step).await
        }
        PoolCommand::Delete { pool: name, volumes } => {
            let (options, _agent) = session.start_job_with([("volumes", volumes)]).await;
            let pool = session.pool(&name).await?;
            let job = pool.delete(&options).await?;
            let step = step("Deleting the storage of", "Deleted the storage of", &name);
            complete(session, job, Some(&pool.object_path()), &step).await
        }
        PoolCommand::Refresh { pool: name } => {
            let (options, _agent) = session.start_job().await;
            let pool = session.pool(&name).await?;
            let job = pool.refresh(&options).await?;
            let step = step("Refreshing", "Refreshed", &name);
            complete(session, job, Some(&pool.object_path()), &step).await
        }
        PoolCommand::Undefine { pool } => {
            let (options, _agent) = session.change().await;
            session.pool(&pool).await?.undefine(&options).await?;
            report(session, None, &step("Undefining", "Undefined", &pool)).await
        }
        PoolCommand::Autostart { pool: None, .. } => autostart_all(session).await,
        PoolCommand::Autostart { pool: Some(name), disable } => {
            let (options, _agent) = session.change().await;
            let pool = session.pool(&name).await?;
            pool.set_autostart(!disable, &options).await?;
            let done = if disable { "No longer starts at boot:" } else { "Starts at boot:" };
            report(session, Some(&pool.object_path()), &step("Marking", done, &name)).await
        }
        PoolCommand::Dump { pool, inactive } => {
            let mut options = Options::new();
            if inactive {
                options.insert("inactive", true.into());
            }
            let xml = session.pool(&pool).await?.get_xml(&options).await?;
            output::print_document(&xml, session.global.json)
        }
        PoolCommand::Sources { pool_type, place } => sources(session, pool_type, &place).await,
        PoolCommand::Types { xml: true } => {
            let xml = session.manager().await?.get_capabilities_xml(&Options::new()).await?;
            output::print_document(&xml, session.global.json)
        }
        PoolCommand::Types { xml: false } => types(session).await,
    }
}

fn step(doing: &'static str, done: &'static str, pool: &str) -> Step {
    Step::new(doing, done, format!("pool {pool}"))
}

async fn list(session: &Session, wanted: &[(&str, Option<String>)]) -> anyhow::Result<()> {
    let pools = client::objects(&session.connection, client::POOLS).await?;
    let mut rows: Vec<_> =
        pools.iter().map(|(path, properties)| record(path, properties)).collect();
    rows.retain(|row| {
        wanted.iter().all(|(key, value)| value.as_ref().is_none_or(|v| text(row, key) == v))
    });
    rows.sort_by(|a, b| text(a, "name").cmp(text(b, "name")));
    for (path, problem) in session.manager().await?.problems().await? {
        output::warn(&format!("warning: {path}: {problem}"));
    }
    session.show_list(COLUMNS, rows, emphasis)
}

async fn show(session: &Session, name: &str) -> anyhow::Result<()> {
    let path = session.pool(name).await?.object_path();
    session.show_details(DETAILS, session.record(&path).await?)
}

/// How a pool's row is emphasised.
fn emphasis(pool: &Record) -> Emphasis {
    match text(pool, "state") {
        "inaccessible" => Emphasis::Alarm,
        _ if pool.get("last-error").is_some_and(|error| !error.is_null()) => Emphasis::Alarm,
        "inactive" => Emphasis::Faint,
        _ => Emphasis::None,
    }
}

/// Starts what is marked, all at once; fails as the first that fails, after the others have ended.
async fn autostart_all(session: &Session) -> anyhow::Result<()> {
    let (options, _agent) = session.change().await;
    let jobs = session.manager().await?.autostart(&options).await?;
    if session.global.no_wait {
        let numbers: Vec<_> = jobs.iter().filter_map(|job| job_number(job.as_str())).collect();
        if session.global.json {
            return output::print_json(&json!({ "jobs": numbers }), true);
        }
        return output::print(
            &numbers.iter().map(|number| format!("{number}\n")).collect::<String>(),
        );
    }
    if jobs.is_empty() && !session.global.json && !session.global.quiet {
        return output::print(
            "Nothing to start: what starts at boot is active, was stopped by hand or cannot start\n",
        );
    }
    let names = session.names().await?;
    let mut failed = None;
    for path in jobs {
        let Some(number) = job_number(path.as_str()) else { continue };
        let objects = session.job_at(path.clone()).await?.objects().await?;
        let pool = objects.first().map(|object| names.show(object.as_str())).unwrap_or_default();
        let step = step("Starting", "Started", &pool);
        match follow(session, path, number, &step).await {
            Ok(_) => report(session, objects.first(), &step).await?,
            Err(error) => {
                if let Some(earlier) = failed.replace(error) {
                    output::warn(earlier.message());
                }
            }
        }
    }
    failed.map_or(Ok(()), |error| Err(error.into()))
}

async fn sources(
    session: &Session,
    pool_type: PoolType,
    place: &SourceSettings,
) -> anyhow::Result<()> {
    let (options, _agent) = session.change().await;
    let manager = session.manager().await?;
    let found = manager.find_sources(pool_type.as_str(), &place.to_options(), &options).await?;
    let rows: Vec<_> = found.iter().map(changes).collect();
    let said = |(_, key, _): &&Field| rows.iter().any(|row| row.contains_key(*key));
    let columns: Vec<_> = SOURCES.iter().filter(said).copied().collect();
    session.show_list(&columns, rows, |_| Emphasis::None)
}

async fn types(session: &Session) -> anyhow::Result<()> {
    let known = session.manager().await?.pool_types().await?;
    let rows = PoolType::ALL.into_iter().filter_map(|pool_type| {
        let mut row = changes(known.get(pool_type.as_str())?);
        row.insert("type".to_owned(), pool_type.as_str().into());
        if !session.global.json {
            row.insert("why-not".to_owned(), why_not(&row).into());
        }
        Some(row)
    });
    session.show_list(TYPES, rows.collect(), |row| match row.get("available") {
        Some(JsonValue::Bool(true)) => Emphasis::None,
        _ => Emphasis::Faint,
    })
}

/// Why this host cannot use a type, empty if it can.
fn why_not(row: &Record) -> String {
    let missing: Vec<_> = match row.get("missing-tools") {
        Some(JsonValue::Array(tools)) => tools.iter().filter_map(JsonValue::as_str).collect(),
        _ => Vec::new(),
    };
    match row.get("available") {
        Some(JsonValue::Bool(true)) => String::new(),
        _ if missing.is_empty() => "not served by this daemon".to_owned(),
        _ => format!("not installed: {}", missing.join(", ")),
    }
}
