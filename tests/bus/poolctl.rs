//! Volumes and secrets as somebody at a shell uses them, with the built poolctl.

use super::support::leaks::Watch;
use super::support::world::{World, eventually, with};
use anyhow::{Context, Result, ensure};
use std::io::{Read, Write};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

const POOLCTL: &str = env!("CARGO_BIN_EXE_poolctl");
const MIB: u64 = 1 << 20;

/// poolctl on the world's bus.
pub(super) fn poolctl(world: &World, arguments: &str) -> Command {
    let mut command = Command::new(POOLCTL);
    command.args(["--address", world.address()]).args(arguments.split_whitespace());
    command
}

/// Runs it off the runtime's thread; what it said.
pub(super) async fn run(command: Command) -> Result<Output> {
    let mut command = command;
    Ok(tokio::task::spawn_blocking(move || command.output()).await??)
}

/// Runs it; it must succeed.
pub(super) async fn done(world: &World, arguments: &str) -> Result<String> {
    let output = run(poolctl(world, arguments)).await?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let complained = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{arguments}: {said}{complained}");
    Ok(said)
}

/// Runs it; it must fail with this exit status and say this.
pub(super) async fn fails(world: &World, arguments: &str, status: i32, why: &str) -> Result<()> {
    let output = run(poolctl(world, arguments)).await?;
    let complained = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.code() == Some(status) && complained.contains(why),
        "{arguments}: {} {complained}",
        output.status
    );
    Ok(())
}

pub(super) fn status_of(kind: poold::model::ErrorKind) -> i32 {
    kind.exit_status().into()
}

/// Bytes without a pattern, in a file.
pub(super) fn noise(path: &Path, mebibytes: u64) -> Result<Vec<u8>> {
    let mut bytes = vec![0; usize::try_from(mebibytes * MIB)?];
    std::fs::File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    std::fs::write(path, &bytes)?;
    Ok(bytes)
}

pub async fn data_goes_in_and_out() -> Result<()> {
    let world = World::start().await?;
    world.active_pool("images").await?;
    let file = world.pools().join("source");
    let (at, there) = (file.display(), world.pools().join("images"));
    let content = noise(&file, 5)?;
    done(&world, "vol create images/disk.raw 5M").await?;
    let said = done(&world, &format!("vol upload images/disk.raw {at}")).await?;
    ensure!(said.contains("Uploaded to"), "{said}");
    ensure!(std::fs::read(there.join("disk.raw"))? == content, "the file is in it");

    // From a pipe, and to one.
    done(&world, "vol create images/piped.raw 5M").await?;
    let mut command = poolctl(&world, "vol upload images/piped.raw -");
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::null()).spawn()?;
    let mut stdin = child.stdin.take().context("a pipe")?;
    let copy = content.clone();
    let writing = tokio::task::spawn_blocking(move || stdin.write_all(&copy));
    writing.await??;
    ensure!(tokio::task::spawn_blocking(move || child.wait()).await??.success());
    let output = run(poolctl(&world, "vol download images/piped.raw -")).await?;
    ensure!(output.status.success() && output.stdout == content, "it comes out as it went in");

    let out = world.pools().join("out");
    done(
        &world,
        &format!("vol download images/disk.raw {} --offset 1M --length 2M", out.display()),
    )
    .await?;
    ensure!(std::fs::read(&out)? == content[1 << 20..3 << 20], "a part comes out");
    let sum = done(&world, "vol open images/disk.raw -- sha256sum").await?;
    let expected = Command::new("sha256sum").arg(&file).output()?.stdout;
    ensure!(sum.as_bytes()[..64] == expected[..64], "a command reads it");

    let large = world.pools().join("large");
    noise(&large, 6)?;
    let invalid = status_of(poold::model::ErrorKind::InvalidArgument);
    fails(&world, &format!("vol upload images/disk.raw {}", large.display()), invalid, "fit")
        .await?;
    ensure!(std::fs::read(there.join("disk.raw"))? == content, "nothing was written");
    let never = world.pools().join("never");
    fails(
        &world,
        &format!("vol download images/disk.raw {} --offset 9M", never.display()),
        invalid,
        "",
    )
    .await?;
    ensure!(!never.exists(), "no file is left of a download that failed");
    Ok(())
}

pub async fn volumes_are_copied_within_and_across_pools() -> Result<()> {
    let world = World::start().await?;
    world.active_pool("images").await?;
    world.active_pool("other").await?;
    let file = world.pools().join("source");
    let content = noise(&file, 3)?;
    done(&world, "vol create images/disk.raw 3M").await?;
    done(&world, &format!("vol upload images/disk.raw {}", file.display())).await?;
    let said = done(&world, "vol clone images/disk.raw copy.raw").await?;
    ensure!(said.contains("method copy") || said.contains("method reflink"), "{said}");
    let said = done(&world, "vol clone images/disk.raw other/copy.vmdk --format vmdk").await?;
    ensure!(said.contains("method convert"), "{said}");
    done(&world, "vol clone other/copy.vmdk back.raw --format raw").await?;
    for path in ["images/copy.raw", "other/back.raw"] {
        ensure!(std::fs::read(world.pools().join(path))? == content, "{path}");
    }
    let said = done(&world, "vol clone images/disk.raw top.qcow2 --shallow").await?;
    ensure!(said.contains("method shallow"), "{said}");
    let shown = done(&world, "vol show images/top.qcow2").await?;
    ensure!(shown.contains("disk.raw"), "{shown}");
    let busy = status_of(poold::model::ErrorKind::Busy);
    fails(&world, "vol delete images/disk.raw", busy, "top.qcow2").await?;
    let exists = status_of(poold::model::ErrorKind::Exists);
    fails(&world, "vol clone images/disk.raw copy.raw", exists, "copy.raw").await
}

pub async fn secrets_are_kept_and_shown_nowhere() -> Result<()> {
    const MARKER: &str = "MARK,er=of a passphrase";
    let world = World::start_with("log-level = \"trace\"\n").await?;
    world.active_pool("images").await?;
    let file = world.pools().join("passphrase");
    std::fs::write(&file, format!("{MARKER}\n"))?;
    let watch = Watch::over(MARKER)?;
    let set = format!("secret set {} --usage-name disk --description test", file.display());
    done(&world, &set).await?;
    std::fs::remove_file(&file)?;
    let listed = done(&world, "secret list").await?;
    ensure!(listed.contains("disk"), "{listed}");
    done(&world, "vol create images/disk.qcow2 4M --format qcow2 --encryption luks --secret disk")
        .await?;
    done(&world, "vol clone images/disk.qcow2 plain.qcow2 --decrypt").await?;
    let shown = done(&world, "vol show images/disk.qcow2").await?;
    ensure!(shown.contains("Encrypted"), "{shown}");
    watch.nowhere(&world, &[listed, shown]).await?;
    let image = world.pools().join("images/disk.qcow2");
    let opened = Command::new("qemu-img")
        .args(["info", "--object"])
        .arg(format!("secret,id=s,data={}", MARKER.replace(',', ",,")))
        .arg("--image-opts")
        .arg(format!("driver=qcow2,file.filename={},encrypt.key-secret=s", image.display()))
        .output()?;
    ensure!(opened.status.success(), "{}", String::from_utf8_lossy(&opened.stderr));

    // After a restart it is known still, and nothing of the daemon shows it.
    world.end(nix::sys::signal::Signal::SIGKILL).await?;
    let watch = Watch::over(MARKER)?;
    done(&world, "vol resize images/disk.qcow2 8M").await?;
    watch.nowhere(&world, &[]).await?;
    let notfound = status_of(poold::model::ErrorKind::NotFound);
    fails(
        &world,
        "vol create images/x.qcow2 4M --format qcow2 --encryption luks --secret nobody",
        notfound,
        "nobody",
    )
    .await?;
    done(&world, "secret delete disk").await?;
    ensure!(
        std::fs::read_dir(world.data("var/lib/poold/secrets"))?.count() == 0,
        "it is forgotten"
    );
    fails(&world, "vol resize images/disk.qcow2 9M", notfound, "secret").await
}

/// A virtual machine that has an image open and does nothing with it.
struct Machine(Child);

impl Machine {
    fn start(image: &Path, format: &str) -> Result<Self> {
        let drive = format!(
            "driver={format},node-name=disk,file.driver=file,file.filename={}",
            image.display()
        );
        let child = Command::new("qemu-system-x86_64")
            .args(["-S", "-display", "none", "-nodefaults", "-machine", "pc", "-accel", "tcg"])
            .args(["-m", "64", "-monitor", "stdio", "-blockdev", &drive])
            .args(["-device", "virtio-blk-pci,drive=disk"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        let mut machine = Self(child);
        // It greets before it opens anything; it answers when all is open.
        machine.0.stdin.as_mut().context("its monitor")?.write_all(b"info status\n")?;
        let stdout = machine.0.stdout.as_mut().context("its monitor")?;
        let mut said = Vec::new();
        let mut byte = [0; 1];
        while !String::from_utf8_lossy(&said).contains("VM status:") {
            stdout.read_exact(&mut byte).context("the machine did not start")?;
            said.push(byte[0]);
        }
        Ok(machine)
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

pub async fn what_a_machine_uses_is_left_alone() -> Result<()> {
    let world = World::start().await?;
    let pool = world.active_pool("images").await?;
    done(&world, "vol create images/base.raw 4M").await?;
    done(&world, "vol create images/top.qcow2 --format qcow2 --backing images/base.raw").await?;
    done(&world, "vol create images/alone.raw 4M").await?;
    let there = world.pools().join("images");
    let source = world.pools().join("source");
    noise(&source, 1)?;
    let busy = status_of(poold::model::ErrorKind::Busy);
    let (on_overlay, alone) = (
        Machine::start(&there.join("top.qcow2"), "qcow2")?,
        Machine::start(&there.join("alone.raw"), "raw")?,
    );
    for volume in ["images/alone.raw", "images/top.qcow2", "images/base.raw"] {
        for command in [
            format!("vol delete {volume}"),
            format!("vol wipe {volume}"),
            format!("vol upload {volume} {}", source.display()),
            format!("vol open --write {volume} -- true"),
            format!("vol resize {volume} 1M --shrink"),
        ] {
            fails(&world, &command, busy, "").await?;
        }
    }
    for volume in ["images/alone.raw", "images/top.qcow2"] {
        fails(&world, &format!("vol clone {volume} copy.raw"), busy, "").await?;
    }
    drop((on_overlay, alone));
    done(&world, "vol delete images/top.qcow2").await?;

    // The other way round: what is being written is opened by no machine.
    let volume = pool.lookup_volume("alone.raw", &with("auth.no_user_interaction", true)).await?;
    let volume = world.volume(&volume).await?;
    let (reader, mut writer) = std::io::pipe()?;
    writer.write_all(b"begin")?;
    let job = volume.upload((&reader).into(), &super::support::world::none()).await?;
    let written = there.join("alone.raw");
    eventually("the upload writes", async || Ok(std::fs::read(&written)?.starts_with(b"begin")))
        .await?;
    ensure!(Machine::start(&written, "raw").is_err(), "a machine starts on half an image");
    drop(writer);
    let job = poold::client::JobProxy::new(&world.root, job).await?;
    job.wait(&super::support::world::none()).await?;
    drop(Machine::start(&written, "raw")?);
    Ok(())
}

pub async fn an_interrupt_cancels_an_upload() -> Result<()> {
    let world = World::start().await?;
    world.active_pool("images").await?;
    done(&world, "vol create images/disk.raw 4M").await?;
    let mut command = poolctl(&world, "vol upload images/disk.raw -");
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn()?;
    let mut stdin = child.stdin.take().context("a pipe")?;
    stdin.write_all(b"some of it")?;
    let written = world.pools().join("images/disk.raw");
    eventually("the upload writes", async || Ok(std::fs::read(&written)?.starts_with(b"some")))
        .await?;
    let pid = nix::unistd::Pid::from_raw(child.id().cast_signed());
    // An interrupt before it waits for the job would end it as it ends any program.
    tokio::time::sleep(std::time::Duration::from_millis(500)).await;
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGINT)?;
    let mut ended = None;
    eventually("the interrupt is heard", async || {
        ended = child.try_wait()?;
        Ok(ended.is_some())
    })
    .await?;
    drop(stdin);
    let code = ended.and_then(|status| status.code());
    ensure!(code.is_some() && code != Some(0), "{ended:?}");
    eventually("the volume is incomplete", async || {
        Ok(done(&world, "vol show images/disk.raw").await?.contains("Incomplete"))
    })
    .await
}
