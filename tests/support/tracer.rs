//! Follows every thread of an unmodified process and numbers the system calls by which it changes anything below a
//! directory. At a chosen one the process is killed, or that thread is held until it is released, or the call fails.

use anyhow::{Context, Result, anyhow};
use nix::errno::Errno;
use nix::sys::ptrace::{self, Options};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use std::collections::{HashMap, HashSet};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

/// Where a system call says what it works on.
#[derive(Debug, Clone, Copy)]
enum Target {
    /// A descriptor in this argument.
    Fd(usize),
    /// A path in the second of these arguments, relative to a descriptor in the first.
    At(usize, usize),
    /// A path in this argument.
    Path(usize),
    /// Descriptor, path, flags: only when opening may create or cut.
    Open,
    /// The same with the flags in a struct open_how.
    Open2,
}

/// System calls that change a file system. Reading ones are no steps: dying before one is dying before the next step.
const CALLS: &[(i64, &str, Target)] = &[
    (libc::SYS_openat, "openat", Target::Open),
    (libc::SYS_openat2, "openat2", Target::Open2),
    (libc::SYS_mkdirat, "mkdirat", Target::At(0, 1)),
    (libc::SYS_unlinkat, "unlinkat", Target::At(0, 1)),
    (libc::SYS_renameat2, "renameat2", Target::At(2, 3)),
    (libc::SYS_linkat, "linkat", Target::At(2, 3)),
    (libc::SYS_symlinkat, "symlinkat", Target::At(1, 2)),
    (libc::SYS_mknodat, "mknodat", Target::At(0, 1)),
    (libc::SYS_write, "write", Target::Fd(0)),
    (libc::SYS_writev, "writev", Target::Fd(0)),
    (libc::SYS_pwrite64, "pwrite64", Target::Fd(0)),
    (libc::SYS_pwritev, "pwritev", Target::Fd(0)),
    (libc::SYS_pwritev2, "pwritev2", Target::Fd(0)),
    (libc::SYS_copy_file_range, "copy_file_range", Target::Fd(2)),
    (libc::SYS_sendfile, "sendfile", Target::Fd(0)),
    (libc::SYS_splice, "splice", Target::Fd(2)),
    (libc::SYS_ftruncate, "ftruncate", Target::Fd(0)),
    (libc::SYS_truncate, "truncate", Target::Path(0)),
    (libc::SYS_fallocate, "fallocate", Target::Fd(0)),
    (libc::SYS_fsync, "fsync", Target::Fd(0)),
    (libc::SYS_fdatasync, "fdatasync", Target::Fd(0)),
    (libc::SYS_fchmod, "fchmod", Target::Fd(0)),
    (libc::SYS_fchmodat, "fchmodat", Target::At(0, 1)),
    (libc::SYS_fchown, "fchown", Target::Fd(0)),
    (libc::SYS_fchownat, "fchownat", Target::At(0, 1)),
    (libc::SYS_fsetxattr, "fsetxattr", Target::Fd(0)),
    (libc::SYS_setxattr, "setxattr", Target::Path(0)),
    (libc::SYS_ioctl, "ioctl", Target::Fd(0)),
    (libc::SYS_utimensat, "utimensat", Target::At(0, 1)),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_open, "open", Target::Path(0)),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_mkdir, "mkdir", Target::Path(0)),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_rmdir, "rmdir", Target::Path(0)),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_unlink, "unlink", Target::Path(0)),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_rename, "rename", Target::Path(1)),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_renameat, "renameat", Target::At(2, 3)),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_link, "link", Target::Path(1)),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_symlink, "symlink", Target::Path(1)),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_chmod, "chmod", Target::Path(0)),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_chown, "chown", Target::Path(0)),
];

/// What happens at a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Act {
    /// The process is killed before it.
    Kill,
    /// The thread waits before it, until [`Tracer::release`].
    Hold,
    /// The kernel does not do it and answers with this error.
    Fail(Errno),
}

/// What the follower and its owner share.
#[derive(Default)]
struct Orders {
    /// At which step, counted from 1, what happens.
    at: Option<(usize, Act)>,
    /// The steps taken since the order was given.
    steps: Vec<String>,
    /// The thread that is held.
    held: Option<Pid>,
    /// Whether it shall go on.
    release: bool,
}

/// A process being followed.
pub struct Tracer {
    thread: JoinHandle<Result<()>>,
    orders: Arc<Mutex<Orders>>,
}

impl Tracer {
    /// Follows `pid`; kills it before its `fatal`-th step below `directory` (counted from 1), if there is one.
    pub fn attach(pid: Pid, directory: &Path, fatal: Option<usize>) -> Result<Tracer> {
        let (ready, attached) = mpsc::channel();
        let directory = directory.to_owned();
        let at = fatal.map(|fatal| (fatal, Act::Kill));
        let orders = Arc::new(Mutex::new(Orders { at, ..Orders::default() }));
        let theirs = Arc::clone(&orders);
        // Only the thread that attached may follow.
        let thread = std::thread::spawn(move || {
            let outcome = seize(pid);
            let failed = outcome.is_err();
            let _ = ready.send(outcome);
            if failed { Ok(()) } else { follow(pid, &directory, &theirs) }
        });
        attached.recv()??;
        Ok(Tracer { thread, orders })
    }

    /// From now on steps are counted anew, and this happens at one of them.
    pub fn order(&self, step: usize, act: Act) {
        *self.orders.lock().unwrap() = Orders { at: Some((step, act)), ..Orders::default() };
    }

    /// Whether a thread is held.
    pub fn holds(&self) -> bool {
        self.orders.lock().unwrap().held.is_some()
    }

    /// Lets the thread that is held go on; nothing happens at later steps.
    pub fn release(&self) {
        let mut orders = self.orders.lock().unwrap();
        (orders.release, orders.at) = (true, None);
    }

    /// The steps taken since the last order.
    pub fn taken(&self) -> Vec<String> {
        self.orders.lock().unwrap().steps.clone()
    }

    /// The steps it took, once the process has ended: call and path. A fatal one is the last, not taken.
    pub fn steps(self) -> Result<Vec<String>> {
        self.thread.join().map_err(|_| anyhow!("the tracer panicked"))??;
        let orders = std::mem::take(&mut *self.orders.lock().unwrap());
        Ok(orders.steps)
    }
}

/// Attaches to every thread and has each stop at its next system call.
fn seize(pid: Pid) -> Result<()> {
    let mut seen = HashSet::new();
    // Threads may start while this goes on; those of followed threads are followed, so it ends.
    loop {
        let threads = std::fs::read_dir(format!("/proc/{pid}/task"))?;
        let mut fresh = Vec::new();
        for thread in threads {
            let id: i32 = thread?.file_name().to_string_lossy().parse()?;
            if seen.insert(id) {
                fresh.push(Pid::from_raw(id));
            }
        }
        if fresh.is_empty() {
            return Ok(());
        }
        for thread in fresh {
            let options = Options::PTRACE_O_TRACESYSGOOD | Options::PTRACE_O_TRACECLONE;
            match ptrace::seize(thread, options) {
                // Followed already because its parent was, or gone.
                Err(Errno::EPERM | Errno::ESRCH) if thread != pid => continue,
                outcome => outcome.with_context(|| format!("cannot trace {thread}"))?,
            }
            ptrace::interrupt(thread)?;
        }
    }
}

fn follow(pid: Pid, directory: &Path, orders: &Mutex<Orders>) -> Result<()> {
    let mut failing = HashMap::new();
    let flags = WaitPidFlag::__WALL | WaitPidFlag::__WNOTHREAD;
    loop {
        let mut flags = flags;
        {
            let mut orders = orders.lock().unwrap();
            if let Some(thread) = orders.held {
                // Others go on meanwhile; when to release it is said by somebody who sends no signal.
                flags |= WaitPidFlag::WNOHANG;
                if std::mem::take(&mut orders.release) {
                    orders.held = None;
                    go_on(thread, None)?;
                }
            }
        }
        let (thread, signal) = match waitpid(None, Some(flags)) {
            Err(Errno::ECHILD) => return Ok(()),
            Err(Errno::EINTR) => continue,
            Err(error) => return Err(error.into()),
            Ok(WaitStatus::StillAlive) => {
                std::thread::sleep(Duration::from_millis(1));
                continue;
            }
            Ok(WaitStatus::PtraceSyscall(thread)) => {
                if let Some(errno) = failing.remove(&thread) {
                    answer(thread, errno)?;
                } else if let Some(step) = step(pid, thread, directory) {
                    let mut orders = orders.lock().unwrap();
                    let dead =
                        matches!(orders.at, Some((at, Act::Kill)) if orders.steps.len() >= at);
                    if !dead {
                        orders.steps.push(step);
                    }
                    match orders.at.filter(|(at, _)| !dead && *at == orders.steps.len()) {
                        Some((_, Act::Kill)) => kill(pid, Signal::SIGKILL)?,
                        Some((_, Act::Hold)) => {
                            orders.held = Some(thread);
                            continue;
                        }
                        Some((_, Act::Fail(errno))) => {
                            leave_out(thread)?;
                            failing.insert(thread, errno);
                        }
                        None => {}
                    }
                }
                (thread, None)
            }
            Ok(WaitStatus::Stopped(thread, signal)) => (thread, Some(signal)),
            Ok(WaitStatus::PtraceEvent(thread, signal, event)) => {
                // An event has a signal of its own to pass on only when the process is stopped by it.
                let group_stop = event == libc::PTRACE_EVENT_STOP && signal != Signal::SIGTRAP;
                (thread, group_stop.then_some(signal))
            }
            Ok(_) => continue,
        };
        let signal = signal.filter(|signal| !matches!(signal, Signal::SIGTRAP | Signal::SIGSTOP));
        go_on(thread, signal)?;
    }
}

/// Lets a thread go on to its next system call, or to the end of the present one.
fn go_on(thread: Pid, signal: Option<Signal>) -> Result<()> {
    match ptrace::syscall(thread, signal) {
        Ok(()) | Err(Errno::ESRCH) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Whether a system call can be made to fail here.
pub const CAN_FAIL: bool = cfg!(target_arch = "x86_64");

/// Has the kernel not do the system call that the thread is about to make.
#[cfg(target_arch = "x86_64")]
fn leave_out(thread: Pid) -> Result<()> {
    let mut registers = ptrace::getregs(thread)?;
    registers.orig_rax = u64::MAX;
    Ok(ptrace::setregs(thread, registers)?)
}

/// Answers a system call that was left out.
#[cfg(target_arch = "x86_64")]
fn answer(thread: Pid, errno: Errno) -> Result<()> {
    let mut registers = ptrace::getregs(thread)?;
    registers.rax = (-i64::from(errno as i32)).cast_unsigned();
    Ok(ptrace::setregs(thread, registers)?)
}

#[cfg(not(target_arch = "x86_64"))]
fn leave_out(_: Pid) -> Result<()> {
    Err(anyhow!("not on this kind of processor"))
}

#[cfg(not(target_arch = "x86_64"))]
fn answer(_: Pid, _: Errno) -> Result<()> {
    Err(anyhow!("not on this kind of processor"))
}

/// The step that the thread is about to take, if it is one.
fn step(pid: Pid, thread: Pid, directory: &Path) -> Option<String> {
    let info = ptrace::syscall_info(thread).ok()?;
    if info.op != libc::PTRACE_SYSCALL_INFO_ENTRY {
        return None;
    }
    // SAFETY: the kernel filled `entry` in, as `op` says.
    let entry = unsafe { info.u.entry };
    let number = i64::try_from(entry.nr).ok()?;
    let (_, name, target) = CALLS.iter().find(|(call, _, _)| *call == number)?;
    let path = match *target {
        Target::Fd(n) => descriptor(pid, entry.args[n])?,
        Target::At(fd, path) => at(pid, entry.args[fd], entry.args[path])?,
        Target::Path(path) => at(pid, libc::AT_FDCWD as u64, entry.args[path])?,
        Target::Open => {
            changes(entry.args[2])?;
            at(pid, entry.args[0], entry.args[1])?
        }
        Target::Open2 => {
            let mut how = [0; 8];
            memory(pid, entry.args[2], &mut how)?;
            changes(u64::from_ne_bytes(how))?;
            at(pid, entry.args[0], entry.args[1])?
        }
    };
    let below = path.strip_prefix(directory).ok()?;
    // A file without a name shows its inode, which says nothing.
    let shown = match below.to_string_lossy() {
        unnamed if unnamed.ends_with(" (deleted)") => below.parent()?.join("unnamed"),
        _ => below.to_owned(),
    };
    Some(format!("{name}({})", shown.display()))
}

/// Whether opening with these flags may change something.
fn changes(flags: u64) -> Option<()> {
    let tmpfile = (libc::O_TMPFILE & !libc::O_DIRECTORY) as u64;
    (flags & (libc::O_CREAT as u64 | libc::O_TRUNC as u64 | tmpfile) != 0).then_some(())
}

fn descriptor(pid: Pid, fd: u64) -> Option<PathBuf> {
    std::fs::read_link(format!("/proc/{pid}/fd/{}", fd as i32)).ok()
}

fn at(pid: Pid, fd: u64, address: u64) -> Option<PathBuf> {
    let mut text = vec![0; 4096];
    // A path near the end of a mapping is shorter than the buffer.
    let length = (0..4).find_map(|shift| {
        let length = 4096 >> (shift * 2);
        memory(pid, address, &mut text[..length]).map(|()| length)
    })?;
    let end = text[..length].iter().position(|byte| *byte == 0)?;
    let path = PathBuf::from(String::from_utf8_lossy(&text[..end]).into_owned());
    if path.is_absolute() {
        return Some(path);
    }
    let base = if fd as i32 == libc::AT_FDCWD {
        std::fs::read_link(format!("/proc/{pid}/cwd")).ok()?
    } else {
        descriptor(pid, fd)?
    };
    Some(base.join(path))
}

fn memory(pid: Pid, address: u64, into: &mut [u8]) -> Option<()> {
    let memory = std::fs::File::open(format!("/proc/{pid}/mem")).ok()?;
    memory.read_exact_at(into, address).ok()
}
