//! Commands on jobs.

use super::follow::{Step, follow, report};
use super::options::JobCommand;
use super::output::Emphasis;
use super::record::{Record, record, text};
use super::session::{Names, Session};
use super::table::{Field, Shown};
use crate::client::{self, ObjectPath, ObjectRef};
use crate::model::{Error, ErrorKind, Result, format_size};
use serde_json::Value;

/// Columns of `job list`; `progress` and `on` are made here.
const COLUMNS: &[Field] = &[
    ("JOB", "job", Shown::Number),
    ("OPERATION", "operation", Shown::Text),
    ("ON", "on", Shown::Text),
    ("STATE", "state", Shown::Text),
    ("PROGRESS", "progress", Shown::Text),
    ("STARTED", "started", Shown::Time),
    ("ERROR", "error", Shown::Error),
];

/// Runs a command on jobs.
pub(super) async fn run(session: &Session, command: JobCommand) -> anyhow::Result<()> {
    match command {
        JobCommand::List => list(session).await,
        JobCommand::Wait { job } => {
            let path = existing(session, job).await?;
            let step = Step::new("Waiting for", "Done:", format!("job {job}"));
            follow(session, path.clone(), job, &step).await?;
            report(session, Some(&path), &step).await
        }
        JobCommand::Cancel { job } => {
            let path = existing(session, job).await?;
            let (options, _agent) = session.change().await;
            session.job_at(path.clone()).await?.cancel(&options).await?;
            let step = Step::new("Cancelling", "Cancelling", format!("job {job}"));
            report(session, Some(&path), &step).await
        }
    }
}

/// The path of a job that there is.
async fn existing(session: &Session, job: u64) -> Result<ObjectPath> {
    let none = || {
        let why = format!("no job {job}: jobs are kept for a minute after their end");
        Error::new(ErrorKind::NotFound, why)
    };
    let path = ObjectPath::try_from(ObjectRef::Job(job).path()).map_err(|_| none())?;
    match session.properties(&path).await {
        Err(error) if error.kind() == ErrorKind::UnknownObject => Err(none()),
        result => result.map(|_| path),
    }
}

async fn list(session: &Session) -> anyhow::Result<()> {
    let names = session.names().await?;
    let jobs = client::objects(&session.connection, client::JOBS).await?;
    let mut rows: Vec<_> =
        jobs.iter().map(|(path, properties)| job(path, record(path, properties), &names)).collect();
    rows.sort_by_key(|row| row.get("job").and_then(Value::as_u64));
    session.show_list(COLUMNS, rows, |row| match text(row, "state") {
        "failed" => Emphasis::Alarm,
        "running" | "queued" => Emphasis::Active,
        _ => Emphasis::Faint,
    })
}

/// The record of a job with its number, the names of what it works on, and how far it is.
fn job(path: &ObjectPath, mut record: Record, names: &Names) -> Record {
    let number = super::record::job_number(path.as_str());
    let on: Vec<Value> = works_on(&record, names).into_iter().map(Value::from).collect();
    let progress = progress(&record);
    record.insert("job".to_owned(), number.into());
    record.insert("on".to_owned(), on.into());
    record.insert("progress".to_owned(), progress.into());
    record
}

/// The names of what a job works on; a volume's says its pool, too.
pub(super) fn works_on(job: &Record, names: &Names) -> Vec<String> {
    let Some(Value::Array(objects)) = job.get("objects") else { return Vec::new() };
    let paths = || objects.iter().filter_map(Value::as_str);
    let volumes =
        || paths().filter(|path| matches!(ObjectRef::parse(path), Some(ObjectRef::Volume(..))));
    if volumes().next().is_some() {
        volumes().map(|path| names.show(path)).collect()
    } else {
        paths().map(|path| names.show(path)).collect()
    }
}

/// How far a job is, for a person; `None` when it does not know.
pub(super) fn progress(job: &Record) -> Option<String> {
    let number = |key: &str| job.get(key).and_then(Value::as_u64).unwrap_or(0);
    let (bytes, total) = (number("bytes"), number("total-bytes"));
    if total == 0 {
        return None;
    }
    let percent = u128::from(bytes) * 100 / u128::from(total);
    Some(format!("{percent}% of {}", format_size(total)))
}
