//! What a file's first bytes say that it is.

use super::qcow2::{self, Qcow2};
use crate::model::{BackingStore, VolumeFormat};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// How much of a file is read before it is probed; a verdict may ask for more.
pub const FIRST_READ: usize = 4096;
/// Most that a verdict asks for: whatever an image keeps behind it is not worth the reading.
pub const LARGEST_READ: usize = 64 << 10;

/// What a header says. It is a hint: whoever writes the content writes the header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// No format known here: bytes as a guest sees them.
    Raw,
    /// A qcow2 image.
    Qcow2(Box<Qcow2>),
    /// It begins as an image of this format but cannot be one.
    Damaged {
        /// The format it begins as.
        format: VolumeFormat,
        /// What is wrong.
        why: String,
    },
    /// So many first bytes of the file are needed, at most [`LARGEST_READ`].
    NeedMore(usize),
}

/// Judges the first bytes of a file of `file_size` bytes.
pub fn probe(bytes: &[u8], file_size: u64) -> Verdict {
    if bytes.starts_with(&qcow2::MAGIC) {
        let short = (bytes.len() as u64) < file_size;
        return match Qcow2::parse(bytes) {
            Ok(image) => Verdict::Qcow2(Box::new(image)),
            Err(qcow2::Flaw::Short(needed)) if short && needed <= LARGEST_READ => {
                Verdict::NeedMore(needed)
            }
            Err(qcow2::Flaw::OtherFormat) => Verdict::Raw,
            Err(flaw) => Verdict::Damaged { format: VolumeFormat::Qcow2, why: flaw.to_string() },
        };
    }
    Verdict::Raw
}

/// Probes an open file or device of `size` bytes, reading no more of it than it takes. `buffer` is
/// scratch space, to be used again.
pub fn probe_file(file: &File, size: u64, buffer: &mut Vec<u8>) -> io::Result<Verdict> {
    let mut wanted = FIRST_READ;
    loop {
        if buffer.len() < wanted {
            buffer.resize(wanted, 0);
        }
        let available = wanted.min(usize::try_from(size).unwrap_or(usize::MAX));
        let length = read_at_most(file, &mut buffer[..available])?;
        // A file that shrank meanwhile is as long as what could be read.
        let size = if length < available { length as u64 } else { size };
        match probe(&buffer[..length], size) {
            Verdict::NeedMore(more) => wanted = more,
            verdict => return Ok(verdict),
        }
    }
}

fn read_at_most(file: &File, buffer: &mut [u8]) -> io::Result<usize> {
    let mut done = 0;
    while done < buffer.len() {
        match file.read_at(&mut buffer[done..], done as u64) {
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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Probes as a reader of files does: again with more bytes when asked.
    fn probe_content(content: &[u8]) -> Verdict {
        let mut length = FIRST_READ.min(content.len());
        loop {
            match probe(&content[..length], content.len() as u64) {
                Verdict::NeedMore(more) => {
                    assert!(more > length && more <= LARGEST_READ, "{length} -> {more}");
                    length = more.min(content.len());
                }
                verdict => return verdict,
            }
        }
    }

    #[test]
    fn a_file_without_magic_is_raw() {
        assert_eq!(probe_content(b""), Verdict::Raw);
        assert_eq!(probe_content(&[0; 9000]), Verdict::Raw);
        assert_eq!(probe_content(b"QFI"), Verdict::Raw);
    }

    #[test]
    fn version_one_is_another_format() {
        let mut header = vec![0; 512];
        header[..8].copy_from_slice(b"QFI\xfb\0\0\0\x01");
        assert_eq!(probe_content(&header), Verdict::Raw);
    }

    #[test]
    fn a_cut_or_impossible_header_is_damaged() {
        let damaged = |bytes: &[u8]| matches!(probe_content(bytes), Verdict::Damaged { .. });
        assert!(damaged(b"QFI\xfb"));
        assert!(damaged(b"QFI\xfb\0\0\0\x03"));
        let mut header = vec![0; 512];
        header[..8].copy_from_slice(b"QFI\xfb\0\0\0\x03");
        header[23] = 63; // cluster_bits
        assert!(damaged(&header));
    }

    #[test]
    fn samples_are_what_qemu_img_says_they_are() {
        let Some(corpus) = std::env::var_os("POOLD_CORPUS") else {
            println!("RESULT unit image-samples skip POOLD_CORPUS is not set");
            return;
        };
        let images = std::path::Path::new(&corpus).join("images");
        let table = std::fs::read_to_string(images.join("ORACLE.tsv")).unwrap();
        for row in table.lines().skip(1) {
            let columns: Vec<_> = row.split('\t').collect();
            let (name, format) = (columns[0], columns[2]);
            if !matches!(format, "raw" | "qcow2") {
                println!("RESULT unit image-sample-{name} skip format {format} is not probed yet");
                continue;
            }
            let packed = images.join(format!("{name}.bz2"));
            let content = std::process::Command::new("bzcat").arg(packed).output().unwrap().stdout;
            assert_eq!(content.len().to_string(), columns[1], "{name}");
            let found = match probe_content(&content) {
                Verdict::Raw => ("raw", content.len() as u64),
                Verdict::Qcow2(image) => ("qcow2", image.header.capacity),
                verdict => panic!("{name}: {verdict:?}"),
            };
            assert_eq!((found.0, &*found.1.to_string()), (format, columns[3]), "{name}");
            println!("RESULT unit image-sample-{name} pass");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(
            mut bytes in proptest::collection::vec(any::<u8>(), 0..1500),
            version in 0u8..5,
            cluster_bits in any::<u8>(),
        ) {
            let _ = probe_content(&bytes);
            if bytes.len() > 24 {
                bytes[..8].copy_from_slice(&[b'Q', b'F', b'I', 0xfb, 0, 0, 0, version]);
                let _ = probe_content(&bytes);
                // A plausible header with arbitrary rest reaches the code behind the first checks.
                bytes[20..24].copy_from_slice(&[0, 0, 0, 9 + cluster_bits % 13]);
                let _ = probe_content(&bytes);
                bytes[8..20].fill(0);
                bytes[24] = 0;
                for (at, byte) in bytes.iter_mut().enumerate().skip(32).take(72) {
                    *byte = if at == 103 { 104 } else { 0 };
                }
                let _ = probe_content(&bytes);
            }
        }
    }
}
