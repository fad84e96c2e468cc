//! `<pool>`: a pool's definition.

use super::element::Element;
use super::permissions;
use super::source;
use super::writer::Writer;
use crate::model::{
    Features, Permissions, PoolDef, PoolDraft, PoolType, RefreshAllocation, Result, Usage,
};
use std::fmt::Display;

/// Namespace of additional mount options.
const FS: &str = "http://libvirt.org/schemas/storagepool/fs/1.0";

/// Namespace of additional Ceph options.
const RBD: &str = "http://libvirt.org/schemas/storagepool/rbd/1.0";

/// Namespace of what libvirt has not.
const POOLD: &str = "https://poold.org/xmlns/pool/1";

/// Elements of `<pool>`. Capacity, allocation and available are written, never read.
pub(super) const CHILDREN: &[&str] = &[
    "name",
    "uuid",
    "capacity",
    "allocation",
    "available",
    "features",
    "source",
    "target",
    "refresh",
];

/// All names that mean something somewhere in a pool's document or a source's.
pub(super) const VOCABULARY: &[&str] = &[
    "pool",
    "name",
    "uuid",
    "capacity",
    "allocation",
    "available",
    "features",
    "cow",
    "source",
    "host",
    "device",
    "freeExtent",
    "dir",
    "adapter",
    "parentaddr",
    "address",
    "initiator",
    "iqn",
    "auth",
    "secret",
    "format",
    "protocol",
    "vendor",
    "product",
    "target",
    "path",
    "permissions",
    "mode",
    "owner",
    "group",
    "label",
    "refresh",
    "volume",
];

/// Reads a pool's document and completes it as libvirt does.
pub(super) fn read(pool: &Element<'_>) -> Result<PoolDef> {
    let word = pool.required("type")?;
    let Some(pool_type) = PoolType::from_name(&word) else {
        return Err(pool.invalid_below("@type", format!("{word:?} is no type of pool")));
    };
    let mut draft = PoolDraft {
        pool_type: Some(pool_type),
        name: pool.value("name")?,
        uuid: pool.uuid("uuid")?,
        mount_options: mount_options(pool)?,
        config_options: config_options(pool)?,
        volume_permissions: volume_permissions(pool)?,
        ..PoolDraft::default()
    };
    if let Some(features) = pool.element("features", &["cow"])? {
        let cow = features.element("cow", &[])?;
        draft.features =
            Features { cow: cow.map(|cow| cow.yes_no("state")).transpose()?.flatten() };
    }
    if let Some(source) = pool.element("source", source::CHILDREN)? {
        draft.source = source::read(&source)?;
    }
    if let Some(target) = pool.element("target", &["path", "permissions"])? {
        draft.target_path = target.value("path")?;
        draft.permissions = permissions::read(&target)?.unwrap_or_default();
    }
    if let Some(refresh) = pool.element("refresh", &["volume"])?
        && let Some(volume) = refresh.element("volume", &[])?
    {
        draft.refresh_allocation = volume.parsed_attribute(
            "allocation",
            "\"default\" or \"capacity\"",
            RefreshAllocation::from_name,
        )?;
    }
    draft.check().map_err(|flaw| match flaw.element {
        "" => pool.invalid(flaw.message),
        element => pool.invalid_below(element, flaw.message),
    })
}

fn mount_options(pool: &Element<'_>) -> Result<Vec<String>> {
    let Some(list) = pool.in_namespace(Some(FS), "mount_opts", &[])? else {
        return Ok(Vec::new());
    };
    let options = list.all(Some(FS), "option", &[])?;
    options.iter().map(|option| option.required("name")).collect()
}

fn config_options(pool: &Element<'_>) -> Result<Vec<(String, String)>> {
    let Some(list) = pool.in_namespace(Some(RBD), "config_opts", &[])? else {
        return Ok(Vec::new());
    };
    let options = list.all(Some(RBD), "option", &[])?;
    let pair = |option: &Element<'_>| Ok((option.required("name")?, option.required("value")?));
    options.iter().map(pair).collect()
}

fn volume_permissions(pool: &Element<'_>) -> Result<Permissions> {
    match pool.in_namespace(Some(POOLD), "volume-permissions", &[])? {
        None => Ok(Permissions::default()),
        Some(element) => permissions::read_attributes(&element),
    }
}

/// Writes a pool's document with the room it has.
pub(super) fn write(out: &mut Writer, pool: &PoolDef, usage: Usage) {
    let mut attributes: Vec<(&str, &dyn Display)> = vec![("type", &pool.pool_type)];
    if !pool.mount_options.is_empty() {
        attributes.push(("xmlns:fs", &FS));
    }
    if !pool.config_options.is_empty() {
        attributes.push(("xmlns:rbd", &RBD));
    }
    out.element("pool", &attributes, |out| {
        out.value("name", &[], &pool.name);
        if !pool.uuid.is_nil() {
            out.value("uuid", &[], &pool.uuid);
        }
        out.bytes("capacity", usage.capacity);
        out.bytes("allocation", usage.allocation);
        out.bytes("available", usage.available);
        if let Some(cow) = pool.features.cow {
            out.element("features", &[], |out| {
                out.empty("cow", &[("state", &source::yes_no(cow))]);
            });
        }
        source::write(out, &pool.source, None);
        if let Some(target) = &pool.target {
            out.element("target", &[], |out| {
                out.value("path", &[], &target.path);
                permissions::write(out, target.permissions.as_ref());
            });
        }
        if let Some(allocation) = pool.refresh_allocation {
            out.element("refresh", &[], |out| {
                out.empty("volume", &[("allocation", &allocation.as_str())]);
            });
        }
        if let Some(permissions) = &pool.volume_permissions {
            permissions::write_attributes(
                out,
                "poold:volume-permissions",
                ("xmlns:poold", &POOLD),
                permissions,
            );
        }
        if !pool.mount_options.is_empty() {
            out.element("fs:mount_opts", &[], |out| {
                for name in &pool.mount_options {
                    out.empty("fs:option", &[("name", name)]);
                }
            });
        }
        if !pool.config_options.is_empty() {
            out.element("rbd:config_opts", &[], |out| {
                for (name, value) in &pool.config_options {
                    out.empty("rbd:option", &[("name", name), ("value", value)]);
                }
            });
        }
    });
}
