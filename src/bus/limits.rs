//! What one caller may have under way at a time.

use crate::model::{Error, ErrorKind, Result};
use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use tokio::sync::{Notify, Semaphore};

/// Documents parsed at a time for one uid; more wait.
const PARSES_PER_UID: usize = 2;

/// Counts what is under way, by key.
#[derive(Debug)]
pub(super) struct Tally<K: Eq + Hash + Clone> {
    counts: Mutex<HashMap<K, usize>>,
    emptied: Notify,
}

/// One thing under way; dropped when it is over.
#[derive(Debug)]
pub(super) struct Ticket<K: Eq + Hash + Clone> {
    tally: Arc<Tally<K>>,
    key: K,
}

impl<K: Eq + Hash + Clone> Default for Tally<K> {
    fn default() -> Self {
        Self { counts: Mutex::default(), emptied: Notify::new() }
    }
}

impl<K: Eq + Hash + Clone> Tally<K> {
    /// One more, unless `max` are under way.
    pub(super) fn enter(self: &Arc<Self>, key: K, max: usize, what: &str) -> Result<Ticket<K>> {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(key.clone()).or_insert(0);
        if *count >= max {
            return Err(Error::new(
                ErrorKind::LimitsExceeded,
                format!("{max} {what} of this caller are under way; try again when one has ended"),
            ));
        }
        *count += 1;
        Ok(Ticket { tally: self.clone(), key })
    }

    /// Returns when nothing is under way.
    pub(super) async fn emptied(&self) {
        loop {
            let emptied = self.emptied.notified();
            if self.is_empty() {
                return;
            }
            emptied.await;
        }
    }

    /// Whether nothing is under way.
    pub(super) fn is_empty(&self) -> bool {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
    }
}

impl<K: Eq + Hash + Clone> Drop for Ticket<K> {
    fn drop(&mut self) {
        let mut counts = self.tally.counts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(&self.key) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.key);
            }
            if counts.is_empty() {
                self.tally.emptied.notify_waiters();
            }
        }
    }
}

/// Parses documents off the tasks of the bus, a bounded number at a time for each uid.
#[derive(Debug, Default)]
pub(super) struct Parsers(Mutex<HashMap<u32, Weak<Semaphore>>>);

impl Parsers {
    /// Runs `parse` when it is this uid's turn.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        uid: u32,
        parse: impl FnOnce() -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let turns = {
            let mut by_uid = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            by_uid.retain(|_, turns| turns.strong_count() > 0);
            by_uid.get(&uid).and_then(Weak::upgrade).unwrap_or_else(|| {
                let turns = Arc::new(Semaphore::new(PARSES_PER_UID));
                by_uid.insert(uid, Arc::downgrade(&turns));
                turns
            })
        };
        let _turn = turns.acquire().await;
        blocking(parse).await?
    }
}

/// Runs work that takes long, but never for ever, off the tasks of the bus.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(|_| {
        Error::new(ErrorKind::Failed, "a defect in poold ended this call; see its log")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_tally_refuses_until_one_has_left() {
        let tally = Arc::new(Tally::<u32>::default());
        let first = tally.enter(7, 2, "questions").unwrap();
        let _second = tally.enter(7, 2, "questions").unwrap();
        let refused = tally.enter(7, 2, "questions").unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::LimitsExceeded);
        assert!(tally.enter(8, 2, "questions").is_ok());
        drop(first);
        assert!(tally.enter(7, 2, "questions").is_ok());
    }

    #[test]
    fn a_tally_forgets_who_has_left() {
        let tally = Arc::new(Tally::<u32>::default());
        let ticket = tally.enter(7, 1, "questions").unwrap();
        assert!(!tally.is_empty());
        drop(ticket);
        assert!(tally.is_empty());
    }

    #[tokio::test]
    async fn parsing_returns_what_the_parser_says_and_survives_its_panic() {
        let parsers = Parsers::default();
        assert_eq!(parsers.run(0, || Ok(1)).await.unwrap(), 1);
        let defect: Result<()> = parsers.run(0, || panic!("a defect")).await;
        assert_eq!(defect.unwrap_err().kind(), ErrorKind::Failed);
        assert_eq!(parsers.run(0, || Ok(2)).await.unwrap(), 2);
    }
}
