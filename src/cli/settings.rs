//! Typed settings of a pool and options of a new volume: one option each, by the names of the bus.

use super::values::{assignment, group, mode, size, user};
use crate::client::{Options, Value};
use crate::model::{self, Error, ErrorKind};
use clap::Args;
use std::collections::HashMap;
use std::path::{Path, PathBuf};

/// Those of them that say where storage comes from, or where to look for it.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Where the storage is")]
pub(super) struct SourceSettings {
    /// Server as NAME or NAME:PORT; may be repeated
    #[arg(long = "host", value_name = "HOST")]
    hosts: Vec<String>,
    /// Device, or an iSCSI target's IQN; may be repeated
    #[arg(long = "device", value_name = "DEVICE")]
    devices: Vec<String>,
    /// Directory on the server
    #[arg(long, value_name = "PATH")]
    dir: Option<String>,
    /// Volume group, Ceph pool, Gluster volume or zpool
    #[arg(long, value_name = "NAME")]
    source_name: Option<String>,
    /// File system, partition table or kind of share
    #[arg(long, value_name = "FORMAT")]
    source_format: Option<String>,
    /// NFS version
    #[arg(long, value_name = "VERSION")]
    protocol_version: Option<String>,
    /// SCSI host
    #[arg(long, value_name = "ADAPTER")]
    adapter: Option<String>,
    /// Own initiator name
    #[arg(long, value_name = "IQN")]
    initiator: Option<String>,
    /// chap, ceph or cifs
    #[arg(long, value_name = "TYPE")]
    auth_type: Option<String>,
    /// User name on the server
    #[arg(long, value_name = "USER")]
    auth_username: Option<String>,
    /// Secret with the password: UUID or usage
    #[arg(long, value_name = "SECRET")]
    auth_secret: Option<String>,
}

impl SourceSettings {
    /// As `DefinePool` and `FindSources` take them.
    pub(super) fn to_options(&self) -> Options<'_> {
        let mut options = Options::new();
        for (key, value) in [
            ("dir", &self.dir),
            ("source-name", &self.source_name),
            ("source-format", &self.source_format),
            ("protocol-version", &self.protocol_version),
            ("adapter", &self.adapter),
            ("initiator", &self.initiator),
            ("auth-type", &self.auth_type),
            ("auth-username", &self.auth_username),
            ("auth-secret", &self.auth_secret),
        ] {
            put(&mut options, key, value.as_deref());
        }
        for (key, words) in [("hosts", &self.hosts), ("devices", &self.devices)] {
            put(&mut options, key, (!words.is_empty()).then(|| words.clone()));
        }
        options
    }
}

/// Settings of `Manager.DefinePool`.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Settings of the pool")]
pub(super) struct PoolSettings {
    /// UUID [default: a new one]
    #[arg(long)]
    uuid: Option<String>,
    /// Directory where its volumes are
    #[arg(long, value_name = "PATH")]
    target: Option<PathBuf>,
    #[command(flatten)]
    source: SourceSettings,
    /// Vendor of the source, free text
    #[arg(long)]
    vendor: Option<String>,
    /// Product of the source, free text
    #[arg(long)]
    product: Option<String>,
    /// Mode of the directory, octal
    #[arg(long, value_parser = mode)]
    mode: Option<u32>,
    /// Owner of the directory, name or uid
    #[arg(long, value_parser = user)]
    owner: Option<u32>,
    /// Group of the directory, name or gid
    #[arg(long, value_parser = group)]
    group: Option<u32>,
    /// SELinux label of the directory
    #[arg(long)]
    label: Option<String>,
    /// Mode of new volumes that state none, octal
    #[arg(long, value_name = "MODE", value_parser = mode)]
    volume_mode: Option<u32>,
    /// Owner of new volumes, name or uid
    #[arg(long, value_name = "OWNER", value_parser = user)]
    volume_owner: Option<u32>,
    /// Group of new volumes, name or gid
    #[arg(long, value_name = "GROUP", value_parser = group)]
    volume_group: Option<u32>,
    /// SELinux label of new volumes
    #[arg(long, value_name = "LABEL")]
    volume_label: Option<String>,
    /// Whether btrfs copies on write
    #[arg(long, value_name = "BOOL")]
    cow: Option<bool>,
    /// Mount option; may be repeated
    #[arg(long = "mount-option", value_name = "OPTION")]
    mount_options: Vec<String>,
    /// Ceph configuration; may be repeated
    #[arg(long = "config-option", value_name = "NAME=VALUE", value_parser = assignment)]
    config_options: Vec<(String, String)>,
    /// How a refresh finds out allocations: default or capacity
    #[arg(long, value_name = "HOW")]
    refresh_allocation: Option<String>,
}

impl PoolSettings {
    /// As `DefinePool` takes them.
    pub(super) fn to_options(&self) -> model::Result<Options<'_>> {
        let mut options = self.source.to_options();
        let target = self.target.as_deref().map(absolute).transpose()?;
        put(&mut options, "target", target);
        for (key, value) in [
            ("uuid", &self.uuid),
            ("vendor", &self.vendor),
            ("product", &self.product),
            ("label", &self.label),
            ("volume-label", &self.volume_label),
            ("refresh-allocation", &self.refresh_allocation),
        ] {
            put(&mut options, key, value.as_deref());
        }
        for (key, value) in [
            ("mode", self.mode),
            ("owner", self.owner),
            ("group", self.group),
            ("volume-mode", self.volume_mode),
            ("volume-owner", self.volume_owner),
            ("volume-group", self.volume_group),
        ] {
            put(&mut options, key, value);
        }
        let mount_options = &self.mount_options;
        put(
            &mut options,
            "mount-options",
            (!mount_options.is_empty()).then(|| mount_options.clone()),
        );
        put(&mut options, "cow", self.cow);
        let config: HashMap<_, _> = self.config_options.iter().cloned().collect();
        put(&mut options, "config-options", (!config.is_empty()).then_some(config));
        Ok(options)
    }
}

/// Options of `Pool.CreateVolume`.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Properties of the volume")]
pub(super) struct VolumeSettings {
    /// Format, such as raw or qcow2 [default: the pool's]
    #[arg(long, conflicts_with = "xml")]
    format: Option<String>,
    /// Bytes to allocate at once
    #[arg(long, value_name = "SIZE", value_parser = size, conflicts_with = "xml")]
    allocation: Option<u64>,
    /// Image that the new one is a difference to: POOL/NAME or path
    #[arg(long, value_name = "VOLUME", conflicts_with = "xml")]
    pub(super) backing: Option<String>,
    /// Format of that image
    #[arg(long, value_name = "FORMAT", requires = "backing")]
    backing_format: Option<String>,
    /// Cluster size of the image
    #[arg(long, value_name = "SIZE", value_parser = size, conflicts_with = "xml")]
    cluster_size: Option<u64>,
    /// qcow2 compatibility level: 0.10 or 1.1
    #[arg(long, value_name = "LEVEL", conflicts_with = "xml")]
    compat: Option<String>,
    /// Write reference counts late
    #[arg(long, conflicts_with = "xml")]
    lazy_refcounts: bool,
    /// Sub-cluster allocation
    #[arg(long, conflicts_with = "xml")]
    extended_l2: bool,
    /// What to allocate: none, metadata, falloc or full
    #[arg(long, value_name = "HOW")]
    preallocation: Option<String>,
    /// Switch btrfs copy-on-write off
    #[arg(long, conflicts_with = "xml")]
    nocow: bool,
    /// Mode of the file, octal
    #[arg(long, value_parser = mode, conflicts_with = "xml")]
    mode: Option<u32>,
    /// Owner of the file, name or uid
    #[arg(long, value_parser = user, conflicts_with = "xml")]
    owner: Option<u32>,
    /// Group of the file, name or gid
    #[arg(long, value_parser = group, conflicts_with = "xml")]
    group: Option<u32>,
    /// SELinux label of the file
    #[arg(long, conflicts_with = "xml")]
    label: Option<String>,
    /// Encrypt it: luks
    #[arg(long, value_name = "FORMAT", requires = "secret", conflicts_with = "xml")]
    encryption: Option<String>,
    /// Secret with the passphrase: UUID or usage
    #[arg(long, conflicts_with = "xml")]
    secret: Option<String>,
    /// How its blocks are provided, in a logical pool: thick, thin, snapshot, sparse or thin-pool
    #[arg(long, value_name = "HOW", conflicts_with = "xml")]
    provisioning: Option<String>,
    /// Thin pool that it is thin in, by name [default: the only one there is]
    #[arg(long, value_name = "NAME", conflicts_with = "xml")]
    thin_pool: Option<String>,
}

impl VolumeSettings {
    /// Adds them to the options of `CreateVolume`; the backing image is already a path.
    pub(super) fn add_to<'a>(&'a self, options: &mut Options<'a>, backing: Option<String>) {
        for (key, value) in [
            ("format", &self.format),
            ("backing-path", &backing),
            ("backing-format", &self.backing_format),
            ("compat", &self.compat),
            ("preallocation", &self.preallocation),
            ("label", &self.label),
            ("encryption", &self.encryption),
            ("secret", &self.secret),
            ("provisioning", &self.provisioning),
            ("thin-pool", &self.thin_pool),
        ] {
            put(options, key, value.clone());
        }
        for (key, value) in [("allocation", self.allocation), ("cluster-size", self.cluster_size)] {
            put(options, key, value);
        }
        for (key, value) in [("mode", self.mode), ("owner", self.owner), ("group", self.group)] {
            put(options, key, value);
        }
        for (key, flag) in [
            ("lazy-refcounts", self.lazy_refcounts),
            ("extended-l2", self.extended_l2),
            ("nocow", self.nocow),
        ] {
            put(options, key, flag.then_some(true));
        }
    }
}

/// Settings of a clone.
#[derive(Debug, Args)]
pub(super) struct CloneSettings {
    /// Format [default: the volume's]
    #[arg(long)]
    format: Option<String>,
    /// Bytes to allocate at once
    #[arg(long, value_name = "SIZE", value_parser = size)]
    allocation: Option<u64>,
    /// What to allocate: none, metadata, falloc or full
    #[arg(long, value_name = "HOW")]
    preallocation: Option<String>,
    /// Switch btrfs copy-on-write off
    #[arg(long)]
    nocow: bool,
    /// Mode of the file, octal
    #[arg(long, value_parser = mode)]
    mode: Option<u32>,
    /// Owner of the file, name or uid
    #[arg(long, value_parser = user)]
    owner: Option<u32>,
    /// Group of the file, name or gid
    #[arg(long, value_parser = group)]
    group: Option<u32>,
    /// SELinux label of the file
    #[arg(long)]
    label: Option<String>,
    /// Encrypt it: luks
    #[arg(long, value_name = "FORMAT", requires = "secret")]
    encryption: Option<String>,
    /// Secret with the passphrase: UUID or usage
    #[arg(long)]
    secret: Option<String>,
    /// How its blocks are provided, in a logical pool: thick, thin or sparse
    #[arg(long, value_name = "HOW")]
    provisioning: Option<String>,
    /// Thin pool that it is thin in, by name [default: the only one there is]
    #[arg(long, value_name = "NAME")]
    thin_pool: Option<String>,
}

impl CloneSettings {
    /// Adds them to the options of `Clone`.
    pub(super) fn add_to<'a>(&'a self, options: &mut Options<'a>) {
        for (key, value) in [
            ("format", &self.format),
            ("preallocation", &self.preallocation),
            ("label", &self.label),
            ("encryption", &self.encryption),
            ("secret", &self.secret),
            ("provisioning", &self.provisioning),
            ("thin-pool", &self.thin_pool),
        ] {
            put(options, key, value.clone());
        }
        for (key, value) in [("mode", self.mode), ("owner", self.owner), ("group", self.group)] {
            put(options, key, value);
        }
        put(options, "allocation", self.allocation);
        put(options, "nocow", self.nocow.then_some(true));
    }
}

/// Adds an option that was given.
fn put<'a>(options: &mut Options<'a>, key: &'static str, value: Option<impl Into<Value<'a>>>) {
    options.extend(value.map(|value| (key, value.into())));
}

/// A path as the service sees it, which has another current directory.
fn absolute(path: &Path) -> model::Result<String> {
    let absolute = std::path::absolute(path)
        .map_err(|error| Error::io(format!("cannot use the path {}", path.display()), &error))?;
    absolute.into_os_string().into_string().map_err(|path| {
        Error::new(ErrorKind::InvalidArgument, format!("path {path:?} is not UTF-8"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        settings: PoolSettings,
    }

    #[test]
    fn only_what_was_given_is_sent_with_its_type() {
        let line = Line::try_parse_from([
            "x",
            "--target",
            "/srv/x/",
            "--host",
            "a",
            "--host",
            "b:1",
            "--mode",
            "0750",
            "--owner",
            "root",
            "--cow",
            "false",
            "--config-option",
            "a=b=c",
        ])
        .unwrap();
        let options = line.settings.to_options().unwrap();
        let mut sent: Vec<_> = options
            .iter()
            .map(|(key, value)| format!("{key}={}", crate::client::to_json(value)))
            .collect();
        sent.sort();
        assert_eq!(
            sent,
            [
                "config-options={\"a\":\"b=c\"}",
                "cow=false",
                "hosts=[\"a\",\"b:1\"]",
                "mode=488",
                "owner=0",
                "target=\"/srv/x/\"",
            ]
        );
    }

    #[test]
    fn modes_are_octal() {
        for wrong in ["0o750", "789", "10000", "-1"] {
            assert!(Line::try_parse_from(["x", &format!("--mode={wrong}")]).is_err(), "{wrong}");
        }
    }
}
