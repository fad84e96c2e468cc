//! The formats of a volume's content.

use serde::{Deserialize, Serialize};
use std::fmt;

macro_rules! formats {
    ($($(#[$doc:meta])* $variant:ident = $name:literal),* $(,)?) => {
        /// What a volume's bytes are: an image format, a partition's type, or a directory.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        pub enum VolumeFormat {
            $($(#[$doc])* #[serde(rename = $name)] $variant,)*
        }

        impl VolumeFormat {
            /// All formats, in libvirt's order.
            pub const ALL: &'static [VolumeFormat] = &[$(Self::$variant),*];

            /// libvirt's word for it.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }
        }
    };
}

formats! {
    /// Not known.
    Unknown = "unknown",
    /// A partition without type.
    None = "none",
    /// Bytes as the guest sees them.
    Raw = "raw",
    /// A directory.
    Dir = "dir",
    /// Bochs growing image.
    Bochs = "bochs",
    /// Compressed loop image.
    Cloop = "cloop",
    /// Apple disk image.
    Dmg = "dmg",
    /// CD-ROM image.
    Iso = "iso",
    /// Virtual PC (VHD).
    Vpc = "vpc",
    /// VirtualBox.
    Vdi = "vdi",
    /// Directory shown as a FAT disk.
    Fat = "fat",
    /// Virtual PC by its other name.
    Vhd = "vhd",
    /// Parallels and Virtuozzo.
    Ploop = "ploop",
    /// User-mode Linux copy-on-write.
    Cow = "cow",
    /// QEMU copy-on-write, version 1.
    Qcow = "qcow",
    /// QEMU copy-on-write, versions 2 and 3.
    Qcow2 = "qcow2",
    /// QEMU enhanced disk.
    Qed = "qed",
    /// VMware.
    Vmdk = "vmdk",
    /// Hyper-V.
    Vhdx = "vhdx",
    /// LUKS.
    Luks = "luks",
    /// Partition: Linux.
    Linux = "linux",
    /// Partition: FAT16.
    Fat16 = "fat16",
    /// Partition: FAT32.
    Fat32 = "fat32",
    /// Partition: swap.
    LinuxSwap = "linux-swap",
    /// Partition: LVM.
    LinuxLvm = "linux-lvm",
    /// Partition: RAID.
    LinuxRaid = "linux-raid",
    /// Partition: extended.
    Extended = "extended",
}

impl VolumeFormat {
    /// Whether it says what a volume's bytes are; else it is the type of a partition or not known.
    pub fn is_image(self) -> bool {
        use VolumeFormat as F;
        !matches!(
            self,
            F::Unknown
                | F::None
                | F::Linux
                | F::Fat16
                | F::Fat32
                | F::LinuxSwap
                | F::LinuxLvm
                | F::LinuxRaid
                | F::Extended
        )
    }

    /// The format of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|format| format.as_str() == name)
    }
}

impl fmt::Display for VolumeFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// How a volume's format is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FormatSource {
    /// Its creator said so; what a guest writes changes nothing.
    Declared,
    /// Its header says so: a hint.
    Probed,
}

impl FormatSource {
    /// The word used on the bus.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Declared => "declared",
            Self::Probed => "probed",
        }
    }
}
