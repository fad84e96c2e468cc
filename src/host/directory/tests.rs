use super::*;
use std::io::Write;

fn place() -> (tempfile::TempDir, Directory) {
    let base = tempfile::tempdir().unwrap();
    let directory = Directory::open(base.path()).unwrap();
    (base, directory)
}

#[test]
fn nothing_outside_the_directory_can_be_named() {
    let (base, directory) = place();
    std::fs::create_dir(base.path().join("sub")).unwrap();
    std::fs::write(base.path().join("sub/file"), "").unwrap();
    std::os::unix::fs::symlink("/etc/passwd", base.path().join("link")).unwrap();
    for name in ["", ".", "..", "sub/file", "../x", "/etc/passwd", "a\0b"] {
        assert!(directory.open_file(name, Access::Read).is_err(), "{name:?}");
        assert!(directory.unlink(name).is_err(), "{name:?}");
        if let Ok(name) = CString::new(name) {
            assert!(directory.open_entry(&name, Access::Read).is_err(), "{name:?}");
        }
        assert!(directory.find(name).is_err(), "{name:?}");
    }
    let error = directory.open_file("link", Access::Read).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::ELOOP));
    assert!(directory.find("link").unwrap().unwrap().kind.is_symlink());
}

#[test]
fn a_file_appears_whole_or_not_at_all_with_and_without_files_that_have_no_name() {
    let (base, directory) = place();
    for create in [Directory::create_temporary, Directory::create_hidden] {
        let new = create(&directory).unwrap();
        new.file().write_all(b"whole").unwrap();
        drop(create(&directory).unwrap());
        directory.sweep().unwrap();
        new.publish("file").unwrap();
        let taken = create(&directory).unwrap().publish("file").unwrap_err();
        assert_eq!(taken.raw_os_error(), Some(libc::EEXIST));
        assert_eq!(std::fs::read(base.path().join("file")).unwrap(), b"whole");
        assert_eq!(std::fs::read_dir(base.path()).unwrap().count(), 1);
        directory.unlink("file").unwrap();
    }
}

#[test]
fn a_name_that_cannot_be_synced_is_taken_back() {
    let (base, directory) = place();
    // A handle (O_PATH): it makes and names files but cannot sync.
    let fd = rustix::fs::openat(&directory, c".", OFlags::PATH, Mode::empty()).unwrap();
    let handle = Directory { fd, stat: directory.stat };
    for create in [Directory::create_temporary, Directory::create_hidden] {
        create(&handle).unwrap().publish("file").unwrap_err();
    }
    handle.create_temporary_directory().unwrap().publish("sub").unwrap_err();
    assert_eq!(std::fs::read_dir(base.path()).unwrap().count(), 0);
}

#[test]
fn a_directory_with_files_goes_whole_and_one_with_directories_stays() {
    let (base, directory) = place();
    for name in ["files", "nested"] {
        std::fs::create_dir(base.path().join(name)).unwrap();
        std::fs::write(base.path().join(name).join("file"), "x").unwrap();
    }
    std::fs::create_dir(base.path().join("nested/inner")).unwrap();
    directory.remove_with_files("files").unwrap();
    assert!(!base.path().join("files").exists());
    let error = directory.remove_with_files("nested").unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::ENOTEMPTY));
    assert!(base.path().join("nested/file").exists());
    assert_eq!(std::fs::read_dir(base.path()).unwrap().count(), 1, "nothing else is left");
    // One that died in the making is swept with what is in it.
    let left = base.path().join(format!("{HIDDEN_PREFIX}{:032x}", 7));
    std::fs::create_dir(&left).unwrap();
    std::fs::write(left.join("file"), "x").unwrap();
    directory.sweep().unwrap();
    assert!(!left.exists());
    // And what is given up goes with it.
    let new = directory.create_temporary_directory().unwrap();
    std::fs::write(new.made().canonical_path().unwrap().join("file"), "x").unwrap();
    drop(new);
    assert_eq!(std::fs::read_dir(base.path()).unwrap().count(), 1);
}

#[test]
fn a_renamed_file_is_the_same_and_a_copy_is_not() {
    let (base, directory) = place();
    std::fs::write(base.path().join("a"), "x").unwrap();
    let identity = super::super::files::identity(File::open(base.path().join("a")).unwrap());
    let identity = identity.unwrap();
    let is = |name: &str, identity: &crate::model::FileIdentity| {
        let file = directory.open_file(name, Access::Read).unwrap();
        let handle = || super::super::files::kernel_handle(&file);
        FileStat::of(&file).unwrap().is(identity, handle)
    };
    std::fs::rename(base.path().join("a"), base.path().join("b")).unwrap();
    std::fs::copy(base.path().join("b"), base.path().join("a")).unwrap();
    assert!(is("b", &identity));
    assert!(!is("a", &identity));
    let nameless = crate::model::FileIdentity { birth: None, ..identity };
    if nameless.handle.is_some() {
        assert!(is("b", &nameless));
        let other = crate::model::FileIdentity { handle: Some(vec![1]), ..nameless };
        assert!(!is("b", &other));
    }
}
