//! Overwriting the content of an open volume in place: what of it, and what that is worth. For every
//! type of pool in the same way.

use super::{ActivePool, OpContext, VolumeIo, WipeOptions};
use crate::host::wipe::{self, Guarantee, Ranges, Scheme};
use crate::model::{ErrorKind, Result, VolumeKind, VolumeName, WipeAlgorithm};

/// A wipe that can be done.
pub(super) struct Wipe {
    options: WipeOptions,
    scheme: Scheme,
    ranges: Ranges,
    guarantee: Guarantee,
    /// Bytes that it allocates.
    pub(super) allocates: u64,
}

impl Wipe {
    /// What is overwritten, and what that is worth; refuses what the storage cannot.
    pub(super) fn plan(
        pool: &ActivePool,
        name: &VolumeName,
        io: &VolumeIo,
        options: WipeOptions,
    ) -> Result<Self> {
        let algorithm = options.algorithm;
        let failed = |error| pool.volume_failed(name, "cannot tell what is allocated", &error);
        let device = io.kind == VolumeKind::Block;
        let served = io.kind == VolumeKind::Network;
        let mut ranges = match device {
            true => Ranges::whole(io.size),
            false => wipe::ranges(io.file(), io.size).map_err(failed)?,
        };
        let guarantee = match (algorithm, ranges.elsewhere) {
            _ if served => Guarantee::Logical("its server may keep what was there elsewhere"),
            (WipeAlgorithm::Trim, _) => {
                if !wipe::can_trim(io.file(), device).map_err(failed)? {
                    let what = "its storage cannot give up content (trim); use zero";
                    return Err(pool.volume_error(ErrorKind::NotSupported, name, what));
                }
                Guarantee::Logical("trimmed blocks keep what they hold until they are used again")
            }
            (_, Some(why)) => Guarantee::Logical(why),
            (_, None) => wipe::guarantee(io.file()).map_err(failed)?,
        };
        if let Guarantee::Logical(why) = guarantee
            && wipe::is_pattern(algorithm)
            && !options.force
        {
            let what = format!(
                "{why}: the passes of {} would not reach what was there; use zero or trim, or say force",
                algorithm.as_str()
            );
            return Err(pool.volume_error(ErrorKind::NotSupported, name, what));
        }
        let mut allocates = 0;
        if options.allocate && algorithm != WipeAlgorithm::Trim {
            allocates = io.size.saturating_sub(ranges.bytes());
            ranges = Ranges::whole(io.size);
        }
        Ok(Self { options, scheme: wipe::scheme(algorithm), ranges, guarantee, allocates })
    }

    /// Says how much there is to do; after this the volume's content is lost.
    pub(super) fn announce(&self, io: &VolumeIo, ctx: &OpContext) -> Result<()> {
        match self.options.algorithm {
            WipeAlgorithm::Trim => ctx.progress.set_total(io.size),
            _ => ctx.progress.set_total(self.ranges.bytes().saturating_mul(self.scheme.rounds())),
        }
        ctx.limits.check()
    }

    /// Does it; the result is on the storage.
    pub(super) fn run(&self, io: &VolumeIo, ctx: &OpContext) -> Result<()> {
        let mut done = |bytes| ctx.progress.add(bytes);
        match self.options.algorithm {
            WipeAlgorithm::Trim if io.kind == VolumeKind::Network => {
                wipe::zero(io.file(), io.size, &ctx.limits, &mut done)
            }
            WipeAlgorithm::Trim => {
                let device = io.kind == VolumeKind::Block;
                wipe::trim(io.file(), device, io.size, &ctx.limits, &mut done)
            }
            _ => {
                let ranges = &self.ranges.ranges;
                wipe::overwrite(io.file(), ranges, &self.scheme, &ctx.limits, &mut done)
            }
        }
    }

    /// Says what was done.
    pub(super) fn report(&self, ctx: &OpContext) {
        ctx.findings.say("algorithm", self.options.algorithm.as_str());
        ctx.findings.say("passes", self.scheme.passes.len() as u64);
        ctx.findings.say("bytes", self.ranges.bytes());
        ctx.findings.say("guarantee", self.guarantee.as_str());
    }
}
