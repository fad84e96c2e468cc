//! Which definitions cannot stand beside each other: libvirt's rules, and equal target paths.

use crate::model::{Error, ErrorKind, PoolDef, PoolType, Result, SourceDevice};

/// How pools of a type could lay hands on the same storage.
enum Rule {
    /// Never, as far as we can tell.
    Never,
    /// The same host and directory, or target path.
    HostAndDir,
    /// A common device.
    Devices,
    /// The same adapter.
    Adapter,
    /// The same host.
    Host,
    /// The same name of the source.
    Name,
    /// There is one on a host.
    Always,
}

/// The rule of a type, and its family: types that can have the same storage.
fn rule(pool_type: PoolType) -> (Rule, u8) {
    match pool_type {
        PoolType::Dir => (Rule::HostAndDir, 0),
        PoolType::NetFs => (Rule::HostAndDir, 1),
        PoolType::Gluster => (Rule::HostAndDir, 2),
        PoolType::Fs | PoolType::Logical | PoolType::Disk | PoolType::Zfs => (Rule::Devices, 3),
        PoolType::Iscsi => (Rule::Devices, 4),
        PoolType::Scsi => (Rule::Adapter, 5),
        PoolType::Sheepdog => (Rule::Host, 6),
        PoolType::Vstorage => (Rule::Name, 7),
        PoolType::Mpath => (Rule::Always, 8),
        PoolType::Rbd | PoolType::IscsiDirect => (Rule::Never, 9),
    }
}

/// Refuses `new` when `other`, another pool, has its name, uuid, source or target.
pub(super) fn check(new: &PoolDef, other: &PoolDef) -> Result<()> {
    let conflict = |why: String| {
        Err(Error::new(
            ErrorKind::Conflict,
            format!(
                "pool {} conflicts with pool {} (uuid {}): {why}; undefine that one, or change this one",
                new.name, other.name, other.uuid
            ),
        ))
    };
    if new.uuid == other.uuid && new.name != other.name {
        return conflict("the uuid is the same".to_owned());
    }
    if new.name == other.name && new.uuid != other.uuid {
        return conflict(format!("the name is the same, the uuid {} is not", new.uuid));
    }
    if new.uuid == other.uuid {
        return Ok(());
    }
    match (new.target_path(), other.target_path()) {
        (Some(path), Some(taken)) if path == taken && !shares_target(new.pool_type) => {
            return conflict(format!("the target path {path} is the same"));
        }
        _ => {}
    }
    match same_source(new, other) {
        Some(what) => conflict(format!("the source is the same ({what})")),
        None => Ok(()),
    }
}

/// Whether all pools of a type have the same target, because their volumes are devices.
fn shares_target(pool_type: PoolType) -> bool {
    matches!(pool_type, PoolType::Disk | PoolType::Iscsi | PoolType::Scsi | PoolType::Mpath)
}

/// What the sources have in common, if it is the same storage.
fn same_source(new: &PoolDef, other: &PoolDef) -> Option<String> {
    let ((how, family), (_, others_family)) = (rule(new.pool_type), rule(other.pool_type));
    if family != others_family {
        return None;
    }
    let (source, others) = (&new.source, &other.source);
    let host = || {
        let common =
            |host: &_| others.hosts.iter().any(|taken: &crate::model::HostAddress| taken == host);
        source.hosts.iter().find(|host| common(host)).map(|host| host.name.clone())
    };
    match how {
        Rule::Never => None,
        Rule::HostAndDir if new.pool_type == PoolType::Dir => None,
        Rule::HostAndDir => {
            let same = source.dir == others.dir
                && (new.pool_type != PoolType::Gluster || source.name == others.name);
            host().filter(|_| same)
        }
        Rule::Devices => {
            let taken = |device: &&SourceDevice| {
                others.devices.iter().any(|other| other.path == device.path)
            };
            let device = source.devices.iter().find(taken).map(|device| device.path.clone())?;
            // The same target on another portal is other storage.
            match new.pool_type {
                PoolType::Iscsi => host().map(|host| format!("{device} on {host}")),
                _ => Some(device),
            }
        }
        Rule::Adapter => {
            (source.adapter.is_some() && source.adapter == others.adapter).then(|| "adapter".into())
        }
        Rule::Host => host(),
        Rule::Name => source.name.clone().filter(|name| others.name.as_ref() == Some(name)),
        Rule::Always => Some("the host's multipath devices".to_owned()),
    }
}
