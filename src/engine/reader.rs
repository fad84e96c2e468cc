//! Reads single volumes again after they changed behind our back; bursts merge.

use super::JobOperation;
use super::live;
use super::pool::{Phase, Pool, set_volume};
use super::run::{Patience, Run};
use super::shared::Shared;
use crate::model::{ErrorKind, Result, Usage, Volume, VolumeName};
use std::collections::BTreeSet;
use std::sync::Arc;

/// Volumes read by one operation.
const BATCH: usize = 256;

/// Volumes that wait to be read at most: who makes and removes files without end must not fill the
/// memory while the storage is slow.
const MOST_PENDING: usize = 16 * 1024;

/// What an operation read.
type Readings = (Vec<(VolumeName, Result<Option<Volume>>)>, Option<Usage>);

/// Starts the reader of a pool; it ends with the pool.
pub(super) fn spawn(shared: &Arc<Shared>, pool: &Arc<Pool>) {
    let (shared, pool) = (Arc::clone(shared), Arc::clone(pool));
    tokio::spawn(async move {
        loop {
            pool.stirred.notified().await;
            while let Some(batch) = take(&pool) {
                read(&shared, &pool, batch).await;
            }
            if pool.look(|core| core.removed) {
                return;
            }
        }
    });
}

/// Asks for volumes to be read again; those under a job when it ends. False when so many wait that
/// the whole is better read: none is noted then.
pub(super) fn reread(pool: &Pool, names: impl IntoIterator<Item = VolumeName>) -> bool {
    let noted = pool.change(|core| {
        core.pending.extend(names);
        let few = core.pending.len() <= MOST_PENDING;
        if !few {
            core.pending.clear();
        }
        few
    });
    pool.stirred.notify_one();
    noted
}

fn take(pool: &Pool) -> Option<Vec<VolumeName>> {
    pool.change(|core| {
        if core.active.is_none() || core.gone || core.dead {
            // A refresh reads them when the pool is back.
            core.pending.clear();
        }
        if core.phase != Phase::Idle {
            return None;
        }
        let (leased, free): (BTreeSet<_>, BTreeSet<_>) = std::mem::take(&mut core.pending)
            .into_iter()
            .partition(|name| core.leases.changes(name));
        core.deferred.extend(leased);
        let mut free = free.into_iter();
        let batch: Vec<_> = free.by_ref().take(BATCH).collect();
        core.pending.extend(free);
        if batch.is_empty() {
            return None;
        }
        core.touched_in_reading = Some(BTreeSet::new());
        Some(batch)
    })
}

async fn read(shared: &Arc<Shared>, pool: &Arc<Pool>, batch: Vec<VolumeName>) {
    let prepared = pool.active().and_then(|(active, epoch)| {
        let backend = shared.backend(&active.def, JobOperation::VolumeRefresh)?;
        Ok((active, epoch, backend))
    });
    let Ok((active, epoch, backend)) = prepared else { return };
    let patience = Patience::Within(shared.options.refresh_timeout);
    let run = Run { shared, pool, job: None, patience, what: "reading volumes" };
    let readings: Result<Readings> = run
        .run(move |ctx| {
            let read = |name: VolumeName| {
                let found = backend.refresh_volume(&active, &name, ctx);
                (name, found)
            };
            Ok((batch.into_iter().map(read).collect(), backend.usage(&active, ctx).ok()))
        })
        .await;
    let Ok((readings, usage)) = readings else {
        // It stays unknown what they are: the whole is read, or found dead.
        live::reload(shared, pool).await;
        return;
    };
    let doubtful = pool.update(shared, |core, next| {
        let touched = core.touched_in_reading.take().unwrap_or_default();
        if core.epoch != epoch || core.active.is_none() {
            return false;
        }
        if let Some(usage) = usage {
            next.usage = usage;
        }
        let mut doubtful = false;
        for (name, found) in readings {
            if core.leases.changes(&name) {
                core.deferred.insert(name);
            } else if touched.contains(&name) {
                core.pending.insert(name);
            } else {
                match found {
                    Ok(found) => {
                        set_volume(shared, pool.uuid, core, &mut next.volumes, &name, found);
                    }
                    Err(error) => {
                        doubtful |= error.kind() == ErrorKind::Inaccessible;
                        tracing::debug!(POOLD_POOL = %pool.name(), POOLD_POOL_UUID = %pool.uuid, "volume {name}: {error}");
                    }
                }
            }
        }
        doubtful
    });
    if doubtful {
        pool.ask_check(shared);
    }
}
