//! The daemon ends and starts again: what was acknowledged is there, what was not is undone.

use super::*;
use crate::backend::{StopOptions, Undo};

#[tokio::test]
async fn what_was_active_comes_back_and_is_loaded_in_the_background() {
    let mut world = World::new();
    world.sim.drop_in("images", "a", 1);
    world.started("images").await;
    world.defined("idle").await;
    let options = DefineOptions { start: true, transient: true, ..DefineOptions::default() };
    let brief = world.engine.define_pool(pool_def("brief"), options, &ROOT).await.unwrap();
    brief.1.unwrap().wait().await.unwrap();

    world.restart();
    let pool = world.engine.find_pool("images").unwrap();
    assert_eq!((state(&pool), pool.snapshot().loaded), (PoolState::Active, false));
    assert_eq!(state(&world.engine.find_pool("idle").unwrap()), PoolState::Inactive);
    assert!(!world.engine.find_pool("brief").unwrap().snapshot().persistent);
    world.engine.resume();
    let (_, volume) = world.engine.find_volume("/srv/images/a").await.unwrap();
    assert_eq!(volume.as_str(), "a");
    assert_eq!(world.sim.calls("images", "start"), 1, "it is not started again");
}

#[tokio::test]
async fn a_call_waits_for_the_first_load_of_its_pool_only() {
    let mut world = World::new();
    world.started("slow").await;
    world.started("quick").await;
    world.restart();
    world.sim.hold("slow", "refresh");
    world.engine.resume();
    let quick = world.engine.find_pool("quick").unwrap();
    quick.loaded().await.unwrap();
    create(&quick, "a").await.wait().await.unwrap();
    let slow = world.engine.find_pool("slow").unwrap();
    assert!(!slow.snapshot().loaded);
    world.sim.release("slow", "refresh");
    create(&slow, "b").await.wait().await.unwrap();
    assert_eq!(names(&slow), ["b"]);
}

#[tokio::test]
async fn steps_of_a_job_that_died_are_undone() {
    let mut world = World::new();
    let pool = world.started("images").await;
    let made = world.root.path().join("half");
    std::fs::create_dir(&made).unwrap();
    let step = serde_json::to_value(Undo::RemoveDirectory(made.clone())).unwrap();
    Store::open(world.root.path()).unwrap().journal_step(99, pool.uuid(), &step).unwrap();
    world.restart();
    world.engine.resume();
    world.engine.find_pool("images").unwrap().loaded().await.unwrap();
    assert!(!made.exists());
    assert!(Store::open(world.root.path()).unwrap().journals().0.is_empty());
}

#[tokio::test]
async fn a_storage_that_is_another_one_after_a_restart_is_inaccessible_until_it_is_back() {
    let mut world = World::impatient();
    world.started("images").await;
    world.restart();
    world.sim.fail("images", "refresh", ErrorKind::Inaccessible);
    world.engine.resume();
    let pool = world.engine.find_pool("images").unwrap();
    until(&world.engine, &pool, |now| now.state == PoolState::Inaccessible).await;
    assert_eq!(kind(pool.loaded().await), Some(ErrorKind::Inaccessible));
    world.sim.heal("images", "refresh");
    pool.refresh(&ROOT).await.unwrap().wait().await.unwrap();
    assert_eq!(state(&pool), PoolState::Active);
}

#[tokio::test]
async fn autostart_tries_until_the_storage_is_there_and_once_per_boot() {
    let mut world = World::impatient();
    world.defined("late").await.set_autostart(true).await.unwrap();
    world.sim.fail("late", "start", ErrorKind::NotBuilt);
    world.restart();
    world.engine.resume();
    let pool = world.engine.find_pool("late").unwrap();
    until(&world.engine, &pool, |now| now.next_try > 0 && now.last_error.is_some()).await;
    assert_eq!(pool.snapshot().waiting_for, "directory /srv/late");
    assert!(!world.engine.is_idle());
    world.sim.called("late", "start", 3).await;
    world.sim.heal("late", "start");
    let up = |now: &PoolSnapshot| now.state == PoolState::Active && now.next_try == 0;
    until(&world.engine, &pool, up).await;
    assert!(pool.snapshot().waiting_for.is_empty() && pool.snapshot().last_error.is_none());
    while !world.engine.shared.store.autostart_done() {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn who_asks_for_an_autostart_beside_the_boots_waits_for_the_same_start() {
    let mut world = World::impatient();
    world.defined("images").await.set_autostart(true).await.unwrap();
    world.restart();
    world.sim.hold("images", "start");
    world.engine.resume();
    world.sim.called("images", "start", 1).await;
    let jobs = world.engine.autostart(&ROOT).await.unwrap();
    let [job] = &jobs[..] else { panic!("{} jobs", jobs.len()) };
    assert!(!job.snapshot().state.ended());
    world.sim.release("images", "start");
    job.wait().await.unwrap();
    assert_eq!(state(&world.engine.find_pool("images").unwrap()), PoolState::Active);
    assert!(world.engine.autostart(&ROOT).await.unwrap().is_empty(), "nothing is left to do");
}

#[tokio::test]
async fn a_pool_stopped_by_hand_stays_stopped() {
    let mut world = World::impatient();
    let pool = world.started("images").await;
    pool.set_autostart(true).await.unwrap();
    pool.stop(StopOptions::default(), &ROOT).await.unwrap().wait().await.unwrap();
    world.restart();
    assert!(world.engine.autostart(&ROOT).await.unwrap().is_empty());
    let pool = world.engine.find_pool("images").unwrap();
    assert_eq!(state(&pool), PoolState::Inactive);
    pool.start(None, &ROOT).await.unwrap().wait().await.unwrap();
}

#[tokio::test]
async fn a_start_that_is_asked_to_be_tried_again_is_until_it_is_up_or_unwanted() {
    let world = World::impatient();
    let pool = world.defined("late").await;
    world.sim.fail("late", "start", ErrorKind::Inaccessible);
    let job = pool.start_until_active(None, &ROOT).await.unwrap();
    assert_eq!(kind(job.wait().await), Some(ErrorKind::Inaccessible));
    until(&world.engine, &pool, |now| now.next_try > 0 && !now.waiting_for.is_empty()).await;
    pool.stop(StopOptions::default(), &ROOT).await.unwrap().wait().await.unwrap();
    assert_eq!((pool.snapshot().next_try, pool.snapshot().waiting_for.as_str()), (0, ""));

    let job = pool.start_until_active(None, &ROOT).await.unwrap();
    assert_eq!(kind(job.wait().await), Some(ErrorKind::Inaccessible));
    world.sim.heal("late", "start");
    let up = |now: &PoolSnapshot| now.state == PoolState::Active && now.next_try == 0;
    until(&world.engine, &pool, up).await;

    pool.stop(StopOptions::default(), &ROOT).await.unwrap().wait().await.unwrap();
    world.sim.hold("late", "start");
    let job = pool.start_until_active(None, &ROOT).await.unwrap();
    job.cancel().unwrap();
    assert_eq!(kind(job.wait().await), Some(ErrorKind::Cancelled));
    world.sim.release("late", "start");
    while world.engine.shared.is_busy() {
        tokio::task::yield_now().await;
    }
    assert_eq!(state(&pool), PoolState::Inactive);
}

#[tokio::test]
async fn a_stop_by_hand_ends_the_tries_of_an_autostart() {
    let world = World::impatient();
    let pool = world.defined("late").await;
    pool.set_autostart(true).await.unwrap();
    world.sim.fail("late", "start", ErrorKind::NotBuilt);
    let jobs = world.engine.autostart(&ROOT).await.unwrap();
    assert_eq!(jobs.len(), 1);
    until(&world.engine, &pool, |now| now.next_try > 0).await;
    pool.stop(StopOptions::default(), &ROOT).await.unwrap().wait().await.unwrap();
    assert_eq!((pool.snapshot().next_try, pool.snapshot().waiting_for.as_str()), (0, ""));
    assert!(world.engine.autostart(&ROOT).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_definition_written_by_hand_without_uuid_gets_one_that_lasts() {
    let mut world = World::new();
    let text = "<pool type='dir'><name>hand</name><target><path>/srv/hand</path></target></pool>";
    let file = world.root.path().join("etc/poold/pools/hand.xml");
    std::fs::write(&file, text).unwrap();
    world.engine.reload().await.unwrap();
    let uuid = world.engine.find_pool("hand").unwrap().uuid();
    world.restart();
    assert_eq!(world.engine.find_pool("hand").unwrap().uuid(), uuid);
    std::fs::write(&file, text).unwrap();
    world.restart();
    let given = world.engine.find_pool("hand").unwrap().uuid();
    world.restart();
    assert_eq!(world.engine.find_pool("hand").unwrap().uuid(), given);
}

#[tokio::test]
async fn a_reload_takes_over_new_and_changed_definitions() {
    let world = World::new();
    let pool = world.defined("known").await;
    let store = Store::open(world.root.path()).unwrap();
    store.save_pool(&pool_def("new")).unwrap();
    let mut changed = pool_def("known");
    changed.target.as_mut().unwrap().path = "/srv/moved".to_owned();
    store.save_pool(&changed).unwrap();
    world.engine.reload().await.unwrap();
    assert!(world.engine.find_pool("new").unwrap().snapshot().persistent);
    assert_eq!(pool.snapshot().def.target_path(), Some("/srv/moved"));
    assert_eq!(world.engine.find_pool_by_target("/srv/moved/").unwrap().uuid(), pool.uuid());
}
