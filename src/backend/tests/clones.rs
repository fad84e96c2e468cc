//! Clones: what is copied how, and what of the source they keep.

use super::fixture::{Pool, run, started, volume_def};
use super::formats::{definition, encrypted, qemu_uses};
use crate::backend::{CloneSource, Finding, Preallocation, VolumeAccess};
use crate::image::formats;
use crate::model::*;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::sync::Arc;

const MIB: u64 = 1 << 20;

fn clone(pool: &Pool, from: &Volume, def: &VolumeDef) -> Result<Volume> {
    let access = VolumeAccess::ReadUnchanged;
    let io = pool.backend.open_volume(&pool.active, from, access, &pool.ctx)?;
    let source = CloneSource { pool: pool.def.uuid, volume: Arc::new(from.clone()), io };
    let made =
        pool.backend.clone_volume(&pool.active, def, &source, Preallocation::None, &pool.ctx)?;
    pool.world.known.lock().unwrap().push(Arc::new(made.clone()));
    Ok(made)
}

fn method(pool: &Pool) -> String {
    match pool.ctx.findings.take().remove("method") {
        Some(Finding::Text(word)) => word,
        other => panic!("{other:?}"),
    }
}

/// A definition that leaves all open.
fn open(name: &str) -> VolumeDef {
    VolumeDef::new(VolumeName::new(name).unwrap(), PoolType::Dir)
}

/// A raw volume with something at both ends and nothing between.
fn source(pool: &Pool) -> Volume {
    let volume = pool.create(&volume_def("source", VolumeFormat::Raw, Some(16 * MIB)));
    let file = std::fs::File::options().write(true).open(&*volume.path).unwrap();
    file.write_all_at(&[0xa5; 70_000], 0).unwrap();
    file.write_all_at(&[0x5a; 4096], 16 * MIB - 4096).unwrap();
    pool.volume("source").unwrap()
}

#[test]
fn a_copy_has_the_content_and_the_holes() {
    let pool = started();
    let from = source(&pool);
    let made = clone(&pool, &from, &open("copy")).unwrap();
    assert!(["copy", "reflink"].contains(&method(&pool).as_str()));
    assert_eq!((made.format, made.format_source), (VolumeFormat::Raw, FormatSource::Declared));
    assert!(std::fs::read(&*made.path).unwrap() == std::fs::read(&*from.path).unwrap());
    assert!(std::fs::metadata(&*made.path).unwrap().blocks() * 512 < MIB);
    let error = clone(&pool, &from, &open("copy")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Exists);
}

#[test]
fn content_survives_every_format_and_the_way_back() {
    let pool = started();
    let from = source(&pool);
    for info in formats::all().iter().filter(|info| info.creatable) {
        let name = format!("to-{}", info.format);
        let mut def = open(&name);
        def.format = Some(info.format);
        if info.format == VolumeFormat::Luks {
            def = encrypted(&pool, def);
        }
        let made = clone(&pool, &from, &def).unwrap();
        assert_eq!((made.format, made.capacity), (info.format, 16 * MIB));
        method(&pool);
        let mut back =
            VolumeDef { format: Some(VolumeFormat::Raw), ..open(&format!("{name}-back")) };
        if info.format == VolumeFormat::Luks {
            back.encryption = Some(Encryption::probed("none"));
        }
        let back = clone(&pool, &made, &back).unwrap();
        let raw = std::fs::read(&*back.path).unwrap();
        assert!(raw == std::fs::read(&*from.path).unwrap(), "{}", info.format);
        qemu_uses(&pool, &made, info);
    }
}

#[test]
fn a_clone_of_a_difference_stands_alone() {
    let pool = started();
    let base = source(&pool);
    let backing = BackingStore { path: base.path.to_string(), format: None, permissions: None };
    let def = VolumeDef { backing: Some(backing), ..volume_def("top", VolumeFormat::Qcow2, None) };
    let top = pool.create(&def);
    let made = clone(&pool, &top, &open("alone")).unwrap();
    assert_eq!((made.backing(), method(&pool).as_str()), (None, "convert"));
    let images = ["compare", "-f", "raw", "-F", "qcow2", &*base.path, &*made.path];
    run("qemu-img", &images);
}

#[test]
fn an_encrypted_image_is_copied_with_its_lock() {
    let pool = started();
    let def = encrypted(&pool, volume_def("locked", VolumeFormat::Qcow2, Some(MIB)));
    let made = clone(&pool, &pool.create(&def), &open("again")).unwrap();
    assert!(made.encrypted() && method(&pool) != "convert");
    qemu_uses(&pool, &made, formats::info(VolumeFormat::Qcow2).unwrap());
    let plain = VolumeDef { encryption: Some(Encryption::probed("none")), ..open("plain") };
    let plain = clone(&pool, &made, &plain).unwrap();
    assert!(!plain.encrypted());
    qemu_uses(&pool, &plain, formats::info(VolumeFormat::Qcow2).unwrap());
}

#[test]
fn what_a_guest_wrote_into_a_source_is_not_followed() {
    let pool = started();
    let secret = pool.base.path().join("secret");
    std::fs::write(&secret, "the host's secret").unwrap();
    let planted = |options: &[&str]| {
        let image = pool.base.path().join("planted");
        let at = image.to_str().unwrap();
        let create = [&["create", "-q", "-f", "qcow2", "-u"][..], options, &[at, "1M"]].concat();
        run("qemu-img", &create);
        std::fs::read(image).unwrap()
    };
    let at = secret.to_str().unwrap();
    let json = format!(
        "json:{{\"driver\":\"raw\",\"file\":{{\"driver\":\"file\",\"filename\":\"{at}\"}}}}"
    );
    for (number, backing) in [at, &json, "nbd://127.0.0.1:1/x", "../secret"].iter().enumerate() {
        let header = planted(&["-b", backing, "-F", "raw"]);
        let raw = pool.create(&volume_def(&format!("raw{number}"), VolumeFormat::Raw, Some(MIB)));
        std::fs::write(&*raw.path, &header).unwrap();
        let found = pool.volume(raw.name.as_str()).unwrap();
        assert_eq!(
            (found.format, found.content_format),
            (VolumeFormat::Raw, Some(VolumeFormat::Qcow2))
        );
        // Its bytes are copied as bytes, and converted as bytes.
        let copy = clone(&pool, &found, &open(&format!("copy{number}"))).unwrap();
        assert!(std::fs::read(&*copy.path).unwrap() == std::fs::read(&*raw.path).unwrap());
        let mut def = open(&format!("qcow2-{number}"));
        def.format = Some(VolumeFormat::Qcow2);
        let converted = clone(&pool, &found, &def).unwrap();
        assert_eq!((converted.backing(), converted.content_format), (None, None));

        let image = pool.create(&definition(&pool, &format!("image{number}"), VolumeFormat::Qcow2));
        std::fs::write(&*image.path, &header).unwrap();
        for format in [VolumeFormat::Raw, VolumeFormat::Qcow2] {
            let mut def = open("never");
            def.format = Some(format);
            let error = clone(&pool, &image, &def).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
        }
    }
    let descriptor = format!(
        "# Disk DescriptorFile\nversion=1\ncreateType=\"monolithicFlat\"\nRW 1 FLAT \"{at}\" 0\n"
    );
    let vmdk = pool.create(&volume_def("vmdk", VolumeFormat::Vmdk, Some(MIB)));
    std::fs::write(&*vmdk.path, descriptor).unwrap();
    let mut def = open("never");
    def.format = Some(VolumeFormat::Raw);
    assert_eq!(clone(&pool, &vmdk, &def).unwrap_err().kind(), ErrorKind::Conflict);
    for entry in pool.entries() {
        let content = std::fs::read(pool.file(&entry)).unwrap();
        let found = content.windows(17).any(|window| window == b"the host's secret");
        assert!(!found, "{entry}");
        assert!(entry != "never" && !entry.starts_with(".poold-"));
    }
}
