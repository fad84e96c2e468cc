//! The heart: pools as actors that publish snapshots, jobs, leases, autostart, changes.
//!
//! Knows nothing of D-Bus. Uses `backend` for storage and `store` for what is kept. Readers take
//! snapshots and never wait; everything that blocks runs on worker threads.
//!
//! The path of a call: `handle` (or `volumes`) admits it and makes a job; `actor` and `activity`
//! do what concerns the pool as a whole, one after another; `run` puts each backend operation on
//! a thread of `workers`, to a deadline; `pool` publishes what came of it; `changes` says so.

mod activity;
mod actor;
mod api;
mod autostart;
mod changes;
mod conflicts;
mod define;
mod devices;
mod handle;
mod job;
mod jobs;
mod leases;
mod live;
mod lookup;
mod merge;
mod pool;
mod reader;
mod records;
mod recovery;
mod run;
mod secrets;
mod service;
mod shared;
mod snapshot;
mod sources;
mod transfers;
mod volumes;
mod workers;

#[cfg(test)]
mod tests;

pub use api::{Caller, CreateVolumeOptions, DefineOptions, EngineOptions, PoolTypeStatus};
pub use changes::{ChangeSet, Changes};
pub use handle::PoolHandle;
pub use job::{JobHandle, JobOperation, JobSnapshot, JobState, ResultValue};
pub use service::Engine;
pub use snapshot::{PoolSnapshot, PoolState};
