//! Opening the content of devices, and wiping it.

use super::super::transfer::Mark;
use super::super::wipe::Wipe;
use super::super::{ResizeOptions, VolumeAccess, VolumeIo, WipeOptions};
use super::BlockVolumes;
use crate::model::{ErrorKind, Result, Volume, VolumeFormat, VolumeKind};

impl BlockVolumes<'_> {
    /// Opens a volume's content. For writing its device is claimed, so that nobody mounts it
    /// meanwhile.
    pub(in crate::backend) fn open(
        &self,
        volume: &Volume,
        access: VolumeAccess,
    ) -> Result<VolumeIo> {
        let name = &volume.name;
        let device = self.device(volume)?;
        let (write, claim) = match access {
            VolumeAccess::Read | VolumeAccess::ReadUnchanged => (false, false),
            VolumeAccess::Write { force } => (true, !force),
        };
        if write && device.read_only() {
            let what = "its device can only be read";
            return Err(self.pool.volume_error(ErrorKind::NotSupported, name, what));
        }
        if claim {
            self.check_no_overlay(volume)?;
        }
        if (claim || access == VolumeAccess::ReadUnchanged)
            && let Some(user) = device.lasting_user(&self.ctx.limits)?
        {
            return Err(self.busy(volume, &user));
        }
        match device.open(write, claim) {
            Ok(file) => Ok(VolumeIo::free(file, VolumeKind::Block, volume.physical)),
            Err(error) if error.raw_os_error() == Some(libc::EBUSY) => {
                Err(self.busy(volume, "the kernel or another program"))
            }
            Err(error) => Err(self.pool.volume_failed(name, "cannot open its device", &error)),
        }
    }

    /// Refuses a resize that cuts off what nobody said is meant, or what is in use; one that is open
    /// may grow. The volume is as it is now, which may be larger than the caller knows.
    pub(in crate::backend) fn check_resize(
        &self,
        volume: &Volume,
        capacity: u64,
        options: ResizeOptions,
    ) -> Result<()> {
        if capacity >= volume.capacity {
            return Ok(());
        }
        if !options.shrink {
            let what = "it is larger than that; say shrink to cut off its end";
            return Err(self.pool.volume_error(ErrorKind::InvalidArgument, &volume.name, what));
        }
        match options.force {
            true => Ok(()),
            false => self.check_unused(volume),
        }
    }

    /// Overwrites a volume's content. What was encrypted is raw afterwards.
    pub(in crate::backend) fn wipe(&self, volume: &Volume, options: WipeOptions) -> Result<()> {
        let io = self.open(volume, VolumeAccess::Write { force: options.force })?;
        self.wipe_open(volume, &io, options)
    }

    /// The same, of a volume that its backend has opened.
    pub(in crate::backend) fn wipe_open(
        &self,
        volume: &Volume,
        io: &VolumeIo,
        options: WipeOptions,
    ) -> Result<()> {
        let (pool, ctx) = (self.pool, self.ctx);
        let wipe = Wipe::plan(pool, &volume.name, io, options)?;
        wipe.announce(io, ctx)?;
        let mark = Mark::incomplete(pool, volume, io, ctx)?;
        wipe.run(io, ctx).map_err(|error| pool.of_volume(&volume.name, error))?;
        mark.lift_as(pool, volume, ctx, |declared| {
            declared.format = VolumeFormat::Raw;
            declared.encryption = None;
        })?;
        wipe.report(ctx);
        Ok(())
    }
}
