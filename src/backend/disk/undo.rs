//! Taking back a partition whose making was not finished.

use super::drive::Drive;
use crate::host::{Host, Limits};
use crate::model::{ErrorKind, Result};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use std::time::Duration;

/// How long the disk may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// A partition that is to be made, and all by which it is known from what others make.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewPartition {
    /// The disk.
    pub disk: PathBuf,
    /// The disk's size in bytes.
    pub size: u64,
    /// The id of the disk's table, where it has one.
    pub table: Option<String>,
    /// The partition's number.
    pub number: u32,
    /// Its first byte.
    pub start: u64,
    /// Its length in bytes.
    pub length: u64,
    /// Its own id, where it has one.
    pub id: Option<String>,
}

impl NewPartition {
    /// Removes the partition, if it is there and the very one.
    pub(in crate::backend) fn remove(&self, host: &dyn Host) -> Result<()> {
        let limits = Limits::within(PATIENCE);
        let drive = match Drive::at(&self.disk, host, &limits) {
            Ok(drive) if drive.size() == self.size => drive,
            // Another disk by now.
            Ok(_) => return Ok(()),
            Err(error) if error.kind() == ErrorKind::InvalidArgument => return Ok(()),
            Err(error) => return Err(error),
        };
        let locked = drive.lock()?;
        let Some(table) = drive.table()?.filter(|table| table.id() == self.table) else {
            return Ok(());
        };
        let found = table.partition(self.number).filter(|partition| {
            let is_it = self.id.is_none() || partition.id == self.id;
            is_it && drive.in_bytes(partition) == (self.start, self.length)
        });
        if let Some(partition) = found {
            locked.withdraw(partition.number)?;
            locked.write(&table.remove(partition))?;
        }
        Ok(())
    }
}
