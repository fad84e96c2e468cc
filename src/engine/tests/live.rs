//! Following a real directory.

use super::*;
use crate::backend::DeleteOptions;
use crate::engine::live::awaited;
use crate::engine::pool::{Pool, blank};
use crate::engine::reader::reread;
use crate::model::{HostAddress, SourceDevice};
use std::path::{Path, PathBuf};

/// An engine with the real backends.
struct Host {
    root: tempfile::TempDir,
    engine: Engine,
}

impl Host {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        let options = EngineOptions {
            retry: (Duration::from_secs(3600), Duration::from_secs(3600)),
            ..EngineOptions::default()
        };
        let engine = Engine::open(
            Store::open(root.path()).unwrap(),
            Arc::new(SystemHost),
            crate::backend::all(),
            options,
        );
        let engine = engine.unwrap();
        engine.resume();
        Self { root, engine }
    }

    fn target(&self) -> PathBuf {
        self.root.path().join("srv/images")
    }

    fn def(&self) -> PoolDef {
        let mut def = pool_def("images");
        def.target.as_mut().unwrap().path = self.target().to_str().unwrap().to_owned();
        def
    }

    async fn started(&self) -> PoolHandle {
        std::fs::create_dir_all(self.target()).unwrap();
        let options = DefineOptions { start: true, ..DefineOptions::default() };
        let (pool, job) = self.engine.define_pool(self.def(), options, &ROOT).await.unwrap();
        job.unwrap().wait().await.unwrap();
        pool
    }
}

fn write(directory: &Path, name: &str, size: usize) {
    std::fs::write(directory.join(name), vec![1; size]).unwrap();
}

#[tokio::test]
async fn a_file_dropped_in_grown_renamed_and_removed_is_seen() {
    let host = Host::new();
    let pool = host.started().await;
    write(&host.target(), "a.raw", 512);
    until(&host.engine, &pool, |now| now.volumes.get("a.raw").is_some_and(|a| a.capacity == 512))
        .await;
    write(&host.target(), "a.raw", 1024);
    until(&host.engine, &pool, |now| now.volumes["a.raw"].capacity == 1024).await;
    std::fs::rename(host.target().join("a.raw"), host.target().join("b.raw")).unwrap();
    until(&host.engine, &pool, |now| names_of(now) == ["b.raw"]).await;
    std::fs::remove_file(host.target().join("b.raw")).unwrap();
    until(&host.engine, &pool, |now| now.volumes.is_empty()).await;
    let refreshes = host
        .engine
        .jobs()
        .into_iter()
        .filter(|job| job.snapshot().operation == JobOperation::PoolRefresh);
    assert_eq!(refreshes.count(), 0);
}

#[tokio::test]
async fn a_burst_of_files_is_seen_whole() {
    let host = Host::new();
    let pool = host.started().await;
    for number in 0..2000 {
        write(&host.target(), &format!("f{number}"), 1);
    }
    until(&host.engine, &pool, |now| now.volumes.len() == 2000).await;
}

#[tokio::test]
async fn a_directory_that_goes_is_inaccessible_until_the_same_one_returns() {
    let host = Host::new();
    let pool = host.started().await;
    let aside = host.root.path().join("srv/aside");
    std::fs::rename(host.target(), &aside).unwrap();
    until(&host.engine, &pool, |now| now.state == PoolState::Inaccessible).await;
    // Another directory is not the pool.
    std::fs::create_dir(host.target()).unwrap();
    let made = pool.create_volume(volume_def("x", 1), CreateVolumeOptions::default(), &ROOT).await;
    assert_eq!(kind(made), Some(ErrorKind::Inaccessible));
    std::fs::remove_dir(host.target()).unwrap();
    write(&aside, "meanwhile", 1);
    std::fs::rename(&aside, host.target()).unwrap();
    until(&host.engine, &pool, |now| now.state == PoolState::Active).await;
    assert_eq!(names(&pool), ["meanwhile"]);
    write(&host.target(), "after", 1);
    until(&host.engine, &pool, |now| now.volumes.len() == 2).await;
}

#[tokio::test]
async fn a_pool_returns_from_under_a_link_that_is_not_followed() {
    if !rustix::process::geteuid().is_root() {
        println!("RESULT unit foreign-link-over-pool skip needs root");
        return;
    }
    let host = Host::new();
    let pool = host.started().await;
    let (aside, link) = (host.root.path().join("srv/aside"), host.root.path().join("srv/link"));
    std::os::unix::fs::symlink("/usr", &link).unwrap();
    std::os::unix::fs::lchown(&link, Some(65534), Some(65534)).unwrap();
    std::fs::rename(host.target(), &aside).unwrap();
    std::fs::rename(&link, host.target()).unwrap();
    until(&host.engine, &pool, |now| now.state == PoolState::Inaccessible).await;
    std::fs::remove_file(host.target()).unwrap();
    std::fs::rename(&aside, host.target()).unwrap();
    until(&host.engine, &pool, |now| now.state == PoolState::Active).await;
}

#[tokio::test]
async fn a_start_removes_what_a_crash_left_half_made() {
    let host = Host::new();
    std::fs::create_dir_all(host.target().join(format!(".poold-{:032x}", 1))).unwrap();
    host.started().await;
    assert_eq!(std::fs::read_dir(host.target()).unwrap().count(), 0);
}

#[tokio::test]
async fn an_autostart_is_woken_by_the_directory_that_it_waits_for() {
    let host = Host::new();
    let options = DefineOptions { autostart: true, ..DefineOptions::default() };
    let (pool, _) = host.engine.define_pool(host.def(), options, &ROOT).await.unwrap();
    host.engine.autostart(&ROOT).await.unwrap();
    // The next try by the clock is an hour away.
    until(&host.engine, &pool, |now| now.next_try > 0).await;
    std::fs::create_dir(host.root.path().join("srv")).unwrap();
    std::fs::create_dir(host.target()).unwrap();
    until(&host.engine, &pool, |now| now.state == PoolState::Active).await;
}

#[tokio::test]
async fn what_poold_makes_itself_is_announced_once_and_whole() {
    let host = Host::new();
    let pool = host.started().await;
    create(&pool, "a").await.wait().await.unwrap();
    assert_eq!(names(&pool), ["a"]);
    let a = VolumeName::new("a").unwrap();
    pool.delete_volume(&a, DeleteOptions::default(), &ROOT).await.unwrap().wait().await.unwrap();
    assert!(names(&pool).is_empty() && !host.target().join("a").exists());
}

#[test]
fn what_a_pool_waits_for_has_a_name() {
    let of = |pool_type: PoolType, source: &Source| {
        awaited(&PoolDef { pool_type, source: source.clone(), ..pool_def("images") })
    };
    let device =
        SourceDevice { path: "/dev/sdb".into(), part_separator: None, free_extents: Vec::new() };
    let named = Source { name: Some("x".to_owned()), ..Source::default() };
    let on = Source { devices: vec![device], ..named.clone() };
    let host = HostAddress { name: "nas".to_owned(), port: None };
    let by = Source { hosts: vec![host], ..named.clone() };
    assert!(of(PoolType::Dir, &Source::default()).starts_with("directory /"));
    for (pool_type, source, awaited) in [
        (PoolType::Fs, &on, "device /dev/sdb"),
        (PoolType::NetFs, &by, "server nas"),
        (PoolType::Gluster, &by, "server nas"),
        (PoolType::Logical, &named, "volume group x"),
        (PoolType::Logical, &on, "device /dev/sdb"),
        (PoolType::Zfs, &named, "ZFS pool x"),
        (PoolType::Vstorage, &named, "cluster x"),
    ] {
        assert_eq!(of(pool_type, source), awaited, "{pool_type:?}");
    }
}

#[test]
fn names_that_wait_to_be_read_are_bounded() {
    let snapshot = blank(Arc::new(pool_def("images")), true, false);
    let (pool, _inbox) = Pool::new(snapshot, Default::default());
    let name = |number: u32| VolumeName::new(&format!("f{number}")).unwrap();
    assert!(reread(&pool, (0..1000).map(name)));
    assert_eq!(pool.look(|core| core.pending.len()), 1000);
    assert!(!reread(&pool, (0..100_000).map(name)));
    assert_eq!(pool.look(|core| core.pending.len()), 0);
}

fn names_of(pool: &PoolSnapshot) -> Vec<String> {
    pool.volumes.keys().map(ToString::to_string).collect()
}
