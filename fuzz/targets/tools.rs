//! What tools and the kernel print: the progress of qemu-img, in pieces of any size, and the table of mounts. The first byte
//! is the size of the pieces.

#![no_main]

mod seeds;

use libfuzzer_sys::fuzz_target;
use poold::host::MountTable;
use poold::image::qemu_img::ProgressLines;

fuzz_target!(init: seeds::write_if_asked(seeds), |data: &[u8]| {
    let [size, said @ ..] = data else { return };
    let mut parts = Vec::new();
    let mut lines = ProgressLines::default();
    for piece in said.chunks(usize::from(*size).max(1)) {
        lines.read(piece, &mut |part| parts.push(part));
    }
    assert!(parts.iter().all(|part| (0.0..=1.0).contains(part)), "{parts:?}");
    let mut whole = Vec::new();
    ProgressLines::default().read(said, &mut |part| whole.push(part));
    assert_eq!(parts, whole, "it depends on the size of the pieces");

    if let Ok(table) = MountTable::parse(said) {
        for mount in table.iter() {
            table.mounted_at(&mount.target);
            table.mount_of(&mount.target);
        }
    }
});

fn seeds() -> Vec<Vec<u8>> {
    let mounts = std::fs::read("/proc/self/mountinfo").unwrap_or_default();
    let mut seeds: Vec<_> = mounts.split_inclusive(|byte| *byte == b'\n').map(with_size).collect();
    for said in [
        &b"    (0.00/100%)\r    (50.00/100%)\r    (100.00/100%)\r\n"[..],
        b"36 35 98:0 /mnt1 /mnt2\\040x rw,noatime master:1 - ext3 /dev/root rw,errors=continue\n",
        b"qemu-img: warning: something\n    (1e0/100%)\r(nan/100%)\r",
    ] {
        seeds.push(with_size(said));
    }
    seeds
}

fn with_size(said: &[u8]) -> Vec<u8> {
    [&[7], said].concat()
}
