//! Pools of devices that others make: SCSI adapters, multipath devices, iSCSI targets. Their volumes
//! can be read, written and wiped, and neither made nor deleted here.

use super::block_volumes::{BlockVolumes, Found};
use super::{
    Activation, ActivePool, Backend, BackendInfo, Listing, OpContext, Operation, StopOptions,
    VolumeAccess, VolumeIo, WipeOptions, unsupported,
};
use crate::host::DeviceEvent;
use crate::model::{Error, ErrorKind, PoolDef, Result, Source, Usage, Volume, VolumeName};

/// What such pools can do.
pub(super) const OPERATIONS: &[Operation] = &[
    Operation::Start,
    Operation::Stop,
    Operation::Refresh,
    Operation::WipeVolume,
    Operation::OpenVolume,
];

/// What those can do whose sources can be looked for.
pub(super) const OPERATIONS_WITH_SEARCH: &[Operation] = &[
    Operation::Start,
    Operation::Stop,
    Operation::Refresh,
    Operation::FindSources,
    Operation::WipeVolume,
    Operation::OpenVolume,
];

/// Where devices come from that are volumes.
pub(super) trait LunSource: Send + Sync {
    /// What the type says of itself.
    fn info(&self) -> &'static BackendInfo;

    /// Refuses a definition that could never start. No I/O.
    fn check_definition(&self, _pool: &PoolDef) -> Result<()> {
        Ok(())
    }

    /// Whether what happened to a device may concern a pool. No I/O.
    fn concerned(&self, pool: &PoolDef, event: &DeviceEvent) -> bool;

    /// What pools could be made from.
    fn find_sources(&self, _spec: &Source, _ctx: &OpContext) -> Result<Vec<Source>> {
        Err(unsupported(self.info(), Operation::FindSources))
    }

    /// Makes the devices available.
    fn start(&self, pool: &PoolDef, ctx: &OpContext) -> Result<Activation>;

    /// Undoes that.
    fn stop(&self, _pool: &ActivePool, _options: StopOptions, _ctx: &OpContext) -> Result<()> {
        Ok(())
    }

    /// The devices that are there, after a search where somebody asked for one; how many were
    /// skipped because they could not be read.
    fn luns(&self, pool: &ActivePool, ctx: &OpContext) -> Result<(Vec<Found>, u32)>;

    /// What is wrong although it serves.
    fn condition(&self, _pool: &ActivePool) -> Result<()> {
        Ok(())
    }

    /// Tries to get back what is missing.
    fn complete(&self, _pool: &ActivePool, _ctx: &OpContext) -> Result<()> {
        Ok(())
    }
}

/// A type of pool of such devices.
pub(super) struct Luns<T>(pub(super) T);

impl<T: LunSource> Luns<T> {
    /// The devices as the kernel knows them now.
    fn known(&self, pool: &ActivePool, ctx: &OpContext) -> Result<Vec<Found>> {
        let looking = OpContext { asked: false, ..ctx.clone() };
        self.0.luns(pool, &looking).map(|(found, _)| found)
    }
}

/// The room of a pool that others fill: all of it is taken.
pub(super) fn usage<'a>(capacities: impl Iterator<Item = &'a u64>) -> Usage {
    let capacity = capacities.fold(0_u64, |sum, each| sum.saturating_add(*each));
    Usage { capacity, allocation: capacity, available: 0 }
}

impl<T: LunSource> Backend for Luns<T> {
    fn info(&self) -> &'static BackendInfo {
        self.0.info()
    }

    fn check_definition(&self, pool: &PoolDef) -> Result<()> {
        self.0.check_definition(pool)
    }

    fn concerned(&self, pool: &PoolDef, event: &DeviceEvent) -> bool {
        self.0.concerned(pool, event)
    }

    fn find_sources(&self, spec: &Source, ctx: &OpContext) -> Result<Vec<Source>> {
        self.0.find_sources(spec, ctx)
    }

    fn start(&self, pool: &PoolDef, ctx: &OpContext) -> Result<Activation> {
        self.check_definition(pool)?;
        self.0.start(pool, ctx)
    }

    fn stop(&self, pool: &ActivePool, options: StopOptions, ctx: &OpContext) -> Result<()> {
        self.0.stop(pool, options, ctx)
    }

    fn refresh(&self, pool: &ActivePool, ctx: &OpContext) -> Result<Listing> {
        let (found, skipped) = self.0.luns(pool, ctx)?;
        let usage = usage(found.iter().map(|lun| &lun.capacity));
        let blocks = BlockVolumes::new(pool, ctx);
        let volumes = found.into_iter().map(|lun| blocks.volume(lun)).collect();
        Ok(Listing { usage, volumes, skipped, ..Listing::default() })
    }

    fn usage(&self, pool: &ActivePool, ctx: &OpContext) -> Result<Usage> {
        Ok(usage(self.known(pool, ctx)?.iter().map(|lun| &lun.capacity)))
    }

    fn condition(&self, pool: &ActivePool, _ctx: &OpContext) -> Result<()> {
        self.0.condition(pool)
    }

    fn complete(&self, pool: &ActivePool, ctx: &OpContext) -> Result<()> {
        self.0.complete(pool, ctx)
    }

    fn refresh_volume(
        &self,
        pool: &ActivePool,
        name: &VolumeName,
        ctx: &OpContext,
    ) -> Result<Option<Volume>> {
        let found = self.known(pool, ctx)?.into_iter().find(|lun| lun.name == *name);
        Ok(found.map(|lun| BlockVolumes::new(pool, ctx).volume(lun)))
    }

    fn open_volume(
        &self,
        pool: &ActivePool,
        volume: &Volume,
        access: VolumeAccess,
        ctx: &OpContext,
    ) -> Result<VolumeIo> {
        BlockVolumes::new(pool, ctx).open(volume, access)
    }

    fn wipe_volume(
        &self,
        pool: &ActivePool,
        volume: &Volume,
        options: WipeOptions,
        ctx: &OpContext,
    ) -> Result<Volume> {
        BlockVolumes::new(pool, ctx).wipe(volume, options)?;
        self.refresh_volume(pool, &volume.name, ctx)?.ok_or_else(|| {
            let what = "its device went while it was wiped";
            pool.volume_error(ErrorKind::Inaccessible, &volume.name, what)
        })
    }
}

/// The error of a list of devices that cannot be had.
pub(super) fn failed(pool: &PoolDef, what: &str, error: &std::io::Error) -> Error {
    Error::io(format_args!("pool {}: {what}", pool.name), error)
}
