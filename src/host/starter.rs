//! The one thread that starts programs, which has no files open.
//!
//! A program that is started has, until it is executed, all descriptors of the thread that starts it, and
//! executing it closes them. On a network or FUSE file system each close of a file asks the server, and
//! does not return when that is dead: with an upload to one dead server under way, no program at all could
//! be started. So this thread has a table of descriptors of its own, and is passed those that a
//! program is to have. Used by `process`.

use nix::sched::{CloneFlags, unshare};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
};
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::process::{Child, Command};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Mutex, PoisonError};

/// Standard input, output and error.
type Streams = [OwnedFd; 3];

/// What it is asked to start; the streams come by its socket. Nothing in here has a descriptor, which would
/// mean another file there.
struct Request {
    command: Command,
    reply: Sender<io::Result<Child>>,
}

/// This end of the thread.
struct Starter {
    socket: OwnedFd,
    requests: Sender<Request>,
}

static STARTER: Mutex<Option<Starter>> = Mutex::new(None);

/// Starts a program with these streams and no other descriptors. The command says nothing of streams. What
/// is to die with its parent's thread dies with this process.
pub(super) fn start(command: Command, streams: &Streams) -> io::Result<Child> {
    let (reply, answer) = channel();
    {
        let mut starter = STARTER.lock().unwrap_or_else(PoisonError::into_inner);
        let starter = match &mut *starter {
            Some(starter) => starter,
            none => none.insert(Starter::new()?),
        };
        starter.pass(streams)?;
        starter.requests.send(Request { command, reply }).map_err(|_| gone())?;
    }
    answer.recv().map_err(|_| gone())?
}

fn gone() -> io::Error {
    io::Error::other("the thread that starts programs is gone")
}

impl Starter {
    fn new() -> io::Result<Self> {
        let (socket, theirs) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        let (requests, received) = channel();
        let (ready, is_ready) = channel();
        let number = theirs.as_raw_fd();
        std::thread::Builder::new().name("starter".to_owned()).spawn(move || {
            let prepared = leave_table(number);
            let well = prepared.is_ok();
            let sent = ready.send(prepared.as_ref().map(drop).map_err(io::Error::kind));
            if let (Ok(socket), true, Ok(())) = (prepared, well, sent) {
                work(&socket, &received);
            }
        })?;
        // Not before: until then the thread has the same table.
        is_ready.recv().map_err(|_| gone())??;
        drop(theirs);
        Ok(Self { socket, requests })
    }

    fn pass(&self, streams: &Streams) -> io::Result<()> {
        let streams = [streams[0].as_fd(), streams[1].as_fd(), streams[2].as_fd()];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(3))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        ancillary.push(SendAncillaryMessage::ScmRights(&streams));
        sendmsg(&self.socket, &[IoSlice::new(b"!")], &mut ancillary, SendFlags::NOSIGNAL)?;
        Ok(())
    }
}

/// Gives this thread a table of descriptors of its own, with the standard streams and its end of the socket.
fn leave_table(socket: RawFd) -> io::Result<OwnedFd> {
    unshare(CloneFlags::CLONE_FILES)?;
    let number = socket.cast_unsigned();
    for (first, last) in [(3, number.saturating_sub(1)), (number + 1, u32::MAX)] {
        if first <= last {
            // SAFETY: they are copies in a table that is this thread's alone, and nothing here refers to them.
            if unsafe { libc::close_range(first, last, 0) } != 0 {
                return Err(io::Error::last_os_error());
            }
        }
    }
    // SAFETY: it is open in this table, where nobody else knows of it.
    Ok(unsafe { OwnedFd::from_raw_fd(socket) })
}

/// Starts what it is asked to. Nothing in here may use a file of the other threads, the log included.
fn work(socket: &OwnedFd, requests: &Receiver<Request>) {
    while let Ok(Request { mut command, reply }) = requests.recv() {
        let started = receive(socket).and_then(|[input, output, complaints]| {
            command.stdin(input).stdout(output).stderr(complaints).spawn()
        });
        // With its ends of the streams.
        drop(command);
        let _ = reply.send(started);
    }
}

fn receive(socket: &OwnedFd) -> io::Result<Streams> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(3))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    recvmsg(socket, &mut [IoSliceMut::new(&mut byte)], &mut ancillary, RecvFlags::CMSG_CLOEXEC)?;
    let mut received = Vec::with_capacity(3);
    for message in ancillary.drain() {
        if let RecvAncillaryMessage::ScmRights(streams) = message {
            received.extend(streams);
        }
    }
    received.try_into().map_err(|_| io::Error::other("the streams of a program were lost"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;

    #[test]
    fn a_program_has_its_streams_and_nothing_else() {
        // Not closed when something is executed: only who does not have it does not pass it on.
        let open = File::open("/etc/hostname").unwrap();
        rustix::io::fcntl_setfd(&open, rustix::io::FdFlags::empty()).unwrap();
        for _ in 0..3 {
            let mut command = Command::new("ls");
            command.args(["-l", "/proc/self/fd"]);
            let null = || OwnedFd::from(File::open("/dev/null").unwrap());
            let (mut said, output) = io::pipe().unwrap();
            let mut child = start(command, &[null(), output.into(), null()]).unwrap();
            assert!(child.wait().unwrap().success());
            let mut text = String::new();
            io::Read::read_to_string(&mut said, &mut text).unwrap();
            // The fourth is the directory itself.
            assert_eq!(text.matches(" -> ").count(), 4, "{text}");
            assert!(!text.contains("hostname"), "{text}");
        }
        let absent = Command::new("/nonexistent/program");
        let null = || OwnedFd::from(File::open("/dev/null").unwrap());
        let refused = start(absent, &[null(), null(), null()]);
        assert_eq!(refused.unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
