//! What happens in a directory, as the engine hears of it.

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
    for end in ["remove", "remove while open", "move", "replace"] {
        let path = dir.path().join("pool");
        fs::create_dir(&path).unwrap();
        let watch = watch(&watcher, &path);
        let open = File::open(&path).unwrap();
        fs::create_dir(path.join("it-is-watched")).unwrap();
        fs::create_dir(dir.path().join("beside")).unwrap();
        expect(&watch, |all| all.changed == names(["it-is-watched"]) && !all.gone).await;
        fs::remove_dir(path.join("it-is-watched")).unwrap();
        match end {
            "remove" => {
                drop(open);
                fs::remove_dir(&path).unwrap();
            }
            "remove while open" => fs::remove_dir(&path).unwrap(),
            "move" => fs::rename(&path, dir.path().join("elsewhere")).unwrap(),
            _ => fs::rename(dir.path().join("beside"), &path).unwrap(),
        }
        expect(&watch, |all| all.gone).await;
        let _ = fs::remove_dir(dir.path().join("beside"));
    }
    assert_eq!(lock(&watcher.shared.watches).by_descriptor.len(), 0);
}

#[tokio::test]
async fn a_directory_that_was_removed_before_is_gone() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("pool");
    fs::create_dir(&path).unwrap();
    let open = File::open(&path).unwrap();
    fs::remove_dir(&path).unwrap();
    let watcher = DirectoryWatcher::new().unwrap();
    if let Ok(watch) = watcher.watch(open.as_fd()) {
        expect(&watch, |all| all.gone).await;
    }
}

#[tokio::test]
async fn a_directory_within_another_that_is_watched_is_told_beside_it() {
    let dir = TempDir::new().unwrap();
    let inner = dir.path().join("inner");
    fs::create_dir(&inner).unwrap();
    let watcher = DirectoryWatcher::new().unwrap();
    let (outer_watch, inner_watch) = (watch(&watcher, dir.path()), watch(&watcher, &inner));
    fs::write(dir.path().join("a"), "").unwrap();
    fs::write(inner.join("b"), "").unwrap();
    assert_eq!(outer_watch.changes().await.changed, names(["a"]));
    assert_eq!(inner_watch.changes().await.changed, names(["b"]));
    drop(inner_watch);
    fs::write(dir.path().join("c"), "").unwrap();
    expect(&outer_watch, |all| all.changed == names(["c"])).await;
}

#[test]
fn a_file_system_that_is_unmounted_is_gone() {
    use nix::mount::{MsFlags, mount, umount};
    use nix::sched::{CloneFlags, unshare};
    let dir = TempDir::new().unwrap();
    let none = None::<&str>;
    let allowed = std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            if unshare(CloneFlags::CLONE_NEWNS).is_err() {
                return false;
            }
            mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).unwrap();
            mount(none, dir.path(), Some("tmpfs"), MsFlags::empty(), none).unwrap();
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.unwrap().block_on(async {
                let watcher = DirectoryWatcher::new().unwrap();
                let watch = watch(&watcher, dir.path());
                umount(dir.path()).expect("a watch does not keep a file system busy");
                expect(&watch, |all| all.gone).await;
            });
            true
        });
        thread.join().unwrap()
    });
    if !allowed {
        println!("RESULT host directory-watch skip no private mount namespace here");
    }
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
