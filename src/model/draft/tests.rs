//! Drafts of definitions: what is filled in, what is refused.

use super::*;
use crate::model::{HostAddress, SourceDevice};

fn draft(pool_type: PoolType, name: &str) -> PoolDraft {
    PoolDraft { pool_type: Some(pool_type), name: Some(name.to_owned()), ..PoolDraft::default() }
}

fn host(name: &str) -> HostAddress {
    HostAddress { name: name.to_owned(), port: None }
}

fn of_volumes(draft: &mut PoolDraft, mode: u32) {
    draft.target_path = Some("/p".to_owned());
    draft.volume_permissions.mode = Some(mode);
}

fn device(path: &str) -> SourceDevice {
    SourceDevice { path: path.to_owned(), part_separator: None, free_extents: Vec::new() }
}

#[test]
fn a_volume_group_by_name_alone_is_a_pool() {
    let pool = draft(PoolType::Logical, "vg0").complete().unwrap();
    assert_eq!(pool.source.name.as_deref(), Some("vg0"));
    assert_eq!(pool.source.format.as_deref(), Some("lvm2"));
    assert_eq!(pool.target_path(), Some("/dev/vg0"));
}

#[test]
fn what_is_not_said_is_what_libvirt_takes() {
    let mut disk = draft(PoolType::Disk, "sda");
    disk.source.devices = vec![device("/dev//sda")];
    disk.target_path = Some("/dev/".to_owned());
    let disk = disk.complete().unwrap();
    assert_eq!(disk.source.format.as_deref(), Some("dos"));
    assert_eq!(disk.source.devices[0].path, "/dev/sda");
    assert_eq!(disk.target_path(), Some("/dev"));

    let mut gluster = draft(PoolType::Gluster, "unused");
    gluster.name = None;
    gluster.source.name = Some("volume".to_owned());
    gluster.source.hosts = vec![host("localhost")];
    let gluster = gluster.complete().unwrap();
    assert_eq!(gluster.name.as_str(), "volume");
    assert_eq!(gluster.source.dir.as_deref(), Some("/"));
    assert_eq!(gluster.target, None);

    let mut zfs = draft(PoolType::Zfs, "z");
    zfs.source.name = Some("tank/images".to_owned());
    zfs.target_path = Some("/elsewhere".to_owned());
    assert_eq!(zfs.complete().unwrap().target_path(), Some("/dev/zvol/tank/images"));
}

#[test]
fn definitions_that_mean_the_same_are_equal() {
    let mut one = draft(PoolType::Disk, "sda");
    one.uuid = Some(Uuid::nil());
    one.source.devices = vec![device("/dev/sda")];
    one.source.format = Some("unknown".to_owned());
    one.target_path = Some("/dev".to_owned());
    let mut other = one.clone();
    other.source.format = Some("dos".to_owned());
    other.target_path = Some("//dev/./".to_owned());
    assert_eq!(one.complete().unwrap(), other.complete().unwrap());
}

#[test]
fn a_definition_completed_twice_stays_as_it_is() {
    let mut netfs = draft(PoolType::NetFs, "n");
    netfs.source.hosts = vec![host("server")];
    netfs.source.dir = Some("//export/".to_owned());
    netfs.target_path = Some("/mnt".to_owned());
    let once = netfs.complete().unwrap();
    let twice = PoolDraft {
        pool_type: Some(once.pool_type),
        name: Some(once.name.to_string()),
        uuid: Some(once.uuid),
        source: once.source.clone(),
        target_path: once.target_path().map(str::to_owned),
        ..PoolDraft::default()
    };
    assert_eq!(twice.complete().unwrap(), once);
}

#[test]
fn what_is_missing_or_out_of_place_is_named() {
    type Change = fn(&mut PoolDraft);
    let cases: &[(PoolType, Change, &str)] = &[
        (PoolType::Dir, |_| {}, "target/path: is missing"),
        (PoolType::Dir, |d| d.target_path = Some("rel".into()), "target/path"),
        (PoolType::Dir, |d| d.target_path = Some("/a/../etc".into()), "target/path"),
        (PoolType::Dir, |d| d.target_path = Some("/a\nb".into()), "target/path: contains"),
        (PoolType::Dir, |d| d.source.dir = Some("/x".into()), "source/dir: is out of place"),
        (PoolType::Dir, |d| d.source.hosts.push(host("h")), "source/host: is out of place"),
        (PoolType::Fs, |d| d.target_path = Some("/t".into()), "source/device: is missing"),
        (PoolType::Fs, |d| d.source.devices.push(device("sda1")), "target/path: is missing"),
        (PoolType::NetFs, |d| d.source.hosts.push(host("h")), "source/dir: is missing"),
        (PoolType::Rbd, |d| d.source.hosts.push(host("h")), "source/name: is missing"),
        (PoolType::Rbd, |d| d.target_path = Some("/t".into()), "target/path: is out of place"),
        (PoolType::Logical, |d| d.source.name = Some("../etc".into()), "source/name"),
        (PoolType::Logical, |d| d.source.name = Some("..".into()), "source/name"),
        (PoolType::Zfs, |d| d.source.name = Some("a/../b".into()), "source/name"),
        (PoolType::Zfs, |d| d.source.devices.push(device("-f")), "source/device: \"-f\" begins"),
        (PoolType::Zfs, |d| d.permissions.mode = Some(0o10000), "target/permissions"),
        (PoolType::Dir, |d| of_volumes(d, 0o10000), "more than 07777"),
        (PoolType::Dir, |d| of_volumes(d, 0o4755), "set-user-ID"),
        (PoolType::Dir, |d| d.volume_permissions.label = Some("a\nb".into()), "control character"),
        (
            PoolType::Zfs,
            |d| d.volume_permissions.owner = Some(0),
            "volume-permissions: is out of place",
        ),
        (PoolType::Sheepdog, |d| d.source.hosts.push(host("-x")), "source/host: \"-x\" begins"),
        (PoolType::Sheepdog, |d| d.source.hosts.push(host("a b")), "source/host: \"a b\" is no"),
        (PoolType::Mpath, |d| d.mount_options.push("ro".into()), "mount_opts: is out of place"),
        (PoolType::Scsi, |_| {}, "source/adapter: is missing"),
        (PoolType::IscsiDirect, |_| {}, "source/host: is missing"),
        (PoolType::Vstorage, |d| d.name = None, "target/path: is missing"),
    ];
    for (pool_type, change, expected) in cases {
        let mut draft = draft(*pool_type, "p");
        change(&mut draft);
        let error = draft.complete().expect_err(expected);
        assert_eq!(error.kind(), ErrorKind::InvalidArgument);
        assert!(error.message().contains(expected), "{pool_type}: {error}");
    }
    let error = PoolDraft::default().complete().unwrap_err();
    assert!(error.message().contains("type is missing"), "{error}");
}
