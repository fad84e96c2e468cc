//! How steps that change storage are undone.

use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// How one step is undone; undoing what was never done is success.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Undo {
    /// Remove a directory that was made, if it is empty.
    RemoveDirectory(PathBuf),
}
