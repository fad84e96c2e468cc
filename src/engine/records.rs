//! What backends ask of the engine while they work: declarations, undo steps, other pools' volumes.

use super::jobs::Job;
use super::secrets::EngineSecrets;
use super::shared::Shared;
use crate::backend::{Journal, KnownVolumes, Records, Secrets, Undo};
use crate::host::Host;
use crate::model::{Declaration, Error, ErrorKind, Result, Uuid, Volume, VolumeName};
use crate::store::Store;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeSet, HashMap};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Declarations, kept by the store.
pub(super) struct StoreRecords(pub(super) Arc<Store>);

impl Records for StoreRecords {
    fn declared(&self, pool: Uuid, name: &VolumeName) -> Option<Declaration> {
        self.0.declared(pool, name)
    }

    fn declared_of_inode(&self, pool: Uuid, inode: u64) -> Option<Declaration> {
        self.0.declared_of_inode(pool, inode)
    }

    fn in_doubt(&self, pool: Uuid, name: &VolumeName) -> bool {
        self.0.declaration_in_doubt(pool, name)
    }

    fn declare(&self, pool: Uuid, name: &VolumeName, declaration: &Declaration) -> Result<()> {
        self.0.declare(pool, name, declaration)
    }

    fn forget(&self, pool: Uuid, name: &VolumeName) -> Result<()> {
        self.0.forget(pool, name)
    }
}

/// The undo steps of one operation; what is not ended is undone when it is dropped.
pub(super) struct JobJournal {
    store: Arc<Store>,
    host: Arc<dyn Host>,
    secrets: Arc<dyn Secrets>,
    pool: Uuid,
    job: Option<u64>,
    stand: StepsStand,
    steps: Mutex<Vec<Undo>>,
}

/// From when on the steps of an operation are not undone.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum StepsStand {
    /// When it has succeeded.
    #[default]
    WhenDone,
    /// When its pool is remembered to be active: it is a start.
    WhenActive,
}

/// An undo step as it is kept.
#[derive(Serialize, Deserialize)]
pub(super) struct Step {
    #[serde(default)]
    pub(super) stand: StepsStand,
    #[serde(flatten)]
    pub(super) undo: Undo,
}

impl JobJournal {
    /// The journal of an operation of `job`, or of one that has none and changes nothing.
    pub(super) fn new(
        shared: &Arc<Shared>,
        pool: Uuid,
        job: Option<&Arc<Job>>,
        stand: StepsStand,
    ) -> Self {
        Self {
            store: Arc::clone(&shared.store),
            host: Arc::clone(&shared.host),
            secrets: Arc::new(EngineSecrets(Arc::clone(shared))),
            pool,
            job: job.map(|job| job.id),
            stand,
            steps: Mutex::default(),
        }
    }

    fn steps(&self) -> MutexGuard<'_, Vec<Undo>> {
        self.steps.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The operation succeeded: nothing is to be undone.
    pub(super) fn commit(&self) -> Result<()> {
        let mut steps = self.steps();
        if let Some(job) = self.job.filter(|_| !steps.is_empty()) {
            self.store.end_journal(job)?;
        }
        steps.clear();
        Ok(())
    }

    /// The operation failed: undoes its steps, last first. What cannot be undone stays recorded
    /// for the next start.
    pub(super) fn roll_back(&self) {
        let steps = std::mem::take(&mut *self.steps());
        let Some(job) = self.job.filter(|_| !steps.is_empty()) else { return };
        let undone =
            undo(&steps, &*self.host, &*self.secrets).and_then(|()| self.store.end_journal(job));
        if let Err(error) = undone {
            tracing::error!(job, "the job's steps are undone at the next start: {error}");
        }
    }
}

impl Journal for JobJournal {
    fn record(&self, undo: &Undo) -> Result<()> {
        let job = self.job.ok_or_else(|| {
            Error::new(ErrorKind::Failed, "only a job may take steps that need undoing")
        })?;
        let kept = Step { stand: self.stand, undo: undo.clone() };
        let step = serde_json::to_value(kept).map_err(|error| {
            Error::new(ErrorKind::Failed, format!("cannot record an undo step: {error}"))
        })?;
        self.store.journal_step(job, self.pool, &step)?;
        self.steps().push(undo.clone());
        Ok(())
    }
}

impl Drop for JobJournal {
    fn drop(&mut self) {
        self.roll_back();
    }
}

/// Undoes steps, last first; all of them are tried, the first failure is returned.
pub(super) fn undo(steps: &[Undo], host: &dyn Host, secrets: &dyn Secrets) -> Result<()> {
    steps.iter().rev().map(|step| step.apply(host, secrets)).fold(Ok(()), Result::and)
}

/// Which volumes are differences to which files, over all pools: those that are known, and those
/// that are being created.
#[derive(Default)]
pub(super) struct Backings {
    known: Mutex<HashMap<Box<str>, Overlays>>,
    promised: Mutex<Vec<(Box<str>, Uuid, VolumeName)>>,
}

/// A volume that is being created as a difference to a file; forgotten when it is dropped, which
/// is after the volume became known or failed.
pub(super) struct Promise {
    shared: Arc<Shared>,
    what: (Box<str>, Uuid, VolumeName),
}

impl Promise {
    /// Says that `name` will be a difference to the file at `path`. From here on that is in use.
    pub(super) fn new(shared: &Arc<Shared>, pool: Uuid, name: &VolumeName, path: &str) -> Self {
        let what = (path.into(), pool, name.clone());
        shared.backings.promised().push(Clone::clone(&what));
        Self { shared: Arc::clone(shared), what }
    }
}

impl Drop for Promise {
    fn drop(&mut self) {
        let mut promised = self.shared.backings.promised();
        let ours = promised.iter().position(|promise| *promise == self.what);
        if let Some(ours) = ours {
            promised.swap_remove(ours);
        }
    }
}

/// The volumes that are differences to one file.
type Overlays = BTreeSet<(Uuid, VolumeName)>;

impl Backings {
    /// Says that a volume changed.
    pub(super) fn replace(
        &self,
        pool: Uuid,
        name: &VolumeName,
        before: Option<&Volume>,
        after: Option<&Volume>,
    ) {
        let before = before.and_then(Volume::backing).map(|backing| backing.path.as_str());
        let after = after.and_then(Volume::backing).map(|backing| backing.path.as_str());
        if before == after {
            return;
        }
        let mut table = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(path) = before
            && let Some(overlays) = table.get_mut(path)
        {
            overlays.remove(&(pool, name.clone()));
            if overlays.is_empty() {
                table.remove(path);
            }
        }
        if let Some(path) = after {
            table.entry(path.into()).or_default().insert((pool, name.clone()));
        }
    }

    fn overlay_of(&self, path: &str) -> Option<(Uuid, VolumeName)> {
        let promised = self.promised().iter().find(|(base, ..)| base.as_ref() == path).cloned();
        if let Some((_, pool, name)) = promised {
            return Some((pool, name));
        }
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(path).and_then(BTreeSet::first).cloned()
    }

    fn promised(&self) -> MutexGuard<'_, Vec<(Box<str>, Uuid, VolumeName)>> {
        self.promised.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The volumes of all pools.
pub(super) struct AllVolumes(pub(super) Arc<Shared>);

impl KnownVolumes for AllVolumes {
    fn overlay_of(&self, path: &str) -> Option<String> {
        let (pool, volume) = self.0.backings.overlay_of(path)?;
        let pool = Arc::clone(self.0.registry().pools.get(&pool)?);
        Some(format!("volume {volume} in {}", pool.describe()))
    }

    fn of_pool(&self, pool: Uuid) -> Vec<Arc<Volume>> {
        let pool = self.0.registry().pools.get(&pool).cloned();
        pool.map(|pool| pool.snapshot().volumes.values().cloned().collect()).unwrap_or_default()
    }

    fn by_path(&self, path: &str) -> Option<Arc<Volume>> {
        self.0.snapshots().iter().find_map(|pool| pool.volume_at(path).cloned())
    }

    fn file_of(&self, path: &str) -> Option<PathBuf> {
        self.0.pools().iter().find_map(|pool| {
            let volume = pool.snapshot().volume_at(path).cloned()?;
            pool.look(|core| core.active.clone())?.file_of(&volume)
        })
    }
}
