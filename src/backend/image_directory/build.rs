//! Making and removing the directory itself.

use super::super::target::{check_opened, target_path};
use super::super::{ActivePool, BuildMode, OpContext, Undo};
use super::{ImageDirectory, activation};
use crate::host::{Directory, files};
use crate::model::{Error, ErrorKind, Permissions, PoolDef, Result, VolumeKind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Mode of a pool's directory when the definition says none.
const DEFAULT_MODE: u32 = 0o711;
/// Mode of the directories above it that had to be made.
const PARENT_MODE: u32 = 0o755;

/// Builds the directory of a pool of which a build overwrites nothing: with overwrite it is refused,
/// and `why` says what a build is here.
pub(in crate::backend) fn build_only(
    pool: &PoolDef,
    mode: BuildMode,
    why: &str,
    ctx: &OpContext,
) -> Result<()> {
    if mode == BuildMode::Overwrite {
        let what = format!("pool {}: {why}; build it without overwrite", pool.name);
        return Err(Error::new(ErrorKind::NotSupported, what));
    }
    build(pool, ctx)
}

/// Makes the directory of a pool and those above it. One that exists is taken as it is, but for
/// the owner and mode that the definition states.
pub(in crate::backend) fn build(pool: &PoolDef, ctx: &OpContext) -> Result<()> {
    let path = Path::new(target_path(pool)?);
    let stated = pool.target.as_ref().and_then(|target| target.permissions.clone());
    let failed = |what: &str, error: &std::io::Error| {
        Error::io(format_args!("pool {}: cannot {what} {}", pool.name, path.display()), error)
    };
    match Directory::open(path) {
        Ok(directory) => {
            check_opened(&directory)?;
            if let Some(cow) = pool.features.cow {
                set_copy_on_write(pool, path, &directory, cow)?;
            }
            if let Some(stated) = stated {
                files::set_permissions(&directory, &stated)
                    .and_then(|()| directory.sync())
                    .map_err(|error| failed("set the permissions of", &error))?;
            }
            Ok(())
        }
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => {
            let mut permissions = stated.unwrap_or_default();
            permissions.mode.get_or_insert(DEFAULT_MODE);
            make(pool, path, &permissions, ctx)
        }
        Err(error) => Err(failed("open", &error)),
    }
}

fn make(pool: &PoolDef, path: &Path, permissions: &Permissions, ctx: &OpContext) -> Result<()> {
    let failed = |what: &str, path: &Path, error: &std::io::Error| {
        Error::io(format_args!("pool {}: cannot {what} {}", pool.name, path.display()), error)
    };
    let mut missing: Vec<&Path> = Vec::new();
    let mut existing = path;
    let mut parent = loop {
        missing.push(existing);
        existing = existing.parent().unwrap_or(Path::new("/"));
        match Directory::open(existing) {
            Ok(directory) => break directory,
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => {}
            Err(error) => return Err(failed("open", existing, &error)),
        }
    };
    while let Some(next) = missing.pop() {
        ctx.limits.check()?;
        ctx.journal.record(&Undo::RemoveDirectory(PathBuf::from(next)))?;
        let name = next.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let made = parent.make_directory(name).map_err(|error| failed("make", next, &error))?;
        if missing.is_empty() {
            check_opened(&made)?;
            // libvirt's rule: unless copy-on-write is asked for, it is switched off where it is.
            set_copy_on_write(pool, next, &made, pool.features.cow.unwrap_or(false))?;
            files::set_permissions(&made, permissions)
                .map_err(|error| failed("set the permissions of", next, &error))?;
        } else {
            let mode = Permissions { mode: Some(PARENT_MODE), ..Permissions::default() };
            files::set_permissions(&made, &mode)
                .map_err(|error| failed("set the permissions of", next, &error))?;
        }
        made.sync()
            .and_then(|()| parent.sync())
            .map_err(|error| failed("write to the storage", next, &error))?;
        parent = made;
    }
    Ok(())
}

/// Switches copy-on-write on or off; a file system that has none is an error only when it was asked
/// to be switched off.
fn set_copy_on_write(pool: &PoolDef, path: &Path, made: &Directory, on: bool) -> Result<()> {
    let path = path.display();
    let done = files::set_copy_on_write(made, on).map_err(|error| {
        let what = format_args!("pool {}: cannot set copy-on-write of {path}", pool.name);
        Error::io(what, &error)
    })?;
    if done || pool.features.cow != Some(false) {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::NotSupported,
        format!(
            "pool {}: copy-on-write cannot be switched off on the file system of {path}; leave \
             <cow> out of the definition",
            pool.name,
        ),
    ))
}

/// Removes the directory of a pool that is not active, and with `with_volumes` the volumes in it.
/// A directory that is not there is success.
pub(in crate::backend) fn delete(
    pool: &PoolDef,
    with_volumes: bool,
    ctx: &OpContext,
) -> Result<()> {
    let path = Path::new(target_path(pool)?);
    let failed = |what: &str, error: &std::io::Error| {
        Error::io(format_args!("pool {}: cannot {what} {}", pool.name, path.display()), error)
    };
    let directory = match Directory::open(path) {
        Ok(directory) => directory,
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => return Ok(()),
        Err(error) => return Err(failed("open", &error)),
    };
    check_opened(&directory)?;
    if with_volumes {
        let active = ActivePool { def: Arc::new(pool.clone()), activation: activation(&directory) };
        delete_volumes(&ImageDirectory::open(&active, ctx)?)?;
    }
    let (Some(parent), Some(name)) = (path.parent(), path.file_name().and_then(|n| n.to_str()))
    else {
        return Err(Error::new(
            ErrorKind::InvalidArgument,
            format!("pool {}: {} cannot be removed", pool.name, path.display()),
        ));
    };
    let parent = Directory::open(parent).map_err(|error| failed("open the parent of", &error))?;
    match parent.remove_directory(name) {
        Ok(()) => parent.sync().map_err(|error| failed("remove", &error)),
        Err(error) => match error.raw_os_error() {
            Some(libc::ENOENT) => Ok(()),
            Some(libc::ENOTEMPTY | libc::EEXIST) => Err(Error::new(
                ErrorKind::Busy,
                format!(
                    "pool {}: {} is not empty; {}",
                    pool.name,
                    path.display(),
                    if with_volumes {
                        "remove what is left in it by hand"
                    } else {
                        "delete its volumes first"
                    }
                ),
            )),
            Some(libc::EBUSY) => Err(Error::new(
                ErrorKind::Busy,
                format!("pool {}: {} is a mount point; unmount it", pool.name, path.display()),
            )),
            _ => Err(failed("remove", &error)),
        },
    }
}

/// Deletes all volumes, or none if one is in use.
fn delete_volumes(place: &ImageDirectory<'_>) -> Result<()> {
    place.sweep()?;
    let volumes = place.list()?.volumes;
    for volume in &volumes {
        place.check_deletable(volume)?;
    }
    let (directories, files): (Vec<_>, Vec<_>) =
        volumes.iter().partition(|volume| volume.kind == VolumeKind::Dir);
    for volume in files.into_iter().chain(directories) {
        place.ctx.limits.check()?;
        // Asked again, now that its lock is held until it is gone.
        place.delete_volume(volume, false)?;
    }
    Ok(())
}
