//! What a new device is filled with: another volume's content, or the header of an encrypted one.

use super::super::images::{Conversion, Lock, stored_format};
use super::super::{CloneSource, VolumeAccess, VolumeIo};
use super::{BlockVolumes, LUKS_HEADER};
use crate::host::copy::{Copier, Failure, Holes};
use crate::host::files;
use crate::image::qemu_img::QemuImg;
use crate::model::{Error, ErrorKind, Result, Volume, VolumeDef, VolumeFormat};
use std::time::Duration;

/// What a new device holds before anything is written into it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::backend) enum Fresh {
    /// Zeros: thin volumes, zvols.
    Zeros,
    /// Whatever was there before.
    Anything,
}

impl BlockVolumes<'_> {
    /// Refuses what no device can be: an image format, a difference to another volume (a backend with
    /// snapshots looks at that itself first).
    pub(in crate::backend) fn check_new(&self, def: &VolumeDef) -> Result<()> {
        let name = &def.name;
        if let Some(format) = def.format
            && format.is_image()
            && !matches!(format, VolumeFormat::Raw | VolumeFormat::Luks)
        {
            let what = format!(
                "a volume of a {} pool is a device and holds no {format} image; leave the format out",
                self.pool.def.pool_type
            );
            return Err(self.pool.volume_error(ErrorKind::InvalidArgument, name, what));
        }
        if let Some(encryption) = &def.encryption {
            self.images().lock_of(name, encryption).map(drop)?;
        }
        Ok(())
    }

    /// How large the device of a new volume must be, in bytes, for what a guest is to see.
    pub(in crate::backend) fn device_size(&self, def: &VolumeDef) -> Result<u64> {
        let refuse = |what| self.pool.volume_error(ErrorKind::InvalidArgument, &def.name, what);
        let capacity = match def.capacity {
            None | Some(0) => return Err(refuse("it needs a capacity")),
            Some(capacity) => capacity,
        };
        let header = if def.encryption.is_some() { LUKS_HEADER } else { 0 };
        capacity.checked_add(header).ok_or_else(|| refuse("its capacity is too large"))
    }

    /// The definition of a volume that is to be a source's copy, with the capacity that it needs.
    pub(in crate::backend) fn clone_def(
        &self,
        def: &VolumeDef,
        source: &CloneSource,
    ) -> Result<VolumeDef> {
        let plan = self.conversion(def, source)?;
        let needed = match plan.is_copy {
            true => source.io.size,
            false => source.volume.capacity,
        };
        let capacity = def.capacity.filter(|capacity| *capacity != 0).unwrap_or(needed);
        if capacity < needed {
            let what = format!("its source needs {needed} bytes, and it is to have {capacity}");
            return Err(self.pool.volume_error(ErrorKind::InvalidArgument, &def.name, what));
        }
        Ok(VolumeDef { capacity: Some(capacity), encryption: plan.encryption, ..def.clone() })
    }

    fn conversion(&self, def: &VolumeDef, source: &CloneSource) -> Result<Conversion> {
        let format = match source.volume.content() {
            VolumeFormat::Luks => VolumeFormat::Luks,
            _ => VolumeFormat::Raw,
        };
        Conversion::plan(&self.images(), def, source, format)
    }

    /// Writes a source's content into the new device `volume`, and zeros behind it; synced.
    pub(in crate::backend) fn fill(
        &self,
        def: &VolumeDef,
        volume: &Volume,
        source: &CloneSource,
        fresh: Fresh,
    ) -> Result<()> {
        if self.conversion(def, source)?.encryption.is_some() {
            return self.fill_encrypted(def, volume, source);
        }
        let io = self.open(volume, VolumeAccess::Write { force: false })?;
        self.fill_open(def, volume, &io, source, fresh)
    }

    /// The same, into a new volume that its backend has opened; not encrypted.
    pub(in crate::backend) fn fill_open(
        &self,
        def: &VolumeDef,
        volume: &Volume,
        io: &VolumeIo,
        source: &CloneSource,
        fresh: Fresh,
    ) -> Result<()> {
        let name = &def.name;
        let plan = self.conversion(def, source)?;
        let written = if plan.is_copy {
            self.images().check_names(&source.volume, source.io.file())?;
            self.copy(source, io, fresh)
                .map_err(|failure| failure.into_error(format_args!("volume {name}")))?;
            self.ctx.findings.say("method", "copy");
            source.io.size
        } else {
            let images = self.images();
            let (run, node) = images.source_node(QemuImg::new("convert").arg("-n"), source)?;
            let run = run.arg("-O").arg("raw").image(&node).arg(files::own_path(io));
            images.run_conversion(run, def, source)?;
            source.volume.capacity
        };
        if fresh == Fresh::Anything {
            self.zero(io, written).map_err(|error| self.pool.of_volume(name, error))?;
        }
        self.sync(io, volume)?;
        let encryption = source.volume.image.as_ref().and_then(|image| image.encryption.clone());
        match encryption.filter(|_| plan.is_copy) {
            Some(encryption) => self.declare_encrypted(volume, encryption),
            None => Ok(()),
        }
    }

    fn copy(&self, source: &CloneSource, io: &VolumeIo, fresh: Fresh) -> Result<(), Failure> {
        let size = source.io.size;
        self.ctx.progress.set_total(size);
        let mut done = |bytes| self.ctx.progress.add(bytes);
        let limits = &self.ctx.limits;
        let mut copier = Copier { limits, idle: Duration::MAX, done: &mut done };
        let holes = match fresh {
            Fresh::Zeros => Holes::Skip,
            Fresh::Anything => io.holes(),
        };
        copier.files((source.io.file(), 0), (io.file(), 0), size, holes)
    }

    /// Makes a new device an encrypted volume that is empty, as its definition asks.
    pub(in crate::backend) fn encrypt(&self, def: &VolumeDef, volume: &Volume) -> Result<()> {
        let Some(asked) = &def.encryption else { return Ok(()) };
        let lock = self.images().lock_of(&def.name, asked)?;
        let io = self.open(volume, VolumeAccess::Write { force: false })?;
        self.write_header(def, volume, &io, &lock)?;
        self.sync(&io, volume)?;
        drop(io);
        self.declare_encrypted(volume, lock.encryption)
    }

    fn write_header(
        &self,
        def: &VolumeDef,
        volume: &Volume,
        io: &VolumeIo,
        lock: &Lock,
    ) -> Result<()> {
        let named = |error| self.pool.of_volume(&def.name, error);
        let format = stored_format(VolumeFormat::Raw, Some(&lock.encryption));
        let run = QemuImg::new("create").arg("-q").arg("-f").arg("luks");
        let capacity = volume.physical.saturating_sub(LUKS_HEADER);
        lock.apply(run, format)
            .map_err(named)?
            .arg(files::own_path(io))
            .arg(capacity.to_string())
            .run(&*self.ctx.host, &self.ctx.limits)
            .map_err(named)
    }

    fn fill_encrypted(&self, def: &VolumeDef, volume: &Volume, source: &CloneSource) -> Result<()> {
        let name = &def.name;
        let Some(asked) = &def.encryption else { return Ok(()) };
        let images = self.images();
        let lock = images.lock_of(name, asked)?;
        let io = self.open(volume, VolumeAccess::Write { force: false })?;
        self.write_header(def, volume, &io, &lock)?;
        let run = QemuImg::new("convert").arg("-n").arg("--target-image-opts");
        let (mut run, node) = images.source_node(run, source)?;
        let id = lock.unlock(&mut run).map_err(|error| self.pool.of_volume(name, error))?;
        let target = format!(
            "driver=luks,key-secret={id},file.driver=host_device,file.filename={}",
            files::own_path(&io)
        );
        images.run_conversion(run.image(&node).arg(target), def, source)?;
        self.sync(&io, volume)?;
        drop(io);
        self.declare_encrypted(volume, lock.encryption)
    }

    /// Zeros from a byte to the end.
    fn zero(&self, io: &VolumeIo, from: u64) -> Result<()> {
        const STEP: u64 = 64 << 20;
        let mut at = from;
        while at < io.size {
            self.ctx.limits.check()?;
            let step = STEP.min(io.size - at);
            files::write_zeros(io.file(), at, step)
                .map_err(|error| Error::io("cannot write zeros behind its content", &error))?;
            at += step;
        }
        Ok(())
    }

    fn sync(&self, io: &VolumeIo, volume: &Volume) -> Result<()> {
        let failed = |error: &_| {
            self.pool.volume_failed(&volume.name, "cannot write it to the storage", error)
        };
        io.file().sync_all().map_err(|error| failed(&error))
    }
}
