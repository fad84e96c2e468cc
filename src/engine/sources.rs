//! What pools could be made from. A search belongs to no pool, so each type has a pool of its own
//! that nobody sees: a search that hangs holds up only other searches of its type.

use super::Engine;
use super::actor::Actor;
use super::pool::{Core, Pool, blank};
use super::run::{Patience, Run};
use super::shared::Shared;
use crate::backend::{Operation, unsupported};
use crate::model::{Features, PoolDef, PoolName, PoolType, Result, Source, Uuid};
use std::sync::{Arc, PoisonError};

impl Engine {
    /// What pools of a type could be made from.
    pub async fn find_sources(&self, pool_type: PoolType, spec: Source) -> Result<Vec<Source>> {
        let backend = self.shared.backend_of(pool_type)?;
        if !backend.info().operations.contains(&Operation::FindSources) {
            return Err(unsupported(backend.info(), Operation::FindSources));
        }
        let pool = search(&self.shared, pool_type)?;
        let patience = Patience::Within(self.shared.options.start_timeout);
        let run = Run { shared: &self.shared, pool: &pool, job: None, patience, what: "a search" };
        let server = spec.hosts.first().map(|host| host.name.clone());
        let found = run.run(move |ctx| backend.find_sources(&spec, ctx)).await;
        // One that is given up does not know what it was about.
        found.map_err(|error| match server {
            Some(server) if !error.message().contains(&server) => {
                error.context(format_args!("server {server}"))
            }
            _ => error,
        })
    }
}

/// The pool that searches of a type run on.
fn search(shared: &Arc<Shared>, pool_type: PoolType) -> Result<Arc<Pool>> {
    let mut searches = shared.searches.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(pool) = searches.get(&pool_type).filter(|pool| !pool.look(|core| core.removed)) {
        return Ok(Arc::clone(pool));
    }
    let def = PoolDef {
        pool_type,
        name: PoolName::new(&format!("({pool_type} sources)"))?,
        uuid: Uuid::new_v4(),
        features: Features::default(),
        source: Source::default(),
        target: None,
        refresh_allocation: None,
        mount_options: Vec::new(),
        config_options: Vec::new(),
        volume_permissions: None,
    };
    let (pool, inbox) = Pool::new(blank(Arc::new(def), false, false), Core::default());
    Actor::spawn(shared, &pool, inbox);
    searches.insert(pool_type, Arc::clone(&pool));
    Ok(pool)
}
