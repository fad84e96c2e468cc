//! A command that started a job stays with it: progress on a terminal, Ctrl-C cancels.

use super::output;
use super::record::job_number;
use super::session::Session;
use crate::client::{JobProxy, ObjectPath, Options};
use crate::model::{Error, ErrorKind, Result};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;
use std::future::Future;
use std::io::IsTerminal;
use std::time::Duration;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// How often progress is asked for; the service itself renews it twice a second.
const TICK: Duration = Duration::from_millis(250);

/// What a command does to what, in the words of its messages.
#[derive(Debug, Clone)]
pub(super) struct Step {
    /// "Starting"
    pub(super) doing: &'static str,
    /// "Started"
    pub(super) done: &'static str,
    /// "pool images"
    pub(super) subject: String,
    /// " (method reflink)", what the job says of how it did it.
    told: String,
}

impl Step {
    pub(super) fn new(doing: &'static str, done: &'static str, subject: impl Into<String>) -> Self {
        Self { doing, done, subject: subject.into(), told: String::new() }
    }
}

/// Stays with a job to its end, then says what was done; with `--json`, prints the object that it
/// left. With `--no-wait`, prints the job's number.
pub(super) async fn complete(
    session: &Session,
    job: ObjectPath,
    object: Option<&ObjectPath>,
    step: &Step,
) -> anyhow::Result<()> {
    if let Some(number) = job_number(job.as_str()) {
        if session.global.no_wait {
            return match session.global.json {
                true => output::print_json(&json!({ "job": number }), true),
                false => output::print(&format!("{number}\n")),
            };
        }
        let told = follow(session, job, number, step).await?;
        return report(session, object, &Step { told, ..step.clone() }).await;
    }
    report(session, object, step).await
}

/// Stays with a job to its end and says nothing of it.
pub(super) async fn finish(session: &Session, job: ObjectPath, step: &Step) -> anyhow::Result<()> {
    match job_number(job.as_str()) {
        Some(number) => Ok(follow(session, job, number, step).await.map(drop)?),
        None => Ok(()),
    }
}

/// Says what was done, or prints the object with `--json`.
pub(super) async fn report(
    session: &Session,
    object: Option<&ObjectPath>,
    step: &Step,
) -> anyhow::Result<()> {
    if session.global.json {
        let Some(path) = object else { return Ok(()) };
        return output::print_json(&session.record(path).await?.into(), true);
    }
    if session.global.quiet {
        return Ok(());
    }
    output::print(&format!("{} {}{}\n", step.done, output::printable(&step.subject), step.told))
}

/// What of a job's result is told.
const TOLD: [&str; 5] = ["method", "algorithm", "passes", "guarantee", "kept"];
/// What of it somebody should be told although all went well.
const WARNING: &str = "warning";

/// What a job that is done says of how it did it.
async fn told(job: &JobProxy<'_>) -> String {
    let Ok(result) = job.result().await else { return String::new() };
    let word = |key: &str| {
        let value = crate::client::to_json(result.get(key)?);
        let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        Some(format!("{key} {}", output::printable(&value)))
    };
    if let Some(warning) = result.get(WARNING).map(|value| crate::client::to_json(value))
        && let Some(warning) = warning.as_str()
    {
        output::warn(warning);
    }
    let words: Vec<_> = TOLD.into_iter().filter_map(word).collect();
    match words.is_empty() {
        true => String::new(),
        false => format!(" ({})", words.join(", ")),
    }
}

/// Waits for the end of a job; its error is the result, else what it says of how it did it.
pub(super) async fn follow(
    session: &Session,
    path: ObjectPath,
    number: u64,
    step: &Step,
) -> Result<String> {
    let job = session.job_at(path.clone()).await?;
    let forever = Options::from([("wait", u64::MAX.into())]);
    let mut end = std::pin::pin!(job.wait(&forever));
    let progress = Progress::new(session, step);
    let mut interrupts = interrupts()?;
    let mut ticks = tokio::time::interval_at(tokio::time::Instant::now() + TICK, TICK);
    loop {
        tokio::select! {
            result = &mut end => {
                progress.bar.finish_and_clear();
                result?;
                return Ok(told(&job).await);
            }
            _ = ticks.tick(), if !progress.bar.is_hidden() => progress.show(&job).await,
            _ = interrupts.recv() => {
                progress.bar.finish_and_clear();
                cancel(session, &job, number, step, end, interrupts).await?;
                return Ok(String::new());
            }
        }
    }
}

/// Ends the job on the user's request; leaves it alone when it cannot be ended, or on the second.
async fn cancel(
    session: &Session,
    job: &JobProxy<'_>,
    number: u64,
    step: &Step,
    end: impl Future<Output = Result<()>>,
    mut interrupts: Signal,
) -> Result<()> {
    let (options, _agent) = session.change().await;
    output::warn(&format!("cancelling job {number}"));
    let ended = async {
        job.cancel(&options).await?;
        end.await
    };
    let Step { doing, subject, .. } = step;
    let goes_on = |why: &str| {
        Error::new(
            ErrorKind::InProgress,
            format!(
                "{doing} {subject} goes on as job {number}{why}; see poolctl job wait {number}"
            ),
        )
    };
    tokio::select! {
        result = ended => match result {
            Err(error) if error.kind() == ErrorKind::NotSupported => {
                Err(goes_on(&format!(" ({error})")))
            }
            Err(error) if error.kind() == ErrorKind::Cancelled => {
                Err(Error::new(ErrorKind::Cancelled, format!("{doing} {subject}: cancelled")))
            }
            result => result,
        },
        _ = interrupts.recv() => Err(goes_on("")),
    }
}

/// Ctrl-C, none of them missed.
pub(super) fn interrupts() -> Result<Signal> {
    signal(SignalKind::interrupt()).map_err(|error| Error::io("cannot wait for Ctrl-C", &error))
}

/// A progress bar on standard error, if that is a terminal.
struct Progress {
    bar: ProgressBar,
}

impl Progress {
    fn new(session: &Session, step: &Step) -> Self {
        let wanted = std::io::stderr().is_terminal() && !session.global.quiet;
        let bar = if wanted { ProgressBar::new_spinner() } else { ProgressBar::hidden() };
        // Nothing is drawn before the first tick: most jobs have ended by then.
        let message = format!("{} {}", step.doing, output::printable(&step.subject));
        Self { bar: bar.with_message(message) }
    }

    /// Draws how far the job is. Asking works alike on a bus and as a peer, and misses nothing.
    async fn show(&self, job: &JobProxy<'_>) {
        let (Ok(total), Ok(bytes)) = (job.total_bytes().await, job.bytes().await) else {
            return;
        };
        if total > 0 && self.bar.length().is_none() {
            let style = ProgressStyle::with_template(
                "{msg} [{bar:20}] {percent:>3}% of {binary_total_bytes}, {binary_bytes_per_sec}, {eta} left",
            );
            if let Ok(style) = style {
                self.bar.set_style(style.progress_chars("=> "));
            }
            self.bar.set_length(total);
        }
        self.bar.set_position(bytes);
        self.bar.tick();
    }
}
