//! Running LVM's commands: only on the devices that they are given, and in words that do not depend
//! on the host's configuration.

use crate::host::{Command, Host, Limits, Output};
use crate::model::{Error, ErrorKind, Result};
use std::ffi::OsString;
use std::path::Path;

/// What every command is told, whatever the host's lvm.conf says: physical volumes inside of logical
/// ones are not seen, hints of devices not heeded, and reports have the form that is read here.
const CONFIG: &str = "devices{scan_lvs=0 hints=\"none\" ignore_suspended_devices=1} \
    report{mark_hidden_devices=1 binary_values_as_numeric=0 compact_output=0 \
    compact_output_cols=\"\" list_item_separator=\",\"} log{report_command_log=0}";

/// Where dmeventd listens. Where it does not, a command would start one, which would end with poold.
const MONITOR: &str = "/run/dmeventd-server";

/// What a command's last line says when there is no room.
const FULL: &[&str] = &[
    "insufficient free space",
    "nsufficient suitable",
    "allocatable extents required",
    "free extents available",
    "not enough free space",
];
/// What it says when something is in use.
const IN_USE: &[&str] = &["in use", "is used by another device", "open logical volume"];

/// LVM, as it sees some devices.
#[derive(Clone, Copy)]
pub(super) struct Lvm<'a> {
    /// Runs its programs.
    pub(super) host: &'a dyn Host,
    /// How long they may take.
    pub(super) limits: &'a Limits,
    /// All that they see.
    pub(super) devices: &'a [String],
}

impl Lvm<'_> {
    /// Runs a command; a full group is `NoSpace`, what is in use `Busy`.
    pub(super) fn run(&self, program: &'static str, args: &[&str]) -> Result<Output> {
        self.host.run(&self.command(program, args), self.limits).map_err(typed)
    }

    /// Has a report made; what could not be read is not in it.
    pub(super) fn report(&self, program: &'static str, args: &[&str]) -> Result<Vec<u8>> {
        const FORM: [&str; 5] = ["--reportformat", "json", "--units", "b", "--nosuffix"];
        let mut command = self.command(program, &[&FORM, args].concat());
        // Something in it is not as it should be, which is in the report too.
        command.accept = &[5];
        Ok(self.host.run(&command, self.limits)?.stdout)
    }

    /// Has the kernel load what its device mapper needs for some targets. LVM would run modprobe, which
    /// the service may not; the kernel may. Where it cannot, LVM says what it misses.
    pub(super) fn load(&self, targets: impl IntoIterator<Item = &'static str>) {
        for target in targets {
            let args = vec!["target-version".into(), target.into()];
            let command = Command { program: "dmsetup", args, ..Command::default() };
            if let Err(error) = self.host.run(&command, self.limits) {
                tracing::debug!("device mapper target {target}: {error}");
            }
        }
    }

    pub(super) fn command(&self, program: &'static str, args: &[&str]) -> Command {
        let monitoring = u8::from(Path::new(MONITOR).exists());
        let (program, first) = match program {
            // These are no programs of their own.
            "fullreport" | "systemid" => ("lvm", Some(program)),
            program => (program, None),
        };
        let mut line: Vec<OsString> = first.into_iter().map(OsString::from).collect();
        for device in self.devices {
            line.extend(["--devices".into(), device.into()]);
        }
        line.push("--config".into());
        line.push(format!("{CONFIG} activation{{monitoring={monitoring}}}").into());
        line.extend(args.iter().map(OsString::from));
        Command { program, args: line, ..Command::default() }
    }
}

/// A failure of a command with the kind that its last line tells.
fn typed(error: Error) -> Error {
    if error.kind() != ErrorKind::ToolFailed {
        return error;
    }
    let says = |words: &[&str]| words.iter().any(|word| error.message().contains(word));
    let kind = if says(FULL) {
        ErrorKind::NoSpace
    } else if says(IN_USE) {
        ErrorKind::Busy
    } else {
        return error;
    };
    Error::new(kind, error.message())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_have_kinds() {
        let kind = |said| typed(Error::new(ErrorKind::ToolFailed, said)).kind();
        for said in [
            "Volume group \"vg\" has insufficient free space (489 extents): 51200 required.",
            "Insufficient suitable allocatable extents for logical volume x: 5 more required",
        ] {
            assert_eq!(kind(said), ErrorKind::NoSpace, "{said}");
        }
        assert_eq!(kind("Logical volume vg/x in use."), ErrorKind::Busy);
        assert_eq!(kind("Cannot process volume group vg"), ErrorKind::ToolFailed);
    }
}
