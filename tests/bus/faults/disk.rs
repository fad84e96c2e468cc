//! A small file system of its own for a pool, which can break.

use super::super::support::runner::Skip;
use super::super::support::world::World;
use anyhow::{Result, ensure};
use std::path::PathBuf;

/// A file system in a loop device, whose file is in a tmpfs of its own. Unmounted when dropped.
pub struct Disk<'a> {
    world: &'a World,
    directory: PathBuf,
}

impl<'a> Disk<'a> {
    /// Mounts one where the pool of that name will be.
    pub fn mount(world: &'a World, name: &str, mebibytes: u64) -> Result<Self> {
        let disk = Self::make(world, name, mebibytes, "mkfs.ext4 -q -m 0 -N 64")?;
        disk.run("rmdir \"$0/lost+found\"")?;
        Ok(disk)
    }

    /// Mounts one whose files can share blocks, which has to be larger.
    pub fn mount_sharing(world: &'a World, name: &str) -> Result<Self> {
        Self::make(world, name, 320, "mkfs.xfs -q")
    }

    fn make(world: &'a World, name: &str, mebibytes: u64, maker: &str) -> Result<Self> {
        let disk = Self { world, directory: world.pools().join(name) };
        let make = format!(
            "mkdir -p \"$0\" \"$0.disk\"; mount -t tmpfs -o size=400m tmpfs \"$0.disk\"; \
             truncate -s {mebibytes}M \"$0.disk/image\"; {maker} \"$0.disk/image\"; \
             mount -o loop \"$0.disk/image\" \"$0\""
        );
        match disk.run(&make) {
            Ok(()) => Ok(disk),
            Err(error) => Err(Skip(format!("no loop mount here: {error}")).into()),
        }
    }

    /// Runs a script where the daemon's mounts are; `$0` is the directory.
    pub fn run(&self, script: &str) -> Result<()> {
        let output = self.world.inside("sh").args(["-ec", script]).arg(&self.directory).output()?;
        let complaint = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{script}: {complaint}");
        Ok(())
    }

    /// From now on whatever is written where nothing was fails: the tmpfs has no page left for the disk.
    pub fn break_down(&self) -> Result<()> {
        self.run(
            "sync -f \"$0\"; mount -o remount,size=$(du -k \"$0.disk/image\" | cut -f1)k \"$0.disk\"",
        )
    }

    /// What is on the disk after all, as after a repair.
    pub fn repair(&self) -> Result<()> {
        self.run(
            "umount \"$0\"; mount -o remount,size=400m \"$0.disk\"; mount -o loop \"$0.disk/image\" \"$0\"",
        )
    }
}

impl Drop for Disk<'_> {
    fn drop(&mut self) {
        let _ = self.run("umount -l \"$0\"; umount -l \"$0.disk\"");
    }
}
