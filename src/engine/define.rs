//! Definitions: taken over, changed and forgotten, one pool at a time and none against another.

use super::actor::{Actor, Command};
use super::pool::{Core, Pool, blank};
use super::shared::{Registry, Shared};
use super::{DefineOptions, conflicts};
use crate::model::{Error, ErrorKind, PoolDef, Result, Uuid};
use crate::store::RunState;
use std::sync::Arc;
use tokio::sync::oneshot;

/// What a pool's actor is asked to take over.
pub(super) struct Definition {
    pub(super) def: Arc<PoolDef>,
    pub(super) transient: bool,
    /// What it is to be; none leaves it.
    pub(super) autostart: Option<bool>,
    /// Whether it came from the store, so that it need not be written.
    pub(super) stored: bool,
}

impl Definition {
    /// A caller's.
    pub(super) fn asked(def: Arc<PoolDef>, options: &DefineOptions) -> Self {
        let autostart = options.autostart.then_some(true);
        Self { def, transient: options.transient, autostart, stored: false }
    }
}

/// Refuses a definition that its backend or another pool speaks against.
pub(super) fn check(shared: &Shared, def: &PoolDef) -> Result<()> {
    shared.backend_of(def.pool_type)?.check_definition(def)?;
    check_conflicts(&shared.registry(), def)
}

fn check_conflicts(registry: &Registry, def: &PoolDef) -> Result<()> {
    for pool in registry.pools.values() {
        let snapshot = pool.snapshot();
        conflicts::check(def, &snapshot.def)?;
        if let Some(next) = &snapshot.next_def {
            conflicts::check(def, next)?;
        }
    }
    registry.claims.values().try_for_each(|claimed| conflicts::check(def, claimed))
}

/// A definition that says no uuid (nil) means the pool of its name, or a new one with a new uuid.
/// It cannot change that pool: who does not know its uuid may not know of the pool.
pub(super) fn with_uuid(shared: &Shared, mut def: PoolDef) -> Result<PoolDef> {
    if !def.uuid.is_nil() {
        return Ok(def);
    }
    let registry = shared.registry();
    let Some(uuid) = registry.names.get(&def.name) else {
        def.uuid = Uuid::new_v4();
        return Ok(def);
    };
    def.uuid = *uuid;
    match registry.pools.get(uuid).map(|pool| pool.snapshot()) {
        Some(known) if def != **known.next_def.as_ref().unwrap_or(&known.def) => {
            let message = format!(
                "pool {} (uuid {uuid}) has another definition; say its uuid to change it, or another name",
                def.name
            );
            Err(Error::new(ErrorKind::Conflict, message))
        }
        _ => Ok(def),
    }
}

/// Takes a definition over: into the pool that has it, or a new one.
pub(super) async fn define(shared: &Arc<Shared>, definition: Definition) -> Result<Arc<Pool>> {
    let def = Arc::clone(&definition.def);
    shared.backend_of(def.pool_type)?.check_definition(&def)?;
    let (pool, inbox) = {
        let mut registry = shared.registry_mut();
        check_conflicts(&registry, &def)?;
        if registry.claims.contains_key(&def.uuid) {
            let message = format!("pool {} is being defined by another call; try again", def.name);
            return Err(Error::new(ErrorKind::Busy, message));
        }
        registry.claims.insert(def.uuid, Arc::clone(&def));
        match registry.pools.get(&def.uuid) {
            Some(pool) => (Arc::clone(pool), None),
            None => {
                let snapshot = blank(Arc::clone(&def), false, false);
                let (pool, inbox) = Pool::new(snapshot, Core::default());
                registry.names.insert(def.name.clone(), def.uuid);
                registry.pools.insert(def.uuid, Arc::clone(&pool));
                registry.hidden.insert(def.uuid);
                (pool, Some(inbox))
            }
        }
    };
    let new = inbox.is_some();
    if let Some(inbox) = inbox {
        Actor::spawn(shared, &pool, inbox);
    }
    let claim = Claim { shared: Arc::clone(shared), uuid: def.uuid };
    let (reply, answer) = oneshot::channel();
    pool.send(shared, Command::Define(Box::new(definition), reply));
    // Not awaited by the caller's own task: it may leave, the claim must not.
    let (shared, defined) = (Arc::clone(shared), Arc::clone(&pool));
    let settled = tokio::spawn(async move {
        let result = answer.await.unwrap_or_else(|_| Err(defined.no_more()));
        if result.is_ok() {
            shared.registry_mut().hidden.remove(&defined.uuid);
        } else if new {
            let (reply, gone) = oneshot::channel();
            defined.send(&shared, Command::Forget(reply));
            // Its actor has ended already when it does not answer.
            let _ = gone.await;
        }
        drop(claim);
        shared.changes.pool(defined.uuid);
        result
    });
    settled.await.unwrap_or_else(|_| Err(pool.no_more()))?;
    Ok(pool)
}

/// A claimed definition; given back when dropped.
struct Claim {
    shared: Arc<Shared>,
    uuid: Uuid,
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.shared.registry_mut().claims.remove(&self.uuid);
    }
}

impl Actor {
    pub(super) async fn define(&mut self, definition: Definition) -> Result<()> {
        let Definition { def, transient, autostart, stored } = definition;
        let snapshot = self.pool.snapshot();
        let active = self.pool.look(|core| core.active.is_some());
        let known = snapshot.persistent || active;
        let was = snapshot.next_def.as_ref().unwrap_or(&snapshot.def);
        let equal = def == *was;
        if transient {
            return match known {
                false => Ok(()),
                true if equal => Ok(()),
                true => Err(Error::new(
                    ErrorKind::Exists,
                    format!("pool {} exists with another definition", def.name),
                )),
            };
        }
        let kept = stored || (snapshot.persistent && equal);
        if !kept {
            let def = Arc::clone(&def);
            self.shared.store(move |store| store.save_pool(&def)).await?;
        }
        if let Some(autostart) = autostart.filter(|_| !stored) {
            let name = def.name.clone();
            // What is not kept whole is not kept: the definition is taken back.
            let before = (!kept).then(|| snapshot.persistent.then(|| Arc::clone(was)));
            self.shared
                .store(move |store| {
                    store.set_autostart(&name, autostart).inspect_err(|_| {
                        let taken_back = match &before {
                            None => Ok(()),
                            Some(None) => store.remove_pool(&name),
                            Some(Some(before)) => store.save_pool(before),
                        };
                        if let Err(error) = taken_back {
                            tracing::error!(POOLD_POOL = %name, "a definition that failed stays: {error}");
                        }
                    })
                })
                .await?;
        }
        let unchanged_while_active = active && *def == *snapshot.def;
        self.pool.update(&self.shared, |_, next| {
            next.persistent = true;
            if let Some(autostart) = autostart {
                next.autostart = autostart;
            }
            match active {
                false => next.def = def,
                true => next.next_def = (!unchanged_while_active).then_some(def),
            }
        });
        if active && !snapshot.persistent {
            self.keep_transience(false).await?;
        }
        Ok(())
    }

    pub(super) async fn undefine(&mut self) -> Result<()> {
        let snapshot = self.pool.snapshot();
        if snapshot.persistent {
            let name = snapshot.def.name.clone();
            self.shared.store(move |store| store.remove_pool(&name)).await?;
        }
        self.pool.update(&self.shared, |core, next| {
            next.persistent = false;
            next.autostart = false;
            next.next_def = None;
            next.waiting_for.clear();
            next.next_try = 0;
            if let Some(retry) = core.retry.take() {
                retry.cancel();
            }
        });
        if self.pool.look(|core| core.active.is_some()) {
            self.keep_transience(true).await
        } else {
            self.vanish().await;
            Ok(())
        }
    }

    /// Remembers whether the active pool has a definition.
    async fn keep_transience(&self, transient: bool) -> Result<()> {
        let (active, _) = self.started()?;
        let activation = serde_json::to_value(&active.activation).ok();
        let state = RunState {
            def: active.def.as_ref().clone(),
            activation,
            stopped_by_hand: false,
            transient,
        };
        self.shared.store(move |store| store.save_run_state(&state)).await
    }

    pub(super) async fn set_autostart(&mut self, autostart: bool) -> Result<()> {
        let snapshot = self.pool.snapshot();
        let name = snapshot.def.name.clone();
        if !snapshot.persistent {
            let message =
                format!("pool {name} is transient; define it before it can start at boot");
            return Err(Error::new(ErrorKind::InvalidArgument, message));
        }
        self.shared.store(move |store| store.set_autostart(&name, autostart)).await?;
        self.pool.update(&self.shared, |core, next| {
            next.autostart = autostart;
            if !autostart && let Some(retry) = core.retry.take() {
                retry.cancel();
            }
        });
        Ok(())
    }
}
