//! What each algorithm writes, in which order: the tables of the `scrub` program (scrub(1)).

use crate::model::WipeAlgorithm as A;

/// What one pass writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pass {
    /// These bytes, again and again.
    Fill(&'static [u8]),
    /// Random bytes.
    Random,
}

/// What an algorithm does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Scheme {
    /// Its passes, in order.
    pub passes: &'static [Pass],
    /// Whether what the last one wrote is read back and compared.
    pub verify: bool,
}

impl Scheme {
    /// How often everything is written or read.
    pub fn rounds(&self) -> u64 {
        self.passes.len() as u64 + u64::from(self.verify)
    }
}

use Pass::Random;
const ZEROS: Pass = Pass::Fill(&[0x00]);
const ONES: Pass = Pass::Fill(&[0xff]);

const fn fill(pattern: &'static [u8]) -> Pass {
    Pass::Fill(pattern)
}

/// Peter Gutmann, "Secure Deletion of Data from Magnetic and Solid-State Memory" (1996), table 1.
const GUTMANN: [Pass; 35] = [
    Random,
    Random,
    Random,
    Random,
    fill(&[0x55]),
    fill(&[0xaa]),
    fill(&[0x92, 0x49, 0x24]),
    fill(&[0x49, 0x24, 0x92]),
    fill(&[0x24, 0x92, 0x49]),
    fill(&[0x00]),
    fill(&[0x11]),
    fill(&[0x22]),
    fill(&[0x33]),
    fill(&[0x44]),
    fill(&[0x55]),
    fill(&[0x66]),
    fill(&[0x77]),
    fill(&[0x88]),
    fill(&[0x99]),
    fill(&[0xaa]),
    fill(&[0xbb]),
    fill(&[0xcc]),
    fill(&[0xdd]),
    fill(&[0xee]),
    fill(&[0xff]),
    fill(&[0x92, 0x49, 0x24]),
    fill(&[0x49, 0x24, 0x92]),
    fill(&[0x24, 0x92, 0x49]),
    fill(&[0x6d, 0xb6, 0xdb]),
    fill(&[0xb6, 0xdb, 0x6d]),
    fill(&[0xdb, 0x6d, 0xb6]),
    Random,
    Random,
    Random,
    Random,
];

const BSI: [Pass; 9] = [
    fill(&[0xff]),
    fill(&[0xfe]),
    fill(&[0xfd]),
    fill(&[0xfb]),
    fill(&[0xf7]),
    fill(&[0xef]),
    fill(&[0xdf]),
    fill(&[0xbf]),
    fill(&[0x7f]),
];

/// What an algorithm does; trim writes nothing.
pub fn scheme(algorithm: A) -> Scheme {
    let of = |passes, verify| Scheme { passes, verify };
    match algorithm {
        A::Zero => of(&[ZEROS], false),
        A::Trim => of(&[], false),
        A::Random => of(&[Random], false),
        A::Nnsa => of(&[Random, Random, ZEROS], true),
        A::Dod => of(&[Random, ZEROS, ONES], true),
        A::Bsi => of(&BSI, false),
        A::Gutmann => of(&GUTMANN, false),
        A::Schneier => of(&[ZEROS, ONES, Random, Random, Random, Random, Random], false),
        A::Pfitzner7 => of(&[Random; 7], false),
        A::Pfitzner33 => of(&[Random; 33], false),
    }
}

/// Whether an algorithm is one of patterns, which mean nothing where storage writes elsewhere.
pub fn is_pattern(algorithm: A) -> bool {
    !matches!(algorithm, A::Zero | A::Trim | A::Random)
}
