//! What a file's content says that it is.
//!
//! A parser for each format is a pure function over [`Content`]: the windows of a file that were
//! read. One that needs more says which bytes; the file is then read there and it begins anew. One
//! or two reads judge almost every file.

mod bochs;
mod cloop;
mod content;
mod cow;
mod dmg;
mod iso;
mod luks;
mod parallels;
mod qcow;
mod qcow2;
mod qed;
#[cfg(test)]
mod tests;
mod vdi;
mod vhdx;
mod vmdk;
mod vpc;

use crate::model::{BackingStore, ImageAttributes, VolumeFormat};
pub use content::{Content, Stop};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// How much of a file is read before it is probed.
pub const FIRST_READ: usize = 4096;
/// Longest window that a parser asks for: what an image keeps in more is not worth the reading.
pub const LARGEST_READ: usize = 64 << 10;
/// Windows that a parser may ask for; a file that leads it on for longer is damaged.
const MOST_READS: usize = 8;

/// An image, as its header describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// Format.
    pub format: VolumeFormat,
    /// What a guest sees, in bytes.
    pub capacity: u64,
    /// The rest; the backing file's name is as the header has it.
    pub attributes: ImageAttributes,
    /// Other files that it says hold its data.
    pub others: Vec<String>,
}

impl Image {
    fn new(format: VolumeFormat, capacity: u64) -> Self {
        Self { format, capacity, attributes: ImageAttributes::default(), others: Vec::new() }
    }

    /// The same image with clusters of so many bytes.
    fn with_clusters(mut self, bytes: u64) -> Self {
        self.attributes.cluster_size = Some(bytes);
        self
    }

    /// The same image as a difference to another.
    fn with_backing(mut self, name: Option<String>, format: Option<VolumeFormat>) -> Self {
        self.attributes.backing = name.map(|path| BackingStore { path, format, permissions: None });
        self
    }
}

/// What a header says. It is a hint: whoever writes the content writes the header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// No format known here: bytes as a guest sees them.
    Raw,
    /// An image.
    Image(Box<Image>),
    /// It begins as an image of this format but cannot be one.
    Damaged {
        /// The format it begins as.
        format: VolumeFormat,
        /// What is wrong.
        why: String,
    },
}

/// Reads the image of one format; none when the content is not of that format.
type Parser = fn(&Content<'_>) -> Result<Option<Image>, Stop>;

/// A format, and what reads it.
type Row = (VolumeFormat, Parser);

/// Formats known by how they begin. What a file begins as is at most one of them.
const BY_CONTENT: &[Row] = &[
    (VolumeFormat::Qcow2, qcow2::parse),
    (VolumeFormat::Qcow, qcow::parse),
    (VolumeFormat::Vmdk, vmdk::parse),
    (VolumeFormat::Vdi, vdi::parse),
    (VolumeFormat::Vhdx, vhdx::parse),
    (VolumeFormat::Vpc, vpc::parse),
    (VolumeFormat::Qed, qed::parse),
    (VolumeFormat::Luks, luks::parse),
    (VolumeFormat::Ploop, parallels::parse),
    (VolumeFormat::Bochs, bochs::parse),
    (VolumeFormat::Cloop, cloop::parse),
    (VolumeFormat::Cow, cow::parse),
    (VolumeFormat::Iso, iso::parse),
];

/// Formats known by how they end, which is looked at when somebody said that they are.
const BY_END: &[Row] = &[
    (VolumeFormat::Vpc, vpc::parse_end),
    (VolumeFormat::Vhd, vpc::parse_end),
    (VolumeFormat::Dmg, dmg::parse),
];

/// Judges what is known of a file; `hint` is the format that somebody or its name says.
/// `Err` says where it has to be read.
pub fn probe(content: &Content<'_>, hint: Option<VolumeFormat>) -> Result<Verdict, (u64, usize)> {
    let by_end = BY_END.iter().filter(|(format, _)| Some(*format) == hint);
    for (format, parse) in BY_CONTENT.iter().chain(by_end) {
        match parse(content) {
            Ok(Some(image)) => return Ok(Verdict::Image(Box::new(image))),
            Ok(None) => {}
            Err(Stop::Unread(offset, length)) => return Err((offset, length)),
            Err(Stop::Damaged(why)) => return Ok(Verdict::Damaged { format: *format, why }),
        }
    }
    Ok(Verdict::Raw)
}

/// The format that a file's name stands for, where its content does not begin with one.
pub fn hint_of_name(name: &str) -> Option<VolumeFormat> {
    name.ends_with(".dmg").then_some(VolumeFormat::Dmg)
}

/// Probes an open file or device of `size` bytes, reading no more of it than it takes. `buffer` is
/// scratch space, to be used again.
pub fn probe_file(
    file: &File,
    size: u64,
    hint: Option<VolumeFormat>,
    buffer: &mut Vec<u8>,
) -> io::Result<Verdict> {
    probe_with(size, hint, buffer, |offset, bytes| read_at_most(file, offset, bytes))
}

/// Probes `size` bytes of anything. `read` fills a buffer with what is at an offset, and says with
/// how much where that is less.
pub fn probe_with(
    size: u64,
    hint: Option<VolumeFormat>,
    buffer: &mut Vec<u8>,
    mut read: impl FnMut(u64, &mut [u8]) -> io::Result<usize>,
) -> io::Result<Verdict> {
    buffer.resize(FIRST_READ, 0);
    let first = read(0, &mut buffer[..])?;
    // A file that shrank meanwhile is as long as what could be read.
    let size = if first < FIRST_READ { size.min(first as u64) } else { size };
    let mut content = Content::new(size);
    content.add(0, &buffer[..first]);
    let mut wanted = match probe(&content, hint) {
        Ok(verdict) => return Ok(verdict),
        Err(wanted) => wanted,
    };
    let mut windows: Vec<(u64, Vec<u8>)> = Vec::new();
    for _ in 0..MOST_READS {
        let mut window = vec![0; wanted.1.min(LARGEST_READ)];
        let got = read(wanted.0, &mut window)?;
        if got < window.len() {
            // It became shorter meanwhile.
            return Ok(Verdict::Raw);
        }
        windows.push((wanted.0, window));
        let mut content = Content::new(size);
        content.add(0, &buffer[..first]);
        windows.iter().for_each(|(offset, bytes)| content.add(*offset, bytes));
        match probe(&content, hint) {
            Ok(verdict) => return Ok(verdict),
            Err(more) => wanted = more,
        }
    }
    Ok(Verdict::Raw)
}

fn read_at_most(file: &File, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
    let mut done = 0;
    while done < buffer.len() {
        match file.read_at(&mut buffer[done..], offset + done as u64) {
            Ok(0) => break,
            Ok(more) => done += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(done)
}

/// Makes a relative name from a header relative to nothing: it is meant relative to the image's
/// `directory`. A name with a protocol is no path and stays.
pub fn resolve_backing(backing: &mut BackingStore, directory: &str) {
    let path = &backing.path;
    let protocol = path.split('/').next().is_some_and(|first| first.contains(':'));
    if !path.starts_with('/') && !protocol && !path.is_empty() {
        backing.path = format!("{directory}/{path}");
    }
}
