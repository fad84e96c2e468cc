//! Who changed: dirty sets, one per subscriber. Marked by whatever publishes, read by the faces.

use crate::model::Uuid;
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use tokio::sync::Notify;

/// What changed since a subscriber last looked: numbers only, so that bursts merge and a slow
/// subscriber costs nothing. The subscriber compares what it last saw with the present snapshot.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ChangeSet {
    /// Pools that appeared, changed or went.
    pub pools: BTreeSet<Uuid>,
    /// Jobs that appeared, changed or went.
    pub jobs: BTreeSet<u64>,
    /// Secrets that appeared, changed or went.
    pub secrets: BTreeSet<Uuid>,
    /// Whether the problems or pool types changed.
    pub manager: bool,
}

impl ChangeSet {
    fn is_empty(&self) -> bool {
        self.pools.is_empty() && self.jobs.is_empty() && self.secrets.is_empty() && !self.manager
    }
}

#[derive(Debug, Default)]
struct Inbox {
    set: Mutex<ChangeSet>,
    filled: Notify,
}

impl Inbox {
    fn set(&self) -> MutexGuard<'_, ChangeSet> {
        self.set.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A subscription to changes.
#[derive(Debug)]
pub struct Changes(Arc<Inbox>);

impl Changes {
    /// Waits until something changed and takes all of it. Cancel safe.
    pub async fn next(&mut self) -> ChangeSet {
        loop {
            let set = self.take();
            if !set.is_empty() {
                return set;
            }
            // A mark made since then has left its permit.
            self.0.filled.notified().await;
        }
    }

    /// Takes what changed so far, perhaps nothing. What a finished call did is in it.
    pub fn take(&mut self) -> ChangeSet {
        std::mem::take(&mut *self.0.set())
    }
}

/// All subscribers of an engine.
#[derive(Debug, Default)]
pub(super) struct ChangeHub(Mutex<Vec<Weak<Inbox>>>);

impl ChangeHub {
    /// A subscription to what is marked from now on.
    pub(super) fn subscribe(&self) -> Changes {
        let inbox = Arc::new(Inbox::default());
        self.inboxes().push(Arc::downgrade(&inbox));
        Changes(inbox)
    }

    /// Marks a pool.
    pub(super) fn pool(&self, uuid: Uuid) {
        self.mark(|set| _ = set.pools.insert(uuid));
    }

    /// Marks a job.
    pub(super) fn job(&self, id: u64) {
        self.mark(|set| _ = set.jobs.insert(id));
    }

    /// Marks a secret.
    pub(super) fn secret(&self, uuid: Uuid) {
        self.mark(|set| _ = set.secrets.insert(uuid));
    }

    /// Marks the problems and pool types.
    pub(super) fn manager(&self) {
        self.mark(|set| set.manager = true);
    }

    fn mark(&self, mark: impl Fn(&mut ChangeSet)) {
        self.inboxes().retain(|inbox| match inbox.upgrade() {
            Some(inbox) => {
                mark(&mut inbox.set());
                inbox.filled.notify_one();
                true
            }
            None => false,
        });
    }

    fn inboxes(&self) -> MutexGuard<'_, Vec<Weak<Inbox>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
