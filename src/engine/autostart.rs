//! Autostart: once per boot, all pools at once, each tried again until it is up; and starts that are asked
//! to be tried so.

use super::handle::PoolHandle;
use super::jobs::now_micros;
use super::live::LookOut;
use super::pool::Pool;
use super::shared::{ROOT, Shared};
use super::{Caller, JobHandle, PoolState};
use crate::backend::BuildMode;
use crate::model::{Error, ErrorKind, Result};
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// Why a pool is brought up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wish {
    /// It is marked to be started at boot.
    Marked,
    /// Somebody asked for just this.
    Asked,
}

/// The boot's autostart, unless it was done. It is done when every pool is up, was stopped by
/// hand, or can never be: a daemon that dies before that begins again.
pub(super) async fn at_boot(shared: &Arc<Shared>) {
    if matches!(shared.store(|store| Ok(store.autostart_done())).await, Ok(true)) {
        return;
    }
    let mut tries = JoinSet::new();
    for pool in shared.pools().into_iter().filter(|pool| wanted(pool, Wish::Marked)) {
        tries.spawn(bring_up(Arc::clone(shared), pool, None, Wish::Marked));
    }
    let shared = Arc::clone(shared);
    tokio::spawn(async move {
        while tries.join_next().await.is_some() {}
        if shared.closing.is_cancelled() {
            return;
        }
        if let Err(error) = shared.store(|store| store.mark_autostart_done()).await {
            tracing::error!("cannot remember that autostart was done: {error}");
        }
    });
}

/// Starts what is marked, now; what fails is tried again in the background.
pub(super) async fn now(shared: &Arc<Shared>, caller: &Caller) -> Result<Vec<JobHandle>> {
    let mut jobs = Vec::new();
    for pool in shared.pools().into_iter().filter(|pool| wanted(pool, Wish::Marked)) {
        let handle = PoolHandle { shared: Arc::clone(shared), pool: Arc::clone(&pool) };
        match handle.start(None, caller).await {
            Ok(job) => {
                jobs.push(job.clone());
                tokio::spawn(bring_up(Arc::clone(shared), pool, Some(job), Wish::Marked));
            }
            Err(error) if error.kind() == ErrorKind::LimitsExceeded => return Err(error),
            // The boot's autostart was faster.
            Err(error) if error.kind() == ErrorKind::Active => {}
            // Not tried again: it cannot be, or another job has the pool.
            Err(error) => publish(shared, &pool, &error, None),
        }
    }
    Ok(jobs)
}

/// Starts a pool; when that fails, it is tried again in the background until it is up.
pub(super) async fn until_active(
    handle: &PoolHandle,
    build: Option<BuildMode>,
    caller: &Caller,
) -> Result<JobHandle> {
    let job = handle.start(build, caller).await?;
    let (shared, pool) = (Arc::clone(&handle.shared), Arc::clone(&handle.pool));
    tokio::spawn(bring_up(shared, pool, Some(job.clone()), Wish::Asked));
    Ok(job)
}

/// One that starts already is wanted too: its start is joined, so that whoever asked can wait for it.
fn wanted(pool: &Pool, wish: Wish) -> bool {
    let now = pool.snapshot();
    let unwanted = pool.look(|core| core.stopped_by_hand || core.removed);
    let startable = matches!(now.state, PoolState::Inactive | PoolState::Starting);
    let meant = wish == Wish::Asked || now.autostart && now.persistent;
    meant && startable && !unwanted
}

/// Tries until the pool is up, or nobody wants it any more. `job` is a first try under way.
async fn bring_up(shared: Arc<Shared>, pool: Arc<Pool>, mut job: Option<JobHandle>, wish: Wish) {
    let _busy = shared.busy();
    let stop = CancellationToken::new();
    let before = pool.change(|core| core.retry.replace(stop.clone()));
    if let Some(before) = before {
        before.cancel();
    }
    let handle = PoolHandle { shared: Arc::clone(&shared), pool: Arc::clone(&pool) };
    let (mut pause, longest) = shared.options.retry;
    loop {
        let mut look_out = LookOut::take_up(&shared, &pool).await;
        let error = match try_start(&handle, job.take()).await {
            Ok(()) => break,
            Err(error) => error,
        };
        let hopeless = matches!(
            error.kind(),
            ErrorKind::NotSupported
                | ErrorKind::InvalidArgument
                | ErrorKind::Active
                | ErrorKind::Cancelled
        );
        if hopeless || stop.is_cancelled() || shared.closing.is_cancelled() {
            break;
        }
        publish(&shared, &pool, &error, Some(due(pause)));
        tokio::select! {
            () = tokio::time::sleep(pause) => pause = (pause * 2).min(longest),
            () = look_out.appearance() => pause = shared.options.retry.0,
            () = stop.cancelled() => break,
            () = shared.closing.cancelled() => break,
        }
        if !wanted(&pool, wish) && !pool.look(|core| core.dead) {
            break;
        }
    }
    // A later autostart of the same pool says these itself.
    if !stop.is_cancelled() {
        pool.update(&shared, |core, next| {
            core.retry = None;
            next.waiting_for.clear();
            next.next_try = 0;
        });
    }
}

async fn try_start(handle: &PoolHandle, job: Option<JobHandle>) -> Result<()> {
    let job = match job {
        Some(job) => job,
        None => handle.start(None, &ROOT).await?,
    };
    job.wait().await
}

/// When a pause ends, in µs since the epoch.
fn due(pause: Duration) -> u64 {
    now_micros().saturating_add(u64::try_from(pause.as_micros()).unwrap_or(u64::MAX))
}

/// Says what failed and, where it is tried again, when and what it waits for.
fn publish(shared: &Shared, pool: &Pool, error: &Error, next_try: Option<u64>) {
    tracing::warn!(POOLD_POOL = %pool.name(), POOLD_POOL_UUID = %pool.uuid, "{} cannot start: {error}", pool.describe());
    pool.update(shared, |_, next| {
        if let Some(next_try) = next_try {
            next.waiting_for = super::live::awaited(&next.def);
            next.next_try = next_try;
        }
        next.last_error = Some(error.clone());
    });
}
