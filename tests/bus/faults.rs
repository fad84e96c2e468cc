//! What goes wrong half-way: each job that moves data, at each of its steps or when a disk, a client or the user ends it.
//!
//! After each fault the files in the pool are what they were, a new volume is absent (or whole, when the fault came after
//! it), an overwritten one is Incomplete or whole, the source is untouched, and no qemu-img goes on.

use super::support::runner::{Skip, fail, pass};
use super::support::tracer::Tracer;
use super::support::world::{World, eventually, none, with};
use anyhow::{Result, bail, ensure};
use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use poold::client::{JobProxy, Options, PoolProxy};
use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;

const MIB: u64 = 1 << 20;
/// What the volume that is overwritten holds before, and what it is overwritten with.
const OLD: u8 = 0x11;
const NEW: u8 = 0x22;

/// A job that moves data.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    CreateRaw,
    CreateQcow2,
    CreateVdi,
    CloneCopy,
    CloneConvert,
    Upload,
    Wipe,
}

impl Kind {
    const ALL: [Self; 7] = [
        Self::CreateRaw,
        Self::CreateQcow2,
        Self::CreateVdi,
        Self::CloneCopy,
        Self::CloneConvert,
        Self::Upload,
        Self::Wipe,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::CreateRaw => "create-raw",
            Self::CreateQcow2 => "create-qcow2",
            Self::CreateVdi => "create-vdi",
            Self::CloneCopy => "clone-copy",
            Self::CloneConvert => "clone-convert",
            Self::Upload => "upload",
            Self::Wipe => "wipe",
        }
    }

    /// Whether it makes the volume "new"; else it overwrites "old".
    fn makes(self) -> bool {
        !matches!(self, Self::Upload | Self::Wipe)
    }

    /// Starts it and waits for its end.
    async fn run(self, world: &World, pool: &PoolProxy<'_>, size: u64) -> Result<()> {
        let create = async |format: &'static str| -> Result<()> {
            let options = Options::from([
                ("format", format.into()),
                ("preallocation", if format == "vdi" { "none" } else { "full" }.into()),
            ]);
            pool.create_volume("new", size, &options).await?;
            Ok(())
        };
        let volume =
            async |name: &str| world.volume(&pool.lookup_volume(name, &none()).await?).await;
        match self {
            Self::CreateRaw => create("raw").await,
            Self::CreateQcow2 => create("qcow2").await,
            Self::CreateVdi => create("vdi").await,
            Self::CloneCopy => {
                volume("source").await?.clone("new", &none()).await?;
                Ok(())
            }
            Self::CloneConvert => {
                volume("source").await?.clone("new", &with("format", "qcow2")).await?;
                Ok(())
            }
            Self::Upload => {
                let mut file = tempfile::tempfile()?;
                file.write_all(&vec![NEW; usize::try_from(size)?])?;
                std::io::Seek::rewind(&mut file)?;
                let job = volume("old").await?.upload((&file).into(), &none()).await?;
                JobProxy::new(&world.root, job).await?.wait(&none()).await?;
                Ok(())
            }
            Self::Wipe => {
                volume("old").await?.wipe(&with("force", true)).await?;
                Ok(())
            }
        }
    }
}

/// A pool with a source and a volume to overwrite, both full.
async fn prepare(world: &World, name: &str, size: u64) -> Result<PoolProxy<'static>> {
    let pool = world.active_pool(name).await?;
    fill(world, &pool, size).await?;
    Ok(pool)
}

async fn fill(world: &World, pool: &PoolProxy<'_>, size: u64) -> Result<()> {
    for volume in ["source", "old"] {
        pool.create_volume(volume, size, &with("format", "raw")).await?;
        let mut file = tempfile::tempfile()?;
        file.write_all(&vec![OLD; usize::try_from(size)?])?;
        std::io::Seek::rewind(&mut file)?;
        let volume = world.volume(&pool.lookup_volume(volume, &none()).await?).await?;
        let job = volume.upload((&file).into(), &none()).await?;
        JobProxy::new(&world.root, job).await?.wait(&none()).await?;
    }
    Ok(())
}

/// Content of the files of a pool, hidden ones too, as the daemon sees them.
fn files(world: &World, directory: &Path) -> Result<BTreeMap<String, Vec<u8>>> {
    let script = "cd \"$0\" && find . -type f -printf '%f\\n'";
    let listed = world.inside("sh").args(["-c", script]).arg(directory).output()?;
    let mut found = BTreeMap::new();
    for name in String::from_utf8(listed.stdout)?.lines() {
        let content = world.inside("cat").arg(directory.join(name)).output()?.stdout;
        found.insert(name.to_owned(), content);
    }
    found.remove("lost+found");
    Ok(found)
}

/// Whether a qemu-img goes on; this process sees those of its own namespace only.
fn qemu_img_runs() -> bool {
    let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    processes.into_iter().any(|process| {
        let line = std::fs::read(process.path().join("cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line).into_owned();
        line.starts_with("/usr/bin/qemu-img")
    })
}

/// What must be so after a fault.
async fn check(world: &World, name: &str, kind: Kind, size: u64) -> Result<&'static str> {
    let pool = world.manager().await?.lookup_pool(name, &none()).await?;
    let pool = world.pool(&pool).await?;
    pool.refresh(&none()).await?;
    let mut found = files(world, &world.pools().join(name))?;
    let is = |content: Option<&Vec<u8>>, byte: u8| {
        content.is_some_and(|bytes| bytes.len() as u64 == size && bytes.iter().all(|b| *b == byte))
    };
    ensure!(is(found.get("source"), OLD), "the source changed");
    ensure!(!qemu_img_runs(), "a qemu-img goes on");
    found.remove("source");
    let old = found.remove("old");
    let path = pool.lookup_volume("old", &none()).await?;
    let incomplete = world.volume(&path).await?.incomplete().await?;
    let state = if kind.makes() {
        ensure!(is(old.as_ref(), OLD) && !incomplete, "another volume changed");
        match found.remove("new") {
            None => "absent",
            Some(_) => {
                let path = pool.lookup_volume("new", &none()).await?;
                let new = world.volume(&path).await?;
                ensure!(
                    !new.incomplete().await? && new.capacity().await? == size,
                    "it is not whole"
                );
                ensure!(new.format_source().await? == "declared", "it is not declared");
                "whole"
            }
        }
    } else {
        let new = if kind == Kind::Upload { NEW } else { 0 };
        ensure!(old.as_ref().is_some_and(|old| old.len() as u64 == size), "its size changed");
        match (is(old.as_ref(), OLD), is(old.as_ref(), new), incomplete) {
            (_, _, true) => "incomplete",
            (true, ..) => "as before",
            (_, true, _) => "whole",
            _ => bail!("it is half overwritten and not marked"),
        }
    };
    ensure!(found.is_empty(), "left over: {:?}", found.keys());
    Ok(state)
}

/// Prints the cell and remembers a failure.
fn cell(step: String, outcome: Result<&'static str>) {
    match outcome {
        Ok(state) => pass("faults", format!("{step}:{}", state.replace(' ', "-"))),
        Err(error) => fail("faults", step, format_args!("{error:#}")),
    }
}

pub async fn dies_at_each_step() -> Result<()> {
    let world = World::start().await?;
    for kind in Kind::ALL {
        for fatal in 1..60 {
            let name = format!("{}-{fatal}", kind.name());
            let pool = prepare(&world, &name, MIB).await?;
            let poold = world.poold().await?;
            let tracer = match Tracer::attach(poold, world.whole(), Some(fatal)) {
                Err(error)
                    if error
                        .chain()
                        .any(|cause| matches!(cause.downcast_ref(), Some(Errno::EPERM))) =>
                {
                    return Err(Skip("this machine lets nobody trace".into()).into());
                }
                outcome => outcome?,
            };
            let answered = kind.run(&world, &pool, MIB).await.is_ok();
            match kill(poold, Signal::SIGKILL) {
                Ok(()) | Err(Errno::ESRCH) => {}
                Err(error) => return Err(error.into()),
            }
            world.gone("org.poold1").await?;
            let steps = tokio::task::spawn_blocking(|| tracer.steps()).await??;
            let last = steps.len() < fatal;
            let step = steps.last().filter(|_| !last).cloned().unwrap_or("answered".into());
            let outcome = check(&world, &name, kind, MIB).await.and_then(|state| {
                let done = !answered || state == "whole";
                ensure!(done, "it was acknowledged and is {state}");
                Ok(state)
            });
            cell(format!("{}/kill-9/{fatal}:{step}", kind.name()), outcome);
            if last {
                break;
            }
        }
    }
    Ok(())
}

/// Runs a script where the daemon's mounts are.
fn script(world: &World, script: &str, name: &str) -> Result<()> {
    let output = world.inside("sh").args(["-ec", script]).arg(world.pools().join(name)).output()?;
    ensure!(output.status.success(), "{script}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

/// A directory for a pool, on a file system of its own in a loop device, whose file is in a tmpfs of its own.
fn small_disk(world: &World, name: &str, mebibytes: u64) -> Result<()> {
    let make = format!(
        "mkdir -p \"$0\" \"$0.disk\"; mount -t tmpfs -o size=200m tmpfs \"$0.disk\"; \
         truncate -s {mebibytes}M \"$0.disk/ext4\"; mkfs.ext4 -q -m 0 \"$0.disk/ext4\"; \
         mount -o loop \"$0.disk/ext4\" \"$0\""
    );
    script(world, &make, name).map_err(|error| Skip(format!("no loop mount here: {error}")).into())
}

/// From now on whatever is written where nothing was fails: the tmpfs has no page left for the disk.
fn break_disk(world: &World, name: &str) -> Result<()> {
    let shrink = "sync; mount -o remount,size=$(du -k \"$0.disk/ext4\" | cut -f1)k \"$0.disk\"";
    script(world, shrink, name)
}

fn unmount(world: &World, name: &str) -> Result<()> {
    script(world, "umount -l \"$0\"; umount -l \"$0.disk\"", name)
}

pub async fn runs_out_of_space() -> Result<()> {
    let world = World::start().await?;
    for kind in Kind::ALL.into_iter().filter(|kind| kind.makes() && *kind != Kind::CreateVdi) {
        let name = format!("full-{}", kind.name());
        small_disk(&world, &name, 32)?;
        let pool = prepare(&world, &name, 8 * MIB).await?;
        // What a third copy needs is not there.
        let filler = world.pools().join(&name).join("filler");
        world
            .inside("sh")
            .args(["-c", "dd if=/dev/zero of=\"$0\" bs=64k status=none || true; truncate -s -2M \"$0\"; sync"])
            .arg(&filler)
            .output()?;
        let refused = kind.run(&world, &pool, 8 * MIB).await;
        world.inside("rm").arg(&filler).output()?;
        let outcome = match refused {
            Ok(()) => Err(anyhow::anyhow!("it fitted")),
            Err(_) => check(&world, &name, kind, 8 * MIB).await,
        };
        cell(format!("{}/ENOSPC", kind.name()), outcome);
        pool.stop(&none()).await?;
        unmount(&world, &name)?;
    }
    Ok(())
}

pub async fn the_disk_fails() -> Result<()> {
    let world = World::start().await?;
    let mut failures = 0;
    for kind in Kind::ALL {
        let name = format!("broken-{}", kind.name());
        small_disk(&world, &name, 96)?;
        let pool = prepare(&world, &name, 8 * MIB).await?;
        if !kind.makes() {
            // Overwritten where nothing is yet.
            script(&world, "fallocate -p -o 0 -l 8M \"$0/old\"; fstrim \"$0\"", &name)?;
        }
        break_disk(&world, &name)?;
        let failed = kind.run(&world, &pool, 8 * MIB).await;
        failures += usize::from(failed.is_err());
        let new = world.pools().join(&name).join("new");
        let there = world.inside("test").arg("-e").arg(&new).status()?.success();
        let old = world.volume(&pool.lookup_volume("old", &none()).await?).await?;
        let incomplete = old.incomplete().await?;
        let outcome = match (kind.makes(), failed) {
            (true, Err(_)) if !there => Ok("absent"),
            (true, Err(_)) => Err(anyhow::anyhow!("it failed and is there")),
            (false, Err(_)) if incomplete => Ok("incomplete"),
            (false, Err(error)) => Err(error.context("it is not marked")),
            // The kernel put it where the disk still is.
            (true, Ok(())) if there => Ok("whole"),
            (false, Ok(())) if !incomplete => Ok("whole"),
            (_, Ok(())) => Err(anyhow::anyhow!("it was acknowledged and is not whole")),
        };
        cell(format!("{}/EIO", kind.name()), outcome);
        let _ = pool.stop(&with("force", true)).await;
        unmount(&world, &name)?;
    }
    ensure!(failures > 0, "nothing failed although the disk did");
    Ok(())
}

pub async fn the_client_goes() -> Result<()> {
    let world = World::start().await?;
    let pool = prepare(&world, "images", MIB).await?;
    // The other end of the pipe closes early; the volume stays incomplete.
    let volume = world.volume(&pool.lookup_volume("old", &none()).await?).await?;
    let (reader, mut writer) = std::io::pipe()?;
    writer.write_all(&[NEW; 1000])?;
    drop(writer);
    let job = volume.upload((&reader).into(), &with("length", MIB)).await?;
    let job = JobProxy::new(&world.root, job).await?;
    ensure!(job.wait(&none()).await.is_err(), "it ended well without its data");
    cell("upload/pipe-closed".into(), check(&world, "images", Kind::Upload, MIB).await);

    // Whoever asked leaves the bus; the job goes on without him.
    let leaving = world.connect().await?;
    let theirs =
        super::support::world::pool(&leaving, &pool.inner().path().to_owned().into()).await?;
    let path = theirs.lookup_volume("old", &none()).await?;
    let theirs = poold::client::VolumeProxy::new(&leaving, path).await?;
    let (reader, mut writer) = std::io::pipe()?;
    let job = theirs.upload((&reader).into(), &none()).await?;
    drop((reader, theirs));
    leaving.close().await?;
    tokio::task::spawn_blocking(move || writer.write_all(&vec![NEW; 1 << 20])).await??;
    let job = JobProxy::new(&world.root, job).await?;
    job.wait(&none()).await?;
    cell("upload/caller-gone".into(), check(&world, "images", Kind::Upload, MIB).await);

    // The reader of a download leaves.
    let (reader, writer) = std::io::pipe()?;
    drop(reader);
    let job = volume.download((&writer).into(), &none()).await?;
    let job = JobProxy::new(&world.root, job).await?;
    let ended = job.wait(&none()).await;
    ensure!(ended.is_err(), "a download that nobody reads ended well");
    cell("download/reader-gone".into(), check(&world, "images", Kind::Upload, MIB).await);
    Ok(())
}

pub async fn the_job_is_cancelled() -> Result<()> {
    let world = World::start().await?;
    let pool = prepare(&world, "images", MIB).await?;
    let volume = world.volume(&pool.lookup_volume("old", &none()).await?).await?;
    let (reader, mut writer) = std::io::pipe()?;
    writer.write_all(&[NEW; 4096])?;
    let job = volume.upload((&reader).into(), &none()).await?;
    let job = JobProxy::new(&world.root, job).await?;
    eventually("some of it is written", async || {
        Ok(job.bytes().await? > 0 || job.state().await? == "running")
    })
    .await?;
    job.cancel(&none()).await?;
    ensure!(job.wait(&none()).await.is_err(), "it was cancelled");
    ensure!(job.state().await? == "cancelled", "{}", job.state().await?);
    drop(writer);
    cell("upload/cancel".into(), check(&world, "images", Kind::Upload, MIB).await);

    // A preallocation that takes a while, and a conversion.
    for (step, format) in [("create-raw/cancel", "raw"), ("create-qcow2/cancel", "qcow2")] {
        let options = Options::from([
            ("format", format.into()),
            ("preallocation", "full".into()),
            ("wait", 0u64.into()),
        ]);
        let (_, job) = pool.create_volume("large", 3 << 30, &options).await?;
        let job = JobProxy::new(&world.root, job).await?;
        job.cancel(&none()).await?;
        let ended = job.wait(&none()).await;
        ensure!(ended.is_err(), "{step}: it ended before the cancel");
        cell(
            step.into(),
            check(&world, "images", Kind::CreateRaw, MIB).await.or_else(|error| {
                // The upload above left "old" as it is: only new files matter here.
                match error.to_string().contains("another volume changed") {
                    true => Ok("absent"),
                    false => Err(error),
                }
            }),
        );
    }
    Ok(())
}
