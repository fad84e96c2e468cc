//! Uploads, downloads and open volumes.

use super::fixture::{Pool, run, started, volume_def};
use crate::backend::{Finding, Peer, TransferOptions, VolumeAccess, VolumeIo, download, upload};
use crate::host::Limits;
use crate::model::*;
use std::fs::File;
use std::io::{Read, Seek, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::os::unix::net::UnixStream;
use std::time::Duration;

const MIB: u64 = 1 << 20;

/// Bytes without a pattern.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_u32;
    let next = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state as u8
    };
    std::iter::repeat_with(next).take(length).collect()
}

fn file_of(bytes: &[u8]) -> File {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    file.rewind().unwrap();
    file
}

fn put(
    pool: &Pool,
    volume: &Volume,
    from: impl Into<OwnedFd>,
    how: TransferOptions,
) -> Result<Volume> {
    upload(&*pool.backend, &pool.active, volume, Peer::source(from.into())?, how, &pool.ctx)
}

fn get(pool: &Pool, volume: &Volume, to: impl Into<OwnedFd>, how: TransferOptions) -> Result<()> {
    download(&*pool.backend, &pool.active, volume, Peer::destination(to.into())?, how, &pool.ctx)
}

fn raw(pool: &Pool, name: &str, capacity: u64) -> Volume {
    pool.create(&volume_def(name, VolumeFormat::Raw, Some(capacity)))
}

#[test]
fn a_file_goes_in_and_comes_out() {
    let pool = started();
    let volume = raw(&pool, "v", 3 * MIB);
    let content = noise(3 << 20);
    let after = put(&pool, &volume, file_of(&content), TransferOptions::default()).unwrap();
    assert_eq!(after.incomplete, None);
    assert_eq!(after.format_source, FormatSource::Declared);
    assert!(std::fs::read(pool.file("v")).unwrap() == content);
    assert_eq!(pool.ctx.findings.take()["bytes"], Finding::Number(3 * MIB));
    assert_eq!(pool.ctx.progress.get(), (3 * MIB, 3 * MIB));

    let mut out = tempfile::tempfile().unwrap();
    get(&pool, &volume, out.try_clone().unwrap(), TransferOptions::default()).unwrap();
    assert_eq!(out.stream_position().unwrap(), 3 * MIB, "its client goes on behind it");
    out.rewind().unwrap();
    let mut read = Vec::new();
    out.read_to_end(&mut read).unwrap();
    assert!(read == content);
}

#[test]
fn a_part_goes_where_it_is_said() {
    let pool = started();
    let volume = raw(&pool, "v", 4096);
    let mut source = file_of(b"0123456789");
    source.seek(std::io::SeekFrom::Start(2)).unwrap();
    let part = TransferOptions { offset: 100, length: Some(5), ..TransferOptions::default() };
    put(&pool, &volume, source.try_clone().unwrap(), part).unwrap();
    assert_eq!(source.stream_position().unwrap(), 7);
    let content = std::fs::read(pool.file("v")).unwrap();
    assert_eq!((&content[99..106], content.len()), (&b"\x0023456\0"[..], 4096));
    let (mut ours, theirs) = UnixStream::pair().unwrap();
    get(&pool, &volume, theirs, TransferOptions { offset: 101, length: Some(3), ..part }).unwrap();
    let mut read = Vec::new();
    ours.read_to_end(&mut read).unwrap();
    assert_eq!(read, b"345");
}

#[test]
fn pipes_and_sockets_carry_more_than_they_hold() {
    let pool = started();
    let volume = raw(&pool, "v", 5 * MIB);
    let content = noise(5 << 20);
    let (reader, mut writer) = std::io::pipe().unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| writer.write_all(&content).map(|()| drop(writer)).unwrap());
        put(&pool, &volume, reader, TransferOptions::default()).unwrap();
    });
    assert!(std::fs::read(pool.file("v")).unwrap() == content);
    let (mut reader, writer) = std::io::pipe().unwrap();
    let mut read = Vec::new();
    std::thread::scope(|scope| {
        scope.spawn(|| reader.read_to_end(&mut read).unwrap());
        get(&pool, &volume, writer, TransferOptions::default()).unwrap();
    });
    assert!(read == content);
    let other = raw(&pool, "w", 5 * MIB);
    let (mut ours, theirs) = UnixStream::pair().unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| ours.write_all(&content).map(|()| drop(ours)).unwrap());
        put(&pool, &other, theirs, TransferOptions::default()).unwrap();
    });
    assert!(std::fs::read(pool.file("w")).unwrap() == content);
}

#[test]
fn holes_stay_holes_only_when_asked() {
    let pool = started();
    let source = tempfile::tempfile_in(pool.base.path()).unwrap();
    source.set_len(16 * MIB).unwrap();
    source.write_all_at(b"begin", 0).unwrap();
    source.write_all_at(b"end", 12 * MIB).unwrap();
    let image = noise(16 << 20);
    for sparse in [true, false] {
        let volume = raw(&pool, if sparse { "s" } else { "f" }, 16 * MIB);
        std::fs::write(&*volume.path, &image).unwrap();
        let how = TransferOptions { sparse, ..TransferOptions::default() };
        put(&pool, &volume, source.try_clone().unwrap(), how).unwrap();
        (&source).rewind().unwrap();
        let mut expected = vec![0; 16 << 20];
        expected[..5].copy_from_slice(b"begin");
        expected[12 << 20..(12 << 20) + 3].copy_from_slice(b"end");
        assert!(std::fs::read(&*volume.path).unwrap() == expected, "sparse {sparse}");
        let taken = std::fs::metadata(&*volume.path).unwrap().blocks() * 512;
        assert_eq!(taken < MIB, sparse, "{taken} bytes are taken");

        let out = tempfile::tempfile_in(pool.base.path()).unwrap();
        get(&pool, &volume, out.try_clone().unwrap(), TransferOptions { sparse: true, ..how })
            .unwrap();
        let (mut read, mut again) = (Vec::new(), out.try_clone().unwrap());
        again.rewind().unwrap();
        again.read_to_end(&mut read).unwrap();
        assert!(read == expected);
        assert_eq!(out.metadata().unwrap().blocks() * 512 < MIB, sparse);
    }
}

#[test]
fn what_does_not_fit_is_refused_before_anything_is_written() {
    let pool = started();
    let volume = raw(&pool, "v", 10);
    std::fs::write(&*volume.path, b"old bytes!").unwrap();
    let refused = |options, source: File| {
        let error = put(&pool, &volume, source, options).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{error}");
        assert_eq!(std::fs::read(&*volume.path).unwrap(), b"old bytes!");
        assert_eq!(pool.volume("v").unwrap().incomplete, None);
    };
    let plain = TransferOptions::default();
    refused(plain, file_of(&[1; 11]));
    refused(TransferOptions { offset: 1, ..plain }, file_of(&[1; 10]));
    refused(TransferOptions { offset: 11, ..plain }, file_of(&[1; 1]));
    refused(TransferOptions { length: Some(5), ..plain }, file_of(&[1; 4]));
    refused(plain, File::options().read(true).write(true).open(&*volume.path).unwrap());
    let beyond = TransferOptions { offset: 4, length: Some(7), ..plain };
    let error = get(&pool, &volume, tempfile::tempfile().unwrap(), beyond).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument);
}

#[test]
fn descriptors_of_the_wrong_kind_are_refused() {
    let kind = |result: Result<Peer>| result.err().map(|error| error.kind());
    let wrong = Some(ErrorKind::InvalidArgument);
    let open = |path: &str| OwnedFd::from(File::open(path).unwrap());
    assert_eq!(kind(Peer::source(open("/dev/zero"))), wrong);
    assert_eq!(kind(Peer::source(open("/tmp"))), wrong);
    assert_eq!(kind(Peer::destination(open("/proc/self/exe"))), wrong, "it is open for reading");
    let file = tempfile::NamedTempFile::new().unwrap();
    let write_only = File::options().write(true).open(file.path()).unwrap();
    assert_eq!(kind(Peer::source(write_only.into())), wrong);
    let appending = File::options().append(true).open(file.path()).unwrap();
    assert_eq!(kind(Peer::destination(appending.into())), wrong);
    let (one, _other) = std::os::unix::net::UnixDatagram::pair().unwrap();
    assert_eq!(kind(Peer::source(one.into())), wrong);
    let (reader, writer) = std::io::pipe().unwrap();
    assert_eq!(kind(Peer::destination(reader.into())), wrong);
    assert_eq!(kind(Peer::source(writer.into())), wrong);
}

#[test]
fn a_source_that_fails_half_way_leaves_a_volume_incomplete_until_it_is_written_whole() {
    let pool = started();
    let volume = raw(&pool, "v", 4 * MIB);
    let (reader, mut writer) = std::io::pipe().unwrap();
    writer.write_all(&[7; 1000]).unwrap();
    let short = TransferOptions { idle: Duration::from_millis(1), ..TransferOptions::default() };
    let error = put(&pool, &volume, reader, short).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TimedOut, "{error}");
    let found = pool.volume("v").unwrap();
    assert!(found.incomplete.is_some());
    let plain = TransferOptions::default();
    let found = put(&pool, &found, file_of(&[1; 100]), plain).unwrap();
    assert!(found.incomplete.is_some(), "a part does not make it whole");
    let found = put(&pool, &found, file_of(&noise(4 << 20)), plain).unwrap();
    assert_eq!((found.incomplete, found.format_source), (None, FormatSource::Declared));
}

#[test]
fn a_stream_that_has_more_than_fits_fails() {
    let pool = started();
    let volume = raw(&pool, "v", 1000);
    let (reader, mut writer) = std::io::pipe().unwrap();
    writer.write_all(&[7; 1001]).unwrap();
    drop(writer);
    let error = put(&pool, &volume, reader, TransferOptions::default()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{error}");
    assert!(pool.volume("v").unwrap().incomplete.is_some());
    assert_eq!(std::fs::metadata(&*volume.path).unwrap().len(), 1000);
}

#[test]
fn an_image_file_becomes_what_is_written_into_it() {
    let pool = started();
    let volume = pool.create(&volume_def("v", VolumeFormat::Qcow2, Some(MIB)));
    let image = pool.base.path().join("image");
    let at = image.to_str().unwrap();
    run("qemu-img", &["create", "-q", "-f", "qcow2", at, "7M"]);
    run("qemu-io", &["-f", "qcow2", "-c", "write -P 5 0 3M", at]);
    let source = File::open(&image).unwrap();
    let found = put(&pool, &volume, source, TransferOptions::default()).unwrap();
    assert_eq!((found.capacity, found.format), (7 * MIB, VolumeFormat::Qcow2));
    assert_eq!(found.physical, std::fs::metadata(&image).unwrap().len());
    run("qemu-img", &["create", "-q", "-f", "qcow2", at, "2M"]);
    let source = File::open(&image).unwrap();
    let found = put(&pool, &found, source, TransferOptions::default()).unwrap();
    assert_eq!(
        (found.capacity, found.physical),
        (2 * MIB, std::fs::metadata(&image).unwrap().len())
    );
}

#[test]
fn a_found_file_stays_a_found_file() {
    let pool = started();
    std::fs::write(pool.file("v"), [1; 4096]).unwrap();
    let volume = pool.volume("v").unwrap();
    let found = put(&pool, &volume, file_of(&[2; 4096]), TransferOptions::default()).unwrap();
    assert_eq!((found.format_source, found.incomplete), (FormatSource::Probed, None));
}

#[test]
fn a_cancel_is_heard_while_nothing_comes() {
    let pool = started();
    let volume = raw(&pool, "v", 1000);
    let (reader, _writer) = std::io::pipe().unwrap();
    let mut ctx = pool.ctx.clone();
    ctx.limits = Limits::default();
    let cancel = ctx.limits.cancel.clone();
    let error = std::thread::scope(|scope| {
        let source = Peer::source(reader.into()).unwrap();
        let options = TransferOptions::default();
        let (pool, volume) = (&pool, &volume);
        let thread = scope.spawn(move || {
            upload(&*pool.backend, &pool.active, volume, source, options, &ctx).unwrap_err()
        });
        std::thread::sleep(Duration::from_millis(20));
        cancel.cancel();
        thread.join().unwrap()
    });
    assert_eq!(error.kind(), ErrorKind::Cancelled);
}

#[test]
fn an_open_volume_is_locked_as_its_use_demands() {
    let pool = started();
    let volume = raw(&pool, "v", 4096);
    let open = |access| pool.backend.open_volume(&pool.active, &volume, access, &pool.ctx);
    let busy = |result: Result<VolumeIo>| {
        assert_eq!(result.map(drop).unwrap_err().kind(), ErrorKind::Busy);
    };
    let write = VolumeAccess::Write { force: false };
    let first = open(VolumeAccess::Read).unwrap();
    open(VolumeAccess::ReadUnchanged).unwrap();
    busy(open(write));
    drop(first);
    let writer = open(write).unwrap().into_file();
    busy(open(write));
    busy(open(VolumeAccess::ReadUnchanged));
    open(VolumeAccess::Write { force: true }).unwrap();
    assert_eq!(pool.delete(&volume, false).unwrap_err().kind(), ErrorKind::Busy);
    let qemu = std::process::Command::new("qemu-io")
        .args(["-f", "raw", "-c", "read 0 512", &volume.path])
        .output()
        .unwrap();
    assert!(!qemu.status.success(), "what a client has open for writing is locked");
    drop(writer);
    open(write).unwrap();

    let unchanged = open(VolumeAccess::ReadUnchanged).unwrap();
    let qemu_io = |options: &[&str]| {
        let mut command = std::process::Command::new("qemu-io");
        command.args(options).args(["-f", "raw", "-c", "length", &volume.path]).output().unwrap()
    };
    assert!(qemu_io(&["-r"]).status.success(), "readers go together");
    assert!(!qemu_io(&[]).status.success(), "a writer does not join them");
    drop(unchanged);
    std::fs::create_dir(pool.file("d")).unwrap();
    let directory = pool.volume("d").unwrap();
    let error = pool
        .backend
        .open_volume(&pool.active, &directory, VolumeAccess::Read, &pool.ctx)
        .map(drop)
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotSupported);
}
