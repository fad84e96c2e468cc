//! Where partitions go, on tables of every kind.

use super::place::Room;
use crate::image::partitions::tests::Image;
use crate::image::partitions::{Label, Partition, Role, Table};
use crate::model::VolumeFormat;
use proptest::prelude::*;
use std::sync::OnceLock;

const SECTOR: u64 = 512;

/// Disks with new tables, made once.
fn labelled() -> &'static [(Label, Image)] {
    static MADE: OnceLock<Vec<(Label, Image)>> = OnceLock::new();
    MADE.get_or_init(|| {
        let labels = Label::ALL.into_iter();
        labels.filter_map(|label| Some((label, Image::labelled(label, 16)?))).collect()
    })
}

#[derive(Debug, Clone)]
enum Step {
    Create(Role, u64),
    Remove(usize),
    Grow(usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let role =
        prop_oneof![4 => Just(Role::Primary), 4 => Just(Role::Logical), 1 => Just(Role::Extended)];
    let step = prop_oneof![
        5 => (role, 1_u64..6 << 20).prop_map(|(role, size)| Step::Create(role, size)),
        2 => any::<prop::sample::Index>().prop_map(|index| Step::Remove(index.index(64))),
        1 => any::<prop::sample::Index>().prop_map(|index| Step::Grow(index.index(64))),
    ];
    prop::collection::vec(step, 1..24)
}

fn room(table: &Table) -> Room<'_> {
    Room { table, sector: SECTOR }
}

fn pick(table: &Table, index: usize) -> Option<&Partition> {
    let data: Vec<_> = table.partitions.iter().filter(|one| one.role != Role::Own).collect();
    data.get(index % data.len().max(1)).copied()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    /// Whatever is made, removed and grown: partitions are whole, aligned, apart from each other and
    /// on the disk (the table would be damaged else), and a refusal is right.
    #[test]
    fn partitions_never_overlap_or_span(steps in steps()) {
        for (label, image) in labelled() {
            let mut image = image.clone();
            for step in &steps {
                let table = image.table();
                let patches = match step {
                    Step::Create(role, size) => {
                        let Some(number) = table.next(*role) else { continue };
                        let room = room(&table);
                        let length = room.sectors(*size);
                        prop_assert!(length * SECTOR >= *size);
                        let logical = *role == Role::Logical;
                        let all = room.free();
                        let mine = all.iter().filter(|free| free.logical == logical);
                        let largest = mine.clone().map(|free| free.length()).max().unwrap_or(0);
                        let free = match room.best(logical, length) {
                            Ok(free) => free,
                            Err(most) => {
                                prop_assert_eq!(most, largest);
                                prop_assert!(length > largest);
                                continue;
                            }
                        };
                        // The smallest that fits.
                        let smallest = mine.clone().all(|other| {
                            other.length() < length || other.length() >= free.length()
                        });
                        prop_assert!(smallest);
                        let unit = table.cylinder().unwrap_or(2048);
                        prop_assert_eq!(free.start % unit, 0);
                        prop_assert!(free.start + length <= free.end);
                        let new = Partition {
                            number, start: free.start, length, from: free.from, role: *role,
                            format: VolumeFormat::None, id: None,
                        };
                        let patches = table.add(&new);
                        image.apply(&patches);
                        let after = image.table();
                        let made = after.partition(number).unwrap();
                        prop_assert_eq!((made.start, made.length), (new.start, new.length));
                        prop_assert_eq!(made.from, new.from);
                        prop_assert_eq!(after.partitions.len(), table.partitions.len() + 1);
                        patches
                    }
                    Step::Remove(index) => {
                        let Some(partition) = pick(&table, *index) else { continue };
                        let has = |one: &Partition| one.role == Role::Logical;
                        if partition.role == Role::Extended && table.partitions.iter().any(has) {
                            continue;
                        }
                        let patches = table.remove(partition);
                        image.apply(&patches);
                        let after = image.table();
                        let places = |table: &Table| -> Vec<(u64, u64)> {
                            table.partitions.iter().map(|one| (one.start, one.length)).collect()
                        };
                        let mut left = places(&table);
                        left.retain(|place| *place != (partition.start, partition.length));
                        let mut now = places(&after);
                        left.sort_unstable();
                        now.sort_unstable();
                        prop_assert_eq!(left, now, "{} others stay where they are", label);
                        patches
                    }
                    Step::Grow(index) => {
                        let Some(partition) = pick(&table, *index) else { continue };
                        let limit = room(&table).limit(partition);
                        prop_assert!(limit >= partition.end());
                        table.resize(partition, limit - partition.start)
                    }
                };
                image.apply(&patches);
                // Refuses what overlaps or lies outside.
                image.table();
            }
        }
    }
}

#[test]
fn free_extents_are_what_partitions_leave() {
    let Some((_, image)) = labelled().iter().find(|(label, _)| *label == Label::Gpt) else {
        return;
    };
    let table = image.table();
    let free = room(&table).free();
    assert_eq!(free.len(), 1);
    assert_eq!(free[0].start, 2048);
    assert_eq!(free[0].end, (16 << 11) - 33);
}
