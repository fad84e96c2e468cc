//! Documents: what comes out of what goes in, and what is refused.

mod documents;
mod hostile;
mod properties;
mod strategies;
