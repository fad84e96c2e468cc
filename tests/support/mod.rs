//! What the tiers that start the built programs share: a runner that prints results, a private bus, callers of
//! any uid, a polkit agent, the interface documents, servers, and a tracer that kills at a chosen step.

pub mod agent;
pub mod call;
pub mod caller;
pub mod ceph;
pub mod fault;
pub mod ganesha;
pub mod garbage;
pub mod gluster;
pub mod interfaces;
pub mod leaks;
pub mod network;
pub mod others;
pub mod runner;
pub mod stuck;
pub mod tgt;
pub mod tracer;
pub mod vstorage;
pub mod world;
