//! Who may do what: the table of actions, and the authority that is asked.
//!
//! Knows nothing of D-Bus; `bus` has the authority that asks polkit.

mod action;

use crate::model::Result;
pub use action::Action;
use std::future::Future;
use std::pin::Pin;

/// Who asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subject {
    /// The uid that the transport vouches for.
    pub uid: u32,
    /// The unique name on the bus; none for a peer on the socket.
    pub bus_name: Option<String>,
}

/// One question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// May the subject do this?
    pub action: Action,
    /// Who asks.
    pub subject: Subject,
    /// Whether a dialog may be shown.
    pub interactive: bool,
    /// What it is about: pool, pool.type, pool.target, volume, path.
    pub details: Vec<(&'static str, String)>,
}

/// Answers questions. Any failure to answer is a no.
pub trait Authority: Send + Sync {
    /// `Ok` is yes; `AccessDenied` or `InteractiveAuthorizationRequired` is no. Dropping the future
    /// withdraws the question.
    fn check<'a>(
        &'a self,
        request: &'a Request,
    ) -> Pin<Box<dyn Future<Output = Result<()>> + Send + 'a>>;
}
