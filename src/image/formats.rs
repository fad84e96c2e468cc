//! What QEMU can do with each format: one row each, which creation, resizing, cloning and the
//! documents read.

use crate::model::VolumeFormat as F;

/// What can be done with a format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FormatInfo {
    /// The format.
    pub format: F,
    /// QEMU's name for it.
    pub driver: &'static str,
    /// Whether images of it can be made.
    pub creatable: bool,
    /// Whether images of it can be differences to others.
    pub backing: bool,
    /// Whether their capacity can grow.
    pub grows: bool,
    /// Whether it can shrink.
    pub shrinks: bool,
    /// Whether they can be encrypted with LUKS.
    pub encrypts: bool,
    /// Modes of preallocation besides none.
    pub preallocations: &'static [&'static str],
    /// Options with which QEMU makes an image as it is meant here.
    pub options: &'static [(&'static str, &'static str)],
}

/// A format that QEMU makes and does nothing more with.
const PLAIN: FormatInfo = FormatInfo {
    format: F::Unknown,
    driver: "",
    creatable: true,
    backing: false,
    grows: false,
    shrinks: false,
    encrypts: false,
    preallocations: &[],
    options: &[],
};
/// A format that QEMU only reads.
const READ_ONLY: FormatInfo = FormatInfo { creatable: false, ..PLAIN };

/// A capacity as asked for, not rounded to cylinders.
const EXACT: &[(&str, &str)] = &[("force_size", "on")];

const TABLE: &[FormatInfo] = &[
    FormatInfo {
        format: F::Raw,
        driver: "raw",
        grows: true,
        shrinks: true,
        encrypts: true,
        preallocations: &["falloc", "full"],
        ..PLAIN
    },
    FormatInfo {
        format: F::Qcow2,
        driver: "qcow2",
        backing: true,
        grows: true,
        shrinks: true,
        encrypts: true,
        preallocations: &["metadata", "falloc", "full"],
        ..PLAIN
    },
    FormatInfo { format: F::Qcow, driver: "qcow", backing: true, ..PLAIN },
    FormatInfo { format: F::Qed, driver: "qed", backing: true, grows: true, ..PLAIN },
    FormatInfo { format: F::Vmdk, driver: "vmdk", ..PLAIN },
    FormatInfo { format: F::Vpc, driver: "vpc", options: EXACT, ..PLAIN },
    FormatInfo { format: F::Vhd, driver: "vpc", options: EXACT, ..PLAIN },
    FormatInfo { format: F::Vdi, driver: "vdi", ..PLAIN },
    FormatInfo { format: F::Vhdx, driver: "vhdx", ..PLAIN },
    FormatInfo { format: F::Ploop, driver: "parallels", ..PLAIN },
    FormatInfo {
        format: F::Luks,
        driver: "luks",
        grows: true,
        shrinks: true,
        encrypts: true,
        preallocations: &["falloc", "full"],
        ..PLAIN
    },
    FormatInfo { format: F::Bochs, driver: "bochs", ..READ_ONLY },
    FormatInfo { format: F::Cloop, driver: "cloop", ..READ_ONLY },
    FormatInfo { format: F::Dmg, driver: "dmg", ..READ_ONLY },
    // A CD-ROM's content is its bytes.
    FormatInfo { format: F::Iso, driver: "raw", ..READ_ONLY },
];

/// All formats of images that QEMU knows.
pub fn all() -> &'static [FormatInfo] {
    TABLE
}

/// What QEMU can do with a format, if it knows it.
pub fn info(format: F) -> Option<&'static FormatInfo> {
    TABLE.iter().find(|row| row.format == format)
}

/// QEMU's name for a format.
pub fn driver(format: F) -> &'static str {
    info(format).map_or(format.as_str(), |row| row.driver)
}

/// Whether QEMU looks for a backing file when it opens an image of this format.
pub(super) fn may_have_backing(format: F) -> bool {
    matches!(format, F::Qcow | F::Qcow2 | F::Qed | F::Vmdk)
}
