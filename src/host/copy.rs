//! Copying between descriptors: files and devices by ranges, pipes and sockets as streams, in steps
//! so that a cancel and a deadline are heard.
//!
//! Used by `backend`. The offsets of files are explicit: what a client's descriptor stands at is
//! its own.

use super::Limits;
use crate::model::{Error, ErrorKind};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{FallocateFlags, SeekFrom};
use rustix::io::Errno;
use rustix::pipe::SpliceFlags;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};
use zeroize::Zeroizing;

/// How much is copied between looks at the limits.
const STEP: u64 = 32 << 20;
/// How much is read and written at once where the kernel cannot copy by itself.
const BUFFER: usize = 1 << 20;
/// How long is waited for a stream between looks at the limits.
const LOOK: Duration = Duration::from_millis(100);

/// Why copying ended early.
#[derive(Debug)]
pub enum Failure {
    /// The source could not be read.
    Read(io::Error),
    /// The destination could not be written.
    Write(io::Error),
    /// Cancelled, or past its time, or the other end of a stream did nothing for too long.
    Ended(Error),
}

impl Failure {
    /// As an error about `what`.
    pub fn into_error(self, what: impl std::fmt::Display) -> Error {
        match self {
            Self::Read(error) => Error::io(format_args!("{what}: cannot read the source"), &error),
            Self::Write(error) => {
                Error::io(format_args!("{what}: cannot write the destination"), &error)
            }
            Self::Ended(error) => error.context(what),
        }
    }
}

/// What becomes of the holes of a source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Holes {
    /// Zeros are written.
    Fill,
    /// They are left out: the destination has nothing there.
    Skip,
    /// The destination gets holes, or zeros where it cannot have any.
    Punch,
    /// The destination is told to have zeros there: it is a [served](super::Server) image, where a
    /// hole is a hint that QEMU heeds in part.
    Zero,
}

/// One act of copying: its limits, and who is told of each step.
pub struct Copier<'a> {
    /// Deadline and cancel.
    pub limits: &'a Limits,
    /// How long the other end of a stream may do nothing.
    pub idle: Duration,
    /// Is told how many more bytes are done.
    pub done: &'a mut dyn FnMut(u64),
}

type Copied<T> = Result<T, Failure>;

impl Copier<'_> {
    fn check(&self) -> Copied<()> {
        self.limits.check().map_err(Failure::Ended)
    }

    /// Makes the whole of an empty file share the blocks of another; false where the file system
    /// cannot.
    pub fn reflink(&mut self, from: &File, to: &File) -> Copied<bool> {
        self.check()?;
        match rustix::fs::ioctl_ficlone(to, from) {
            Ok(()) => Ok(true),
            Err(Errno::INVAL | Errno::XDEV | Errno::OPNOTSUPP | Errno::NOTTY | Errno::NOSYS) => {
                Ok(false)
            }
            Err(error) => Err(Failure::Write(error.into())),
        }
    }

    /// Copies `length` bytes between files or block devices. A source that ends before that is an
    /// error.
    pub fn files(
        &mut self,
        (from, start): (&File, u64),
        (to, target): (&File, u64),
        length: u64,
        holes: Holes,
    ) -> Copied<()> {
        let mut at = 0;
        while at < length {
            let (data, end) = match holes {
                Holes::Fill => (at, length),
                _ => next_data(from, start + at, start + length)
                    .map_err(Failure::Read)
                    .map(|(data, end)| (data - start, end - start))?,
            };
            if data > at {
                self.hole(to, target + at, data - at, holes)?;
            }
            self.data((from, start + data), (to, target + data), end - data)?;
            at = end;
        }
        Ok(())
    }

    fn hole(&mut self, to: &File, at: u64, length: u64, holes: Holes) -> Copied<()> {
        self.check()?;
        let is_done = match holes {
            Holes::Fill | Holes::Skip => Ok(true),
            Holes::Punch => punch(to, at, length),
            Holes::Zero => zero(to, at, length),
        };
        if !is_done.map_err(Failure::Write)? {
            let mut left = length;
            while left > 0 {
                self.check()?;
                let step = left.min(STEP);
                super::files::write_zeros(to, at + (length - left), step)
                    .map_err(Failure::Write)?;
                left -= step;
            }
        }
        (self.done)(length);
        Ok(())
    }

    fn data(
        &mut self,
        (from, start): (&File, u64),
        (to, target): (&File, u64),
        length: u64,
    ) -> Copied<()> {
        let (mut source, mut sink) = (start, target);
        let end = start + length;
        let mut by_kernel = true;
        let mut buffer = Vec::new();
        while source < end {
            self.check()?;
            let step = STEP.min(end - source);
            let before = sink;
            let copied = if by_kernel {
                match rustix::fs::copy_file_range(
                    from,
                    Some(&mut source),
                    to,
                    Some(&mut sink),
                    usize::try_from(step).unwrap_or(BUFFER),
                ) {
                    Ok(copied) => copied as u64,
                    Err(Errno::INTR) => continue,
                    // Not between these two; or it failed, and does not say on which side.
                    Err(_) => {
                        by_kernel = false;
                        continue;
                    }
                }
            } else {
                let copied = by_hand((from, source), (to, sink), step, &mut buffer)?;
                source += copied;
                sink += copied;
                copied
            };
            if copied == 0 {
                // Some file systems say so of a file that they cannot copy.
                if by_kernel {
                    by_kernel = false;
                    continue;
                }
                return Err(Failure::Read(io::Error::new(
                    io::ErrorKind::UnexpectedEof,
                    format!("it ends after {} bytes", source),
                )));
            }
            begin_writing(to, before, copied);
            (self.done)(copied);
        }
        Ok(())
    }

    /// Copies from a stream into a file from `target` on, to the end of the stream or until
    /// `limit` bytes have come; how many came.
    pub fn from_stream(
        &mut self,
        from: BorrowedFd<'_>,
        (to, target): (&File, u64),
        limit: u64,
    ) -> Copied<u64> {
        let kind = Stream::of(from).map_err(Failure::Read)?;
        let mut buffer = vec![0; BUFFER];
        let mut came = 0;
        while came < limit {
            self.wait(from, PollFlags::IN)?;
            let wanted = usize::try_from(limit - came).unwrap_or(BUFFER).min(BUFFER);
            let at = target + came;
            let got = match kind {
                Stream::Pipe => {
                    let mut sink = at;
                    rustix::pipe::splice(
                        from,
                        None,
                        to,
                        Some(&mut sink),
                        wanted,
                        SpliceFlags::NONBLOCK | SpliceFlags::MOVE,
                    )
                }
                Stream::Socket => receive(from, &mut buffer[..wanted]),
            };
            let got = match got {
                Ok(got) => got,
                Err(Errno::AGAIN | Errno::INTR) => continue,
                Err(Errno::CONNRESET) => return Err(Failure::Read(Errno::CONNRESET.into())),
                Err(error) if kind == Stream::Pipe => return Err(Failure::Write(error.into())),
                Err(error) => return Err(Failure::Read(error.into())),
            };
            if got == 0 {
                break;
            }
            if kind == Stream::Socket {
                to.write_all_at(&buffer[..got], at).map_err(Failure::Write)?;
            }
            let before = came;
            came += got as u64;
            if before / STEP != came / STEP {
                begin_writing(to, target + before / STEP * STEP, STEP);
            }
            (self.done)(got as u64);
        }
        Ok(came)
    }

    /// Reads a stream to its end, at most `most` bytes of it, into memory that is wiped.
    pub fn gather(&mut self, from: BorrowedFd<'_>, most: usize) -> Copied<Zeroizing<Vec<u8>>> {
        // Never moved to a larger place: that would leave a copy behind.
        let mut bytes = Zeroizing::new(vec![0; most]);
        let mut came = 0;
        while came < most {
            self.wait(from, PollFlags::IN)?;
            match rustix::io::read(from, &mut bytes[came..]) {
                Ok(0) => break,
                Ok(more) => came += more,
                Err(Errno::AGAIN | Errno::INTR) => {}
                Err(error) => return Err(Failure::Read(error.into())),
            }
        }
        bytes.truncate(came);
        Ok(bytes)
    }

    /// Whether a stream has ended; waits until it says so or delivers something.
    pub fn at_end(&mut self, from: BorrowedFd<'_>) -> Copied<bool> {
        let kind = Stream::of(from).map_err(Failure::Read)?;
        loop {
            self.wait(from, PollFlags::IN)?;
            match kind {
                Stream::Pipe => {
                    let waiting = rustix::io::ioctl_fionread(from);
                    return Ok(waiting.map_err(|error| Failure::Read(error.into()))? == 0);
                }
                Stream::Socket => match peek(from) {
                    Ok(got) => return Ok(got == 0),
                    Err(Errno::AGAIN | Errno::INTR) => {}
                    Err(error) => return Err(Failure::Read(error.into())),
                },
            }
        }
    }

    /// Copies `length` bytes of a file from `start` on into a stream.
    pub fn into_stream(
        &mut self,
        (from, start): (&File, u64),
        to: BorrowedFd<'_>,
        length: u64,
    ) -> Copied<()> {
        let kind = Stream::of(to).map_err(Failure::Write)?;
        let mut buffer = vec![0; BUFFER];
        let mut gone = 0;
        while gone < length {
            self.wait(to, PollFlags::OUT)?;
            let wanted = usize::try_from(length - gone).unwrap_or(BUFFER).min(BUFFER);
            let sent = match kind {
                Stream::Pipe => {
                    let mut source = start + gone;
                    rustix::pipe::splice(
                        from,
                        Some(&mut source),
                        to,
                        None,
                        wanted,
                        SpliceFlags::NONBLOCK | SpliceFlags::MOVE,
                    )
                }
                Stream::Socket => {
                    let got = read_at(from, &mut buffer[..wanted], start + gone)
                        .map_err(Failure::Read)?;
                    match got {
                        0 => Ok(0),
                        got => send(to, &buffer[..got]),
                    }
                }
            };
            match sent {
                Ok(0) => {
                    return Err(Failure::Read(io::Error::new(
                        io::ErrorKind::UnexpectedEof,
                        format!("it ends after {} bytes", start + gone),
                    )));
                }
                Ok(sent) => {
                    gone += sent as u64;
                    (self.done)(sent as u64);
                }
                Err(Errno::AGAIN | Errno::INTR) => {}
                // A pipe fails in no other way.
                Err(error) if kind == Stream::Pipe && error != Errno::PIPE => {
                    return Err(Failure::Read(error.into()));
                }
                Err(error) => return Err(Failure::Write(error.into())),
            }
        }
        Ok(())
    }

    /// Waits until a stream is ready, for as long as it may do nothing.
    fn wait(&self, stream: BorrowedFd<'_>, events: PollFlags) -> Copied<()> {
        let patience = Instant::now() + self.idle;
        loop {
            self.check()?;
            let mut fds = [PollFd::from_borrowed_fd(stream, events)];
            let look = Timespec { tv_sec: 0, tv_nsec: LOOK.subsec_nanos().into() };
            match poll(&mut fds, Some(&look)) {
                Ok(0) | Err(Errno::INTR) => {}
                Ok(_) => return Ok(()),
                Err(error) => return Err(Failure::Read(error.into())),
            }
            if Instant::now() >= patience {
                let what = if events == PollFlags::IN { "delivered" } else { "took" };
                return Err(Failure::Ended(Error::new(
                    ErrorKind::TimedOut,
                    format!(
                        "the client's descriptor {what} nothing for {} s",
                        self.idle.as_secs_f32()
                    ),
                )));
            }
        }
    }
}

/// What a stream is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stream {
    Pipe,
    Socket,
}

impl Stream {
    fn of(fd: BorrowedFd<'_>) -> io::Result<Self> {
        let stat = super::FileStat::of(fd)?;
        if !stat.kind.is_fifo() {
            return Ok(Self::Socket);
        }
        // Fewer turns; that it may not be so large is no failure.
        let _ = rustix::pipe::fcntl_setpipe_size(fd, BUFFER);
        Ok(Self::Pipe)
    }
}

fn receive(socket: BorrowedFd<'_>, buffer: &mut [u8]) -> rustix::io::Result<usize> {
    rustix::net::recv(socket, buffer, rustix::net::RecvFlags::DONTWAIT).map(|(got, _)| got)
}

fn peek(socket: BorrowedFd<'_>) -> rustix::io::Result<usize> {
    use rustix::net::RecvFlags;
    let mut byte = [0; 1];
    rustix::net::recv(socket, &mut byte[..], RecvFlags::DONTWAIT | RecvFlags::PEEK)
        .map(|(got, _)| got)
}

fn send(socket: BorrowedFd<'_>, bytes: &[u8]) -> rustix::io::Result<usize> {
    use rustix::net::SendFlags;
    rustix::net::send(socket, bytes, SendFlags::DONTWAIT | SendFlags::NOSIGNAL)
}

fn read_at(from: &File, buffer: &mut [u8], at: u64) -> io::Result<usize> {
    loop {
        match from.read_at(buffer, at) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

/// Copies up to `length` bytes through a buffer; how many.
fn by_hand(
    (from, start): (&File, u64),
    (to, target): (&File, u64),
    length: u64,
    buffer: &mut Vec<u8>,
) -> Copied<u64> {
    buffer.resize(BUFFER, 0);
    let wanted = usize::try_from(length).unwrap_or(BUFFER).min(BUFFER);
    let got = read_at(from, &mut buffer[..wanted], start).map_err(Failure::Read)?;
    to.write_all_at(&buffer[..got], target).map_err(Failure::Write)?;
    Ok(got as u64)
}

/// The next range of data at or after `from`, up to `end`; both `end` when there is none.
pub fn next_data(file: &File, from: u64, end: u64) -> io::Result<(u64, u64)> {
    let data = match rustix::fs::seek(file, SeekFrom::Data(from)) {
        Ok(data) => data.min(end),
        Err(Errno::NXIO) => return Ok((end, end)),
        // A device, or a file system that does not know.
        Err(Errno::INVAL | Errno::OPNOTSUPP | Errno::SPIPE) => return Ok((from, end)),
        Err(error) => return Err(error.into()),
    };
    if data == end {
        return Ok((end, end));
    }
    match rustix::fs::seek(file, SeekFrom::Hole(data)) {
        Ok(hole) => Ok((data, hole.min(end))),
        Err(Errno::NXIO) => Ok((data, end)),
        Err(error) => Err(error.into()),
    }
}

/// Makes a hole, which reads as zeros; false where the file or device cannot have any.
pub fn punch(file: &File, at: u64, length: u64) -> io::Result<bool> {
    allocate(file, FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE, at, length)
}

/// Makes a range zeros without writing them; false where its storage cannot.
pub fn zero(file: &File, at: u64, length: u64) -> io::Result<bool> {
    allocate(file, FallocateFlags::ZERO_RANGE | FallocateFlags::KEEP_SIZE, at, length)
}

fn allocate(file: &File, flags: FallocateFlags, at: u64, length: u64) -> io::Result<bool> {
    loop {
        match rustix::fs::fallocate(file, flags, at, length) {
            Ok(()) => return Ok(true),
            Err(Errno::INTR) => {}
            Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::NODEV | Errno::INVAL) => {
                return Ok(false);
            }
            Err(error) => return Err(error.into()),
        }
    }
}

/// Begins to write out a range, so that the sync at the end is short. A hint.
fn begin_writing(file: &File, at: u64, length: u64) {
    let (Ok(at), Ok(length)) = (i64::try_from(at), i64::try_from(length)) else { return };
    // SAFETY: the descriptor is open; the call takes plain numbers.
    let _ = unsafe {
        libc::sync_file_range(file.as_fd().as_raw_fd(), at, length, libc::SYNC_FILE_RANGE_WRITE)
    };
}
