//! Images as QEMU's tools are told of them: every node explicit, nothing found out by probing.

use crate::model::{VolumeFormat, VolumeKind};
use serde_json::{Value, json};
use std::ffi::OsString;
use std::fs::File;
use std::os::fd::AsRawFd;

/// An image and the images that it is a difference to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node(Value);

impl Node {
    /// An image in a file or block device, on top of `backing`, or of nothing whatever its header
    /// says.
    pub fn new(
        filename: &str,
        kind: VolumeKind,
        format: VolumeFormat,
        backing: Option<Node>,
    ) -> Self {
        let driver = if kind == VolumeKind::Block { "host_device" } else { "file" };
        let mut node = json!({
            "driver": format.as_str(),
            "file": { "driver": driver, "filename": filename },
        });
        // A raw image has no backing file to be told of.
        if format != VolumeFormat::Raw {
            node["backing"] = backing.map_or(Value::Null, |backing| backing.0);
        }
        Self(node)
    }

    /// An image in a file that this process has open: no exchange of its name matters.
    pub fn of_open_file(file: &File, format: VolumeFormat, backing: Option<Node>) -> Self {
        let name = format!("/proc/{}/fd/{}", std::process::id(), file.as_raw_fd());
        Self::new(&name, VolumeKind::File, format, backing)
    }

    /// As an argument of qemu-img.
    pub fn argument(&self) -> OsString {
        format!("json:{}", self.0).into()
    }
}
