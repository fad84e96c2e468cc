//! Unmounting: a file system in use is left alone, unless a stop is forced.

use super::{complaint, mount_of};
use crate::backend::{ActivePool, OpContext, StopOptions};
use crate::host::{Command, Host, Limits, Mount, MountTable, holders, wait_for_abandoned};
use crate::model::{Error, ErrorKind, Result};
use std::ffi::OsStr;
use std::path::Path;
use std::time::Duration;

/// How often, and how far apart, an unmount is tried: our own readers, and others', come and go.
const TRIES: u32 = 10;
const PAUSE: Duration = Duration::from_millis(100);
/// How long an unmount after a crash may take.
const LEFT_OVER: Duration = Duration::from_secs(10);
/// Statuses of umount(8) that say why by its message.
const FAILURES: &[i32] = &[1, 2, 4, 8, 16, 32, 64];

/// Unmounts what a pool's start mounted; what it adopted only with `release`. Not mounted any more
/// is success. In use is `Busy`, which names by whom; with `force` it is taken away from them.
pub(in crate::backend) fn unmount(
    active: &ActivePool,
    options: StopOptions,
    ctx: &OpContext,
) -> Result<()> {
    if active.activation.adopted && !options.release {
        return Ok(());
    }
    let pool = &active.def.name;
    let ours = |error: Error| error.context(format_args!("pool {pool}"));
    let Some(mount) = mount_of(active)? else { return Ok(()) };
    let Mount { id, target, .. } = &mount;
    let covered = |table: &MountTable| {
        table.iter().find(|other| other.parent == *id && other.target == *target).cloned()
    };
    if let Some(cover) = covered(&MountTable::read()?) {
        return Err(Error::new(
            ErrorKind::Busy,
            format!(
                "pool {pool}: {} ({}) is mounted over it at {}; unmount that first",
                cover.source.display(),
                cover.fs_type,
                target.display()
            ),
        ));
    }
    let gently = match options.force {
        // A third of the time for the proper way.
        true => ctx.limits.part(3),
        false => ctx.limits.clone(),
    };
    let tried = gentle(ctx.host.as_ref(), target, *id, &gently);
    let done = match tried {
        Err(error) if options.force && error.kind() != ErrorKind::Cancelled => {
            tracing::warn!(POOLD_POOL = %pool, POOLD_POOL_UUID = %active.def.uuid, "pool {pool}: {} is taken away from its users: {error}", target.display());
            lazy(ctx.host.as_ref(), target, *id, &ctx.limits).map_err(ours)
        }
        Err(error) if error.kind() == ErrorKind::Busy => {
            let user = holders::mount_user(target);
            let user = user.unwrap_or_else(|| "the kernel or a program unknown".to_owned());
            Err(Error::new(
                ErrorKind::Busy,
                format!(
                    "pool {pool}: {} is in use by {user}; end that, or stop the pool with force",
                    target.display()
                ),
            ))
        }
        tried => tried.map_err(ours),
    };
    if done.is_ok() {
        // What is out of sight may be written out by the kernel still, when no program that was to unmount it can
        // even be killed: that is waited for, as who mounts it again would have to.
        wait_for_abandoned(target.as_os_str());
    }
    done
}

/// Unmounts what a start that died had mounted, if it had.
pub(in crate::backend) fn unmount_left_over(
    mount_point: &Path,
    source: &str,
    host: &dyn Host,
) -> Result<()> {
    let table = MountTable::read()?;
    let Some(mount) = table.mounted_at(mount_point).filter(|mount| mount.is_of(OsStr::new(source)))
    else {
        return Ok(());
    };
    gentle(host, mount_point, mount.id, &Limits::within(LEFT_OVER))
}

/// Takes away a mount whose process has ended: nobody who has something open in it can use that.
pub(in crate::backend) fn take_away(mount: &Mount, ctx: &OpContext) -> Result<()> {
    lazy(ctx.host.as_ref(), &mount.target, mount.id, &ctx.limits)
}

/// Unmounts what nobody uses; one that is used is `Busy`.
fn gentle(host: &dyn Host, target: &Path, id: u64, limits: &Limits) -> Result<()> {
    let mut tries = 0;
    loop {
        match umount(host, &[], target, id, limits) {
            Err(error) if error.kind() == ErrorKind::Busy && tries < TRIES => {
                tries += 1;
                std::thread::sleep(PAUSE);
                limits.check()?;
            }
            done => return done,
        }
    }
}

/// Takes a file system out of sight; those who have it open keep it until they are done, but for
/// what waits for a server.
fn lazy(host: &dyn Host, target: &Path, id: u64, limits: &Limits) -> Result<()> {
    // What waits for a server that does not answer fails; no helper of the type talks to it.
    umount(host, &["-i", "-f", "-l"], target, id, limits)
}

/// Runs umount(8).
fn umount(host: &dyn Host, how: &[&str], target: &Path, id: u64, limits: &Limits) -> Result<()> {
    // Without a look at the path, which may never return.
    let mut args: Vec<_> = ["-c"].iter().chain(how).map(Into::into).collect();
    args.extend(["--".into(), target.into()]);
    let command = Command { program: "umount", args, accept: FAILURES, ..Command::default() };
    let done = host.run(&command, limits).and_then(|output| match output.status {
        0 => Ok(()),
        status => {
            let why = complaint(&output.stderr, "umount");
            let kind = match why.contains("busy") {
                true => ErrorKind::Busy,
                false => ErrorKind::ToolFailed,
            };
            Err(Error::new(kind, format!("umount failed with exit status {status}: {why}")))
        }
    });
    // Whatever it said, or did not live to say: the table knows.
    match MountTable::read() {
        Ok(table) if !table.iter().any(|mount| mount.id == id) => Ok(()),
        _ => done,
    }
}
