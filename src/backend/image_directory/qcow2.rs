//! qcow2 volumes: new ones, and changing their capacity.

use super::super::{Preallocation, ResizeOptions};
use super::ImageDirectory;
use crate::host::Command;
use crate::image::lock::{self, Held};
use crate::image::node::Node;
use crate::image::probe::{Verdict, resolve_backing};
use crate::image::qcow2::{DEFAULT_CLUSTER, Layout, Qcow2, Spec, Version};
use crate::model::{
    BackingStore, Error, ErrorKind, FormatSource, Result, Volume, VolumeDef, VolumeFormat,
    VolumeKind, VolumeName,
};
use std::fs::File;
use std::os::unix::fs::OpenOptionsExt;

/// Longest chain of backing files that is followed.
const MAX_CHAIN: usize = 64;

impl ImageDirectory<'_> {
    pub(super) fn create_qcow2(&self, def: &VolumeDef, how: Preallocation) -> Result<()> {
        let name = &def.name;
        let base = def.backing.as_ref().map(|backing| self.base(name, backing)).transpose()?;
        // Nobody deletes or shrinks it while the new volume is not known yet.
        let _base = base.as_ref().map(|(volume, _)| self.read_base(name, volume)).transpose()?;
        let backing = base.as_ref().map(|(volume, format)| BackingStore {
            path: volume.path.to_string(),
            format: Some(*format),
            permissions: None,
        });
        let capacity = match (def.capacity, &base) {
            (None | Some(0), Some((volume, _))) => volume.capacity,
            (capacity, _) => capacity.unwrap_or(0),
        };
        let features = def.features.unwrap_or_default();
        if features.data_file {
            let what = "creating images with a data file is not implemented yet";
            return Err(self.volume_error(ErrorKind::NotSupported, name, what));
        }
        let compat = def.compat.as_deref().unwrap_or("1.1");
        let version = Version::from_compat(compat).ok_or_else(|| {
            let what = format!("compat {compat:?} is neither 0.10 nor 1.1");
            self.volume_error(ErrorKind::InvalidArgument, name, what)
        })?;
        // libvirt's rule: metadata of what is to be allocated in full includes its clusters.
        let how = match how {
            Preallocation::Metadata if def.allocation.is_some_and(|bytes| bytes >= capacity) => {
                Preallocation::Falloc
            }
            how => how,
        };
        let spec = Spec {
            capacity,
            cluster_size: def.cluster_size.unwrap_or(DEFAULT_CLUSTER),
            version,
            lazy_refcounts: features.lazy_refcounts,
            extended_l2: features.extended_l2,
            backing: backing
                .as_ref()
                .map(|b| (b.path.clone(), b.format.unwrap_or(VolumeFormat::Raw).as_str())),
            mapped: how != Preallocation::None,
        };
        let layout = Layout::plan(&spec).map_err(|error| self.of_volume(name, error))?;
        let (data, end) = (layout.data_offset(), layout.file_size());
        let content = match how {
            Preallocation::None | Preallocation::Metadata => 0,
            Preallocation::Falloc | Preallocation::Full => end - data,
        };
        let new = self.temporary(def, layout.written() + content)?;
        self.ctx.progress.set_total(layout.written() + content);
        layout.write(
            new.file(),
            &mut |bytes| {
                self.ctx.progress.add(bytes);
                self.ctx.limits.check()
            },
            &|error| self.volume_failed(name, "cannot write its tables", &error),
        )?;
        match how {
            Preallocation::None | Preallocation::Metadata => {}
            Preallocation::Falloc => self.allocate_range(name, new.file(), data, end)?,
            Preallocation::Full => self.write_range(name, new.file(), data, end)?,
        }
        self.finish(def, new, VolumeFormat::Qcow2, backing)
    }

    /// The volume that a new one shall be a difference to, and its format: as declared, else as
    /// the caller says.
    fn base(
        &self,
        name: &VolumeName,
        backing: &BackingStore,
    ) -> Result<(std::sync::Arc<Volume>, VolumeFormat)> {
        let refuse = |kind, what: String| {
            Err(self.volume_error(kind, name, format!("backing store {}: {what}", backing.path)))
        };
        let Some(volume) = self.ctx.known.by_path(&backing.path) else {
            let what = "is no volume of an active pool; start or refresh the pool that has it";
            return refuse(ErrorKind::NotFound, what.to_owned());
        };
        if !matches!(volume.kind, VolumeKind::File | VolumeKind::Block) {
            return refuse(
                ErrorKind::InvalidArgument,
                format!("a volume of kind {} cannot be one", volume.kind.as_str()),
            );
        }
        if let Some(why) = &volume.incomplete {
            return refuse(ErrorKind::Conflict, format!("it is not whole ({why})"));
        }
        let format = match (backing.format, volume.format_source) {
            (Some(stated), FormatSource::Declared) if stated != volume.format => {
                return refuse(
                    ErrorKind::Conflict,
                    format!("its format is declared {}, not {stated}", volume.format),
                );
            }
            (Some(stated), _) => stated,
            (None, FormatSource::Declared) => volume.format,
            (None, FormatSource::Probed) if volume.format == VolumeFormat::Raw => volume.format,
            (None, FormatSource::Probed) => {
                return refuse(
                    ErrorKind::InvalidArgument,
                    format!("only its content says that it is {}; state its format", volume.format),
                );
            }
        };
        if !matches!(format, VolumeFormat::Raw | VolumeFormat::Qcow2) {
            let what = format!("backing stores of format {format} are not implemented yet");
            return refuse(ErrorKind::NotSupported, what);
        }
        Ok((volume, format))
    }

    /// Opens the base of a new volume and says that it is read.
    fn read_base(&self, name: &VolumeName, base: &Volume) -> Result<Held<File>> {
        std::fs::File::options()
            .read(true)
            .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY)
            .open(&*base.path)
            .and_then(lock::mark_read)
            .map_err(|error| {
                let what = format!("cannot open its backing store {}", base.path);
                self.volume_failed(name, &what, &error)
            })
    }

    /// Changes the capacity of a qcow2 image: in place where its tables have room, else by QEMU.
    pub(super) fn resize_qcow2(
        &self,
        volume: &Volume,
        file: &File,
        capacity: u64,
        options: ResizeOptions,
    ) -> Result<()> {
        let name = &volume.name;
        let capacity = capacity.checked_next_multiple_of(512).unwrap_or(capacity);
        if capacity < volume.capacity {
            self.check_no_overlay(volume)?;
        }
        // Never by force: two writers of the tables destroy an image.
        let held = self.take(name, file)?;
        let image = self.checked_header(volume, file)?;
        let header = &image.header;
        if header.encryption.is_some() {
            let what = "resizing encrypted images is not implemented yet";
            return Err(self.volume_error(ErrorKind::NotSupported, name, what));
        }
        if capacity == header.capacity {
            return Ok(());
        }
        if capacity < header.capacity && !options.shrink {
            return Err(self.shrinks(name));
        }
        let chain = volume.backing().map(|backing| self.chain(name, backing, 0)).transpose()?;
        let base = volume.backing().and_then(|backing| self.ctx.known.by_path(&backing.path));
        // What a longer backing file has beyond the old end must not show: QEMU hides it.
        let hides = base.is_some_and(|base| base.capacity > header.capacity);
        let size = file
            .metadata()
            .map_err(|error| self.volume_failed(name, "cannot read its size", &error))?
            .len();
        if capacity > header.capacity && !options.allocate && !hides {
            let growth =
                header.growth(capacity, size).map_err(|error| self.of_volume(name, error))?;
            if let Some(growth) = growth {
                return growth
                    .write(file)
                    .map_err(|error| self.volume_failed(name, "cannot write its header", &error));
            }
        }
        if options.allocate {
            self.check_room(name, capacity.saturating_sub(header.capacity))?;
        }
        // qemu-img takes the lock itself.
        drop(held);
        let mut args = vec!["resize".into(), "-q".into()];
        if capacity < header.capacity {
            args.push("--shrink".into());
        } else if options.allocate {
            args.push("--preallocation=falloc".into());
        }
        args.push("--".into());
        args.push(Node::of_open_file(file, VolumeFormat::Qcow2, chain).argument());
        args.push(capacity.to_string().into());
        let command = Command { program: "qemu-img", args, ..Command::default() };
        self.ctx
            .host
            .run(&command, &self.ctx.limits)
            .map(drop)
            .map_err(|error| self.of_volume(name, error))
    }

    /// The header of a qcow2 volume; `Conflict` when it names a file that was not declared.
    fn checked_header(&self, volume: &Volume, file: &File) -> Result<Box<Qcow2>> {
        let name = &volume.name;
        let size = file
            .metadata()
            .map_err(|error| self.volume_failed(name, "cannot read its size", &error))?
            .len();
        let verdict = crate::image::probe::probe_file(file, size, &mut Vec::new())
            .map_err(|error| self.volume_failed(name, "cannot read its header", &error))?;
        let conflict = |what: String| Err(self.volume_error(ErrorKind::Conflict, name, what));
        let image = match verdict {
            Verdict::Qcow2(image) => image,
            Verdict::Damaged { why, .. } => return conflict(why),
            Verdict::Raw | Verdict::NeedMore(_) => {
                return conflict("its content is no qcow2 image".to_owned());
            }
        };
        let mut attributes = image.attributes();
        if let Some(backing) = &mut attributes.backing {
            resolve_backing(backing, self.path);
        }
        if attributes.features.data_file || image.extensions.data_file.is_some() {
            return conflict("its header names a data file, which was not declared".to_owned());
        }
        match (&attributes.backing, volume.backing()) {
            (Some(found), Some(declared)) if found.path == declared.path => Ok(image),
            (None, None) => Ok(image),
            (Some(found), _) => conflict(format!(
                "its header names the backing file {}, which was not declared",
                found.path
            )),
            (None, Some(declared)) => {
                conflict(format!("its header does not name its backing file {}", declared.path))
            }
        }
    }

    /// A backing store with all below it, every one of them a known volume.
    fn chain(&self, name: &VolumeName, backing: &BackingStore, depth: usize) -> Result<Node> {
        let refuse = |what: &str| {
            let what = format!("backing store {}: {what}", backing.path);
            Err(self.volume_error(ErrorKind::Conflict, name, what))
        };
        if depth >= MAX_CHAIN {
            return refuse("the chain of backing files is too long");
        }
        let Some(volume) = self.ctx.known.by_path(&backing.path) else {
            return refuse("is no volume of an active pool, and is not opened");
        };
        if volume.incomplete.is_some() {
            return refuse("is not whole");
        }
        let format = match volume.format_source {
            FormatSource::Declared => volume.format,
            FormatSource::Probed => match backing.format {
                Some(format) => format,
                None => return refuse("its format was declared by nobody"),
            },
        };
        let below = volume.backing().filter(|_| format != VolumeFormat::Raw);
        let below = below.map(|below| self.chain(name, below, depth + 1)).transpose()?;
        Ok(Node::new(&volume.path, volume.kind, format, below))
    }

    fn of_volume(&self, name: &VolumeName, error: Error) -> Error {
        error.context(format_args!("volume {name} in pool {}", self.pool.def.name))
    }
}
