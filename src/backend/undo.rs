//! How steps that change storage are undone.

use crate::host::Host;
use crate::model::{Error, Result};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// How one step is undone; undoing what was never done is success.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Undo {
    /// Remove a directory that was made, if it is empty.
    RemoveDirectory(PathBuf),
}

impl Undo {
    /// Undoes the step. Blocks.
    pub fn apply(&self, _host: &dyn Host) -> Result<()> {
        match self {
            Self::RemoveDirectory(path) => match std::fs::remove_dir(path) {
                Ok(()) => Ok(()),
                Err(error) if is_done(&error) => Ok(()),
                Err(error) => {
                    Err(Error::io(format_args!("cannot remove {}", path.display()), &error))
                }
            },
        }
    }
}

/// Whether a directory was never made, is no directory, or holds something by now.
fn is_done(error: &std::io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ENOTDIR | libc::ENOTEMPTY))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::SystemHost;

    #[test]
    fn only_an_empty_directory_is_removed() {
        let base = tempfile::tempdir().unwrap();
        let path = base.path().join("pool");
        let undo = Undo::RemoveDirectory(path.clone());
        undo.apply(&SystemHost).unwrap();
        std::fs::create_dir(&path).unwrap();
        std::fs::write(path.join("file"), "x").unwrap();
        undo.apply(&SystemHost).unwrap();
        assert!(path.join("file").exists());
        std::fs::remove_file(path.join("file")).unwrap();
        undo.apply(&SystemHost).unwrap();
        assert!(!path.exists());
    }
}
