//! Where a pool's target really is, for the question about it.

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared};
use std::collections::HashMap;
use std::path::{Component, Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Longest wait for a path to be resolved; one on a dead server never is.
const PATIENCE: Duration = Duration::from_secs(3);

type Resolving = Shared<BoxFuture<'static, Option<String>>>;

/// Paths that are being resolved: each by one thread at most, however many ask.
#[derive(Default)]
pub(super) struct Targets(Mutex<HashMap<String, Resolving>>);

impl Targets {
    /// The path with its symbolic links resolved, as far as it exists; none when that cannot be
    /// said in time.
    pub(super) async fn resolve(&self, path: String) -> Option<String> {
        let resolving = {
            let mut under_way = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            under_way.retain(|_, resolving| resolving.peek().is_none());
            let start = |path: &String| {
                let path = path.clone();
                let work = tokio::task::spawn_blocking(move || canonical(Path::new(&path)));
                work.map(|result| result.ok().flatten()).boxed().shared()
            };
            under_way.entry(path.clone()).or_insert_with_key(start).clone()
        };
        tokio::time::timeout(PATIENCE, resolving).await.ok().flatten()
    }
}

/// Resolves what exists of `path`; the rest must be plain names.
fn canonical(path: &Path) -> Option<String> {
    let mut rest = PathBuf::new();
    let mut existing = path;
    loop {
        match std::fs::canonicalize(existing) {
            Ok(found) => {
                let whole = if rest.as_os_str().is_empty() { found } else { found.join(&rest) };
                return whole.into_os_string().into_string().ok();
            }
            // A link that leads nowhere is there all the same: what it may lead to is not known.
            Err(error)
                if error.kind() == std::io::ErrorKind::NotFound
                    && std::fs::symlink_metadata(existing).is_err() =>
            {
                let Some(Component::Normal(name)) = existing.components().next_back() else {
                    return None;
                };
                rest = if rest.as_os_str().is_empty() {
                    PathBuf::from(name)
                } else {
                    Path::new(name).join(&rest)
                };
                existing = existing.parent()?;
            }
            Err(_) => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[tokio::test]
    async fn links_are_resolved_and_what_is_not_there_yet_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        let real = dir.path().canonicalize().unwrap();
        std::fs::create_dir(real.join("etc")).unwrap();
        symlink(real.join("etc"), real.join("innocent")).unwrap();
        symlink(real.join("nowhere"), real.join("dangling")).unwrap();
        let targets = Targets::default();
        let resolve =
            async |name: &str| targets.resolve(real.join(name).to_str().unwrap().to_owned()).await;
        let expect = |name: &str| Some(real.join(name).to_str().unwrap().to_owned());
        assert_eq!(resolve("innocent").await, expect("etc"));
        assert_eq!(resolve("innocent/a/b").await, expect("etc/a/b"));
        assert_eq!(resolve("new/pool").await, expect("new/pool"));
        assert_eq!(resolve("dangling").await, None);
        assert_eq!(resolve("dangling/a").await, None);
        assert_eq!(resolve("no/../../x").await, None);
    }
}
