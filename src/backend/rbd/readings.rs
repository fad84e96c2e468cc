//! When the images of a Ceph pool are read, and when their names are enough.
//!
//! To read all takes as long as it takes, which in a pool of many images is longer than a refresh may. Their names
//! come at once: that they do shows that the cluster answers. While nobody asks for more, what was read before is
//! kept of the images that still have theirs, new ones are read alone, and all are read again so seldom that it
//! costs a twentieth of one processor at most.

use super::cluster::Session;
use super::{Work, list};
use crate::host::HIDDEN_PREFIX;
use crate::model::{ErrorKind, Result, Uuid, Volume, VolumeName};
use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Of so many images one refresh reads all for certain.
const FEW: usize = 500;
/// So many new ones are read one by one, which is as long as all are few.
const FEW_NEW: usize = 16;
/// Between two readings of all it takes so many times as long as the last one took.
const PAUSE: u32 = 20;

/// When all images of pools were read.
#[derive(Debug, Default)]
pub(super) struct Readings(Mutex<HashMap<Uuid, Reading>>);

/// One reading of all.
#[derive(Debug, Clone)]
struct Reading {
    ended: Instant,
    took: Duration,
    /// Names of images that could not be read.
    unread: HashSet<String>,
}

impl Reading {
    /// Whether it is too early for another one.
    fn is_fresh(&self) -> bool {
        self.ended.elapsed() < self.took * PAUSE
    }
}

impl Readings {
    /// All volumes, and how many images could not be read or named.
    pub(super) fn read(
        &self,
        work: &Work<'_>,
        session: &Session<'_>,
    ) -> Result<(Vec<Volume>, u32)> {
        let mut names = list::names(session)?;
        names.retain(|name| !name.starts_with(HIDDEN_PREFIX));
        let pool = work.pool.def.uuid;
        let last = self.all().get(&pool).filter(|last| last.is_fresh()).cloned();
        if !work.ctx.asked
            && let Some(last) = last
            && let Some(listing) = by_name(work, session, &names, &last.unread)?
        {
            return Ok(listing);
        }
        let begun = Instant::now();
        let listing = match names.len() > FEW {
            true => list::all(work, &session.within(&work.ctx.work_overtime()))?,
            false => list::all(work, session)?,
        };
        let mut unread = HashSet::from_iter(names);
        for volume in &listing.0 {
            unread.remove(volume.name.as_str());
        }
        let reading = Reading { ended: Instant::now(), took: begun.elapsed(), unread };
        self.all().insert(pool, reading);
        Ok(listing)
    }

    /// Forgets a pool.
    pub(super) fn forget(&self, pool: Uuid) {
        self.all().remove(&pool);
    }

    fn all(&self) -> MutexGuard<'_, HashMap<Uuid, Reading>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The volumes of images with these names as they are known, the new ones read; none where so many are new that
/// all are better read.
fn by_name(
    work: &Work<'_>,
    session: &Session<'_>,
    names: &[String],
    unread: &HashSet<String>,
) -> Result<Option<(Vec<Volume>, u32)>> {
    let known = work.ctx.known.of_pool(work.pool.def.uuid);
    let known: HashMap<&str, &Volume> =
        known.iter().map(|volume| (volume.name.as_str(), volume.as_ref())).collect();
    let (mut volumes, mut new, mut skipped) = (Vec::with_capacity(names.len()), Vec::new(), 0);
    for name in names {
        match known.get(name.as_str()) {
            Some(volume) => volumes.push(Volume::clone(volume)),
            None if unread.contains(name) => skipped += 1,
            None => new.push(name),
        }
    }
    if new.len() > FEW_NEW {
        return Ok(None);
    }
    for name in new {
        let Some(name) = VolumeName::found(name) else {
            skipped += 1;
            continue;
        };
        match list::one(work, session, &name) {
            Ok(found) => volumes.extend(found),
            Err(error) if error.kind() == ErrorKind::ToolFailed => {
                tracing::debug!("{error}");
                skipped += 1;
            }
            Err(error) => return Err(error),
        }
    }
    Ok(Some((volumes, skipped)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readings_cost_a_twentieth_of_the_time() {
        let now = Instant::now();
        let ago = |seconds| now.checked_sub(Duration::from_secs(seconds)).unwrap_or(now);
        let read = |ended, took| Reading { ended, took, unread: HashSet::new() };
        assert!(read(ago(120), Duration::from_secs(9)).is_fresh());
        assert!(!read(ago(200), Duration::from_secs(9)).is_fresh());
        assert!(!read(ago(30), Duration::from_millis(300)).is_fresh());
    }
}
