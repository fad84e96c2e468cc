//! The engine as the faces and the daemon hold it.

use super::changes::Changes;
use super::define::Definition;
use super::handle::PoolHandle;
use super::shared::Shared;
use super::{Caller, DefineOptions, EngineOptions, JobHandle, PoolTypeStatus};
use super::{autostart, define, recovery};
use crate::backend::Backend;
use crate::host::Host;
use crate::model::{Error, ErrorKind, PoolDef, PoolType, Result, Uuid};
use crate::store::{Problem, Store};
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

/// The engine; clones share it.
#[derive(Clone)]
pub struct Engine {
    pub(super) shared: Arc<Shared>,
}

impl Engine {
    /// Reads what is kept and publishes the pools, without touching any storage: those that were
    /// active come up `loaded: false`. Needs a tokio runtime. Fails only when the store's
    /// directories cannot be used.
    pub fn open(
        store: Store,
        host: Arc<dyn Host>,
        backends: Vec<Arc<dyn Backend>>,
        options: EngineOptions,
    ) -> Result<Self> {
        let shared = Shared::new(store, host, backends, options);
        recovery::publish_kept(&shared);
        Ok(Self { shared })
    }

    /// In the background: replays journals, loads the active pools, and does the boot's autostart
    /// unless it was done. To be called once, when the face answers.
    pub fn resume(&self) {
        super::live::spawn(&self.shared);
        let shared = Arc::clone(&self.shared);
        let busy = shared.busy();
        tokio::spawn(async move {
            let resumed = recovery::resume(&shared).await;
            autostart::at_boot(&shared).await;
            for resumed in resumed {
                // What went wrong is published with the pool.
                let _ = resumed.await;
            }
            drop(busy);
        });
    }

    /// All pools, by uuid.
    pub fn pools(&self) -> Vec<PoolHandle> {
        let handle = |pool| PoolHandle { shared: Arc::clone(&self.shared), pool };
        self.shared.pools().into_iter().map(handle).collect()
    }

    /// The pool of that uuid.
    pub fn pool(&self, uuid: Uuid) -> Option<PoolHandle> {
        let registry = self.shared.registry();
        let pool = registry.pools.get(&uuid).filter(|_| !registry.hidden.contains(&uuid))?;
        Some(PoolHandle { shared: Arc::clone(&self.shared), pool: Arc::clone(pool) })
    }

    /// Checks a definition against its backend and all other pools; changes nothing.
    pub fn check_definition(&self, def: &PoolDef) -> Result<()> {
        define::check(&self.shared, &define::with_uuid(&self.shared, def.clone())?)
    }

    /// Defines a pool, and builds and starts it as the options say. An equal definition is success.
    /// A nil uuid is none said: it means the pool of that name, which it cannot change, or a new one.
    pub async fn define_pool(
        &self,
        def: PoolDef,
        options: DefineOptions,
        caller: &Caller,
    ) -> Result<(PoolHandle, Option<JobHandle>)> {
        let invalid = |why| Err(Error::new(ErrorKind::InvalidArgument, why));
        match options {
            DefineOptions { transient: true, autostart: true, .. } => {
                return invalid(
                    "a transient pool cannot start at boot; define it without transient",
                );
            }
            DefineOptions { transient: true, start: false, .. } => {
                return invalid("a transient pool exists only while active; give start too");
            }
            _ => {}
        }
        let def = Arc::new(define::with_uuid(&self.shared, def)?);
        let name = def.name.clone();
        let pool = define::define(&self.shared, Definition::asked(def, &options)).await?;
        let handle = PoolHandle { shared: Arc::clone(&self.shared), pool };
        let job = if options.start {
            match handle.start(options.build, caller).await {
                Ok(job) => Some(job),
                Err(error) if error.kind() == ErrorKind::Active => None,
                Err(error) => {
                    // Nobody else removes a transient pool that never started.
                    if options.transient && !handle.snapshot().persistent {
                        handle.ask(super::actor::Command::Forget).await?;
                    }
                    return Err(match handle.snapshot().persistent {
                        true => error.context(format!("pool {name} is defined, but not started")),
                        false => error,
                    });
                }
            }
        } else if let Some(mode) = options.build {
            Some(handle.build(mode, caller).await?)
        } else {
            None
        };
        Ok((handle, job))
    }

    /// Starts the pools marked autostart that are not active and were not stopped by hand.
    pub async fn autostart(&self, caller: &Caller) -> Result<Vec<JobHandle>> {
        autostart::now(&self.shared, caller).await
    }

    /// What every type can do on this host.
    pub fn pool_types(&self) -> Vec<PoolTypeStatus> {
        let status = |pool_type| {
            let backend = self.shared.backends.get(&pool_type);
            let info = backend.map(|backend| backend.info());
            let missing = |tools: &[&str]| -> Vec<_> {
                let missing =
                    tools.iter().filter(|tool| self.shared.host.find_tool(tool).is_none());
                missing.map(|tool| crate::host::program_and_packages(tool)).collect()
            };
            let missing_tools = missing(info.map_or(&[], |info| info.tools));
            PoolTypeStatus {
                pool_type,
                available: info.is_some() && missing_tools.is_empty(),
                missing_tools,
                missing_format_tools: missing(backend.map_or(&[], |each| each.format_tools())),
                operations: info
                    .map(|info| info.operations.iter().map(|each| each.as_str()).collect())
                    .unwrap_or_default(),
            }
        };
        PoolType::ALL.into_iter().map(status).collect()
    }

    /// Files that could not be read.
    pub fn problems(&self) -> Vec<Problem> {
        let mut problems =
            self.shared.problems.lock().unwrap_or_else(PoisonError::into_inner).clone();
        problems.extend(self.shared.store.declaration_problems());
        problems.extend(self.shared.store.secrets().1);
        problems
    }

    /// Jobs under way and ended ones that are still readable, by number.
    pub fn jobs(&self) -> Vec<JobHandle> {
        self.shared.jobs.list()
    }

    /// The job of that number.
    pub fn job(&self, id: u64) -> Option<JobHandle> {
        self.shared.jobs.get(id)
    }

    /// A subscription to changes from now on.
    pub fn changes(&self) -> Changes {
        self.shared.changes.subscribe()
    }

    /// Whether nothing is under way that an exit would lose: jobs, retained jobs, retries,
    /// ephemeral secrets.
    pub fn is_idle(&self) -> bool {
        let kept = self.shared.secrets.any_ephemeral();
        self.shared.jobs.is_empty() && !self.shared.is_busy() && !kept
    }

    /// Reads the definitions again (SIGHUP): new files are defined, changed ones taken over.
    pub async fn reload(&self) -> Result<()> {
        recovery::reload(&self.shared).await
    }

    /// Says whether anybody watches, so that timers may rest when nobody does.
    pub fn set_watched(&self, watched: bool) {
        self.shared.watched.store(watched, Ordering::Relaxed);
    }

    /// Cancels all jobs, waits at most `patience` for them to roll back; refuses new ones.
    pub async fn shut_down(&self, patience: Duration) {
        self.shared.closing.cancel();
        self.shared.jobs.close(patience).await;
    }

    /// The uuid of the pool of that name.
    pub(super) fn uuid_of(&self, name: &str) -> Option<Uuid> {
        self.shared.registry().names.get(name).copied()
    }
}
