//! qcow2 by itself: headers of strangers, how they grow, and the layout of new images, which has to be read as planned.

#![no_main]

mod seeds;

use libfuzzer_sys::fuzz_target;
use poold::image::qcow2::{Layout, Qcow2, Spec, Version};

fuzz_target!(init: seeds::write_if_asked(seeds), |data: &[u8]| {
    let Some((numbers, rest)) = data.split_first_chunk::<20>() else { return };
    let number = |at: usize| u64::from_le_bytes(numbers[at..at + 8].try_into().expect("8 bytes"));
    let (capacity, size) = (number(0), number(8));
    match numbers[16] % 2 {
        0 => {
            if let Ok(image) = Qcow2::parse(rest) {
                image.attributes();
                let _ = image.header.growth(capacity, size);
            }
        }
        _ => {
            let flag = |bit: u8| numbers[17] & (1 << bit) != 0;
            let name = String::from_utf8_lossy(rest).into_owned();
            plan(&Spec {
                capacity,
                cluster_size: if flag(0) { 1 << (numbers[18] % 64) } else { size },
                version: if flag(1) { Version::V2 } else { Version::V3 },
                lazy_refcounts: flag(2),
                extended_l2: flag(3),
                backing: flag(4).then_some((name, "raw")),
                mapped: flag(5),
            });
        }
    }
});

/// A layout that was planned is an image of what was asked for.
fn plan(spec: &Spec) {
    let Ok(layout) = Layout::plan(spec) else { return };
    assert!(layout.data_offset() <= layout.file_size() && layout.written() <= layout.data_offset());
    // Mapped and large images have tables of more than is worth writing here.
    if layout.written() > 4 << 20 {
        return;
    }
    let mut file = tempfile::tempfile().expect("a file");
    layout.write(&file, &mut |_| Ok(()), &|error| panic!("{error}")).expect("it is written");
    let mut bytes = vec![0; 64 << 10];
    let read = std::io::Seek::rewind(&mut file).and_then(|()| std::io::Read::read(&mut file, &mut bytes));
    let image = Qcow2::parse(&bytes[..read.expect("it is read")]).expect("it is an image");
    assert_eq!(image.header.capacity, spec.capacity.next_multiple_of(512));
    assert_eq!(image.header.cluster_size(), spec.cluster_size);
    let name = spec.backing.as_ref().map(|(name, _)| name.as_bytes());
    assert_eq!(image.extensions.backing_name.as_deref(), name);
}

fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for (flags, cluster_bits) in [(1, 16), (3, 16), (9, 17), (17, 12), (33, 21), (5, 9)] {
        let mut numbers = (1_u64 << 30).to_le_bytes().to_vec();
        numbers.extend((1_u64 << cluster_bits).to_le_bytes());
        seeds.push([&numbers[..], &[1, flags, cluster_bits, 0], b"/pool/base"].concat());
        let spec = Spec {
            capacity: 1 << 30,
            cluster_size: 1 << cluster_bits,
            version: if flags & 2 == 0 { Version::V3 } else { Version::V2 },
            lazy_refcounts: flags & 4 != 0,
            extended_l2: flags & 8 != 0,
            backing: (flags & 16 != 0).then_some(("/pool/base".to_owned(), "qcow2")),
            mapped: false,
        };
        let Ok(layout) = Layout::plan(&spec) else { continue };
        let mut file = tempfile::tempfile().expect("a file");
        layout.write(&file, &mut |_| Ok(()), &|error| panic!("{error}")).expect("it is written");
        let mut bytes = vec![0; 1024];
        std::io::Seek::rewind(&mut file).expect("its beginning");
        let read = std::io::Read::read(&mut file, &mut bytes).expect("its header");
        seeds.push([&numbers[..], &[0; 4], &bytes[..read]].concat());
    }
    seeds
}
