//! Finding pools and volumes by name, uuid, path and key.

use super::{Engine, PoolHandle, PoolState};
use crate::model::{Error, ErrorKind, Result, Uuid, VolumeName, VolumePaths};
use std::path::Path;
use std::time::Duration;

/// How long a lookup by key waits for pools that load.
const KEY_PATIENCE: Duration = Duration::from_secs(5);

impl Engine {
    /// The pool of that name, or of that uuid in either spelling.
    pub fn find_pool(&self, name_or_uuid: &str) -> Result<PoolHandle> {
        let by_name = self.uuid_of(name_or_uuid).and_then(|uuid| self.pool(uuid));
        let by_uuid = || Uuid::parse_str(name_or_uuid).ok().and_then(|uuid| self.pool(uuid));
        by_name.or_else(by_uuid).ok_or_else(|| not_found(&format!("pool {name_or_uuid:?}")))
    }

    /// The pool that has this target path, active ones first.
    pub fn find_pool_by_target(&self, path: &str) -> Result<PoolHandle> {
        let path = clean(path);
        self.pools()
            .into_iter()
            .filter(|pool| pool.snapshot().def.target_path() == Some(path))
            .min_by_key(|pool| pool.snapshot().state != PoolState::Active)
            .ok_or_else(|| not_found(&format!("pool with the target path {path:?}")))
    }

    /// The volume that has this path or key. A path in a pool's directory asks that pool only; a key
    /// waits at most 5 s for pools that still load, and `NotFound` names them.
    pub async fn find_volume(&self, path_or_key: &str) -> Result<(PoolHandle, VolumeName)> {
        let wanted = clean(path_or_key);
        let parent = Path::new(wanted).parent();
        let homes: Vec<_> = self
            .pools()
            .into_iter()
            .filter(|pool| {
                let snapshot = pool.snapshot();
                let directory = snapshot.def.volume_directory();
                let is_in = directory.is_some_and(|home| Some(Path::new(&*home)) == parent);
                snapshot.state != PoolState::Inactive && is_in
            })
            .collect();
        for pool in &homes {
            let loaded = pool.loaded().await;
            if let Some(volume) = pool.snapshot().volume_at(wanted) {
                return Ok((pool.clone(), volume.name.clone()));
            }
            loaded?;
        }
        if !homes.is_empty() {
            return Err(not_found(&format!("volume {path_or_key:?}")));
        }
        let all_loaded = async {
            for pool in self.pools() {
                // Pools that cannot load are named below.
                let _ = pool.loaded().await;
            }
        };
        if let Some(found) = self.by_key(wanted) {
            return Ok(found);
        }
        let _ = tokio::time::timeout(KEY_PATIENCE, all_loaded).await;
        self.by_key(wanted).ok_or_else(|| {
            let loading: Vec<_> = self
                .pools()
                .iter()
                .map(PoolHandle::snapshot)
                .filter(|pool| {
                    matches!(pool.state, PoolState::Active | PoolState::Inaccessible)
                        && !pool.loaded
                })
                .map(|pool| pool.def.name.to_string())
                .collect();
            let error = not_found(&format!("volume {path_or_key:?}"));
            match loading.is_empty() {
                true => error,
                false => Error::new(
                    error.kind(),
                    format!("{error}; not loaded yet: {}; try again", loading.join(", ")),
                ),
            }
        })
    }

    fn by_key(&self, wanted: &str) -> Option<(PoolHandle, VolumeName)> {
        self.pools().into_iter().find_map(|pool| {
            let snapshot = pool.snapshot();
            let mut volumes = snapshot.volumes.values();
            // As QEMU's options have it, too.
            let wanted = match snapshot.def.pool_type.info().volume_paths {
                VolumePaths::Names(before) => wanted.strip_prefix(before).unwrap_or(wanted),
                VolumePaths::Local | VolumePaths::Urls(_) => wanted,
            };
            let volume =
                volumes.find(|each| each.key() == wanted || each.path.as_ref() == wanted)?;
            Some((pool, volume.name.clone()))
        })
    }
}

/// A path without slashes at its end.
fn clean(path: &str) -> &str {
    match path.trim_end_matches('/') {
        "" => path,
        cleaned => cleaned,
    }
}

fn not_found(what: &str) -> Error {
    Error::new(ErrorKind::NotFound, format!("there is no {what}"))
}
