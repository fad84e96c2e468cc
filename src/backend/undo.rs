//! How steps that change storage are undone.

use super::Secrets;
use super::disk::NewPartition;
use super::iscsi;
use super::logical;
use super::rbd;
use super::scsi::write_vport;
use super::sheepdog;
use super::zfs;
use crate::host::Host;
use crate::model::{Error, Result};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use std::time::Duration;

/// How one step is undone; undoing what was never done is success.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Undo {
    /// Remove a directory that was made, if it is empty.
    RemoveDirectory(PathBuf),
    /// Unmount what was mounted, if it is still what is mounted there.
    Unmount {
        /// Where, links resolved.
        mount_point: PathBuf,
        /// What: a device or the name of a share.
        source: String,
    },
    /// Take the devices of a volume group's volumes away, unless they are in use.
    DeactivateVolumeGroup {
        /// Its uuid, in LVM's spelling.
        group: String,
    },
    /// Remove the logical volumes with a tag from a volume group.
    RemoveLogicalVolume {
        /// The group's uuid, in LVM's spelling.
        group: String,
        /// What they were made with.
        tag: String,
    },
    /// Remove the volume group with a tag, if it is empty.
    RemoveVolumeGroup {
        /// What it was made with.
        tag: String,
    },
    /// Make a device no physical volume any more, if it is in no volume group.
    RemovePhysicalVolume {
        /// The device.
        device: PathBuf,
        /// The uuid that it was made with, in LVM's spelling.
        uuid: String,
    },
    /// Export a zpool that was imported.
    ExportZpool(String),
    /// Destroy a zvol or snapshot that was made.
    DestroyZfs(zfs::Tagged),
    /// Delete a virtual Fibre Channel HBA that was made.
    DeleteVport {
        /// Its parent in sysfs.
        parent: PathBuf,
        /// Port name.
        wwpn: String,
        /// Node name.
        wwnn: String,
    },
    /// End the sessions of an iSCSI interface, and remove its records of a target.
    WithdrawIscsi {
        /// The target's name.
        target: String,
        /// The interface's name.
        interface: String,
    },
    /// Remove an image of a Ceph pool that was being made.
    RemoveRbdImage {
        /// Where.
        cluster: rbd::Cluster,
        /// Its hidden name.
        image: String,
    },
    /// Remove a snapshot that was made to clone an image.
    RemoveRbdSnapshot {
        /// Where.
        cluster: rbd::Cluster,
        /// The image.
        image: String,
        /// The snapshot.
        snapshot: String,
    },
    /// Remove a snapshot that was made to clone an image of a Sheepdog cluster.
    RemoveSheepdogSnapshot {
        /// Where.
        node: sheepdog::SheepdogNode,
        /// The image.
        vdi: String,
        /// The snapshot.
        tag: String,
    },
    /// Remove a partition that was made.
    RemovePartition(NewPartition),
}

impl Undo {
    /// How long it may wait, beside the time it takes, until a program that died is forgotten.
    pub fn waits(&self) -> Duration {
        match self {
            Self::RemoveRbdImage { .. } => rbd::FORGOTTEN,
            _ => Duration::ZERO,
        }
    }

    /// Undoes the step. Blocks.
    pub fn apply(&self, host: &dyn Host, secrets: &dyn Secrets) -> Result<()> {
        match self {
            Self::ExportZpool(name) => zfs::export_imported(name, host),
            Self::DestroyZfs(made) => zfs::destroy_tagged(made, host),
            Self::DeleteVport { parent, wwpn, wwnn } => {
                match write_vport(parent, "vport_delete", wwpn, wwnn) {
                    Ok(()) => Ok(()),
                    // The kernel's answer when there is none.
                    Err(error) if is_done(&error) || error.raw_os_error() == Some(libc::ENODEV) => {
                        Ok(())
                    }
                    Err(error) => {
                        Err(Error::io(format_args!("cannot delete the vHBA {wwpn}"), &error))
                    }
                }
            }
            Self::WithdrawIscsi { target, interface } => iscsi::withdraw(target, interface, host),
            Self::RemoveRbdImage { cluster, image } => {
                rbd::remove_image(cluster, image, host, secrets)
            }
            Self::RemoveRbdSnapshot { cluster, image, snapshot } => {
                rbd::remove_snapshot(cluster, image, snapshot, host, secrets)
            }
            Self::RemoveSheepdogSnapshot { node, vdi, tag } => {
                sheepdog::remove_snapshot(node, vdi, tag, host)
            }
            Self::RemovePartition(partition) => partition.remove(host),
            Self::RemoveDirectory(path) => match std::fs::remove_dir(path) {
                Ok(()) => Ok(()),
                Err(error) if is_done(&error) => Ok(()),
                Err(error) => {
                    Err(Error::io(format_args!("cannot remove {}", path.display()), &error))
                }
            },
            Self::Unmount { mount_point, source } => {
                super::mount::unmount_left_over(mount_point, source, host)
            }
            Self::DeactivateVolumeGroup { group } => logical::deactivate(host, group),
            Self::RemoveLogicalVolume { group, tag } => logical::remove_volume(host, group, tag),
            Self::RemoveVolumeGroup { tag } => logical::remove_group(host, tag),
            Self::RemovePhysicalVolume { device, uuid } => {
                logical::remove_physical(host, device, uuid)
            }
        }
    }
}

/// Whether a directory was never made, is no directory, holds something by now, or something is
/// mounted on it.
fn is_done(error: &std::io::Error) -> bool {
    let number = error.raw_os_error();
    matches!(number, Some(libc::ENOENT | libc::ENOTDIR | libc::ENOTEMPTY | libc::EBUSY))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::tests::fixture::World;
    use crate::host::SystemHost;

    #[test]
    fn only_an_empty_directory_is_removed() {
        let base = tempfile::tempdir().unwrap();
        let path = base.path().join("pool");
        let undo = Undo::RemoveDirectory(path.clone());
        undo.apply(&SystemHost, &World::default()).unwrap();
        std::fs::create_dir(&path).unwrap();
        std::fs::write(path.join("file"), "x").unwrap();
        undo.apply(&SystemHost, &World::default()).unwrap();
        assert!(path.join("file").exists());
        std::fs::remove_file(path.join("file")).unwrap();
        undo.apply(&SystemHost, &World::default()).unwrap();
        assert!(!path.exists());
    }
}
