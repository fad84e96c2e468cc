//! Defining, building, starting, replacing and deleting the directory.

use super::fixture::{defined, started, volume_def};
use crate::backend::{Activation, BuildMode, Listing, StopOptions};
use crate::model::*;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::sync::Arc;

#[test]
fn a_pool_is_built_with_the_default_mode_and_its_parents() {
    let mut pool = defined();
    let deep = pool.base.path().join("a/b/pool");
    let mut def = (*pool.def).clone();
    def.target = Some(Target { path: deep.to_str().unwrap().to_owned(), permissions: None });
    pool.def = Arc::new(def);
    assert_eq!(pool.backend.start(&pool.def, &pool.ctx).unwrap_err().kind(), ErrorKind::NotBuilt);
    pool.backend.build(&pool.def, BuildMode::KeepData, &pool.ctx).unwrap();
    let mode = |path: &std::path::Path| path.metadata().unwrap().mode() & 0o7777;
    assert_eq!(mode(&deep), 0o711);
    assert_eq!(mode(deep.parent().unwrap()), 0o755);
    pool.start();
    pool.backend.stop(&pool.active, StopOptions::default(), &pool.ctx).unwrap();

    // A job that dies now would be undone by its journal.
    for undo in pool.world.journal.lock().unwrap().iter().rev() {
        undo.apply(&crate::host::SystemHost, &*pool.world).unwrap();
    }
    assert!(!pool.base.path().join("a").exists());
}

#[test]
fn a_directory_that_exists_keeps_its_mode_unless_the_definition_states_one() {
    let pool = defined();
    std::fs::create_dir(pool.path()).unwrap();
    let set = |mode| {
        std::fs::set_permissions(pool.path(), std::fs::Permissions::from_mode(mode)).unwrap();
    };
    set(0o750);
    pool.backend.build(&pool.def, BuildMode::KeepData, &pool.ctx).unwrap();
    assert_eq!(pool.path().metadata().unwrap().mode() & 0o7777, 0o750);
    let mut def = (*pool.def).clone();
    let stated = Permissions { mode: Some(0o700), ..Permissions::default() };
    def.target.as_mut().unwrap().permissions = Some(stated);
    pool.backend.build(&def, BuildMode::KeepData, &pool.ctx).unwrap();
    assert_eq!(pool.path().metadata().unwrap().mode() & 0o7777, 0o700);
    assert!(pool.world.journal.lock().unwrap().is_empty());
}

#[test]
fn a_system_directory_is_no_pool_even_behind_a_link() {
    let pool = defined();
    std::os::unix::fs::symlink("/etc", pool.path()).unwrap();
    for error in [
        pool.backend.start(&pool.def, &pool.ctx).unwrap_err(),
        pool.backend.build(&pool.def, BuildMode::KeepData, &pool.ctx).unwrap_err(),
        pool.backend.delete(&pool.def, true, &pool.ctx).unwrap_err(),
    ] {
        assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{error}");
    }
}

#[test]
fn a_directory_on_another_mount_must_prove_by_its_birth_that_it_is_the_same() {
    let mut pool = started();
    let started = pool.active.activation.clone();
    let mut list = |activation: Activation| {
        pool.active.activation = activation;
        pool.backend.refresh(&pool.active, &pool.ctx)
    };
    let elsewhere = Activation { mount_id: Some(u64::MAX), ..started.clone() };
    let inaccessible = |result: Result<Listing>| {
        let error = result.expect_err("it is not known to be the same");
        assert_eq!(error.kind(), ErrorKind::Inaccessible, "{error}");
        error
    };
    let unproven = inaccessible(list(Activation { born: None, ..elsewhere.clone() }));
    assert!(unproven.message().contains("another mount"), "{unproven}");
    let born_later = started.born.map(|(seconds, nanoseconds)| (seconds + 1, nanoseconds));
    if born_later.is_none() {
        println!("RESULT unit remounted-directory skip this file system keeps no birth times");
        return;
    }
    inaccessible(list(Activation { born: born_later, ..elsewhere.clone() }));
    let reused = inaccessible(list(Activation { born: born_later, ..started }));
    assert!(reused.message().contains("replaced"), "{reused}");
    list(elsewhere).unwrap();
}

#[test]
fn a_directory_that_was_replaced_is_inaccessible() {
    let pool = started();
    pool.create(&volume_def("v", VolumeFormat::Raw, Some(4096)));
    let elsewhere = pool.base.path().join("elsewhere");
    std::fs::rename(pool.path(), &elsewhere).unwrap();
    let refused = || pool.backend.refresh(&pool.active, &pool.ctx).unwrap_err();
    assert_eq!(refused().kind(), ErrorKind::Inaccessible);
    std::os::unix::fs::symlink("/etc", pool.path()).unwrap();
    assert_eq!(refused().kind(), ErrorKind::Inaccessible);
    std::fs::remove_file(pool.path()).unwrap();
    std::fs::create_dir(pool.path()).unwrap();
    assert_eq!(refused().kind(), ErrorKind::Inaccessible);
    let def = volume_def("w", VolumeFormat::Raw, Some(4096));
    let error = pool.try_create(&def, Default::default()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Inaccessible);
    assert!(pool.entries().is_empty());
    std::fs::remove_dir(pool.path()).unwrap();
    std::fs::rename(&elsewhere, pool.path()).unwrap();
    assert_eq!(pool.names(), ["v"]);
}

#[test]
fn deleting_a_pool_takes_its_volumes_only_when_told() {
    let pool = started();
    pool.create(&volume_def("v", VolumeFormat::Raw, Some(4096)));
    let error = pool.backend.delete(&pool.def, false, &pool.ctx).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Busy, "{error}");
    assert_eq!(pool.names(), ["v"]);
    pool.backend.delete(&pool.def, true, &pool.ctx).unwrap();
    assert!(!pool.path().exists());
    assert!(pool.world.declared.lock().unwrap().is_empty());
    pool.backend.delete(&pool.def, true, &pool.ctx).unwrap();
}

#[test]
fn deleting_a_pool_leaves_what_is_no_volume() {
    let pool = started();
    pool.create(&volume_def("v", VolumeFormat::Raw, Some(4096)));
    nix::unistd::mkfifo(&pool.file("fifo"), nix::sys::stat::Mode::S_IRUSR).unwrap();
    let error = pool.backend.delete(&pool.def, true, &pool.ctx).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Busy, "{error}");
    assert_eq!(pool.entries(), ["fifo"]);
}

#[test]
fn copy_on_write_that_must_go_and_cannot_is_said() {
    let pool = defined();
    let btrfs = rustix::fs::statfs(pool.base.path()).unwrap().f_type == 0x9123_683e;
    if btrfs {
        println!("RESULT unit cow-refused skip the temporary directory is on btrfs");
        return;
    }
    let build = |cow| {
        let mut def = (*pool.def).clone();
        def.features.cow = cow;
        pool.backend.build(&def, BuildMode::KeepData, &pool.ctx)
    };
    let refusal = |result: Result<()>| result.unwrap_err().kind();
    assert_eq!(refusal(build(Some(false))), ErrorKind::NotSupported);
    for undo in pool.world.journal.lock().unwrap().iter().rev() {
        undo.apply(&crate::host::SystemHost, &*pool.world).unwrap();
    }
    assert!(!pool.path().exists());
    build(None).unwrap();
    build(Some(true)).unwrap();
    assert_eq!(refusal(build(Some(false))), ErrorKind::NotSupported);
}
