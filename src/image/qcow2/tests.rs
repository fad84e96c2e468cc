//! Images as written here against those of qemu-img.

use super::*;
use crate::model::{ErrorKind, Result};
use proptest::prelude::*;
use serde_json::Value;
use std::fs::File;
use std::path::Path;
use std::process::Command;

fn spec(capacity: u64, cluster_size: u64, version: Version) -> Spec {
    Spec {
        capacity,
        cluster_size,
        version,
        lazy_refcounts: false,
        extended_l2: false,
        backing: None,
        mapped: false,
    }
}

/// The largest image there can be.
const MOST: u64 = 2 << 60;

fn write(spec: &Spec, path: &Path) -> Result<Layout> {
    let layout = Layout::plan(spec)?;
    let file = File::create(path).unwrap();
    layout.write(&file, &mut |_| Ok(()), &|error| panic!("{error}"))?;
    Ok(layout)
}

fn qemu_img(args: &[&str]) -> String {
    let out = Command::new("qemu-img").args(args).output().unwrap();
    let errors = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success(), "qemu-img {args:?}: {errors}");
    String::from_utf8(out.stdout).unwrap()
}

fn check(path: &Path) {
    qemu_img(&["check", "-q", "-f", "qcow2", path.to_str().unwrap()]);
}

/// What qemu-img says of an image, but for its name and what it takes.
fn info(path: &Path) -> Value {
    let said = qemu_img(&["info", "--output=json", "-f", "qcow2", path.to_str().unwrap()]);
    let mut info: Value = serde_json::from_str(&said).unwrap();
    let fields = info.as_object_mut().unwrap();
    for volatile in ["filename", "actual-size", "children"] {
        fields.remove(volatile);
    }
    info
}

fn options(spec: &Spec) -> String {
    let compat = if spec.version == Version::V2 { "0.10" } else { "1.1" };
    let mut options = format!("compat={compat},cluster_size={}", spec.cluster_size);
    if spec.lazy_refcounts {
        options += ",lazy_refcounts=on";
    }
    if spec.extended_l2 {
        options += ",extended_l2=on";
    }
    options
}

/// Writes the image, and lets qemu-img create the same: both are clean and alike.
fn assert_like_qemu(spec: &Spec) {
    let base = tempfile::tempdir().unwrap();
    let (ours, theirs) = (base.path().join("ours"), base.path().join("theirs"));
    write(spec, &ours).unwrap();
    check(&ours);
    let theirs_name = theirs.to_str().unwrap();
    let capacity = spec.capacity.to_string();
    let mut args = vec!["create", "-q", "-u", "-f", "qcow2"];
    if let Some((name, format)) = &spec.backing {
        args.extend(["-b", name, "-F", format]);
    }
    let options = options(spec);
    args.extend(["-o", &options, theirs_name, &capacity]);
    qemu_img(&args);
    assert_eq!(info(&ours), info(&theirs), "{spec:?}");
    let header = std::fs::read(&ours).unwrap();
    let image = Qcow2::parse(&header[..header.len().min(4096)]).unwrap();
    assert_eq!(image.header.capacity, spec.capacity.next_multiple_of(512));
}

/// The image is clean and as large as asked; qemu-img takes seconds to create such small clusters.
fn assert_clean(spec: &Spec) {
    let base = tempfile::tempdir().unwrap();
    let path = base.path().join("image");
    write(spec, &path).unwrap();
    check(&path);
    assert_eq!(info(&path)["virtual-size"], spec.capacity.next_multiple_of(512));
}

#[test]
fn images_are_clean_and_like_qemus_for_any_capacity_and_cluster() {
    let capacities = [1, 511, 512, 513, 65_537, 1 << 20, (10 << 30) + 512, 1 << 40, 2 << 50];
    for version in [Version::V2, Version::V3] {
        for cluster in [MIN_CLUSTER, 4096, DEFAULT_CLUSTER, MAX_CLUSTER] {
            for capacity in capacities {
                let spec = spec(capacity, cluster, version);
                match Layout::plan(&spec) {
                    Ok(layout) if layout.file_size() < 1 << 20 => assert_like_qemu(&spec),
                    Ok(_) => assert_clean(&spec),
                    Err(_) => assert!(cluster < DEFAULT_CLUSTER && capacity >= 1 << 40),
                }
            }
        }
    }
    assert_like_qemu(&spec(MOST, MAX_CLUSTER, Version::V3));
    assert_like_qemu(&spec(8 << 50, 128 << 10, Version::V2));
    assert_like_qemu(&Spec { extended_l2: true, ..spec(MOST / 2, MAX_CLUSTER, Version::V3) });
    // The largest first-level tables of the smallest clusters need several blocks and tables.
    assert_clean(&spec(128 << 30, MIN_CLUSTER, Version::V3));
    assert_clean(&spec((8 << 40) - 1, 4096, Version::V3));
}

#[test]
fn options_are_those_of_qemu() {
    let lazy = Spec { lazy_refcounts: true, ..spec(1 << 30, DEFAULT_CLUSTER, Version::V3) };
    assert_like_qemu(&lazy);
    for cluster in [16 << 10, DEFAULT_CLUSTER, MAX_CLUSTER] {
        assert_like_qemu(&Spec { extended_l2: true, ..spec(5 << 40, cluster, Version::V3) });
    }
    let base = tempfile::tempdir().unwrap();
    let raw = base.path().join("base image.raw");
    File::create(&raw).unwrap().set_len(1 << 20).unwrap();
    for version in [Version::V2, Version::V3] {
        for cluster in [MIN_CLUSTER, DEFAULT_CLUSTER] {
            let backing = Some((raw.to_str().unwrap().to_owned(), "raw"));
            assert_like_qemu(&Spec { backing, ..spec(1 << 30, cluster, version) });
        }
    }
}

#[test]
fn a_capacity_beyond_the_limit_names_limit_and_remedy() {
    let refusal = |capacity, cluster| {
        let error = Layout::plan(&spec(capacity, cluster, Version::V3)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument);
        error.to_string()
    };
    let said = refusal((2 << 50) + 1, DEFAULT_CLUSTER);
    assert!(said.contains("2 PiB") && said.contains("128 KiB"), "{said}");
    let said = refusal(1 << 40, MIN_CLUSTER);
    assert!(said.contains("128 GiB") && said.contains("2 KiB"), "{said}");
    for capacity in [MOST + 1, i64::MAX as u64, u64::MAX] {
        assert!(refusal(capacity, MIN_CLUSTER).contains("2 EiB"));
    }
    refusal(0, DEFAULT_CLUSTER);
    refusal(1, 1000);
    refusal(1, 4 << 20);
    let v2_lazy = Spec { lazy_refcounts: true, ..spec(1, DEFAULT_CLUSTER, Version::V2) };
    assert!(Layout::plan(&v2_lazy).is_err());
    let long =
        Spec { backing: Some(("x".repeat(500), "raw")), ..spec(1, MIN_CLUSTER, Version::V3) };
    assert!(Layout::plan(&long).is_err());
}

#[test]
fn mapped_images_have_a_place_for_all_content() {
    let base = tempfile::tempdir().unwrap();
    let path = base.path().join("image");
    let name = path.to_str().unwrap();
    for (capacity, cluster, extended_l2) in [
        (1, MIN_CLUSTER, false),
        ((3 << 20) + 512, MIN_CLUSTER, false),
        (70 << 20, 4096, false),
        ((1 << 30) + 512, DEFAULT_CLUSTER, false),
        ((1 << 30) + 512, DEFAULT_CLUSTER, true),
        (9 << 20, MAX_CLUSTER, false),
    ] {
        let spec = Spec { mapped: true, extended_l2, ..spec(capacity, cluster, Version::V3) };
        let layout = write(&spec, &path).unwrap();
        assert_eq!(path.metadata().unwrap().len(), layout.file_size());
        check(&path);
        let map = qemu_img(&["map", "--output=json", "-f", "qcow2", name]);
        let map: Value = serde_json::from_str(&map).unwrap();
        let map = map.as_array().unwrap();
        let mapped: u64 = map.iter().map(|extent| extent["length"].as_u64().unwrap()).sum();
        assert_eq!(mapped, capacity.next_multiple_of(512));
        assert_eq!(map[0]["offset"].as_u64().unwrap(), layout.data_offset());
        assert!(map.iter().all(|e| e["offset"].is_number() && e["present"] == true), "{map:?}");
        // What a guest writes lands there, and the image stays clean.
        let out = Command::new("qemu-io")
            .args(["-f", "qcow2", "-c", "write -P 7 0 512", "-c", "read -P 7 0 512", name])
            .output()
            .unwrap();
        assert!(out.status.success());
        assert_eq!(path.metadata().unwrap().len(), layout.file_size());
        check(&path);
    }
}

#[test]
fn an_image_grows_in_place_and_keeps_its_content() {
    let base = tempfile::tempdir().unwrap();
    let path = base.path().join("image");
    let name = path.to_str().unwrap();
    for (from, to, cluster, native) in [
        (1 << 20, 2 << 20, DEFAULT_CLUSTER, true),
        (1 << 20, 4 << 40, DEFAULT_CLUSTER, true),
        (1 << 20, (4 << 40) + 512, DEFAULT_CLUSTER, false),
        (512, 2 << 20, MIN_CLUSTER, true),
        (512, 4 << 20, MIN_CLUSTER, false),
    ] {
        write(&spec(from, cluster, Version::V3), &path).unwrap();
        let qemu_io = |command: &str| {
            let args = ["-f", "qcow2", "-c", command, name];
            assert!(Command::new("qemu-io").args(args).output().unwrap().status.success());
        };
        qemu_io("write -P 5 0 512");
        let file = File::options().read(true).write(true).open(&path).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        let size = bytes.len() as u64;
        let image = Qcow2::parse(&bytes).unwrap();
        let growth = image.header.growth(to, size).unwrap();
        assert_eq!(growth.is_some(), native, "{from} {to} {cluster}");
        if let Some(growth) = growth {
            growth.write(&file).unwrap();
            check(&path);
            assert_eq!(info(&path)["virtual-size"], to);
            qemu_io("read -P 5 0 512");
            qemu_io(&format!("write -P 6 {} 512", to - 512));
            check(&path);
        }
    }
}

/// The first bytes of an image with everything that a header can have.
fn full_header() -> Vec<u8> {
    let layout = Layout::plan(&Spec {
        backing: Some(("/base".to_owned(), "qcow2")),
        lazy_refcounts: true,
        ..spec(1 << 30, DEFAULT_CLUSTER, Version::V3)
    });
    let file = tempfile::tempfile().unwrap();
    layout.unwrap().write(&file, &mut |_| Ok(()), &|error| panic!("{error}")).unwrap();
    let mut bytes = vec![0; 4096];
    std::os::unix::fs::FileExt::read_at(&file, &mut bytes, 0).unwrap();
    bytes
}

proptest! {
    #[test]
    fn a_header_with_any_fields_is_read_within_its_bounds(
        changes in proptest::collection::vec((4_usize..200, any::<u8>()), 1..6),
        cut in 0_usize..4096,
    ) {
        let mut bytes = full_header();
        for (at, byte) in changes {
            bytes[at] = byte;
        }
        for bytes in [&bytes[..], &bytes[..cut]] {
            let Ok(image) = Qcow2::parse(bytes) else { continue };
            prop_assert!(image.header.capacity <= i64::MAX as u64);
            prop_assert!((MIN_CLUSTER..=MAX_CLUSTER).contains(&image.header.cluster_size()));
            let name = image.extensions.backing_name.as_ref().map_or(0, Vec::len);
            prop_assert!(name <= 1023);
            let shown = image.attributes().backing.map(|backing| backing.path);
            prop_assert!(shown.is_none_or(|path| !path.chars().any(char::is_control)));
        }
    }

    #[test]
    fn what_is_written_is_what_is_read(
        capacity in 1_u64..1 << 36,
        bits in 9_u32..=21,
        v3 in any::<bool>(),
        name in "[a-zA-Z0-9/ .:äö-]{1,120}",
    ) {
        let version = if v3 { Version::V3 } else { Version::V2 };
        let spec = Spec {
            backing: Some((name.clone(), "qcow2")),
            ..spec(capacity, 1 << bits, version)
        };
        let layout = Layout::plan(&spec).unwrap();
        let file = tempfile::tempfile().unwrap();
        layout.write(&file, &mut |_| Ok(()), &|error| panic!("{error}")).unwrap();
        let mut bytes = vec![0; 2048];
        let length = std::os::unix::fs::FileExt::read_at(&file, &mut bytes, 0).unwrap();
        let image = Qcow2::parse(&bytes[..length]).unwrap();
        prop_assert_eq!(image.header.capacity, capacity.next_multiple_of(512));
        prop_assert_eq!(image.header.cluster_size(), 1_u64 << bits);
        let backing = image.attributes().backing.unwrap();
        prop_assert_eq!(backing.path, name);
        prop_assert_eq!(backing.format, Some(crate::model::VolumeFormat::Qcow2));
    }

    #[test]
    fn no_header_makes_growth_overflow(
        l1_entries in any::<u32>(),
        l1_offset in any::<u64>(),
        capacity in any::<u64>(),
        old in 0_u64..i64::MAX as u64,
        bits in 9_u32..=21,
        size in any::<u64>(),
    ) {
        let layout = Layout::plan(&spec(1, 512, Version::V3)).unwrap();
        let file = tempfile::tempfile().unwrap();
        layout.write(&file, &mut |_| Ok(()), &|error| panic!("{error}")).unwrap();
        let mut bytes = vec![0; 512];
        std::os::unix::fs::FileExt::read_at(&file, &mut bytes, 0).unwrap();
        let mut header = Header::parse(&bytes).unwrap();
        header.l1_entries = l1_entries;
        header.l1_offset = l1_offset;
        header.cluster_bits = bits;
        header.capacity = old;
        let _ = header.growth(capacity, size);
    }
}
