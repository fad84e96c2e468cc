//! Upload and download: a volume's content from or to a descriptor of the client's, for every type
//! of pool in the same way.

use super::{ActivePool, Backend, OpContext, VolumeAccess, VolumeIo};
use crate::host::copy::{Copier, Failure, Holes};
use crate::host::{FileStat, Limits, files};
use crate::model::{
    Declaration, Error, ErrorKind, FormatSource, Result, SecretValue, Volume, VolumeFormat,
    VolumeKind, format_size,
};
use rustix::fs::{FileType, OFlags, SeekFrom};
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::time::Duration;
use zeroize::Zeroizing;

/// How long a client's pipe or socket may do nothing.
const IDLE: Duration = Duration::from_secs(60);

/// Which part of a volume is transferred, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TransferOptions {
    /// First byte in the volume.
    pub offset: u64,
    /// How many bytes; absent means to the end of the volume (download) or of the source (upload).
    pub length: Option<u64>,
    /// Holes stay holes: not read, not written; in a descriptor that can have none, zeros.
    pub sparse: bool,
    /// Although the volume is in use.
    pub force: bool,
    /// How long a pipe or socket may do nothing.
    pub idle: Duration,
}

impl Default for TransferOptions {
    fn default() -> Self {
        Self { offset: 0, length: None, sparse: false, force: false, idle: IDLE }
    }
}

/// A client's descriptor that was checked: a file, block device, pipe or stream socket, open for
/// what it is to do.
#[derive(Debug)]
pub struct Peer {
    file: File,
    stat: FileStat,
}

impl Peer {
    /// To read from; `InvalidArgument` says what is wrong with it. Does not block.
    pub fn source(descriptor: OwnedFd) -> Result<Self> {
        Self::check(descriptor, OFlags::WRONLY, "reading")
    }

    /// To write into; `InvalidArgument` says what is wrong with it. Does not block.
    pub fn destination(descriptor: OwnedFd) -> Result<Self> {
        Self::check(descriptor, OFlags::RDONLY, "writing")
    }

    fn check(descriptor: OwnedFd, unfit: OFlags, purpose: &str) -> Result<Self> {
        let refused = |what: &str| Err(invalid(format!("the descriptor {what}")));
        let io = |error: std::io::Error| Error::io("the descriptor cannot be looked at", &error);
        let stat = FileStat::of(&descriptor).map_err(io)?;
        match stat.kind {
            FileType::RegularFile | FileType::BlockDevice | FileType::Fifo => {}
            FileType::Socket => {
                let kind = rustix::net::sockopt::socket_type(&descriptor);
                if kind.map_err(|error| io(error.into()))? != rustix::net::SocketType::STREAM {
                    return refused("is a socket that is no stream");
                }
            }
            FileType::Directory => return refused("is a directory"),
            FileType::CharacterDevice => {
                return refused("is a character device; pass a file, pipe or socket");
            }
            _ => return refused("is no file, block device, pipe or stream socket"),
        }
        let flags = rustix::fs::fcntl_getfl(&descriptor).map_err(|error| io(error.into()))?;
        if flags.contains(OFlags::PATH) || flags & OFlags::RWMODE == unfit {
            return refused(&format!("is not open for {purpose}"));
        }
        if unfit == OFlags::RDONLY && flags.contains(OFlags::APPEND) && !stat.kind.is_fifo() {
            return refused("is open for appending only; open it without that");
        }
        Ok(Self { file: descriptor.into(), stat })
    }

    /// Reads a secret's value to its end, at most `most` bytes.
    pub fn read_secret(&self, most: usize, idle: Duration) -> Result<SecretValue> {
        let limits = Limits::default();
        let what = "the value of a secret";
        let mut done = |_| {};
        let mut copier = Copier { limits: &limits, idle, done: &mut done };
        let failed = |failure: Failure| failure.into_error(what);
        let value = match self.place()? {
            Some((at, left)) => {
                let length = usize::try_from(left).unwrap_or(usize::MAX).min(most + 1);
                let mut value = Zeroizing::new(vec![0; length]);
                self.file
                    .read_exact_at(&mut value, at)
                    .map_err(|error| failed(Failure::Read(error)))?;
                value
            }
            None => copier.gather(self.file.as_fd(), most + 1).map_err(failed)?,
        };
        match value.len() {
            0 => Err(invalid(format!("{what} is empty"))),
            length if length > most => Err(Error::new(
                ErrorKind::LimitsExceeded,
                format!("{what} is larger than {most} bytes"),
            )),
            _ => Ok(SecretValue::new(value.to_vec())),
        }
    }

    /// Where a file or device stands and how much of it follows; none of a stream.
    fn place(&self) -> Result<Option<(u64, u64)>> {
        if !matches!(self.stat.kind, FileType::RegularFile | FileType::BlockDevice) {
            return Ok(None);
        }
        let io = |error: std::io::Error| Error::io("the descriptor has no position", &error);
        let at = rustix::fs::seek(&self.file, SeekFrom::Current(0)).map_err(|e| io(e.into()))?;
        let size = match self.stat.kind {
            FileType::BlockDevice => {
                let size = files::device_size(&self.file).map_err(io)?;
                self.stand_at(at)?;
                size
            }
            _ => FileStat::of(&self.file).map_err(io)?.size,
        };
        Ok(Some((at, size.saturating_sub(at))))
    }

    /// Leaves a file or device where its client goes on.
    fn stand_at(&self, at: u64) -> Result<()> {
        rustix::fs::seek(&self.file, SeekFrom::Start(at))
            .map(drop)
            .map_err(|error| Error::io("the descriptor cannot be positioned", &error.into()))
    }

    /// Refuses the volume's own file.
    fn check_other(&self, io: &VolumeIo) -> Result<()> {
        let own = FileStat::of(io)
            .map_err(|error| Error::io("the volume cannot be looked at", &error))?;
        if (own.device, own.inode) == (self.stat.device, self.stat.inode) {
            return Err(invalid("the descriptor is of the volume itself".to_owned()));
        }
        Ok(())
    }
}

fn invalid(what: String) -> Error {
    Error::new(ErrorKind::InvalidArgument, what)
}

/// Writes what `source` delivers into a volume, syncs it and reads the volume again. From the first
/// byte until it is written as it should be the volume is marked incomplete.
pub fn upload(
    backend: &dyn Backend,
    pool: &ActivePool,
    volume: &Volume,
    source: Peer,
    options: TransferOptions,
    ctx: &OpContext,
) -> Result<Volume> {
    let what = format!("volume {} in pool {}", volume.name, pool.def.name);
    let access = VolumeAccess::Write { force: options.force };
    let io = backend.open_volume(pool, volume, access, ctx)?;
    source.check_other(&io).map_err(|error| error.context(&what))?;
    let upload = Upload::plan(volume, &io, &source, options).map_err(|e| e.context(&what))?;
    ctx.progress.set_total(upload.known.unwrap_or(0));
    let mark = Mark::incomplete(pool, volume, &io, ctx)?;
    let written = upload.run(&io, &source, options, ctx, &what)?;
    let failed = |error: std::io::Error| {
        Error::io(format_args!("{what}: cannot write it to the storage"), &error)
    };
    let whole_image = upload.grows && options.offset == 0 && options.length.is_none();
    if whole_image {
        io.file().set_len(written).map_err(failed)?;
    }
    io.file().sync_all().map_err(failed)?;
    ctx.findings.say("bytes", written);
    backend.volume_written(pool, volume, ctx)?;
    let covered = whole_image || (options.offset == 0 && written >= io.size);
    if covered || volume.incomplete.is_none() {
        mark.lift(pool, volume, ctx)?;
    }
    drop(io);
    backend
        .refresh_volume(pool, &volume.name, ctx)?
        .ok_or_else(|| Error::new(ErrorKind::NotFound, format!("{what} is gone")))
}

/// What an upload is to do.
struct Upload {
    /// Where the source stands, unless it is a stream.
    start: Option<u64>,
    /// How many bytes come, where that is known.
    known: Option<u64>,
    /// How many bytes may come.
    limit: u64,
    /// Whether the volume becomes larger when more comes.
    grows: bool,
}

impl Upload {
    fn plan(
        volume: &Volume,
        io: &VolumeIo,
        source: &Peer,
        options: TransferOptions,
    ) -> Result<Self> {
        let grows = io.kind == VolumeKind::File && volume.format != VolumeFormat::Raw;
        let most = if grows { i64::MAX as u64 } else { io.size };
        let room = most.checked_sub(options.offset).ok_or_else(|| {
            invalid(format!("offset {} is behind its end ({} bytes)", options.offset, io.size))
        })?;
        let place = source.place()?;
        let known = match (place, options.length) {
            (Some((_, left)), Some(length)) if left < length => {
                return Err(invalid(format!("the source has {left} bytes, not {length}")));
            }
            (_, Some(length)) => Some(length),
            (Some((_, left)), None) => Some(left),
            (None, None) => None,
        };
        if let Some(known) = known.filter(|known| *known > room) {
            return Err(invalid(format!(
                "{known} bytes from offset {} do not fit into its {} bytes; resize it first",
                options.offset, io.size
            )));
        }
        Ok(Self { start: place.map(|(at, _)| at), known, limit: known.unwrap_or(room), grows })
    }

    /// Copies; how many bytes.
    fn run(
        &self,
        io: &VolumeIo,
        source: &Peer,
        options: TransferOptions,
        ctx: &OpContext,
        what: &str,
    ) -> Result<u64> {
        let mut done = |bytes| ctx.progress.add(bytes);
        let mut copier = Copier { limits: &ctx.limits, idle: options.idle, done: &mut done };
        let to = (io.file(), options.offset);
        let failed = |failure: Failure| failure.into_error(what);
        if let Some(start) = self.start {
            let holes = if options.sparse { io.holes() } else { Holes::Fill };
            copier.files((&source.file, start), to, self.limit, holes).map_err(failed)?;
            ctx.findings.say("method", "copy");
            // A hole at the end of the source is no write.
            if self.grows {
                let end = options.offset + self.limit;
                extend(io.file(), end)
                    .map_err(|error| Error::io(format_args!("{what}: cannot extend it"), &error))?;
            }
            source.stand_at(start + self.limit)?;
            return Ok(self.limit);
        }
        let stream = source.file.as_fd();
        let came = copier.from_stream(stream, to, self.limit).map_err(failed)?;
        ctx.findings.say("method", "stream");
        match self.known {
            Some(known) if came < known => {
                Err(invalid(format!("{what}: the source ended after {came} of {known} bytes")))
            }
            None if came == self.limit && !copier.at_end(stream).map_err(failed)? => {
                Err(invalid(format!(
                    "{what}: the source has more than the {} that fit; resize it first",
                    format_size(self.limit)
                )))
            }
            _ => Ok(came),
        }
    }
}

/// Makes a file at least so long.
fn extend(file: &File, end: u64) -> std::io::Result<()> {
    match file.metadata()?.len() < end {
        true => file.set_len(end),
        false => Ok(()),
    }
}

/// The mark on a volume that is being overwritten; it stays unless it is lifted.
pub(super) struct Mark {
    /// What was declared before.
    before: Option<Declaration>,
    /// What is declared while it is not whole.
    marked: Declaration,
}

impl Mark {
    /// Marks a volume; durable when it returns.
    pub(super) fn incomplete(
        pool: &ActivePool,
        volume: &Volume,
        io: &VolumeIo,
        ctx: &OpContext,
    ) -> Result<Self> {
        let (uuid, name) = (pool.def.uuid, &volume.name);
        let before = match volume.format_source {
            FormatSource::Declared => ctx.records.declared(uuid, name),
            FormatSource::Probed => None,
        };
        let identity = match io.kind {
            VolumeKind::File => Some(files::identity(io).map_err(|error| {
                let what = format!("volume {name} in pool {}", pool.def.name);
                Error::io(format_args!("{what}: cannot tell its identity"), &error)
            })?),
            _ => None,
        };
        let key = identity.is_none().then(|| volume.key().to_owned());
        let declared = before.clone().unwrap_or_else(|| Declaration {
            identity,
            key,
            format: volume.format,
            probed: true,
            backing: volume.backing().cloned(),
            encryption: None,
            incomplete: None,
        });
        let reason = "it was overwritten in part; write it whole, or delete it".to_owned();
        let marked = Declaration { incomplete: Some(reason), ..declared };
        ctx.records.declare(uuid, name, &marked)?;
        Ok(Self { before, marked })
    }

    /// The volume will never be whole again, and why.
    pub(super) fn stay(
        self,
        pool: &ActivePool,
        volume: &Volume,
        ctx: &OpContext,
        why: &str,
    ) -> Result<()> {
        let marked = Declaration { incomplete: Some(why.to_owned()), ..self.marked };
        ctx.records.declare(pool.def.uuid, &volume.name, &marked)
    }

    /// The volume is as it should be.
    pub(super) fn lift(self, pool: &ActivePool, volume: &Volume, ctx: &OpContext) -> Result<()> {
        self.lift_as(pool, volume, ctx, |_| {})
    }

    /// The volume is as it should be, which is another thing than before, if anybody declared that.
    pub(super) fn lift_as(
        self,
        pool: &ActivePool,
        volume: &Volume,
        ctx: &OpContext,
        change: impl FnOnce(&mut Declaration),
    ) -> Result<()> {
        let (uuid, name) = (pool.def.uuid, &volume.name);
        match self.before {
            Some(before) => {
                let mut whole = Declaration { incomplete: None, ..before };
                change(&mut whole);
                ctx.records.declare(uuid, name, &whole)
            }
            None => ctx.records.forget(uuid, name),
        }
    }
}

/// Writes a volume's content into `destination`.
pub fn download(
    backend: &dyn Backend,
    pool: &ActivePool,
    volume: &Volume,
    destination: Peer,
    options: TransferOptions,
    ctx: &OpContext,
) -> Result<()> {
    let what = format!("volume {} in pool {}", volume.name, pool.def.name);
    let io = backend.open_volume(pool, volume, VolumeAccess::Read, ctx)?;
    destination.check_other(&io).map_err(|error| error.context(&what))?;
    let left = io.size.checked_sub(options.offset);
    let length = left.filter(|left| options.length.is_none_or(|length| length <= *left));
    let length = length.map(|left| options.length.unwrap_or(left)).ok_or_else(|| {
        invalid(format!(
            "{what}: {} bytes from offset {} are more than its {} bytes",
            options.length.unwrap_or(0),
            options.offset,
            io.size
        ))
    })?;
    ctx.progress.set_total(length);
    let mut done = |bytes| ctx.progress.add(bytes);
    let mut copier = Copier { limits: &ctx.limits, idle: options.idle, done: &mut done };
    let from = (io.file(), options.offset);
    let Some((at, left)) = destination.place()? else {
        let stream = destination.file.as_fd();
        copier.into_stream(from, stream, length).map_err(|failure| failure.into_error(&what))?;
        ctx.findings.say("method", "stream");
        ctx.findings.say("bytes", length);
        return Ok(());
    };
    let regular = destination.stat.kind.is_file();
    if !regular && length > left {
        return Err(invalid(format!("{what}: the device has room for {left} bytes, not {length}")));
    }
    let holes = match (options.sparse, regular && left == 0) {
        (false, _) => Holes::Fill,
        (true, true) => Holes::Skip,
        (true, false) => Holes::Punch,
    };
    let failed = |error: std::io::Error| {
        Error::io(format_args!("{what}: cannot write the destination to its storage"), &error)
    };
    copier
        .files(from, (&destination.file, at), length, holes)
        .map_err(|failure| failure.into_error(&what))?;
    if regular {
        extend(&destination.file, at + length).map_err(failed)?;
    }
    destination.file.sync_all().map_err(failed)?;
    destination.stand_at(at + length)?;
    ctx.findings.say("method", "copy");
    ctx.findings.say("bytes", length);
    Ok(())
}
