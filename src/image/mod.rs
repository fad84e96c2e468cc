//! Image formats: probe, create, resize, and qemu's image locks.
//!
//! Used by `backend`. Parsers are pure functions over bytes that trust nothing in them.

pub mod lock;
pub mod node;
pub mod probe;
pub mod qcow2;

pub use probe::{Verdict, probe};
