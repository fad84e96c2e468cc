//! Jobs on volumes: leases, cancel and undo, limits, numbers.

use super::*;
use crate::backend::{DeleteOptions, ResizeOptions, StopOptions};
use crate::model::BackingStore;

#[tokio::test]
async fn volumes_are_created_resized_and_deleted() {
    let world = World::new();
    let pool = world.started("images").await;
    let mut changes = world.engine.changes();
    let job = create(&pool, "a").await;
    job.wait().await.unwrap();
    assert!(changes.take().pools.contains(&pool.uuid()));
    assert_eq!(names(&pool), ["a"]);
    assert_eq!(pool.snapshot().usage.allocation, 10, "room is read again");
    let done = job.snapshot();
    assert_eq!((done.state, done.bytes, done.total), (JobState::Done, 10, 10));
    assert_eq!(done.result["path"], ResultValue::Text("/srv/images/a".to_owned()));

    let a = VolumeName::new("a").unwrap();
    let def = volume_def("a", 1);
    let again = pool.create_volume(def, CreateVolumeOptions::default(), &ROOT).await;
    assert_eq!(kind(again), Some(ErrorKind::Exists));
    let options = ResizeOptions::default();
    pool.resize_volume(&a, 50, options, &ROOT).await.unwrap().wait().await.unwrap();
    assert_eq!(pool.snapshot().volumes["a"].capacity, 50);

    let (found, name) = world.engine.find_volume("/srv/images/a").await.unwrap();
    assert_eq!((found.uuid(), &name), (pool.uuid(), &a));

    pool.delete_volume(&a, DeleteOptions::default(), &ROOT).await.unwrap().wait().await.unwrap();
    assert_eq!(
        kind(pool.delete_volume(&a, DeleteOptions::default(), &ROOT).await),
        Some(ErrorKind::NotFound)
    );
    assert_eq!(kind(world.engine.find_volume("/srv/images/a").await), Some(ErrorKind::NotFound));
}

#[tokio::test]
async fn a_volume_under_a_job_is_busy_and_others_are_not() {
    let world = World::new();
    let pool = world.started("images").await;
    world.sim.hold("images", "create");
    let first = create(&pool, "a").await;
    world.sim.called("images", "create", 1).await;
    assert_eq!(pool.snapshot().volume_jobs["a"], first.id());
    assert!(names(&pool).is_empty(), "it appears when it is whole");
    let options = CreateVolumeOptions::default();
    let error = pool.create_volume(volume_def("a", 1), options, &ROOT).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Busy);
    assert!(error.message().contains("volume a") && error.message().contains("volume-create"));

    let stop = pool.stop(StopOptions::default(), &ROOT).await.unwrap();
    assert_eq!(kind(stop.wait().await), Some(ErrorKind::Busy));
    let second = create(&pool, "b").await;
    pool.refresh(&ROOT).await.unwrap().wait().await.unwrap();
    world.sim.release("images", "create");
    first.wait().await.unwrap();
    second.wait().await.unwrap();
    assert_eq!(names(&pool), ["a", "b"]);
    assert!(pool.snapshot().volume_jobs.is_empty());
}

#[tokio::test]
async fn a_cancelled_creation_undoes_its_steps() {
    let world = World::new();
    let pool = world.started("images").await;
    let made = world.root.path().join("step");
    world.sim.step(made.clone());
    world.sim.hold("images", "create");
    let job = create(&pool, "a").await;
    world.sim.called("images", "create", 1).await;
    assert!(made.exists());
    job.cancel().unwrap();
    assert_eq!(kind(job.wait().await), Some(ErrorKind::Cancelled));
    assert_eq!(job.snapshot().state, JobState::Cancelled);
    assert!(!made.exists());
    assert!(names(&pool).is_empty() && world.sim.names("images").is_empty());
    assert!(Store::open(world.root.path()).unwrap().journals().0.is_empty());
    assert_eq!(kind(job.cancel()), Some(ErrorKind::NotSupported));
}

#[tokio::test]
async fn a_forced_stop_cancels_the_jobs_in_its_way() {
    let world = World::new();
    let pool = world.started("images").await;
    world.sim.hold("images", "create");
    let job = create(&pool, "a").await;
    world.sim.called("images", "create", 1).await;
    let options = StopOptions { force: true, ..StopOptions::default() };
    pool.stop(options, &ROOT).await.unwrap().wait().await.unwrap();
    assert_eq!(job.snapshot().state, JobState::Cancelled);
    assert_eq!(state(&pool), PoolState::Inactive);
}

#[tokio::test]
async fn nobody_can_have_more_jobs_than_the_limit() {
    let world =
        World::with(EngineOptions { max_jobs: 3, max_jobs_per_uid: 2, ..EngineOptions::default() });
    let pool = world.started("images").await;
    world.sim.hold("images", "create");
    let options = CreateVolumeOptions::default();
    let mut jobs = Vec::new();
    for name in ["a", "b"] {
        jobs.push(pool.create_volume(volume_def(name, 1), options, &USER).await.unwrap());
    }
    let third = pool.create_volume(volume_def("c", 1), options, &USER).await;
    assert_eq!(kind(third), Some(ErrorKind::LimitsExceeded));
    jobs.push(pool.create_volume(volume_def("c", 1), options, &ROOT).await.unwrap());
    let fourth = pool.create_volume(volume_def("d", 1), options, &ROOT).await;
    assert_eq!(kind(fourth), Some(ErrorKind::LimitsExceeded));
    world.sim.release("images", "create");
    for job in &jobs {
        job.wait().await.unwrap();
    }
    pool.create_volume(volume_def("d", 1), options, &USER).await.unwrap().wait().await.unwrap();
    assert!(jobs.windows(2).all(|pair| pair[0].id() < pair[1].id()));
}

#[tokio::test]
async fn ended_jobs_stay_readable_for_a_while_and_then_the_engine_is_idle() {
    let retention = Duration::from_millis(20);
    let world = World::with(EngineOptions { job_retention: retention, ..EngineOptions::default() });
    let pool = world.started("images").await;
    let mut changes = world.engine.changes();
    let job = create(&pool, "a").await;
    job.wait().await.unwrap();
    while world.engine.job(job.id()).is_some() {
        changes.next().await;
    }
    assert!(world.engine.jobs().is_empty() && world.engine.is_idle());
    assert_eq!(job.snapshot().state, JobState::Done, "a handle outlives the table");
}

#[tokio::test]
async fn a_shut_down_cancels_jobs_and_refuses_new_ones() {
    let world = World::new();
    let pool = world.started("images").await;
    world.sim.hold("images", "create");
    let job = create(&pool, "a").await;
    world.sim.called("images", "create", 1).await;
    world.engine.shut_down(Duration::from_secs(60)).await;
    assert_eq!(job.snapshot().state, JobState::Cancelled);
    assert_eq!(kind(pool.refresh(&ROOT).await), Some(ErrorKind::Cancelled));
}

#[tokio::test]
async fn a_base_is_in_use_from_the_moment_an_overlay_on_it_is_asked_for() {
    let world = World::new();
    let pool = world.started("images").await;
    create(&pool, "base").await.wait().await.unwrap();
    let base = VolumeName::new("base").unwrap();
    let overlay = |name| {
        let path = "/srv/images/base".to_owned();
        let backing = Some(BackingStore { path, format: None, permissions: None });
        let def = VolumeDef { backing, ..volume_def(name, 10) };
        pool.create_volume(def, CreateVolumeOptions::default(), &ROOT)
    };

    world.sim.hold("images", "create");
    let creation = overlay("overlay").await.unwrap();
    world.sim.called("images", "create", 2).await;
    let deletion = pool
        .delete_volume(&base, DeleteOptions::default(), &ROOT)
        .await
        .unwrap()
        .wait()
        .await
        .unwrap_err();
    assert_eq!(deletion.kind(), ErrorKind::Busy);
    assert!(deletion.message().contains("volume overlay"), "{deletion}");
    world.sim.release("images", "create");
    creation.wait().await.unwrap();

    world.sim.hold("images", "delete_volume");
    let force = DeleteOptions { force: true, ..DeleteOptions::default() };
    let deletion = pool.delete_volume(&base, force, &ROOT).await.unwrap();
    let refused = overlay("late").await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Busy, "its base is being deleted");
    world.sim.release("images", "delete_volume");
    deletion.wait().await.unwrap();
}
