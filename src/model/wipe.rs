//! What a volume can be overwritten with.

/// What a volume is overwritten with; the patterns are those of the `scrub` program.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum WipeAlgorithm {
    /// Zeros, once.
    #[default]
    Zero,
    /// Nothing: the storage is told that the content is not needed.
    Trim,
    /// Random bytes, once.
    Random,
    /// NNSA policy letter NAP-14.1-C: random twice, zeros, verified.
    Nnsa,
    /// DoD 5220.22-M: random, zeros, ones, verified.
    Dod,
    /// The German BSI's: nine passes of patterns.
    Bsi,
    /// Gutmann's 35 passes.
    Gutmann,
    /// Schneier's seven passes.
    Schneier,
    /// Pfitzner's seven random passes.
    Pfitzner7,
    /// Pfitzner's 33 random passes.
    Pfitzner33,
}

impl WipeAlgorithm {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::Zero,
        Self::Trim,
        Self::Random,
        Self::Nnsa,
        Self::Dod,
        Self::Bsi,
        Self::Gutmann,
        Self::Schneier,
        Self::Pfitzner7,
        Self::Pfitzner33,
    ];

    /// libvirt's word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Zero => "zero",
            Self::Trim => "trim",
            Self::Random => "random",
            Self::Nnsa => "nnsa",
            Self::Dod => "dod",
            Self::Bsi => "bsi",
            Self::Gutmann => "gutmann",
            Self::Schneier => "schneier",
            Self::Pfitzner7 => "pfitzner7",
            Self::Pfitzner33 => "pfitzner33",
        }
    }

    /// The algorithm of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|algorithm| algorithm.as_str() == name)
    }
}
