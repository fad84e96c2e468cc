//! Mounting what a pool's volumes are on, and unmounting it: shared by the types that do.
//!
//! Programs do the work (mount(8), umount(8) and their helpers), as children that may hang without
//! us; the mount table says what came of it.

mod options;
mod unmount;

use super::access::act_for;
use super::image_directory::{self, activation};
use super::target::{open_target, target_path};
use super::{Activation, ActivePool, Mounted, OpContext, Undo};
use crate::host::{Command, Directory, Lifetime, Mount, MountTable};
use crate::model::{Error, ErrorKind, PoolDef, Result};
pub(super) use options::check_options;
use std::path::{Path, PathBuf};
pub(super) use unmount::{take_away, unmount, unmount_left_over};

/// What the types that mount need of the host.
pub(super) const TOOLS: [&str; 2] = ["mount", "umount"];

/// Statuses of mount(8) that say why by its message (mount(8), "EXIT STATUS").
const FAILURES: &[i32] = &[1, 2, 4, 8, 16, 32, 64, 126, 127];

/// What is to be mounted on a pool's target.
pub(super) struct Plan<'a> {
    /// The pool.
    pub pool: &'a PoolDef,
    /// What is mounted, as mount(8) takes it: a device, `HOST:DIR`, `//HOST/SHARE`.
    pub source: &'a str,
    /// Type of the file system.
    pub fs_type: &'a str,
    /// Options of the type, before those of the definition.
    pub options: &'a [String],
    /// [`Lifetime::Scope`] for file systems that a process serves.
    pub lifetime: Lifetime,
    /// Whether a mount found at the target is of this very source.
    pub is_ours: &'a dyn Fn(&Mount) -> bool,
    /// What refusals of its own mean: by a part of what mount(8) says.
    pub refusals: &'a [(&'a str, ErrorKind)],
    /// What mounts it at a place, where mount(8) cannot. It takes no options: those that every mount has are
    /// set afterwards.
    pub by: Option<&'a dyn Fn(&Path) -> Command>,
}

impl Plan<'_> {
    /// Mounts it, or adopts it when it is mounted at the target already. The directory is made if
    /// it is not there. Something else that is mounted at the target is `Conflict`.
    pub(super) fn start(&self, ctx: &OpContext) -> Result<Activation> {
        let pool = self.pool;
        let options = options::list(pool, self.options)?;
        let directory = match self.open() {
            Ok(Some(directory)) => directory,
            Ok(None) => {
                image_directory::build(pool, ctx)?;
                self.open()?.ok_or_else(|| self.gone())?
            }
            // What is in the way says more than that it cannot be opened.
            Err(error) => return Err(self.in_the_way()?.unwrap_or(error)),
        };
        let mount_point = canonical(pool, &directory)?;
        if let Some(there) = MountTable::read()?.mounted_at(&mount_point) {
            if !(self.is_ours)(there) {
                return Err(self.taken(there));
            }
            let found = activation(&directory);
            return Ok(Activation { adopted: true, mount: Some(mounted(there)), ..found });
        }
        self.warn_of_what_it_hides(&directory, ctx)?;
        // It would hold the directory below the mount.
        drop(directory);
        ctx.journal.record(&Undo::Unmount {
            mount_point: mount_point.clone(),
            source: self.source.to_owned(),
        })?;
        self.mount(&mount_point, &options, ctx)?;
        self.look_at(mount_point)
    }

    /// The conflict with something else that is mounted at the target, if it is.
    fn in_the_way(&self) -> Result<Option<Error>> {
        let table = MountTable::read()?;
        let there = table.mounted_at(Path::new(target_path(self.pool)?));
        Ok(there.filter(|there| !(self.is_ours)(there)).map(|there| self.taken(there)))
    }

    fn open(&self) -> Result<Option<Directory>> {
        let _acting = act_for(self.pool)?;
        open_target(self.pool)
    }

    fn mount(&self, mount_point: &Path, options: &str, ctx: &OpContext) -> Result<()> {
        let command = Command {
            program: "mount",
            args: vec![
                "-o".into(),
                options.into(),
                "-t".into(),
                self.fs_type.into(),
                "--".into(),
                self.source.into(),
                mount_point.into(),
            ],
            accept: FAILURES,
            lifetime: self.lifetime,
            ..Command::default()
        };
        let Some(by) = self.by else { return self.run(&command, ctx) };
        let program = by(mount_point);
        self.run(&Command { accept: FAILURES, ..program.clone() }, ctx)?;
        if MountTable::read()?.mounted_at(mount_point).is_none() {
            let (pool, source, program) = (&self.pool.name, self.source, program.program);
            let what = format!(
                "pool {pool}: cannot mount {source}: {program} says it is mounted, and nothing is"
            );
            return Err(Error::new(ErrorKind::Inaccessible, what));
        }
        let options = format!("remount,bind,{options}");
        let args = vec!["-o".into(), options.into(), "--".into(), mount_point.into()];
        let command = Command { program: "mount", args, accept: FAILURES, ..Command::default() };
        self.run(&command, ctx)
    }

    fn run(&self, command: &Command, ctx: &OpContext) -> Result<()> {
        let output = ctx.host.run(command, &ctx.limits).map_err(|error| self.ours(error))?;
        match output.status {
            0 => Ok(()),
            status => Err(self.failed(command.program, status, &output.stderr)),
        }
    }

    /// Makes sure that what is mounted now is what was meant.
    fn look_at(&self, mount_point: PathBuf) -> Result<Activation> {
        let directory = self.open()?.ok_or_else(|| self.gone())?;
        let table = MountTable::read()?;
        match table.mounted_at(&mount_point) {
            Some(there) if !(self.is_ours)(there) => Err(self.taken(there)),
            Some(there) if canonical(self.pool, &directory)? == mount_point => {
                Ok(Activation { mount: Some(mounted(there)), ..activation(&directory) })
            }
            _ => Err(self.gone()),
        }
    }

    /// What a mount covers is still there, and whoever misses it should be told.
    fn warn_of_what_it_hides(&self, directory: &Directory, ctx: &OpContext) -> Result<()> {
        if is_empty(directory).map_err(|error| {
            let what = format_args!("pool {}: cannot list its target", self.pool.name);
            Error::io(what, &error)
        })? {
            return Ok(());
        }
        let path = target_path(self.pool)?;
        let warning = format!("{path} was not empty: what is in it is hidden by the mount");
        tracing::warn!(POOLD_POOL = %self.pool.name, POOLD_POOL_UUID = %self.pool.uuid, "pool {}: {warning}", self.pool.name);
        ctx.findings.say("warning", warning.as_str());
        Ok(())
    }

    fn ours(&self, error: Error) -> Error {
        error.context(format_args!("pool {}", self.pool.name))
    }

    fn gone(&self) -> Error {
        let pool = &self.pool.name;
        let message =
            format!("pool {pool}: its target was moved or unmounted while it was mounted");
        Error::new(ErrorKind::Inaccessible, message)
    }

    fn taken(&self, there: &Mount) -> Error {
        Error::new(
            ErrorKind::Conflict,
            format!(
                "pool {}: {} ({}) is mounted at its target {}; unmount that, or give the pool another target",
                self.pool.name,
                there.source.display(),
                there.fs_type,
                there.target.display(),
            ),
        )
    }

    /// What mount(8), or what mounts in its place, complains of, as an error that programs can tell.
    fn failed(&self, program: &str, status: i32, said: &[u8]) -> Error {
        let why = complaint(said, program);
        let known = self.refusals.iter().find(|(part, _)| why.contains(part));
        let (kind, why) = if is_not_in_the_kernel(&why) {
            let fs_type = self.fs_type;
            let why = format!(
                "this host's kernel has no file system {fs_type}; load or install its module"
            );
            (ErrorKind::NotSupported, why)
        } else if let Some((_, kind)) = known {
            (*kind, why)
        } else if why.contains("already mounted") || why.contains("busy") {
            (ErrorKind::Busy, why)
        } else if why.contains("does not exist") || why.contains("Input/output error") {
            (ErrorKind::Inaccessible, why)
        } else {
            (ErrorKind::ToolFailed, format!("{program} failed with exit status {status}: {why}"))
        };
        let source = self.source;
        Error::new(kind, format!("pool {}: cannot mount {source}: {why}", self.pool.name))
    }
}

/// Whether it complains that the kernel lacks the file system: mount(8), mount.nfs(8) or mount.cifs(8), in this order.
fn is_not_in_the_kernel(why: &str) -> bool {
    why.contains("unknown filesystem type")
        || why.ends_with("No such device")
        || why.contains("filesystem not supported by the system")
}

/// What a program complains of on the line that matters, without its name and mount(8)'s advice. What it
/// starts has its say before it, as systemctl does the first time that mount.nfs(8) has statd started.
fn complaint(said: &[u8], program: &str) -> String {
    let text = String::from_utf8_lossy(said);
    let lines = || text.lines().map(str::trim).filter(|line| !line.is_empty());
    let own = lines().find(|line| line.starts_with(program));
    let line = own.or_else(|| lines().find(|line| !line.starts_with("dmesg(1)")));
    let line = line.unwrap_or("it does not say why");
    let line = line.strip_prefix(&format!("{program}: ")).unwrap_or(line);
    line.chars().filter(|c| !c.is_control()).take(400).collect()
}

fn mounted(mount: &Mount) -> Mounted {
    Mounted {
        point: mount.target.clone(),
        source: mount.source.to_string_lossy().into_owned(),
        device: mount.device,
    }
}

/// The mount of an active pool, if it is still there.
pub(super) fn mount_of(active: &ActivePool) -> Result<Option<Mount>> {
    let table = MountTable::read()?;
    let Some(mounted) = &active.activation.mount else { return Ok(None) };
    let is_it = |mount: &&Mount| {
        mount.target == mounted.point
            && (mount.device == mounted.device || *mount.source == *mounted.source)
    };
    let started = table.iter().find(|mount| Some(mount.id) == active.activation.mount_id);
    // Unmounted and mounted again behind our back, it has another number; and the number, another.
    let found = started.filter(is_it).or_else(|| table.mounted_at(&mounted.point).filter(is_it));
    Ok(found.cloned())
}

/// Refuses (`Inaccessible`) a pool that is not mounted any more; `source` is what is mounted.
pub(super) fn check_mounted(
    active: &ActivePool,
    source: impl FnOnce() -> Result<String>,
) -> Result<()> {
    if mount_of(active)?.is_some() {
        return Ok(());
    }
    let def = &active.def;
    Err(Error::new(
        ErrorKind::Inaccessible,
        format!(
            "pool {}: {} is not mounted at {} any more; mount it again, or stop and start the pool",
            def.name,
            source()?,
            target_path(def)?
        ),
    ))
}

/// Removes the target of a pool that is not active, and leaves alone what is on its source.
pub(super) fn delete_target(
    pool: &PoolDef,
    source: &str,
    with_volumes: bool,
    ctx: &OpContext,
) -> Result<()> {
    if with_volumes {
        return Err(Error::new(
            ErrorKind::NotSupported,
            format!(
                "pool {}: deleting it removes its target and leaves {source} alone; delete its volumes while it is active",
                pool.name
            ),
        ));
    }
    image_directory::delete(pool, false, ctx)?;
    ctx.findings.say("kept", format!("all on {source}").as_str());
    Ok(())
}

/// The mount of an active pool, if it can only be read and nobody asked for that.
pub(super) fn unasked_read_only(active: &ActivePool) -> Result<Option<Mount>> {
    let asked = active.def.mount_options.iter().any(|option| option == "ro");
    Ok(mount_of(active)?.filter(|mount| mount.is_read_only() && !asked))
}

/// Whether the directory that was found is on what an active pool's start mounted, mounted anew: the
/// kernel numbers a network file system's device by the mount, so that the number tells nothing.
pub(super) fn is_mounted_again(active: &ActivePool, found: &Activation) -> Result<bool> {
    let started = &active.activation;
    let Some(mounted) = started.mount.as_ref().filter(|mounted| mounted.device.0 == 0) else {
        return Ok(false);
    };
    let inode = |activation: &Activation| activation.directory.map(|(_, inode)| inode);
    if inode(started) != inode(found) || started.born != found.born {
        return Ok(false);
    }
    let table = MountTable::read()?;
    let there = table.mounted_at(&mounted.point);
    Ok(there
        .is_some_and(|there| Some(there.id) == found.mount_id && *there.source == *mounted.source))
}

fn canonical(pool: &PoolDef, directory: &Directory) -> Result<PathBuf> {
    directory.canonical_path().map_err(|error| {
        Error::io(format_args!("pool {}: cannot tell where its target is", pool.name), &error)
    })
}

fn is_empty(directory: &Directory) -> std::io::Result<bool> {
    /// The end of the listing, or an entry.
    enum Found {
        Entry,
        Io(std::io::Error),
    }
    impl From<std::io::Error> for Found {
        fn from(error: std::io::Error) -> Self {
            Self::Io(error)
        }
    }
    match directory.for_each_entry(|_, _| Err(Found::Entry)) {
        Ok(()) => Ok(true),
        Err(Found::Entry) => Ok(false),
        Err(Found::Io(error)) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::complaint;

    #[test]
    fn what_matters_is_what_the_program_itself_complains_of() {
        for (said, program, why) in [
            (
                "mount: /srv/a: unknown filesystem type 'x'.\n",
                "mount",
                "/srv/a: unknown filesystem type 'x'.",
            ),
            (
                "Created symlink /run/a \u{2192} /lib/a.\nmount.nfs: Connection refused\n",
                "mount",
                "mount.nfs: Connection refused",
            ),
            (
                "mount error(13): Permission denied\nRefer to\n",
                "mount",
                "mount error(13): Permission denied",
            ),
            ("\n  dmesg(1) may say more.\nMount failed.\n", "mount", "Mount failed."),
            ("umount: /srv/a: target is busy.", "umount", "/srv/a: target is busy."),
            ("", "mount", "it does not say why"),
        ] {
            assert_eq!(complaint(said.as_bytes(), program), why);
        }
    }
}
