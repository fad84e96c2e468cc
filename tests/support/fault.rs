//! What can be wrong with a server.

/// What is wrong with it. The fakes are told by its word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// It has ended, and its port is refused.
    Stopped,
    /// It answers nothing.
    Frozen,
    /// Something else answers in its place.
    Garbage,
}

impl Fault {
    /// Each of them.
    pub const ALL: [Self; 3] = [Self::Stopped, Self::Frozen, Self::Garbage];

    /// As tables and names have it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Stopped => "stopped",
            Self::Frozen => "frozen",
            Self::Garbage => "garbage",
        }
    }
}
