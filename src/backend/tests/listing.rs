//! What a refresh finds.

use super::fixture::{run, started, volume_def};
use crate::host::HIDDEN_PREFIX;
use crate::model::*;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;

#[test]
fn odd_entries_stop_nothing_and_are_counted() {
    let pool = started();
    std::fs::write(pool.file("disk.img"), [0; 5000]).unwrap();
    std::fs::create_dir(pool.file("sub")).unwrap();
    nix::unistd::mkfifo(&pool.file("fifo"), nix::sys::stat::Mode::S_IRUSR).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(pool.file("socket")).unwrap();
    symlink("nowhere", pool.file("dangling")).unwrap();
    symlink("loop", pool.file("loop")).unwrap();
    std::fs::write(pool.path().join(OsStr::from_bytes(b"not \xff text")), "").unwrap();
    std::fs::write(pool.file("line\nbreak"), "").unwrap();
    std::fs::write(pool.file(&format!("{HIDDEN_PREFIX}1")), "").unwrap();
    std::fs::write(pool.file("empty"), "").unwrap();
    std::fs::write(pool.file("-rf"), "x").unwrap();
    let listing = pool.list();
    let found: Vec<_> =
        listing.volumes.iter().map(|v| (v.name.as_str(), v.kind, v.format)).collect();
    assert_eq!(
        found,
        [
            ("-rf", VolumeKind::File, VolumeFormat::Raw),
            ("disk.img", VolumeKind::File, VolumeFormat::Raw),
            ("empty", VolumeKind::File, VolumeFormat::Raw),
            ("sub", VolumeKind::Dir, VolumeFormat::Dir),
        ]
    );
    // fifo, socket, two links, two names.
    assert_eq!(listing.skipped, 6);
    let disk = &listing.volumes[1];
    assert_eq!((disk.capacity, disk.physical), (5000, 5000));
    assert_eq!(disk.key(), pool.file("disk.img").to_str().unwrap());
    assert!(listing.usage.capacity >= listing.usage.available);
}

#[test]
fn what_qemu_img_made_is_described_from_its_header() {
    let pool = started();
    let path = |name: &str| pool.file(name).to_str().unwrap().to_owned();
    let options = "compat=0.10,cluster_size=4096";
    run("qemu-img", &["create", "-q", "-f", "qcow2", "-o", options, &path("base"), "3M"]);
    let options =
        "lazy_refcounts=on,cluster_size=2M,extended_l2=on,backing_file=base,backing_fmt=qcow2";
    run("qemu-img", &["create", "-q", "-f", "qcow2", "-o", options, &path("top"), "5G"]);
    let data = format!("data_file={}.raw", path("ext"));
    run("qemu-img", &["create", "-q", "-f", "qcow2", "-o", &data, &path("ext"), "1M"]);

    let base = pool.volume("base").unwrap();
    assert_eq!((base.format, base.capacity), (VolumeFormat::Qcow2, 3 << 20));
    assert_eq!(base.format_source, FormatSource::Probed);
    let image = base.image.unwrap();
    assert_eq!((image.compat, image.cluster_size), (Some("0.10"), Some(4096)));
    assert_eq!(image.backing, None);

    let top = pool.volume("top").unwrap();
    assert_eq!(top.capacity, 5 << 30);
    let image = top.image.as_deref().unwrap();
    assert_eq!((image.compat, image.cluster_size), (Some("1.1"), Some(2 << 20)));
    assert!(image.features.lazy_refcounts && image.features.extended_l2);
    let backing = top.backing().unwrap();
    assert_eq!(
        (backing.path.as_str(), backing.format),
        (&*path("base"), Some(VolumeFormat::Qcow2))
    );
    assert!(pool.volume("ext").unwrap().image.unwrap().features.data_file);
}

#[test]
fn a_foreign_backing_file_is_shown_and_not_opened() {
    let pool = started();
    let image = pool.file("image");
    let image = image.to_str().unwrap();
    for backing in ["/etc/shadow", "nbd://server/export", "json:{\"driver\":\"null-co\"}"] {
        let args = ["create", "-q", "-u", "-f", "qcow2", "-F", "raw", "-b", backing, image, "1M"];
        run("qemu-img", &args);
        let volume = pool.volume("image").unwrap();
        assert_eq!(volume.backing().unwrap().path, backing);
        assert_eq!(volume.capacity, 1 << 20);
    }
}

#[test]
fn a_damaged_image_is_listed_without_capacity() {
    let pool = started();
    let mut header = vec![0; 4096];
    header[..8].copy_from_slice(b"QFI\xfb\0\0\0\x03");
    header[20..24].fill(0xff);
    std::fs::write(pool.file("damaged"), header).unwrap();
    let volume = pool.volume("damaged").unwrap();
    assert_eq!((volume.format, volume.capacity), (VolumeFormat::Qcow2, 0));
}

#[test]
fn a_link_is_followed_only_where_nobody_else_has_a_hand_in_it() {
    let pool = started();
    let outside = pool.base.path().join("outside");
    std::fs::write(&outside, [0; 700]).unwrap();
    symlink(&outside, pool.file("absolute")).unwrap();
    symlink("../outside", pool.file("relative")).unwrap();
    symlink("absolute", pool.file("twice")).unwrap();
    symlink(pool.path(), pool.file("directory")).unwrap();
    assert_eq!(pool.names(), ["absolute", "relative", "twice"]);
    let link = pool.volume("twice").unwrap();
    assert_eq!((link.kind, link.capacity), (VolumeKind::File, 700));

    pool.delete(&link, false).unwrap();
    assert_eq!(pool.names(), ["absolute", "relative"]);
    assert!(outside.exists(), "the file of a link stays");

    // Somebody else can exchange what the link leads to.
    use std::os::unix::fs::PermissionsExt;
    let open = std::fs::Permissions::from_mode(0o777);
    std::fs::set_permissions(pool.base.path(), open).unwrap();
    assert_eq!(pool.list().skipped, 3);
}

#[test]
fn what_cannot_be_opened_is_skipped() {
    let pool = started();
    std::fs::write(pool.file("fine"), "").unwrap();
    if rustix::process::geteuid().is_root() {
        // Devices that no driver serves.
        use nix::sys::stat::{Mode, SFlag, makedev, mknod};
        for (name, kind) in [("block", SFlag::S_IFBLK), ("char", SFlag::S_IFCHR)] {
            let made = mknod(&pool.file(name), kind, Mode::S_IRUSR, makedev(4000, 1));
            if made.is_err() {
                println!("RESULT unit dead-devices skip no devices can be made here");
                return;
            }
        }
    } else {
        use std::os::unix::fs::PermissionsExt;
        for name in ["block", "char"] {
            std::fs::write(pool.file(name), "").unwrap();
            let closed = std::fs::Permissions::from_mode(0o0);
            std::fs::set_permissions(pool.file(name), closed).unwrap();
        }
    }
    let listing = pool.list();
    assert_eq!((listing.volumes.len(), listing.skipped), (1, 2));
}

#[test]
fn a_foreign_link_is_skipped() {
    let pool = started();
    if !rustix::process::geteuid().is_root() {
        println!("RESULT unit foreign-link skip needs root");
        return;
    }
    symlink("/etc/shadow", pool.file("planted")).unwrap();
    std::os::unix::fs::lchown(pool.file("planted"), Some(65534), None).unwrap();
    let listing = pool.list();
    assert_eq!((listing.volumes.len(), listing.skipped), (0, 1));
}

#[test]
fn what_a_guest_writes_changes_no_declared_format() {
    let pool = started();
    let disk = pool.create(&volume_def("disk", VolumeFormat::Raw, Some(1 << 20)));
    assert_eq!((disk.format, disk.format_source), (VolumeFormat::Raw, FormatSource::Declared));
    let planted = pool.base.path().join("planted");
    let options = ["create", "-q", "-u", "-f", "qcow2", "-F", "raw", "-b", "/etc/shadow"];
    run("qemu-img", &[&options[..], &[planted.to_str().unwrap(), "8G"]].concat());
    let header = std::fs::read(&planted).unwrap();
    std::os::unix::fs::FileExt::write_all_at(
        &std::fs::OpenOptions::new().write(true).open(pool.file("disk")).unwrap(),
        &header[..4096],
        0,
    )
    .unwrap();
    let disk = pool.volume("disk").unwrap();
    assert_eq!((disk.format, disk.capacity), (VolumeFormat::Raw, 1 << 20));
    assert_eq!(disk.backing(), None);

    // Another file of that name was declared by nobody; the first one, back again, was.
    std::fs::rename(pool.file("disk"), pool.file("aside")).unwrap();
    std::fs::write(pool.file("disk"), [0; 512]).unwrap();
    assert_eq!(pool.volume("disk").unwrap().format_source, FormatSource::Probed);
    std::fs::rename(pool.file("aside"), pool.file("disk")).unwrap();
    assert_eq!(pool.volume("disk").unwrap().format, VolumeFormat::Raw);
}

#[test]
fn a_renamed_volume_is_what_it_was_declared_to_be() {
    let pool = started();
    pool.create(&volume_def("disk", VolumeFormat::Raw, Some(1 << 20)));
    std::fs::rename(pool.file("disk"), pool.file("old")).unwrap();
    assert_eq!(pool.volume("old").unwrap().format_source, FormatSource::Declared);
    // Its old name declared of another file takes nothing from it.
    pool.create(&volume_def("disk", VolumeFormat::Raw, Some(1 << 20)));
    assert_eq!(pool.volume("old").unwrap().format_source, FormatSource::Declared);
    // A copy is another file.
    std::fs::copy(pool.file("old"), pool.file("copy")).unwrap();
    assert_eq!(pool.volume("copy").unwrap().format_source, FormatSource::Probed);
}

#[test]
fn what_was_declared_and_cannot_be_read_is_not_probed() {
    let pool = started();
    let image = pool.file("disk");
    let options = ["create", "-q", "-u", "-f", "qcow2", "-F", "raw", "-b", "/etc/shadow"];
    run("qemu-img", &[&options[..], &[image.to_str().unwrap(), "8G"]].concat());
    assert_eq!(pool.volume("disk").unwrap().format, VolumeFormat::Qcow2);
    pool.world.in_doubt.store(true, std::sync::atomic::Ordering::Relaxed);
    let disk = pool.volume("disk").unwrap();
    assert_eq!((disk.format, disk.backing()), (VolumeFormat::Raw, None));
    assert!(disk.incomplete.is_some());
    let resized = pool.backend.resize_volume(
        &pool.active,
        &disk,
        1 << 40,
        crate::backend::ResizeOptions::default(),
        &pool.ctx,
    );
    assert_eq!(resized.unwrap_err().kind(), ErrorKind::Conflict);
}

#[test]
fn a_refresh_ends_when_it_is_cancelled() {
    let pool = started();
    for n in 0..200 {
        std::fs::write(pool.file(&n.to_string()), "").unwrap();
    }
    pool.ctx.limits.cancel.cancel();
    let error = pool.backend.refresh(&pool.active, &pool.ctx).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Cancelled);
}

#[test]
#[ignore = "prints a time; run with --ignored --nocapture in a release build"]
fn refresh_of_ten_thousand_files_takes() {
    let pool = started();
    let image = pool.base.path().join("image");
    run("qemu-img", &["create", "-q", "-f", "qcow2", image.to_str().unwrap(), "1G"]);
    let header = std::fs::read(&image).unwrap();
    for n in 0..10_000 {
        std::fs::write(pool.file(&n.to_string()), &header[..512 * (1 + n % 2)]).unwrap();
    }
    for _ in 0..3 {
        let begin = std::time::Instant::now();
        let count = pool.list().volumes.len();
        let each = begin.elapsed().as_secs_f64() * 1e6 / count as f64;
        println!("RESULT bench refresh pass {count} files, {each:.2} µs each");
    }
}
