//! Following the storage: what appears, changes and goes behind our back.

use super::shared::Shared;
use crate::model::PoolDef;
use std::sync::Arc;

/// Starts following.
pub(super) fn spawn(_shared: &Arc<Shared>) {}

/// What a pool that cannot start waits for, for people.
pub(super) fn awaited(def: &PoolDef) -> String {
    match def.target_path() {
        Some(path) => format!("directory {path}"),
        None => "its storage".to_owned(),
    }
}

/// Waits until something appears that a pool may have waited for.
pub(super) fn appearance(
    _shared: &Arc<Shared>,
    _def: &PoolDef,
) -> impl Future<Output = ()> + use<> {
    std::future::pending()
}
