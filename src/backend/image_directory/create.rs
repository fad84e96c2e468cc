//! New volumes: written without a name, declared, then published whole.

use super::super::Preallocation;
use super::ImageDirectory;
use crate::host::{HIDDEN_PREFIX, Temporary, files};
use crate::model::{
    BackingStore, Declaration, Encryption, ErrorKind, Permissions, Result, Volume, VolumeDef,
    VolumeFormat, VolumeKind, VolumeName, format_size,
};
use std::fs::File;
use std::os::fd::AsFd;

/// Mode of a new file when the definition says none.
const DEFAULT_MODE: u32 = 0o600;
/// Mode of a new directory when the definition says none.
const DEFAULT_DIRECTORY_MODE: u32 = 0o711;
/// How much is allocated or written between looks at the deadline.
const STEP: u64 = 256 << 20;
const WRITE_STEP: u64 = 16 << 20;

/// What a new volume is, to be declared.
pub(super) struct Made {
    pub(super) format: VolumeFormat,
    pub(super) backing: Option<BackingStore>,
    pub(super) encryption: Option<Encryption>,
}

impl Made {
    /// One that is neither a difference nor encrypted.
    pub(super) fn of(format: VolumeFormat) -> Self {
        Self { format, backing: None, encryption: None }
    }
}

impl ImageDirectory<'_> {
    /// Creates a volume, whole or not at all, and reads it.
    pub(crate) fn create(&self, def: &VolumeDef, preallocation: Preallocation) -> Result<Volume> {
        let name = &def.name;
        let format = match (def.format, def.kind) {
            (Some(format), _) => format,
            (None, VolumeKind::Dir | VolumeKind::NetDir) => VolumeFormat::Dir,
            (None, VolumeKind::Ploop) => VolumeFormat::Ploop,
            (None, _) => VolumeFormat::Raw,
        };
        self.check_new(def, format)?;
        if (format, &def.encryption) == (VolumeFormat::Dir, &None) {
            self.create_directory(def)?;
        } else if self.is_ploop(def, format) {
            self.create_ploop(def, preallocation)?;
        } else {
            let (new, made) = self.make(def, format, preallocation)?;
            self.finish(def, new, made)?;
        }
        self.read_new(name)
    }

    /// The content of a new file, which has no name yet.
    pub(super) fn make(
        &self,
        def: &VolumeDef,
        format: VolumeFormat,
        preallocation: Preallocation,
    ) -> Result<(Temporary<'_>, Made)> {
        match (format, &def.encryption) {
            (VolumeFormat::Raw, None) => self.make_raw(def, preallocation),
            (VolumeFormat::Qcow2, None) => self.make_qcow2(def, preallocation),
            (format, _) => self.make_by_qemu(def, format, preallocation),
        }
    }

    /// Refuses a volume that cannot be made, whatever is in it.
    pub(super) fn check_new(&self, def: &VolumeDef, format: VolumeFormat) -> Result<()> {
        let name = &def.name;
        if name.as_str().starts_with(HIDDEN_PREFIX) {
            let what = format!("names that begin with {HIDDEN_PREFIX} are files in the making");
            return Err(self.volume_error(ErrorKind::InvalidArgument, name, what));
        }
        let found = self
            .directory
            .find(name.as_str())
            .map_err(|error| self.volume_failed(name, "cannot look for it", &error))?;
        if found.is_some() {
            return Err(self.exists(name));
        }
        let set_id = def.permissions.as_ref().is_some_and(Permissions::has_set_id);
        if format != VolumeFormat::Dir && set_id {
            let what = "its mode must not have set-user-ID or set-group-ID: a volume is no program";
            return Err(self.volume_error(ErrorKind::InvalidArgument, name, what));
        }
        Ok(())
    }

    /// The volume that was just made.
    pub(super) fn read_new(&self, name: &VolumeName) -> Result<Volume> {
        self.volume(name)?.ok_or_else(|| {
            self.volume_error(ErrorKind::Inaccessible, name, "it vanished as soon as it was made")
        })
    }

    fn make_raw(
        &self,
        def: &VolumeDef,
        preallocation: Preallocation,
    ) -> Result<(Temporary<'_>, Made)> {
        let name = &def.name;
        let invalid = |what: &str| Err(self.volume_error(ErrorKind::InvalidArgument, name, what));
        let Some(capacity) = def.capacity else {
            return invalid("a raw volume needs a capacity");
        };
        if def.backing.is_some() {
            return invalid("a raw volume cannot have a backing store; use qcow2");
        }
        if capacity > i64::MAX as u64 {
            return invalid("no file can be as large as its capacity");
        }
        let allocation = match preallocation {
            Preallocation::None => def.allocation.unwrap_or(0).min(capacity),
            Preallocation::Metadata => {
                return invalid("a raw volume has no metadata to preallocate");
            }
            Preallocation::Falloc | Preallocation::Full => capacity,
        };
        let new = self.temporary(def, allocation)?;
        new.file()
            .set_len(capacity)
            .map_err(|error| self.volume_failed(name, "cannot make it so large", &error))?;
        self.ctx.progress.set_total(allocation);
        if preallocation == Preallocation::Full {
            self.write_range(name, new.file(), 0, allocation)?;
        } else {
            self.allocate_range(name, new.file(), 0, allocation)?;
        }
        Ok((new, Made::of(VolumeFormat::Raw)))
    }

    fn create_directory(&self, def: &VolumeDef) -> Result<()> {
        let name = &def.name;
        if def.kind != self.info().directory_kind()
            && def.capacity.is_some_and(|capacity| capacity > 0)
        {
            return Err(self.volume_error(
                ErrorKind::InvalidArgument,
                name,
                "a directory has no capacity of its own; leave it out or 0",
            ));
        }
        let failed = |what: &str, error: &std::io::Error| match error.raw_os_error() {
            Some(libc::EEXIST) => self.exists(name),
            _ => self.volume_failed(name, what, error),
        };
        let new = self
            .directory
            .create_temporary_directory()
            .map_err(|error| failed("cannot make the directory", &error))?;
        self.set_permissions(def, new.made(), DEFAULT_DIRECTORY_MODE)?;
        new.made().sync().map_err(|error| failed("cannot write it to the storage", &error))?;
        new.publish(name.as_str()).map_err(|error| failed("cannot give it its name", &error))
    }

    /// A file without name, after a look at the room for `allocation` bytes.
    pub(super) fn temporary(&self, def: &VolumeDef, allocation: u64) -> Result<Temporary<'_>> {
        let name = &def.name;
        self.check_room(name, allocation)?;
        let new = self
            .directory
            .create_temporary()
            .map_err(|error| self.volume_failed(name, "cannot create its file", &error))?;
        if def.nocow {
            let switched = files::set_copy_on_write(new.file(), false)
                .map_err(|error| self.volume_failed(name, "cannot set nocow", &error))?;
            if !switched {
                return Err(self.volume_error(
                    ErrorKind::NotSupported,
                    name,
                    "copy-on-write cannot be switched off on this file system; leave nocow out",
                ));
            }
        }
        Ok(new)
    }

    /// Refuses at once what cannot fit.
    pub(super) fn check_room(&self, name: &VolumeName, bytes: u64) -> Result<()> {
        let available = self.usage()?.available;
        if bytes <= available {
            return Ok(());
        }
        Err(self.volume_error(
            ErrorKind::NoSpace,
            name,
            format!(
                "{} are to be allocated, {} are free; make room or allocate less",
                format_size(bytes),
                format_size(available)
            ),
        ))
    }

    /// Allocates a range, in steps; writes zeros where the file system cannot allocate.
    pub(super) fn allocate_range(
        &self,
        name: &VolumeName,
        file: &File,
        from: u64,
        to: u64,
    ) -> Result<()> {
        let mut at = from;
        while at < to {
            self.ctx.limits.check()?;
            let step = STEP.min(to - at);
            let allocated = files::allocate(file, at, step)
                .map_err(|error| self.volume_failed(name, "cannot allocate it", &error))?;
            if !allocated {
                return self.write_range(name, file, at, to);
            }
            self.ctx.progress.add(step);
            at += step;
        }
        Ok(())
    }

    /// Writes zeros over a range, in steps.
    pub(super) fn write_range(
        &self,
        name: &VolumeName,
        file: &File,
        from: u64,
        to: u64,
    ) -> Result<()> {
        let mut at = from;
        while at < to {
            self.ctx.limits.check()?;
            let step = WRITE_STEP.min(to - at);
            files::write_zeros(file, at, step)
                .map_err(|error| self.volume_failed(name, "cannot write it", &error))?;
            self.ctx.progress.add(step);
            at += step;
        }
        Ok(())
    }

    /// Owner and mode, synced; declared; then its name.
    pub(super) fn finish(&self, def: &VolumeDef, new: Temporary<'_>, made: Made) -> Result<()> {
        let name = &def.name;
        let pool = self.pool.def.uuid;
        self.set_permissions(def, new.file(), DEFAULT_MODE)?;
        new.file()
            .sync_all()
            .map_err(|error| self.volume_failed(name, "cannot write it to the storage", &error))?;
        let identity = files::identity(new.file())
            .map_err(|error| self.volume_failed(name, "cannot tell its identity", &error))?;
        self.ctx.limits.check()?;
        let declaration = Declaration {
            identity: Some(identity),
            key: None,
            format: made.format,
            probed: false,
            backing: made.backing,
            encryption: made.encryption,
            incomplete: None,
        };
        self.ctx.records.declare(pool, name, &declaration)?;
        new.publish(name.as_str()).map_err(|error| {
            // It names a file that is gone; the first error is what matters.
            let _ = self.ctx.records.forget(pool, name);
            match error.raw_os_error() {
                Some(libc::EEXIST) => self.exists(name),
                _ => self.volume_failed(name, "cannot give it its name", &error),
            }
        })
    }

    /// Sets what the definition says, else what the pool says, else `mode`.
    pub(super) fn set_permissions(
        &self,
        def: &VolumeDef,
        file: impl AsFd,
        mode: u32,
    ) -> Result<()> {
        let name = &def.name;
        let mut stated = def.permissions.clone().unwrap_or_default();
        if let Some(of_pool) = &self.pool.def.volume_permissions {
            // The pool's mode is one of files: in a directory with it, nobody could look for a name.
            let is_directory = mode == DEFAULT_DIRECTORY_MODE;
            stated.mode = stated.mode.or(is_directory.then_some(mode));
            stated = stated.or(of_pool);
        }
        stated.mode.get_or_insert(mode);
        let label = stated.label.take();
        files::set_permissions(&file, &stated).map_err(|error| {
            let what = match (stated.owner, stated.group) {
                (None, None) => format!("cannot set its mode 0{:o}", stated.mode.unwrap_or(mode)),
                _ => "cannot give it to its owner and group".to_owned(),
            };
            self.volume_failed(name, &what, &error)
        })?;
        let Some(label) = label else { return Ok(()) };
        let labelled = Permissions { label: Some(label.clone()), ..Permissions::default() };
        files::set_permissions(&file, &labelled).map_err(|error| match error.raw_os_error() {
            Some(libc::EOPNOTSUPP) => {
                let what = format!(
                    "its file system keeps no SELinux labels, so {label} cannot be set; leave the label out"
                );
                self.volume_error(ErrorKind::NotSupported, name, what)
            }
            Some(libc::EINVAL) => {
                let what = format!("the SELinux policy has no label {label}");
                self.volume_error(ErrorKind::InvalidArgument, name, what)
            }
            _ => self.volume_failed(name, &format!("cannot set its SELinux label {label}"), &error),
        })
    }

    pub(super) fn exists(&self, name: &VolumeName) -> crate::model::Error {
        self.volume_error(ErrorKind::Exists, name, "the name is taken; choose another")
    }
}
