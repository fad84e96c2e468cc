//! What goes wrong half-way: each job that moves data, at each of its steps or when a disk, a client or the user ends it.
//!
//! After each fault the files in the pool are what they were, a new volume is absent (or whole, when the fault came after
//! it), an overwritten one is Incomplete or whole, the source is untouched, no more room is taken than that, the service
//! keeps nothing open, and no qemu-img goes on. Each cell is a line; a line for each job and fault sums them up.

mod disk;
mod expectation;
mod job;
mod steps;

use super::support::runner::{fail, pass};
use super::support::world::{World, eventually, none, with};
use anyhow::{Result, anyhow, ensure};
use disk::Disk;
use expectation::{Scene, Told, qemu_img_runs};
use job::{Kind, ends, fill};
use nix::sys::signal::Signal;
use poold::client::{JobProxy, PoolProxy};
use std::collections::BTreeMap;
use std::io::Write;
pub use steps::{
    a_call_fails_at_each_step_of_a_copy, a_call_fails_at_each_step_of_a_creation,
    a_call_fails_at_each_step_of_an_overwriting, is_cancelled_at_each_step,
    is_killed_at_each_step_of_a_copy, is_killed_at_each_step_of_a_creation,
    is_killed_at_each_step_of_an_overwriting,
};

use zbus::OwnedObjectPath;

const MIB: u64 = 1 << 20;

/// The cells of a job and a fault.
struct Row {
    kind: Kind,
    fault: &'static str,
    states: BTreeMap<&'static str, usize>,
}

impl Row {
    fn new(kind: Kind, fault: &'static str) -> Self {
        Self { kind, fault, states: BTreeMap::new() }
    }

    /// Prints a cell, and remembers it; which state, if it is as it should be.
    fn cell(&mut self, step: &str, outcome: Result<&'static str>) -> Option<&'static str> {
        let cell = format!("{}/{}{step}", self.kind.name(), self.fault);
        match outcome {
            Ok(state) => {
                pass("faults", format!("{cell}:{}", state.replace(' ', "-")));
                *self.states.entry(state).or_default() += 1;
                Some(state)
            }
            Err(error) => {
                fail("faults", cell, format_args!("{error:#}"));
                *self.states.entry("WRONG").or_default() += 1;
                None
            }
        }
    }
}

impl Drop for Row {
    fn drop(&mut self) {
        let states: Vec<_> =
            self.states.iter().map(|(state, count)| format!("{state} {count}")).collect();
        println!("    {:<14} {:<10} {}", self.kind.name(), self.fault, states.join(", "));
    }
}

/// Starts a job as root and waits for its end.
async fn run(world: &World, scene: &Scene, pool: &PoolProxy<'_>) -> Result<Told> {
    match scene.kind.start(&world.root, &pool.object_path(), scene.size).await {
        Ok(job) => ended(world, &job).await,
        Err(_) => Ok(Told::Failed),
    }
}

/// How a job ended.
async fn ended(world: &World, job: &OwnedObjectPath) -> Result<Told> {
    Ok(if ends(world, job).await? { Told::Done } else { Told::Failed })
}

pub async fn the_disk_is_full() -> Result<()> {
    let world = World::start().await?;
    for kind in Kind::ALL {
        let (name, size) = (format!("full-{}", kind.name()), 8 * MIB);
        let disk = Disk::mount(&world, &name, 32)?;
        let pool = world.active_pool(&name).await?;
        fill(&world, &pool, size).await?;
        let mut scene = Scene::new(&world, &name, kind, size, true)?;
        if kind.overwrites().is_some() {
            // What is overwritten has to be allocated first.
            disk.run("fallocate -p -o 0 -l 8M \"$0/old\"")?;
            scene = scene.emptied(&world)?;
        }
        // Of what the job needs some is there; what is counted late is there once it is synced, so again. An empty image
        // needs next to nothing, but an inode.
        disk.run(if kind == Kind::CreateVdi {
            "i=0; while touch \"$0/.poold-test$i\" 2>/dev/null; do i=$((i + 1)); done"
        } else {
            "for _ in 1 2 3; do
                dd if=/dev/zero bs=4k 2>/dev/null >>\"$0/.poold-test\" || true; sync -f \"$0\"
             done; truncate -s -2M \"$0/.poold-test\"; sync -f \"$0\""
        })?;
        let told = run(&world, &scene, &pool).await?;
        disk.run("rm \"$0\"/.poold-test*")?;
        let outcome = match told {
            Told::Done if kind != Kind::Download => Err(anyhow!("it fitted")),
            told => scene.check(&world, told).await,
        };
        Row::new(kind, "ENOSPC").cell("", outcome);
        pool.stop(&none()).await?;
    }
    Ok(())
}

pub async fn the_disk_fails() -> Result<()> {
    let world = World::start().await?;
    let mut failures = 0;
    for kind in Kind::ALL {
        let (name, size) = (format!("broken-{}", kind.name()), 8 * MIB);
        let disk = Disk::mount(&world, &name, 96)?;
        let pool = world.active_pool(&name).await?;
        fill(&world, &pool, size).await?;
        let mut scene = Scene::new(&world, &name, kind, size, true)?;
        if kind.overwrites().is_some() {
            // Overwritten where nothing is yet.
            disk.run("fallocate -p -o 0 -l 8M \"$0/old\"; fstrim \"$0\"")?;
            scene = scene.emptied(&world)?;
        }
        disk.break_down()?;
        let told = run(&world, &scene, &pool).await?;
        failures += usize::from(told == Told::Failed);
        pool.stop(&with("force", true)).await?;
        disk.repair()?;
        pool.start(&none()).await?;
        Row::new(kind, "EIO").cell("", scene.check(&world, told).await);
        pool.stop(&none()).await?;
    }
    ensure!(failures > 4, "the disk failed and only {failures} jobs did");
    Ok(())
}

pub async fn the_client_goes() -> Result<()> {
    let world = World::start().await?;
    // Whoever asked leaves the bus; the job goes on without him.
    for kind in Kind::ALL {
        let name = format!("left-{}", kind.name());
        let pool = world.active_pool(&name).await?;
        fill(&world, &pool, MIB).await?;
        let scene = Scene::new(&world, &name, kind, MIB, false)?;
        let leaving = world.connect().await?;
        let job = kind.start(&leaving, &pool.object_path(), MIB).await?;
        leaving.close().await?;
        let told = ended(&world, &job).await?;
        let outcome = match told {
            Told::Done => scene.check(&world, told).await,
            _ => Err(anyhow!("it did not go on without its caller")),
        };
        Row::new(kind, "left").cell("", outcome);
    }

    // The other end of a pipe closes early.
    let pool = world.active_pool("closed").await?;
    fill(&world, &pool, MIB).await?;
    let volume = world.volume(&pool.lookup_volume("old", &none()).await?).await?;
    let (reader, writer) = std::io::pipe()?;
    drop(reader);
    let job = volume.download((&writer).into(), &none()).await?;
    ensure!(!ends(&world, &job).await?, "a download that nobody reads ended well");
    let scene = Scene::new(&world, "closed", Kind::Download, MIB, false)?;
    Row::new(Kind::Download, "closed").cell("", scene.check(&world, Told::Failed).await);

    let scene = Scene::new(&world, "closed", Kind::UploadPipe, MIB, false)?;
    let (reader, mut writer) = std::io::pipe()?;
    writer.write_all(&[job::NEW; 1000])?;
    drop(writer);
    let job = volume.upload((&reader).into(), &with("length", MIB)).await?;
    ensure!(!ends(&world, &job).await?, "it ended well without its data");
    let state = scene.check(&world, Told::Failed).await;
    let state = Row::new(Kind::UploadPipe, "closed").cell("", state);
    ensure!(state == Some("incomplete"), "the volume lacks data and is {state:?}");
    Ok(())
}

pub async fn it_ends_while_qemu_img_works() -> Result<()> {
    let world = World::start().await?;
    world.poold().await?;
    world.delay_qemu_img()?;
    for kind in Kind::ALL.into_iter().filter(|kind| kind.runs_qemu_img()) {
        for fault in ["cancel", "kill-9"] {
            let name = format!("{fault}-{}", kind.name());
            let pool = world.active_pool(&name).await?;
            fill(&world, &pool, MIB).await?;
            let scene = Scene::new(&world, &name, kind, MIB, false)?;
            let job = kind.start(&world.root, &pool.object_path(), MIB).await?;
            eventually("qemu-img works", async || Ok(world.qemu_img_waits())).await?;
            ensure!(qemu_img_runs()?, "it is not seen");
            let told = if fault == "cancel" {
                JobProxy::new(&world.root, job.clone()).await?.cancel(&none()).await?;
                ended(&world, &job).await?
            } else {
                world.end(Signal::SIGKILL).await?;
                eventually("qemu-img ends with the service", async || Ok(!qemu_img_runs()?))
                    .await?;
                Told::Nothing
            };
            let state = scene.check(&world, told).await;
            let state = Row::new(kind, fault).cell("/qemu-img", state);
            ensure!(state == Some("absent"), "qemu-img was ended and the volume is {state:?}");
            world.forget_qemu_img()?;
        }
    }
    Ok(())
}
