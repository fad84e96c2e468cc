//! Stories of dir pools, told through the trait.

mod clones;
pub(super) mod fixture;
mod formats;
mod lifecycle;
mod listing;
mod qcow2;
mod raw;
mod registry;
mod transfers;
mod wipe;
