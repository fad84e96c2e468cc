//! Headers of images: every parser, by the windows that it asks for, and the verdict on what was declared.
//!
//! An input is a sparse file: two bytes choose what its name says and what was declared of it, eight are its size, and
//! then come pieces, each with the number of its sector (4 bytes), its length (2 bytes) and its bytes.

#![no_main]

mod seeds;
mod sparse;

use libfuzzer_sys::fuzz_target;
use poold::image::declared::contradiction;
use poold::image::probe::{FIRST_READ, LARGEST_READ, Verdict, probe_with};
use poold::model::{BackingStore, VolumeFormat};
use sparse::SparseFile;

const FORMATS: [VolumeFormat; 8] = [
    VolumeFormat::Raw,
    VolumeFormat::Qcow2,
    VolumeFormat::Vmdk,
    VolumeFormat::Vpc,
    VolumeFormat::Qed,
    VolumeFormat::Dmg,
    VolumeFormat::Luks,
    VolumeFormat::Vhdx,
];

fuzz_target!(init: seeds::write_if_asked(seeds), |data: &[u8]| {
    let [hint, declared, rest @ ..] = data else { return };
    let file = SparseFile::read(rest);
    let hint = FORMATS.get(usize::from(*hint) % (FORMATS.len() + 1)).copied();
    let mut read = 0;
    let verdict = probe_with(file.size(), hint, &mut Vec::new(), |offset, bytes| {
        assert!(bytes.len() <= LARGEST_READ && offset <= file.size());
        read += bytes.len();
        Ok(file.fill(offset, bytes))
    });
    assert!(read <= FIRST_READ + 8 * LARGEST_READ, "{read} bytes were read");
    let verdict = verdict.expect("reading does not fail");
    let mut honest = None;
    if let Verdict::Image(image) = &verdict {
        assert!(image.capacity <= i64::MAX as u64, "{image:?}");
        let backing = image.attributes.backing.as_ref();
        let names = image.others.iter().chain(backing.map(|backing| &backing.path));
        for name in names {
            assert!(!name.chars().any(char::is_control), "{name:?}");
        }
        honest = backing.cloned();
    }
    let format = FORMATS[usize::from(*declared) % FORMATS.len()];
    let other = BackingStore { path: "/pool/base".to_owned(), format: None, permissions: None };
    for backing in [None, Some(&other), honest.as_ref()] {
        let found = contradiction(verdict.clone(), format, backing, "/pool");
        if let (None, Verdict::Image(image)) = (&found, &verdict) {
            // What passes names nothing that was not declared.
            assert!(image.others.is_empty());
            assert_eq!(image.attributes.backing.is_some(), backing.is_some());
        }
        assert!(found.is_some() || matches!(verdict, Verdict::Image(_)));
    }
});

/// Images of every format that qemu-img makes, as sparse files.
fn seeds() -> Vec<Vec<u8>> {
    const IMAGES: &[&str] = &[
        "-f qcow2 5M",
        "-f qcow2 -o compat=0.10 5M",
        "-f qcow2 -o extended_l2=on,cluster_size=128k 5M",
        "-f qcow2 -u -b base -F raw 5M",
        "-f qcow2 -o encrypt.format=luks,encrypt.key-secret=s,encrypt.iter-time=10 1M",
        "-f qcow2 -o data_file=DATA 1M",
        "-f qcow -u -b base 5M",
        "-f qed -u -b base -F raw 5M",
        "-f vmdk 5M",
        "-f vmdk -o subformat=streamOptimized 5M",
        "-f vmdk -o subformat=monolithicFlat 5M",
        "-f vpc 5M",
        "-f vpc -o subformat=fixed 1M",
        "-f vdi 5M",
        "-f vhdx 5M",
        "-f parallels 5M",
        "-f luks -o key-secret=s,iter-time=10 1M",
    ];
    let directory = tempfile::tempdir().expect("a directory");
    let mut seeds = Vec::new();
    for (number, line) in IMAGES.iter().enumerate() {
        let path = directory.path().join(format!("image{number}"));
        let data = directory.path().join("data").display().to_string();
        let (options, size) = line.rsplit_once(' ').expect("a size");
        let made = std::process::Command::new("qemu-img")
            .args(["create", "-q", "--object", "secret,id=s,data=passphrase"])
            .args(options.split(' ').map(|word| word.replace("DATA", &data)))
            .arg(&path)
            .arg(size)
            .status();
        if made.is_ok_and(|status| status.success()) {
            let image = std::fs::read(&path).expect("the image");
            seeds.push([&[8, number as u8][..], &SparseFile::write(&image)].concat());
        }
    }
    // What no tool here makes: a hint and a trailer, and a magic each.
    let mut dmg = vec![0; 1024];
    dmg[512..516].copy_from_slice(b"koly");
    seeds.push([&[5, 5][..], &SparseFile::write(&dmg)].concat());
    let mut iso = vec![0; 40 << 10];
    iso[32769..32774].copy_from_slice(b"CD001");
    seeds.push([&[8, 0][..], &SparseFile::write(&iso)].concat());
    let bochs = [&b"Bochs Virtual HD Image\0"[..], &[0; 9], b"Redolog\0", &[0; 8], b"Growing\0"];
    let cloop = b"#!/bin/sh\n#V2.0 Format\nmodprobe cloop file=$0 && mount -r -t iso9660 /dev/cloop $1\n";
    let luks2 = [&b"LUKS\xba\xbe\0\x02\0\0\0\0\0\0\x40\0"[..], &[0; 4080], br#"{"segments":{"0":{"offset":"4096"}}}"#];
    for begins in [&bochs.concat()[..], cloop, &luks2.concat(), b"OOOM\0\0\0\x02", b"COWD"] {
        let mut image = begins.to_vec();
        image.resize(8192.max(begins.len()), 0);
        seeds.push([&[8, 0][..], &SparseFile::write(&image)].concat());
    }
    seeds
}
