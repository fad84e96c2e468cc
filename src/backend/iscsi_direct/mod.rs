//! Pools of type iscsi-direct: the units of a target, by libiscsi's tools and QEMU, without the kernel.
//!
//! Nothing is logged in while nothing is done: each tool connects by itself, so a start only proves that
//! it can. Content is served as a file by QEMU's storage daemon.

mod tools;

use super::block_volumes::{BlockVolumes, Found};
use super::iscsi::{self, Portal};
use super::luns::{OPERATIONS_WITH_SEARCH, usage};
use super::{
    Activation, ActivePool, Backend, BackendInfo, Listing, OpContext, StopOptions, VolumeAccess,
    VolumeIo, Watch, WipeOptions,
};
use crate::host::{Sealed, serve};
use crate::model::{
    Error, ErrorKind, PoolDef, PoolType, Result, Source, Usage, Volume, VolumeFormat, VolumeKind,
    VolumeName,
};
use tools::Tools;

/// What volumes are called before the number of their unit, as in libvirt.
const UNIT: &str = "unit:0:0:";

/// The backend of iscsi-direct pools.
#[derive(Debug)]
pub(super) struct IscsiDirect;

static INFO: BackendInfo = BackendInfo {
    pool_type: PoolType::IscsiDirect,
    tools: &[tools::LIST, tools::SIZE],
    operations: OPERATIONS_WITH_SEARCH,
    watch: Watch::Timer,
};

/// What a definition names, and the tools that reach it.
struct Target<'a> {
    pool: &'a PoolDef,
    name: &'a str,
    portal: Portal,
    tools: Tools<'a>,
}

impl<'a> Target<'a> {
    fn of(pool: &'a PoolDef, ctx: &'a OpContext) -> Result<Self> {
        let (Some(device), Some(host)) = (pool.source.devices.first(), pool.source.hosts.first())
        else {
            let what = format!("pool {} has no host or no target; define it with both", pool.name);
            return Err(Error::new(ErrorKind::InvalidArgument, what));
        };
        let named = |error: Error| error.context(format_args!("pool {}", pool.name));
        let tools = Tools::new(&pool.source, ctx).map_err(named)?;
        Ok(Self { pool, name: &device.path, portal: Portal::of(host), tools })
    }

    fn named(&self, error: Error) -> Error {
        error.context(format_args!("pool {}", self.pool.name))
    }

    /// The units that are disks, with their sizes.
    fn units(&self) -> Result<Vec<(u64, u64)>> {
        let units = self.tools.units(&self.portal, self.name).map_err(|e| self.named(e))?;
        let mut found = Vec::with_capacity(units.len());
        for unit in units {
            found.extend(self.size(unit)?.map(|size| (unit, size)));
        }
        Ok(found)
    }

    /// The size of a unit; none when there is no such disk.
    fn size(&self, unit: u64) -> Result<Option<u64>> {
        self.tools.size(&self.portal, self.name, unit).map_err(|error| self.named(error))
    }

    fn volume(&self, (unit, size): (u64, u64), blocks: &BlockVolumes<'_>) -> Option<Volume> {
        let path = format!("ip-{}-iscsi-{}-lun-{unit}", self.portal, self.name);
        let found = Found {
            name: VolumeName::found(&format!("{UNIT}{unit}"))?,
            key: None,
            path,
            device: None,
            capacity: size,
            allocation: size,
            format: VolumeFormat::Raw,
            extents: Vec::new(),
            attributes: None,
        };
        Some(Volume { kind: VolumeKind::Network, ..blocks.volume(found) })
    }

    /// The size of the unit that a volume is, which must be what it was.
    fn check_size(&self, pool: &ActivePool, volume: &Volume) -> Result<u64> {
        let unit = unit(&volume.name);
        let size = unit.map_or(Ok(None), |unit| self.size(unit))?;
        match (unit, size) {
            (Some(unit), Some(size)) if size == volume.physical => Ok(unit),
            (_, Some(size)) => Err(pool.other_size(volume, "it", size)),
            _ => {
                let what = "the target has it no more";
                Err(pool.volume_error(ErrorKind::Inaccessible, &volume.name, what))
            }
        }
    }
}

/// The number of the unit that a volume is.
fn unit(name: &VolumeName) -> Option<u64> {
    name.as_str().strip_prefix(UNIT)?.parse().ok()
}

impl Backend for IscsiDirect {
    fn info(&self) -> &'static BackendInfo {
        &INFO
    }

    fn check_definition(&self, pool: &PoolDef) -> Result<()> {
        iscsi::check_source(&pool.source).map_err(|e| e.context(format_args!("pool {}", pool.name)))
    }

    fn find_sources(&self, spec: &Source, ctx: &OpContext) -> Result<Vec<Source>> {
        iscsi::check_source(spec)?;
        let (host, asked) = iscsi::asked(spec)?;
        let found = Tools::new(spec, ctx)?.targets(&asked)?;
        let mut sources = iscsi::sources(spec, host, &found);
        // libvirt's type has one host.
        sources.iter_mut().for_each(|source| source.hosts.truncate(1));
        Ok(sources)
    }

    fn start(&self, pool: &PoolDef, ctx: &OpContext) -> Result<Activation> {
        self.check_definition(pool)?;
        let target = Target::of(pool, ctx)?;
        target.tools.units(&target.portal, target.name).map_err(|error| target.named(error))?;
        Ok(Activation { adopted: true, ..Activation::default() })
    }

    fn stop(&self, _pool: &ActivePool, _options: StopOptions, _ctx: &OpContext) -> Result<()> {
        Ok(())
    }

    fn refresh(&self, pool: &ActivePool, ctx: &OpContext) -> Result<Listing> {
        let target = Target::of(&pool.def, ctx)?;
        let (units, blocks) = (target.units()?, BlockVolumes::new(pool, ctx));
        let usage = usage(units.iter().map(|(_, size)| size));
        let volumes = units.into_iter().filter_map(|unit| target.volume(unit, &blocks)).collect();
        Ok(Listing { usage, volumes, ..Listing::default() })
    }

    fn usage(&self, pool: &ActivePool, ctx: &OpContext) -> Result<Usage> {
        let units = Target::of(&pool.def, ctx)?.units()?;
        Ok(usage(units.iter().map(|(_, size)| size)))
    }

    fn refresh_volume(
        &self,
        pool: &ActivePool,
        name: &VolumeName,
        ctx: &OpContext,
    ) -> Result<Option<Volume>> {
        let target = Target::of(&pool.def, ctx)?;
        let Some(unit) = unit(name) else { return Ok(None) };
        let size = target.size(unit)?;
        let blocks = BlockVolumes::new(pool, ctx);
        Ok(size.and_then(|size| target.volume((unit, size), &blocks)))
    }

    fn open_volume(
        &self,
        pool: &ActivePool,
        volume: &Volume,
        access: VolumeAccess,
        ctx: &OpContext,
    ) -> Result<VolumeIo> {
        let target = Target::of(&pool.def, ctx)?;
        let write = matches!(access, VolumeAccess::Write { .. });
        if access == (VolumeAccess::Write { force: false }) {
            // Who else uses it only the target knows.
            BlockVolumes::new(pool, ctx).check_no_overlay(volume)?;
        }
        let unit = target.check_size(pool, volume)?;
        let mut node = serde_json::json!({
            "driver": "iscsi", "transport": "tcp", "portal": target.portal.to_string(),
            "target": target.name, "lun": unit,
        });
        if let Some(initiator) = &pool.def.source.initiator_iqn {
            node["initiator-name"] = initiator.as_str().into();
        }
        let mut objects = Vec::new();
        let mut kept = None;
        if let Some((user, password)) = target.tools.credentials() {
            node["user"] = user.into();
            node["password-secret"] = "chap".into();
            let sealed = Sealed::new("password", password.as_bytes())?;
            objects.push("--object".into());
            objects.push(format!("secret,id=chap,file={}", sealed.path()).into());
            kept = Some(sealed);
        }
        serve(&node, objects, kept, write, &ctx.private, &ctx.limits)
            .map(|served| VolumeIo::served(served, volume.physical))
            .map_err(|error| pool.of_volume(&volume.name, error))
    }

    fn wipe_volume(
        &self,
        pool: &ActivePool,
        volume: &Volume,
        options: WipeOptions,
        ctx: &OpContext,
    ) -> Result<Volume> {
        let access = VolumeAccess::Write { force: options.force };
        let io = self.open_volume(pool, volume, access, ctx)?;
        BlockVolumes::new(pool, ctx).wipe_open(volume, &io, options)?;
        drop(io);
        self.refresh_volume(pool, &volume.name, ctx)?.ok_or_else(|| {
            let what = "the target has it no more since it was wiped";
            pool.volume_error(ErrorKind::Inaccessible, &volume.name, what)
        })
    }
}
