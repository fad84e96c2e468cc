//! How long what a command starts may live: no longer than the command, or longer than poold.
//!
//! systemd ends all in poold's control group when poold ends: at every idle exit, upgrade or kill by
//! the watchdog. What is to stay needs a group of its own: a scope. Used by `tool` and `process`.

use super::{Command, Host, Limits, SystemHost};
use crate::model::{Result, Uuid};
use rustix::process::Pid;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// How long what a command starts may live.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Lifetime {
    /// No longer than the command and no longer than poold: nothing of a dead daemon goes on writing.
    #[default]
    Ours,
    /// The same, but asked to end (SIGTERM) when poold dies: a client whose server would take it for alive
    /// if it just went.
    Orderly,
    /// What is there when the command has ended stays, also when poold ends. For backends whose
    /// mounts are served by a process (mount.glusterfs, ntfs-3g, vstorage-mount), which guests' disks
    /// would go away with, and for dmeventd, which LVM starts. A command that is cancelled or passes
    /// its deadline still takes all with it.
    ///
    /// Where systemd is PID 1 it lives in `poold-UUID.scope`, which goes when it is empty; until then
    /// another command for the same scope fails.
    Scope(Uuid),
}

impl Lifetime {
    /// The program and the arguments that run a program for so long.
    pub(super) fn line(
        self,
        program: PathBuf,
        args: &[OsString],
        limits: &Limits,
    ) -> Result<(PathBuf, Vec<OsString>)> {
        let (Self::Scope(uuid), true) = (self, systemd_is_pid_1()) else {
            return Ok((program, args.to_vec()));
        };
        let systemd_run = SystemHost.tool(SYSTEMD_RUN)?;
        // Without default dependencies the end of the machine does not end it before its users.
        let mut line: Vec<OsString> =
            ["--scope", "--collect", "--quiet", "-p", "DefaultDependencies=no"]
                .map(OsString::from)
                .into();
        line.push(format!("--unit={}", scope_name(uuid)).into());
        if expands(limits)? {
            line.push(NO_EXPANSION.into());
        }
        line.push("--".into());
        line.push(program.into());
        line.extend_from_slice(args);
        Ok((systemd_run, line))
    }

    /// The file that ends all in the scope of a program, if the program is in it by now: until then
    /// the scope of that name may be another's.
    pub(super) fn end_of_scope(self, program: Pid) -> Option<PathBuf> {
        let Self::Scope(uuid) = self else { return None };
        let groups = format!("/proc/{}/cgroup", program.as_raw_nonzero());
        let groups = std::fs::read_to_string(groups).ok()?;
        let group = Path::new(groups.lines().find_map(|line| line.strip_prefix("0::/"))?);
        group
            .ends_with(scope_name(uuid))
            .then(|| Path::new("/sys/fs/cgroup").join(group).join("cgroup.kill"))
    }
}

const SYSTEMD_RUN: &str = "systemd-run";
const NO_EXPANSION: &str = "--expand-environment=no";

fn scope_name(uuid: Uuid) -> String {
    format!("poold-{uuid}.scope")
}

/// As sd_booted(3) sees it.
fn systemd_is_pid_1() -> bool {
    Path::new("/run/systemd/system").is_dir()
}

/// Whether systemd-run replaces variables in arguments unless told not to. Those that cannot be told
/// (before version 254) do not in scopes.
fn expands(limits: &Limits) -> Result<bool> {
    let args = vec![NO_EXPANSION.into(), "--version".into()];
    let asked = Command { program: SYSTEMD_RUN, args, accept: &[1], ..Command::default() };
    SystemHost.run(&asked, limits).map(|answer| answer.status == 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::Output;
    use crate::host::process::Running;
    use crate::host::tool::tests::{run, runs, sh, wait_for};
    use crate::model::ErrorKind;
    use std::process::{ExitStatus, Stdio};
    use std::time::Duration;

    /// Says where the tests below are to leave word of what they started.
    const CALLER: &str = "POOLD_TEST_OUTLIVES";

    fn uuid() -> Uuid {
        Uuid::from_u128(0x5c09_e000_0000_4000_8000_0000_0000_0001)
    }

    /// Runs a script as where systemd is not PID 1, whether it is or not.
    fn run_here(
        script: &str,
        lifetime: Lifetime,
        limits: &Limits,
    ) -> Result<(ExitStatus, Vec<u8>, Vec<u8>)> {
        let args = ["-c".into(), script.into()];
        Running::spawn(Path::new("/bin/sh"), &args, b"", lifetime)?.finish(limits, &mut |_| {})
    }

    /// What a script leaves running; its number is what it says.
    fn left_by(script: &str, lifetime: Lifetime) -> String {
        let (_, said, _) = run_here(script, lifetime, &Limits::default()).unwrap();
        String::from_utf8(said).unwrap()
    }

    fn end(pid: &str) {
        let pid = Pid::from_raw(pid.trim().parse().unwrap()).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    }

    fn word(file: &Path) -> String {
        let written = || std::fs::read(file).is_ok_and(|word| word.ends_with(b"\n"));
        wait_for(&format!("{} is there", file.display()), written);
        std::fs::read_to_string(file).unwrap()
    }

    #[test]
    fn a_helper_stays_when_its_command_has_ended() {
        let helper = left_by("sleep 600 & echo $!", Lifetime::Scope(uuid()));
        // Were both ended, this one would be the last.
        let ordinary = left_by("sleep 600 & echo $!", Lifetime::Ours);
        wait_for("an ordinary one ends", || !runs(&ordinary));
        assert!(runs(&helper));
        end(&helper);
        wait_for("it ends when it is told to", || !runs(&helper));
    }

    #[test]
    fn the_deadline_ends_a_helper_whose_command_has_not_ended() {
        let dir = tempfile::TempDir::new().unwrap();
        let file = dir.path().join("helper");
        let script = format!("sleep 600 & echo $! > {}; wait", file.display());
        let limits = Limits::within(Duration::from_millis(500));
        let error = run_here(&script, Lifetime::Scope(uuid()), &limits).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TimedOut);
        let helper = std::fs::read_to_string(file).unwrap();
        wait_for("the helper ends", || !runs(&helper));
    }

    /// No test unless a test starts it.
    #[test]
    fn caller_that_is_to_be_killed() {
        let Some(dir) = std::env::var_os(CALLER).map(PathBuf::from) else { return };
        let write = |name: &str| format!("echo $$ > {}; exec sleep 600", dir.join(name).display());
        std::thread::scope(|scope| {
            for (name, lifetime) in
                [("helper", Lifetime::Scope(uuid())), ("ordinary", Lifetime::Ours)]
            {
                let script = write(name);
                scope.spawn(move || run_here(&script, lifetime, &Limits::default()));
            }
        });
    }

    #[test]
    fn a_helper_does_not_die_with_the_daemon() {
        let dir = tempfile::TempDir::new().unwrap();
        let mut caller = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "host::lifetime::tests::caller_that_is_to_be_killed"])
            .env(CALLER, dir.path())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let [helper, ordinary] = ["helper", "ordinary"].map(|name| word(&dir.path().join(name)));
        caller.kill().unwrap();
        caller.wait().unwrap();
        wait_for("an ordinary one dies", || !runs(&ordinary));
        assert!(runs(&helper));
        end(&helper);
    }

    #[test]
    #[ignore = "tests/host runs it as poold.service, where systemd is PID 1, and kills it"]
    fn service_that_is_to_be_killed() {
        let dir = PathBuf::from(std::env::var_os(CALLER).unwrap());
        let helper =
            |uuid: Uuid, script: &str| Command { lifetime: Lifetime::Scope(uuid), ..sh(script) };
        let groups = |pid: &str| std::fs::read_to_string(format!("/proc/{}/cgroup", pid.trim()));

        // "$HOME" comes through, whatever systemd-run does with variables.
        let command = helper(uuid(), "echo '$HOME' >&2; setsid sleep 600 & echo $!; exit 3");
        let Output { status, stdout, stderr } =
            run(&Command { accept: &[3], ..command.clone() }).unwrap();
        assert_eq!((status, stderr.as_slice()), (3, b"$HOME\n".as_slice()));
        let stays = String::from_utf8(stdout).unwrap();
        assert!(groups(&stays).unwrap().trim().ends_with(&scope_name(uuid())));

        // Its scope is taken, and what is in it stays as it is.
        let error = run(&command).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ToolFailed);
        assert!(error.message().contains(&scope_name(uuid())), "{error}");

        // A helper that has left the group of its command does not escape a cancel.
        let file = dir.join("escapes");
        let script = format!("setsid sh -c 'echo $$ > {}; exec sleep 600' & wait", file.display());
        let limits = Limits::default();
        let command = helper(Uuid::from_u128(uuid().as_u128() + 1), &script);
        let result = std::thread::scope(|scope| {
            let thread = scope.spawn(|| SystemHost.run(&command, &limits));
            word(&file);
            limits.cancel.cancel();
            thread.join().unwrap()
        });
        assert_eq!(result.unwrap_err().kind(), ErrorKind::Cancelled);
        let escapes = word(&file);
        wait_for("it ends", || !runs(&escapes));

        assert!(runs(&stays));
        std::fs::write(dir.join("helper"), stays).unwrap();
        let ordinary = format!("echo $$ > {}; exec sleep 600", dir.join("ordinary").display());
        run(&sh(&ordinary)).unwrap();
    }
}
