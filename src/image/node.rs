//! Images as QEMU's tools are told of them: every node explicit, nothing found out by probing.

use super::formats;
use crate::host::files;
use crate::model::{VolumeFormat, VolumeKind};
use serde_json::{Value, json};
use std::ffi::OsString;
use std::fs::File;

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
            "driver": formats::driver(format),
            "file": { "driver": driver, "filename": filename },
        });
        // QEMU takes the word only where it could look for a backing file.
        if formats::may_have_backing(format) {
            node["backing"] = backing.map_or(Value::Null, |backing| backing.0);
        }
        Self(node)
    }

    /// An image in a file or block device that this process has open: no exchange of its name matters.
    pub fn of_open_file(
        file: &File,
        kind: VolumeKind,
        format: VolumeFormat,
        backing: Option<Node>,
    ) -> Self {
        Self::new(&files::own_path(file), kind, format, backing)
    }

    /// The same image, whose content is encrypted with the passphrase in a secret object.
    pub fn encrypted(mut self, secret: &str) -> Self {
        if self.0["driver"] == "luks" {
            self.0["key-secret"] = secret.into();
        } else {
            self.0["encrypt"] = json!({ "format": "luks", "key-secret": secret });
        }
        self
    }

    /// As an argument of qemu-img.
    pub fn argument(&self) -> OsString {
        format!("json:{}", self.0).into()
    }
}
