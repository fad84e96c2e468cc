//! What jobs mean to the host: each end is logged, and a shutdown waits while one writes.

use crate::bus::Face;
use crate::engine::{Engine, JobOperation, JobSnapshot, JobState};
use std::collections::BTreeSet;
use std::future::pending;
use std::os::fd::OwnedFd;
use std::time::Duration;
use tokio::time::{Instant, sleep_until};
use tracing::{debug, info, warn};

/// A job that takes less needs no inhibitor: a stop of the service waits for longer than that.
const SHORT: Duration = Duration::from_millis(500);

/// Follows the jobs of `engine` for ever.
pub(super) async fn follow(engine: Engine, face: Face) {
    let mut changes = engine.changes();
    let mut logged = BTreeSet::new();
    // Kept from change to change: thousands of ended jobs may still be readable.
    let mut writing = BTreeSet::new();
    let mut shutdown = Shutdown::Free;
    loop {
        tokio::select! {
            set = changes.next() => {
                for id in set.jobs {
                    let job = engine.job(id).map(|job| job.snapshot());
                    match &job {
                        Some(job) if !job.state.ended() && !reads(job.operation) => {
                            writing.insert(id);
                        }
                        _ => { writing.remove(&id); }
                    }
                    match job {
                        Some(job) if job.state.ended() && logged.insert(id) => log(&engine, &job),
                        Some(_) => {}
                        None => { logged.remove(&id); }
                    }
                }
                shutdown = shutdown.after(!writing.is_empty());
            }
            () = shutdown.due() => {
                shutdown = Shutdown::Held { _inhibitor: inhibit(&face).await };
            },
        }
    }
}

/// Whether a job changes no storage.
fn reads(operation: JobOperation) -> bool {
    matches!(operation, JobOperation::PoolRefresh | JobOperation::VolumeRefresh)
}

/// What poold does about a shutdown of the host.
enum Shutdown {
    /// Nothing.
    Free,
    /// A job writes; if it still does then, shutdown is inhibited.
    Soon(Instant),
    /// It is inhibited until the descriptor is closed; none where there is no logind.
    Held { _inhibitor: Option<OwnedFd> },
}

impl Shutdown {
    fn after(self, writing: bool) -> Self {
        match self {
            _ if !writing => Self::Free,
            Self::Free => Self::Soon(Instant::now() + SHORT),
            other => other,
        }
    }

    async fn due(&self) {
        match self {
            Self::Soon(when) => sleep_until(*when).await,
            Self::Free | Self::Held { .. } => pending().await,
        }
    }
}

async fn inhibit(face: &Face) -> Option<OwnedFd> {
    face.inhibit_shutdown("A storage job is under way")
        .await
        .inspect_err(|error| debug!("a shutdown would not wait for jobs: {error}"))
        .ok()
}

/// One line a job: a warning when it failed, and for looking only a line for the curious.
fn log(engine: &Engine, job: &JobSnapshot) {
    let name = engine.pool(job.pool).map(|pool| pool.snapshot().def.name.to_string());
    let volume = job.volume.as_ref().map(ToString::to_string);
    let what = match (&name, &volume) {
        (Some(pool), Some(volume)) => format!("volume {volume} in pool {pool}"),
        (Some(pool), None) => format!("pool {pool}"),
        (None, _) => format!("pool {}", job.pool),
    };
    macro_rules! line {
        ($level:ident, $($text:tt)+) => {
            $level!(
                POOLD_JOB = job.id,
                POOLD_POOL = name,
                POOLD_POOL_UUID = %job.pool,
                POOLD_VOLUME = volume,
                POOLD_CALLER_UID = job.caller_uid,
                $($text)+
            )
        };
    }
    let operation = job.operation;
    match (&job.error, job.state) {
        (Some(error), JobState::Cancelled) => line!(info, "{operation} of {what}: {error}"),
        (Some(error), _) => line!(warn, "{operation} of {what} failed: {error}"),
        (None, _) if reads(operation) => line!(debug, "{operation} of {what} is done"),
        (None, _) => line!(info, "{operation} of {what} is done"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_shutdown_is_inhibited_only_while_a_job_goes_on_writing() {
        let soon = Shutdown::Free.after(true);
        let Shutdown::Soon(when) = &soon else { panic!("not soon") };
        let when = *when;
        // More jobs do not put it off.
        let soon = soon.after(true);
        assert!(matches!(soon, Shutdown::Soon(then) if then == when));
        assert!(matches!(Shutdown::Free.after(false), Shutdown::Free));
        assert!(matches!(soon.after(false), Shutdown::Free));
        let (ours, theirs) = nix::unistd::pipe().unwrap();
        let held = Shutdown::Held { _inhibitor: Some(theirs) }.after(true);
        assert!(matches!(held, Shutdown::Held { .. }));
        drop(held.after(false));
        // The other end is closed: logind lets go.
        assert_eq!(nix::unistd::read(&ours, &mut [0; 1]), Ok(0));
    }
}
