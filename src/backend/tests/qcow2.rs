//! qcow2 volumes: created, on top of others, resized, in use.

use super::fixture::{Pool, run, started, volume_def};
use crate::backend::{Preallocation, Progress, ResizeOptions};
use crate::host::{Host, SystemHost};
use crate::model::*;
use std::os::unix::fs::FileExt;
use std::process::{Child, Command, Stdio};

const MIB: u64 = 1 << 20;
const PLAIN: ResizeOptions = ResizeOptions { shrink: false, allocate: false, force: false };
const SHRINK: ResizeOptions = ResizeOptions { shrink: true, allocate: false, force: false };

fn qcow2(name: &str, capacity: Option<u64>) -> VolumeDef {
    volume_def(name, VolumeFormat::Qcow2, capacity)
}

fn on(mut def: VolumeDef, base: &Volume, format: Option<VolumeFormat>) -> VolumeDef {
    let path = base.path.to_string();
    def.backing = Some(BackingStore { path, format, permissions: None });
    def
}

fn check(pool: &Pool, name: &str) {
    run("qemu-img", &["check", "-q", "-f", "qcow2", pool.file(name).to_str().unwrap()]);
}

fn qemu_io(pool: &Pool, name: &str, command: &str) {
    let said = run("qemu-io", &["-f", "qcow2", "-c", command, pool.file(name).to_str().unwrap()]);
    assert!(!said.contains("failed"), "{said}");
}

fn resize(pool: &Pool, name: &str, capacity: u64, options: ResizeOptions) -> Result<Volume> {
    let volume = pool.volume(name).unwrap();
    pool.backend.resize_volume(&pool.active, &volume, capacity, options, &pool.ctx)
}

#[test]
fn a_qcow2_volume_is_as_asked() {
    let pool = started();
    let mut def = qcow2("v", Some(10 * MIB + 1));
    def.cluster_size = Some(4096);
    def.features = Some(VolumeFeatures { lazy_refcounts: true, ..VolumeFeatures::default() });
    let volume = pool.create(&def);
    assert_eq!(
        (volume.format, volume.format_source),
        (VolumeFormat::Qcow2, FormatSource::Declared)
    );
    assert_eq!(volume.capacity, 10 * MIB + 512);
    let image = volume.image.as_deref().unwrap();
    assert_eq!((image.compat, image.cluster_size), (Some("1.1"), Some(4096)));
    assert!(image.features.lazy_refcounts);
    check(&pool, "v");
    let mut old = qcow2("old", Some(MIB));
    old.compat = Some("0.10".to_owned());
    assert_eq!(pool.create(&old).image.unwrap().compat, Some("0.10"));
    check(&pool, "old");
}

#[test]
fn preallocation_takes_what_it_says() {
    let pool = started();
    let make = |name: &str, how| {
        let mut ctx = pool.ctx.clone();
        ctx.progress = Progress::default();
        let def = qcow2(name, Some(8 * MIB));
        let volume = pool.backend.create_volume(&pool.active, &def, how, &ctx).unwrap();
        check(&pool, name);
        let (done, total) = ctx.progress.get();
        assert_eq!(done, total, "{name}");
        assert_eq!(total > 8 * MIB, matches!(how, Preallocation::Falloc | Preallocation::Full));
        volume.allocation
    };
    assert!(make("none", Preallocation::None) < MIB);
    assert!(make("metadata", Preallocation::Metadata) < MIB);
    assert!(make("falloc", Preallocation::Falloc) > 8 * MIB);
    assert!(make("full", Preallocation::Full) > 8 * MIB);
    let mut def = qcow2("both", Some(8 * MIB));
    def.allocation = def.capacity;
    let volume = pool.try_create(&def, Preallocation::Metadata).unwrap();
    assert!(volume.allocation > 8 * MIB, "libvirt's rule");
}

#[test]
fn an_overlay_shows_its_base() {
    let pool = started();
    let base = pool.create(&volume_def("base", VolumeFormat::Raw, Some(4 * MIB)));
    std::fs::File::options()
        .write(true)
        .open(pool.file("base"))
        .unwrap()
        .write_all_at(&[9; 512], 0)
        .unwrap();
    let overlay = pool.create(&on(qcow2("top", None), &base, None));
    assert_eq!(overlay.capacity, 4 * MIB);
    let backing = overlay.backing().unwrap();
    assert_eq!((&*backing.path, backing.format), (&*base.path, Some(VolumeFormat::Raw)));
    check(&pool, "top");
    qemu_io(&pool, "top", "read -P 9 0 512");

    let error = pool.delete(&base, false).unwrap_err();
    assert!(error.kind() == ErrorKind::Busy && error.message().contains("top"), "{error}");
    assert_eq!(resize(&pool, "base", MIB, SHRINK).unwrap_err().kind(), ErrorKind::Busy);
    let higher = pool.create(&on(qcow2("higher", Some(8 * MIB)), &overlay, None));
    assert_eq!(higher.backing().unwrap().format, Some(VolumeFormat::Qcow2));
    qemu_io(&pool, "higher", "read -P 9 0 512");
}

#[test]
fn only_a_known_whole_volume_of_a_stated_format_can_be_a_base() {
    let pool = started();
    let raw = pool.create(&volume_def("raw", VolumeFormat::Raw, Some(MIB)));
    let refused = |def: &VolumeDef| pool.try_create(def, Preallocation::None).unwrap_err().kind();
    let mut shadow = raw.clone();
    shadow.path = "/etc/shadow".into();
    assert_eq!(refused(&on(qcow2("v", None), &shadow, None)), ErrorKind::NotFound);
    let wrong = on(qcow2("v", None), &raw, Some(VolumeFormat::Qcow2));
    assert_eq!(refused(&wrong), ErrorKind::Conflict);
    let raw_top = on(volume_def("v", VolumeFormat::Raw, Some(MIB)), &raw, None);
    assert_eq!(refused(&raw_top), ErrorKind::InvalidArgument);
    let path = pool.file("foreign");
    run("qemu-img", &["create", "-q", "-f", "qcow2", path.to_str().unwrap(), "1M"]);
    let foreign = pool.volume("foreign").unwrap();
    pool.world.known.lock().unwrap().push(foreign.clone().into());
    assert_eq!(refused(&on(qcow2("v", None), &foreign, None)), ErrorKind::InvalidArgument);
    pool.create(&on(qcow2("v", None), &foreign, Some(VolumeFormat::Qcow2)));
    check(&pool, "v");
}

#[test]
fn qcow2_refusals_leave_nothing_behind() {
    let pool = started();
    let refused = |change: &dyn Fn(&mut VolumeDef), how| {
        let mut def = qcow2("v", Some(MIB));
        change(&mut def);
        let error = pool.try_create(&def, how).unwrap_err();
        let named = error.message().contains("volume v in pool test");
        assert!(named || error.kind() == ErrorKind::Cancelled, "{error}");
        error.kind()
    };
    let none = Preallocation::None;
    let invalid = ErrorKind::InvalidArgument;
    assert_eq!(refused(&|def| def.capacity = None, none), invalid);
    assert_eq!(refused(&|def| def.capacity = Some(1 << 52), none), invalid);
    assert_eq!(refused(&|def| def.cluster_size = Some(1000), none), invalid);
    assert_eq!(refused(&|def| def.compat = Some("2.0".into()), none), invalid);
    assert_eq!(
        refused(&|def| def.capacity = Some(1 << 50), Preallocation::Falloc),
        ErrorKind::NoSpace
    );
    pool.ctx.limits.cancel.cancel();
    assert_eq!(refused(&|_| {}, Preallocation::Metadata), ErrorKind::Cancelled);
    assert!(pool.entries().is_empty());
    assert!(pool.world.declared.lock().unwrap().is_empty());
}

#[test]
fn images_grow_and_shrink_and_stay_clean() {
    let pool = started();
    pool.create(&qcow2("v", Some(MIB)));
    qemu_io(&pool, "v", "write -P 3 0 64k");
    assert_eq!(resize(&pool, "v", MIB / 2, PLAIN).unwrap_err().kind(), ErrorKind::InvalidArgument);
    for (capacity, options) in [
        (MIB, PLAIN),
        (64 * MIB + 1, PLAIN),
        (2 * MIB, SHRINK),
        (4 * MIB, ResizeOptions { allocate: true, ..PLAIN }),
        (5 << 40, PLAIN), // more first-level clusters: by qemu-img
    ] {
        let volume = resize(&pool, "v", capacity, options).unwrap();
        assert_eq!(volume.capacity, capacity.next_multiple_of(512));
        assert_eq!(volume.format_source, FormatSource::Declared);
        check(&pool, "v");
        qemu_io(&pool, "v", "read -P 3 0 64k");
    }
    assert!(pool.volume("v").unwrap().allocation >= 2 * MIB);
}

#[test]
fn a_grown_overlay_does_not_show_what_a_longer_base_has_behind_its_end() {
    let pool = started();
    let base = pool.create(&volume_def("base", VolumeFormat::Raw, Some(4 * MIB)));
    let content = std::fs::File::options().write(true).open(pool.file("base")).unwrap();
    content.write_all_at(&vec![9; 4 * MIB as usize], 0).unwrap();
    let middle = pool.create(&on(qcow2("middle", None), &base, None));
    pool.create(&on(qcow2("top", Some(MIB)), &middle, None));
    let grown = resize(&pool, "top", 2 * MIB, PLAIN).unwrap();
    assert_eq!(grown.backing().unwrap().path, *middle.path);
    check(&pool, "top");
    qemu_io(&pool, "top", "read -P 9 0 1M");
    qemu_io(&pool, "top", "read -P 0 1M 1M");
}

#[test]
fn a_header_that_names_what_was_not_declared_is_a_conflict() {
    let pool = started();
    pool.create(&qcow2("v", Some(MIB)));
    let planted = pool.base.path().join("planted");
    let planted = planted.to_str().unwrap();
    let plant = |options: &[&str]| {
        run("qemu-img", &[&["create", "-q", "-u", "-f", "qcow2"], options].concat());
        let content = std::fs::read(planted).unwrap();
        let image = std::fs::File::options().write(true).open(pool.file("v")).unwrap();
        image.write_all_at(&content, 0).unwrap();
        for (capacity, options) in [(8 * MIB, PLAIN), (512, SHRINK)] {
            let error = resize(&pool, "v", capacity, options).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
        }
    };
    plant(&["-F", "raw", "-b", "/etc/shadow", planted, "1M"]);
    assert_eq!(pool.volume("v").unwrap().backing(), None);
    plant(&["-o", &format!("data_file={planted}.data"), planted, "1M"]);
}

/// A program that has an image open, ended when dropped.
struct Holder(Child);

impl Drop for Holder {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Waits until a program made the socket or file that says that it is ready.
fn until_there(path: &std::path::Path, holder: &mut Holder) {
    while !path.exists() {
        assert!(holder.0.try_wait().unwrap().is_none(), "the holder ended");
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
}

#[test]
fn an_image_that_a_qemu_program_holds_is_neither_resized_nor_deleted() {
    let pool = started();
    let volume = pool.create(&qcow2("v", Some(MIB)));
    let image = pool.file("v");
    let ready = |name: &str| pool.base.path().join(name);
    let spawn = |command: &mut Command| {
        Holder(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
    };
    type Start<'a> = Box<dyn Fn() -> Holder + 'a>;
    let holders: [(&str, &str, Start); 2] = [
        (
            "qemu-nbd",
            "nbd.pid",
            Box::new(|| {
                let (socket, pid) = (ready("nbd.socket"), ready("nbd.pid"));
                let options = ["-f", "qcow2", "--persistent", "--socket"];
                let mut command = Command::new("qemu-nbd");
                spawn(command.args(options).arg(socket).arg("--pid-file").arg(pid).arg(&image))
            }),
        ),
        (
            "qemu-storage-daemon",
            "qsd.pid",
            Box::new(|| {
                let node = format!(
                    "driver=qcow2,node-name=disk,file.driver=file,file.filename={}",
                    image.display()
                );
                let export = "vhost-user-blk,id=e,node-name=disk,writable=on,addr.type=unix";
                let export = format!("{export},addr.path={}", ready("qsd.socket").display());
                let mut command = Command::new("qemu-storage-daemon");
                command.args(["--blockdev", &node, "--export", &export, "--pidfile"]);
                spawn(command.arg(ready("qsd.pid")))
            }),
        ),
    ];
    for (program, pid, start) in holders {
        if SystemHost.find_tool(program).is_none() {
            println!("RESULT unit image-held-by-{program} skip it is not installed");
            continue;
        }
        let mut holder = start();
        until_there(&ready(pid), &mut holder);
        let error = pool.delete(&volume, false).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Busy, "{pid}: {error}");
        let who = format!("process {}", holder.0.id());
        assert!(error.message().contains(&who), "{pid}: {error}");
        let forced = ResizeOptions { force: true, ..PLAIN };
        for options in [PLAIN, forced] {
            let error = resize(&pool, "v", 2 * MIB, options).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Busy, "{pid}: {error}");
        }
    }
    assert_eq!(resize(&pool, "v", 2 * MIB, PLAIN).unwrap().capacity, 2 * MIB);
    pool.delete(&volume, false).unwrap();
    assert!(pool.entries().is_empty());
}
