//! The threads on which everything that blocks runs.
//!
//! They are our own, not the runtime's: an exit must never join a thread that hangs in a system
//! call. Threads are made on demand and kept while idle; how many work at once is bounded by
//! permits: one set for the pools, one for transfers from and to clients, one for the store's small files (never held
//! up by a pool).

use crate::model::{Error, ErrorKind, Result};
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

/// Stack of a worker: backends hold buffers on the heap.
const STACK: usize = 1 << 20;
/// How long an idle thread is kept.
const KEEP: Duration = Duration::from_secs(10);
/// Transfers from and to clients at once: they wait for their clients, and for nobody else.
const TRANSFERS: usize = 64;
/// Store operations at once; they are short and local.
const STORE_LANE: usize = 4;

type Task = Box<dyn FnOnce() + Send>;

#[derive(Default)]
struct Queue {
    tasks: VecDeque<Task>,
    idle: usize,
}

#[derive(Default)]
struct Threads {
    queue: Mutex<Queue>,
    filled: Condvar,
}

/// The threads and their permits; clones share them.
#[derive(Clone)]
pub(super) struct Workers {
    threads: Arc<Threads>,
    pools: Arc<Semaphore>,
    transfers: Arc<Semaphore>,
    store: Arc<Semaphore>,
    written_off: Arc<Semaphore>,
}

/// The right to occupy one thread with a pool's work.
pub(super) struct Permit {
    workers: Workers,
    held: Option<OwnedSemaphorePermit>,
    written_off: Option<OwnedSemaphorePermit>,
}

impl Permit {
    /// The thread hangs: lets another take its place, as long as not too many hang.
    pub(super) fn write_off(&mut self) {
        if let Ok(place) = Arc::clone(&self.workers.written_off).try_acquire_owned() {
            self.written_off = Some(place);
            self.held = None;
        }
    }
}

impl Workers {
    /// At most `bound` pool operations at once, and as many more threads that hang.
    pub(super) fn new(bound: usize) -> Self {
        let bound = bound.max(1);
        Self {
            threads: Arc::default(),
            pools: Arc::new(Semaphore::new(bound)),
            transfers: Arc::new(Semaphore::new(TRANSFERS)),
            store: Arc::new(Semaphore::new(STORE_LANE)),
            written_off: Arc::new(Semaphore::new(bound)),
        }
    }

    /// Waits for the right to work on a pool.
    pub(super) async fn permit(&self) -> Result<Permit> {
        self.permit_of(&self.pools).await
    }

    /// Waits for the right to transfer data from or to a client.
    pub(super) async fn transfer(&self) -> Result<Permit> {
        self.permit_of(&self.transfers).await
    }

    async fn permit_of(&self, lane: &Arc<Semaphore>) -> Result<Permit> {
        let held = Arc::clone(lane).acquire_owned().await.map_err(|_| ended())?;
        Ok(Permit { workers: self.clone(), held: Some(held), written_off: None })
    }

    /// Runs work on the store and waits for it.
    pub(super) async fn store<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let permit = Arc::clone(&self.store).acquire_owned().await.map_err(|_| ended())?;
        let receiver = self.start(move || {
            let result = work();
            drop(permit);
            result
        })?;
        receiver.await.map_err(|_| ended())?
    }

    /// Begins work at once; the receiver gets what it returns. The caller holds a permit.
    pub(super) fn start<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T> + Send + 'static,
    ) -> Result<oneshot::Receiver<Result<T>>> {
        let (sender, receiver) = oneshot::channel();
        self.push(Box::new(move || {
            let result = catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| {
                Err(Error::new(ErrorKind::Failed, "an operation panicked; see the log"))
            });
            // Nobody waits any more when the engine is being dropped.
            let _ = sender.send(result);
        }))?;
        Ok(receiver)
    }

    fn push(&self, task: Task) -> Result<()> {
        let mut queue = self.threads.queue.lock().unwrap_or_else(PoisonError::into_inner);
        queue.tasks.push_back(task);
        if queue.idle >= queue.tasks.len() {
            self.threads.filled.notify_one();
            return Ok(());
        }
        let threads = Arc::clone(&self.threads);
        let spawned = std::thread::Builder::new()
            .name("poold-worker".to_owned())
            .stack_size(STACK)
            .spawn(move || threads.work());
        if let Err(error) = spawned {
            queue.tasks.pop_back();
            return Err(Error::io("cannot start a worker thread", &error));
        }
        Ok(())
    }
}

impl Threads {
    fn work(&self) {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if let Some(task) = queue.tasks.pop_front() {
                drop(queue);
                task();
                queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            queue.idle += 1;
            let (woken, timeout) =
                self.filled.wait_timeout(queue, KEEP).unwrap_or_else(PoisonError::into_inner);
            queue = woken;
            queue.idle -= 1;
            if timeout.timed_out() && queue.tasks.is_empty() {
                return;
            }
        }
    }
}

fn ended() -> Error {
    Error::new(ErrorKind::Failed, "the worker threads have ended")
}
