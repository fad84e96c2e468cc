//! The heart: pools as actors that publish snapshots, jobs, leases, autostart, changes.
//!
//! Knows nothing of D-Bus. Uses `backend` for storage and `store` for what is kept. Readers take
//! snapshots and never wait; everything that blocks runs on worker threads.

mod api;
mod job;
mod snapshot;

pub use api::{
    Caller, ChangeSet, Changes, CreateVolumeOptions, DefineOptions, Engine, EngineOptions,
    PoolHandle, PoolTypeStatus,
};
pub use job::{JobHandle, JobOperation, JobSnapshot, JobState, ResultValue};
pub use snapshot::{PoolSnapshot, PoolState};
