//! This process: what it was given at its start, and its end.

use crate::model::{Error, ErrorKind, Result};
use rustix::process::{DumpableBehavior, Resource, Rlimit};
use std::os::fd::{FromRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};

/// Takes the descriptors that the service manager passed (LISTEN_FDS), once.
pub fn take_passed_descriptors() -> Result<Vec<OwnedFd>> {
    static TAKEN: AtomicBool = AtomicBool::new(false);
    if TAKEN.swap(true, Ordering::AcqRel) {
        return Ok(Vec::new());
    }
    let passed = sd_notify::listen_fds().map_err(|error| {
        Error::new(ErrorKind::Failed, format!("bad socket activation: {error}"))
    })?;
    // SAFETY: the protocol says that these descriptors were opened for this process and that
    // nobody else in it knows them; TAKEN lets them be owned only once.
    Ok(passed.map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }).collect())
}

/// Lets large answers go back to the kernel when they were sent: glibc would keep what was as large as
/// the largest, in an arena for each thread. Halves resident memory after 100,000 volumes were listed.
pub fn give_back_freed_memory() {
    #[cfg(target_env = "gnu")]
    // SAFETY: called before other threads exist; the values are within what mallopt(3) allows, and a
    // refusal changes nothing.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, 1 << 20);
        libc::mallopt(libc::M_ARENA_MAX, 2);
    }
}

/// Whether this process is in no core dump.
static UNDUMPED: AtomicBool = AtomicBool::new(false);

/// Keeps the memory of this process, which secrets pass through, out of core dumps, and that of its programs. This one's
/// only where it is root's: its programs open by path what it has open, which then takes a capability.
pub fn keep_out_of_dumps() -> Result<()> {
    let failed = |error: std::io::Error| Error::io("cannot keep out of core dumps", &error);
    // With a limit of 0 there is no file, but the program that core_pattern may name is given the memory; one byte is
    // where Linux (fs/coredump.c) and systemd-coredump draw the line for that, too. A hard limit of 0 stays.
    let most = rustix::process::getrlimit(Resource::Core).maximum;
    let limit = Some(most.unwrap_or(1).min(1));
    let limit = Rlimit { current: limit, maximum: limit };
    rustix::process::setrlimit(Resource::Core, limit).map_err(|error| failed(error.into()))?;
    UNDUMPED.store(rustix::process::geteuid().is_root(), Ordering::Release);
    stay_out_of_dumps().map_err(failed)
}

/// The same again, after a change of credentials, by which the kernel forgets it.
pub(super) fn stay_out_of_dumps() -> std::io::Result<()> {
    if UNDUMPED.load(Ordering::Acquire) {
        rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    }
    Ok(())
}

/// Ends the process at once: no destructors, and no waiting for threads that a dead server holds.
pub fn exit_now(status: u8) -> ! {
    // SAFETY: _exit has no precondition.
    unsafe { libc::_exit(i32::from(status)) }
}
