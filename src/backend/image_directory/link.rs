//! Symbolic links in the directory, followed only where nobody but root has a hand in them, and where
//! they mean something on this host: never in a directory that is mounted for poold alone.

use super::ImageDirectory;
use crate::host::{Access, FileStat, Trust, is_roots, reopen, walk};
use rustix::fs::FileType;
use std::ffi::CStr;
use std::fs::File;
use std::io;
use std::path::Path;

impl ImageDirectory<'_> {
    /// The file or block device that a link leads to, opened; none when it leads to
    /// something else, nowhere, or on a way that somebody other than root can change.
    pub(super) fn follow(
        &self,
        name: &CStr,
        access: Access,
    ) -> io::Result<Option<(File, FileStat)>> {
        let link = self.directory.stat_entry(name)?;
        if !is_roots(&link) || self.pool.activation.files.is_some() {
            return Ok(None);
        }
        let target = self.directory.read_link(name)?;
        let end = match walk(&Path::new(self.path).join(target), Trust::WholeWay) {
            Ok(Some(end)) => end,
            Ok(None) => return Ok(None),
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => return Ok(None),
            Err(error) => return Err(error),
        };
        let stat = FileStat::of(&end)?;
        if !matches!(stat.kind, FileType::RegularFile | FileType::BlockDevice) {
            return Ok(None);
        }
        // What was looked at is what is opened, whatever has happened to the path since.
        let file = reopen(&end, access)?;
        Ok(Some((file, stat)))
    }
}
