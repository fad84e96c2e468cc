//! Making and destroying the table of a disk.

use super::{Content, Role, drive, of_pool, table};
use crate::backend::device::check_buildable;
use crate::backend::{Activation, BuildMode, OpContext};
use crate::host::{Command, blank, files, tool_missing};
use crate::model::{Error, ErrorKind, PoolDef, Result};
use std::ffi::OsString;

/// What is overwritten at each end of a disk that is deleted: all tables of partitions lie there.
const ENDS: u64 = 1 << 20;

fn run(program: &'static str, args: Vec<OsString>, ctx: &OpContext) -> Result<()> {
    let command = Command { program, args, ..Command::default() };
    ctx.host.run(&command, &ctx.limits).map(drop)
}

/// Makes the table.
pub(super) fn build(pool: &PoolDef, mode: BuildMode, ctx: &OpContext) -> Result<()> {
    let content = Content::of(pool)?;
    let drive = drive(pool, ctx)?;
    let ours = |error| of_pool(pool, error);
    let program = match content {
        Content::Table(_) => "parted",
        Content::PhysicalVolume => "lvm",
    };
    // Before what is there is wiped away.
    if ctx.host.find_tool(program).is_none() {
        return Err(ours(tool_missing(program)));
    }
    check_buildable(pool, &drive.path, mode, ctx)?;
    let node: OsString = drive.device.node().into();
    if mode == BuildMode::Overwrite {
        // parted leaves what is no table: the disk would seem to be both.
        let args = ["--all", "--quiet", "--"].map(Into::into).into_iter().chain([node.clone()]);
        run("wipefs", args.collect(), ctx).map_err(ours)?;
    }
    match content {
        Content::Table(label) => {
            let before = ["--script", "--"].map(Into::into).into_iter().chain([node]);
            let args = before.chain(["mklabel", label.parted()].map(Into::into)).collect();
            run(program, args, ctx).map_err(ours)
        }
        Content::PhysicalVolume => {
            let before: [OsString; 3] = ["pvcreate".into(), "--devices".into(), node.clone()];
            let args = before.into_iter().chain(["--yes".into(), "--".into(), node]).collect();
            run(program, args, ctx).map_err(ours)
        }
    }
}

/// Finds the table, and has the kernel know its partitions: it does not read all kinds of table.
pub(super) fn start(pool: &PoolDef, ctx: &OpContext) -> Result<Activation> {
    let drive = drive(pool, ctx)?;
    let label = match Content::of(pool)? {
        Content::Table(label) => label,
        Content::PhysicalVolume => {
            let found = blank::content(ctx.host.as_ref(), &drive.path, &ctx.limits);
            let found = found.map_err(|error| of_pool(pool, error))?;
            return match found.as_deref() {
                Some("has an LVM physical volume") => Ok(Activation::default()),
                found => Err(Error::new(
                    ErrorKind::NotBuilt,
                    format!(
                        "pool {}: {} is no physical volume{}; build the pool first",
                        pool.name,
                        drive.path.display(),
                        found.map(|found| format!(" ({found})")).unwrap_or_default()
                    ),
                )),
            };
        }
    };
    let locked = drive.lock().map_err(|error| of_pool(pool, error))?;
    let table = table(pool, &drive, label)?;
    locked.agree(&table).map_err(|error| of_pool(pool, error))?;
    Ok(Activation { source_id: table.id(), ..Activation::default() })
}

/// Destroys the table, or the physical volume.
pub(super) fn delete(pool: &PoolDef, with_volumes: bool, ctx: &OpContext) -> Result<()> {
    let ours = |error| of_pool(pool, error);
    let drive = drive(pool, ctx)?;
    blank::check_unused(&drive.path, &ctx.limits).map_err(ours)?;
    let label = match Content::of(pool)? {
        Content::Table(label) => label,
        Content::PhysicalVolume => {
            let node: OsString = drive.device.node().into();
            let before: [OsString; 3] = ["pvremove".into(), "--devices".into(), node.clone()];
            // It refuses one that is in a volume group.
            let args = before.into_iter().chain(["--yes".into(), "--".into(), node]).collect();
            return run("lvm", args, ctx).map_err(ours);
        }
    };
    let locked = drive.lock().map_err(ours)?;
    let table = match table(pool, &drive, label) {
        Ok(table) => table,
        Err(error) if error.kind() == ErrorKind::NotBuilt => return Ok(()),
        Err(error) => return Err(error),
    };
    let data: Vec<_> = table.partitions.iter().filter(|one| one.role != Role::Own).collect();
    if !data.is_empty() && !with_volumes {
        return Err(Error::new(
            ErrorKind::Busy,
            format!(
                "pool {}: {} has {} partitions; delete its volumes first",
                pool.name,
                drive.path.display(),
                data.len()
            ),
        ));
    }
    for partition in &table.partitions {
        locked.withdraw(partition.number).map_err(ours)?;
    }
    let file = drive.device.open(true, false);
    let written = file.and_then(|file| {
        let size = drive.size();
        files::write_zeros(&file, 0, ENDS.min(size))?;
        files::write_zeros(&file, size.saturating_sub(ENDS), ENDS.min(size))?;
        file.sync_all()
    });
    written.map_err(|error| {
        Error::io(format_args!("pool {}: cannot write {}", pool.name, drive.path.display()), &error)
    })?;
    Ok(())
}
