//! Faults at each step: every system call by which the service changes anything on disk, as a tracer numbers them.

use super::super::support::runner::Skip;
use super::super::support::tracer::{Act, CAN_FAIL, Tracer};
use super::super::support::world::{World, none, with};
use super::disk::Disk;
use super::expectation::{Scene, Told};
use super::job::{Kind, fill};
use super::{MIB, Row, ended};
use anyhow::{Result, ensure};
use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use poold::client::{JobProxy, PoolProxy};
use std::time::Duration;
use zbus::OwnedObjectPath;
use zbus::proxy::MethodFlags;

const CREATIONS: &[Kind] = &[Kind::CreateRaw, Kind::CreateQcow2, Kind::CreateVdi];
const COPIES: &[Kind] = &[Kind::CloneCopy, Kind::CloneReflink, Kind::CloneConvert];
const OVERWRITINGS: &[Kind] = &[Kind::Upload, Kind::UploadPipe, Kind::Wipe, Kind::Resize];

/// More steps than any of these jobs takes.
const MOST: usize = 100;

async fn follow(world: &World, fatal: Option<usize>) -> Result<Tracer> {
    let denied = |error: &anyhow::Error| {
        error.chain().any(|cause| matches!(cause.downcast_ref(), Some(Errno::EPERM)))
    };
    match Tracer::attach(world.poold().await?, world.whole(), fatal) {
        Err(error) if denied(&error) => {
            Err(Skip("this machine lets nobody trace".to_owned()).into())
        }
        outcome => outcome,
    }
}

/// A pool with a source and a volume to overwrite.
struct Prepared<'a> {
    pool: PoolProxy<'static>,
    scene: Scene,
    /// Its own, where not any will do.
    disk: Option<Disk<'a>>,
}

impl<'a> Prepared<'a> {
    async fn new(world: &'a World, kind: Kind, name: &str) -> Result<Self> {
        let disk = match kind {
            Kind::CloneReflink => Some(Disk::mount_sharing(world, name)?),
            _ => None,
        };
        let pool = world.active_pool(name).await?;
        fill(world, &pool, MIB).await?;
        let scene = Scene::new(world, name, kind, MIB, false)?;
        Ok(Self { pool, scene, disk })
    }

    /// Takes away what the next one should not find.
    async fn clear(self) -> Result<()> {
        if self.disk.is_some() {
            self.pool.stop(&none()).await?;
        }
        Ok(())
    }
}

/// Dies before each step, the last time after the answer.
async fn is_killed(kinds: &[Kind]) -> Result<()> {
    let world = World::start().await?;
    for kind in kinds {
        let mut row = Row::new(*kind, "kill-9");
        for fatal in 1..MOST {
            let name = format!("{}-{fatal}", kind.name());
            let prepared = Prepared::new(&world, *kind, &name).await?;
            let Prepared { pool, scene, .. } = &prepared;
            let poold = world.poold().await?;
            let tracer = follow(&world, Some(fatal)).await?;
            let told = match done(&world, scene, pool).await {
                Ok(()) => Told::Done,
                Err(_) => Told::Nothing,
            };
            match kill(poold, Signal::SIGKILL) {
                Ok(()) | Err(Errno::ESRCH) => {}
                Err(error) => return Err(error.into()),
            }
            world.gone("org.poold1").await?;
            let steps = tokio::task::spawn_blocking(|| tracer.steps()).await??;
            let last = steps.len() < fatal;
            let step = steps.last().filter(|_| !last).map_or("answered", String::as_str);
            row.cell(&format!("/{fatal}:{step}"), scene.check(&world, told).await);
            prepared.clear().await?;
            if last {
                break;
            }
        }
    }
    Ok(())
}

/// Starts a job and waits for it; asks nothing of a service that died, which would start another.
async fn done(world: &World, scene: &Scene, pool: &PoolProxy<'_>) -> Result<()> {
    let job = scene.kind.start(&world.root, &pool.object_path(), scene.size).await?;
    let job = JobProxy::new(&world.root, job).await?;
    let for_ever = with("wait", u64::MAX);
    job.inner().call_with_flags::<_, _, ()>("Wait", MethodFlags::NO_AUTO_START, &for_ever).await?;
    Ok(())
}

pub async fn is_killed_at_each_step_of_a_creation() -> Result<()> {
    is_killed(CREATIONS).await
}

pub async fn is_killed_at_each_step_of_a_copy() -> Result<()> {
    is_killed(COPIES).await
}

pub async fn is_killed_at_each_step_of_an_overwriting() -> Result<()> {
    is_killed(OVERWRITINGS).await
}

/// A system call fails at each step.
async fn fails(kinds: &[Kind]) -> Result<()> {
    if !CAN_FAIL {
        return Err(Skip("system calls are made to fail on x86_64 only".to_owned()).into());
    }
    let world = World::start().await?;
    let tracer = follow(&world, None).await?;
    for kind in kinds {
        for (errno, fault) in [(Errno::ENOSPC, "ENOSPC"), (Errno::EIO, "EIO")] {
            let mut row = Row::new(*kind, fault);
            for step in 1..MOST {
                let name = format!("{}-{fault}-{step}", kind.name());
                let prepared = Prepared::new(&world, *kind, &name).await?;
                let Prepared { pool, scene, .. } = &prepared;
                tracer.order(step, Act::Fail(errno));
                let told = super::run(&world, scene, pool).await?;
                let steps = tracer.taken();
                tracer.release();
                let Some(failed) = steps.get(step - 1) else {
                    ensure!(told == Told::Done, "no call failed and the job did");
                    break;
                };
                row.cell(&format!("/{step}:{failed}"), scene.check(&world, told).await);
                prepared.clear().await?;
            }
        }
    }
    Ok(())
}

pub async fn a_call_fails_at_each_step_of_a_creation() -> Result<()> {
    fails(CREATIONS).await
}

pub async fn a_call_fails_at_each_step_of_a_copy() -> Result<()> {
    fails(COPIES).await
}

pub async fn a_call_fails_at_each_step_of_an_overwriting() -> Result<()> {
    fails(OVERWRITINGS).await
}

/// How long a call is waited for that is to be answered while a thread is held.
const PATIENCE: Duration = Duration::from_secs(20);

/// The job is cancelled while the thread that does it waits before each step.
pub async fn is_cancelled_at_each_step() -> Result<()> {
    let world = World::start().await?;
    let tracer = follow(&world, None).await?;
    for kind in [CREATIONS, COPIES, OVERWRITINGS].concat() {
        let (mut row, mut cancelled) = (Row::new(kind, "cancel"), 0);
        for step in 1..MOST {
            let name = format!("{}-{step}", kind.name());
            let prepared = Prepared::new(&world, kind, &name).await?;
            let Prepared { pool, scene, .. } = &prepared;
            tracer.order(step, Act::Hold);
            let (root, path) = (world.root.clone(), pool.object_path());
            let mut starting = tokio::spawn(async move { kind.start(&root, &path, MIB).await });
            let mut job = None;
            let held = loop {
                if tracer.holds() {
                    break true;
                }
                if job.is_none() && starting.is_finished() {
                    job = Some(proxy(&world, (&mut starting).await??).await?);
                }
                if let Some(job) = &job
                    && !matches!(job.state().await?.as_str(), "queued" | "running")
                {
                    break false;
                }
                tokio::time::sleep(Duration::from_millis(2)).await;
            };
            let cancelling = async {
                let job = match job {
                    Some(job) => job,
                    None => proxy(&world, starting.await??).await?,
                };
                if held {
                    // Where it is too late, the answer says so.
                    let _ = job.cancel(&none()).await;
                }
                anyhow::Ok(job)
            };
            let job = tokio::time::timeout(PATIENCE, cancelling).await??;
            let steps = tracer.taken();
            tracer.release();
            let told = ended(&world, &job.object_path()).await?;
            let Some(at) = steps.get(step - 1) else { break };
            cancelled += usize::from(job.state().await? == "cancelled");
            row.cell(&format!("/{step}:{at}"), scene.check(&world, told).await);
            prepared.clear().await?;
        }
        ensure!(cancelled > 0, "{}: no cancel was heard", kind.name());
    }
    Ok(())
}

async fn proxy(world: &World, job: OwnedObjectPath) -> Result<JobProxy<'static>> {
    let builder = JobProxy::builder(&world.root).path(job);
    Ok(builder.cache_properties(zbus::proxy::CacheProperties::No).build().await?)
}
