//! Settings of the bus as the model has them: what DefinePool takes without XML.

use super::args::Options;
use crate::model::{
    Adapter, Auth, AuthKind, Error, ErrorKind, Features, HostAddress, Permissions, PoolDef,
    PoolDraft, PoolType, RefreshAllocation, Result, ScsiHost, SecretRef, Source, SourceDevice,
    Uuid,
};
use std::collections::{BTreeMap, HashMap};
use zbus::Variant;
use zbus::wire::Signature;

/// Settings that say where the storage is, and their types.
const SOURCE_KEYS: &[(&str, &str)] = &[
    ("hosts", "as"),
    ("devices", "as"),
    ("dir", "s"),
    ("source-name", "s"),
    ("source-format", "s"),
    ("protocol-version", "s"),
    ("adapter", "s"),
    ("initiator", "s"),
    ("auth-type", "s"),
    ("auth-username", "s"),
    ("auth-secret", "s"),
    ("vendor", "s"),
    ("product", "s"),
];

/// The other settings of a pool, and their types.
const POOL_KEYS: &[(&str, &str)] = &[
    ("uuid", "s"),
    ("target", "s"),
    ("mode", "u"),
    ("owner", "u"),
    ("group", "u"),
    ("label", "s"),
    ("cow", "b"),
    ("mount-options", "as"),
    ("config-options", "a{ss}"),
    ("refresh-allocation", "s"),
    ("volume-mode", "u"),
    ("volume-owner", "u"),
    ("volume-group", "u"),
    ("volume-label", "s"),
];

/// Mount options that whoever may define a pool may give, with or without a value; any other
/// needs custom-options.
const MOUNT_OPTIONS: &[&str] = &[
    "_netdev",
    "ac",
    "acdirmax",
    "acdirmin",
    "acregmax",
    "acregmin",
    "actimeo",
    "async",
    "cto",
    "hard",
    "intr",
    "lock",
    "lookupcache",
    "minorversion",
    "nconnect",
    "nfsvers",
    "noac",
    "noatime",
    "noauto",
    "nocto",
    "nodev",
    "nodiratime",
    "noexec",
    "nofail",
    "nolock",
    "nordirplus",
    "norelatime",
    "nosuid",
    "proto",
    "rdirplus",
    "relatime",
    "retrans",
    "retry",
    "ro",
    "rsize",
    "rw",
    "soft",
    "softerr",
    "sync",
    "tcp",
    "timeo",
    "udp",
    "vers",
    "wsize",
];

/// Configuration options (RBD) that whoever may define a pool may give.
const CONFIG_OPTIONS: &[&str] =
    &["client_mount_timeout", "rados_mon_op_timeout", "rados_osd_op_timeout"];

/// An argument or option that cannot be.
pub(super) fn invalid(message: String) -> Error {
    Error::new(ErrorKind::InvalidArgument, message)
}

/// The pool type of that name.
pub(super) fn pool_type(word: &str) -> Result<PoolType> {
    PoolType::from_name(word).ok_or_else(|| {
        let known: Vec<_> = PoolType::ALL.iter().map(|pool_type| pool_type.as_str()).collect();
        invalid(format!("there is no pool type {word:?}; there are {}", known.join(", ")))
    })
}

/// The pool that settings describe.
pub(super) fn pool(
    type_word: &str,
    name: &str,
    given: BTreeMap<String, Variant<'static>>,
) -> Result<PoolDef> {
    let given = check(given, &[SOURCE_KEYS, POOL_KEYS], "settings of a pool")?;
    let uuid = match given.text("uuid") {
        None => None,
        Some(text) => Some(
            Uuid::try_parse(text)
                .map_err(|_| invalid(format!("key \"uuid\": {text:?} is none")))?,
        ),
    };
    let refresh_allocation = match given.text("refresh-allocation") {
        None => None,
        Some("default") => Some(RefreshAllocation::Default),
        Some("capacity") => Some(RefreshAllocation::Capacity),
        Some(word) => {
            return Err(invalid(format!(
                "key \"refresh-allocation\" is \"default\" or \"capacity\", not {word:?}"
            )));
        }
    };
    let draft = PoolDraft {
        pool_type: Some(pool_type(type_word)?),
        name: (!name.is_empty()).then(|| name.to_owned()),
        uuid,
        features: Features { cow: given.said("cow") },
        source: read_source(&given)?,
        target_path: given.text("target").map(str::to_owned),
        permissions: permissions(&given),
        refresh_allocation,
        mount_options: given.texts("mount-options").unwrap_or_default(),
        config_options: given.table("config-options"),
        volume_permissions: Permissions {
            mode: given.id("volume-mode"),
            owner: given.id("volume-owner"),
            group: given.id("volume-group"),
            label: given.text("volume-label").map(str::to_owned),
        },
    };
    draft.complete()
}

/// Where to look for sources of a type.
pub(super) fn source(
    pool_type: PoolType,
    given: BTreeMap<String, Variant<'static>>,
) -> Result<Source> {
    read_source(&check(given, &[SOURCE_KEYS], &format!("source of {pool_type} pools"))?)
}

fn check(
    given: BTreeMap<String, Variant<'static>>,
    keys: &[&[(&str, &str)]],
    whose: &str,
) -> Result<Options> {
    let mut declared = BTreeMap::new();
    for (key, kind) in keys.iter().copied().flatten() {
        let kind = Signature::try_from(*kind).map_err(|error| invalid(error.to_string()))?;
        declared.insert((*key).to_owned(), kind);
    }
    Options::check(given, &declared, whose)
}

/// The owner, mode and label that are given.
pub(super) fn permissions(given: &Options) -> Permissions {
    Permissions {
        mode: given.id("mode"),
        owner: given.id("owner"),
        group: given.id("group"),
        label: given.text("label").map(str::to_owned),
    }
}

fn read_source(given: &Options) -> Result<Source> {
    let text = |key: &str| given.text(key).map(str::to_owned);
    let device = |path: String| SourceDevice { path, part_separator: None, free_extents: vec![] };
    let devices = given.texts("devices").unwrap_or_default();
    let hosts = given.texts("hosts").unwrap_or_default();
    Ok(Source {
        hosts: hosts.iter().map(|text| host(text)).collect::<Result<_>>()?,
        devices: devices.into_iter().map(device).collect(),
        dir: text("dir"),
        name: text("source-name"),
        adapter: text("adapter").map(|name| Adapter::ScsiHost(ScsiHost::Name(name))),
        initiator_iqn: text("initiator"),
        auth: auth(given)?,
        format: text("source-format"),
        protocol_version: text("protocol-version"),
        vendor: text("vendor"),
        product: text("product"),
    })
}

/// A server from `name`, `name:port`, `[address]:port` or an IPv6 address.
fn host(text: &str) -> Result<HostAddress> {
    let bracketed = text.strip_prefix('[').and_then(|rest| rest.split_once(']'));
    let (name, port) = match bracketed {
        Some((address, rest)) => (address, rest.strip_prefix(':')),
        None => match text.split_once(':') {
            Some((name, port)) if !port.contains(':') => (name, Some(port)),
            _ => (text, None),
        },
    };
    let port = match port {
        None => None,
        Some(port) => Some(port.parse().map_err(|_| {
            invalid(format!("key \"hosts\": {text:?} does not end in a port number"))
        })?),
    };
    Ok(HostAddress { name: name.to_owned(), port })
}

fn auth(given: &Options) -> Result<Option<Auth>> {
    let parts = (given.text("auth-type"), given.text("auth-username"), given.text("auth-secret"));
    let (kind, username, secret) = match parts {
        (None, None, None) => return Ok(None),
        (Some(kind), Some(username), Some(secret)) => (kind, username.to_owned(), secret),
        _ => {
            return Err(invalid(
                "auth-type, auth-username and auth-secret are given together or not at all".into(),
            ));
        }
    };
    let secret = match Uuid::try_parse(secret) {
        Ok(uuid) => SecretRef::Uuid(uuid),
        Err(_) => SecretRef::Usage(secret.to_owned()),
    };
    match AuthKind::from_name(kind) {
        Some(known) => Ok(Some(known.auth(username, secret))),
        None => Err(invalid(format!(
            "key \"auth-type\" is \"chap\", \"ceph\" or \"cifs\", not {kind:?}"
        ))),
    }
}

/// The settings that say what a source says.
pub(super) fn of_source(source: &Source) -> HashMap<&'static str, Variant<'static>> {
    let mut settings = HashMap::new();
    let hosts: Vec<_> = source.hosts.iter().map(host_text).collect();
    let devices: Vec<_> = source.devices.iter().map(|device| device.path.clone()).collect();
    if !hosts.is_empty() {
        settings.insert("hosts", hosts.into());
    }
    if !devices.is_empty() {
        settings.insert("devices", devices.into());
    }
    for (key, value) in [
        ("dir", &source.dir),
        ("source-name", &source.name),
        ("source-format", &source.format),
        ("protocol-version", &source.protocol_version),
        ("initiator", &source.initiator_iqn),
        ("vendor", &source.vendor),
        ("product", &source.product),
    ] {
        if let Some(value) = value {
            settings.insert(key, value.clone().into());
        }
    }
    if let Some(Adapter::ScsiHost(ScsiHost::Name(name))) = &source.adapter {
        settings.insert("adapter", name.clone().into());
    }
    settings
}

fn host_text(host: &HostAddress) -> String {
    match host.port {
        Some(port) if host.name.contains(':') && !host.name.starts_with('[') => {
            format!("[{}]:{port}", host.name)
        }
        Some(port) => format!("{}:{port}", host.name),
        None => host.name.clone(),
    }
}

/// Whether a definition has mount or configuration options beyond the common ones.
pub(super) fn has_custom_options(def: &PoolDef) -> bool {
    let mount = def.mount_options.iter().flat_map(|options| options.split(','));
    let config = def.config_options.iter().map(|(name, _)| name.as_str());
    let name = |option: &str| option.split('=').next().unwrap_or("").trim().to_owned();
    mount.map(name).any(|name| !MOUNT_OPTIONS.contains(&name.as_str()))
        || config.into_iter().any(|name| !CONFIG_OPTIONS.contains(&name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(entries: Vec<(&str, Variant<'static>)>) -> BTreeMap<String, Variant<'static>> {
        entries.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
    }

    #[test]
    fn a_directory_pool_is_its_type_name_and_target() {
        let given = settings(vec![
            ("target", "/srv/images".into()),
            ("mode", 0o750u32.into()),
            ("owner", u32::MAX.into()),
            ("volume-mode", 0o640u32.into()),
            ("volume-group", u32::MAX.into()),
        ]);
        let def = pool("dir", "images", given).unwrap();
        let of_volumes = def.volume_permissions.clone().unwrap();
        assert_eq!((of_volumes.mode, of_volumes.group), (Some(0o640), None));
        assert_eq!((def.pool_type, def.name.as_str()), (PoolType::Dir, "images"));
        assert_eq!(def.target_path(), Some("/srv/images"));
        let permissions = def.target.unwrap().permissions.unwrap();
        assert_eq!((permissions.mode, permissions.owner), (Some(0o750), None));
    }

    #[test]
    fn an_nfs_pool_has_its_server_and_directory() {
        let given = settings(vec![
            ("target", "/mnt/nfs".into()),
            ("hosts", vec!["[fd00::1]:2049"].into()),
            ("dir", "/export".into()),
            ("mount-options", vec!["ro", "vers=4.2"].into()),
        ]);
        let def = pool("netfs", "share", given).unwrap();
        assert_eq!(def.source.hosts[0].name, "fd00::1");
        assert_eq!(def.source.hosts[0].port, Some(2049));
        assert!(!has_custom_options(&def));
    }

    #[test]
    fn mount_options_beyond_the_common_ones_are_custom() {
        let with = |options: Vec<&'static str>| {
            let given = settings(vec![
                ("target", "/mnt/nfs".into()),
                ("hosts", vec!["server"].into()),
                ("dir", "/export".into()),
                ("mount-options", options.into()),
            ]);
            pool("netfs", "share", given)
        };
        assert!(!has_custom_options(&with(vec!["soft", "timeo=30"]).unwrap()));
        for options in [vec!["context=x"], vec!["ro", "fsc"], vec!["RO"]] {
            assert!(has_custom_options(&with(options.clone()).unwrap()), "{options:?}");
        }
        // A list in one option hides nothing: it is refused, or every part of it is looked at.
        assert!(
            with(vec!["ro,fsc"]).is_err() || has_custom_options(&with(vec!["ro,fsc"]).unwrap())
        );
    }

    #[test]
    fn unknown_and_mistyped_settings_are_named() {
        for (key, value) in [("tarjet", Variant::from("/srv")), ("target", Variant::from(1u32))] {
            let error = pool("dir", "images", settings(vec![(key, value)])).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidArgument);
            assert!(error.message().contains(key), "{error}");
        }
        assert!(pool("dirr", "images", settings(vec![])).unwrap_err().message().contains("netfs"));
    }

    #[test]
    fn sources_go_out_as_the_settings_that_come_in() {
        let given = settings(vec![
            ("hosts", vec!["server:1234", "::1"].into()),
            ("dir", "/export".into()),
            ("source-format", "nfs".into()),
        ]);
        let found = source(PoolType::NetFs, given).unwrap();
        let out: BTreeMap<_, _> =
            of_source(&found).into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
        assert_eq!(source(PoolType::NetFs, out).unwrap(), found);
    }

    #[test]
    fn hosts_have_ports_only_where_they_say_so() {
        let parsed = |text| host(text).map(|host| (host.name, host.port)).unwrap();
        assert_eq!(parsed("server"), ("server".into(), None));
        assert_eq!(parsed("server:3260"), ("server".into(), Some(3260)));
        assert_eq!(parsed("fd00::1"), ("fd00::1".into(), None));
        assert_eq!(parsed("[fd00::1]"), ("fd00::1".into(), None));
        assert_eq!(parsed("[fd00::1]:1"), ("fd00::1".into(), Some(1)));
        assert!(host("server:port").is_err() && host("server:70000").is_err());
    }
}
