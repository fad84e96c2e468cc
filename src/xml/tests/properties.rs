//! What is written is read as what it was, and nothing makes the readers fall.

use super::strategies::{pool, secret, source, volume};
use crate::model::{PoolType, Usage};
use crate::xml::*;
use proptest::prelude::*;
use proptest::sample::{Index, select};

/// Gives a text to every reader.
fn read_all(text: &str, pool_type: PoolType) {
    if let Ok(mut volume) = parse_volume(text, pool_type) {
        // Read only: a wish for the creation.
        volume.nocow = false;
        let again = parse_volume(&write_volume(&volume, pool_type), pool_type);
        assert_eq!(again.expect("what we write, we read"), volume);
    }
    let _ = parse_sources(text, pool_type);
    let _ = parse_source(text, pool_type);
    let _ = parse_secret(text);
    if let Ok(document) = canonical(text, None) {
        let again = canonical(&document, None).expect("what we write, we read");
        assert_eq!(again, document);
    }
}

/// A character boundary of `text`.
fn place(text: &str, index: Index) -> usize {
    let mut at = index.index(text.len() + 1);
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

proptest! {
    #[test]
    fn a_pool_written_is_the_pool_read(pool in pool(), size in any::<u64>()) {
        let usage = Usage { capacity: size, ..Usage::default() };
        let text = write_pool(&pool, usage);
        prop_assert_eq!(parse_pool(&text).map_err(|error| format!("{error}\n{text}")), Ok(pool));
    }

    #[test]
    fn a_volume_written_is_the_volume_read((volume, pool_type) in volume()) {
        let text = write_volume(&volume, pool_type);
        let read = parse_volume(&text, pool_type).map_err(|error| format!("{error}\n{text}"));
        prop_assert_eq!(read, Ok(volume));
    }

    #[test]
    fn a_secret_written_is_the_secret_read(secret in secret()) {
        prop_assert_eq!(parse_secret(&write_secret(&secret)).ok().map(SecretDraft::complete), Some(secret));
    }

    #[test]
    fn sources_written_are_the_sources_read(
        (sources, pool_type) in select(&PoolType::ALL[..]).prop_flat_map(|pool_type| {
            (prop::collection::vec(source(pool_type), 0..3), Just(pool_type))
        })
    ) {
        let text = write_sources(&sources, pool_type);
        let read = parse_sources(&text, pool_type).map_err(|error| format!("{error}\n{text}"));
        prop_assert_eq!(read, Ok(sources));
    }

    #[test]
    fn no_bytes_make_a_reader_fall(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        read_all(&String::from_utf8_lossy(&bytes), PoolType::Dir);
    }

    #[test]
    fn no_damage_to_a_document_makes_a_reader_fall(
        pool in pool(),
        (volume, pool_type) in volume(),
        damage in "[<>/&;'\"=a-z \\PC\\n\u{0}]{0,4}",
        places in any::<[Index; 3]>(),
    ) {
        for text in [write_pool(&pool, Usage::default()), write_volume(&volume, pool_type)] {
            let [from, to] = {
                let mut ends = [place(&text, places[0]), place(&text, places[1])];
                ends.sort_unstable();
                ends
            };
            read_all(&format!("{}{damage}{}", &text[..from], &text[to..]), pool_type);
            let at = place(&text, places[2]);
            read_all(&format!("{}{damage}{}", &text[..at], &text[at..]), pool_type);
        }
    }
}
