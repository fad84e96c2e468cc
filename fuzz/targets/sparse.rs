//! A file of any size in few bytes.

const SECTOR: usize = 512;

/// Pieces of a file, zeros between them.
pub struct SparseFile<'a> {
    size: u64,
    pieces: Vec<(u64, &'a [u8])>,
}

impl<'a> SparseFile<'a> {
    /// The file that an input describes; whatever it says.
    pub fn read(input: &'a [u8]) -> Self {
        let Some((size, mut rest)) = input.split_first_chunk() else {
            return Self { size: input.len() as u64, pieces: vec![(0, input)] };
        };
        let size = u64::from_le_bytes(*size) & i64::MAX as u64;
        let mut pieces = Vec::new();
        while let Some((sector, after)) = rest.split_first_chunk() {
            let Some((length, after)) = after.split_first_chunk() else { break };
            let length = usize::from(u16::from_le_bytes(*length)).min(after.len());
            let offset = u64::from(u32::from_le_bytes(*sector)) * SECTOR as u64;
            pieces.push((offset, &after[..length]));
            rest = &after[length..];
        }
        Self { size, pieces }
    }

    /// Such an input for a file: the first sectors that are not empty, and its end.
    pub fn write(file: &[u8]) -> Vec<u8> {
        const MOST: usize = 32;
        const END: usize = 4 * SECTOR;
        let mut input = (file.len() as u64).to_le_bytes().to_vec();
        let mut written = 0;
        for (number, sector) in file.chunks(SECTOR).enumerate() {
            let matters = written < MOST || number * SECTOR + END >= file.len();
            if matters && sector.iter().any(|byte| *byte != 0) {
                written += 1;
                input.extend((number as u32).to_le_bytes());
                input.extend((sector.len() as u16).to_le_bytes());
                input.extend(sector);
            }
        }
        input
    }

    /// How long it is.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Reads from an offset; how many bytes there were.
    pub fn fill(&self, offset: u64, bytes: &mut [u8]) -> usize {
        let length = self.size.saturating_sub(offset).min(bytes.len() as u64) as usize;
        bytes.fill(0);
        for (start, piece) in &self.pieces {
            for (number, byte) in piece.iter().enumerate() {
                let at = (start + number as u64).checked_sub(offset).map(|at| at as usize);
                if let Some(to) = at.filter(|at| *at < length) {
                    bytes[to] = *byte;
                }
            }
        }
        length
    }
}
