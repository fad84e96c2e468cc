//! The outside world: running tools, the mount table, files opened safely, watches, who holds what.
//!
//! Used by `image`, `backend` and `engine`. Everything here blocks and is called on worker threads,
//! except the watches, which are asynchronous.

mod limits;
mod tool;

pub use limits::{CancelToken, Limits};
pub use tool::{Command, Host, Output, SystemHost};
