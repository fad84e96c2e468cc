//! Pools of type disk on loop devices, for each kind of partition table; parted, sfdisk and blkid are asked after each
//! step.

use super::support::runner::Skip;
use super::support::world::{World, eventually, none, volume_names, with};
use anyhow::{Context, Result, bail, ensure};
use poold::client::{Options, PoolProxy, VolumeProxy};
use poold::model::ErrorKind;
use std::collections::HashMap;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;

const MIB: u64 = 1 << 20;

/// A loop device with partitions; detached when it is dropped.
struct Loop {
    path: PathBuf,
    name: String,
}

impl Loop {
    fn new(world: &World, name: &str, mebibytes: u64) -> Result<Self> {
        let file = world.whole().join(name);
        std::fs::File::create(&file)?.set_len(mebibytes * MIB)?;
        let output = Command::new("losetup").args(["-f", "-P", "--show"]).arg(&file).output();
        let output = output.context("losetup")?;
        if !output.status.success() {
            let why = String::from_utf8_lossy(&output.stderr).trim().to_owned();
            bail!(Skip(format!("no loop devices here: {why}")));
        }
        let path = PathBuf::from(String::from_utf8(output.stdout)?.trim());
        let name = path.file_name().context("a name")?.to_string_lossy().into_owned();
        Ok(Self { path, name })
    }

    fn partition(&self, number: u32) -> String {
        format!("{}p{number}", self.name)
    }

    fn node(&self, number: u32) -> PathBuf {
        Path::new("/dev").join(self.partition(number))
    }

    fn document(&self, pool: &str, format: &str) -> String {
        format!(
            "<pool type='disk'><name>{pool}</name><source><device path='{}'/><format type='{format}'/></source>\
             <target><path>/dev</path></target></pool>",
            self.path.display()
        )
    }

    /// Start and length in bytes of each partition, by number, as parted reads the table.
    fn by_parted(&self) -> Result<Vec<(u32, u64, u64)>> {
        let said = run("parted", &["-s", "-j", self.at(), "unit", "B", "print"])?;
        let said: serde_json::Value = serde_json::from_str(&said)?;
        let bytes = |value: &serde_json::Value| -> Result<u64> {
            Ok(value.as_str().context("bytes")?.trim_end_matches('B').parse()?)
        };
        let rows = said["disk"]["partitions"].as_array().cloned().unwrap_or_default();
        let mut rows = rows
            .iter()
            .map(|row| {
                let number = row["number"].as_u64().context("a number")?.try_into()?;
                Ok((number, bytes(&row["start"])?, bytes(&row["size"])?))
            })
            .collect::<Result<Vec<_>>>()?;
        rows.sort_unstable();
        Ok(rows)
    }

    fn at(&self) -> &str {
        self.path.to_str().unwrap_or_default()
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        let _ = Command::new("losetup").arg("-d").arg(&self.path).status();
    }
}

fn run(program: &str, args: &[&str]) -> Result<String> {
    let path = "/usr/sbin:/usr/bin:/sbin:/bin";
    let output = Command::new(program).env("PATH", path).args(args).output();
    let output = output.with_context(|| program.to_owned())?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(
        output.status.success(),
        "{program} {args:?}: {said}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(said)
}

fn poolctl(world: &World, arguments: &str) -> Result<()> {
    let mut args = vec!["--address", world.address()];
    args.extend(arguments.split_whitespace());
    run(env!("CARGO_BIN_EXE_poolctl"), &args).map(drop)
}

/// Defines a pool from libvirt's document, builds and starts it.
async fn pool(world: &World, name: &str, document: &str) -> Result<PoolProxy<'static>> {
    let file = world.whole().join(format!("{name}.xml"));
    std::fs::write(&file, document)?;
    poolctl(world, &format!("define {} --build --start", file.display()))?;
    let path = world.manager().await?.lookup_pool(name, &none()).await?;
    world.pool(&path).await
}

async fn volume(world: &World, pool: &PoolProxy<'_>, name: &str) -> Result<VolumeProxy<'static>> {
    world.volume(&pool.lookup_volume(name, &none()).await?).await
}

fn refused<T>(outcome: poold::model::Result<T>, kind: ErrorKind, why: &str) -> Result<()> {
    match outcome {
        Ok(_) => bail!("it was not refused: {why}"),
        Err(error) => {
            ensure!(error.kind() == kind, "{:?} and not {kind:?}: {error}", error.kind());
            ensure!(error.message().contains(why), "{why:?} is not in: {error}");
            Ok(())
        }
    }
}

/// The volumes are the partitions that parted sees, beside those of the table itself, and the kernel has the same.
async fn agree(disk: &Loop, pool: &PoolProxy<'_>, own: &[u32]) -> Result<()> {
    let properties = with("properties", vec!["Name", "Path", "Physical"]);
    let mut parted = disk.by_parted()?;
    parted.retain(|(number, ..)| !own.contains(number));
    let (volumes, _) = pool.list_volumes("", 0, &properties).await?;
    ensure!(volumes.len() == parted.len(), "{} volumes, parted says {parted:?}", volumes.len());
    for (_, mut has) in volumes {
        let mut take = |key: &str| has.remove(key).with_context(|| key.to_owned());
        let (name, path) = (String::try_from(take("Name")?)?, String::try_from(take("Path")?)?);
        let size = u64::try_from(take("Physical")?)?;
        ensure!(path == format!("/dev/{name}"), "{path}");
        let row = parted.iter().find(|(number, ..)| disk.partition(*number) == name);
        let row = row.with_context(|| format!("{name} is not in {parted:?}"))?;
        ensure!(row.2 == size, "{name} has {size} bytes, parted says {}", row.2);
        let sys = format!("/sys/class/block/{name}");
        let sysfs = |what: &str| -> Result<u64> {
            Ok(std::fs::read_to_string(format!("{sys}/{what}"))?.trim().parse::<u64>()? * 512)
        };
        ensure!(sysfs("start")? == row.1, "{name} starts elsewhere for the kernel");
    }
    Ok(())
}

/// A machine opens a device; the size that it sees.
fn machine_opens(path: &Path) -> Result<u64> {
    let mut machine = Command::new("qemu-system-x86_64")
        .args([
            "-S",
            "-display",
            "none",
            "-nodefaults",
            "-machine",
            "pc",
            "-accel",
            "tcg",
            "-m",
            "32",
        ])
        .args([
            "-blockdev",
            &format!("driver=host_device,node-name=disk,filename={}", path.display()),
        ])
        .args(["-device", "virtio-blk-pci,drive=disk", "-qmp", "stdio"])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .context("qemu-system-x86_64")?;
    let orders =
        "{\"execute\":\"qmp_capabilities\"}{\"execute\":\"query-block\"}{\"execute\":\"quit\"}";
    std::io::Write::write_all(&mut machine.stdin.take().context("its input")?, orders.as_bytes())?;
    let said = machine.wait_with_output()?.stdout;
    let said = String::from_utf8_lossy(&said);
    let size = said.lines().find_map(|line| {
        let line: serde_json::Value = serde_json::from_str(line).ok()?;
        line["return"][0]["inserted"]["image"]["virtual-size"].as_u64()
    });
    size.with_context(|| format!("qemu said {said}"))
}

/// What blkid finds on a device, empty when nothing.
fn blkid(path: &Path) -> String {
    let output = Command::new("/usr/sbin/blkid").args(["-p", "-o", "export"]).arg(path).output();
    output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default()
}

/// The whole life of a pool with one kind of table.
async fn life(label: &str, own: &[u32], by_blkid: Option<&str>) -> Result<()> {
    let world = World::start().await?;
    let disk = Loop::new(&world, "disk", 256)?;
    let document = disk.document("disk", label);
    let pool = pool(&world, "disk", &document).await?;
    ensure!(pool.state().await? == "active");
    if let Some(known) = by_blkid {
        ensure!(blkid(&disk.path).contains(&format!("PTTYPE={known}")), "blkid");
    }
    agree(&disk, &pool, own).await?;
    let number = |index: usize| (1..).filter(|n| !own.contains(n)).nth(index).unwrap_or(1);
    let name = |index: usize| disk.partition(number(index));
    let node = |index: usize| disk.node(number(index));

    let wrong = pool.create_volume("data", 16 * MIB, &none()).await;
    refused(wrong, ErrorKind::InvalidArgument, &format!("would be {}", name(0)))?;
    let large = pool.create_volume(&name(0), 1 << 40, &none()).await;
    refused(large, ErrorKind::NoSpace, "the largest has")?;
    pool.create_volume(&name(0), 16 * MIB, &none()).await?;
    pool.create_volume(&name(1), 16 * MIB, &none()).await?;
    agree(&disk, &pool, own).await?;
    let sfdisk = run("sfdisk", &["--json", disk.at()]);
    if !["mac", "bsd", "pc98"].contains(&label) {
        let said = sfdisk?;
        ensure!(said.contains(&format!("\"node\": \"{}\"", node(1).display())), "sfdisk: {said}");
    }

    // There is another one behind the first.
    let first = volume(&world, &pool, &name(0)).await?;
    refused(first.resize(64 * MIB, &none()).await, ErrorKind::NoSpace, "it can grow to")?;
    let second = volume(&world, &pool, &name(1)).await?;
    second.resize(32 * MIB, &none()).await?;
    ensure!(second.capacity().await? >= 32 * MIB);
    agree(&disk, &pool, own).await?;
    let shrink = second.resize(20 * MIB, &none()).await;
    refused(shrink, ErrorKind::InvalidArgument, "shrink")?;
    second.resize(20 * MIB, &with("shrink", true)).await?;
    agree(&disk, &pool, own).await?;

    // Content goes in, out, to a file and back.
    let mut content = vec![0; 16 << 20];
    std::io::Read::read_exact(&mut std::fs::File::open("/dev/urandom")?, &mut content)?;
    let file = world.whole().join("content");
    std::fs::write(&file, &content)?;
    poolctl(&world, &format!("vol upload disk/{} {}", name(0), file.display()))?;
    let begins_with = |path: &Path, content: &[u8]| -> Result<bool> {
        let mut found = vec![0; content.len()];
        std::fs::File::open(path)?.read_exact_at(&mut found, 0)?;
        Ok(found == content)
    };
    ensure!(begins_with(&node(0), &content)?, "what was uploaded is in the partition");
    let out = world.whole().join("out");
    poolctl(&world, &format!("vol download disk/{} {}", name(0), out.display()))?;
    ensure!(begins_with(&out, &content)?, "what was uploaded is downloaded");
    world.active_pool("images").await?;
    poolctl(&world, &format!("vol clone disk/{} images/copy.qcow2 --format qcow2", name(0)))?;
    poolctl(&world, &format!("vol clone images/copy.qcow2 disk/{}", name(2)))?;
    agree(&disk, &pool, own).await?;
    ensure!(begins_with(&node(2), &content)?, "it went through an image and back");
    let third = volume(&world, &pool, &name(2)).await?;
    ensure!(machine_opens(&node(2))? == third.capacity().await?);

    first.wipe(&none()).await?;
    ensure!(begins_with(&node(0), &vec![0; 16 << 20])?, "nothing is left of it");
    ensure!(begins_with(&node(2), &content)?, "the other one has its own");

    // A hole between two is free, shown, and taken again.
    second.delete(&none()).await?;
    agree(&disk, &pool, own).await?;
    ensure!(!node(1).exists() && node(0).exists() && node(2).exists());
    eventually("the hole is shown", async || {
        Ok(pool.get_xml(&none()).await?.matches("<freeExtent ").count() == 2)
    })
    .await?;
    pool.create_volume(&name(1), 8 * MIB, &none()).await?;
    agree(&disk, &pool, own).await?;
    let rows = disk.by_parted()?;
    let start = |index: usize| rows.iter().find(|row| row.0 == number(index)).map(|row| row.1);
    ensure!(start(1) < start(2), "it is in the hole: {rows:?}");

    // Another daemon finds it all as it is.
    world.end(nix::sys::signal::Signal::SIGKILL).await?;
    ensure!(volume_names(&pool).await?.len() == 3);
    ensure!(pool.state().await? == "active");

    pool.stop(&none()).await?;
    refused(pool.delete(&none()).await, ErrorKind::Busy, "3 partitions")?;
    pool.delete(&with("volumes", true)).await?;
    ensure!(blkid(&disk.path).is_empty() && !node(0).exists(), "the disk is blank");
    refused(pool.start(&none()).await, ErrorKind::NotBuilt, "build")?;
    pool.undefine(&none()).await?;
    Ok(())
}

pub async fn dos() -> Result<()> {
    life("dos", &[], Some("dos")).await
}
pub async fn gpt() -> Result<()> {
    life("gpt", &[], Some("gpt")).await
}
pub async fn mac() -> Result<()> {
    life("mac", &[1], Some("mac")).await
}
pub async fn bsd() -> Result<()> {
    life("bsd", &[], None).await
}
pub async fn pc98() -> Result<()> {
    life("pc98", &[], None).await
}
pub async fn sun() -> Result<()> {
    life("sun", &[3], Some("sun")).await
}
pub async fn dvh() -> Result<()> {
    life("dvh", &[9, 11], Some("sgi")).await
}

/// A device that a process of this test has open, as a machine would.
fn hold(path: &Path) -> Result<std::process::Child> {
    let file = std::fs::File::options().read(true).write(true).open(path)?;
    Ok(Command::new("sleep").arg("1000").stdin(std::process::Stdio::from(file)).spawn()?)
}

fn let_go(mut child: std::process::Child) -> Result<()> {
    child.kill()?;
    child.wait()?;
    Ok(())
}

pub async fn logical_partitions_are_renumbered_when_nobody_minds() -> Result<()> {
    let world = World::start().await?;
    let disk = Loop::new(&world, "disk", 256)?;
    let pool = pool(&world, "disk", &disk.document("disk", "dos")).await?;
    let create = async |number, mebibytes: u64, format: &'static str| {
        pool.create_volume(&disk.partition(number), mebibytes * MIB, &with("format", format)).await
    };
    create(1, 8, "linux").await?;
    create(2, 160, "extended").await?;
    refused(create(3, 8, "extended").await, ErrorKind::InvalidArgument, "already")?;
    for (number, format) in [(5, "linux-swap"), (6, "linux-lvm"), (7, "fat32")] {
        create(number, 16, format).await?;
        ensure!(volume(&world, &pool, &disk.partition(number)).await?.format().await? == format);
    }
    agree(&disk, &pool, &[]).await?;
    let wrong = pool.create_volume("x", MIB, &none()).await;
    refused(wrong, ErrorKind::InvalidArgument, &disk.partition(8))?;
    let said = run("sfdisk", &["--json", disk.at()])?;
    ensure!(said.contains("\"type\": \"82\"") && said.contains("\"type\": \"8e\""), "{said}");

    let (two, five) = (
        volume(&world, &pool, &disk.partition(2)).await?,
        volume(&world, &pool, &disk.partition(5)).await?,
    );
    refused(two.delete(&none()).await, ErrorKind::Busy, "logical partitions in it")?;
    let held = hold(&disk.node(7))?;
    refused(five.delete(&none()).await, ErrorKind::Busy, "whose number would change")?;
    agree(&disk, &pool, &[]).await?;
    let_go(held)?;

    // The last one's content moves to another name, not to another place.
    let seven = std::fs::File::options().write(true).open(disk.node(7))?;
    seven.write_all_at(b"the seventh", 0)?;
    seven.sync_all()?;
    drop(seven);
    five.delete(&none()).await?;
    agree_soon(&disk, &pool).await?;
    let mut found = [0; 11];
    std::fs::File::open(disk.node(6))?.read_exact_at(&mut found, 0)?;
    ensure!(&found == b"the seventh", "it is the sixth now");
    let format = volume(&world, &pool, &disk.partition(6)).await?.format().await?;
    ensure!(format == "fat32", "{format}");
    create(7, 8, "linux").await?;
    agree(&disk, &pool, &[]).await?;
    Ok(())
}

/// The same after what moves others, which are read again a moment later.
async fn agree_soon(disk: &Loop, pool: &PoolProxy<'_>) -> Result<()> {
    eventually("the volumes are the partitions", async || Ok(agree(disk, pool, &[]).await.is_ok()))
        .await?;
    agree(disk, pool, &[]).await
}

pub async fn a_disk_in_use_gets_new_volumes_and_no_new_table() -> Result<()> {
    let world = World::start().await?;
    for label in ["gpt", "dos"] {
        let disk = Loop::new(&world, label, 256)?;
        let pool = pool(&world, label, &disk.document(label, label)).await?;
        pool.create_volume(&disk.partition(1), 32 * MIB, &none()).await?;
        run("mkfs.ext4", &["-q", disk.node(1).to_str().context("a path")?])?;
        let held = hold(&disk.node(1))?;
        let there = |number| {
            std::fs::metadata(disk.node(number)).map(|meta| {
                use std::os::unix::fs::MetadataExt;
                (meta.ctime(), meta.ctime_nsec(), meta.rdev())
            })
        };
        let before = there(1)?;
        pool.create_volume(&disk.partition(2), 32 * MIB, &none()).await?;
        pool.create_volume(&disk.partition(3), 16 * MIB, &none()).await?;
        volume(&world, &pool, &disk.partition(2)).await?.delete(&none()).await?;
        agree(&disk, &pool, &[]).await?;
        let first = volume(&world, &pool, &disk.partition(1)).await?;
        // Into what the second one had.
        first.resize(48 * MIB, &none()).await?;
        agree(&disk, &pool, &[]).await?;
        ensure!(there(1)? == before, "its node was left alone");
        ensure!(
            std::fs::read_to_string(format!("/sys/class/block/{}/size", disk.partition(1)))?.trim()
                == (48 * 2048).to_string()
        );
        let shrink = HashMap::from([("shrink", true.into())]);
        refused(first.resize(32 * MIB, &shrink).await, ErrorKind::Busy, "sleep")?;
        refused(first.delete(&none()).await, ErrorKind::Busy, "sleep")?;
        refused(first.wipe(&none()).await, ErrorKind::Busy, "sleep")?;
        let forced = first.delete(&with("force", true)).await;
        refused(forced, ErrorKind::Busy, "in use")?;
        agree(&disk, &pool, &[]).await?;

        pool.stop(&none()).await?;
        for mode in ["yes", "overwrite"] {
            let overwrite: Options<'_> = with("overwrite", mode == "overwrite");
            refused(pool.build(&overwrite).await, ErrorKind::Busy, "sleep")?;
        }
        refused(pool.delete(&with("volumes", true)).await, ErrorKind::Busy, "sleep")?;
        let_go(held)?;
        refused(pool.build(&none()).await, ErrorKind::AlreadyBuilt, "partition table")?;
        pool.build(&with("overwrite", true)).await?;
        ensure!(disk.by_parted()?.is_empty() && !disk.node(1).exists());
        pool.start(&none()).await?;
        ensure!(volume_names(&pool).await?.is_empty());
        pool.stop(&none()).await?;
        pool.delete(&none()).await?;
        pool.undefine(&none()).await?;
    }
    Ok(())
}

pub async fn what_others_do_to_the_table_is_seen() -> Result<()> {
    let world = World::start().await?;
    let disk = Loop::new(&world, "disk", 128)?;
    let pool = pool(&world, "disk", &disk.document("disk", "gpt")).await?;
    run("parted", &["-s", disk.at(), "mkpart", "outside", "10MiB", "20MiB"])?;
    eventually("parted's partition is a volume", async || {
        Ok(volume_names(&pool).await? == [disk.partition(1)])
    })
    .await?;
    run("parted", &["-s", disk.at(), "rm", "1"])?;
    eventually("it is gone", async || Ok(volume_names(&pool).await?.is_empty())).await?;

    pool.create_volume(&disk.partition(1), 16 * MIB, &none()).await?;
    // Another label is another pool.
    pool.stop(&none()).await?;
    let file = std::fs::File::options().read(true).write(true).open(&disk.path)?;
    let mut table = vec![0; 34 * 512];
    file.read_exact_at(&mut table, 0)?;
    file.write_all_at(&[0xff], 512 + 60)?;
    file.sync_all()?;
    refused(pool.start(&none()).await, ErrorKind::Conflict, "damaged")?;
    file.write_all_at(&table, 0)?;
    file.sync_all()?;
    pool.start(&none()).await?;
    file.write_all_at(&[0xff], 512 + 60)?;
    file.sync_all()?;
    refused(pool.refresh(&none()).await, ErrorKind::Inaccessible, "damaged")?;
    eventually("it is inaccessible", async || Ok(pool.state().await? == "inaccessible")).await?;
    let (error, message) = pool.last_error().await?;
    ensure!(
        error.ends_with("Inaccessible") && message.contains("gpt partition table"),
        "{message}"
    );
    let closed = pool.create_volume(&disk.partition(2), MIB, &none()).await;
    ensure!(closed.is_err(), "nothing is made on a damaged table");
    file.write_all_at(&table, 0)?;
    file.sync_all()?;
    eventually("it is back", async || Ok(pool.state().await? == "active")).await?;
    ensure!(volume_names(&pool).await? == [disk.partition(1)]);
    Ok(())
}

pub async fn an_encrypted_partition_keeps_its_lock() -> Result<()> {
    let world = World::start().await?;
    let disk = Loop::new(&world, "disk", 128)?;
    let pool = pool(&world, "disk", &disk.document("disk", "gpt")).await?;
    let (reader, mut writer) = std::io::pipe()?;
    std::io::Write::write_all(&mut writer, b"of a test")?;
    drop(writer);
    world.manager().await?.set_secret((&reader).into(), &with("usage-name", "key")).await?;
    // Deriving the key takes as long as it takes.
    let options = HashMap::from([
        ("encryption", "luks".into()),
        ("secret", "key".into()),
        ("wait", u64::MAX.into()),
    ]);
    pool.create_volume(&disk.partition(1), 16 * MIB, &options).await?;
    let locked = volume(&world, &pool, &disk.partition(1)).await?;
    ensure!(locked.encrypted().await? && locked.capacity().await? == 16 * MIB);
    ensure!(blkid(&disk.node(1)).contains("TYPE=crypto_LUKS"));
    locked.resize(24 * MIB, &none()).await?;
    ensure!(locked.encrypted().await? && locked.capacity().await? == 24 * MIB);
    locked.delete(&none()).await?;
    pool.create_volume(&disk.partition(1), 16 * MIB, &none()).await?;
    ensure!(!volume(&world, &pool, &disk.partition(1)).await?.encrypted().await?);
    Ok(())
}
