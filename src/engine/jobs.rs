//! The table of jobs: limits, states, progress, how long ended ones stay readable.

use super::changes::ChangeHub;
use super::{Caller, EngineOptions, JobHandle, JobOperation, JobSnapshot, JobState, ResultValue};
use crate::backend::{Findings, Progress};
use crate::model::{Error, ErrorKind, Result, Uuid, VolumeName};
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// How often progress is read.
const SAMPLE: Duration = Duration::from_millis(500);
/// Ended jobs kept at most, whatever their age.
const MAX_RETAINED: usize = 4096;

/// Now, in µs since the epoch.
pub(super) fn now_micros() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}

/// One job.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) id: u64,
    /// Fires when its end is asked for.
    pub(super) cancel: CancellationToken,
    pub(super) progress: Progress,
    /// What it says of what it did.
    pub(super) findings: Findings,
    state: watch::Sender<Arc<JobSnapshot>>,
    slot: Mutex<Option<Slot>>,
}

impl Job {
    pub(super) fn snapshot(&self) -> Arc<JobSnapshot> {
        Arc::clone(&self.state.borrow())
    }

    pub(super) fn watch(&self) -> watch::Receiver<Arc<JobSnapshot>> {
        self.state.subscribe()
    }

    /// "job 7 (volume-create)", for messages.
    pub(super) fn describe(&self) -> String {
        format!("job {} ({})", self.id, self.state.borrow().operation)
    }

    fn change(&self, change: impl FnOnce(&mut JobSnapshot)) {
        self.state.send_modify(|state| change(Arc::make_mut(state)));
    }
}

#[derive(Debug, Default)]
struct Table {
    jobs: BTreeMap<u64, Arc<Job>>,
    running: usize,
    per_uid: HashMap<u32, usize>,
    ended: VecDeque<(Instant, u64)>,
    closing: bool,
}

/// All jobs of an engine.
#[derive(Debug)]
pub(super) struct Jobs {
    table: Mutex<Table>,
    changes: Arc<ChangeHub>,
    stirred: Notify,
    freed: Notify,
    max: usize,
    max_per_uid: usize,
    retention: Duration,
}

/// A job's place among those under way; given back when dropped.
#[derive(Debug)]
pub(super) struct Slot {
    jobs: Arc<Jobs>,
    uid: u32,
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut table = self.jobs.table();
        table.running -= 1;
        if let Some(count) = table.per_uid.get_mut(&self.uid) {
            *count -= 1;
            if *count == 0 {
                table.per_uid.remove(&self.uid);
            }
        }
        drop(table);
        self.jobs.freed.notify_waiters();
    }
}

impl Jobs {
    pub(super) fn new(options: &EngineOptions, changes: Arc<ChangeHub>) -> Arc<Self> {
        let jobs = Arc::new(Self {
            table: Mutex::default(),
            changes,
            stirred: Notify::new(),
            freed: Notify::new(),
            max: options.max_jobs,
            max_per_uid: options.max_jobs_per_uid,
            retention: options.job_retention,
        });
        tokio::spawn(keep(Arc::clone(&jobs)));
        jobs
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a place for a job, or says that there are too many.
    pub(super) fn reserve(self: &Arc<Self>, caller: &Caller) -> Result<Slot> {
        let mut table = self.table();
        if table.closing {
            return Err(Error::new(ErrorKind::Cancelled, "poold is shutting down; try again"));
        }
        let own = table.per_uid.get(&caller.uid).copied().unwrap_or(0);
        let limit = |count: usize, whose: &str| {
            let message = format!("{count} jobs are under way{whose}; wait for one to end");
            Err(Error::new(ErrorKind::LimitsExceeded, message))
        };
        if table.running >= self.max {
            return limit(table.running, "");
        }
        if caller.uid != 0 && own >= self.max_per_uid {
            return limit(own, &format!(" for uid {}", caller.uid));
        }
        table.running += 1;
        *table.per_uid.entry(caller.uid).or_default() += 1;
        Ok(Slot { jobs: Arc::clone(self), uid: caller.uid })
    }

    /// Adds a job to the table, queued.
    pub(super) fn add(
        &self,
        slot: Slot,
        id: u64,
        operation: JobOperation,
        pool: Uuid,
        volume: Option<VolumeName>,
    ) -> Arc<Job> {
        let snapshot = JobSnapshot {
            id,
            operation,
            state: JobState::Queued,
            bytes: 0,
            total: 0,
            rate: 0,
            pool,
            volume,
            source: None,
            caller_uid: slot.uid,
            started: 0,
            ended: 0,
            error: None,
            result: BTreeMap::new(),
            cancelable: operation.cancelable(),
        };
        let job = Arc::new(Job {
            id,
            cancel: CancellationToken::new(),
            progress: Progress::default(),
            findings: Findings::default(),
            state: watch::Sender::new(Arc::new(snapshot)),
            slot: Mutex::new(Some(slot)),
        });
        let mut table = self.table();
        table.jobs.insert(id, Arc::clone(&job));
        if table.closing {
            job.cancel.cancel();
        }
        drop(table);
        self.changes.job(id);
        self.stirred.notify_one();
        job
    }

    /// Says which volume a job copies.
    pub(super) fn copies(&self, job: &Job, source: (Uuid, VolumeName)) {
        job.change(|state| state.source = Some(source));
        self.changes.job(job.id);
    }

    /// Says that a job runs, unless that was said.
    pub(super) fn begin(&self, job: &Job) {
        if job.snapshot().state != JobState::Queued {
            return;
        }
        job.change(|state| {
            state.state = JobState::Running;
            state.started = now_micros();
        });
        self.changes.job(job.id);
    }

    /// Says how a job ended. What it did has been published before.
    pub(super) fn end(&self, job: &Job, result: Result<BTreeMap<&'static str, ResultValue>>) {
        let slot = job.slot.lock().unwrap_or_else(PoisonError::into_inner).take();
        if slot.is_none() {
            return;
        }
        drop(slot);
        let mut table = self.table();
        table.ended.push_back((Instant::now() + self.retention, job.id));
        drop(table);
        // Marked before, so that whoever sees the end finds the job in the set; and after, so
        // that whoever looked in between looks again.
        self.changes.job(job.id);
        job.change(|state| {
            (state.bytes, state.total) = job.progress.get();
            state.rate = 0;
            state.cancelable = false;
            state.ended = now_micros();
            match result {
                Ok(result) => {
                    state.state = JobState::Done;
                    state.result = result;
                }
                Err(error) => {
                    let cancelled =
                        job.cancel.is_cancelled() && error.kind() == ErrorKind::Cancelled;
                    state.state = if cancelled { JobState::Cancelled } else { JobState::Failed };
                    state.error = Some(error);
                }
            }
        });
        self.changes.job(job.id);
        self.stirred.notify_one();
    }

    /// All that can be read, by number.
    pub(super) fn list(&self) -> Vec<JobHandle> {
        self.table().jobs.values().cloned().map(JobHandle).collect()
    }

    /// The one of that number.
    pub(super) fn get(&self, id: u64) -> Option<JobHandle> {
        self.table().jobs.get(&id).cloned().map(JobHandle)
    }

    /// Whether there is none, neither under way nor retained.
    pub(super) fn is_empty(&self) -> bool {
        let table = self.table();
        table.running == 0 && table.jobs.is_empty()
    }

    /// Refuses new jobs, cancels those under way, and waits for them to end.
    pub(super) async fn close(&self, patience: Duration) {
        let jobs: Vec<_> = {
            let mut table = self.table();
            table.closing = true;
            table.jobs.values().cloned().collect()
        };
        for job in jobs {
            if job.snapshot().cancelable {
                job.cancel.cancel();
            }
        }
        let all_ended = async {
            loop {
                let freed = self.freed.notified();
                if self.table().running == 0 {
                    return;
                }
                freed.await;
            }
        };
        if tokio::time::timeout(patience, all_ended).await.is_err() {
            tracing::warn!("jobs are still under way; their steps are undone at the next start");
        }
    }

    /// Reads the progress of running jobs, forgets ended ones; when to do so next.
    fn sweep(&self, before: &mut HashMap<u64, u64>) -> Option<Instant> {
        let mut forgotten = Vec::new();
        let (running, next) = {
            let mut table = self.table();
            let now = Instant::now();
            while let Some(&(due, id)) = table.ended.front() {
                if due > now && table.ended.len() <= MAX_RETAINED {
                    break;
                }
                table.ended.pop_front();
                table.jobs.remove(&id);
                forgotten.push(id);
            }
            let running: Vec<_> = if table.running == 0 {
                Vec::new()
            } else {
                table.jobs.values().filter(|job| !job.snapshot().state.ended()).cloned().collect()
            };
            let sample = (!running.is_empty()).then(|| now + SAMPLE);
            let expiry = table.ended.front().map(|(due, _)| *due);
            (running, [sample, expiry].into_iter().flatten().min())
        };
        before.retain(|id, _| running.iter().any(|job| job.id == *id));
        for job in running {
            let (bytes, total) = job.progress.get();
            let last = before.insert(job.id, bytes).unwrap_or(0);
            let snapshot = job.snapshot();
            let per_second = u128::from(bytes.saturating_sub(last)) * 1000 / SAMPLE.as_millis();
            let rate = u64::try_from(per_second).unwrap_or(u64::MAX);
            if (snapshot.bytes, snapshot.total, snapshot.rate) != (bytes, total, rate) {
                job.change(|state| {
                    if !state.state.ended() {
                        (state.bytes, state.total, state.rate) = (bytes, total, rate);
                    }
                });
                self.changes.job(job.id);
            }
        }
        for id in forgotten {
            self.changes.job(id);
        }
        next
    }
}

/// Samples and forgets, for as long as the runtime lives.
async fn keep(jobs: Arc<Jobs>) {
    let mut before = HashMap::new();
    let mut next: Option<Instant> = None;
    loop {
        let stirred = jobs.stirred.notified();
        match next {
            None => stirred.await,
            Some(due) => tokio::select! {
                () = tokio::time::sleep_until(due) => {}
                () = stirred => {
                    // A new job brings an earlier date.
                    next = Some(due.min(Instant::now() + SAMPLE));
                    continue;
                }
            },
        }
        next = jobs.sweep(&mut before);
    }
}
