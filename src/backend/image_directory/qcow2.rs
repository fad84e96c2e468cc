//! qcow2 volumes: new ones, and changing their capacity.

use super::super::Preallocation;
use super::ImageDirectory;
use super::create::Made;
use crate::host::Temporary;
use crate::image::formats::driver;
use crate::image::qcow2::{DEFAULT_CLUSTER, Layout, Spec, Version};
use crate::model::{ErrorKind, Result, Volume, VolumeDef, VolumeFormat};
use std::fs::File;

impl ImageDirectory<'_> {
    pub(super) fn make_qcow2(
        &self,
        def: &VolumeDef,
        how: Preallocation,
    ) -> Result<(Temporary<'_>, Made)> {
        let name = &def.name;
        let base =
            def.backing.as_ref().map(|backing| self.images().base(name, backing)).transpose()?;
        let backing = base.as_ref().map(|base| base.store.clone());
        let capacity = match (def.capacity, &base) {
            (None | Some(0), Some(base)) => base.capacity,
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
                .map(|b| (b.path.clone(), driver(b.format.unwrap_or(VolumeFormat::Raw)))),
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
        Ok((new, Made { backing, ..Made::of(VolumeFormat::Qcow2) }))
    }

    /// Makes a qcow2 image larger in place, where its tables have room; else false.
    pub(super) fn grow_qcow2(&self, volume: &Volume, file: &File, capacity: u64) -> Result<bool> {
        let name = &volume.name;
        let image = self.images().checked_header(volume, file)?;
        let header = &image.header;
        let base = volume.backing().and_then(|backing| self.ctx.known.by_path(&backing.path));
        // What a longer backing file has beyond the old end must not show: QEMU hides it.
        let hides = base.is_some_and(|base| base.capacity > header.capacity);
        if capacity <= header.capacity || header.encryption.is_some() || hides {
            return Ok(false);
        }
        let size = file
            .metadata()
            .map_err(|error| self.volume_failed(name, "cannot read its size", &error))?
            .len();
        let growth = header.growth(capacity, size).map_err(|error| self.of_volume(name, error))?;
        let Some(growth) = growth else { return Ok(false) };
        growth
            .write(file)
            .map(|()| true)
            .map_err(|error| self.volume_failed(name, "cannot write its header", &error))
    }
}
