//! Passphrases: where they are while they are used, and where they are not.

use super::support::world::{World, eventually, none, with};
use anyhow::{Context, Result, ensure};
use poold::client::{JobProxy, Options};
use std::io::Write;
use std::path::Path;
use std::process::Command;

const MARKER: &str = "MARKED,of=a,,passphrase\nin two lines";

/// The files below a directory.
fn files(directory: &Path, found: &mut Vec<std::path::PathBuf>) -> Result<()> {
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        match entry.file_type()? {
            kind if kind.is_dir() => files(&entry.path(), found)?,
            kind if kind.is_file() => found.push(entry.path()),
            _ => {}
        }
    }
    Ok(())
}

/// Fails when it is in the arguments, the environment or the open regular files of any process, or in a file.
fn nowhere(world: &World) -> Result<()> {
    let marker = &MARKER.as_bytes()[..MARKER.find('\n').context("two lines")?];
    let shows = |content: &[u8]| content.windows(marker.len()).any(|window| window == marker);
    let mut processes = 0;
    for process in std::fs::read_dir("/proc")? {
        let process = process?.path();
        for part in ["cmdline", "environ"] {
            let Ok(content) = std::fs::read(process.join(part)) else { continue };
            processes += 1;
            ensure!(!shows(&content), "{}/{part} has it", process.display());
        }
    }
    ensure!(processes > 8, "only {processes} things were looked at");
    let mut found = Vec::new();
    files(world.whole(), &mut found)?;
    files(world.bus_directory(), &mut found)?;
    ensure!(found.iter().any(|path| path.ends_with("bus.log")), "no log was looked at");
    for path in found {
        let content = std::fs::read(&path).unwrap_or_default();
        ensure!(!shows(&content), "{} has it", path.display());
    }
    Ok(())
}

pub async fn a_passphrase_is_seen_nowhere_while_it_is_used() -> Result<()> {
    let world = World::start_with("log-level = \"trace\"\n").await?;
    let pool = world.active_pool("images").await?;
    let (reader, mut writer) = std::io::pipe()?;
    writer.write_all(MARKER.as_bytes())?;
    drop(writer);
    world.manager().await?.set_secret((&reader).into(), &with("usage-name", "key")).await?;
    pool.create_volume("plain", 1 << 20, &with("format", "raw")).await?;
    world.delay_qemu_img()?;
    let encrypted = |format: &'static str| {
        Options::from([
            ("format", format.into()),
            ("encryption", "luks".into()),
            ("secret", "key".into()),
            ("wait", 0_u64.into()),
        ])
    };
    let plain = world.volume(&pool.lookup_volume("plain", &none()).await?).await?;
    let jobs = [
        pool.create_volume("disk.qcow2", 1 << 20, &encrypted("qcow2")).await?.1,
        plain.clone("disk.luks", &encrypted("raw")).await?.1,
    ];
    eventually("qemu-img works", async || Ok(world.qemu_img_waits())).await?;
    nowhere(&world)?;
    world.let_qemu_img_go()?;
    for job in jobs {
        JobProxy::new(&world.root, job).await?.wait(&with("wait", u64::MAX)).await?;
    }
    nowhere(&world)?;
    // And yet it is the one.
    let passphrase = world.whole().join("passphrase");
    std::fs::write(&passphrase, MARKER)?;
    let image = world.pools().join("images/disk.qcow2");
    let opened = Command::new("qemu-img")
        .args(["info", "--object", &format!("secret,id=s,file={}", passphrase.display())])
        .arg("--image-opts")
        .arg(format!("driver=qcow2,file.filename={},encrypt.key-secret=s", image.display()))
        .output()?;
    ensure!(opened.status.success(), "{}", String::from_utf8_lossy(&opened.stderr));
    Ok(())
}
