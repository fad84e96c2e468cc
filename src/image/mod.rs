//! Image formats: probe, create, resize, and qemu's image locks.
//!
//! Used by `backend`. Parsers are pure functions over bytes that trust nothing in them.

pub mod declared;
pub mod formats;
pub mod lock;
pub mod node;
pub mod partitions;
pub mod probe;
pub mod qcow2;
pub mod qemu_img;
pub mod vmdk;

pub use probe::{Verdict, probe};
