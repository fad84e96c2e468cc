//! Numbers in bytes. What lies beyond the end reads as zero and is not written.

/// Reads and writes numbers at byte offsets.
pub(super) trait Bytes {
    fn bytes_at<const N: usize>(&self, at: usize) -> [u8; N];
    fn set(&mut self, at: usize, bytes: &[u8]);

    fn u8(&self, at: usize) -> u8 {
        self.bytes_at::<1>(at)[0]
    }
    fn le16(&self, at: usize) -> u16 {
        u16::from_le_bytes(self.bytes_at(at))
    }
    fn le32(&self, at: usize) -> u32 {
        u32::from_le_bytes(self.bytes_at(at))
    }
    fn le64(&self, at: usize) -> u64 {
        u64::from_le_bytes(self.bytes_at(at))
    }
    fn be16(&self, at: usize) -> u16 {
        u16::from_be_bytes(self.bytes_at(at))
    }
    fn be32(&self, at: usize) -> u32 {
        u32::from_be_bytes(self.bytes_at(at))
    }
}

impl Bytes for [u8] {
    fn bytes_at<const N: usize>(&self, at: usize) -> [u8; N] {
        let found = self.get(at..at.saturating_add(N));
        found.and_then(|found| found.try_into().ok()).unwrap_or([0; N])
    }

    fn set(&mut self, at: usize, bytes: &[u8]) {
        if let Some(place) = self.get_mut(at..at.saturating_add(bytes.len())) {
            place.copy_from_slice(bytes);
        }
    }
}

/// A number that a table has 32 bits for: callers stay below the label's limit.
pub(super) fn word(number: u64) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

/// CRC-32 as GPT, zlib and Ethernet use it.
pub(super) fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            (crc >> 1) ^ if crc & 1 == 1 { 0xedb8_8320 } else { 0 }
        })
    })
}

/// A GUID as GPT has it, in the usual form.
pub(super) fn guid(bytes: [u8; 16]) -> String {
    uuid::Uuid::from_bytes_le(bytes).to_string()
}
