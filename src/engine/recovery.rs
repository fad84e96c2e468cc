//! After a start: what is kept becomes pools, and what died with the daemon before is undone.

use super::actor::{Actor, Command};
use super::define::{self, Definition};
use super::pool::{Core, Pool, blank};
use super::records::{Step, StepsStand, undo};
use super::run::Patience;
use super::secrets::EngineSecrets;
use super::shared::Shared;
use crate::backend::{ActivePool, Undo};
use crate::model::{Error, ErrorKind, Result, Uuid};
use crate::store::{JournalEntry, Problem, RunState};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;

/// Publishes the pools that the store has, as they were when the daemon before ended.
pub(super) fn publish_kept(shared: &Arc<Shared>) {
    crate::host::sweep_private(&shared.store.private());
    let (stored, mut problems) = shared.store.pools();
    let (states, damaged) = shared.store.run_states();
    problems.extend(damaged);
    let mut states: BTreeMap<Uuid, RunState> =
        states.into_iter().map(|state| (state.def.uuid, state)).collect();
    for stored in stored {
        let state = states.remove(&stored.def.uuid);
        let mut snapshot = blank(Arc::new(stored.def), true, stored.autostart);
        let mut core = Core::default();
        if let Some(state) = state {
            core.stopped_by_hand = state.stopped_by_hand;
            let def = Arc::new(state.def);
            core.active = activation(&def, state.activation.as_ref(), &mut problems);
            if core.active.is_some() && def != snapshot.def {
                snapshot.next_def = Some(std::mem::replace(&mut snapshot.def, def));
            }
        }
        add(shared, snapshot, core, &mut problems);
    }
    for (_, state) in states {
        let def = Arc::new(state.def);
        let active = activation(&def, state.activation.as_ref(), &mut problems);
        if active.is_some() {
            let core = Core { active, ..Core::default() };
            add(shared, blank(def, false, false), core, &mut problems);
        }
    }
    shared.set_problems(problems);
}

fn problem(what: &str, message: String) -> Problem {
    Problem { path: PathBuf::from(what), message }
}

/// What a start remembered, if it can be read.
fn activation(
    def: &Arc<crate::model::PoolDef>,
    kept: Option<&serde_json::Value>,
    problems: &mut Vec<Problem>,
) -> Option<Arc<ActivePool>> {
    match serde_json::from_value(kept?.clone()) {
        Ok(activation) => Some(Arc::new(ActivePool { def: Arc::clone(def), activation })),
        Err(error) => {
            let message = format!("the state of active pool {} is damaged: {error}", def.name);
            problems.push(problem(&def.uuid.to_string(), message));
            None
        }
    }
}

fn add(
    shared: &Arc<Shared>,
    snapshot: super::PoolSnapshot,
    core: Core,
    problems: &mut Vec<Problem>,
) {
    let def = Arc::clone(&snapshot.def);
    let mut registry = shared.registry_mut();
    if registry.names.contains_key(&def.name) || registry.pools.contains_key(&def.uuid) {
        let message = format!("pool {} (uuid {}) is defined twice", def.name, def.uuid);
        problems.push(problem(&format!("{}.xml", def.name), message));
        return;
    }
    let (pool, inbox) = Pool::new(snapshot, core);
    registry.names.insert(def.name.clone(), def.uuid);
    registry.pools.insert(def.uuid, Arc::clone(&pool));
    drop(registry);
    pool.update(shared, |_, _| ());
    Actor::spawn(shared, &pool, inbox);
}

/// Tells all pools that the daemon has started; what each makes of it arrives later.
pub(super) async fn resume(shared: &Arc<Shared>) -> Vec<oneshot::Receiver<Result<()>>> {
    let (journals, damaged) = match shared.store(|store| Ok(store.journals())).await {
        Ok(read) => read,
        Err(error) => (Vec::new(), vec![problem("jobs", error.to_string())]),
    };
    let mut by_pool: BTreeMap<Uuid, Vec<(u64, JournalEntry)>> = BTreeMap::new();
    for (job, entry) in journals {
        by_pool.entry(entry.pool).or_default().push((job, entry));
    }
    if !damaged.is_empty() {
        let mut problems =
            shared.problems.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone();
        problems.extend(damaged);
        shared.set_problems(problems);
    }
    let mut answers = Vec::new();
    for pool in shared.pools() {
        let journals = by_pool.remove(&pool.uuid).unwrap_or_default();
        let (reply, answer) = oneshot::channel();
        pool.send(shared, Command::Resume(journals, reply));
        answers.push(answer);
    }
    for (job, entry) in by_pool.into_values().flatten() {
        tracing::warn!(
            POOLD_JOB = job,
            "undoing steps of a job on pool {}, which is no more",
            entry.pool
        );
        let host = Arc::clone(&shared.host);
        let secrets = EngineSecrets(Arc::clone(shared));
        if let Err(error) = shared
            .store(move |store| {
                undo(&steps(&entry, false)?, &*host, &secrets)?;
                store.end_journal(job)
            })
            .await
        {
            tracing::error!(POOLD_JOB = job, "cannot undo: {error}");
        }
    }
    answers
}

/// The undo steps of a journal, of a pool that is remembered to be active or not.
fn steps(entry: &JournalEntry, active: bool) -> Result<Vec<Undo>> {
    let read = |step: &serde_json::Value| {
        serde_json::from_value::<Step>(step.clone()).map_err(|error| {
            Error::new(ErrorKind::Failed, format!("an undo step cannot be read: {error}"))
        })
    };
    let steps: Vec<_> = entry.steps.iter().map(read).collect::<Result<_>>()?;
    let due = steps.into_iter().filter(|step| !(active && step.stand == StepsStand::WhenActive));
    Ok(due.map(|step| step.undo).collect())
}

impl Actor {
    /// Undoes what died with the daemon before, and loads the volumes of an active pool.
    pub(super) async fn resume(&mut self, journals: Vec<(u64, JournalEntry)>) -> Result<()> {
        let shared = Arc::clone(&self.shared);
        let permit = shared.background.acquire().await;
        let active = self.started().is_ok();
        for (job, entry) in journals {
            let store = Arc::clone(&shared.store);
            let steps = steps(&entry, active);
            let waits: Duration = steps.iter().flatten().map(Undo::waits).sum();
            let patience = Patience::Within(shared.options.start_timeout + waits);
            let undone = self
                .run(None, patience, "undoing a job")
                .run(move |ctx| {
                    undo(&steps?, &*ctx.host, &*ctx.secrets)?;
                    store.end_journal(job)
                })
                .await;
            match undone {
                Ok(()) => tracing::info!(POOLD_JOB = job, "a job that died was undone"),
                Err(error) => tracing::error!(POOLD_JOB = job, "cannot undo a job: {error}"),
            }
        }
        if self.started().is_err() {
            return Ok(());
        }
        let loaded = self.read(None).await;
        drop(permit);
        loaded.map(|_| ())
    }
}

/// Reads the definitions again: new files are defined, changed ones taken over.
pub(super) async fn reload(shared: &Arc<Shared>) -> Result<()> {
    let (stored, mut problems) = shared.store(|store| Ok(store.pools())).await?;
    let (_, damaged) = shared.store(|store| Ok(store.run_states())).await?;
    problems.extend(damaged);
    for stored in stored {
        let name = stored.def.name.clone();
        let definition = Definition {
            def: Arc::new(stored.def),
            transient: false,
            autostart: Some(stored.autostart),
            stored: true,
        };
        if let Err(error) = define::define(shared, definition).await {
            problems.push(problem(&format!("{name}.xml"), error.to_string()));
        }
    }
    shared.set_problems(problems);
    Ok(())
}
