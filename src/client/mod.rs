//! Typed proxies of poold's D-Bus interfaces, for poolctl, tests and other programs.
//!
//! [`connect`] finds the service; a proxy is made with its `new` ([`PoolProxy::new`] and so on) and
//! answers with [`model::Result`](crate::model::Result), so that a caller matches on kinds of errors.
//! Properties are read from the service each time, never from a cache that may lag behind a reply; ask
//! with [`properties`] or [`objects()`] for all at once.
//!
//! ```no_run
//! use poold::client::{ManagerProxy, Options, PoolProxy, connect};
//!
//! # async fn example() -> poold::model::Result<()> {
//! let connection = connect(None).await?;
//! let manager = ManagerProxy::new(&connection).await?;
//! let images = manager.lookup_pool("images", &Options::new()).await?;
//! let images = PoolProxy::new(&connection, images).await?;
//! let options = Options::from([("format", "qcow2".into())]);
//! images.create_volume("disk.qcow2", 10 << 30, &options).await?;
//! # Ok(())
//! # }
//! ```

mod connection;
mod error;
mod events;
mod objects;
mod proxies;
mod value;

pub use crate::path::{JOBS, ObjectRef, POOLS};
pub use connection::{SOCKET, connect, connect_peer};
pub use events::{Event, events};
pub use objects::{Objects, Properties, objects, properties};
pub use proxies::{
    JobProxy, ManagerProxy, Options, PoolProxy, Record, SecretProxy, VolumeProxy, VolumeRecord,
};
pub use value::to_json;
pub use zbus::{Connection, OwnedObjectPath as ObjectPath, Variant as Value};

#[cfg(test)]
mod tests;
