//! Taking a partition away.

use super::drive::Locked;
use super::{ErrorKind, Opened, Result, Role, Table};
use crate::image::partitions::Partition;
use crate::model::{Volume, VolumeName};

impl Opened<'_> {
    /// Deletes a volume; one that is gone already is success. The kernel gives up no partition that
    /// anybody has open, so that `force` only leaves out the look at who that is.
    pub(super) fn delete(&self, volume: &Volume, force: bool) -> Result<()> {
        let name = &volume.name;
        if !force {
            self.volumes.check_unused(volume)?;
        }
        let locked = self.drive.lock()?;
        let table = self.table()?;
        let Some(partition) = self.partition(&table, volume)? else {
            return self.volumes.forget(name);
        };
        if partition.role == Role::Extended && table.partitions.iter().any(is_logical) {
            let what = "it has logical partitions in it; delete those first";
            return Err(self.pool.volume_error(ErrorKind::Busy, name, what));
        }
        let higher: Vec<&Partition> = match partition.role {
            Role::Logical => {
                let above = table.partitions.iter().filter(|one| is_logical(one));
                above.filter(|one| one.number > partition.number).collect()
            }
            _ => Vec::new(),
        };
        self.check_higher(volume, &higher)?;
        let names: Vec<_> = higher.iter().map(|one| self.volume(&table, one)).collect();
        self.withdraw(&locked, volume, partition, &higher)?;
        if let Err(error) = locked.write(&table.remove(partition)) {
            self.restore(&locked, std::iter::once(partition).chain(higher.iter().copied()));
            return Err(self.pool.of_volume(name, error));
        }
        self.volumes.forget(name)?;
        let after = self.table()?;
        for (moved, before) in higher.iter().zip(names) {
            let number = moved.number - 1;
            let Some(now) = after.partition(number).filter(|now| now.start == moved.start) else {
                continue;
            };
            locked.announce(now).map_err(|error| self.pool.of_volume(name, error))?;
            self.rename(&after, now, before)?;
        }
        Ok(())
    }

    /// Refuses to renumber what somebody uses.
    fn check_higher(&self, volume: &Volume, higher: &[&Partition]) -> Result<()> {
        for partition in higher {
            let Some(device) = self.drive.partition_device(partition) else { continue };
            if let Some(user) = device.lasting_user(&self.ctx.limits)? {
                let what = format!(
                    "it cannot be deleted while {user} uses {}, whose number would change; end that first",
                    device.name
                );
                return Err(self.pool.volume_error(ErrorKind::Busy, &volume.name, what));
            }
        }
        Ok(())
    }

    /// Has the kernel forget a partition and those that will have other numbers: all or none.
    fn withdraw(
        &self,
        locked: &Locked<'_>,
        volume: &Volume,
        partition: &Partition,
        higher: &[&Partition],
    ) -> Result<()> {
        let all: Vec<&Partition> =
            std::iter::once(partition).chain(higher.iter().copied()).collect();
        for (index, one) in all.iter().enumerate() {
            if let Err(error) = locked.withdraw(one.number) {
                self.restore(locked, all.iter().take(index).copied());
                return Err(self.pool.of_volume(&volume.name, error));
            }
        }
        Ok(())
    }

    fn restore<'p>(&self, locked: &Locked<'_>, partitions: impl Iterator<Item = &'p Partition>) {
        for partition in partitions {
            if let Err(error) = locked.announce(partition) {
                tracing::warn!(POOLD_POOL = %self.pool.def.name, "{error}");
            }
        }
    }

    /// What was declared of a volume goes with it to its new name.
    fn rename(&self, table: &Table, now: &Partition, before: Option<Volume>) -> Result<()> {
        let records = &self.ctx.records;
        let uuid = self.pool.def.uuid;
        let (Some(before), Some(now)) = (before, self.volume(table, now)) else { return Ok(()) };
        let Some(mut declared) = records.declared(uuid, &before.name) else { return Ok(()) };
        declared.key = declared.key.map(|_| now.key().to_owned());
        let name: &VolumeName = &now.name;
        records.declare(uuid, name, &declared)?;
        records.forget(uuid, &before.name)
    }
}

fn is_logical(partition: &Partition) -> bool {
    partition.role == Role::Logical
}
