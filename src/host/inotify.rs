//! Directories watched by inotify: one kernel queue for all, one merged set of changes for each.
//!
//! Called by `engine`: every live pool holds a [`DirectoryWatch`] and takes its changes when it has
//! the time; a burst costs it one set of names.

#[cfg(test)]
mod tests;

use crate::model::{Error, ErrorKind, Result};
use nix::errno::Errno;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, InotifyEvent, WatchDescriptor};
use std::collections::{BTreeSet, HashMap};
use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::Notify;
use tokio_util::task::AbortOnDropHandle;

/// With more names than this a directory is better read as a whole.
const MOST_NAMES: usize = 1024;

/// An entry is there, or is another one now.
const CHANGED: AddWatchFlags = AddWatchFlags::IN_CREATE
    .union(AddWatchFlags::IN_MOVED_TO)
    .union(AddWatchFlags::IN_CLOSE_WRITE)
    .union(AddWatchFlags::IN_ATTRIB);
/// An entry is not there any more.
const REMOVED: AddWatchFlags = AddWatchFlags::IN_DELETE.union(AddWatchFlags::IN_MOVED_FROM);
/// The directory is not where it was.
const GONE: AddWatchFlags = AddWatchFlags::IN_DELETE_SELF.union(AddWatchFlags::IN_MOVE_SELF);
/// What tells in the parent that a directory is not where it was: it was removed, moved away, or
/// replaced. The directory itself tells of its removal only when nobody has it open any more.
const REPLACED: AddWatchFlags = REMOVED.union(AddWatchFlags::IN_MOVED_TO);
/// How directories are watched; one may be watched for itself and as the parent of another.
const HOW: AddWatchFlags =
    AddWatchFlags::from_bits_retain(libc::IN_ONLYDIR | libc::IN_MASK_ADD | libc::IN_EXCL_UNLINK);

/// What happened in a directory since it was last asked.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DirectoryChanges {
    /// Entries made, moved here, written and closed, or with other attributes.
    pub changed: BTreeSet<OsString>,
    /// Entries removed or moved away.
    pub removed: BTreeSet<OsString>,
    /// Too much happened to say what (the names are empty): the directory must be read.
    pub overflow: bool,
    /// The directory itself was removed, moved or unmounted; nothing more will be told.
    pub gone: bool,
}

impl DirectoryChanges {
    fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    fn note(&mut self, mask: AddWatchFlags, name: Option<OsString>) {
        if mask.intersects(GONE | AddWatchFlags::IN_UNMOUNT | AddWatchFlags::IN_IGNORED) {
            self.gone = true;
        }
        if mask.contains(AddWatchFlags::IN_Q_OVERFLOW) {
            self.overflow();
        }
        let Some(name) = name.filter(|_| !self.overflow) else { return };
        if mask.intersects(CHANGED) {
            self.removed.remove(&name);
            self.changed.insert(name);
        } else if mask.intersects(REMOVED) {
            self.changed.remove(&name);
            self.removed.insert(name);
        }
        if self.changed.len() + self.removed.len() > MOST_NAMES {
            self.overflow();
        }
    }

    fn overflow(&mut self) {
        self.overflow = true;
        self.changed.clear();
        self.removed.clear();
    }
}

/// The watcher of all directories; dropped, its watches fall silent.
#[derive(Debug)]
pub struct DirectoryWatcher {
    shared: Arc<Shared>,
    _reader: AbortOnDropHandle<()>,
}

/// A directory that is watched, until this is dropped.
#[derive(Debug)]
pub struct DirectoryWatch {
    shared: Arc<Shared>,
    /// The directory's own and its parent's.
    descriptors: Vec<WatchDescriptor>,
    pending: Arc<Pending>,
}

#[derive(Debug)]
struct Shared {
    inotify: AsyncFd<Queue>,
    watches: Mutex<Watches>,
}

#[derive(Debug, Default)]
struct Watches {
    /// Two pools can watch one directory, for which the kernel has one watch.
    by_descriptor: HashMap<WatchDescriptor, Vec<Listener>>,
    /// How many of the kernel's watches were given up.
    given_up: u64,
}

/// Who listens to a kernel's watch.
#[derive(Debug)]
struct Listener {
    pending: Arc<Pending>,
    /// Of a parent: the name of the directory that is meant.
    child: Option<OsString>,
}

/// Changes that nobody has taken yet.
#[derive(Debug, Default)]
struct Pending {
    changes: Mutex<DirectoryChanges>,
    news: Notify,
}

#[derive(Debug)]
struct Queue(Inotify);

impl AsRawFd for Queue {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}

impl DirectoryWatcher {
    /// A watcher; to be made inside the tokio runtime, which reads for it.
    pub fn new() -> Result<Self> {
        let failed = |error: io::Error| Error::io("cannot watch directories", &error);
        let inotify = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC);
        let inotify = inotify.map_err(|errno| limit(errno, "max_user_instances", failed))?;
        // SAFETY: the queue owns its descriptor, which is the same for as long as it lives.
        let inotify =
            unsafe { AsyncFd::register_with_interest(Queue(inotify), Interest::READABLE) }
                .map_err(|error| failed(error.into()))?;
        let shared = Arc::new(Shared { inotify, watches: Mutex::default() });
        let reader = AbortOnDropHandle::new(tokio::spawn(read(shared.clone())));
        Ok(Self { shared, _reader: reader })
    }

    /// Watches an open directory; what happened before this returned may be missed, so read the
    /// directory afterwards. May block: a dead server is asked for permission.
    pub fn watch(&self, directory: BorrowedFd<'_>) -> Result<DirectoryWatch> {
        let failed = |error| Error::io("cannot watch the directory", &error);
        // By descriptor, so that what is watched is what was opened and checked.
        let path = PathBuf::from(format!("/proc/self/fd/{}", directory.as_raw_fd()));
        let name = std::fs::read_link(&path).map_err(failed)?.file_name().map(OsString::from);
        let inotify = &self.shared.inotify.get_ref().0;
        loop {
            let given_up = lock(&self.shared.watches).given_up;
            // Not under the lock: a dead server must not silence the other pools.
            let own = inotify
                .add_watch(&path, CHANGED | REMOVED | GONE | HOW)
                .map_err(|errno| limit(errno, "max_user_watches", failed))?;
            let parent = inotify.add_watch(&path.join(".."), REPLACED | HOW);
            let mut watches = lock(&self.shared.watches);
            if watches.given_up != given_up {
                // What was added may be what was given up meanwhile.
                continue;
            }
            let pending = Arc::new(Pending::default());
            let mut listen = |descriptor, child| {
                let listener = Listener { pending: pending.clone(), child };
                watches.by_descriptor.entry(descriptor).or_default().push(listener);
            };
            listen(own, None);
            let mut descriptors = vec![own];
            match parent {
                Ok(parent) => {
                    listen(parent, name);
                    descriptors.push(parent);
                }
                Err(errno) => tracing::debug!("the parent of a directory is not watched: {errno}"),
            }
            drop(watches);
            if rustix::fs::fstat(directory).is_ok_and(|stat| stat.st_nlink == 0) {
                pending.note(AddWatchFlags::IN_DELETE_SELF, None);
            }
            return Ok(DirectoryWatch { shared: self.shared.clone(), descriptors, pending });
        }
    }
}

impl DirectoryWatch {
    /// Waits until something happened, and takes it. Safe to cancel.
    pub async fn changes(&self) -> DirectoryChanges {
        loop {
            let changes = std::mem::take(&mut *lock(&self.pending.changes));
            if !changes.is_empty() {
                return changes;
            }
            self.pending.news.notified().await;
        }
    }
}

impl Drop for DirectoryWatch {
    fn drop(&mut self) {
        let mut watches = lock(&self.shared.watches);
        for descriptor in &self.descriptors {
            // Absent when the kernel gave it up itself.
            let Some(listeners) = watches.by_descriptor.get_mut(descriptor) else { continue };
            listeners.retain(|listener| !Arc::ptr_eq(&listener.pending, &self.pending));
            if listeners.is_empty() {
                watches.by_descriptor.remove(descriptor);
                watches.given_up += 1;
                if let Err(errno) = self.shared.inotify.get_ref().0.rm_watch(*descriptor) {
                    tracing::debug!("a directory watch was gone already: {errno}");
                }
            }
        }
    }
}

/// Reads the kernel's queue for as long as the watcher lives.
async fn read(shared: Arc<Shared>) {
    let read = |queue: &Queue| queue.0.read_events().map_err(io::Error::from);
    loop {
        match shared.inotify.async_io(Interest::READABLE, read).await {
            Ok(events) => distribute(&mut lock(&shared.watches), events),
            Err(error) => {
                tracing::error!("directories are not watched any more: {error}");
                lock(&shared.watches).overflow();
                return;
            }
        }
    }
}

fn distribute(watches: &mut Watches, events: Vec<InotifyEvent>) {
    for event in events {
        if event.mask.contains(AddWatchFlags::IN_Q_OVERFLOW) {
            watches.overflow();
        } else if event.mask.contains(AddWatchFlags::IN_IGNORED) {
            let ended = watches.by_descriptor.remove(&event.wd).unwrap_or_default();
            ended.iter().for_each(|listener| listener.hear(&event));
        } else if let Some(listeners) = watches.by_descriptor.get(&event.wd) {
            listeners.iter().for_each(|listener| listener.hear(&event));
        }
    }
}

impl Watches {
    fn overflow(&self) {
        for listener in self.by_descriptor.values().flatten() {
            listener.pending.note(AddWatchFlags::IN_Q_OVERFLOW, None);
        }
    }
}

impl Listener {
    fn hear(&self, event: &InotifyEvent) {
        if self.child.is_none() {
            self.pending.note(event.mask, event.name.clone());
        } else if self.child == event.name && event.mask.intersects(REPLACED) {
            self.pending.note(AddWatchFlags::IN_DELETE_SELF, None);
        }
    }
}

impl Pending {
    fn note(&self, mask: AddWatchFlags, name: Option<OsString>) {
        let mut changes = lock(&self.changes);
        changes.note(mask, name);
        if !changes.is_empty() {
            self.news.notify_one();
        }
    }
}

/// The error of a call that met one of the kernel's limits on inotify, or another one.
fn limit(errno: Errno, setting: &str, other: impl FnOnce(io::Error) -> Error) -> Error {
    match errno {
        Errno::ENOSPC | Errno::EMFILE => Error::new(
            ErrorKind::LimitsExceeded,
            format!("cannot watch directories: raise the limit fs.inotify.{setting} (sysctl)"),
        ),
        errno => other(errno.into()),
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
