//! What is known of a file: some windows of it, and how long it is.

/// Why a parser stops.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stop {
    /// These bytes have to be read: offset and length.
    Unread(u64, usize),
    /// The image cannot be one.
    Damaged(String),
}

/// Windows of a file.
#[derive(Debug, Clone)]
pub struct Content<'a> {
    size: u64,
    windows: Vec<(u64, &'a [u8])>,
}

impl<'a> Content<'a> {
    /// A file of `size` bytes of which nothing is known.
    pub fn new(size: u64) -> Self {
        Self { size, windows: Vec::new() }
    }

    /// A file of which all is known.
    pub fn whole(bytes: &'a [u8]) -> Self {
        Self { size: bytes.len() as u64, windows: vec![(0, bytes)] }
    }

    /// Adds a window.
    pub fn add(&mut self, offset: u64, bytes: &'a [u8]) {
        self.windows.push((offset, bytes));
    }

    /// How long the file is.
    pub(super) fn size(&self) -> u64 {
        self.size
    }

    /// Whether it begins so. What is too short does not.
    pub(super) fn begins_with(&self, magic: &[u8]) -> bool {
        self.at(0, magic.len()).is_ok_and(|bytes| bytes == magic)
    }

    /// The bytes at an offset.
    pub(super) fn at(&self, offset: u64, length: usize) -> Result<&'a [u8], Stop> {
        let end = offset.checked_add(length as u64).filter(|end| *end <= self.size);
        if end.is_none() {
            return Err(Stop::Damaged(format!(
                "it should have {length} bytes at {offset} and is {} bytes long",
                self.size
            )));
        }
        let found = self.windows.iter().find_map(|(start, bytes)| {
            let from = usize::try_from(offset.checked_sub(*start)?).ok()?;
            bytes.get(from..from.checked_add(length)?)
        });
        found.ok_or(Stop::Unread(offset, length))
    }

    /// As many of the bytes at an offset as the file has, at most `length`.
    pub(super) fn up_to(&self, offset: u64, length: usize) -> Result<&'a [u8], Stop> {
        let left = usize::try_from(self.size.saturating_sub(offset)).unwrap_or(usize::MAX);
        self.at(offset, length.min(left))
    }

    fn array<const N: usize>(&self, offset: u64) -> Result<[u8; N], Stop> {
        let bytes = self.at(offset, N)?;
        bytes.try_into().map_err(|_| Stop::Unread(offset, N))
    }

    /// A number of two bytes, most significant first.
    pub(super) fn be16(&self, offset: u64) -> Result<u16, Stop> {
        self.array(offset).map(u16::from_be_bytes)
    }

    /// Of four bytes.
    pub(super) fn be32(&self, offset: u64) -> Result<u32, Stop> {
        self.array(offset).map(u32::from_be_bytes)
    }

    /// Of eight bytes.
    pub(super) fn be64(&self, offset: u64) -> Result<u64, Stop> {
        self.array(offset).map(u64::from_be_bytes)
    }

    /// A number of two bytes, least significant first.
    pub(super) fn le16(&self, offset: u64) -> Result<u16, Stop> {
        self.array(offset).map(u16::from_le_bytes)
    }

    /// Of four bytes.
    pub(super) fn le32(&self, offset: u64) -> Result<u32, Stop> {
        self.array(offset).map(u32::from_le_bytes)
    }

    /// Of eight bytes.
    pub(super) fn le64(&self, offset: u64) -> Result<u64, Stop> {
        self.array(offset).map(u64::from_le_bytes)
    }
}

/// Refuses what cannot be.
pub(super) fn check(ok: bool, why: impl FnOnce() -> String) -> Result<(), Stop> {
    if ok { Ok(()) } else { Err(Stop::Damaged(why())) }
}

/// So many sectors in bytes.
pub(super) fn sectors(count: u64) -> Result<u64, Stop> {
    let bytes = count.checked_mul(512).filter(|bytes| *bytes <= i64::MAX as u64);
    bytes.ok_or_else(|| Stop::Damaged(format!("it cannot have {count} sectors")))
}

/// A name from a header as text that any document can hold.
pub(super) fn printable(name: &[u8]) -> String {
    let text = String::from_utf8_lossy(name);
    text.chars().map(|c| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c }).collect()
}

/// A name that ends at the first zero byte.
pub(super) fn printable_to_zero(bytes: &[u8]) -> String {
    printable(bytes.split(|byte| *byte == 0).next().unwrap_or_default())
}
