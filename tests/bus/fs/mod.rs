//! Pools of type fs on loop devices: what the kernel here can mount, from libvirt's document to its end, and what
//! must be refused on the way.

mod devices;

use crate::poolctl::{done, fails, noise, poolctl, run, status_of};
use crate::support::runner::{Skip, fail, pass, skip};
use crate::support::world::{World, eventually, none, volume_names, with};
use anyhow::{Context, Result, bail, ensure};
pub use devices::*;
use nix::sys::signal::Signal;
use poold::client::PoolProxy;
use poold::model::ErrorKind;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;

const MIB: u64 = 1 << 20;

/// A loop device over a sparse file.
struct Disk {
    device: String,
    file: PathBuf,
}

impl Disk {
    fn new(world: &World, name: &str, mebibytes: u64) -> Result<Disk> {
        let file = world.whole().join(format!("{name}.disk"));
        std::fs::File::create(&file)?.set_len(mebibytes * MIB)?;
        Self::attach(file, &[])
    }

    fn attach(file: PathBuf, options: &[&str]) -> Result<Disk> {
        let output =
            Command::new("losetup").args(["--find", "--show"]).args(options).arg(&file).output();
        match output {
            Ok(output) if output.status.success() => {
                Ok(Disk { device: String::from_utf8(output.stdout)?.trim().to_owned(), file })
            }
            _ => Err(Skip("no loop devices here".into()).into()),
        }
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("losetup").arg("--detach").arg(&self.device).status();
    }
}

/// libvirt's document of an fs pool.
fn document(world: &World, name: &str, device: &str, format: &str) -> String {
    let target = world.pools().join(name);
    format!(
        "<pool type='fs'><name>{name}</name><source><device path='{device}'/><format type='{format}'/></source>\
         <target><path>{}</path></target></pool>",
        target.display()
    )
}

/// Defines a pool, with these options of DefinePoolXml.
async fn define(
    world: &World,
    name: &str,
    device: &str,
    format: &str,
    options: &poold::client::Options<'_>,
) -> Result<PoolProxy<'static>> {
    let xml = document(world, name, device, format);
    let (path, _) = world.manager().await?.define_pool_xml(&xml, options).await?;
    world.pool(&path).await
}

/// Builds and starts a pool of ext4 on a disk of its own.
async fn started(world: &World, name: &str) -> Result<(Disk, PoolProxy<'static>)> {
    let disk = Disk::new(world, name, 64)?;
    let pool = define(world, name, &disk.device, "ext4", &none()).await?;
    pool.build(&none()).await?;
    pool.start(&none()).await?;
    Ok((disk, pool))
}

/// Type and options of the mount at a pool's target, where the daemon sees it.
fn mounted(world: &World, name: &str) -> Result<Option<(String, String)>> {
    let at = world.pools().join(name);
    let output =
        world.inside("findmnt").args(["-n", "-o", "FSTYPE,OPTIONS", "-M"]).arg(at).output()?;
    let said = String::from_utf8(output.stdout)?;
    Ok(said.trim().split_once(' ').map(|(kind, options)| (kind.into(), options.trim().into())))
}

/// The pool of that name, of the daemon that runs now.
async fn again(world: &World, name: &str) -> Result<PoolProxy<'static>> {
    let path = world.manager().await?.lookup_pool(name, &none()).await?;
    world.pool(&path).await
}

fn inside(world: &World, program: &str, args: &[&str]) -> Result<()> {
    let output = world.inside(program).args(args).output()?;
    let why = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{program} {args:?}: {why}");
    Ok(())
}

fn refused<T: std::fmt::Debug>(
    outcome: poold::model::Result<T>,
    kind: ErrorKind,
    why: &str,
) -> Result<()> {
    match outcome {
        Err(error) if error.kind() == kind && error.message().contains(why) => Ok(()),
        other => bail!("not {kind:?} with {why:?} but {other:?}"),
    }
}

pub async fn what_is_mounted_here_serves_from_definition_to_end() -> Result<()> {
    for (format, kernel, mebibytes) in
        [("ext2", "ext2", 128), ("ext3", "ext3", 128), ("ext4", "ext4", 128), ("xfs", "xfs", 512)]
    {
        tell(&format!("life/{format}"), whole_life(format, kernel, mebibytes).await);
    }
    Ok(())
}

async fn whole_life(format: &str, kernel: &str, mebibytes: u64) -> Result<()> {
    let world = World::start().await?;
    let disk = Disk::new(&world, "disk", mebibytes)?;
    let xml = world.whole().join("pool.xml");
    std::fs::write(&xml, document(&world, "data", &disk.device, format))?;
    done(&world, &format!("define {}", xml.display())).await?;
    let not_built = status_of(ErrorKind::NotBuilt);
    fails(&world, "start data", not_built, "build the pool first").await?;
    done(&world, "build data").await?;
    ensure!(mounted(&world, "data")?.is_none(), "a build mounts nothing");
    done(&world, "start data").await?;
    let (found, options) = mounted(&world, "data")?.context("it is not mounted")?;
    ensure!(found == kernel, "mounted as {found}");
    for option in ["nodev", "nosuid", "noexec"] {
        ensure!(options.split(',').any(|has| has == option), "no {option} in {options}");
    }
    ensure!(volume_names(&again(&world, "data").await?).await?.is_empty(), "it was not empty");
    done(&world, "vol create data/a.raw 4M").await?;
    done(&world, "vol create data/b.qcow2 64M --format qcow2").await?;
    done(&world, "vol resize data/a.raw 5M").await?;
    let file = world.whole().join("noise");
    let content = noise(&file, 5)?;
    done(&world, &format!("vol upload data/a.raw {}", file.display())).await?;
    done(&world, "vol clone data/a.raw c.raw").await?;
    let output = run(poolctl(&world, "vol download data/c.raw -")).await?;
    ensure!(output.stdout == content, "the clone has other content");
    done(&world, "vol wipe data/c.raw").await?;
    // It is what was mounted that holds the volumes.
    done(&world, "stop data").await?;
    ensure!(mounted(&world, "data")?.is_none(), "a stop unmounts");
    done(&world, "start data").await?;
    let output = run(poolctl(&world, "vol download data/a.raw -")).await?;
    ensure!(output.stdout == content, "it came back with other content");
    for volume in ["a.raw", "b.qcow2", "c.raw"] {
        done(&world, &format!("vol delete data/{volume}")).await?;
    }
    let active = status_of(ErrorKind::Active);
    fails(&world, "delete data", active, "stop it first").await?;
    done(&world, "stop data").await?;
    let told = done(&world, "delete data").await?;
    ensure!(told.contains(&format!("kept the file system on {}", disk.device)), "{told}");
    ensure!(!world.pools().join("data").exists(), "the target is still there");
    // Its file system is, too.
    fails(&world, "build data", status_of(ErrorKind::AlreadyBuilt), "file system").await?;
    done(&world, "build data --overwrite").await?;
    done(&world, "undefine data").await.map(drop)
}

/// What is put on a device, and the word by which a refusal names it.
const DATA: &[(&str, &str, &str)] = &[
    ("ext4", "mkfs.ext4 -q -L 'my data' DEV", "an ext4 file system labelled \"my data\""),
    ("xfs", "mkfs.xfs -q DEV", "an xfs file system"),
    ("btrfs", "mkfs.btrfs -q DEV", "a btrfs file system"),
    ("vfat", "mkfs.vfat -I DEV", "a vfat file system"),
    ("swap", "mkswap DEV", "swap space"),
    (
        "luks1",
        "printf x | cryptsetup luksFormat -q --type luks1 --pbkdf-force-iterations 1000 DEV -",
        "a LUKS1 container",
    ),
    (
        "luks2",
        "printf x | cryptsetup luksFormat -q --type luks2 --pbkdf pbkdf2 --pbkdf-force-iterations 1000 DEV -",
        "a LUKS2 container",
    ),
    ("lvm", "pvcreate -qq -y --devices DEV DEV", "an LVM physical volume"),
    ("dos", "parted -s DEV mklabel msdos", "a dos partition table"),
    ("gpt", "parted -s DEV mklabel gpt", "a gpt partition table"),
    (
        "gpt-second-only",
        "parted -s DEV mklabel gpt; dd if=/dev/zero of=DEV bs=1M count=1 conv=fsync",
        "gpt partition table, at its end",
    ),
    ("bsd", "parted -s DEV mklabel bsd", "a bsd partition table"),
    ("sun", "parted -s DEV mklabel sun", "a sun partition table"),
    ("mac", "parted -s DEV mklabel mac", "a mac partition table"),
    (
        "two",
        "mkfs.ext4 -q -b 4096 DEV; printf SWAPSPACE2 | dd of=DEV bs=1 seek=4086 conv=notrunc,fsync; \
         printf '\\001\\000\\000\\000' | dd of=DEV bs=1 seek=1024 conv=notrunc,fsync",
        "marks of swap",
    ),
];

pub async fn data_of_every_kind_is_not_overwritten() -> Result<()> {
    let world = World::start().await?;
    for (what, make, named) in DATA {
        let step = format!("data/{what}");
        let outcome = async {
            // XFS needs room.
            let disk = Disk::new(&world, what, if *what == "xfs" { 512 } else { 128 })?;
            let make = format!("set -e; {}", make.replace("DEV", &disk.device));
            let output = Command::new("sh").args(["-c", &make]).output()?;
            if output.status.code() == Some(127) {
                return Err(Skip("its program is not installed".into()).into());
            }
            ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            check_refusal(&world, what, &disk, named).await
        }
        .await;
        tell(&step, outcome);
    }
    let outcome = async {
        let disk = Disk::new(&world, "md", 512)?;
        write_md_superblock(&disk.file, 512 * MIB)?;
        check_refusal(&world, "md", &disk, "a member of a Linux software RAID").await
    };
    tell("data/md-at-the-end", outcome.await);
    Ok(())
}

fn tell(step: &str, outcome: Result<()>) {
    match outcome {
        Ok(()) => pass("fs", step),
        Err(error) => match error.downcast_ref::<Skip>() {
            Some(why) => skip("fs", step, why),
            None => fail("fs", step, format_args!("{error:#}")),
        },
    }
}

async fn check_refusal(world: &World, what: &str, disk: &Disk, named: &str) -> Result<()> {
    let before = ends(disk)?;
    let pool = define(world, what, &disk.device, "ext4", &none()).await?;
    refused(pool.build(&none()).await, ErrorKind::AlreadyBuilt, named)?;
    ensure!(ends(disk)? == before, "it was changed all the same");
    ensure!(!world.pools().join(what).exists(), "the target of a refused build is left");
    pool.build(&with("overwrite", true)).await?;
    pool.start(&none()).await?;
    pool.stop(&none()).await?;
    pool.undefine(&none()).await?;
    Ok(())
}

/// Both ends of a disk, where all that could be made there begins or ends.
fn ends(disk: &Disk) -> Result<Vec<u8>> {
    let file = std::fs::File::open(&disk.file)?;
    let mut bytes = vec![0; 16 << 20];
    let (head, tail) = bytes.split_at_mut(8 << 20);
    file.read_exact_at(head, 0)?;
    file.read_exact_at(tail, file.metadata()?.len() - (8 << 20))?;
    Ok(bytes)
}

/// The superblock of md version 1.0, which is at the end of its device.
fn write_md_superblock(file: &Path, size: u64) -> Result<()> {
    let sector = (size / 512 - 16) & !7;
    let mut block = [0; 256];
    block[..4].copy_from_slice(&0xa92b_4efc_u32.to_le_bytes());
    block[4..8].copy_from_slice(&1_u32.to_le_bytes());
    block[16..32].fill(7);
    block[144..152].copy_from_slice(&sector.to_le_bytes());
    let mut sum = 0;
    for word in block.chunks_exact(4) {
        sum += u64::from(u32::from_le_bytes(word.try_into()?));
    }
    let sum = u32::try_from((sum & 0xffff_ffff) + (sum >> 32))?;
    block[216..220].copy_from_slice(&sum.to_le_bytes());
    let file = std::fs::File::options().write(true).open(file)?;
    file.write_all_at(&block, sector * 512)?;
    Ok(file.sync_all()?)
}

pub async fn a_device_in_use_is_never_built_on() -> Result<()> {
    let world = World::start().await?;
    let (disk, first) = started(&world, "first").await?;
    let same = define(&world, "same", &disk.device, "ext4", &none()).await;
    ensure!(same.is_err(), "two pools have one device");
    // By another name of it, which no comparison of paths sees.
    let link = world.whole().join("link");
    std::os::unix::fs::symlink(&disk.device, &link)?;
    let other = define(&world, "other", link.to_str().context("UTF-8")?, "ext4", &none()).await?;
    for overwrite in [false, true] {
        let outcome = other.build(&with("overwrite", overwrite)).await;
        refused(outcome, ErrorKind::Busy, "the mount at")?;
    }
    first.stop(&none()).await?;
    let held = std::fs::File::open(&disk.device)?;
    let outcome = other.build(&with("overwrite", true)).await;
    refused(outcome, ErrorKind::Busy, "process")?;
    drop(held);
    other.build(&with("overwrite", true)).await?;
    Ok(())
}

pub async fn what_cannot_be_says_why() -> Result<()> {
    let world = World::start().await?;
    let disk = Disk::new(&world, "disk", 64)?;
    for (format, kind, why) in [
        ("auto", ErrorKind::NotSupported, "auto does not say"),
        ("ufs", ErrorKind::NotSupported, "newfs"),
        ("iso9660", ErrorKind::NotSupported, "read-only"),
        ("gfs", ErrorKind::NotSupported, "gfs2"),
        ("vmfs", ErrorKind::NotSupported, "ESXi"),
    ] {
        let pool = define(&world, format, &disk.device, format, &none()).await?;
        refused(pool.build(&none()).await, kind, why)?;
        pool.undefine(&none()).await?;
    }
    let pool = define(&world, "file", "/etc/hostname", "ext4", &none()).await?;
    refused(pool.build(&none()).await, ErrorKind::InvalidArgument, "no block device")?;
    refused(pool.start(&none()).await, ErrorKind::InvalidArgument, "no block device")?;
    for option in ["suid", "dev", "user", "remount", "x=\""] {
        let xml = document(&world, "bad", "/dev/sdz", "ext4").replace(
            "</pool>",
            &format!(
                "<fs:mount_opts xmlns:fs='http://libvirt.org/schemas/storagepool/fs/1.0'>\
                 <fs:option name='{}'/></fs:mount_opts></pool>",
                option.replace('"', "&quot;")
            ),
        );
        let outcome = world.manager().await?.define_pool_xml(&xml, &none()).await;
        refused(outcome, ErrorKind::InvalidArgument, "mount option")?;
    }
    // What has another file system is not mounted as what it is not.
    let pool = define(&world, "wrong", &disk.device, "ext4", &none()).await?;
    pool.build(&none()).await?;
    pool.undefine(&none()).await?;
    let pool = define(&world, "wrong", &disk.device, "xfs", &none()).await?;
    refused(pool.start(&none()).await, ErrorKind::NotBuilt, "an ext4 file system")?;
    Ok(())
}

pub async fn only_its_own_device_is_adopted_and_left() -> Result<()> {
    let world = World::start().await?;
    let (disk, pool) = started(&world, "mine").await?;
    let at = world.pools().join("mine");
    let at = at.to_str().context("UTF-8")?;
    pool.stop(&none()).await?;
    inside(&world, "mount", &["-t", "tmpfs", "none", at])?;
    refused(pool.start(&none()).await, ErrorKind::Conflict, "tmpfs")?;
    inside(&world, "umount", &[at])?;
    // By another path of the device, as an administrator might.
    let link = world.whole().join("by-other-name");
    std::os::unix::fs::symlink(&disk.device, &link)?;
    inside(&world, "mount", &[link.to_str().context("UTF-8")?, at])?;
    pool.start(&none()).await?;
    pool.create_volume("disk", MIB, &none()).await?;
    pool.stop(&none()).await?;
    ensure!(mounted(&world, "mine")?.is_some(), "a stop took away what it had found");
    pool.start(&none()).await?;
    world.end(Signal::SIGKILL).await?;
    let pool = again(&world, "mine").await?;
    pool.stop(&with("release", true)).await?;
    ensure!(mounted(&world, "mine")?.is_none(), "a stop with release did not unmount");
    // A part of the file system is not it.
    inside(&world, "mount", &[&disk.device, "/mnt"])?;
    inside(&world, "mkdir", &["/mnt/part"])?;
    inside(&world, "mount", &["--bind", "/mnt/part", at])?;
    refused(pool.start(&none()).await, ErrorKind::Conflict, "is mounted at its target")?;
    inside(&world, "umount", &[at])?;
    inside(&world, "umount", &["/mnt"])?;
    Ok(())
}

pub async fn who_uses_it_keeps_it_unless_forced() -> Result<()> {
    let world = World::start().await?;
    let (_disk, pool) = started(&world, "used").await?;
    let at = world.pools().join("used");
    let mut user = world
        .inside("sh")
        .args(["-c", "cd \"$0\"; echo in >ready; exec sleep 1000"])
        .arg(&at)
        .spawn()?;
    eventually("somebody is in it", async || {
        Ok(world.inside("test").arg("-s").arg(at.join("ready")).status()?.success())
    })
    .await?;
    refused(pool.stop(&none()).await, ErrorKind::Busy, "sleep, process")?;
    ensure!(pool.state().await? == "active", "it is {}", pool.state().await?);
    pool.create_volume("still", MIB, &none()).await?;
    pool.stop(&with("force", true)).await?;
    ensure!(pool.state().await? == "inactive" && mounted(&world, "used")?.is_none());
    user.kill()?;
    user.wait()?;
    Ok(())
}

pub async fn an_unmount_behind_our_back_is_seen() -> Result<()> {
    let world = World::start().await?;
    let (disk, pool) = started(&world, "gone").await?;
    pool.create_volume("disk", MIB, &none()).await?;
    let at = world.pools().join("gone");
    let at = at.to_str().context("UTF-8")?;
    inside(&world, "umount", &[at])?;
    eventually("the pool is inaccessible", async || Ok(pool.state().await? == "inaccessible"))
        .await?;
    refused(pool.create_volume("lost", MIB, &none()).await, ErrorKind::Inaccessible, "gone")?;
    inside(&world, "mount", &[&disk.device, at])?;
    eventually("the pool is back", async || Ok(pool.state().await? == "active")).await?;
    ensure!(volume_names(&pool).await? == ["disk"]);
    inside(&world, "umount", &[at])?;
    pool.stop(&none()).await?;
    ensure!(pool.state().await? == "inactive");
    Ok(())
}

pub async fn what_a_mount_hides_is_told() -> Result<()> {
    let world = World::start().await?;
    let (_disk, pool) = started(&world, "over").await?;
    pool.stop(&none()).await?;
    std::fs::write(world.pools().join("over/file"), "x")?;
    let output = run(poolctl(&world, "start over")).await?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success() && said.contains("was not empty"), "{said}");
    Ok(())
}
