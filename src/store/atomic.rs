//! Files that are either as they were or as they should be: temporary file, sync, rename, sync of
//! the directory. Called by the rest of `store`.

use crate::model::{Error, ErrorKind, Result};
use std::fs::{DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// Mode of every file.
const FILE_MODE: u32 = 0o600;
/// What temporary files begin and end with; nothing else here does both.
const TEMPORARY: (&str, &str) = (".poold-", ".tmp");

/// Replaces or makes `dir/name`.
pub(super) fn write(dir: &Path, name: &str, bytes: &[u8]) -> Result<()> {
    replace(dir, name, |temporary| {
        let mut file = create(temporary)?;
        file.write_all(bytes)?;
        file.sync_all()
    })
}

/// Replaces or makes the symbolic link `dir/name`.
pub(super) fn link(dir: &Path, name: &str, target: &str) -> Result<()> {
    replace(dir, name, |temporary| std::os::unix::fs::symlink(target, temporary))
}

/// Replaces `dir/name` by what `make` makes and syncs under the temporary name it is given.
pub(super) fn replace<T>(
    dir: &Path,
    name: &str,
    make: impl FnOnce(&Path) -> io::Result<T>,
) -> Result<T> {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    let (before, after) = TEMPORARY;
    let temporary = dir.join(format!("{before}{}-{number}{after}", std::process::id()));
    let path = dir.join(name);
    let made = make(&temporary).and_then(|made| {
        std::fs::rename(&temporary, &path)?;
        File::open(dir)?.sync_all()?;
        Ok(made)
    });
    made.map_err(|error| {
        // The old file stays; what cannot be removed now is swept at the next start.
        let _ = std::fs::remove_file(&temporary);
        Error::io(format_args!("cannot write {}", path.display()), &error)
    })
}

/// Makes a new file, readable and writable by root alone whatever the umask.
pub(super) fn create(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create_new(true)
        .mode(FILE_MODE)
        .custom_flags(libc::O_NOFOLLOW)
        .open(path)?;
    file.set_permissions(Permissions::from_mode(FILE_MODE))?;
    Ok(file)
}

/// Removes `dir/name` for good; whether it was there.
pub(super) fn remove(dir: &Path, name: &str) -> Result<bool> {
    let path = dir.join(name);
    let removed = match std::fs::remove_file(&path) {
        Ok(()) => File::open(dir).and_then(|dir| dir.sync_all()).map(|()| true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    };
    removed.map_err(|e| Error::io(format_args!("cannot remove {}", path.display()), &e))
}

/// Reads a regular file of at most `limit` bytes as text.
pub(super) fn read(path: &Path, limit: u64) -> Result<String> {
    let failed = |error| Error::io(format_args!("cannot read {}", path.display()), &error);
    // Not blocking: a FIFO in its place must not stop the start.
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path);
    let file = file.map_err(failed)?;
    let refuse = |kind, why| Err(Error::new(kind, format!("{} {why}", path.display())));
    if !file.metadata().map_err(failed)?.is_file() {
        return refuse(ErrorKind::InvalidArgument, "is not a regular file");
    }
    let mut bytes = Vec::new();
    file.take(limit + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > limit {
        return refuse(ErrorKind::LimitsExceeded, "is too large");
    }
    String::from_utf8(bytes).or_else(|_| refuse(ErrorKind::InvalidArgument, "is not UTF-8 text"))
}

/// Makes a directory with exactly this mode, if it is not there.
pub(super) fn make_dir(path: &Path, mode: u32) -> Result<()> {
    let made = match DirBuilder::new().mode(mode).create(path) {
        Ok(()) => std::fs::set_permissions(path, Permissions::from_mode(mode))
            .and_then(|()| sync_parent(path)),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error),
    };
    made.map_err(|e| Error::io(format_args!("cannot make directory {}", path.display()), &e))
}

/// Makes a change in the directory of `path` durable.
pub(super) fn sync_parent(path: &Path) -> io::Result<()> {
    File::open(path.parent().unwrap_or(Path::new("/")))?.sync_all()
}

/// Names in a directory, sorted; none when it is not there. Names that are not UTF-8 are lossy.
pub(super) fn names(dir: &Path) -> Result<Vec<String>> {
    let failed = |error| Error::io(format_args!("cannot list {}", dir.display()), &error);
    let entries = match std::fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(failed(error)),
    };
    let mut names = Vec::new();
    for entry in entries {
        names.push(entry.map_err(failed)?.file_name().to_string_lossy().into_owned());
    }
    names.sort_unstable();
    Ok(names)
}

/// Removes the temporary files that a daemon which died left in a directory.
pub(super) fn sweep(dir: &Path) {
    let (before, after) = TEMPORARY;
    let left_over = |name: &String| name.starts_with(before) && name.ends_with(after);
    for path in leftovers(dir, left_over) {
        match std::fs::remove_file(&path) {
            Ok(()) => tracing::info!("removed the unfinished {}", path.display()),
            Err(error) => {
                tracing::warn!("cannot remove the unfinished {}: {error}", path.display())
            }
        }
    }
}

fn leftovers(dir: &Path, left_over: impl Fn(&String) -> bool) -> Vec<PathBuf> {
    let names = names(dir).unwrap_or_default();
    names.into_iter().filter(left_over).map(|name| dir.join(name)).collect()
}
