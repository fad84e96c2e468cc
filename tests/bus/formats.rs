//! Every format through the public face: what can be done with it is what docs/formats.md says, and a "no" is qemu-img's
//! too. `POOLD_BLESS=1` writes the document anew.

use super::support::leaks::Watch;
use super::support::world::{World, with};
use anyhow::{Context, Result, ensure};
use poold::client::{Options, PoolProxy};
use poold::image::formats::{self, FormatInfo};
use poold::model::{ErrorKind, VolumeFormat};
use std::path::Path;
use std::process::Command;

const PASSPHRASE: &str = "the passphrase of each format";
const MIB: u64 = 1 << 20;

const HEAD: &str = "# Formats of images

What poold does with each format in pools of image files. This page is written by the bus tier's case
`formats::every_format_is_what_the_document_says`, which tries every cell; a \"no\" is one of qemu-img's own.

*Probe*: recognised by its content, with its capacity. *Create*: new volumes. *Resize*: of the capacity. *Clone to*: from a
volume of another format. *Encrypt*: with LUKS and a secret.

| format | probe | create | resize | clone to | encrypt |
|---|---|---|---|---|---|
";

const TAIL: &str = "
`vhd` is another name of `vpc`, `ploop` is QEMU's `parallels`, and a raw volume that is encrypted is a `luks` image. A fixed VHD
is known by its end, which is looked at when the volume was declared to be one; a dmg by its name and its end. An iso is a raw
image with a name; it is made by other programs.
";

/// A world with an active pool, a secret "key" and a source.
async fn world() -> Result<(World, PoolProxy<'static>)> {
    let world = World::start_with("log-level = \"trace\"\n").await?;
    let pool = world.active_pool("images").await?;
    world.set_secret("volume", "key", PASSPHRASE).await?;
    pool.create_volume("source.raw", 5 * MIB, &with("format", "raw")).await?;
    Ok((world, pool))
}

fn creation(info: &FormatInfo, encrypted: bool) -> Options<'static> {
    let mut options = with("format", info.format.as_str());
    // Deriving a key takes as long as the machine is busy with other things.
    options.insert("wait", u64::MAX.into());
    if encrypted {
        options.extend([("encryption", "luks".into()), ("secret", "key".into())]);
    }
    options
}

/// Whether the service did it; any refusal but the one that says that it cannot be is a failure.
fn could<T>(what: &str, outcome: poold::model::Result<T>) -> Result<bool> {
    match outcome {
        Ok(_) => Ok(true),
        Err(error)
            if matches!(error.kind(), ErrorKind::NotSupported | ErrorKind::InvalidArgument) =>
        {
            Ok(false)
        }
        Err(error) => Err(error).context(what.to_owned()),
    }
}

/// Whether qemu-img does it with images of its own.
fn qemu_img(directory: &Path, arguments: &str) -> Result<bool> {
    let mut last = String::new();
    for _ in 0..20 {
        let output = Command::new("qemu-img")
            .current_dir(directory)
            .args(arguments.split(' '))
            .output()
            .context("qemu-img")?;
        last = String::from_utf8_lossy(&output.stderr).into_owned();
        // Its measuring of key derivation fails now and then.
        if !last.contains("accurate CPU usage") {
            return Ok(output.status.success());
        }
    }
    anyhow::bail!("{arguments}: {last}")
}

/// The cells of one format, each tried.
async fn row(world: &World, pool: &PoolProxy<'_>, info: &FormatInfo) -> Result<[bool; 5]> {
    let (name, luks) = (info.format.as_str(), info.format == VolumeFormat::Luks);
    let directory = world.pools();
    let volume_name = format!("new.{name}");
    let made = pool.create_volume(&volume_name, 5 * MIB, &creation(info, luks)).await;
    let made = match made {
        Ok((volume, _)) => Some(volume),
        Err(error) => could(name, Err::<(), poold::model::Error>(error)).map(|_| None)?,
    };
    let secret = "--object secret,id=s,data=x";
    let key = if luks { " -o key-secret=s,iter-time=10" } else { "" };
    let qemu = format!("create {secret} -q -f {}{key} q.{name} 5M", info.driver);
    let qemu_makes = qemu_img(&directory, &qemu)? && info.format != VolumeFormat::Iso;
    ensure!(made.is_some() == qemu_makes, "create: qemu-img says {qemu_makes}");

    let mut resized = false;
    if let Some(volume) = &made {
        let proxy = world.volume(volume).await?;
        resized = could("resize", proxy.resize(9 * MIB, &with("wait", u64::MAX)).await)?;
        ensure!(proxy.capacity().await? == if resized { 9 * MIB } else { 5 * MIB }, "its capacity");
        let image = match luks {
            true => format!("--image-opts driver=luks,key-secret=s,file.filename=q.{name}"),
            false => format!("-f {} q.{name}", info.driver),
        };
        let qemu_resizes = qemu_img(&directory, &format!("resize {secret} -q {image} 9M"))?;
        ensure!(resized == qemu_resizes, "resize: qemu-img says {qemu_resizes}");
    }

    let source = pool.lookup_volume("source.raw", &Options::new()).await?;
    let source = world.volume(&source).await?;
    let clone = source.clone(&format!("clone.{name}"), &creation(info, luks)).await;
    let cloned = could("clone", clone)?;
    ensure!(cloned == qemu_makes, "clone to: qemu-img makes it: {qemu_makes}");

    let encrypted =
        match pool.create_volume(&format!("enc.{name}"), MIB, &creation(info, true)).await {
            Ok((volume, _)) => world.volume(&volume).await?.encrypted().await?,
            Err(error) => could("encrypt", Err::<(), poold::model::Error>(error))?,
        };
    let qemu_encrypts = match info.format {
        // As a LUKS image.
        VolumeFormat::Raw | VolumeFormat::Luks => true,
        _ => qemu_img(
            &directory,
            &format!(
                "create {secret} -q -f {} -o encrypt.format=luks,encrypt.key-secret=s,encrypt.iter-time=10 e.{name} 1M",
                info.driver
            ),
        )?,
    };
    ensure!(encrypted == qemu_encrypts, "encrypt: qemu-img says {qemu_encrypts}");

    let probed = probe(world, pool, info).await?;
    Ok([probed, made.is_some(), resized, cloned, encrypted])
}

/// Whether an image that another program made is recognised when it is dropped into the pool.
async fn probe(world: &World, pool: &PoolProxy<'_>, info: &FormatInfo) -> Result<bool> {
    let name = info.format.as_str();
    let (made, file) = (world.pools().join(format!("q.{name}")), format!("found.{name}"));
    let there = world.pools().join("images").join(&file);
    let other = |program: &str, arguments: &[&str]| -> Result<()> {
        let output = Command::new(program).args(arguments).output().context(program.to_owned())?;
        ensure!(there.exists(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
        Ok(())
    };
    let at = there.to_str().context("a path")?;
    let content = world.pools().join("content");
    std::fs::write(&content, vec![1; 1 << 20])?;
    let content = content.to_str().context("a path")?;
    match info.format {
        VolumeFormat::Bochs => {
            other("bximage", &["-func=create", "-hd=10M", "-imgmode=growing", "-q", at])?
        }
        VolumeFormat::Cloop => other("create_compressed_fs", &["-B", "65536", content, at])?,
        VolumeFormat::Iso => other("genisoimage", &["-quiet", "-o", at, content])?,
        VolumeFormat::Dmg => {
            // Nothing here makes one: the trailer by which it is known, as Apple's programs write it.
            let mut image = vec![0; 2048];
            image[1536..1540].copy_from_slice(b"koly");
            image[2028..2036].copy_from_slice(&3u64.to_be_bytes());
            std::fs::write(&there, image)?;
        }
        _ => drop(std::fs::copy(&made, &there)?),
    }
    pool.refresh(&Options::new()).await?;
    let volume = world.volume(&pool.lookup_volume(&file, &Options::new()).await?).await?;
    let found = volume.format().await?;
    let known = VolumeFormat::from_name(&found).context(found.clone())?;
    let driver = formats::info(known).map(|row| row.driver);
    Ok(driver == Some(info.driver) && volume.capacity().await? > 0)
}

pub async fn every_format_is_what_the_document_says() -> Result<()> {
    let watch = Watch::over(PASSPHRASE)?;
    let (world, pool) = world().await?;
    let mut text = HEAD.to_owned();
    for info in formats::all() {
        let cells = row(&world, &pool, info).await.with_context(|| info.format.to_string())?;
        text.push_str(&format!("| {} ", info.format));
        for cell in cells {
            text.push_str(if cell { "| yes " } else { "| no " });
        }
        text.push_str("|\n");
    }
    watch.nowhere(&world, &[]).await?;
    text.push_str(TAIL);
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/formats.md");
    if std::env::var_os("POOLD_BLESS").is_some() {
        std::fs::write(&path, &text)?;
    }
    ensure!(
        std::fs::read_to_string(&path).unwrap_or_default() == text,
        "docs/formats.md is not what poold does; POOLD_BLESS=1 writes it anew:\n{text}"
    );
    Ok(())
}

pub async fn a_machine_opens_every_volume() -> Result<()> {
    let (world, pool) = world().await?;
    let passphrase = world.pools().join("passphrase");
    std::fs::write(&passphrase, PASSPHRASE)?;
    for info in formats::all().iter().filter(|info| info.creatable) {
        for encrypted in [false, true] {
            let luks = info.format == VolumeFormat::Luks;
            if (encrypted && !info.encrypts) || (luks && !encrypted) {
                continue;
            }
            let name = format!("{encrypted}.{}", info.format);
            let (volume, _) =
                pool.create_volume(&name, 5 * MIB, &creation(info, encrypted)).await?;
            let volume = world.volume(&volume).await?;
            let (path, format) = (volume.path().await?, volume.format().await?);
            let known = VolumeFormat::from_name(&format).context("its format")?;
            let driver = formats::info(known).context("its driver")?.driver;
            let key = match (encrypted, driver) {
                (false, _) => "",
                (true, "luks") => ",key-secret=s",
                (true, _) => ",encrypt.format=luks,encrypt.key-secret=s",
            };
            let drive = format!(
                "driver={driver},node-name=disk,file.driver=file,file.filename={path}{key}"
            );
            let mut machine = Command::new("qemu-system-x86_64");
            machine
                .args(["-S", "-display", "none", "-nodefaults", "-machine", "pc", "-accel", "tcg"])
                .args(["-m", "64", "-monitor", "stdio"])
                .args(["-object", &format!("secret,id=s,file={}", passphrase.display())])
                .args(["-blockdev", &drive, "-device", "virtio-blk-pci,drive=disk"])
                .stdin(std::process::Stdio::piped())
                .stdout(std::process::Stdio::piped())
                .stderr(std::process::Stdio::piped());
            let mut machine = machine.spawn().context("qemu-system-x86_64")?;
            let mut monitor = machine.stdin.take().context("its monitor")?;
            std::io::Write::write_all(&mut monitor, b"info block\nquit\n")?;
            let output = tokio::task::spawn_blocking(move || machine.wait_with_output()).await??;
            let said = String::from_utf8_lossy(&output.stdout);
            ensure!(
                output.status.success() && said.contains("disk") && !said.contains("read-only"),
                "{drive}: {said}{}",
                String::from_utf8_lossy(&output.stderr)
            );
        }
    }
    Ok(())
}
