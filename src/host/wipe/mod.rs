//! Overwriting files and block devices in place: which ranges, with what, and what that is worth.
//!
//! Used by `backend`.

mod device;
mod guarantee;
mod passes;
mod ranges;

use super::Limits;
use crate::model::{Error, ErrorKind, Result};
use chacha20::ChaCha8Rng;
use chacha20::rand_core::{Rng, SeedableRng};
pub use guarantee::{Guarantee, guarantee};
pub use passes::{Pass, Scheme, is_pattern, scheme};
pub use ranges::{Ranges, ranges};
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;

/// How much is written at once. A multiple of three, the longest pattern, and of pages.
const STEP: usize = 3 << 20;

/// What is overwritten.
pub trait Medium {
    /// Writes all of `bytes`.
    fn write(&self, bytes: &[u8], at: u64) -> io::Result<()>;
    /// Reads as many bytes as fit.
    fn read(&self, bytes: &mut [u8], at: u64) -> io::Result<()>;
    /// Waits until what was written is on the storage, from where it is read again.
    fn sync(&self) -> io::Result<()>;
}

impl Medium for File {
    fn write(&self, bytes: &[u8], at: u64) -> io::Result<()> {
        self.write_all_at(bytes, at)
    }

    fn read(&self, bytes: &mut [u8], at: u64) -> io::Result<()> {
        self.read_exact_at(bytes, at)
    }

    fn sync(&self) -> io::Result<()> {
        // Of a device this empties its own cache too: the next pass must not overtake this one in it.
        self.sync_data()?;
        // A hint; without it a verification may read memory.
        let _ = rustix::fs::fadvise(self, 0, None, rustix::fs::Advice::DontNeed);
        Ok(())
    }
}

/// Overwrites `ranges` as `scheme` says: each pass is on the storage before the next begins. `done`
/// is told of each step, in bytes.
pub fn overwrite(
    medium: &impl Medium,
    ranges: &[Range<u64>],
    scheme: &Scheme,
    limits: &Limits,
    done: &mut dyn FnMut(u64),
) -> Result<()> {
    let write_failed = |error: io::Error| Error::io("cannot overwrite it", &error);
    let mut source = Source::new()?;
    for pass in scheme.passes {
        for_each_step(ranges, limits, done, &mut |at, length| {
            medium.write(source.bytes(*pass, at, length), at).map_err(write_failed)
        })?;
        medium.sync().map_err(write_failed)?;
    }
    let Some(last) = scheme.passes.last().filter(|_| scheme.verify) else { return Ok(()) };
    let mut found = vec![0; STEP];
    for_each_step(ranges, limits, done, &mut |at, length| {
        let found = &mut found[..length];
        medium.read(found, at).map_err(|error| Error::io("cannot read it back", &error))?;
        if found == source.bytes(*last, at, length) {
            return Ok(());
        }
        let what = format!(
            "it does not hold what was written at {at} and the {length} bytes from there; its storage is damaged"
        );
        Err(Error::new(ErrorKind::Conflict, what))
    })
}

fn for_each_step(
    ranges: &[Range<u64>],
    limits: &Limits,
    done: &mut dyn FnMut(u64),
    step: &mut dyn FnMut(u64, usize) -> Result<()>,
) -> Result<()> {
    for range in ranges {
        let mut at = range.start;
        while at < range.end {
            limits.check()?;
            let length = (range.end - at).min(STEP as u64);
            step(at, length as usize)?;
            done(length);
            at += length;
        }
    }
    Ok(())
}

/// The bytes of a pass.
struct Source {
    random: ChaCha8Rng,
    buffer: Vec<u8>,
    /// What the buffer is full of, from a multiple of the pattern's length on.
    holds: Option<&'static [u8]>,
}

impl Source {
    fn new() -> Result<Self> {
        let mut seed = [0; 32];
        let got = rustix::rand::getrandom(&mut seed[..], rustix::rand::GetRandomFlags::empty())
            .map_err(|error| Error::io("cannot draw random bytes", &error.into()))?;
        debug_assert_eq!(got, seed.len(), "up to 256 bytes come whole");
        Ok(Self { random: ChaCha8Rng::from_seed(seed), buffer: vec![0; STEP + 3], holds: None })
    }

    /// What a pass writes at an offset.
    fn bytes(&mut self, pass: Pass, at: u64, length: usize) -> &[u8] {
        match pass {
            Pass::Random => {
                self.holds = None;
                self.random.fill_bytes(&mut self.buffer[..length]);
                &self.buffer[..length]
            }
            Pass::Fill(pattern) => {
                if self.holds != Some(pattern) {
                    let bytes = pattern.iter().cycle();
                    self.buffer.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
                    self.holds = Some(pattern);
                }
                let phase = (at % pattern.len() as u64) as usize;
                &self.buffer[phase..phase + length]
            }
        }
    }
}

/// Whether [`trim`] can do anything to it.
pub fn can_trim(file: &File, device: bool) -> io::Result<bool> {
    if device {
        return device::discards(file);
    }
    // A hole behind the end changes nothing.
    super::copy::punch(file, file.metadata()?.len().next_multiple_of(1 << 20), 4096)
}

/// Tells the storage that the content of a file or device is not needed, in steps.
pub fn trim(
    file: &File,
    device: bool,
    size: u64,
    limits: &Limits,
    done: &mut dyn FnMut(u64),
) -> Result<()> {
    give_up(file, size, limits, done, |at, length| match device {
        true => device::discard(file, at, length).map(|()| true),
        false => super::copy::punch(file, at, length),
    })
}

/// Makes all of a [served](super::Server) image zeros without writing them, in steps: a hole is a hint to
/// QEMU, and it leaves the ends of one that are no whole object.
pub fn zero(file: &File, size: u64, limits: &Limits, done: &mut dyn FnMut(u64)) -> Result<()> {
    give_up(file, size, limits, done, |at, length| super::copy::zero(file, at, length))
}

/// Has `release` give up all content in steps; false from it says that the storage cannot.
fn give_up(
    file: &File,
    size: u64,
    limits: &Limits,
    done: &mut dyn FnMut(u64),
    mut release: impl FnMut(u64, u64) -> io::Result<bool>,
) -> Result<()> {
    /// How much is given up at once.
    const STEP: u64 = 1 << 30;
    let failed = |error: io::Error| Error::io("cannot give up its content", &error);
    let mut at = 0;
    while at < size {
        limits.check()?;
        let length = STEP.min(size - at);
        if !release(at, length).map_err(failed)? {
            return Err(Error::new(ErrorKind::NotSupported, "its storage makes no holes"));
        }
        done(length);
        at += length;
    }
    file.sync_all().map_err(failed)
}

#[cfg(test)]
mod tests;
