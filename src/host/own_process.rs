//! This process: what it was given at its start, and its end.

use crate::model::{Error, ErrorKind, Result};
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

/// Ends the process at once: no destructors, and no waiting for threads that a dead server holds.
pub fn exit_now(status: u8) -> ! {
    // SAFETY: _exit has no precondition.
    unsafe { libc::_exit(i32::from(status)) }
}
