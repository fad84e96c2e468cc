//! Overwriting volumes: what is left of them, on the storage too.

use super::fixture::{Pool, defined, run, started, volume_def};
use crate::backend::{BuildMode, Finding, Findings, OpContext, Progress, WipeOptions};
use crate::model::*;
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

const MARKER: &[u8] = b"the marker of what nobody may see again, 0123456789";

fn with(algorithm: WipeAlgorithm) -> WipeOptions {
    WipeOptions { algorithm, ..WipeOptions::default() }
}

fn wipe(
    pool: &Pool,
    volume: &Volume,
    options: WipeOptions,
) -> (Result<Volume>, BTreeMap<&'static str, Finding>) {
    let ctx = OpContext { findings: Findings::default(), ..pool.ctx.clone() };
    let done = pool.backend.wipe_volume(&pool.active, volume, options, &ctx);
    (done, ctx.findings.take())
}

fn refused(pool: &Pool, volume: &Volume, options: WipeOptions) -> Error {
    wipe(pool, volume, options).0.expect_err("it is refused")
}

/// A raw volume of a mebibyte, full of the marker.
fn marked(pool: &Pool, name: &str) -> Volume {
    let volume = pool.create(&volume_def(name, VolumeFormat::Raw, Some(1 << 20)));
    let content: Vec<u8> = MARKER.iter().copied().cycle().take(1 << 20).collect();
    let file = std::fs::File::options().write(true).open(pool.file(name)).unwrap();
    file.write_all_at(&content, 0).unwrap();
    file.sync_all().unwrap();
    volume
}

fn holds_marker(path: &Path) -> bool {
    let content = std::fs::read(path).unwrap();
    content.windows(MARKER.len()).any(|window| window == MARKER)
}

#[test]
fn every_algorithm_wipes_and_says_what_it_did() {
    let pool = started();
    for (algorithm, passes) in [
        (WipeAlgorithm::Zero, 1),
        (WipeAlgorithm::Trim, 0),
        (WipeAlgorithm::Random, 1),
        (WipeAlgorithm::Nnsa, 3),
        (WipeAlgorithm::Dod, 3),
        (WipeAlgorithm::Bsi, 9),
        (WipeAlgorithm::Gutmann, 35),
        (WipeAlgorithm::Schneier, 7),
        (WipeAlgorithm::Pfitzner7, 7),
        (WipeAlgorithm::Pfitzner33, 33),
    ] {
        let volume = marked(&pool, algorithm.as_str());
        let path = pool.file(algorithm.as_str());
        let before = path.metadata().unwrap();
        let (done, found) = wipe(&pool, &volume, WipeOptions { force: true, ..with(algorithm) });
        let wiped = done.unwrap();
        assert!(!holds_marker(&path), "{algorithm:?}");
        assert_eq!(path.metadata().unwrap().ino(), before.ino());
        assert_eq!((wiped.capacity, wiped.incomplete), (1 << 20, None));
        assert_eq!(wiped.format_source, FormatSource::Declared);
        assert_eq!(found["algorithm"], algorithm.as_str().into());
        assert_eq!(found["passes"], passes.into());
        assert_eq!(found["bytes"], (1 << 20).into());
        assert!(["physical", "logical"].map(Finding::from).contains(&found["guarantee"]));
    }
}

#[test]
fn a_sparse_volume_stays_small_unless_all_is_to_be_allocated() {
    let pool = started();
    let volume = pool.create(&volume_def("thin", VolumeFormat::Raw, Some(1 << 40)));
    let file = std::fs::File::options().write(true).open(pool.file("thin")).unwrap();
    file.write_all_at(MARKER, 1 << 35).unwrap();
    let (done, found) = wipe(&pool, &volume, with(WipeAlgorithm::Zero));
    let wiped = done.unwrap();
    assert!(wiped.allocation <= 1 << 20 && wiped.capacity == 1 << 40, "{wiped:?}");
    assert_eq!(found["bytes"], 4096.into());
    let mut there = [1; MARKER.len()];
    std::fs::File::open(pool.file("thin")).unwrap().read_exact_at(&mut there, 1 << 35).unwrap();
    assert_eq!(there, [0; MARKER.len()]);

    let all = WipeOptions { allocate: true, ..WipeOptions::default() };
    if pool.list().usage.available < 1 << 40 {
        assert_eq!(refused(&pool, &volume, all).kind(), ErrorKind::NoSpace);
        assert_eq!(pool.volume("thin").unwrap().incomplete, None);
    }
    let small = pool.create(&volume_def("small", VolumeFormat::Raw, Some(1 << 20)));
    let (done, found) = wipe(&pool, &small, all);
    assert_eq!(found["bytes"], (1 << 20).into());
    assert!(done.unwrap().allocation >= 1 << 20);
}

/// What qemu-img says of a volume, after it checked it where it can.
fn info(pool: &Pool, name: &str, checks: bool) -> serde_json::Value {
    let path = pool.file(name).to_str().unwrap().to_owned();
    if checks {
        run("qemu-img", &["check", "-q", &path]);
    }
    serde_json::from_str(&run("qemu-img", &["info", "--output=json", &path])).unwrap()
}

#[test]
fn a_wiped_image_is_an_empty_one_of_its_format_alone() {
    let pool = started();
    pool.create(&volume_def("base", VolumeFormat::Raw, Some(8 << 20)));
    for (format, driver, checks) in [
        (VolumeFormat::Qcow2, "qcow2", true),
        (VolumeFormat::Qed, "qed", true),
        (VolumeFormat::Vdi, "vdi", true),
        (VolumeFormat::Vmdk, "vmdk", true),
        (VolumeFormat::Vhdx, "vhdx", true),
    ] {
        let overlays = matches!(driver, "qcow2" | "qed");
        let mut def = volume_def(driver, format, Some(8 << 20));
        def.backing = overlays.then(|| BackingStore {
            path: pool.file("base").to_str().unwrap().to_owned(),
            format: Some(VolumeFormat::Raw),
            permissions: None,
        });
        def.permissions = Some(Permissions { mode: Some(0o640), ..Permissions::default() });
        let volume = pool.create(&def);
        let path = pool.file(driver);
        let write = ["-f", driver, "-c", "write -P 77 1M 1M", path.to_str().unwrap()];
        run("qemu-io", &write);
        let before = path.metadata().unwrap();
        let progress = Progress::default();
        let ctx = OpContext { progress: progress.clone(), ..pool.ctx.clone() };
        let zero = WipeOptions::default();
        let wiped = pool.backend.wipe_volume(&pool.active, &volume, zero, &ctx).unwrap();
        // Of what is made beside nothing is counted: who sees progress sees content overwritten.
        let (done, total) = progress.get();
        assert!(done == total && done >= 1 << 20, "{driver}: {done} of {total}");
        let after = path.metadata().unwrap();
        assert_eq!((after.ino(), after.mode()), (before.ino(), before.mode()));
        assert!(after.len() < before.len(), "{driver}");
        assert_eq!((wiped.format, wiped.capacity), (format, 8 << 20));
        assert_eq!((wiped.backing(), &wiped.incomplete), (None, &None), "{driver}");
        assert_eq!((wiped.format_source, wiped.content_format), (FormatSource::Declared, None));
        let info = info(&pool, driver, checks);
        assert_eq!(info["format"], driver);
        assert_eq!(info["virtual-size"], 8 << 20);
        assert!(info.get("backing-filename").is_none(), "{info}");
        run("qemu-io", &["-f", driver, "-c", "read -P 0 0 8M", path.to_str().unwrap()]);
        pool.delete(&wiped, false).unwrap();
    }
}

#[test]
fn an_encrypted_volume_is_made_anew_with_its_passphrase_or_is_of_no_use() {
    let pool = started();
    let secret = SecretRef::Usage("key".to_owned());
    let passphrase = || SecretValue::new(b"a passphrase".to_vec());
    pool.world.secrets.lock().unwrap().insert("key".to_owned(), passphrase());
    for (name, format) in [("q", VolumeFormat::Qcow2), ("r", VolumeFormat::Luks)] {
        let mut def = volume_def(name, format, Some(8 << 20));
        let secrets = vec![secret.clone()];
        def.encryption =
            Some(Encryption { format: "luks".to_owned(), secrets, cipher: None, ivgen: None });
        let volume = pool.create(&def);
        let header = std::fs::read(pool.file(name)).unwrap();
        let wiped = wipe(&pool, &volume, WipeOptions::default()).0.unwrap();
        assert_eq!((wiped.format, wiped.capacity), (format, 8 << 20));
        assert_eq!(wiped.incomplete, None);
        assert!(wiped.image.as_ref().unwrap().encryption.is_some());
        assert_ne!(std::fs::read(pool.file(name)).unwrap(), header, "its key is another");

        let forgotten = pool.world.secrets.lock().unwrap().remove("key").unwrap();
        let useless = wipe(&pool, &wiped, WipeOptions::default()).0.unwrap();
        assert!(useless.incomplete.is_some_and(|why| why.contains("encrypted")));
        assert!(std::fs::read(pool.file(name)).unwrap().iter().all(|byte| *byte == 0));
        pool.world.secrets.lock().unwrap().insert("key".to_owned(), forgotten);
    }
}

#[test]
fn what_is_used_or_lies_elsewhere_is_not_wiped() {
    let pool = started();
    let volume = marked(&pool, "used");
    let mut qemu = Command::new("qemu-io")
        .args(["-f", "raw"])
        .arg(pool.file("used"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    qemu.stdin.as_mut().unwrap().write_all(b"length\n").unwrap();
    BufReader::new(qemu.stdout.as_mut().unwrap()).read_line(&mut String::new()).unwrap();
    let busy = refused(&pool, &volume, WipeOptions::default());
    qemu.kill().unwrap();
    qemu.wait().unwrap();
    assert_eq!(busy.kind(), ErrorKind::Busy, "{busy}");
    let mut overlay = volume_def("over", VolumeFormat::Qcow2, None);
    let path = pool.file("used").to_str().unwrap().to_owned();
    overlay.backing =
        Some(BackingStore { path, format: Some(VolumeFormat::Raw), permissions: None });
    pool.create(&overlay);
    assert_eq!(refused(&pool, &volume, WipeOptions::default()).kind(), ErrorKind::Busy);
    assert!(holds_marker(&pool.file("used")));

    let dir = pool.create(&volume_def("dir", VolumeFormat::Dir, None));
    assert_eq!(refused(&pool, &dir, WipeOptions::default()).kind(), ErrorKind::NotSupported);

    let secret = pool.base.path().join("secret");
    std::fs::write(&secret, MARKER).unwrap();
    let options = format!("data_file={},data_file_raw=on", secret.display());
    let image = pool.file("split");
    run(
        "qemu-img",
        &["create", "-q", "-f", "qcow2", "-o", &options, image.to_str().unwrap(), "1M"],
    );
    std::fs::write(&secret, MARKER).unwrap();
    let split = pool.volume("split").unwrap();
    let error = refused(&pool, &split, WipeOptions { force: true, ..WipeOptions::default() });
    assert_eq!(error.kind(), ErrorKind::NotSupported, "{error}");
    assert_eq!(std::fs::read(&secret).unwrap(), MARKER);
}

#[test]
fn a_wipe_that_ended_early_leaves_an_incomplete_volume() {
    let pool = started();
    // Not raw: a cancel is heard before the content is an image again.
    let volume = pool.create(&volume_def("v", VolumeFormat::Qcow2, Some(64 << 20)));
    run("qemu-io", &["-f", "qcow2", "-c", "write 0 40M", pool.file("v").to_str().unwrap()]);
    let raw = marked(&pool, "raw");
    let limits = pool.ctx.limits.clone();
    let progress = Progress::default();
    let ctx = OpContext { progress: progress.clone(), ..pool.ctx.clone() };
    let options = WipeOptions { force: true, ..with(WipeAlgorithm::Pfitzner33) };
    std::thread::scope(|scope| {
        let wiping = scope.spawn(|| pool.backend.wipe_volume(&pool.active, &volume, options, &ctx));
        while progress.get().0 == 0 && !wiping.is_finished() {
            std::thread::yield_now();
        }
        limits.cancel.cancel();
        assert_eq!(wiping.join().unwrap().unwrap_err().kind(), ErrorKind::Cancelled);
    });
    let again = OpContext { limits: Default::default(), ..pool.ctx.clone() };
    let read = || {
        let found = pool.backend.refresh_volume(&pool.active, &volume.name, &again);
        found.unwrap().unwrap()
    };
    let left = read();
    assert!(left.incomplete.is_some());
    assert_eq!(pool.entries(), ["raw", "v"]);
    // What the header said is gone.
    let ended = pool.backend.wipe_volume(&pool.active, &left, WipeOptions::default(), &again);
    assert!(ended.unwrap().incomplete.is_some_and(|why| why.contains("create it anew")));
    assert_eq!(read().format, VolumeFormat::Qcow2);
    // A raw volume is whole again.
    assert_eq!(refused(&pool, &raw, options).kind(), ErrorKind::Cancelled);
    assert!(holds_marker(&pool.file("raw")));
    let mark = |incomplete| {
        let mut declared = pool.world.declared.lock().unwrap();
        let of_raw = declared.get_mut(&(pool.def.uuid, raw.name.clone())).unwrap();
        of_raw.incomplete = incomplete;
    };
    mark(Some("it was overwritten in part".to_owned()));
    let raw = pool.volume("raw").unwrap();
    assert!(raw.incomplete.is_some());
    let ended = pool.backend.wipe_volume(&pool.active, &raw, WipeOptions::default(), &again);
    assert_eq!(ended.unwrap().incomplete, None);
}

/// A pool on a file system of its own, mounted for this thread alone.
struct Mounted {
    pool: Pool,
    device: PathBuf,
}

impl Mounted {
    /// None, and a line that says why, where that cannot be.
    fn new(make: &[&str], mount: &str) -> Option<Self> {
        let what = make[0];
        if !nix::unistd::Uid::effective().is_root() {
            println!("RESULT unit wipe-{what} skip needs root");
            return None;
        }
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS).unwrap();
        run("mount", &["--make-rprivate", "/"]);
        let mut pool = defined();
        let (device, at) = (pool.base.path().join("device"), pool.path());
        std::fs::File::create(&device).unwrap().set_len(512 << 20).unwrap();
        let device_name = device.to_str().unwrap();
        let made = Command::new(what).args(&make[1..]).arg(device_name).output();
        if !made.is_ok_and(|made| made.status.success()) {
            println!("RESULT unit wipe-{what} skip cannot run");
            return None;
        }
        pool.backend.build(&pool.def, BuildMode::KeepData, &pool.ctx).unwrap();
        let options = format!("loop{mount}");
        let mounted = Command::new("mount").args(["-o", &options, device_name]).arg(&at).output();
        if !mounted.is_ok_and(|mounted| mounted.status.success()) {
            println!("RESULT unit wipe-{what} skip it cannot be mounted");
            return None;
        }
        pool.start();
        Some(Self { pool, device })
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.pool.path()).status();
    }
}

#[test]
fn on_ext4_the_content_is_gone_from_the_device() {
    let Some(on) = Mounted::new(&["mkfs.ext4", "-q"], "") else { return };
    for algorithm in [WipeAlgorithm::Zero, WipeAlgorithm::Nnsa] {
        let volume = marked(&on.pool, algorithm.as_str());
        // What is allocated and holds no data that can be read any more.
        let file = on.pool.file(algorithm.as_str());
        run("fallocate", &["-z", "-o", "65536", "-l", "65536", file.to_str().unwrap()]);
        run("sync", &["-f", file.to_str().unwrap()]);
        assert!(holds_marker(&on.device));
        let (done, found) = wipe(&on.pool, &volume, with(algorithm));
        done.unwrap();
        assert_eq!(found["guarantee"], "physical".into());
        assert_eq!(found["bytes"], (1 << 20).into());
        assert!(!holds_marker(&on.device), "{algorithm:?}");
    }
}

#[test]
fn storage_that_writes_elsewhere_is_told_from_what_overwrites() {
    let logical = |on: &Mounted, volume: &Volume| {
        let pool = &on.pool;
        let error = refused(pool, volume, with(WipeAlgorithm::Dod));
        assert_eq!(error.kind(), ErrorKind::NotSupported, "{error}");
        assert!(error.message().contains("force"), "{error}");
        assert!(holds_marker(Path::new(&*volume.path)), "nothing was overwritten");
        let forced = WipeOptions { force: true, ..with(WipeAlgorithm::Dod) };
        let (done, found) = wipe(pool, volume, forced);
        done.unwrap();
        assert_eq!(found["guarantee"], "logical".into());
    };
    if let Some(on) = Mounted::new(&["mkfs.btrfs", "-q"], "") {
        logical(&on, &marked(&on.pool, "v"));
    }
    if let Some(on) = Mounted::new(&["mkfs.ext4", "-q"], ",data=journal") {
        logical(&on, &marked(&on.pool, "v"));
    }
    if let Some(on) = Mounted::new(&["mkfs.xfs", "-q"], "") {
        let (alone, shared) = (marked(&on.pool, "alone"), marked(&on.pool, "shared"));
        run("cp", &["--reflink=always", &shared.path, on.pool.file("copy").to_str().unwrap()]);
        logical(&on, &shared);
        let (done, found) = wipe(&on.pool, &alone, with(WipeAlgorithm::Dod));
        done.unwrap();
        assert_eq!(found["guarantee"], "physical".into());
    }
}
