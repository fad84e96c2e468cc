//! What the parts of a source must be, whatever the pool: they become paths and arguments.

use super::Flaw;
use crate::model::{
    Adapter, FcParent, Need, PoolType, PoolTypeInfo, Result, ScsiHost, Source, clean_path,
};

/// What begins with `-` would be an option of the program that it is given to.
pub(super) fn refuse_dash(element: &'static str, value: &str) -> Result<(), Flaw> {
    if value.starts_with('-') {
        return Err(Flaw::new(element, format!("{value:?} begins with '-'")));
    }
    Ok(())
}

/// A source's name becomes part of paths and arguments: one component, or several for ZFS.
pub(super) fn check_source_name(name: &str, pool_type: PoolType) -> Result<(), Flaw> {
    refuse_dash("source/name", name)?;
    if name.contains('/') && pool_type != PoolType::Zfs {
        return Err(Flaw::new("source/name", format!("{name:?} contains '/'")));
    }
    if name.split('/').any(|part| matches!(part, "" | "." | "..")) {
        return Err(Flaw::new("source/name", format!("{name:?} has an empty or dotted part")));
    }
    Ok(())
}

pub(super) fn check_host(name: &str) -> Result<(), Flaw> {
    refuse_dash("source/host", name)?;
    let allowed = |c: char| c.is_alphanumeric() || ".-_:[]%".contains(c);
    if !name.chars().all(allowed) {
        return Err(Flaw::new("source/host", format!("{name:?} is no host name or address")));
    }
    Ok(())
}

/// The directory of the source, cleaned; absolute except where a share's name stands there.
pub(super) fn clean_dir(source: &mut Source, info: &PoolTypeInfo) -> Result<(), Flaw> {
    let is_share = matches!(source.format.as_deref(), Some("cifs" | "glusterfs"));
    source.dir = match source.dir.take() {
        Some(dir) if info.dir == Need::Filled => Some(clean_path(&format!("/{dir}"))),
        Some(dir) => Some(clean_path(&dir)),
        None => None,
    };
    match &source.dir {
        Some(dir) if !dir.starts_with('/') && !is_share => {
            Err(Flaw::new("source/dir", format!("{dir:?} is not an absolute path")))
        }
        Some(dir) => refuse_dash("source/dir", dir),
        None => Ok(()),
    }
}

pub(super) fn check_adapter(adapter: &Adapter) -> Result<(), Flaw> {
    let flaw = |message: String| Err(Flaw::new("source/adapter", message));
    match adapter {
        Adapter::ScsiHost(ScsiHost::Name(name)) if name.contains('/') => {
            flaw(format!("{name:?} contains '/'"))
        }
        Adapter::ScsiHost(ScsiHost::Parent { address, .. })
            if address.bus > 0xff || address.slot > 0x1f || address.function > 7 =>
        {
            flaw("the PCI address is out of range".to_owned())
        }
        Adapter::ScsiHost(_) => Ok(()),
        Adapter::FcHost(host) => {
            let mut names = vec![&host.wwnn, &host.wwpn];
            match &host.parent {
                Some(FcParent::Wwn { wwnn, wwpn }) => names.extend([wwnn, wwpn]),
                Some(FcParent::Fabric(wwn)) => names.push(wwn),
                Some(FcParent::Name(name)) if name.contains('/') => {
                    return flaw(format!("{name:?} contains '/'"));
                }
                Some(FcParent::Name(_)) | None => {}
            }
            match names.into_iter().find(|name| !is_wwn(name)) {
                Some(name) => flaw(format!("{name:?} is no world wide name (16 hex digits)")),
                None => Ok(()),
            }
        }
    }
}

fn is_wwn(name: &str) -> bool {
    let digits = name.strip_prefix("0x").unwrap_or(name);
    digits.len() == 16 && digits.bytes().all(|b| b.is_ascii_hexdigit())
}
