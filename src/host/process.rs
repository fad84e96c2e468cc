//! One running program: its pipes, its end, and the end of all that it started.

use super::environment::Environment;
use super::tool::DIRECTORIES;
use super::{Lifetime, Limits, acting, starter};
use crate::model::{AccessIds, Error, ErrorKind, Result};
use nix::poll::{PollFd, PollFlags, PollTimeout};
use rustix::process::{Pid, PidfdFlags, Signal};
use std::ffi::{OsStr, OsString};
use std::fs::OpenOptions;
use std::io::{self, PipeReader, PipeWriter, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use zeroize::Zeroizing;

/// Longest standard output.
const STDOUT_LIMIT: usize = 16 << 20;
/// How much of standard error is kept at least, if there is as much: its end.
const STDERR_KEPT: usize = 64 << 10;
/// How often a cancel is looked for.
const TICK: Duration = Duration::from_millis(50);
/// How long a program has to end by itself when asked to (LVM cleans up).
const GRACE: Duration = Duration::from_secs(1);
/// How long a killed program may take before it is left to its system call.
const LAST_WAIT: Duration = Duration::from_secs(1);

/// Killed programs that did not end, because a system call does not return; reaped when they do.
static ABANDONED: Mutex<Vec<Abandoned>> = Mutex::new(Vec::new());

/// One of them.
struct Abandoned {
    args: Vec<OsString>,
    child: Child,
}

/// A program that runs.
pub(super) struct Running {
    child: Child,
    args: Vec<OsString>,
    lifetime: Lifetime,
    group: Pid,
    /// Readable when the program has ended.
    ended: OwnedFd,
    stdin: Option<PipeWriter>,
    input: Zeroizing<Vec<u8>>,
    written: usize,
    stdout: Option<PipeReader>,
    stderr: Option<PipeReader>,
    out: Vec<u8>,
    err: Vec<u8>,
}

impl Running {
    /// Starts a program as the leader of a group of its own.
    pub(super) fn spawn(
        path: &Path,
        args: &[OsString],
        input: &[u8],
        lifetime: Lifetime,
    ) -> Result<Self> {
        Self::spawn_with(path, args, &[], input, lifetime)
    }

    /// The same, with variables beside those that all get.
    pub(super) fn spawn_with(
        path: &Path,
        args: &[OsString],
        environment: &[(&str, Zeroizing<String>)],
        input: &[u8],
        lifetime: Lifetime,
    ) -> Result<Self> {
        reap_abandoned();
        let failed = |error: io::Error| Error::io("cannot be run", &error);
        let directories = DIRECTORIES.join(":");
        let common = [("PATH", directories.as_str()), ("LC_ALL", "C")];
        let more = environment.iter().map(|(name, value)| (*name, value.as_str()));
        let environment = Environment::new(common.into_iter().chain(more)).map_err(failed)?;
        let mut command = Command::new(path);
        command.args(args).current_dir("/").process_group(0);
        let parent = nix::unistd::getpid();
        let access = acting::current();
        let prepare = move || {
            prepare(parent, lifetime, access)?;
            // SAFETY: this is the child, and the command that it runs has this closure.
            unsafe { environment.take_over() };
            Ok(())
        };
        // SAFETY: it makes system calls and writes a pointer: no allocation, no lock, no panic.
        unsafe { command.pre_exec(prepare) };
        let (theirs, stdin) = match input.is_empty() {
            true => (OpenOptions::new().read(true).open("/dev/null").map_err(failed)?.into(), None),
            false => {
                let (theirs, ours) = io::pipe().map_err(failed)?;
                (OwnedFd::from(theirs), Some(ours))
            }
        };
        let (stdout, their_stdout) = io::pipe().map_err(failed)?;
        let (stderr, their_stderr) = io::pipe().map_err(failed)?;
        let streams = [theirs, their_stdout.into(), their_stderr.into()];
        let mut child = starter::start(command, &streams).map_err(failed)?;
        drop(streams);
        let prepared = Pid::from_raw(child.id().cast_signed())
            .ok_or(io::ErrorKind::InvalidData.into())
            .and_then(|group| {
                let ended = rustix::process::pidfd_open(group, PidfdFlags::empty())?;
                for fd in
                    [stdin.as_ref().map(AsFd::as_fd), Some(stdout.as_fd()), Some(stderr.as_fd())]
                {
                    fd.map_or(Ok(()), |fd| rustix::io::ioctl_fionbio(fd, true))?;
                }
                Ok((group, ended))
            });
        match prepared {
            Ok((group, ended)) => Ok(Self {
                lifetime,
                group,
                ended,
                stdin,
                input: input.to_vec().into(),
                written: 0,
                stdout: Some(stdout),
                stderr: Some(stderr),
                out: Vec::new(),
                err: Vec::new(),
                args: args.to_vec(),
                child,
            }),
            Err(error) => {
                let _ = child.kill();
                let _ = child.wait();
                Err(failed(error))
            }
        }
    }

    /// Runs it to its end, or ends it when `limits` say so: its status, output and complaints.
    /// `said` is told of its output as it comes.
    pub(super) fn finish(
        mut self,
        limits: &Limits,
        said: &mut dyn FnMut(&[u8]),
    ) -> Result<(ExitStatus, Vec<u8>, Vec<u8>)> {
        let mut told = 0;
        let verdict = loop {
            if let Err(error) = limits.check() {
                break Err(error);
            }
            let step = self.step(limits.left());
            if self.out.len() > told {
                said(&self.out[told..]);
                told = self.out.len();
            }
            match step {
                Ok(true) => break Ok(()),
                Ok(false) => {}
                Err(error) => break Err(error),
            }
        };
        // Asked while it is there to be asked about.
        let end_of_scope = match &verdict {
            Ok(()) => None,
            Err(_) => self.lifetime.end_of_scope(self.group),
        };
        let ended =
            verdict.is_ok() || self.end(Signal::TERM, GRACE) || self.end(Signal::KILL, LAST_WAIT);
        // By now it has had the time to end by itself, and its helpers to follow.
        if let Some(file) = end_of_scope
            && let Err(error) = std::fs::write(&file, "1")
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!("what it started may go on: {}: {error}", file.display());
        }
        if !ended {
            let error = verdict.err().unwrap_or_else(|| Error::new(ErrorKind::TimedOut, "stuck"));
            self.abandon();
            return Err(error.context("does not end, a system call of it is stuck"));
        }
        // What it left behind in its group would write to storage that it said it was done with,
        // unless it is there to stay. Its number is still its own: it has not been reaped.
        if self.lifetime == Lifetime::Ours || verdict.is_err() {
            self.signal(Signal::KILL);
        }
        let status = self.child.wait().map_err(|e| Error::io("cannot be waited for", &e))?;
        verdict.map(|()| (status, self.out, self.err))
    }

    /// Lets it serve until it ends by itself or `unwanted` says so, which has it end: its status, unless
    /// it does not end, and its last words. What it prints is nobody's.
    pub(super) fn serve(
        mut self,
        mut unwanted: impl FnMut() -> bool,
        grace: Duration,
    ) -> (Option<ExitStatus>, Vec<u8>) {
        let ended = loop {
            if unwanted() {
                break self.end(Signal::TERM, grace) || self.end(Signal::KILL, LAST_WAIT);
            }
            match self.step(None) {
                Ok(true) => break true,
                Ok(false) => self.out.clear(),
                Err(_) => break self.end(Signal::KILL, LAST_WAIT),
            }
        };
        if !ended {
            let said = std::mem::take(&mut self.err);
            self.abandon();
            return (None, said);
        }
        self.signal(Signal::KILL);
        (self.child.wait().ok(), self.err)
    }

    /// Passes on what there is, waiting for at most a tick; whether the program has ended.
    fn step(&mut self, left: Option<Duration>) -> Result<bool> {
        let ended = self.wait(left.map_or(TICK, |left| left.min(TICK)))?;
        self.transfer()?;
        Ok(ended)
    }

    /// Signals the group and waits for the end of its leader; whether it came.
    fn end(&mut self, signal: Signal, patience: Duration) -> bool {
        self.signal(signal);
        let until = Instant::now() + patience;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            match self.wait(left.min(TICK)) {
                Ok(true) => return true,
                Ok(false) if left.is_zero() => return false,
                Ok(false) => {}
                Err(_) => return false,
            }
            // What it says now interests nobody, but must not hold it up.
            self.out.clear();
            if self.transfer().is_err() {
                self.stdout = None;
                self.stderr = None;
            }
        }
    }

    fn abandon(self) {
        let Self { args, child, .. } = self;
        abandoned().push(Abandoned { args, child });
    }

    fn signal(&self, signal: Signal) {
        // Nobody there is what was wanted.
        let _ = rustix::process::kill_process_group(self.group, signal);
    }

    /// Waits until there is something to transfer or the program has ended; whether it has.
    fn wait(&self, patience: Duration) -> Result<bool> {
        let mut fds = vec![PollFd::new(self.ended.as_fd(), PollFlags::POLLIN)];
        let readers =
            [self.stdout.as_ref().map(AsFd::as_fd), self.stderr.as_ref().map(AsFd::as_fd)];
        fds.extend(readers.into_iter().flatten().map(|fd| PollFd::new(fd, PollFlags::POLLIN)));
        fds.extend(self.stdin.iter().map(|fd| PollFd::new(fd.as_fd(), PollFlags::POLLOUT)));
        // Rounded up, not to spin through the last millisecond.
        let millis = u16::try_from(patience.as_millis() + 1).unwrap_or(u16::MAX);
        match nix::poll::poll(&mut fds, PollTimeout::from(millis)) {
            Ok(_) => Ok(fds[0].any().unwrap_or(true)),
            Err(nix::errno::Errno::EINTR) => Ok(false),
            Err(errno) => Err(Error::io("cannot be waited for", &errno.into())),
        }
    }

    fn transfer(&mut self) -> Result<()> {
        let failed = |error: io::Error| Error::io("cannot be talked to", &error);
        if !read_available(&mut self.stdout, &mut self.out, STDOUT_LIMIT).map_err(failed)? {
            return Err(Error::new(
                ErrorKind::ToolFailed,
                format!("said more than {} MiB", STDOUT_LIMIT >> 20),
            ));
        }
        while !read_available(&mut self.stderr, &mut self.err, 2 * STDERR_KEPT).map_err(failed)? {
            self.err.drain(..self.err.len() - STDERR_KEPT);
        }
        if let Some(stdin) = &mut self.stdin {
            match write_available(stdin, &self.input[self.written..]) {
                Ok(written) => self.written += written,
                // It has heard enough.
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                    self.written = self.input.len();
                }
                Err(error) => return Err(failed(error)),
            }
            if self.written == self.input.len() {
                self.stdin = None;
            }
        }
        Ok(())
    }
}

/// Runs in the child between fork and exec: system calls only.
fn prepare(parent: nix::unistd::Pid, lifetime: Lifetime, access: AccessIds) -> io::Result<()> {
    // First: it makes the kernel forget whose death it is to follow.
    acting::become_in_child(access)?;
    let last = match lifetime {
        Lifetime::Ours => Some(nix::sys::signal::Signal::SIGKILL),
        Lifetime::Orderly => Some(nix::sys::signal::Signal::SIGTERM),
        Lifetime::Scope(_) => None,
    };
    if let Some(last) = last {
        // Dies with the *thread* that forked, which lasts as long as poold. A parent that died before this
        // call is seen by the new parent's number.
        nix::sys::prctl::set_pdeathsig(last)?;
        if nix::unistd::getppid() != parent {
            return Err(io::Error::from_raw_os_error(libc::ESRCH));
        }
    }
    nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o077));
    // Nothing but its streams.
    // SAFETY: takes no pointers; it only marks descriptors.
    let marked = unsafe { libc::close_range(3, u32::MAX, libc::CLOSE_RANGE_CLOEXEC as i32) };
    if marked == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Reads what there is; at the end of file `from` is dropped. False when `limit` was passed first.
fn read_available(
    from: &mut Option<impl Read>,
    into: &mut Vec<u8>,
    limit: usize,
) -> io::Result<bool> {
    let Some(reader) = from else { return Ok(true) };
    // What a program says may be a secret.
    let mut buffer = Zeroizing::new([0; 16 << 10]);
    loop {
        if into.len() > limit {
            return Ok(false);
        }
        match reader.read(&mut *buffer) {
            Ok(0) => {
                *from = None;
                return Ok(true);
            }
            Ok(count) => into.extend_from_slice(&buffer[..count]),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(true),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// Writes what fits; how much.
fn write_available(to: &mut impl Write, bytes: &[u8]) -> io::Result<usize> {
    let mut written = 0;
    while written < bytes.len() {
        match to.write(&bytes[written..]) {
            Ok(count) => written += count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(written)
}

fn abandoned() -> MutexGuard<'static, Vec<Abandoned>> {
    ABANDONED.lock().unwrap_or_else(PoisonError::into_inner)
}

fn reap_abandoned() {
    abandoned().retain_mut(|each| matches!(each.child.try_wait(), Ok(None)));
}

/// Waits until no program with this last argument, given up as it did not end when it was killed, is left: as
/// long as the kernel is at it.
pub fn wait_for_abandoned(last: &OsStr) {
    loop {
        reap_abandoned();
        if !abandoned().iter().any(|each| each.args.last().is_some_and(|arg| arg == last)) {
            return;
        }
        std::thread::sleep(TICK);
    }
}
