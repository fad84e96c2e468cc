//! The content of one volume in the form of another, by qemu-img.

use super::{Images, Lock, hand_over, stored_format};
use crate::backend::{CloneSource, Preallocation};
use crate::image::formats::FormatInfo;
use crate::image::node::Node;
use crate::image::qemu_img::QemuImg;
use crate::model::{Encryption, ErrorKind, Result, VolumeDef, VolumeFormat};
use std::ffi::OsString;

/// Word for a clone that is not encrypted although its source is.
const DECRYPTED: &str = "none";

/// What becomes of a source: its format there, and how it is locked.
pub(in crate::backend) struct Conversion {
    /// The format of the new volume, as it is stored.
    pub(in crate::backend) format: VolumeFormat,
    /// The encryption that is asked for.
    pub(in crate::backend) encryption: Option<Encryption>,
    /// Whether the new volume has the very bytes of the source.
    pub(in crate::backend) is_copy: bool,
}

impl Conversion {
    /// What `def` asks to be made of a source; what it leaves open is as in the source.
    pub(in crate::backend) fn plan(
        images: &Images<'_>,
        def: &VolumeDef,
        source: &CloneSource,
        format: VolumeFormat,
    ) -> Result<Self> {
        let from = &*source.volume;
        if let Some(why) = &from.incomplete {
            let what = format!("its source {} is not whole ({why})", from.path);
            return Err(images.pool.volume_error(ErrorKind::Conflict, &def.name, what));
        }
        let asked = def.encryption.as_ref();
        let decrypts = asked.is_some_and(|asked| asked.format == DECRYPTED);
        let encryption = asked.filter(|_| !decrypts).cloned();
        let format = match format {
            VolumeFormat::Luks if decrypts => VolumeFormat::Raw,
            format => stored_format(format, encryption.as_ref()),
        };
        let is_copy = format == from.content()
            && from.backing().is_none()
            && encryption.is_none()
            && !(decrypts && from.encrypted());
        Ok(Self { format, encryption, is_copy })
    }
}

impl Images<'_> {
    /// Has qemu-img write a source's content as an image of another format. `finish` adds to the run
    /// what it is written into.
    pub(in crate::backend) fn convert(
        &self,
        def: &VolumeDef,
        source: &CloneSource,
        (info, lock): (&FormatInfo, Option<&Lock>),
        how: Preallocation,
        target: impl Into<OsString>,
    ) -> Result<()> {
        let run = QemuImg::new("convert").arg("-O").arg(info.driver);
        let (run, node) = self.source_node(run, source)?;
        let mut run = run;
        if let Some(lock) = lock {
            run = lock
                .apply(run, info.format)
                .map_err(|error| self.pool.of_volume(&def.name, error))?;
        }
        let run = self.format_options(run, def, info, how)?.image(&node).arg(target);
        self.run_conversion(run, def, source)
    }

    /// The source of a conversion as QEMU is told of it, with all below it.
    pub(in crate::backend) fn source_node(
        &self,
        run: QemuImg,
        source: &CloneSource,
    ) -> Result<(QemuImg, Node)> {
        let from = &*source.volume;
        let file = source.io.file();
        self.check_names(from, file)?;
        let chain = from.backing().map(|backing| self.chain(&from.name, backing, 0)).transpose()?;
        let (mut run, below) = hand_over(run, chain);
        let mut node = Node::of_open_file(file, source.io.kind, from.content(), below);
        if let Some(id) = self.unlock(&mut run, from)? {
            node = node.encrypted(&id);
        }
        Ok((run, node))
    }

    /// Runs a conversion, and says how far it is.
    pub(in crate::backend) fn run_conversion(
        &self,
        run: QemuImg,
        def: &VolumeDef,
        source: &CloneSource,
    ) -> Result<()> {
        let total = source.volume.capacity;
        self.ctx.progress.set_total(total);
        let mut told = 0;
        run.run_with_progress(&*self.ctx.host, &self.ctx.limits, &mut |part| {
            // The capacity is far below what a double holds exactly enough for a bar.
            let now = ((total as f64) * part) as u64;
            self.ctx.progress.add(now.saturating_sub(told));
            told = told.max(now);
        })
        .map_err(|error| self.pool.of_volume(&def.name, error))?;
        self.ctx.findings.say("method", "convert");
        Ok(())
    }
}
