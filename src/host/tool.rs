//! Running other programs: absolute path, minimal environment, deadline, cancel, process group.
//!
//! Called by `image` and `backend`, on worker threads.

use super::process::Running;
use super::{Lifetime, Limits, packages};
use crate::model::{Error, ErrorKind, Result};
use std::ffi::OsString;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// Where programs are looked for, and all of their PATH.
pub(super) const DIRECTORIES: [&str; 4] = ["/usr/sbin", "/usr/bin", "/sbin", "/bin"];
/// How much of a program's last words is told.
const LONGEST_LINE: usize = 400;

/// A program to run, found by name in the system's directories.
#[derive(Clone, Default)]
pub struct Command {
    /// Name, without directory.
    pub program: &'static str,
    /// Arguments.
    pub args: Vec<OsString>,
    /// Variables beside those that all programs get. They may be secret: none is logged.
    pub environment: Vec<(&'static str, Zeroizing<String>)>,
    /// Standard input, which may be secret; empty means /dev/null.
    pub input: Zeroizing<Vec<u8>>,
    /// Exit statuses that are no failure, beside 0.
    pub accept: &'static [i32],
    /// How long it and what it starts may live.
    pub lifetime: Lifetime,
}

/// What a program said.
#[derive(Debug, Clone, Default)]
pub struct Output {
    /// Exit status.
    pub status: i32,
    /// Standard output.
    pub stdout: Vec<u8>,
    /// Standard error; of a long one the end.
    pub stderr: Vec<u8>,
}

/// The outside world as backends see it; recorded tool output replays behind it in tests.
pub trait Host: Send + Sync {
    /// Runs a program to its end. Not installed: `ToolMissing` with its package. A status that is
    /// not accepted: `ToolFailed` with the last line of standard error.
    fn run(&self, command: &Command, limits: &Limits) -> Result<Output> {
        self.run_watched(command, limits, &mut |_| {})
    }

    /// The same, and `said` is told of its standard output as it comes.
    fn run_watched(
        &self,
        command: &Command,
        limits: &Limits,
        said: &mut dyn FnMut(&[u8]),
    ) -> Result<Output>;

    /// Where a program is installed, if it is.
    fn find_tool(&self, program: &str) -> Option<PathBuf>;
}

/// The real host.
#[derive(Debug, Default)]
pub struct SystemHost;

impl Host for SystemHost {
    fn run_watched(
        &self,
        command: &Command,
        limits: &Limits,
        said: &mut dyn FnMut(&[u8]),
    ) -> Result<Output> {
        let program = command.program;
        let lifetime = command.lifetime;
        let (path, args) = lifetime.line(self.tool(program)?, &command.args, limits)?;
        limits.check()?;
        tracing::debug!("running {} {args:?}", path.display());
        let (status, stdout, stderr) =
            Running::spawn_with(&path, &args, &command.environment, &command.input, lifetime)
                .and_then(|running| running.finish(limits, said))
                .map_err(|error| error.context(program))?;
        let failed = |how: String| {
            let said = last_line(&stderr).map(|line| format!(": {line}")).unwrap_or_default();
            Error::new(ErrorKind::ToolFailed, format!("{program} {how}{said}"))
        };
        match status.code() {
            None => Err(failed(format!("was killed ({status})"))),
            Some(code) if code == 0 || command.accept.contains(&code) => {
                Ok(Output { status: code, stdout, stderr })
            }
            Some(code) => Err(failed(format!("failed with exit status {code}"))),
        }
    }

    fn find_tool(&self, program: &str) -> Option<PathBuf> {
        if program.is_empty() || program.contains('/') {
            return None;
        }
        let executable = |path: &PathBuf| {
            path.metadata()
                .is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
        };
        DIRECTORIES.iter().map(|dir| Path::new(dir).join(program)).find(executable)
    }
}

impl SystemHost {
    /// Where a program is installed, or `ToolMissing`.
    pub(super) fn tool(&self, program: &str) -> Result<PathBuf> {
        self.find_tool(program).ok_or_else(|| packages::missing(program))
    }
}

/// The last line that says something, on one line and not long.
pub(super) fn last_line(bytes: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(bytes);
    let line = text.lines().rev().map(str::trim).find(|line| !line.is_empty())?;
    Some(line.chars().filter(|c| !c.is_control()).take(LONGEST_LINE).collect())
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::host::CancelToken;
    use std::time::{Duration, Instant};

    pub(in crate::host) fn sh(script: &str) -> Command {
        let args = vec!["-c".into(), script.into()];
        Command { program: "sh", args, ..Command::default() }
    }

    pub(in crate::host) fn run(command: &Command) -> Result<Output> {
        SystemHost.run(command, &Limits::default())
    }

    fn text(script: &str) -> String {
        String::from_utf8(run(&sh(script)).unwrap().stdout).unwrap()
    }

    /// Whether a process runs, not counting one that is dead and waits for its parent.
    pub(in crate::host) fn runs(pid: &str) -> bool {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.trim()));
        stat.is_ok_and(|stat| !stat.contains(") Z ") && !stat.contains(") X "))
    }

    pub(in crate::host) fn wait_for(what: &str, condition: impl Fn() -> bool) {
        let patience = Instant::now() + Duration::from_secs(20);
        while !condition() {
            assert!(Instant::now() < patience, "{what}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    #[test]
    fn a_program_gets_a_plain_world_of_its_own() {
        assert_eq!(text("env | sort | grep -v -e ^_= -e ^PWD= -e ^SHLVL= -e ^OLDPWD="), {
            "LC_ALL=C\nPATH=/usr/sbin:/usr/bin:/sbin:/bin\n"
        });
        assert_eq!(text("umask; pwd; readlink /proc/self/fd/0"), "0077\n/\n/dev/null\n");
        let group = text("echo $$; cut -d' ' -f5 < /proc/$$/stat");
        let group: Vec<&str> = group.lines().collect();
        assert_eq!(group[0], group[1], "it leads a group of its own");
    }

    #[test]
    fn a_program_gets_the_variables_that_it_is_given_and_no_one_reads_of_them() {
        let variable = ("SECRET", Zeroizing::new("x y".to_owned()));
        let command =
            Command { environment: vec![variable], ..sh("echo \"$SECRET$PATH\"; exit 3") };
        let error = run(&command).unwrap_err();
        assert!(!error.message().contains("x y"), "{error}");
        let output = run(&Command { accept: &[3], ..command }).unwrap();
        assert_eq!(output.stdout, b"x y/usr/sbin:/usr/bin:/sbin:/bin\n");
    }

    #[test]
    fn no_descriptor_of_ours_is_open_in_it() {
        use std::os::fd::AsRawFd;
        let file = std::fs::File::open("/dev/null").unwrap();
        // As systemd passes sockets: not closed by exec on its own.
        rustix::io::fcntl_setfd(&file, rustix::io::FdFlags::empty()).unwrap();
        let number = file.as_raw_fd();
        assert_eq!(text(&format!("[ -e /proc/$$/fd/{number} ] && echo open; true")), "");
    }

    #[test]
    fn large_input_and_output_pass_at_the_same_time() {
        let input: Vec<u8> = (0..4_000_000_u32).map(|i| i as u8).collect();
        let command = Command { program: "cat", input: input.clone().into(), ..Command::default() };
        assert!(run(&command).unwrap().stdout == input);
        let ignored = Command { input: input.into(), ..sh("echo done") };
        assert_eq!(run(&ignored).unwrap().stdout, b"done\n");
    }

    #[test]
    fn endless_output_is_an_error_and_the_end_of_long_complaints_is_kept() {
        let error = run(&sh("cat /dev/zero")).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ToolFailed);
        assert!(error.message().starts_with("sh: "), "{error}");
        let error = run(&sh("head -c 3000000 /dev/zero >&2; printf '\\nlast  \\n\\n' >&2; exit 5"));
        assert_eq!(error.unwrap_err().message(), "sh failed with exit status 5: last");
    }

    #[test]
    fn a_status_is_a_failure_unless_accepted() {
        let error = run(&sh("echo out; echo why >&2; exit 3")).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ToolFailed);
        assert_eq!(error.message(), "sh failed with exit status 3: why");
        let accepted = Command { accept: &[3], ..sh("echo out; exit 3") };
        let output = run(&accepted).unwrap();
        assert_eq!((output.status, output.stdout.as_slice()), (3, b"out\n".as_slice()));
        let error = run(&sh("kill -9 $$")).unwrap_err();
        assert!(error.message().starts_with("sh was killed (signal: 9"), "{error}");
    }

    #[test]
    fn a_program_that_is_not_there_is_named_with_its_package() {
        let command = Command { program: "dog", ..Command::default() };
        if SystemHost.find_tool("dog").is_none() {
            let error = run(&command).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::ToolMissing);
            assert!(error.message().contains("sheepdog"), "{error}");
        }
        assert_eq!(SystemHost.find_tool("../bin/sh"), None);
        assert_eq!(SystemHost.find_tool(""), None);
    }

    #[test]
    fn the_deadline_ends_all_it_started() {
        let dir = tempfile::TempDir::new().unwrap();
        let pids = dir.path().join("pids");
        let script = format!("sleep 600 & sleep 600 & jobs -p > {}; wait", pids.display());
        let error = SystemHost.run(&sh(&script), &Limits::within(Duration::from_millis(500)));
        assert_eq!(error.unwrap_err().kind(), ErrorKind::TimedOut);
        let pids = std::fs::read_to_string(pids).unwrap();
        assert_eq!(pids.lines().count(), 2);
        wait_for("the children of the shell end", || !pids.lines().any(runs));
    }

    #[test]
    fn a_cancel_ends_even_what_ignores_requests_to_end() {
        let limits = Limits { deadline: None, cancel: CancelToken::default() };
        let dir = tempfile::TempDir::new().unwrap();
        let ready = dir.path().join("ready");
        let script = format!("trap '' TERM; echo $$ > {}; sleep 600; sleep 600", ready.display());
        let result = std::thread::scope(|scope| {
            let thread = scope.spawn(|| SystemHost.run(&sh(&script), &limits));
            wait_for("it runs", || std::fs::read(&ready).is_ok_and(|pid| pid.ends_with(b"\n")));
            limits.cancel.cancel();
            thread.join().unwrap()
        });
        assert_eq!(result.unwrap_err().kind(), ErrorKind::Cancelled);
        let pid = std::fs::read_to_string(ready).unwrap();
        assert!(!Path::new(&format!("/proc/{}", pid.trim())).exists(), "not even a zombie is left");
    }

    /// Says where this process is to run something until it is killed.
    const CALLER: &str = "POOLD_TEST_RUN_TOOL";

    /// No test unless a test starts it.
    #[test]
    fn caller_that_is_to_be_killed() {
        let Ok(file) = std::env::var(CALLER) else { return };
        let _ = run(&sh(&format!("echo $$ > {file}; exec sleep 600")));
    }

    #[test]
    fn it_dies_with_the_daemon() {
        let dir = tempfile::TempDir::new().unwrap();
        let file = dir.path().join("pid");
        let mut caller = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "host::tool::tests::caller_that_is_to_be_killed"])
            .env(CALLER, &file)
            .stdout(std::process::Stdio::null())
            .spawn()
            .unwrap();
        wait_for("it runs", || std::fs::read(&file).is_ok_and(|pid| pid.ends_with(b"\n")));
        let pid = std::fs::read_to_string(file).unwrap();
        assert!(runs(&pid));
        caller.kill().unwrap();
        caller.wait().unwrap();
        wait_for("it dies", || !runs(&pid));
    }

    #[test]
    fn what_it_leaves_behind_holds_nobody_up() {
        // The child of the shell keeps the pipe open.
        let pid = text("sleep 600 & echo $!");
        wait_for("the child that was left ends", || !runs(&pid));
    }
}
