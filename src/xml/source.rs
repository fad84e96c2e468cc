//! `<source>` and `<sources>`: where the storage of pools comes from.

use super::element::Element;
use super::writer::Writer;
use crate::model::{
    Adapter, Auth, AuthKind, FcHost, FcParent, HostAddress, PciAddress, Result, ScsiHost,
    SecretRef, Source, SourceDevice,
};
use std::fmt::Display;

/// Elements of `<source>`.
pub(super) const CHILDREN: &[&str] = &[
    "host",
    "device",
    "dir",
    "name",
    "adapter",
    "initiator",
    "auth",
    "format",
    "protocol",
    "vendor",
    "product",
];

/// Reads a `<source>` without judging what its pool needs.
pub(super) fn read(source: &Element<'_>) -> Result<Source> {
    let attribute_of = |element: &str, attribute: &str| -> Result<Option<String>> {
        let Some(element) = source.element(element, &[])? else { return Ok(None) };
        element.required(attribute).map(Some)
    };
    let initiator_iqn = match source.element("initiator", &["iqn"])? {
        Some(initiator) => match initiator.element("iqn", &[])? {
            Some(iqn) => Some(iqn.required("name")?),
            None => return Err(initiator.invalid_below("iqn", "is missing")),
        },
        None => None,
    };
    // The schema allows vendor and product in the format; libvirt does not look there.
    let format = match source.element("format", &["vendor", "product"])? {
        Some(format) => Some(format.required("type")?),
        None => None,
    };
    Ok(Source {
        hosts: source.all(None, "host", &[])?.iter().map(host).collect::<Result<_>>()?,
        devices: source
            .all(None, "device", &["freeExtent"])?
            .iter()
            .map(device)
            .collect::<Result<_>>()?,
        dir: attribute_of("dir", "path")?,
        name: source.value("name")?,
        adapter: match source.element("adapter", &["parentaddr"])? {
            Some(element) => Some(adapter(&element)?),
            None => None,
        },
        initiator_iqn,
        auth: match source.element("auth", &["secret"])? {
            Some(element) => Some(auth(&element)?),
            None => None,
        },
        format,
        protocol_version: attribute_of("protocol", "ver")?,
        vendor: attribute_of("vendor", "name")?,
        product: attribute_of("product", "name")?,
    })
}

fn host(element: &Element<'_>) -> Result<HostAddress> {
    Ok(HostAddress { name: element.required("name")?, port: element.number("port")? })
}

/// A device; its free extents are found out and never defined.
fn device(element: &Element<'_>) -> Result<SourceDevice> {
    Ok(SourceDevice {
        path: element.required("path")?,
        part_separator: element.yes_no("part_separator")?,
        free_extents: Vec::new(),
    })
}

fn adapter(element: &Element<'_>) -> Result<Adapter> {
    let name = element.attribute("name")?;
    let parent = element.element("parentaddr", &["address"])?;
    match element.attribute("type")? {
        Some("fc_host") if name.is_some() || parent.is_some() => {
            Err(element.invalid("an fc_host has neither name nor parentaddr"))
        }
        Some("fc_host") => Ok(Adapter::FcHost(FcHost {
            wwnn: element.required("wwnn")?,
            wwpn: element.required("wwpn")?,
            parent: fc_parent(element)?,
            managed: element.yes_no("managed")?,
        })),
        Some("scsi_host") | None => {
            for attribute in ["wwnn", "wwpn", "parent"] {
                if element.attribute(attribute)?.is_some() {
                    let below = format!("@{attribute}");
                    return Err(element.invalid_below(&below, "only type fc_host has it"));
                }
            }
            let host = match (name, parent) {
                (Some(name), None) => ScsiHost::Name(name.to_owned()),
                (None, Some(parent)) => scsi_parent(&parent)?,
                (Some(_), Some(_)) => {
                    return Err(element.invalid("has both name and parentaddr"));
                }
                (None, None) => return Err(element.invalid("needs a name or parentaddr")),
            };
            Ok(Adapter::ScsiHost(host))
        }
        Some(word) => {
            let message = format!("{word:?} is neither scsi_host nor fc_host");
            Err(element.invalid_below("@type", message))
        }
    }
}

fn scsi_parent(parent: &Element<'_>) -> Result<ScsiHost> {
    let Some(address) = parent.element("address", &[])? else {
        return Err(parent.invalid_below("address", "is missing"));
    };
    let number = |name: &str| -> Result<u32> { Ok(address.number(name)?.unwrap_or_default()) };
    let Some(unique_id) = parent.number("unique_id")? else {
        return Err(parent.invalid_below("@unique_id", "is missing"));
    };
    Ok(ScsiHost::Parent {
        address: PciAddress {
            domain: number("domain")?,
            bus: number("bus")?,
            slot: number("slot")?,
            function: number("function")?,
        },
        unique_id,
    })
}

fn fc_parent(element: &Element<'_>) -> Result<Option<FcParent>> {
    let attribute =
        |name: &str| -> Result<Option<String>> { Ok(element.attribute(name)?.map(str::to_owned)) };
    let parts = (
        attribute("parent")?,
        attribute("parent_wwnn")?,
        attribute("parent_wwpn")?,
        attribute("parent_fabric_wwn")?,
    );
    match parts {
        (None, None, None, None) => Ok(None),
        (Some(name), None, None, None) => Ok(Some(FcParent::Name(name))),
        (None, Some(wwnn), Some(wwpn), None) => Ok(Some(FcParent::Wwn { wwnn, wwpn })),
        (None, None, None, Some(wwn)) => Ok(Some(FcParent::Fabric(wwn))),
        _ => Err(element.invalid(
            "the parent is named by parent, or parent_wwnn and parent_wwpn, or parent_fabric_wwn",
        )),
    }
}

fn auth(element: &Element<'_>) -> Result<Auth> {
    let word = element.required("type")?;
    let Some(kind) = AuthKind::from_name(&word) else {
        return Err(
            element.invalid_below("@type", format!("{word:?} is none of chap, ceph and cifs"))
        );
    };
    let username = element.required("username")?;
    let Some(secret) = element.element("secret", &[])? else {
        return Err(element.invalid_below("secret", "is missing"));
    };
    Ok(kind.auth(username, secret.secret()?))
}

/// Writes a `<source>`, with `default_format` where it names none.
pub(super) fn write(out: &mut Writer, source: &Source, default_format: Option<&str>) {
    out.element("source", &[], |out| {
        for host in &source.hosts {
            match &host.port {
                Some(port) => out.empty("host", &[("name", &host.name), ("port", port)]),
                None => out.empty("host", &[("name", &host.name)]),
            }
        }
        for device in &source.devices {
            write_device(out, device);
        }
        write_attribute(out, "dir", "path", source.dir.as_ref());
        if let Some(adapter) = &source.adapter {
            write_adapter(out, adapter);
        }
        out.optional("name", source.name.as_ref().map(|name| name as &dyn Display));
        if let Some(iqn) = &source.initiator_iqn {
            out.element("initiator", &[], |out| out.empty("iqn", &[("name", iqn)]));
        }
        if let Some(format) = source.format.as_deref().or(default_format) {
            out.empty("format", &[("type", &format)]);
        }
        if let Some(auth) = &source.auth {
            let (username, secret) = auth.parts();
            out.element(
                "auth",
                &[("type", &auth.kind().as_str()), ("username", &username)],
                |out| {
                    write_secret(out, None, secret);
                },
            );
        }
        write_attribute(out, "protocol", "ver", source.protocol_version.as_ref());
        write_attribute(out, "vendor", "name", source.vendor.as_ref());
        write_attribute(out, "product", "name", source.product.as_ref());
    });
}

/// Writes a `<secret>` that refers to one, with the type given.
pub(super) fn write_secret(out: &mut Writer, kind: Option<&str>, secret: &SecretRef) {
    let (name, value): (_, &dyn Display) = match secret {
        SecretRef::Uuid(uuid) => ("uuid", uuid),
        SecretRef::Usage(usage) => ("usage", usage),
    };
    match kind {
        Some(kind) => out.empty("secret", &[("type", &kind), (name, value)]),
        None => out.empty("secret", &[(name, value)]),
    }
}

/// A word for yes or no.
pub(super) fn yes_no(yes: bool) -> &'static str {
    if yes { "yes" } else { "no" }
}

fn write_attribute(out: &mut Writer, element: &str, attribute: &str, value: Option<&String>) {
    if let Some(value) = value {
        out.empty(element, &[(attribute, value)]);
    }
}

fn write_device(out: &mut Writer, device: &SourceDevice) {
    let mut attributes: Vec<(&str, &dyn Display)> = vec![("path", &device.path)];
    let separator = device.part_separator.map(yes_no);
    if let Some(word) = &separator {
        attributes.push(("part_separator", word));
    }
    if device.free_extents.is_empty() {
        out.empty("device", &attributes);
        return;
    }
    out.element("device", &attributes, |out| {
        for extent in &device.free_extents {
            out.empty("freeExtent", &[("start", &extent.start), ("end", &extent.end)]);
        }
    });
}

fn write_adapter(out: &mut Writer, adapter: &Adapter) {
    match adapter {
        Adapter::ScsiHost(ScsiHost::Name(name)) => {
            out.empty("adapter", &[("type", &"scsi_host"), ("name", name)]);
        }
        Adapter::ScsiHost(ScsiHost::Parent { address, unique_id }) => {
            out.element("adapter", &[("type", &"scsi_host")], |out| {
                out.element("parentaddr", &[("unique_id", unique_id)], |out| {
                    out.empty(
                        "address",
                        &[
                            ("domain", &format!("{:#06x}", address.domain)),
                            ("bus", &format!("{:#04x}", address.bus)),
                            ("slot", &format!("{:#04x}", address.slot)),
                            ("function", &format!("{:#x}", address.function)),
                        ],
                    );
                });
            });
        }
        Adapter::FcHost(host) => {
            let mut attributes: Vec<(&str, &dyn Display)> = vec![("type", &"fc_host")];
            match &host.parent {
                Some(FcParent::Name(name)) => attributes.push(("parent", name)),
                Some(FcParent::Wwn { wwnn, wwpn }) => {
                    attributes.extend([
                        ("parent_wwnn", wwnn as &dyn Display),
                        ("parent_wwpn", wwpn as &dyn Display),
                    ]);
                }
                Some(FcParent::Fabric(wwn)) => attributes.push(("parent_fabric_wwn", wwn)),
                None => {}
            }
            let managed = host.managed.map(yes_no);
            if let Some(word) = &managed {
                attributes.push(("managed", word));
            }
            attributes.extend([
                ("wwnn", &host.wwnn as &dyn Display),
                ("wwpn", &host.wwpn as &dyn Display),
            ]);
            out.empty("adapter", &attributes);
        }
    }
}
