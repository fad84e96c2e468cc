use super::*;
use crate::model::WipeAlgorithm;
use std::cell::RefCell;
use std::slice;

/// Records what is done to it, and holds it.
struct Recorder {
    content: RefCell<Vec<u8>>,
    /// Each pass: what it wrote; a sync ends it.
    passes: RefCell<Vec<Vec<u8>>>,
    written: RefCell<bool>,
    /// A byte that cannot be changed.
    stuck: Option<usize>,
}

const SIZE: usize = 5000;

impl Recorder {
    fn new(stuck: Option<usize>) -> Self {
        Self {
            content: RefCell::new(vec![b'S'; SIZE]),
            passes: RefCell::default(),
            written: RefCell::new(false),
            stuck,
        }
    }
}

impl Medium for Recorder {
    fn write(&self, bytes: &[u8], at: u64) -> io::Result<()> {
        *self.written.borrow_mut() = true;
        self.content.borrow_mut()[at as usize..][..bytes.len()].copy_from_slice(bytes);
        if let Some(stuck) = self.stuck {
            self.content.borrow_mut()[stuck] = b'S';
        }
        Ok(())
    }
    fn read(&self, bytes: &mut [u8], at: u64) -> io::Result<()> {
        assert!(!*self.written.borrow(), "read before it was synced");
        bytes.copy_from_slice(&self.content.borrow()[at as usize..][..bytes.len()]);
        Ok(())
    }
    fn sync(&self) -> io::Result<()> {
        *self.written.borrow_mut() = false;
        self.passes.borrow_mut().push(self.content.borrow().clone());
        Ok(())
    }
}

/// What a pass left: the pattern, if it repeats; nothing if it is random.
fn pattern(content: &[u8]) -> String {
    for length in [1, 3] {
        if content.iter().enumerate().all(|(at, byte)| *byte == content[at % length]) {
            return content[..length].iter().map(|byte| format!("{byte:02x}")).collect();
        }
    }
    "random".to_owned()
}

fn run(algorithm: WipeAlgorithm, recorder: &Recorder) -> (Result<()>, u64) {
    let mut bytes = 0;
    let ranges = [0..1000, 1000..SIZE as u64];
    let (scheme, limits) = (scheme(algorithm), Limits::default());
    let done = overwrite(recorder, &ranges, &scheme, &limits, &mut |step| bytes += step);
    (done, bytes)
}

#[test]
fn passes_are_written_in_order_and_each_is_synced() {
    use WipeAlgorithm as A;
    let gutmann = "random random random random 55 aa 924924 492492 249249 00 11 22 33 44 55 66 77 \
                   88 99 aa bb cc dd ee ff 924924 492492 249249 6db6db b6db6d db6db6 random random \
                   random random";
    for (algorithm, expected, reads) in [
        (A::Zero, "00".to_owned(), 0),
        (A::Random, "random".to_owned(), 0),
        (A::Trim, String::new(), 0),
        (A::Nnsa, "random random 00".to_owned(), 1),
        (A::Dod, "random 00 ff".to_owned(), 1),
        (A::Bsi, "ff fe fd fb f7 ef df bf 7f".to_owned(), 0),
        (A::Gutmann, gutmann.to_owned(), 0),
        (A::Schneier, "00 ff random random random random random".to_owned(), 0),
        (A::Pfitzner7, ["random"; 7].join(" "), 0),
        (A::Pfitzner33, ["random"; 33].join(" "), 0),
    ] {
        let recorder = Recorder::new(None);
        let (done, bytes) = run(algorithm, &recorder);
        done.unwrap();
        let passes = recorder.passes.borrow();
        let found: Vec<_> = passes.iter().map(|content| pattern(content)).collect();
        assert_eq!(found.join(" "), expected, "{algorithm:?}");
        assert_eq!(bytes, (passes.len() as u64 + reads) * SIZE as u64, "{algorithm:?}");
        for (one, other) in passes.iter().zip(passes.iter().skip(1)) {
            assert_ne!(one, other, "{algorithm:?} writes the same twice");
        }
    }
}

#[test]
fn what_was_not_written_is_found_by_those_that_verify() {
    for (algorithm, verifies) in
        [(WipeAlgorithm::Nnsa, true), (WipeAlgorithm::Dod, true), (WipeAlgorithm::Zero, false)]
    {
        let (done, _) = run(algorithm, &Recorder::new(Some(1234)));
        assert_eq!(done.is_err_and(|error| error.kind() == ErrorKind::Conflict), verifies);
    }
}

#[test]
fn a_cancel_ends_it_between_steps() {
    let recorder = Recorder::new(None);
    let limits = Limits::default();
    limits.cancel.cancel();
    let scheme = scheme(WipeAlgorithm::Zero);
    let end =
        overwrite(&recorder, slice::from_ref(&(0..10)), &scheme, &limits, &mut |_| {}).unwrap_err();
    assert_eq!(end.kind(), ErrorKind::Cancelled);
    assert!(recorder.content.borrow().iter().all(|byte| *byte == b'S'));
}

#[test]
fn holes_are_not_allocated_and_what_is_allocated_unwritten_is() {
    let file = tempfile::tempfile().unwrap();
    file.set_len(1 << 40).unwrap();
    file.write_all_at(&[1; 8192], 1 << 30).unwrap();
    let found = ranges(&file, 1 << 40).unwrap();
    assert_eq!(found.ranges, slice::from_ref(&(1 << 30..(1 << 30) + 8192)));
    // tmpfs has no map of extents to tell.
    let is_ext = rustix::fs::fstatfs(&file).unwrap().f_type == 0xef53;
    if is_ext && crate::host::files::allocate(&file, 1 << 31, 1 << 20).unwrap() {
        assert_eq!(ranges(&file, 1 << 40).unwrap().bytes(), 8192 + (1 << 20));
    }
    // Never behind the end.
    assert_eq!(ranges(&file, (1 << 30) + 100).unwrap().bytes(), 100);
}
