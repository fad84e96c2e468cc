//! Overwriting the content of volumes.

use super::super::transfer::Mark;
use super::super::wipe::Wipe;
use super::super::{OpContext, Preallocation, Progress, VolumeAccess, VolumeIo, WipeOptions};
use super::ImageDirectory;
use super::create::Made;
use crate::host::Temporary;
use crate::host::copy::{Copier, Holes};
use crate::image::formats;
use crate::image::probe::{Verdict, probe_file};
use crate::model::{ErrorKind, Result, Volume, VolumeDef, VolumeFormat, VolumeKind};
use std::time::Duration;

/// What a volume is afterwards.
enum After<'a> {
    /// The bytes that were written.
    Raw,
    /// An empty image, which is ready.
    Image(Temporary<'a>, Box<Made>),
    /// Nothing that could be used, and why.
    Useless(&'static str),
}

impl ImageDirectory<'_> {
    /// Overwrites a volume's content and reads it. Nothing is overwritten before all is known to be
    /// in place for what comes afterwards; from the first byte until then it is marked incomplete.
    pub(crate) fn wipe(&self, volume: &Volume, options: WipeOptions) -> Result<Volume> {
        let name = &volume.name;
        let ctx = self.ctx;
        let io = self.open_volume(volume, VolumeAccess::Write { force: options.force })?;
        // The volume as it is now: the caller's may be older than its file.
        let volume = &self.check_same(volume)?;
        self.check_in_one_file(volume, &io)?;
        let wipe = Wipe::plan(self.pool, name, &io, options)?;
        self.check_room(name, wipe.allocates)?;
        // What is made beside is no part of the overwriting.
        let uncounted = OpContext { progress: Progress::default(), ..ctx.clone() };
        let beside = ImageDirectory::open(self.pool, &uncounted)?;
        let after = beside.after(volume, &io)?;
        wipe.announce(&io, ctx)?;
        let mark = Mark::incomplete(self.pool, volume, &io, ctx)?;
        wipe.run(&io, ctx).map_err(|error| self.of_volume(name, error))?;
        self.restore(volume, &io, mark, after)?;
        wipe.report(ctx);
        drop(io);
        if volume.kind == VolumeKind::Ploop {
            self.describe_ploop(name)?;
        }
        self.volume(name)?.ok_or_else(|| {
            self.volume_error(ErrorKind::NotFound, name, "it is gone; refresh the pool")
        })
    }

    /// Refuses an image whose data is in other files: wiping it would leave them.
    fn check_in_one_file(&self, volume: &Volume, io: &VolumeIo) -> Result<()> {
        if volume.format == VolumeFormat::Raw {
            return Ok(());
        }
        let name = &volume.name;
        let verdict = probe_file(io.file(), io.size, Some(volume.format), &mut Vec::new())
            .map_err(|error| self.volume_failed(name, "cannot read its header", &error))?;
        match verdict {
            Verdict::Image(image)
                if image.attributes.features.data_file || !image.others.is_empty() =>
            {
                let what = "its data is in other files, which its header names; wipe those";
                Err(self.volume_error(ErrorKind::NotSupported, name, what))
            }
            _ => Ok(()),
        }
    }

    /// What the volume will be.
    fn after(&self, volume: &Volume, io: &VolumeIo) -> Result<After<'_>> {
        let creatable = formats::info(volume.format).is_some_and(|info| info.creatable);
        if volume.format == VolumeFormat::Raw || io.kind == VolumeKind::Block || !creatable {
            return Ok(After::Raw);
        }
        if volume.capacity == 0 {
            let why =
                "it is wiped, and its capacity could not be read; delete it, and create it anew";
            return Ok(After::Useless(why));
        }
        let image = volume.image.as_deref().cloned().unwrap_or_default();
        let encrypted = image.encryption.is_some();
        let def = VolumeDef {
            capacity: Some(volume.capacity),
            format: Some(volume.format),
            encryption: image.encryption,
            compat: image
                .compat
                .filter(|_| volume.format == VolumeFormat::Qcow2)
                .map(str::to_owned),
            cluster_size: image.cluster_size,
            features: Some(image.features),
            ..VolumeDef::new(volume.name.clone(), self.pool.def.pool_type)
        };
        match self.make(&def, volume.format, Preallocation::None) {
            Ok((new, made)) => Ok(After::Image(new, Box::new(made))),
            // Nobody needs the passphrase to destroy what it protects.
            Err(error)
                if encrypted
                    && matches!(
                        error.kind(),
                        ErrorKind::NotFound
                            | ErrorKind::InvalidArgument
                            | ErrorKind::NotSupported
                            | ErrorKind::AuthenticationFailed
                    ) =>
            {
                Ok(After::Useless("it was encrypted and is wiped; delete it, and create it anew"))
            }
            Err(error) => Err(error),
        }
    }

    /// Makes of what was overwritten what it shall be, in the same file, and declares it.
    fn restore(&self, volume: &Volume, io: &VolumeIo, mark: Mark, after: After<'_>) -> Result<()> {
        let name = &volume.name;
        let (pool, ctx) = (self.pool, self.ctx);
        let (new, made) = match after {
            After::Raw => {
                return mark.lift_as(pool, volume, ctx, |declared| {
                    declared.format = VolumeFormat::Raw;
                    declared.backing = None;
                });
            }
            After::Useless(why) => return mark.stay(pool, volume, ctx, why),
            After::Image(new, made) => (new, *made),
        };
        let failed = |error: std::io::Error| {
            self.volume_failed(name, "cannot make it an empty image", &error)
        };
        let size = new.file().metadata().map_err(failed)?.len();
        io.file().set_len(0).and_then(|()| io.file().set_len(size)).map_err(failed)?;
        let mut uncounted = |_| {};
        let mut copier = Copier { limits: &ctx.limits, idle: Duration::ZERO, done: &mut uncounted };
        copier
            .files((new.file(), 0), (io.file(), 0), size, Holes::Skip)
            .map_err(|failure| failure.into_error(format_args!("volume {name}")))?;
        io.file().sync_all().map_err(failed)?;
        mark.lift_as(pool, volume, ctx, |declared| {
            declared.format = made.format;
            declared.backing = made.backing;
            declared.encryption = made.encryption;
        })
    }
}
