//! Changing and deleting logical volumes.

use super::create::size;
use super::report::LogicalVolume;
use super::volumes::{Volumes, check_has_content, provisioning};
use crate::backend::{ActivePool, ResizeOptions, WipeOptions};
use crate::model::{ErrorKind, Provisioning, Result, Volume, WipeAlgorithm};

impl Volumes<'_> {
    /// Deletes a volume; one that is gone is success.
    pub(super) fn delete(&self, volume: &Volume, force: bool) -> Result<()> {
        let Ok(found) = self.current(volume) else {
            return self.blocks().forget(&volume.name);
        };
        if let Some(other) = self.opened.group.volumes.iter().find(|v| depends(v, found)) {
            let what = match found.provisioning {
                Provisioning::ThinPool => {
                    format!("volume {} is in it; delete that first", other.name)
                }
                _ => format!("volume {} is a snapshot of it; delete that first", other.name),
            };
            return Err(self.pool.volume_error(ErrorKind::Busy, &volume.name, what));
        }
        if !force {
            self.blocks().check_unused(volume)?;
        }
        let name = self.opened.named(&found.name);
        let removed = self.opened.lvm().run("lvremove", &["--yes", "--force", &name]);
        removed.map_err(|error| self.pool.of_volume(&volume.name, error))?;
        self.blocks().forget(&volume.name)
    }

    /// Changes a volume's capacity. It may be in use while it grows.
    pub(super) fn resize(
        &self,
        volume: &Volume,
        capacity: u64,
        options: ResizeOptions,
    ) -> Result<()> {
        let refuse = |kind, what: &str| Err(self.pool.volume_error(kind, &volume.name, what));
        let found = self.current(volume)?;
        match found.provisioning {
            Provisioning::Snapshot | Provisioning::Sparse => {
                let what = "the capacity of a snapshot or sparse volume cannot change; clone it";
                return refuse(ErrorKind::NotSupported, what);
            }
            Provisioning::Thin if options.allocate => {
                let what = "the blocks of a thin volume are allocated when they are written";
                return refuse(ErrorKind::NotSupported, what);
            }
            _ => {}
        }
        let snapshot =
            self.opened.group.volumes.iter().find(|other| {
                found.provisioning != Provisioning::ThinPool && depends(other, found)
            });
        if let Some(snapshot) = snapshot {
            let what = format!(
                "LVM does not resize a volume of which {} is a snapshot; delete that first",
                snapshot.name
            );
            return refuse(ErrorKind::Busy, &what);
        }
        let Some(now) = self.volume(found) else {
            return refuse(ErrorKind::NotFound, "it is gone; refresh the pool");
        };
        // What a guest sees, and the header before it.
        let header = now.physical.saturating_sub(now.capacity);
        let Some(bytes) = capacity.checked_add(header).filter(|_| capacity > 0) else {
            return refuse(ErrorKind::InvalidArgument, "it cannot have this capacity");
        };
        if bytes == found.size {
            return Ok(());
        }
        let shrinks = bytes < found.size;
        if shrinks && found.provisioning == Provisioning::ThinPool {
            return refuse(ErrorKind::NotSupported, "a thin pool cannot become smaller");
        }
        self.blocks().check_resize(&now, capacity, options)?;
        let (bytes, name) = (size(bytes), self.opened.named(&found.name));
        let mut args = vec!["--yes", "--size", &bytes, &name];
        let program = if shrinks { "lvreduce" } else { "lvextend" };
        if shrinks {
            args.insert(0, "--force");
        }
        let resized = self.opened.lvm().run(program, &args).map(drop);
        resized.map_err(|error| self.pool.of_volume(&volume.name, error))
    }

    /// Overwrites a volume's content.
    pub(super) fn wipe(&self, volume: &Volume, options: WipeOptions) -> Result<()> {
        self.check_wipe(volume, options)?;
        self.activate(volume)?;
        self.blocks().wipe(volume, options)
    }

    fn check_wipe(&self, volume: &Volume, options: WipeOptions) -> Result<()> {
        check_wipeable(self.pool, volume)?;
        let found = self.current(volume)?;
        let pool = found.thin_pool.as_deref().and_then(|name| self.opened.group.volume(name));
        let Some(pool) = pool.filter(|_| options.algorithm != WipeAlgorithm::Trim) else {
            return Ok(());
        };
        // All of it is written, which takes blocks that it has not yet.
        let free = pool.size - part(pool.size, pool.data_used.unwrap_or(0));
        let needed = found.size.saturating_sub(found.allocation);
        if needed > free {
            let what = format!(
                "overwriting it takes {needed} bytes more of thin pool {}, which has {free}; wipe it with trim",
                pool.name
            );
            return Err(self.pool.volume_error(ErrorKind::NoSpace, &volume.name, what));
        }
        Ok(())
    }
}

/// Refuses what overwriting would not wipe: what was there stays in the origin, and the store may be
/// smaller than the volume.
fn check_wipeable(pool: &ActivePool, volume: &Volume) -> Result<()> {
    check_has_content(pool, volume)?;
    match provisioning(volume) {
        Provisioning::Snapshot | Provisioning::Sparse => {
            let what = "a snapshot or sparse volume cannot be wiped, its store may be too small; delete it";
            Err(pool.volume_error(ErrorKind::NotSupported, &volume.name, what))
        }
        _ => Ok(()),
    }
}

/// Whether a volume cannot be without another.
fn depends(one: &LogicalVolume, on: &LogicalVolume) -> bool {
    let on_store = one.thin_pool.as_deref() == Some(&on.name);
    let on_origin = one.provisioning == Provisioning::Snapshot;
    on_store || on_origin && one.origin.as_deref() == Some(&on.name)
}

/// Hundredths of a percent of something.
fn part(of: u64, hundredths: u32) -> u64 {
    u64::try_from(u128::from(of) * u128::from(hundredths) / 10_000).map_or(of, |part| part.min(of))
}
