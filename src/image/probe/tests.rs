//! Verdicts beside those of the real tools, and hostile headers.

use super::*;
use proptest::prelude::*;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Probes as a reader of files does: again with more when asked.
fn probe_content(content: &[u8]) -> Verdict {
    let mut known = Content::new(content.len() as u64);
    known.add(0, &content[..content.len().min(FIRST_READ)]);
    for _ in 0..=MOST_READS {
        match probe(&known, None) {
            Ok(verdict) => return verdict,
            Err((offset, length)) => {
                assert!(length <= LARGEST_READ, "{length}");
                let from = offset as usize;
                known.add(offset, &content[from..from + length]);
            }
        }
    }
    panic!("it asks for ever more");
}

fn probe_path(path: &Path, hint: Option<VolumeFormat>) -> Verdict {
    let file = File::open(path).unwrap();
    let size = file.metadata().unwrap().len();
    probe_file(&file, size, hint, &mut Vec::new()).unwrap()
}

/// What qemu-img says an image is.
fn qemu_says(path: &Path) -> Value {
    let command = ["info", "-U", "--output=json"];
    let said = Command::new("qemu-img").args(command).arg(path).output().unwrap();
    serde_json::from_slice(&said.stdout).unwrap_or(Value::Null)
}

/// Holds a verdict against qemu-img's.
fn compare(path: &Path) -> Image {
    let said = qemu_says(path);
    let what = format!("{}: {said}", path.display());
    let Verdict::Image(found) = probe_path(path, None) else { panic!("{what}") };
    let driver = crate::image::formats::driver(found.format);
    assert_eq!(Some(driver), said["format"].as_str(), "{what}");
    assert_eq!(Some(found.capacity), said["virtual-size"].as_u64(), "{what}");
    let backing = found.attributes.backing.as_ref();
    assert_eq!(
        backing.map(|backing| backing.path.as_str()),
        said["backing-filename"].as_str(),
        "{what}"
    );
    if let Some(size) = said["cluster-size"].as_u64() {
        assert_eq!(found.attributes.cluster_size, Some(size), "{what}");
    }
    let encrypted = said["encrypted"].as_bool().unwrap_or(false);
    assert_eq!(found.attributes.encryption.is_some(), encrypted, "{what}");
    *found
}

#[test]
fn a_file_without_magic_is_raw() {
    assert_eq!(probe_content(b""), Verdict::Raw);
    assert_eq!(probe_content(&[0; 9000]), Verdict::Raw);
    assert_eq!(probe_content(&vec![0; 50_000]), Verdict::Raw);
    assert_eq!(probe_content(b"QFI"), Verdict::Raw);
}

#[test]
fn a_cut_or_impossible_header_is_damaged() {
    let damaged = |bytes: &[u8]| matches!(probe_content(bytes), Verdict::Damaged { .. });
    assert!(damaged(b"QFI\xfb"));
    assert!(damaged(b"QFI\xfb\0\0\0\x03"));
    let mut header = vec![0; 512];
    header[..8].copy_from_slice(b"QFI\xfb\0\0\0\x03");
    header[23] = 63; // cluster_bits
    assert!(damaged(&header));
    for magic in [
        &b"KDMV"[..],
        b"vhdxfile",
        b"conectix",
        b"QED\0",
        b"LUKS\xba\xbe\0\x01",
        b"LUKS\xba\xbe\0\x02",
        b"LUKS\xba\xbe\0\x09",
        b"WithoutFreeSpace",
        b"QFI\xfb\0\0\0\x01",
        b"OOOM\0\0\0\x02",
    ] {
        assert!(damaged(magic), "{magic:?}");
        let mut ones = magic.to_vec();
        ones.resize(4096, 0xff);
        assert!(damaged(&ones), "{magic:?}");
    }
}

#[test]
fn images_are_what_qemu_img_says_they_are() {
    let dir = tempfile::tempdir().unwrap();
    let made = |number: usize, line: &str| -> PathBuf {
        let path = dir.path().join(format!("image{number}"));
        let (options, size) = line.rsplit_once(' ').unwrap();
        // Its measuring of key derivation fails now and then.
        let make = || {
            let made = Command::new("qemu-img")
                .args(["create", "-q", "--object", "secret,id=s,data=passphrase"])
                .args(options.split(' '))
                .arg(&path)
                .arg(size)
                .output()
                .unwrap();
            (made.status.success(), String::from_utf8_lossy(&made.stderr).into_owned())
        };
        let mut made = make();
        for _ in 0..20 {
            if made.1.contains("accurate CPU usage") {
                made = make();
            }
        }
        assert!(made.0, "{line}: {}", made.1);
        path
    };
    let lines = [
        "-f qcow2 5M",
        "-f qcow2 -o compat=0.10 5M",
        "-f qcow2 -o lazy_refcounts=on,cluster_size=4k 5M",
        "-f qcow2 -o extended_l2=on,cluster_size=128k 5M",
        "-f qcow2 -o compression_type=zstd 5M",
        "-f qcow2 -u -b /nowhere/base -F raw 5M",
        "-f qcow2 -o encrypt.format=luks,encrypt.key-secret=s,encrypt.iter-time=10 5M",
        "-f qcow -u -b /nowhere/base -F raw 5M",
        "-f qcow 5000K",
        "-f qed 5M",
        "-f qed -o cluster_size=128k -u -b base -F raw 5M",
        "-f qed -u -b base -F qcow2 5M",
        "-f vmdk 5M",
        "-f vmdk -o subformat=streamOptimized 5M",
        "-f vmdk -o compat6=on 5M",
        "-f vpc 5M",
        "-f vpc -o force_size=on 5M",
        "-f vpc 127G",
        "-f vdi 5M",
        "-f vdi -o static=on 5M",
        "-f vhdx 5M",
        "-f vhdx -o subformat=fixed,block_size=2M 5M",
        "-f parallels 5M",
        "-f parallels -o cluster_size=64k 7M",
        "-f luks -o key-secret=s,iter-time=10 5M",
    ];
    for (number, line) in lines.iter().enumerate() {
        compare(&made(number, line));
    }
    // By its content a fixed VHD is raw to QEMU too; declared to be one it is read at its end.
    let fixed = made(100, "-f vpc -o subformat=fixed,force_size=on 5M");
    assert_eq!(qemu_says(&fixed)["format"], "raw");
    assert_eq!(probe_path(&fixed, None), Verdict::Raw);
    let Verdict::Image(found) = probe_path(&fixed, Some(VolumeFormat::Vpc)) else { panic!() };
    assert_eq!(found.capacity, 5 << 20);
    // A descriptor names its extents, and a qcow2 header its data file.
    let flat = made(101, "-f vmdk -o subformat=monolithicFlat 5M");
    let found = compare(&flat);
    assert_eq!(found.others, ["image101-flat"]);
    let data = dir.path().join("data");
    let with = format!("-f qcow2 -o data_file={} 5M", data.display());
    assert_eq!(compare(&made(102, &with)).others, [data.to_str().unwrap()]);
}

#[test]
fn images_of_other_makers_are_known() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    std::fs::write(path("content"), vec![7; 300 << 10]).unwrap();
    let bochs = path("bochs");
    let bximage = ["-func=create", "-hd=10M", "-imgmode=growing", "-q", &bochs];
    let iso = ["-quiet", "-o", &path("iso"), &path("content")];
    let cloop = ["-B", "65536", &path("content"), &path("cloop")];
    for (program, args, file, format) in [
        ("bximage", &bximage[..], &bochs, VolumeFormat::Bochs),
        ("genisoimage", &iso[..], &path("iso"), VolumeFormat::Iso),
        ("create_compressed_fs", &cloop[..], &path("cloop"), VolumeFormat::Cloop),
    ] {
        let Ok(made) = Command::new(program).args(args).output() else {
            println!("RESULT unit image-of-{program} skip {program} is not installed");
            continue;
        };
        let Verdict::Image(found) = probe_path(Path::new(file), None) else {
            panic!("{program}: {}", String::from_utf8_lossy(&made.stderr));
        };
        let said = qemu_says(Path::new(file));
        assert_eq!(found.format, format);
        assert_eq!(Some(found.capacity), said["virtual-size"].as_u64(), "{program} {said}");
        println!("RESULT unit image-of-{program} pass");
    }
}

#[test]
fn samples_are_what_qemu_img_says_they_are() {
    let Some(corpus) = std::env::var_os("POOLD_CORPUS") else {
        println!("RESULT unit image-samples skip POOLD_CORPUS is not set");
        return;
    };
    let images = Path::new(&corpus).join("images");
    let table = std::fs::read_to_string(images.join("ORACLE.tsv")).unwrap();
    let dir = tempfile::tempdir().unwrap();
    for row in table.lines().skip(1) {
        let columns: Vec<_> = row.split('\t').collect();
        let (name, format, size) = (columns[0], columns[2], columns[3]);
        let packed = File::open(images.join(format!("{name}.bz2"))).unwrap();
        let path = dir.path().join(name);
        let unpack =
            "bzcat | dd of=\"$0\" conv=sparse bs=64k status=none; truncate -s \"$1\" \"$0\"";
        let done = Command::new("sh")
            .args(["-c", unpack])
            .arg(&path)
            .arg(columns[1])
            .stdin(packed)
            .status();
        assert!(done.unwrap().success());
        let verdict = probe_path(&path, hint_of_name(name));
        let found = match &verdict {
            Verdict::Raw => ("raw", columns[1].to_owned()),
            Verdict::Image(image) => {
                (crate::image::formats::driver(image.format), image.capacity.to_string())
            }
            Verdict::Damaged { why, .. } => {
                assert!(format.starts_with("error: "), "{name}: {why}");
                println!("RESULT unit image-sample-{name} pass {why}");
                continue;
            }
        };
        assert_eq!((found.0, found.1.as_str()), (format, size), "{name}");
        println!("RESULT unit image-sample-{name} pass");
    }
}

/// How images of each format begin.
const MAGICS: [&[u8]; 14] = [
    b"QFI\xfb\0\0\0\x03",
    b"QFI\xfb\0\0\0\x01",
    b"QED\0",
    b"KDMV\x01\0\0\0",
    b"COWD",
    b"# Disk DescriptorFile\nversion=1\nRW 1 FLAT \"x\" 0\n",
    b"conectix",
    b"vhdxfile",
    b"WithoutFreeSpace\x02\0\0\0",
    b"WithouFreSpacExt\x02\0\0\0",
    b"LUKS\xba\xbe\0\x01",
    b"LUKS\xba\xbe\0\x02",
    b"Bochs Virtual HD Image\0",
    b"OOOM\0\0\0\x02",
];

proptest! {
    #[test]
    fn no_bytes_make_it_panic(
        mut bytes in proptest::collection::vec(any::<u8>(), 0..6000),
        magic in 0..MAGICS.len(),
        zeros in 0..6000_usize,
    ) {
        let _ = probe_content(&bytes);
        let magic = MAGICS[magic];
        // Mostly zeros come further than mostly noise.
        let noise = bytes.len().min(zeros);
        bytes[noise..].fill(0);
        if bytes.len() >= magic.len() {
            bytes[..magic.len()].copy_from_slice(magic);
        }
        for hint in [None, Some(VolumeFormat::Vpc), Some(VolumeFormat::Dmg)] {
            let _ = probe(&Content::whole(&bytes), hint);
        }
        let _ = probe_content(&bytes);
    }
}
