//! Logs: to the journal with fields of their own when stderr is the journal, else to stderr.
//!
//! Fields of events are fields of the journal under the same name, so code says
//! `info!(POOLD_JOB = id, ...)`. The message says everything too: it is all that most people read.

use std::os::fd::AsFd;
use tracing::{Level, error, warn};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Registry, reload};

/// Changes the level of logging while the daemon runs.
#[derive(Debug)]
pub(super) struct Logging(reload::Handle<Targets, Registry>);

impl Logging {
    /// Starts logging at `level`, and logs panics too.
    pub(super) fn start(level: Level) -> Self {
        let (filter, handle) = reload::Layer::new(targets(level));
        let journal = if stderr_is_the_journal() { tracing_journald::layer().ok() } else { None };
        let stderr = journal.is_none().then(|| {
            tracing_subscriber::fmt::layer()
                .with_writer(std::io::stderr)
                .with_target(false)
                .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()))
        });
        let journal = journal.map(|layer| layer.with_field_prefix(None));
        tracing_subscriber::registry().with(filter).with(journal).with(stderr).init();
        std::panic::set_hook(Box::new(|panic| {
            let trace = std::backtrace::Backtrace::force_capture();
            error!("a defect in poold, please report it: {panic}\n{trace}");
        }));
        Self(handle)
    }

    /// Logs at `level` from now on.
    pub(super) fn set_level(&self, level: Level) {
        if let Err(error) = self.0.reload(targets(level)) {
            warn!("cannot change the log level: {error}");
        }
    }
}

/// poold at the level asked for; the libraries only when something is wrong.
fn targets(level: Level) -> Targets {
    Targets::new().with_target("poold", level).with_default(Level::WARN)
}

/// Whether systemd connected stderr to the journal: JOURNAL_STREAM names its device and inode.
fn stderr_is_the_journal() -> bool {
    let Ok(stream) = std::env::var("JOURNAL_STREAM") else { return false };
    nix::sys::stat::fstat(std::io::stderr().as_fd())
        .is_ok_and(|stat| stream == format!("{}:{}", stat.st_dev, stat.st_ino))
}
