//! Volumes of every format: made, opened by QEMU, resized, encrypted.

use super::fixture::{Pool, started, volume_def};
use crate::backend::{Preallocation, ResizeOptions};
use crate::image::formats::{self, FormatInfo};
use crate::model::*;
use std::process::Command;

const MIB: u64 = 1 << 20;
const PASSPHRASE: &str = "a, long=passphrase\n";

/// A definition that has all that its format needs.
pub(super) fn definition(pool: &Pool, name: &str, format: VolumeFormat) -> VolumeDef {
    let def = volume_def(name, format, Some(5 * MIB));
    match format {
        VolumeFormat::Luks => encrypted(pool, def),
        _ => def,
    }
}

pub(super) fn encrypted(pool: &Pool, mut def: VolumeDef) -> VolumeDef {
    let value = SecretValue::new(PASSPHRASE.into());
    pool.world.secrets.lock().unwrap().insert("key".to_owned(), value);
    let secrets = vec![SecretRef::Usage("key".to_owned())];
    def.encryption = Some(Encryption { secrets, ..Encryption::probed("luks") });
    def
}

/// Has QEMU open a volume for writing, write a pattern and read it again.
pub(super) fn qemu_uses(pool: &Pool, volume: &Volume, info: &FormatInfo) {
    let passphrase = pool.base.path().join("passphrase");
    std::fs::write(&passphrase, PASSPHRASE).unwrap();
    let mut image =
        format!("driver={},file.driver=file,file.filename={}", info.driver, volume.path);
    let key = match (volume.encrypted(), volume.format) {
        (false, _) => "",
        (true, VolumeFormat::Luks) => ",key-secret=s",
        (true, _) => ",encrypt.format=luks,encrypt.key-secret=s",
    };
    image.push_str(key);
    let said = Command::new("qemu-io")
        .args(["--object", &format!("secret,id=s,file={}", passphrase.display())])
        .args(["--image-opts", "-c", "write -P 9 64k 64k", "-c", "read -P 9 64k 64k", &image])
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&said.stdout);
    let errors = String::from_utf8_lossy(&said.stderr);
    assert!(said.status.success() && !text.contains("failed"), "{image}: {text}{errors}");
}

#[test]
fn every_format_that_qemu_makes_is_made_and_opened() {
    let pool = started();
    for info in formats::all() {
        let def = definition(&pool, &format!("v-{}", info.format), info.format);
        if !info.creatable {
            let error = pool.try_create(&def, Preallocation::None).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::NotSupported, "{error}");
            continue;
        }
        let volume = pool.create(&def);
        assert_eq!((volume.format, volume.capacity), (info.format, 5 * MIB), "{volume:?}");
        assert_eq!(volume.format_source, FormatSource::Declared);
        assert_eq!((volume.content_format, volume.mode), (None, Some(0o600)), "{}", volume.name);
        assert_eq!(volume.encrypted(), info.format == VolumeFormat::Luks);
        qemu_uses(&pool, &volume, info);
    }
    let made = formats::all().iter().filter(|info| info.creatable).count();
    assert_eq!(pool.entries().len(), made, "nothing is left over: {:?}", pool.entries());
}

#[test]
fn a_vmdk_names_itself() {
    let pool = started();
    pool.create(&volume_def("disk.vmdk", VolumeFormat::Vmdk, Some(MIB)));
    let bytes = std::fs::read(pool.file("disk.vmdk")).unwrap();
    let text = String::from_utf8_lossy(&bytes[512..2048]);
    assert!(text.contains("SPARSE \"disk.vmdk\""), "{text}");
}

#[test]
fn preallocation_is_what_the_format_can() {
    let pool = started();
    let modes = [Preallocation::Metadata, Preallocation::Falloc, Preallocation::Full];
    for info in formats::all().iter().filter(|info| info.creatable) {
        for how in modes {
            let name = format!("{}-{}", info.format, how.as_str());
            let made = pool.try_create(&definition(&pool, &name, info.format), how);
            match info.preallocations.contains(&how.as_str()) {
                true if how == Preallocation::Metadata => drop(made.unwrap()),
                true => assert!(made.unwrap().allocation >= 5 * MIB, "{name}"),
                false => {
                    assert_eq!(made.unwrap_err().kind(), ErrorKind::InvalidArgument, "{name}");
                }
            }
        }
    }
}

#[test]
fn capacities_change_where_qemu_can_change_them() {
    let pool = started();
    for info in formats::all().iter().filter(|info| info.creatable) {
        let volume = pool.create(&definition(&pool, &format!("v-{}", info.format), info.format));
        let resize = |volume: &Volume, capacity, shrink| {
            let options = ResizeOptions { shrink, ..ResizeOptions::default() };
            pool.backend.resize_volume(&pool.active, volume, capacity, options, &pool.ctx)
        };
        let mut volume = volume;
        for (can, capacity, shrink) in [(info.grows, 9 * MIB, false), (info.shrinks, 4 * MIB, true)]
        {
            match resize(&volume, capacity, shrink) {
                Ok(after) if can => {
                    assert_eq!(after.capacity, capacity, "{}", info.format);
                    volume = after;
                }
                Err(error) if !can => {
                    assert_eq!(error.kind(), ErrorKind::NotSupported, "{error}");
                }
                other => panic!("{} to {capacity}: {other:?}", info.format),
            }
        }
        qemu_uses(&pool, &volume, info);
    }
}

#[test]
fn qcow2_volumes_are_encrypted_and_grow() {
    let pool = started();
    let def = encrypted(&pool, volume_def("v", VolumeFormat::Qcow2, Some(5 * MIB)));
    let volume = pool.create(&def);
    let encryption = volume.image.as_ref().unwrap().encryption.clone().unwrap();
    assert_eq!((encryption.format.as_str(), encryption.secrets.len()), ("luks", 1));
    let options = ResizeOptions::default();
    let grown = pool.backend.resize_volume(&pool.active, &volume, 8 * MIB, options, &pool.ctx);
    let grown = grown.unwrap();
    assert_eq!(grown.capacity, 8 * MIB);
    qemu_uses(&pool, &grown, formats::info(VolumeFormat::Qcow2).unwrap());
    // A raw volume that is encrypted is a LUKS image.
    let raw = pool.create(&encrypted(&pool, volume_def("r", VolumeFormat::Raw, Some(MIB))));
    assert_eq!((raw.format, raw.capacity, raw.encrypted()), (VolumeFormat::Luks, MIB, true));
}

#[test]
fn encryption_that_cannot_be_is_refused() {
    let pool = started();
    let refused = |def: VolumeDef, kind| {
        let error = pool.try_create(&def, Preallocation::None).unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
        assert!(pool.entries().is_empty());
    };
    let def = |format| encrypted(&pool, volume_def("v", format, Some(MIB)));
    refused(def(VolumeFormat::Vdi), ErrorKind::InvalidArgument);
    refused(volume_def("v", VolumeFormat::Luks, Some(MIB)), ErrorKind::InvalidArgument);
    let with = |format: &str, secrets: Vec<SecretRef>| {
        let encryption = Encryption { secrets, ..Encryption::probed(format) };
        VolumeDef {
            encryption: Some(encryption),
            ..volume_def("v", VolumeFormat::Qcow2, Some(MIB))
        }
    };
    refused(with("luks", vec![]), ErrorKind::InvalidArgument);
    refused(with("qcow", vec![]), ErrorKind::NotSupported);
    refused(with("rot13", vec![]), ErrorKind::InvalidArgument);
    refused(with("luks", vec![SecretRef::Usage("unknown".to_owned())]), ErrorKind::NotFound);
    for bytes in [&b"zero\0byte"[..], b"\xff\xfe", b""] {
        let value = SecretValue::new(bytes.to_vec());
        let def = def(VolumeFormat::Qcow2);
        pool.world.secrets.lock().unwrap().insert("key".to_owned(), value);
        refused(def, ErrorKind::InvalidArgument);
    }
}

#[test]
fn differences_of_other_formats_name_their_base() {
    let pool = started();
    let base = pool.create(&volume_def("base", VolumeFormat::Raw, Some(6 * MIB)));
    for format in [VolumeFormat::Qcow, VolumeFormat::Qed] {
        let backing = BackingStore { path: base.path.to_string(), format: None, permissions: None };
        let def = VolumeDef { backing: Some(backing), ..volume_def(format.as_str(), format, None) };
        let volume = pool.create(&def);
        assert_eq!(volume.capacity, 6 * MIB);
        assert_eq!(volume.backing().unwrap().path, *base.path);
    }
    let backing = BackingStore { path: base.path.to_string(), format: None, permissions: None };
    let def = VolumeDef { backing: Some(backing), ..volume_def("x", VolumeFormat::Vdi, None) };
    let error = pool.try_create(&def, Preallocation::None).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument);
}
