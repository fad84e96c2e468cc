//! Devices that come late, can only be read, or hang, and a daemon that dies while it mounts one.

use super::{Disk, MIB, again, define, inside, mounted, refused, started, tell};
use crate::support::runner::Skip;
use crate::support::tracer::Tracer;
use crate::support::world::{World, eventually, none, with};
use anyhow::{Context, Result, bail, ensure};
use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use poold::model::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::Command;

pub async fn a_disk_that_appears_late_is_started_when_it_does() -> Result<()> {
    let world = World::start().await?;
    let file = world.whole().join("late.disk");
    std::fs::File::create(&file)?.set_len(64 * MIB)?;
    let output = Command::new("mkfs.ext4").arg("-q").arg(&file).output()?;
    ensure!(output.status.success());
    let name = free_name()?;
    let pool = define(&world, "late", &name, "ext4", &none()).await?;
    pool.set_autostart(true, &none()).await?;
    world.reboot().await?;
    let pool = again(&world, "late").await?;
    eventually("it waits for its device", async || {
        Ok(pool.waiting_for().await? == format!("device {name}"))
    })
    .await?;
    ensure!(pool.last_error().await?.0.ends_with("Inaccessible"), "{:?}", pool.last_error().await?);
    let output = Command::new("losetup").arg(&name).arg(&file).output()?;
    if !output.status.success() {
        return Err(Skip(format!("no {name}: {}", String::from_utf8_lossy(&output.stderr))).into());
    }
    let _disk = Disk { device: name, file };
    eventually("it starts by itself", async || Ok(pool.state().await? == "active")).await?;
    pool.stop(&none()).await?;
    Ok(())
}

/// A loop device that is not there yet.
fn free_name() -> Result<String> {
    let mut names = (70..).map(|number| format!("/dev/loop{number}"));
    names.find(|name| !Path::new(name).exists()).context("no free name")
}

pub async fn a_device_that_can_only_be_read_says_so() -> Result<()> {
    let world = World::start().await?;
    let file = world.whole().join("ro.disk");
    std::fs::File::create(&file)?.set_len(64 * MIB)?;
    let output = Command::new("mkfs.ext4").arg("-q").arg(&file).output()?;
    ensure!(output.status.success());
    let disk = Disk::attach(file, &["--read-only"])?;
    let pool = define(&world, "ro", &disk.device, "ext4", &with("start", true)).await?;
    ensure!(pool.state().await? == "active", "it is {}", pool.state().await?);
    let (kind, why) = pool.last_error().await?;
    ensure!(kind.ends_with("Inaccessible") && why.contains("only be read"), "{kind} {why}");
    ensure!(pool.create_volume("new", MIB, &none()).await.is_err(), "it was written");
    pool.stop(&none()).await?;
    Ok(())
}

/// `kill -9` before each step that a start takes on disk, the mount among them, and after the answer: an inactive pool
/// is not mounted, an active one is, and either is what its own start mounted and its stop unmounts.
pub async fn a_start_that_dies_half_way_leaves_no_mount() -> Result<()> {
    let world = World::start().await?;
    let (_disk, _) = started(&world, "dies").await?;
    for fatal in 1..100 {
        let pool = again(&world, "dies").await?;
        pool.stop(&none()).await?;
        let poold = world.poold().await?;
        let tracer = match Tracer::attach(poold, world.whole(), Some(fatal)) {
            Err(error)
                if error.chain().any(|why| matches!(why.downcast_ref(), Some(Errno::EPERM))) =>
            {
                return Err(Skip("this machine lets nobody trace".into()).into());
            }
            outcome => outcome?,
        };
        let answered = pool.start(&none()).await.is_ok();
        match kill(poold, Signal::SIGKILL) {
            Ok(()) | Err(Errno::ESRCH) => {}
            Err(error) => return Err(error.into()),
        }
        world.gone("org.poold1").await?;
        let steps = tokio::task::spawn_blocking(|| tracer.steps()).await??;
        let step = match answered {
            true => "answered".to_owned(),
            false => steps.last().cloned().unwrap_or_default(),
        };
        let outcome = async {
            let pool = again(&world, "dies").await?;
            eventually("what was begun is undone, or done", async || {
                let state = pool.state().await?;
                ensure!(!answered || state == "active", "acknowledged, and yet it is {state}");
                Ok((state == "active") == mounted(&world, "dies")?.is_some() && state != "starting")
            })
            .await?;
            if pool.state().await? == "inactive" {
                pool.start(&none()).await?;
            }
            pool.stop(&none()).await?;
            ensure!(mounted(&world, "dies")?.is_none(), "the stop left its mount");
            pool.start(&none()).await?;
            Ok(())
        }
        .await;
        tell(&format!("dies/{fatal}:{step}"), outcome);
        if answered {
            return Ok(());
        }
    }
    bail!("it never ends")
}

/// A disk whose reads and writes can be held up: its file is on a file system that can be frozen.
struct Held<'a> {
    world: &'a World,
    below: PathBuf,
    disk: Disk,
    _below: Disk,
}

impl<'a> Held<'a> {
    fn new(world: &'a World) -> Result<Held<'a>> {
        let outer = Disk::new(world, "below", 160)?;
        let below = world.whole().join("below");
        std::fs::create_dir(&below)?;
        inside(world, "mkfs.ext4", &["-q", &outer.device])?;
        inside(world, "mount", &[&outer.device, &below.to_string_lossy()])?;
        let file = below.join("disk");
        inside(world, "truncate", &["-s", "64M", &file.to_string_lossy()])?;
        let said = world.inside("losetup").args(["--find", "--show"]).arg(&file).output()?;
        ensure!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
        let device = String::from_utf8(said.stdout)?.trim().to_owned();
        Ok(Held { world, below, disk: Disk { device, file }, _below: outer })
    }

    fn freeze(&self, how: &str) -> Result<()> {
        inside(self.world, "fsfreeze", &[how, &self.below.to_string_lossy()])
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        // So that nothing hangs when the test fails.
        let _ = self.freeze("--unfreeze");
    }
}

pub async fn an_unmount_that_hangs_is_under_way_until_it_ends() -> Result<()> {
    let world = World::start_with("[timeouts]\nstop = \"4s\"\n").await?;
    let held = Held::new(&world)?;
    let pool = define(&world, "held", &held.disk.device, "ext4", &none()).await?;
    pool.build(&none()).await?;
    for force in [true, false] {
        pool.start(&none()).await?;
        // Something that is to be written out.
        pool.create_volume(&format!("{force}"), MIB, &with("format", "qcow2")).await?;
        held.freeze("--freeze")?;
        let said = "it is stopping until that returns";
        refused(pool.stop(&with("force", force)).await, ErrorKind::TimedOut, said)?;
        ensure!(pool.state().await? == "stopping", "it is {}", pool.state().await?);
        refused(pool.start(&none()).await, ErrorKind::Inaccessible, "held")?;
        held.freeze("--unfreeze")?;
        eventually("it is stopped", async || Ok(pool.state().await? == "inactive")).await?;
        ensure!(mounted(&world, "held")?.is_none(), "it is mounted still");
    }
    pool.start(&none()).await?;
    ensure!(pool.volume_count().await? == 2);
    pool.stop(&none()).await?;
    Ok(())
}
