//! Waiting for jobs, leaving them, cancelling them; with storage that takes as long as the test
//! wishes.

use super::*;
use crate::auth::Action;
use crate::backend::{Activation, ActivePool, BackendInfo, Listing, OpContext, Operation, Watch};
use crate::model::{PoolDef, PoolType};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

static SLOW: BackendInfo = BackendInfo {
    pool_type: PoolType::Dir,
    tools: &[],
    operations: &[Operation::Start, Operation::Refresh],
    watch: Watch::Timer,
};

/// Starts when it is let.
#[derive(Default)]
struct Slow(Arc<AtomicBool>);

impl Backend for Slow {
    fn info(&self) -> &'static BackendInfo {
        &SLOW
    }

    fn start(&self, _pool: &PoolDef, ctx: &OpContext) -> Result<Activation> {
        while !self.0.load(Ordering::Acquire) {
            ctx.limits.check()?;
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(Activation::default())
    }

    fn refresh(&self, _pool: &ActivePool, _ctx: &OpContext) -> Result<Listing> {
        Ok(Listing::default())
    }
}

/// A host with one slow pool; the pool's path, and what lets it start.
async fn slow_world() -> (World, Peer, String, Arc<AtomicBool>) {
    let slow = Slow::default();
    let open = slow.0.clone();
    let world = World::on(FaceOptions::default(), vec![Arc::new(slow)]);
    let root = world.peer(0).await;
    let define = ("dir", "slow", target_setting(&world.target("slow")), Options::new());
    let (pool, _): (zbus::OwnedObjectPath, zbus::OwnedObjectPath) =
        root.get("/org/poold1", "org.poold1.Manager.DefinePool", &define).await;
    (world, root, pool.as_str().to_owned(), open)
}

const START: &str = "org.poold1.Pool.Start";

fn wait(micros: u64) -> Options<'static> {
    Options::from([("wait", micros.into())])
}

#[tokio::test]
async fn a_job_that_takes_longer_than_its_caller_waits_is_named_and_goes_on() {
    let (_world, root, pool, open) = slow_world().await;
    let (error, text) = root.call(&pool, START, &wait(1000)).await.unwrap_err();
    assert_eq!(error, "org.poold1.Error.InProgress");
    let job = text.split([' ', ';']).find(|word| word.starts_with("/org/poold1/jobs/")).unwrap();
    assert_eq!(root.property::<String>(job, "org.poold1.Job", "State").await, "running");
    let (error, _) = root.call(job, "org.poold1.Job.Wait", &wait(1000)).await.unwrap_err();
    assert_eq!(error, "org.poold1.Error.InProgress");
    open.store(true, Ordering::Release);
    root.call(job, "org.poold1.Job.Wait", &wait(u64::MAX)).await.unwrap();
    assert_eq!(root.property::<String>(&pool, "org.poold1.Pool", "State").await, "active");
}

#[tokio::test]
async fn who_does_not_wait_has_the_job_at_once_and_its_failure_from_wait() {
    let (_world, root, pool, _open) = slow_world().await;
    let job: zbus::OwnedObjectPath = root.get(&pool, START, &wait(0)).await;
    root.call(&job, "org.poold1.Job.Cancel", &Options::new()).await.unwrap();
    let (error, _) = root.call(&job, "org.poold1.Job.Wait", &wait(u64::MAX)).await.unwrap_err();
    assert_eq!(error, "org.poold1.Error.Cancelled");
    assert_eq!(root.property::<String>(&job, "org.poold1.Job", "State").await, "cancelled");
}

#[tokio::test]
async fn ones_own_job_is_cancelled_freely_and_anothers_only_with_leave() {
    let (world, root, pool, _open) = slow_world().await;
    let job: zbus::OwnedObjectPath = root.get(&pool, START, &wait(0)).await;
    let authority = Arc::new(FakeAuthority { refuses: true, ..FakeAuthority::default() });
    let mut other = FakeBus::new(&world, authority.clone(), true).await;
    let cancel = "org.poold1.Job.Cancel";
    let refused = other.call(&world, &job, cancel, &Options::new()).await;
    assert_eq!(refused.unwrap(), "org.freedesktop.DBus.Error.AccessDenied");
    assert_eq!(authority.asked.lock().unwrap().last().unwrap().action, Action::CancelJob);
    assert_eq!(root.property::<String>(&job, "org.poold1.Job", "State").await, "running");
    root.call(&job, cancel, &Options::new()).await.unwrap();
    root.call(&job, "org.poold1.Job.Wait", &wait(u64::MAX)).await.unwrap_err();

    world.face.core.clients.vanished(":1.7");
    let willing = Arc::new(FakeAuthority::default());
    let mut owner = FakeBus::new(&world, willing.clone(), true).await;
    assert_eq!(owner.call(&world, &pool, START, &wait(0)).await, None);
    let job = world.engine.jobs().last().unwrap().id();
    let path = format!("/org/poold1/jobs/{job}");
    assert_eq!(owner.call(&world, &path, cancel, &Options::new()).await, None);
    assert_eq!(willing.asked.lock().unwrap().len(), 1, "only about the start");
}

#[tokio::test]
async fn a_caller_that_leaves_does_not_cancel_its_job() {
    let (world, root, pool, open) = slow_world().await;
    let owner = FakeBus::new(&world, Arc::new(FakeAuthority::default()), true).await;
    owner.send(&world, &pool, START, Flags::empty(), &wait(u64::MAX));
    while world.engine.jobs().is_empty() {
        tokio::task::yield_now().await;
    }
    world.face.core.clients.vanished(":1.7");
    let job = format!("/org/poold1/jobs/{}", world.engine.jobs()[0].id());
    open.store(true, Ordering::Release);
    root.call(&job, "org.poold1.Job.Wait", &wait(u64::MAX)).await.unwrap();
    assert_eq!(root.property::<String>(&pool, "org.poold1.Pool", "State").await, "active");
}
