//! qcow2, versions 2 and 3 (`docs/interop/qcow2.rst` of QEMU).

mod grow;
mod header;
mod layout;
#[cfg(test)]
mod tests;

pub use grow::Growth;
pub use header::{Encryption, Extensions, Flaw, Header, MAGIC, Qcow2};
pub use layout::{Layout, Spec, Version};

/// Smallest cluster in bytes.
pub const MIN_CLUSTER: u64 = 512;
/// Largest cluster in bytes.
pub const MAX_CLUSTER: u64 = 2 << 20;
/// The cluster size taken when none is given.
pub const DEFAULT_CLUSTER: u64 = 64 << 10;
/// QEMU opens no image whose first-level table is larger (QCOW_MAX_L1_SIZE).
pub const MAX_L1_BYTES: u64 = 32 << 20;
/// QEMU opens no image whose reference count table is larger (QCOW_MAX_REFTABLE_SIZE).
pub const MAX_REFCOUNT_TABLE_BYTES: u64 = 8 << 20;
