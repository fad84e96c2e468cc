//! How long an operation may take, and how it is told to end.

use crate::model::{Error, ErrorKind, Result};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// How long is waited between looks for something that is to appear.
const LOOK: Duration = Duration::from_millis(20);

/// Tells an operation to end; clones share the state.
#[derive(Debug, Clone, Default)]
pub struct CancelToken(Arc<AtomicBool>);

impl CancelToken {
    /// Asks for the end.
    pub fn cancel(&self) {
        self.0.store(true, Ordering::Release);
    }

    /// Whether the end was asked for.
    pub fn is_cancelled(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

/// The deadline and the cancel token of an operation.
#[derive(Debug, Clone, Default)]
pub struct Limits {
    /// When it must have ended, if ever.
    pub deadline: Option<Instant>,
    /// Asks for its end.
    pub cancel: CancelToken,
}

impl Limits {
    /// Limits that end at `after` from now.
    pub fn within(after: Duration) -> Self {
        Self { deadline: Instant::now().checked_add(after), cancel: CancelToken::default() }
    }

    /// The same for a step that must leave time for those after it: it has one of so many parts of the time left.
    pub fn part(&self, of: u32) -> Self {
        let deadline = self.left().map(|left| Instant::now() + left / of);
        Self { deadline, cancel: self.cancel.clone() }
    }

    /// Fails when the operation should end: to be called between steps and in loops.
    pub fn check(&self) -> Result<()> {
        if self.cancel.is_cancelled() {
            return Err(Error::new(ErrorKind::Cancelled, "cancelled"));
        }
        match self.deadline {
            Some(deadline) if Instant::now() >= deadline => {
                Err(Error::new(ErrorKind::TimedOut, "the deadline passed"))
            }
            _ => Ok(()),
        }
    }

    /// Looks again and again until there is something, for at most `patience`; none when there never
    /// was. Fails when the operation should end before that.
    pub fn look_for<T>(
        &self,
        patience: Duration,
        look: impl FnMut() -> Option<T>,
    ) -> Result<Option<T>> {
        self.look_every(LOOK, patience, look)
    }

    /// The same with a pause of its own between looks, for those that cost something.
    pub fn look_every<T>(
        &self,
        pause: Duration,
        patience: Duration,
        mut look: impl FnMut() -> Option<T>,
    ) -> Result<Option<T>> {
        let by = Instant::now() + patience;
        loop {
            if let Some(found) = look() {
                return Ok(Some(found));
            }
            self.check()?;
            if Instant::now() >= by {
                return Ok(None);
            }
            std::thread::sleep(pause);
        }
    }

    /// Time left, if there is a deadline.
    pub fn left(&self) -> Option<Duration> {
        self.deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()))
    }
}
