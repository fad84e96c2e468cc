//! poold: a host's storage as pools and volumes, on D-Bus.
//!
//! The layers, each of which knows only those below it:
//!
//! ```text
//! bin/poold - daemon - bus              bin/poolctl - cli - client
//!                       |
//!                     engine - auth
//!                     /     \
//!               backend     store
//!               /     \        \
//!           image      |       xml
//!               \      |        |
//!                 host |        |
//!                    \ |        |
//!                     model ----+
//! ```
//!
//! `path`, beside `model`, is what `bus` and `client` both know of object paths.
//!
//! `docs/architecture.md` follows one call and one event through them.

pub mod auth;
pub mod backend;
pub mod bus;
pub mod cli;
pub mod client;
pub mod daemon;
pub mod engine;
pub mod host;
pub mod image;
pub mod model;
pub mod path;
pub mod store;
pub mod xml;
