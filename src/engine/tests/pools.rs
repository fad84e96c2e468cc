//! Defining, starting, stopping and forgetting pools.

use super::*;
use crate::backend::StopOptions;
use crate::host::Host;
use crate::model::HostAddress;

#[tokio::test]
async fn a_pool_is_defined_started_stopped_and_undefined() {
    let world = World::new();
    let mut changes = world.engine.changes();
    let pool = world.defined("images").await;
    assert_eq!(state(&pool), PoolState::Inactive);
    assert!(changes.take().pools.contains(&pool.uuid()));

    world.sim.drop_in("images", "a", 3);
    let job = pool.start(None, &ROOT).await.unwrap();
    job.wait().await.unwrap();
    assert_eq!((state(&pool), names(&pool)), (PoolState::Active, vec!["a".to_owned()]));
    assert_eq!(pool.snapshot().usage.allocation, 3);
    let set = changes.take();
    assert!(set.pools.contains(&pool.uuid()) && set.jobs.contains(&job.id()));
    assert_eq!(kind(pool.start(None, &ROOT).await), Some(ErrorKind::Active));
    assert_eq!(kind(pool.delete(false, &ROOT).await), Some(ErrorKind::Active));

    pool.stop(StopOptions::default(), &ROOT).await.unwrap().wait().await.unwrap();
    assert_eq!((state(&pool), names(&pool).len()), (PoolState::Inactive, 0));
    assert_eq!(kind(pool.stop(StopOptions::default(), &ROOT).await), Some(ErrorKind::NotActive));
    assert_eq!(kind(pool.refresh(&ROOT).await), Some(ErrorKind::NotActive));

    pool.undefine().await.unwrap();
    assert!(world.engine.find_pool("images").is_err());
    assert_eq!(kind(pool.start(None, &ROOT).await), Some(ErrorKind::NotFound));
}

#[tokio::test]
async fn an_equal_definition_is_the_same_pool_and_a_changed_one_waits_for_the_next_start() {
    let world = World::new();
    let pool = world.started("images").await;
    let again = world.started_or_not("images").await;
    assert_eq!(again.uuid(), pool.uuid());

    let mut changed = pool_def("images");
    changed.target.as_mut().unwrap().path = "/srv/elsewhere".to_owned();
    let options = DefineOptions::default();
    world.engine.define_pool(changed.clone(), options, &ROOT).await.unwrap();
    let snapshot = pool.snapshot();
    assert_eq!(snapshot.def.target_path(), Some("/srv/images"));
    assert_eq!(*snapshot.next_def.clone().unwrap(), changed);

    pool.stop(StopOptions::default(), &ROOT).await.unwrap().wait().await.unwrap();
    assert_eq!(*pool.snapshot().def, changed);
    assert!(pool.snapshot().next_def.is_none());
}

impl World {
    async fn started_or_not(&self, name: &str) -> PoolHandle {
        let options = DefineOptions { start: true, ..DefineOptions::default() };
        let (pool, job) = self.engine.define_pool(pool_def(name), options, &ROOT).await.unwrap();
        assert!(job.is_none());
        pool
    }
}

#[tokio::test]
async fn a_definition_without_uuid_means_the_pool_of_that_name() {
    let world = World::new();
    let pool = world.defined("images").await;
    let mut def = pool_def("images");
    def.uuid = Uuid::nil();
    let options = DefineOptions::default();
    let (same, _) = world.engine.define_pool(def, options, &ROOT).await.unwrap();
    assert_eq!(same.uuid(), pool.uuid());
    let mut changed = pool_def("images");
    changed.uuid = Uuid::nil();
    changed.target.as_mut().unwrap().path = "/srv/elsewhere".into();
    let refused = world.engine.define_pool(changed.clone(), options, &ROOT).await.err().unwrap();
    assert_eq!(refused.kind(), ErrorKind::Conflict);
    assert!(refused.message().contains(&pool.uuid().to_string()), "{refused}");
    changed.uuid = pool.uuid();
    world.engine.define_pool(changed, options, &ROOT).await.unwrap();
    let mut new = pool_def("other");
    new.uuid = Uuid::nil();
    let (other, _) = world.engine.define_pool(new, options, &ROOT).await.unwrap();
    assert!(!other.uuid().is_nil());
}

#[tokio::test]
async fn a_transient_pool_goes_when_it_stops_or_cannot_start() {
    let world = World::new();
    let options = DefineOptions { start: true, transient: true, ..DefineOptions::default() };
    let (pool, job) = world.engine.define_pool(pool_def("brief"), options, &ROOT).await.unwrap();
    job.unwrap().wait().await.unwrap();
    assert!(!pool.snapshot().persistent);
    assert_eq!(kind(pool.set_autostart(true).await), Some(ErrorKind::InvalidArgument));
    pool.stop(StopOptions::default(), &ROOT).await.unwrap().wait().await.unwrap();
    assert!(world.engine.pool(pool.uuid()).is_none());

    world.sim.fail("brief", "start", ErrorKind::NotBuilt);
    let (pool, job) = world.engine.define_pool(pool_def("brief"), options, &ROOT).await.unwrap();
    assert_eq!(kind(job.unwrap().wait().await), Some(ErrorKind::NotBuilt));
    assert!(world.engine.pool(pool.uuid()).is_none());
}

#[tokio::test]
async fn an_active_pool_that_is_undefined_lives_until_it_stops() {
    let world = World::new();
    let pool = world.started("images").await;
    pool.undefine().await.unwrap();
    assert_eq!((state(&pool), pool.snapshot().persistent), (PoolState::Active, false));
    pool.stop(StopOptions::default(), &ROOT).await.unwrap().wait().await.unwrap();
    assert!(world.engine.pools().is_empty());
}

#[tokio::test]
async fn a_start_that_fails_leaves_the_pool_inactive_and_says_why() {
    let world = World::new();
    let pool = world.defined("images").await;
    for method in ["start", "refresh"] {
        world.sim.fail("images", method, ErrorKind::Inaccessible);
        let job = pool.start(None, &ROOT).await.unwrap();
        assert_eq!(kind(job.wait().await), Some(ErrorKind::Inaccessible));
        assert_eq!(state(&pool), PoolState::Inactive);
        assert!(pool.snapshot().last_error.clone().unwrap().message().contains(method));
        world.sim.heal("images", method);
    }
    assert_eq!(world.sim.calls("images", "stop"), 1, "what was started is stopped again");
    pool.start(None, &ROOT).await.unwrap().wait().await.unwrap();
    assert!(pool.snapshot().last_error.is_none());
}

#[tokio::test]
async fn types_without_their_programs_can_be_defined_but_not_started() {
    if SystemHost.find_tool("dog").is_some() {
        println!("RESULT engine types-without-their-programs skip this host has a dog");
        return;
    }
    let world = World::new();
    let mut def = pool_def("server");
    def.pool_type = PoolType::Sheepdog;
    def.target = None;
    def.source.hosts = vec![HostAddress { name: "127.0.0.1".to_owned(), port: None }];
    let options = DefineOptions::default();
    let (pool, _) = world.engine.define_pool(def, options, &ROOT).await.unwrap();
    let started = pool.start(None, &ROOT).await.unwrap().wait().await;
    assert_eq!(started.unwrap_err().kind(), ErrorKind::ToolMissing);
    let types = world.engine.pool_types();
    let available = |of| types.iter().any(|each| each.pool_type == of && each.available);
    assert!(available(PoolType::Dir) && !available(PoolType::Sheepdog));
    pool.undefine().await.unwrap();
}

#[tokio::test]
async fn a_stop_ends_a_start_under_way() {
    let world = World::new();
    let pool = world.defined("images").await;
    world.sim.hold("images", "start");
    let start = pool.start(None, &ROOT).await.unwrap();
    world.sim.called("images", "start", 1).await;
    assert_eq!(state(&pool), PoolState::Starting);
    assert_eq!(pool.start(None, &ROOT).await.unwrap().id(), start.id(), "a second start joins");
    let stop = pool.stop(StopOptions::default(), &ROOT).await.unwrap();
    assert_eq!(kind(start.wait().await), Some(ErrorKind::Cancelled));
    assert_eq!(start.snapshot().state, JobState::Cancelled);
    stop.wait().await.unwrap();
    assert_eq!(state(&pool), PoolState::Inactive);
}

#[tokio::test]
async fn defining_an_active_pool_again_with_start_is_success_beside_a_refresh() {
    let world = World::new();
    let pool = world.started("images").await;
    let refresh = held_refresh(&world, &pool).await;
    assert_eq!(kind(pool.start(None, &ROOT).await), Some(ErrorKind::Active));
    world.sim.release("images", "refresh");
    refresh.wait().await.unwrap();
    world.started_or_not("images").await;
}

#[tokio::test]
async fn a_definition_that_cannot_be_kept_leaves_nothing() {
    let world = World::new();
    let file = world.root.path().join("etc/poold/pools/images.xml");
    std::fs::write(&file, "damaged").unwrap();
    let options = DefineOptions::default();
    let refused = world.engine.define_pool(pool_def("images"), options, &ROOT).await;
    assert_eq!(kind(refused), Some(ErrorKind::Conflict));
    assert!(world.engine.pools().is_empty());
    std::fs::remove_file(&file).unwrap();
    world.started("images").await;
}

#[tokio::test]
async fn a_definition_that_cannot_be_kept_whole_is_not_kept() {
    let mut world = World::new();
    world.defined("known").await;
    let links = world.root.path().join("etc/poold/autostart");
    std::fs::remove_dir(&links).unwrap();
    std::fs::write(&links, "in the way").unwrap();
    let options = DefineOptions { autostart: true, ..DefineOptions::default() };
    let mut changed = pool_def("known");
    changed.target.as_mut().unwrap().path = "/srv/elsewhere".to_owned();
    for def in [pool_def("new"), changed] {
        assert!(world.engine.define_pool(def, options, &ROOT).await.is_err());
    }
    world.restart();
    assert!(world.engine.find_pool("new").is_err());
    let known = world.engine.find_pool("known").unwrap();
    assert_eq!(known.snapshot().def.target_path(), Some("/srv/known"));
}
