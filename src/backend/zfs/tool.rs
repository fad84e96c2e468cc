//! Runs of zpool and zfs: their refusals as typed errors, their tables as rows.
//!
//! `-H` separates by tabs and `-p` writes numbers exactly (zfs-list(8)); JSON came with OpenZFS 2.3 only.

use crate::backend::OpContext;
use crate::host::{Command, Host, Limits};
use crate::model::{Error, ErrorKind, Result};
use std::ffi::OsString;

/// Exit statuses of both: failed, and wrong usage.
const FAILED: &[i32] = &[1, 2];

/// What the tools say of a refusal, and which kind that is. Read from OpenZFS 2.1 to 2.3
/// (lib/libzfs/libzfs_util.c, libzfs_pool.c, libzfs_import.c).
const REFUSALS: &[(&str, ErrorKind)] = &[
    ("was previously in use from another system", ErrorKind::Conflict),
    ("last accessed by", ErrorKind::Conflict),
    ("more than one matching pool", ErrorKind::Conflict),
    ("dataset does not exist", ErrorKind::NotFound),
    ("no such pool", ErrorKind::NotFound),
    ("already exists", ErrorKind::Exists),
    ("out of space", ErrorKind::NoSpace),
    ("exceeds available space", ErrorKind::NoSpace),
    ("is busy", ErrorKind::Busy),
    ("has children", ErrorKind::Busy),
    ("has dependent clones", ErrorKind::Busy),
    ("is in use", ErrorKind::Busy),
    ("one or more devices is currently unavailable", ErrorKind::Inaccessible),
    ("pool I/O is currently suspended", ErrorKind::Inaccessible),
    // They may be at a later try, soon after boot.
    ("modules are not loaded", ErrorKind::Inaccessible),
    ("modules cannot be auto-loaded", ErrorKind::Inaccessible),
];

/// Has the kernel load its module for the device, where it has one: zpool would run modprobe, which the
/// service may not.
pub(super) fn load_module() {
    let _ = std::fs::File::open("/dev/zfs");
}

/// Runs `zpool` or `zfs`; its standard output.
pub(super) fn run(
    program: &'static str,
    args: impl IntoIterator<Item = impl Into<OsString>>,
    ctx: &OpContext,
) -> Result<String> {
    run_on(&*ctx.host, program, args, &ctx.limits)
}

/// The same, outside of an operation.
pub(super) fn run_on(
    host: &dyn Host,
    program: &'static str,
    args: impl IntoIterator<Item = impl Into<OsString>>,
    limits: &Limits,
) -> Result<String> {
    let args: Vec<OsString> = args.into_iter().map(Into::into).collect();
    let subcommand = args.first().map(|word| word.display().to_string()).unwrap_or_default();
    let command = Command { program, args, accept: FAILED, ..Command::default() };
    let output = host.run(&command, limits)?;
    if output.status == 0 {
        return String::from_utf8(output.stdout).map_err(|_| {
            let what = format!("{program} {subcommand} gave an answer that is not UTF-8");
            Error::new(ErrorKind::ToolFailed, what)
        });
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(refusal(&format!("{program} {subcommand}"), &said))
}

/// The error of a run that failed and said why.
fn refusal(what: &str, said: &str) -> Error {
    let kind = REFUSALS.iter().find(|(words, _)| said.contains(words)).map(|(_, kind)| *kind);
    let lines: Vec<&str> = said.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let said = lines.join(" ").chars().filter(|c| !c.is_control()).take(400).collect::<String>();
    Error::new(kind.unwrap_or(ErrorKind::ToolFailed), format!("{what} failed: {said}"))
}

/// The rows of a table that `-H` wrote, each with so many columns.
pub(super) fn rows<const N: usize>(text: &str) -> Result<Vec<[&str; N]>> {
    text.lines()
        .map(|line| {
            let columns: Vec<&str> = line.split('\t').collect();
            <[&str; N]>::try_from(columns).map_err(|_| {
                let line = line.escape_debug();
                Error::new(ErrorKind::ToolFailed, format!("zfs wrote an unclear line: \"{line}\""))
            })
        })
        .collect()
}

/// A number that `-p` wrote; `-` and `none` are 0.
pub(super) fn number(text: &str) -> Result<u64> {
    match text {
        "-" | "none" => Ok(0),
        text => text.parse().map_err(|_| {
            let what = format!("zfs wrote {:?} where a number belongs", text.escape_debug());
            Error::new(ErrorKind::ToolFailed, what)
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_are_told_apart() {
        for (said, kind) in [
            ("cannot open 'tank/x': dataset does not exist\n", ErrorKind::NotFound),
            ("cannot create 'tank/x': out of space\n", ErrorKind::NoSpace),
            ("cannot create 'tank/x': dataset already exists\n", ErrorKind::Exists),
            (
                "cannot destroy 'tank/x': volume has children\nuse '-r' to destroy the following datasets:\ntank/x@s\n",
                ErrorKind::Busy,
            ),
            (
                "cannot import 'tank': pool was previously in use from another system.\nLast accessed by other (hostid=1) at Thu\n",
                ErrorKind::Conflict,
            ),
            ("cannot import 'tank': no such pool available\n", ErrorKind::NotFound),
            ("internal error\n", ErrorKind::ToolFailed),
        ] {
            let error = refusal("zfs x", said);
            assert_eq!(error.kind(), kind, "{said}");
            assert!(error.message().contains(said.lines().next().unwrap()));
        }
    }

    #[test]
    fn tables_are_read_and_broken_ones_refused() {
        let text = "tank/a\t8192\t-\ntank/b c\t1\tnone\n";
        let table = rows::<3>(text).unwrap();
        assert_eq!(table, [["tank/a", "8192", "-"], ["tank/b c", "1", "none"]]);
        assert_eq!((number("8192").unwrap(), number("-").unwrap()), (8192, 0));
        assert!(rows::<2>(text).is_err());
        assert!(number("8K").is_err());
    }
}
