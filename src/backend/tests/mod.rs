//! Stories of dir pools, told through the trait.

mod fixture;
mod lifecycle;
mod listing;
mod raw;
mod registry;
