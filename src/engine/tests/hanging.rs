//! Pools that hang, and what that costs the others: nothing.

use super::*;
use crate::backend::StopOptions;

#[tokio::test]
async fn a_pool_that_hangs_is_given_up_and_comes_back_by_itself() {
    let world = World::impatient();
    let pool = world.started("dead").await;
    world.sim.hang("dead", "refresh");
    let job = pool.refresh(&ROOT).await.unwrap();
    assert_eq!(kind(job.wait().await), Some(ErrorKind::TimedOut));
    assert_eq!(state(&pool), PoolState::Inaccessible);

    let before = world.sim.calls("dead", "refresh");
    for _ in 0..100 {
        assert_eq!(kind(pool.refresh(&ROOT).await), Some(ErrorKind::Inaccessible));
        let def = volume_def("a", 1);
        let made = pool.create_volume(def, CreateVolumeOptions::default(), &ROOT).await;
        assert_eq!(kind(made), Some(ErrorKind::Inaccessible));
    }
    assert_eq!(world.sim.calls("dead", "refresh"), before, "nothing more is given to it");
    assert_eq!(world.sim.calls("dead", "create"), 0);

    world.sim.drop_in("dead", "new", 1);
    world.sim.release("dead", "refresh");
    until(&world.engine, &pool, |now| now.state == PoolState::Active && !now.stale).await;
    assert_eq!(names(&pool), ["new"]);
    assert!(pool.snapshot().last_error.is_none());
}

#[tokio::test]
async fn what_hangs_is_said_however_often_the_pool_is_looked_at() {
    let world = World::impatient();
    let pool = world.started("dead").await;
    world.sim.hang("dead", "refresh");
    let job = pool.refresh(&ROOT).await.unwrap();
    world.sim.called("dead", "refresh", 2).await;
    // Queued behind it, as by a clock or a change that was seen.
    crate::engine::live::reload(&pool.shared, &pool.pool).await;
    let error = job.wait().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TimedOut);
    let said = pool.snapshot().last_error.clone().unwrap();
    assert_eq!((said.kind(), said.message()), (error.kind(), error.message()));
    world.sim.release("dead", "refresh");
    until(&world.engine, &pool, |now| now.last_error.is_none()).await;
}

#[tokio::test]
async fn a_part_that_is_missing_is_said_until_it_is_back_which_nobody_tells() {
    let world = World::impatient();
    let pool = world.started("paths").await;
    world.sim.fail("paths", "condition", ErrorKind::Inaccessible);
    pool.refresh(&ROOT).await.unwrap().wait().await.unwrap();
    let now = pool.snapshot();
    assert_eq!(now.state, PoolState::Active);
    assert_eq!(now.last_error.as_ref().map(Error::kind), Some(ErrorKind::Inaccessible));
    // More than the refresh and the one look that follows it.
    world.sim.called("paths", "condition", world.sim.calls("paths", "condition") + 3).await;
    assert!(pool.snapshot().last_error.is_some());
    world.sim.heal("paths", "condition");
    until(&world.engine, &pool, |now| now.last_error.is_none()).await;
    // One look may have been asked for.
    tokio::time::sleep(Duration::from_millis(100)).await;
    let looks = world.sim.calls("paths", "condition");
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(world.sim.calls("paths", "condition"), looks, "nobody waits for it any more");
}

#[tokio::test]
async fn a_part_that_is_missing_is_fetched_as_soon_as_that_can_be_done() {
    let world = World::impatient();
    let pool = world.started("paths").await;
    world.sim.fail("paths", "condition", ErrorKind::Inaccessible);
    world.sim.fail("paths", "complete", ErrorKind::Inaccessible);
    pool.refresh(&ROOT).await.unwrap().wait().await.unwrap();
    world.sim.called("paths", "complete", 3).await;
    let now = pool.snapshot();
    assert_eq!((now.state, now.last_error.is_some()), (PoolState::Active, true));
    // What was fetched is seen by the check that it was fetched for.
    world.sim.hold("paths", "complete");
    world.sim.called("paths", "complete", world.sim.calls("paths", "complete") + 1).await;
    let tries = world.sim.calls("paths", "complete");
    world.sim.can_be_completed("paths");
    world.sim.heal("paths", "complete");
    world.sim.release("paths", "complete");
    until(&world.engine, &pool, |now| now.last_error.is_none()).await;
    assert_eq!(world.sim.calls("paths", "complete"), tries);
    // Nothing is missing.
    let looks = world.sim.calls("paths", "usage");
    pool.pool.ask_check(&pool.shared);
    world.sim.called("paths", "usage", looks + 1).await;
    assert_eq!(world.sim.calls("paths", "complete"), tries);
}

#[tokio::test]
async fn nobody_waits_for_a_part_that_is_being_fetched() {
    let world = World::with(EngineOptions {
        refresh_timeout: Duration::from_secs(600),
        retry: (Duration::from_millis(5), Duration::from_millis(20)),
        ..EngineOptions::default()
    });
    let pool = world.started("paths").await;
    world.sim.fail("paths", "condition", ErrorKind::Inaccessible);
    world.sim.hold("paths", "complete");
    pool.refresh(&ROOT).await.unwrap().wait().await.unwrap();
    world.sim.called("paths", "complete", 1).await;
    pool.stop(StopOptions::default(), &ROOT).await.unwrap().wait().await.unwrap();
    assert_eq!(state(&pool), PoolState::Inactive);
}

#[tokio::test]
async fn a_thousand_calls_elsewhere_are_answered_while_a_pool_hangs() {
    let world = World::with(EngineOptions {
        workers: 2,
        refresh_timeout: Duration::from_millis(500),
        ..EngineOptions::default()
    });
    let dead = world.started("dead").await;
    let live = world.started("live").await;
    world.sim.hang("dead", "refresh");
    let hung = dead.refresh(&ROOT).await.unwrap();
    world.sim.called("dead", "refresh", 2).await;
    for number in 0..1000 {
        let name = format!("v{number}");
        create(&live, &name).await.wait().await.unwrap();
        assert!(live.snapshot().volumes.contains_key(name.as_str()));
    }
    let _ = hung.wait().await;
    world.sim.release("dead", "refresh");
}

#[tokio::test]
async fn many_pools_that_hang_leave_threads_for_the_others() {
    let mut options = World::impatient().options;
    options.workers = 4;
    let world = World::with(options);
    let mut dead = Vec::new();
    for number in 0..4 {
        let name = format!("dead{number}");
        dead.push((world.started(&name).await, name));
    }
    for (pool, name) in &dead {
        world.sim.hang(name, "refresh");
        let job = pool.refresh(&ROOT).await.unwrap();
        assert_eq!(kind(job.wait().await), Some(ErrorKind::TimedOut));
    }
    let live = world.started("live").await;
    create(&live, "a").await.wait().await.unwrap();
    for (_, name) in &dead {
        world.sim.release(name, "refresh");
    }
}

#[tokio::test]
async fn a_forced_stop_ends_a_pool_that_hangs() {
    let world = World::impatient();
    let pool = world.started("dead").await;
    world.sim.hang("dead", "refresh");
    let _ = pool.refresh(&ROOT).await.unwrap().wait().await;
    let gentle = pool.stop(StopOptions::default(), &ROOT).await;
    assert_eq!(kind(gentle), Some(ErrorKind::Inaccessible));
    let options = StopOptions { force: true, ..StopOptions::default() };
    pool.stop(options, &ROOT).await.unwrap().wait().await.unwrap();
    assert_eq!(state(&pool), PoolState::Inactive);
    world.sim.release("dead", "refresh");
}

#[tokio::test]
async fn a_stop_that_hangs_is_under_way_until_it_returns() {
    let mut world = World::impatient();
    let pool = world.started("dead").await;
    world.sim.hang("dead", "stop");
    world.sim.hang("dead", "refresh");
    let _ = pool.refresh(&ROOT).await.unwrap().wait().await;
    let options = StopOptions { force: true, ..StopOptions::default() };
    let stop = pool.stop(options, &ROOT).await.unwrap();
    let error = stop.wait().await.unwrap_err();
    assert!(error.message().ends_with("it is stopping until that returns"), "{error}");
    assert_eq!((error.kind(), state(&pool)), (ErrorKind::TimedOut, PoolState::Stopping));
    assert_eq!(kind(pool.start(None, &ROOT).await), Some(ErrorKind::Inaccessible));
    // What else hangs does not matter.
    world.sim.release("dead", "stop");
    until(&world.engine, &pool, |now| now.state == PoolState::Inactive).await;
    world.sim.release("dead", "refresh");
    pool.start(None, &ROOT).await.unwrap().wait().await.unwrap();
    world.restart();
    assert_eq!(state(&world.engine.find_pool("dead").unwrap()), PoolState::Active);
}

#[tokio::test]
async fn a_stop_that_fails_after_it_hung_leaves_the_pool_active() {
    let world = World::impatient();
    let pool = world.started("dead").await;
    world.sim.hang("dead", "stop");
    world.sim.fail("dead", "stop", ErrorKind::Busy);
    let stop = pool.stop(StopOptions::default(), &ROOT).await.unwrap();
    assert_eq!(kind(stop.wait().await), Some(ErrorKind::TimedOut));
    assert_eq!(state(&pool), PoolState::Stopping);
    world.sim.release("dead", "stop");
    until(&world.engine, &pool, |now| now.state == PoolState::Active && !now.stale).await;
}

#[tokio::test]
async fn a_creation_that_hangs_is_found_out_and_its_late_success_undone() {
    let world = World::impatient();
    let pool = world.started("dead").await;
    world.sim.hang("dead", "create");
    world.sim.hang("dead", "usage");
    let job = create(&pool, "a").await;
    assert_eq!(kind(job.wait().await), Some(ErrorKind::TimedOut));
    assert_eq!(state(&pool), PoolState::Inaccessible);
    world.sim.release("dead", "usage");
    world.sim.release("dead", "create");
    until(&world.engine, &pool, |now| now.state == PoolState::Active && !now.stale).await;
    assert!(names(&pool).is_empty() && world.sim.names("dead").is_empty());
}

#[tokio::test]
async fn a_start_that_hangs_is_undone_when_it_returns() {
    let world = World::impatient();
    let pool = world.defined("dead").await;
    world.sim.hang("dead", "start");
    let job = pool.start(None, &ROOT).await.unwrap();
    assert_eq!(kind(job.wait().await), Some(ErrorKind::TimedOut));
    assert_eq!(state(&pool), PoolState::Inaccessible);
    assert_eq!(kind(pool.start(None, &ROOT).await), Some(ErrorKind::Inaccessible));
    world.sim.release("dead", "start");
    until(&world.engine, &pool, |now| now.state == PoolState::Inactive).await;
    world.sim.called("dead", "stop", 1).await;
    pool.start(None, &ROOT).await.unwrap().wait().await.unwrap();
}

#[tokio::test]
async fn what_hung_says_nothing_of_the_pool_when_it_returns() {
    let mut world = World::impatient();
    let (hung, again) = (world.defined("hung").await, world.started("again").await);
    world.sim.hang("hung", "start");
    world.sim.hang("again", "stop");
    let start = hung.start(None, &ROOT).await.unwrap();
    let stop = again.stop(StopOptions::default(), &ROOT).await.unwrap();
    for job in [start, stop] {
        assert_eq!(kind(job.wait().await), Some(ErrorKind::TimedOut));
    }
    world.sim.release("hung", "start");
    world.sim.release("again", "stop");
    until(&world.engine, &hung, |now| now.state == PoolState::Inactive).await;
    until(&world.engine, &again, |now| now.state == PoolState::Inactive).await;
    // Waits for what the actors have under way.
    hung.set_autostart(true).await.unwrap();
    world.restart();
    assert_eq!(state(&world.engine.find_pool("hung").unwrap()), PoolState::Inactive);
    assert_eq!(state(&world.engine.find_pool("again").unwrap()), PoolState::Inactive);
}

#[tokio::test]
async fn a_forced_stop_ends_a_pool_whose_first_reading_hangs() {
    let mut world = World::impatient();
    world.started("dead").await;
    world.restart();
    world.sim.hang("dead", "refresh");
    world.engine.resume();
    world.sim.called("dead", "refresh", 2).await;
    let pool = world.engine.find_pool("dead").unwrap();
    let options = StopOptions { force: true, ..StopOptions::default() };
    pool.stop(options, &ROOT).await.unwrap().wait().await.unwrap();
    assert_eq!(state(&pool), PoolState::Inactive);
    world.sim.release("dead", "refresh");
}

#[tokio::test]
async fn a_cancelled_job_that_is_slow_to_hear_it_costs_the_pool_nothing() {
    let world = World::impatient();
    let pool = world.started("slow").await;
    world.sim.hang("slow", "create");
    let job = create(&pool, "a").await;
    world.sim.called("slow", "create", 1).await;
    let before = world.sim.calls("slow", "usage");
    job.cancel().unwrap();
    // So many looks whether the pool lives take longer than a cancelled job has to end.
    world.sim.called("slow", "usage", before + 6).await;
    assert_eq!((state(&pool), job.snapshot().state), (PoolState::Active, JobState::Running));
    pool.refresh(&ROOT).await.unwrap().wait().await.unwrap();
    world.sim.release("slow", "create");
    job.wait().await.unwrap();
    assert_eq!(names(&pool), ["a"], "it was done before it heard");
}

/// A pool whose refresh is under way for longer than it may take.
async fn overtime(world: &World, name: &str) -> (PoolHandle, JobHandle) {
    let pool = world.started(name).await;
    world.sim.is_large(name);
    world.sim.hold(name, "refresh");
    let before = world.sim.calls(name, "usage");
    let job = pool.refresh(&ROOT).await.unwrap();
    // It is asked beside it, again and again.
    world.sim.called(name, "usage", before + 2).await;
    assert_eq!(state(&pool), PoolState::Active);
    (pool, job)
}

#[tokio::test]
async fn what_is_much_is_read_to_its_end_while_the_pool_answers() {
    let world = World::impatient();
    let (pool, job) = overtime(&world, "images").await;
    world.sim.release("images", "refresh");
    job.wait().await.unwrap();
    assert_eq!((state(&pool), pool.snapshot().stale), (PoolState::Active, false));
}

#[tokio::test]
async fn who_wants_something_else_of_a_pool_does_not_wait_until_all_is_read() {
    let world = World::impatient();
    let (pool, job) = overtime(&world, "images").await;
    pool.set_autostart(true).await.unwrap();
    let error = job.wait().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Cancelled);
    assert!(error.message().contains("gave way"), "{error}");
    assert_eq!(state(&pool), PoolState::Active, "nothing is wrong with it");
    let job = pool.refresh(&ROOT).await.unwrap();
    let stop = pool.stop(StopOptions::default(), &ROOT).await.unwrap();
    stop.wait().await.unwrap();
    assert_eq!(kind(job.wait().await), Some(ErrorKind::Cancelled));
    assert_eq!(state(&pool), PoolState::Inactive);
}

#[tokio::test]
async fn a_refresh_does_not_give_way_to_another() {
    let world = World::impatient();
    let (pool, job) = overtime(&world, "images").await;
    let before = world.sim.calls("images", "usage");
    let second = pool.refresh(&ROOT).await.unwrap();
    world.sim.called("images", "usage", before + 3).await;
    world.sim.release("images", "refresh");
    job.wait().await.unwrap();
    second.wait().await.unwrap();
}

#[tokio::test]
async fn a_start_gives_way_to_nobody() {
    let world = World::impatient();
    let (pool, job) = overtime(&world, "images").await;
    pool.stop(StopOptions::default(), &ROOT).await.unwrap().wait().await.unwrap();
    let _ = job.wait().await;
    let before = world.sim.calls("images", "usage");
    let start = pool.start(None, &ROOT).await.unwrap();
    let asking = pool.clone();
    let asked = tokio::spawn(async move { asking.set_autostart(true).await });
    world.sim.called("images", "usage", before + 3).await;
    world.sim.release("images", "refresh");
    start.wait().await.unwrap();
    asked.await.unwrap().unwrap();
    assert_eq!(state(&pool), PoolState::Active);
}

#[tokio::test]
async fn a_pool_that_dies_while_much_is_read_is_given_up() {
    let world = World::impatient();
    let (pool, job) = overtime(&world, "images").await;
    world.sim.fail("images", "usage", ErrorKind::Inaccessible);
    assert_eq!(kind(job.wait().await), Some(ErrorKind::TimedOut));
    assert_eq!(state(&pool), PoolState::Inaccessible);
    world.sim.heal("images", "usage");
    world.sim.release("images", "refresh");
    until(&world.engine, &pool, |now| now.state == PoolState::Active && !now.stale).await;
}

#[tokio::test]
async fn a_session_that_ends_is_seen_while_nobody_watches() {
    let world = World::with(EngineOptions {
        rescan: Duration::from_millis(20),
        retry: (Duration::from_millis(5), Duration::from_millis(20)),
        ..EngineOptions::default()
    });
    world.sim.has_sessions();
    let pool = world.started("units").await;
    world.engine.resume();
    world.sim.fail("units", "condition", ErrorKind::Inaccessible);
    until(&world.engine, &pool, |now| now.last_error.is_some()).await;
    assert_eq!(state(&pool), PoolState::Active);
    world.sim.fail("units", "usage", ErrorKind::Inaccessible);
    until(&world.engine, &pool, |now| now.state == PoolState::Inaccessible).await;
    for method in ["usage", "condition"] {
        world.sim.heal("units", method);
    }
    let well = |now: &PoolSnapshot| now.state == PoolState::Active && now.last_error.is_none();
    until(&world.engine, &pool, well).await;
}

#[tokio::test]
async fn a_pool_that_is_slow_to_read_holds_up_no_other() {
    let world = World::with(EngineOptions {
        rescan: Duration::from_millis(20),
        refresh_timeout: Duration::from_secs(600),
        ..EngineOptions::default()
    });
    let (slow, other) = (world.started("slow").await, world.started("other").await);
    let before = world.sim.calls("slow", "refresh");
    world.sim.hang("slow", "refresh");
    world.engine.resume();
    world.engine.set_watched(true);
    world.sim.called("slow", "refresh", before + 1).await;
    world.sim.drop_in("other", "late", 1 << 20);
    until(&world.engine, &other, |now| !now.volumes.is_empty()).await;
    assert_eq!(state(&slow), PoolState::Active);
    world.sim.release("slow", "refresh");
}
