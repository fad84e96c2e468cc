//! A refresh beside everything else: what it lists is old news where we know better.

use super::*;
use crate::backend::DeleteOptions;
use crate::engine::merge::{Merged, Volumes};
use crate::engine::reader;
use proptest::prelude::*;
use std::collections::BTreeSet;

#[tokio::test]
async fn a_refresh_keeps_what_was_made_and_deleted_while_it_ran() {
    let world = World::new();
    world.sim.drop_in("images", "old", 1);
    let pool = world.started("images").await;
    world.sim.drop_in("images", "foreign", 1);
    let refresh = held_refresh(&world, &pool).await;

    create(&pool, "new").await.wait().await.unwrap();
    let old = VolumeName::new("old").unwrap();
    pool.delete_volume(&old, DeleteOptions::default(), &ROOT).await.unwrap().wait().await.unwrap();
    world.sim.release("images", "refresh");
    refresh.wait().await.unwrap();
    assert_eq!(names(&pool), ["foreign", "new"]);
    let result = refresh.snapshot().result.clone();
    assert_eq!(result["volumes"], ResultValue::Number(2));
}

#[tokio::test]
async fn who_asks_for_a_refresh_sees_what_was_there_when_it_was_asked_for() {
    let world = World::new();
    let pool = world.started("images").await;
    let first = held_refresh(&world, &pool).await;
    world.sim.drop_in("images", "too-late-for-the-first", 1);
    let second = pool.refresh(&ROOT).await.unwrap();
    assert_ne!(second.id(), first.id(), "one under way has read already");
    assert_eq!(pool.refresh(&ROOT).await.unwrap().id(), second.id(), "a third joins the second");
    world.sim.release("images", "refresh");
    first.wait().await.unwrap();
    assert_eq!(first.snapshot().result["volumes"], ResultValue::Number(0));
    second.wait().await.unwrap();
    assert_eq!(names(&pool), ["too-late-for-the-first"]);
}

#[tokio::test]
async fn a_refresh_that_fails_keeps_the_list_and_says_so() {
    let world = World::new();
    world.sim.drop_in("images", "a", 1);
    let pool = world.started("images").await;
    world.sim.fail("images", "refresh", ErrorKind::Failed);
    let job = pool.refresh(&ROOT).await.unwrap();
    assert_eq!(kind(job.wait().await), Some(ErrorKind::Failed));
    let now = pool.snapshot();
    assert_eq!((now.state, now.stale, names(&pool).len()), (PoolState::Active, true, 1));
    assert_eq!(now.last_error.as_ref().map(Error::kind), Some(ErrorKind::Failed));
    world.sim.heal("images", "refresh");
    pool.refresh(&ROOT).await.unwrap().wait().await.unwrap();
    assert!(!pool.snapshot().stale && pool.snapshot().last_error.is_none());
}

#[tokio::test]
async fn volumes_that_did_not_change_are_the_same_objects_after_a_refresh() {
    let world = World::new();
    for name in ["a", "b", "c"] {
        world.sim.drop_in("images", name, 1);
    }
    let pool = world.started("images").await;
    let before = pool.snapshot();
    world.sim.drop_in("images", "b", 2);
    world.sim.take_away("images", "c");
    pool.refresh(&ROOT).await.unwrap().wait().await.unwrap();
    let after = pool.snapshot();
    assert!(Arc::ptr_eq(&before.volumes["a"], &after.volumes["a"]));
    assert_eq!((after.volumes["b"].capacity, after.volumes.len()), (2, 2));
}

#[tokio::test]
async fn what_changes_behind_our_back_is_read_one_by_one() {
    let world = World::new();
    let pool = world.started("images").await;
    world.sim.drop_in("images", "foreign", 1);
    reader::reread(&pool.pool, [VolumeName::new("foreign").unwrap()]);
    until(&world.engine, &pool, |now| now.volumes.contains_key("foreign")).await;
    world.sim.take_away("images", "foreign");
    reader::reread(&pool.pool, [VolumeName::new("foreign").unwrap()]);
    until(&world.engine, &pool, |now| now.volumes.is_empty()).await;
    assert_eq!(world.sim.calls("images", "refresh"), 1, "no refresh was needed");
}

#[tokio::test]
async fn reading_a_volume_again_does_not_undo_what_a_job_did_meanwhile() {
    let world = World::new();
    let pool = world.started("images").await;
    world.sim.hold("images", "refresh_volume");
    reader::reread(&pool.pool, [VolumeName::new("a").unwrap()]);
    world.sim.called("images", "refresh_volume", 1).await;
    create(&pool, "a").await.wait().await.unwrap();
    world.sim.take_away("images", "a");
    world.sim.release("images", "refresh_volume");
    // The reading is old news; the volume is read once more.
    world.sim.called("images", "refresh_volume", 2).await;
    until(&world.engine, &pool, |now| now.volumes.is_empty()).await;
}

fn listing(names: &BTreeSet<u8>, size: u64) -> crate::backend::Listing {
    let volumes = names.iter().map(|name| sim::volume(&pool_def("p"), &volume_name(*name), size));
    crate::backend::Listing { volumes: volumes.collect(), ..Default::default() }
}

fn volume_name(name: u8) -> VolumeName {
    VolumeName::new(&format!("v{name}")).unwrap()
}

fn volumes(names: &BTreeSet<u8>, size: u64) -> Volumes {
    let each = |volume: crate::model::Volume| (volume.name.clone(), Arc::new(volume));
    listing(names, size).volumes.into_iter().map(each).collect()
}

proptest! {
    /// Whatever was known before, listed, and made or deleted meanwhile: what jobs touched is as
    /// the jobs left it, all else is as listed, and the changes lead from the one to the other.
    #[test]
    fn a_merge_believes_jobs_first_and_the_listing_second(
        base: BTreeSet<u8>, listed: BTreeSet<u8>, touched: BTreeSet<u8>, made: BTreeSet<u8>,
        resized: bool,
    ) {
        let known = volumes(&base, 1);
        let size = if resized { 2 } else { 1 };
        let merged = Merged::new(&known, listing(&listed, size));
        let mut now = known.clone();
        let kept: Vec<_> = touched.iter().copied().map(volume_name).collect();
        for name in &touched {
            match made.contains(name) {
                true => drop(now.insert(volume_name(*name), Arc::clone(&volumes(&touched, 7)[&volume_name(*name)]))),
                false => drop(now.remove(&volume_name(*name))),
            }
        }
        let (result, changes) = merged.publish(&now, kept.iter());
        for name in 0..=u8::MAX {
            let (key, found) = (volume_name(name), result.get(&volume_name(name)));
            if touched.contains(&name) {
                prop_assert_eq!(found, now.get(&key));
                prop_assert!(!changes.contains_key(&key));
            } else {
                prop_assert_eq!(found.is_some(), listed.contains(&name));
                prop_assert_eq!(found.map(|found| found.capacity), listed.contains(&name).then_some(size));
                match changes.get(&key) {
                    Some((before, after)) => {
                        prop_assert_eq!(before.as_ref(), known.get(&key));
                        prop_assert_eq!(after.as_ref(), found);
                    }
                    None => prop_assert_eq!(known.get(&key), found),
                }
            }
        }
    }
}
