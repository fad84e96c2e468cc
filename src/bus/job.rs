//! `org.poold1.Job`: properties and methods of a job, and how other methods wait for one.

use super::call::{About, Handlers, Plan, Reply, Request};
use super::exposed::{Exposed, Property};
use super::pool::error_value;
use super::table;
use crate::auth::Action;
use crate::engine::{JobHandle, JobSnapshot, ResultValue};
use crate::model::{Error, ErrorKind, Result};
use crate::path::{ObjectRef, volume_path};
use futures_util::FutureExt;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use zbus::{ObjectPath, Variant};

/// A job as the bus shows it.
#[derive(Clone)]
pub(super) struct JobView(pub(super) Arc<JobSnapshot>);

impl Exposed for JobView {
    const INTERFACE: &'static str = table::JOB;
    const PROPERTIES: &'static [Property<Self>] = &[
        Property::new("Operation", |job| job.0.operation.as_str().into()),
        Property::new("State", |job| job.0.state.as_str().into()),
        Property::throttled("Bytes", |job| job.0.bytes.into()),
        Property::throttled("TotalBytes", |job| job.0.total.into()),
        Property::throttled("Rate", |job| job.0.rate.into()),
        Property::new("Objects", |job| objects(&job.0).into()),
        Property::new("CallerUid", |job| job.0.caller_uid.into()),
        Property::new("Started", |job| job.0.started.into()),
        Property::new("Ended", |job| job.0.ended.into()),
        Property::new("Error", |job| error_value(job.0.error.as_ref())),
        Property::new("Result", |job| result(&job.0)),
        Property::new("Cancelable", |job| job.0.cancelable.into()),
    ];

    fn path(&self) -> String {
        ObjectRef::Job(self.0.id).path()
    }
}

fn objects(job: &JobSnapshot) -> Vec<ObjectPath<'static>> {
    let volume = job.volume.as_ref().map(|name| volume_path(job.pool, name));
    let source = job.source.as_ref().map(|(pool, name)| volume_path(*pool, name));
    let paths = std::iter::once(ObjectRef::Pool(job.pool).path()).chain(volume).chain(source);
    paths.filter_map(|path| ObjectPath::try_from(path).ok()).collect()
}

fn result(job: &JobSnapshot) -> Variant<'_> {
    let value = |value: &ResultValue| match value {
        ResultValue::Text(text) => Variant::from(text.clone()),
        ResultValue::Number(number) => Variant::from(*number),
        ResultValue::Flag(flag) => Variant::from(*flag),
    };
    let entries: HashMap<&str, Variant<'_>> =
        job.result.iter().map(|(key, found)| (*key, value(found))).collect();
    entries.into()
}

/// The handlers.
pub(super) const METHODS: Handlers<JobHandle> =
    &[("Cancel", |call| cancel(call).boxed()), ("Wait", |call| wait(call).boxed())];

async fn cancel(call: Request<JobHandle>) -> Result<Plan> {
    let job = call.target.snapshot();
    let about = match call.core.engine.pool(job.pool) {
        Some(pool) => About::pool(&pool.snapshot().def),
        None => About::default(),
    };
    let anothers = job.caller_uid != call.uid;
    let plan = Plan::act(about, async move {
        call.target.cancel()?;
        Ok(Reply::empty())
    });
    Ok(plan.needing(Action::CancelJob, anothers))
}

async fn wait(call: Request<JobHandle>) -> Result<Plan> {
    let about = About { uuid: Some(call.target.snapshot().pool), ..About::default() };
    Ok(Plan::act(about, async move {
        finish(&call, &call.target).await?;
        Ok(Reply::empty())
    }))
}

/// Waits for a job as the caller wishes, and answers with its path.
pub(super) async fn reply<T>(call: &Request<T>, job: &JobHandle) -> Result<Reply> {
    finish(call, job).await?;
    Reply::path(ObjectRef::Job(job.id()).path())
}

/// Waits for a job as long as the caller wishes: its error if it failed, `InProgress` if it goes
/// on. With `wait` 0 it is not waited for at all. A caller that leaves waits no longer.
pub(super) async fn finish<T>(call: &Request<T>, job: &JobHandle) -> Result<()> {
    let patience = match call.options.number("wait") {
        None => call.core.options.wait,
        Some(0) => return Ok(()),
        Some(u64::MAX) => Duration::MAX,
        Some(micros) => Duration::from_micros(micros),
    };
    tokio::select! {
        biased;
        ended = job.wait() => ended,
        () = tokio::time::sleep(patience) => Err(in_progress(job)),
        () = call.client.gone.cancelled() => Err(in_progress(job)),
    }
}

fn in_progress(job: &JobHandle) -> Error {
    let path = ObjectRef::Job(job.id()).path();
    let operation = job.snapshot().operation.as_str();
    Error::new(ErrorKind::InProgress, format!("{operation} goes on as {path}; call its Wait"))
}
