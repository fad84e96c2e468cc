//! What a refresh found, as differences to what was known: volumes that did not change stay the
//! same objects in memory. Runs on the worker that read them.

use crate::backend::Listing;
use crate::model::{FreeExtent, Usage, Volume, VolumeName};
use imbl::OrdMap;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Volumes by name, as snapshots share them.
pub(super) type Volumes = OrdMap<VolumeName, Arc<Volume>>;

/// A volume before and after.
pub(super) type Change = (Option<Arc<Volume>>, Option<Arc<Volume>>);

/// A listing compared with the volumes known before it.
pub(super) struct Merged {
    pub(super) usage: Usage,
    pub(super) skipped: u32,
    pub(super) free_extents: Arc<[FreeExtent]>,
    volumes: Volumes,
    changes: BTreeMap<VolumeName, Change>,
}

impl Merged {
    /// Compares a listing with what was known when it began.
    pub(super) fn new(base: &Volumes, listing: Listing) -> Self {
        let mut volumes = base.clone();
        let mut changes = BTreeMap::new();
        let mut seen = BTreeSet::new();
        for volume in listing.volumes {
            let name = volume.name.clone();
            seen.insert(name.clone());
            let before = base.get(&name);
            if before.is_some_and(|before| **before == volume) {
                continue;
            }
            let volume = Arc::new(volume);
            changes.insert(name.clone(), (before.cloned(), Some(Arc::clone(&volume))));
            volumes.insert(name, volume);
        }
        for (name, before) in base {
            if !seen.contains(name) {
                changes.insert(name.clone(), (Some(Arc::clone(before)), None));
                volumes.remove(name);
            }
        }
        Self {
            usage: listing.usage,
            skipped: listing.skipped,
            free_extents: listing.free_extents.into(),
            volumes,
            changes,
        }
    }

    /// The volumes to publish, and what changed: those in `kept` stay as they are in `now`,
    /// because we know more of them than the listing.
    pub(super) fn publish<'a>(
        self,
        now: &Volumes,
        kept: impl Iterator<Item = &'a VolumeName>,
    ) -> (Volumes, BTreeMap<VolumeName, Change>) {
        let (mut volumes, mut changes) = (self.volumes, self.changes);
        for name in kept {
            changes.remove(name);
            match now.get(name) {
                Some(volume) => drop(volumes.insert(name.clone(), Arc::clone(volume))),
                None => drop(volumes.remove(name)),
            }
        }
        (volumes, changes)
    }
}
