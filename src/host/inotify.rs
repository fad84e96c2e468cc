//! Directories watched by inotify: one kernel queue for all, one merged set of changes for each.
//!
//! Called by `engine`: every live pool holds a [`DirectoryWatch`] and takes its changes when it has
//! the time; a burst costs it one set of names.

use crate::model::{Error, ErrorKind, Result};
use nix::errno::Errno;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, InotifyEvent, WatchDescriptor};
use std::collections::{BTreeSet, HashMap};
use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
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
/// How a directory is watched.
const HOW: AddWatchFlags =
    AddWatchFlags::IN_ONLYDIR.union(AddWatchFlags::from_bits_retain(libc::IN_EXCL_UNLINK));

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
    descriptor: WatchDescriptor,
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
    by_descriptor: HashMap<WatchDescriptor, Vec<Arc<Pending>>>,
    /// How many of the kernel's watches were given up.
    given_up: u64,
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
        // By descriptor, so that what is watched is what was opened and checked.
        let path = format!("/proc/self/fd/{}", directory.as_raw_fd());
        let flags = CHANGED | REMOVED | GONE | HOW;
        loop {
            let given_up = lock(&self.shared.watches).given_up;
            // Not under the lock: a dead server must not silence the other pools.
            let added = self.shared.inotify.get_ref().0.add_watch(path.as_str(), flags);
            let descriptor = added.map_err(|errno| {
                let failed = |error| Error::io("cannot watch the directory", &error);
                limit(errno, "max_user_watches", failed)
            })?;
            let mut watches = lock(&self.shared.watches);
            if watches.given_up != given_up {
                // What was added may be what was given up meanwhile.
                continue;
            }
            let pending = Arc::new(Pending::default());
            watches.by_descriptor.entry(descriptor).or_default().push(pending.clone());
            return Ok(DirectoryWatch { shared: self.shared.clone(), descriptor, pending });
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
        // Absent when the kernel gave it up itself.
        let Some(pending) = watches.by_descriptor.get_mut(&self.descriptor) else { return };
        pending.retain(|pending| !Arc::ptr_eq(pending, &self.pending));
        if pending.is_empty() {
            watches.by_descriptor.remove(&self.descriptor);
            watches.given_up += 1;
            if let Err(errno) = self.shared.inotify.get_ref().0.rm_watch(self.descriptor) {
                tracing::debug!("a directory watch was gone already: {errno}");
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
                let watches = lock(&shared.watches);
                let everybody = watches.by_descriptor.values().flatten();
                everybody.for_each(|one| one.note(AddWatchFlags::IN_Q_OVERFLOW, None));
                return;
            }
        }
    }
}

fn distribute(watches: &mut Watches, events: Vec<InotifyEvent>) {
    for event in events {
        if event.mask.contains(AddWatchFlags::IN_Q_OVERFLOW) {
            watches.by_descriptor.values().flatten().for_each(|one| one.note(event.mask, None));
        } else if event.mask.contains(AddWatchFlags::IN_IGNORED) {
            let ended = watches.by_descriptor.remove(&event.wd).unwrap_or_default();
            ended.iter().for_each(|one| one.note(event.mask, None));
        } else if let Some(pending) = watches.by_descriptor.get(&event.wd) {
            pending.iter().for_each(|one| one.note(event.mask, event.name.clone()));
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{self, File};
    use std::os::unix::ffi::OsStringExt;
    use std::path::Path;
    use tempfile::TempDir;

    fn watch(watcher: &DirectoryWatcher, path: &Path) -> DirectoryWatch {
        watcher.watch(File::open(path).unwrap().as_fd()).unwrap()
    }

    fn names<const N: usize>(names: [&str; N]) -> BTreeSet<OsString> {
        names.map(OsString::from).into()
    }

    /// Takes changes until they are as expected, since the kernel tells them one by one.
    async fn expect(watch: &DirectoryWatch, done: impl Fn(&DirectoryChanges) -> bool) {
        let mut all = DirectoryChanges::default();
        while !done(&all) {
            let next = watch.changes();
            let next = tokio::time::timeout(std::time::Duration::from_secs(20), next).await;
            let next = next.unwrap_or_else(|_| panic!("nothing more after {all:?}"));
            for name in next.changed {
                all.note(AddWatchFlags::IN_CREATE, Some(name));
            }
            for name in next.removed {
                all.note(AddWatchFlags::IN_DELETE, Some(name));
            }
            all.overflow |= next.overflow;
            all.gone |= next.gone;
        }
    }

    #[tokio::test]
    async fn files_that_come_change_and_go_are_told_once_each() {
        let dir = TempDir::new().unwrap();
        let (a, b) = (dir.path().join("a"), dir.path().join("b"));
        fs::write(&a, "before").unwrap();
        let watcher = DirectoryWatcher::new().unwrap();
        let watch = watch(&watcher, dir.path());
        fs::write(&b, "x").unwrap();
        fs::write(dir.path().join("short-lived"), "x").unwrap();
        fs::remove_file(dir.path().join("short-lived")).unwrap();
        fs::rename(&a, dir.path().join("c")).unwrap();
        fs::create_dir(dir.path().join("d")).unwrap();
        // A current-thread runtime: the reader has seen nothing so far, so it is one set.
        assert_eq!(
            watch.changes().await,
            DirectoryChanges {
                changed: names(["b", "c", "d"]),
                removed: names(["a", "short-lived"]),
                ..DirectoryChanges::default()
            }
        );
        fs::set_permissions(&b, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        assert_eq!(watch.changes().await.changed, names(["b"]));
        fs::File::options().append(true).open(&b).unwrap();
        assert_eq!(watch.changes().await.changed, names(["b"]));
        let odd = OsString::from_vec(b"\xff\n".to_vec());
        fs::write(dir.path().join(&odd), "").unwrap();
        assert_eq!(watch.changes().await.changed, BTreeSet::from([odd]));
    }

    #[tokio::test]
    async fn a_burst_is_told_as_one_overflow() {
        let dir = TempDir::new().unwrap();
        let watcher = DirectoryWatcher::new().unwrap();
        let watch = watch(&watcher, dir.path());
        for i in 0..=MOST_NAMES {
            fs::create_dir(dir.path().join(i.to_string())).unwrap();
        }
        expect(&watch, |all| all.overflow).await;
        fs::write(dir.path().join("later"), "").unwrap();
        expect(&watch, |all| all.changed.contains(&OsString::from("later"))).await;
    }

    #[tokio::test]
    async fn a_directory_that_is_removed_or_moved_is_gone() {
        let dir = TempDir::new().unwrap();
        let watcher = DirectoryWatcher::new().unwrap();
        for end in ["remove", "move"] {
            let path = dir.path().join(end);
            fs::create_dir(&path).unwrap();
            let watch = watch(&watcher, &path);
            match end {
                "remove" => fs::remove_dir(&path).unwrap(),
                _ => fs::rename(&path, dir.path().join("elsewhere")).unwrap(),
            }
            expect(&watch, |all| all.gone).await;
        }
        assert_eq!(lock(&watcher.shared.watches).by_descriptor.len(), 0);
    }

    #[tokio::test]
    async fn two_watches_of_one_directory_end_each_for_itself() {
        let dir = TempDir::new().unwrap();
        let watcher = DirectoryWatcher::new().unwrap();
        let (first, second) = (watch(&watcher, dir.path()), watch(&watcher, dir.path()));
        fs::create_dir(dir.path().join("a")).unwrap();
        assert_eq!(first.changes().await, second.changes().await);
        drop(first);
        fs::create_dir(dir.path().join("b")).unwrap();
        expect(&second, |all| all.changed == names(["b"])).await;
        drop(second);
        let third = watch(&watcher, dir.path());
        fs::create_dir(dir.path().join("c")).unwrap();
        // What the kernel says of the watch that ended is not taken for the new one.
        assert_eq!(
            third.changes().await,
            DirectoryChanges { changed: names(["c"]), ..DirectoryChanges::default() }
        );
    }

    #[tokio::test]
    async fn only_directories_are_watched() {
        let dir = TempDir::new().unwrap();
        let path = dir.path().join("file");
        fs::write(&path, "").unwrap();
        let watcher = DirectoryWatcher::new().unwrap();
        let error = watcher.watch(File::open(&path).unwrap().as_fd()).unwrap_err();
        assert!(error.message().starts_with("cannot watch the directory"), "{error}");
    }
}
