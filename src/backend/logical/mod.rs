//! Pools of type logical: an LVM volume group.
//!
//! LVM's commands do the work, each told the group's devices and no others (`lvm`); what there is, is
//! read from their JSON reports (`report`). What the group's devices are is found once and kept until
//! a report says that it is not so any more (`find`).

mod change;
mod create;
mod find;
mod lvm;
mod pool;
mod report;
#[cfg(test)]
mod tests;
mod undo;
mod volumes;

use super::block_volumes::BlockVolumes;
use super::{
    Activation, ActivePool, Backend, BackendInfo, BuildMode, CloneSource, DeleteOptions, Listing,
    OpContext, Operation, Preallocation, ResizeOptions, StopOptions, VolumeAccess, VolumeIo, Watch,
    WipeOptions, is_source,
};
use crate::host::{BlockDevice, DeviceEvent};
use crate::model::{
    ErrorKind, PoolDef, PoolType, Result, Source, SourceDevice, Usage, Uuid, Volume, VolumeDef,
    VolumeName,
};
use pool::Opened;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
pub(super) use undo::{deactivate, remove_group, remove_physical, remove_volume};
use volumes::Volumes;

/// The backend of logical pools.
#[derive(Debug, Default)]
pub(super) struct Logical {
    /// The devices that the group of each pool was found on.
    devices: Mutex<BTreeMap<Uuid, Vec<String>>>,
}

static INFO: BackendInfo = BackendInfo {
    pool_type: PoolType::Logical,
    tools: &["lvm"],
    operations: &[
        Operation::Build,
        Operation::Start,
        Operation::Stop,
        Operation::Delete,
        Operation::Refresh,
        Operation::FindSources,
        Operation::CreateVolume,
        Operation::DeleteVolume,
        Operation::ResizeVolume,
        Operation::CloneVolume,
        Operation::WipeVolume,
        Operation::OpenVolume,
    ],
    watch: Watch::Devices,
};

impl Logical {
    /// The volume group of a pool; none when there is none.
    fn open<'a>(&self, pool: &'a PoolDef, ctx: &'a OpContext) -> Result<Option<Opened<'a>>> {
        let known = self.known().get(&pool.uuid).cloned();
        match known.map(|devices| Opened::on(pool, devices, ctx)) {
            Some(Ok(Some(opened))) if opened.usable() => return Ok(Some(opened)),
            // They are others now, or not what they were.
            Some(Ok(_)) | None => {}
            Some(Err(error)) if error.kind() == ErrorKind::ToolFailed => {}
            Some(Err(error)) => return Err(error),
        }
        self.known().remove(&pool.uuid);
        let named = |error| pool::of(pool, error);
        let located = find::locate(pool, &*ctx.host, &ctx.limits).map_err(named)?;
        let Some(located) = located else { return Ok(None) };
        located.check(&*ctx.host, &ctx.limits).map_err(named)?;
        let opened = Opened::on(pool, located.devices, ctx)?;
        if let Some(opened) = &opened {
            self.known().insert(pool.uuid, opened.devices.clone());
        }
        Ok(opened)
    }

    fn known(&self) -> std::sync::MutexGuard<'_, BTreeMap<Uuid, Vec<String>>> {
        self.devices.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The volume group that must be there, as the pool is to be built from it.
    fn built<'a>(&self, pool: &'a PoolDef, ctx: &'a OpContext) -> Result<Opened<'a>> {
        self.open(pool, ctx)?.ok_or_else(|| {
            let what = format_args!(
                "there is no volume group {}; build the pool, or bring its devices",
                find::group_name(pool)
            );
            pool::error(pool, ErrorKind::NotBuilt, what)
        })
    }

    /// The volumes of an active pool.
    fn volumes<'a>(&self, pool: &'a ActivePool, ctx: &'a OpContext) -> Result<Volumes<'a>> {
        let opened = self.open(&pool.def, ctx)?.ok_or_else(|| {
            let what = format_args!(
                "volume group {} is gone with its devices",
                find::group_name(&pool.def)
            );
            pool::error(&pool.def, ErrorKind::Inaccessible, what)
        })?;
        Ok(Volumes { pool, opened })
    }

    fn again(&self, pool: &ActivePool, name: &VolumeName, ctx: &OpContext) -> Result<Volume> {
        self.refresh_volume(pool, name, ctx)?.ok_or_else(|| {
            pool.volume_error(ErrorKind::NotFound, name, "it is gone; refresh the pool")
        })
    }
}

impl Backend for Logical {
    fn info(&self) -> &'static BackendInfo {
        &INFO
    }

    fn check_definition(&self, pool: &PoolDef) -> Result<()> {
        let name = find::group_name(pool);
        let letters = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '_' | '.' | '-');
        let right = !name.is_empty()
            && name.len() < 127
            && name.chars().all(letters)
            && !name.starts_with('-')
            && !matches!(name, "." | "..");
        if !right {
            let what = format!(
                "{name:?} can be no volume group; names have a-z A-Z 0-9 + _ . - and begin with no -"
            );
            return Err(pool::error(pool, ErrorKind::InvalidArgument, what));
        }
        match pool.source.devices.iter().find(|device| !device.path.starts_with('/')) {
            None => Ok(()),
            Some(SourceDevice { path, .. }) => {
                let what = format!("device {path:?} is no absolute path");
                Err(pool::error(pool, ErrorKind::InvalidArgument, what))
            }
        }
    }

    fn concerned(&self, pool: &PoolDef, event: &DeviceEvent) -> bool {
        event.property("DM_VG_NAME") == Some(find::group_name(pool))
            || event.property("ID_FS_TYPE") == Some(find::MEMBER)
            || is_source(pool, event)
    }

    fn find_sources(&self, _spec: &Source, ctx: &OpContext) -> Result<Vec<Source>> {
        let candidates = find::Candidates::all(&[])?;
        let rows = find::physical(&*ctx.host, &ctx.limits, &candidates.devices)?;
        let device =
            |path: String| SourceDevice { path, part_separator: None, free_extents: Vec::new() };
        let source = |group: find::Located| Source {
            name: Some(group.name),
            devices: group.devices.into_iter().map(device).collect(),
            format: Some("lvm2".to_owned()),
            ..Source::default()
        };
        Ok(find::Located::all(&rows).into_iter().map(source).collect())
    }

    fn build(&self, pool: &PoolDef, mode: BuildMode, ctx: &OpContext) -> Result<()> {
        self.check_definition(pool)?;
        self.known().remove(&pool.uuid);
        pool::build(pool, mode, ctx)
    }

    fn start(&self, pool: &PoolDef, ctx: &OpContext) -> Result<Activation> {
        self.check_definition(pool)?;
        self.known().remove(&pool.uuid);
        let opened = self.built(pool, ctx)?;
        let adopted = opened.start()?;
        let source_id = Some(opened.group.uuid);
        Ok(Activation { adopted, source_id, ..Activation::default() })
    }

    fn stop(&self, pool: &ActivePool, options: StopOptions, ctx: &OpContext) -> Result<()> {
        if pool.activation.adopted && !options.release {
            return Ok(());
        }
        let stopped = match self.open(&pool.def, ctx) {
            Ok(Some(opened)) => opened.stop(options),
            // LVM cannot take away what it does not find.
            Ok(None) => pool::abandon(pool, options, ctx),
            Err(error) if error.kind() == ErrorKind::Inaccessible => {
                pool::abandon(pool, options, ctx)
            }
            Err(error) => Err(error),
        };
        match stopped {
            Err(error) if options.force => {
                tracing::warn!(POOLD_POOL = %pool.def.name, "its volumes stay active: {error}");
                Ok(())
            }
            stopped => stopped,
        }
    }

    fn delete(&self, pool: &PoolDef, with_volumes: bool, ctx: &OpContext) -> Result<()> {
        self.check_definition(pool)?;
        self.built(pool, ctx)?.delete(with_volumes)?;
        self.known().remove(&pool.uuid);
        Ok(())
    }

    fn refresh(&self, pool: &ActivePool, ctx: &OpContext) -> Result<Listing> {
        Ok(self.volumes(pool, ctx)?.list())
    }

    fn usage(&self, pool: &ActivePool, ctx: &OpContext) -> Result<Usage> {
        let known = self.known().get(&pool.def.uuid).cloned();
        let room = known.map(|devices| pool::room(&pool.def, &devices, ctx)).transpose();
        match room {
            Ok(Some(Some(usage))) => Ok(usage),
            Err(error) if error.kind() != ErrorKind::ToolFailed => Err(error),
            _ => Ok(self.volumes(pool, ctx)?.opened.group.usage),
        }
    }

    fn refresh_volume(
        &self,
        pool: &ActivePool,
        name: &VolumeName,
        ctx: &OpContext,
    ) -> Result<Option<Volume>> {
        let volumes = self.volumes(pool, ctx)?;
        let found = volumes.opened.group.volume(name.as_str());
        Ok(found.and_then(|found| volumes.volume(found)))
    }

    fn create_volume(
        &self,
        pool: &ActivePool,
        def: &VolumeDef,
        preallocation: Preallocation,
        ctx: &OpContext,
    ) -> Result<Volume> {
        self.volumes(pool, ctx)?.create(def, preallocation)
    }

    fn delete_volume(
        &self,
        pool: &ActivePool,
        volume: &Volume,
        options: DeleteOptions,
        ctx: &OpContext,
    ) -> Result<()> {
        let force = options.only_force(&INFO)?;
        self.volumes(pool, ctx)?.delete(volume, force)
    }

    fn resize_volume(
        &self,
        pool: &ActivePool,
        volume: &Volume,
        capacity: u64,
        options: ResizeOptions,
        ctx: &OpContext,
    ) -> Result<Volume> {
        self.volumes(pool, ctx)?.resize(volume, capacity, options)?;
        self.again(pool, &volume.name, ctx)
    }

    fn open_volume(
        &self,
        pool: &ActivePool,
        volume: &Volume,
        access: VolumeAccess,
        ctx: &OpContext,
    ) -> Result<VolumeIo> {
        // Without a look at the group, where the volume has its device.
        if BlockDevice::at(Path::new(&*volume.path)).is_err() {
            volumes::check_has_content(pool, volume)?;
            self.volumes(pool, ctx)?.activate(volume)?;
        }
        volumes::open(&BlockVolumes::new(pool, ctx), pool, volume, access)
    }

    fn clone_volume(
        &self,
        pool: &ActivePool,
        def: &VolumeDef,
        source: &CloneSource,
        preallocation: Preallocation,
        ctx: &OpContext,
    ) -> Result<Volume> {
        self.volumes(pool, ctx)?.clone(def, source, preallocation)
    }

    fn wipe_volume(
        &self,
        pool: &ActivePool,
        volume: &Volume,
        options: WipeOptions,
        ctx: &OpContext,
    ) -> Result<Volume> {
        self.volumes(pool, ctx)?.wipe(volume, options)?;
        self.again(pool, &volume.name, ctx)
    }
}
