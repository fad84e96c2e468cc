//! `<volume>`: a volume as asked for, or as found.
//!
//! As in libvirt, some things are written and never read (physical, extents, timestamps), and one
//! is read and never written (nocow, a wish for the creation).
//!
//! What libvirt's documents cannot say, how the blocks of a device are provided, is
//! `<provisioning type= pool=>` of a namespace of ours.

use super::element::Element;
use super::permissions;
use super::source::write_secret;
use super::writer::Writer;
use crate::model::{
    BackingStore, Encryption, Extent, Permissions, PoolType, Provisioning, Result, Timestamps,
    VolumeDef, VolumeFeatures, VolumeFormat, VolumeKind, VolumeName,
};
use std::fmt::Display;

/// Elements of `<volume>`.
pub(super) const CHILDREN: &[&str] =
    &["name", "key", "source", "capacity", "allocation", "physical", "target", "backingStore"];

/// Elements of `<target>`.
const TARGET: &[&str] = &[
    "path",
    "format",
    "permissions",
    "timestamps",
    "encryption",
    "compat",
    "nocow",
    "clusterSize",
    "features",
];

/// All names that mean something somewhere in a volume's document.
pub(super) const VOCABULARY: &[&str] = &[
    "volume",
    "name",
    "key",
    "source",
    "device",
    "extent",
    "capacity",
    "allocation",
    "physical",
    "target",
    "path",
    "format",
    "permissions",
    "mode",
    "owner",
    "group",
    "label",
    "timestamps",
    "atime",
    "mtime",
    "ctime",
    "btime",
    "encryption",
    "secret",
    "cipher",
    "ivgen",
    "compat",
    "nocow",
    "clusterSize",
    "features",
    "backingStore",
    "provisioning",
];

/// Our namespace.
const POOLD: &str = "https://poold.org/xmlns/volume/1";

/// Formats of encryption.
const ENCRYPTIONS: &[&str] = &["default", "qcow", "luks", "luks2", "luks-any"];

/// The format a document means when it says none or `unknown`. libvirt's Sheepdog documents say
/// `unknown` themselves.
fn default_format(pool_type: PoolType) -> Option<VolumeFormat> {
    match pool_type {
        PoolType::Sheepdog => Some(VolumeFormat::Unknown),
        _ => pool_type.info().default_volume_format,
    }
}

/// Mode of a Sheepdog image: libvirt's documents always say it.
const SHEEPDOG_MODE: u32 = 0o600;

/// Reads a volume's document for a pool of that type.
pub(super) fn read(volume: &Element<'_>, pool_type: PoolType) -> Result<VolumeDef> {
    let Some(name) = volume.value("name")? else {
        return Err(volume.invalid_below("name", "is missing"));
    };
    let name =
        VolumeName::new(&name).map_err(|error| volume.invalid_below("name", error.message()))?;
    let mut def = VolumeDef::new(name, pool_type);
    def.key = volume.value("key")?;
    if let Some(kind) = volume.parsed_attribute("type", "kind of volume", VolumeKind::from_name)? {
        def.kind = kind;
    }
    volume.element("source", &["device"])?;
    def.backing =
        match volume.element("backingStore", &["path", "format", "permissions", "timestamps"])? {
            Some(store) => Some(backing(&store)?),
            None => None,
        };
    def.capacity = volume.size("capacity")?;
    if def.capacity.is_none() && def.backing.is_none() {
        return Err(volume.invalid_below("capacity", "is missing; only a backing store can say it"));
    }
    // A document without allocation asks for all of it, as it does libvirt.
    def.allocation = volume.size("allocation")?.or(def.capacity);
    volume.size("physical")?;
    match volume.element("target", TARGET)? {
        Some(target) => read_target(&mut def, &target, pool_type)?,
        None => def.format = default_format(pool_type),
    }
    if let Some(element) = volume.in_namespace(Some(POOLD), "provisioning", &[])? {
        let what = "way to provide blocks (thick thin snapshot sparse thin-pool)";
        def.provisioning = element.parsed_attribute("type", what, Provisioning::from_name)?;
        // As it is: a name may begin or end with a blank.
        def.thin_pool = element
            .attribute("pool")?
            .map(|name| {
                let no_name =
                    || element.invalid_below("@pool", format!("{name:?} is no name of a volume"));
                VolumeName::found(name).ok_or_else(no_name)
            })
            .transpose()?;
        let choice = pool_type.info().provisionings;
        if choice.is_empty() || def.provisioning.is_some_and(|one| !choice.contains(&one)) {
            return Err(element.invalid(format!("is not what {pool_type} pools can do")));
        }
    }
    if pool_type == PoolType::Sheepdog {
        def.permissions.get_or_insert_default().mode.get_or_insert(SHEEPDOG_MODE);
    }
    Ok(def)
}

fn read_target(def: &mut VolumeDef, target: &Element<'_>, pool_type: PoolType) -> Result<()> {
    def.path = target.value("path")?;
    def.format = read_format(target, pool_type)?;
    def.permissions = permissions::read(target)?;
    target.element("timestamps", &["atime", "mtime", "ctime", "btime"])?;
    def.encryption = match target.element("encryption", &["secret", "cipher", "ivgen"])? {
        Some(element) => Some(encryption(&element)?),
        None => None,
    };
    def.compat = target.parsed("compat", "compatibility level such as 1.1", compat)?;
    def.nocow = target.element("nocow", &[])?.is_some();
    def.cluster_size = target.size("clusterSize")?.filter(|size| *size != 0);
    if let Some(element) = target.element("features", &[])? {
        def.features = Some(features(&element)?);
        def.compat.get_or_insert_with(|| "1.1".to_owned());
    }
    Ok(())
}

fn read_format(target: &Element<'_>, pool_type: PoolType) -> Result<Option<VolumeFormat>> {
    let formats = pool_type.info().volume_formats;
    let Some(element) = target.element("format", &[])? else {
        return Ok(default_format(pool_type));
    };
    let word = element.required("type")?;
    match VolumeFormat::from_name(&word) {
        Some(VolumeFormat::Unknown) => Ok(default_format(pool_type)),
        // Volumes without formats are bytes as they are.
        Some(VolumeFormat::Raw) if formats.is_empty() => Ok(None),
        Some(format) if formats.contains(&format) => Ok(Some(format)),
        _ => {
            let known: Vec<&str> = formats.iter().map(|format| format.as_str()).collect();
            let known = if known.is_empty() { "none but raw".into() } else { known.join(" ") };
            let message = format!("volumes of {pool_type} pools have no format {word:?}: {known}");
            Err(element.invalid_below("@type", message))
        }
    }
}

fn backing(store: &Element<'_>) -> Result<BackingStore> {
    let Some(path) = store.value("path")? else {
        return Err(store.invalid_below("path", "is missing"));
    };
    let format = match store.element("format", &[])? {
        Some(format) => format.parsed_attribute("type", "format of an image", image_format)?,
        None => None,
    };
    store.element("timestamps", &["atime", "mtime", "ctime", "btime"])?;
    Ok(BackingStore {
        path,
        format: format.filter(|format| *format != VolumeFormat::Unknown),
        permissions: permissions::read(store)?,
    })
}

/// A format that a backing store may have, whatever the pool it lies in.
fn image_format(word: &str) -> Option<VolumeFormat> {
    let images = PoolType::Dir.info().volume_formats;
    VolumeFormat::from_name(word)
        .filter(|format| images.contains(format) || *format == VolumeFormat::Unknown)
}

fn compat(text: &str) -> Option<String> {
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    let (major, minor) = text.split_once('.')?;
    (digits(major) && digits(minor)).then(|| text.to_owned())
}

/// Features: one that we do not know would be a promise we do not keep.
fn features(element: &Element<'_>) -> Result<VolumeFeatures> {
    let mut features = VolumeFeatures::default();
    for name in element.child_names() {
        match name {
            "lazy_refcounts" => features.lazy_refcounts = true,
            "extended_l2" => features.extended_l2 = true,
            "data_file" => features.data_file = true,
            _ => return Err(element.invalid_below(name, "is no known feature")),
        }
    }
    Ok(features)
}

fn encryption(element: &Element<'_>) -> Result<Encryption> {
    let format = element.required("format")?;
    if !ENCRYPTIONS.contains(&format.as_str()) {
        let message = format!("{format:?} is none of {}", ENCRYPTIONS.join(" "));
        return Err(element.invalid_below("@format", message));
    }
    let optional = |element: &Element<'_>, name: &str| -> Result<Option<String>> {
        Ok(element.attribute(name)?.map(str::to_owned))
    };
    let mut secrets = Vec::new();
    for secret in element.all(None, "secret", &[])? {
        let kind = secret.required("type")?;
        if kind != "passphrase" {
            return Err(secret.invalid_below("@type", format!("{kind:?} is not \"passphrase\"")));
        }
        secrets.push(secret.secret()?);
    }
    let cipher = match element.element("cipher", &[])? {
        Some(cipher) => {
            let Some(size) = cipher.number("size")? else {
                return Err(cipher.invalid_below("@size", "is missing"));
            };
            let (mode, hash) = (optional(&cipher, "mode")?, optional(&cipher, "hash")?);
            Some((cipher.required("name")?, size, mode, hash))
        }
        None => None,
    };
    let ivgen = match element.element("ivgen", &[])? {
        Some(ivgen) if cipher.is_none() => {
            return Err(ivgen.invalid("means nothing without a cipher"));
        }
        Some(ivgen) => Some((ivgen.required("name")?, optional(&ivgen, "hash")?)),
        None => None,
    };
    Ok(Encryption { format, secrets, cipher, ivgen })
}

/// Writes a volume's document for a pool of that type.
pub(super) fn write(out: &mut Writer, volume: &VolumeDef, pool_type: PoolType) {
    out.element("volume", &[("type", &volume.kind.as_str())], |out| {
        out.value("name", &[], &volume.name);
        out.optional("key", display(&volume.key));
        write_extents(out, &volume.extents);
        for (name, size) in [
            ("capacity", volume.capacity),
            ("allocation", volume.allocation),
            ("physical", volume.physical.filter(|size| *size != 0)),
        ] {
            if let Some(size) = size {
                out.bytes(name, size);
            }
        }
        out.element("target", &[], |out| write_target(out, volume, pool_type));
        if let Some(backing) = &volume.backing {
            out.element("backingStore", &[], |out| {
                out.value("path", &[], &backing.path);
                write_format(out, backing.format);
                permissions::write(out, backing.permissions.as_ref());
            });
        }
        write_provisioning(out, volume);
    });
}

fn write_provisioning(out: &mut Writer, volume: &VolumeDef) {
    let provisioning = volume.provisioning.map(Provisioning::as_str);
    let mut attributes: Vec<(&str, &dyn Display)> = vec![("xmlns:poold", &POOLD)];
    attributes.extend(provisioning.as_ref().map(|word| ("type", word as &dyn Display)));
    attributes.extend(volume.thin_pool.as_ref().map(|name| ("pool", name as &dyn Display)));
    if attributes.len() > 1 {
        out.empty("poold:provisioning", &attributes);
    }
}

fn write_target(out: &mut Writer, volume: &VolumeDef, pool_type: PoolType) {
    out.optional("path", display(&volume.path));
    if !pool_type.info().volume_formats.is_empty() {
        write_format(out, volume.format.or(default_format(pool_type)));
    }
    match (&volume.permissions, pool_type) {
        (permissions, PoolType::Sheepdog) => {
            let said = permissions.clone().unwrap_or_default();
            let said = Permissions {
                mode: said.mode.or(Some(SHEEPDOG_MODE)),
                // Nobody, which is read as nothing said.
                owner: said.owner.or(Some(u32::MAX)),
                group: said.group.or(Some(u32::MAX)),
                label: said.label,
            };
            permissions::write(out, Some(&said));
        }
        (permissions, _) => permissions::write(out, permissions.as_ref()),
    }
    if let Some(timestamps) = &volume.timestamps {
        write_timestamps(out, timestamps);
    }
    if let Some(encryption) = &volume.encryption {
        write_encryption(out, encryption);
    }
    out.optional("compat", display(&volume.compat));
    if let Some(size) = volume.cluster_size {
        out.value("clusterSize", &[("unit", &"B")], &size);
    }
    if let Some(features) = &volume.features {
        let names: Vec<&str> = [
            ("lazy_refcounts", features.lazy_refcounts),
            ("extended_l2", features.extended_l2),
            ("data_file", features.data_file),
        ]
        .into_iter()
        .filter_map(|(name, has)| has.then_some(name))
        .collect();
        if names.is_empty() {
            out.empty("features", &[]);
        } else {
            out.element("features", &[], |out| names.iter().for_each(|name| out.empty(name, &[])));
        }
    }
}

fn write_extents(out: &mut Writer, extents: &[Extent]) {
    if extents.is_empty() {
        return;
    }
    out.element("source", &[], |out| {
        for of_device in extents.chunk_by(|one, next| one.device == next.device) {
            out.element("device", &[("path", &of_device[0].device)], |out| {
                for extent in of_device {
                    out.empty("extent", &[("start", &extent.start), ("end", &extent.end)]);
                }
            });
        }
    });
}

fn write_format(out: &mut Writer, format: Option<VolumeFormat>) {
    if let Some(format) = format {
        out.empty("format", &[("type", &format)]);
    }
}

fn write_timestamps(out: &mut Writer, timestamps: &Timestamps) {
    out.element("timestamps", &[], |out| {
        for (name, time) in [
            ("atime", Some(timestamps.atime)),
            ("mtime", Some(timestamps.mtime)),
            ("ctime", Some(timestamps.ctime)),
            ("btime", timestamps.btime),
        ] {
            match time {
                // The schema knows no time before the epoch.
                None | Some((i64::MIN..0, _)) => {}
                Some((seconds, 0)) => out.value(name, &[], &seconds),
                Some((seconds, nanos)) => {
                    out.value(name, &[], &format_args!("{seconds}.{nanos:09}"));
                }
            }
        }
    });
}

fn write_encryption(out: &mut Writer, encryption: &Encryption) {
    let Encryption { format, secrets, cipher, ivgen } = encryption;
    if secrets.is_empty() && cipher.is_none() {
        out.empty("encryption", &[("format", format)]);
        return;
    }
    out.element("encryption", &[("format", format)], |out| {
        for secret in secrets {
            write_secret(out, Some("passphrase"), secret);
        }
        if let Some((name, size, mode, hash)) = cipher {
            let mut attributes: Vec<(&str, &dyn Display)> = vec![("name", name), ("size", size)];
            attributes.extend(mode.as_ref().map(|mode| ("mode", mode as &dyn Display)));
            attributes.extend(hash.as_ref().map(|hash| ("hash", hash as &dyn Display)));
            out.empty("cipher", &attributes);
        }
        if let Some((name, hash)) = ivgen {
            let mut attributes: Vec<(&str, &dyn Display)> = vec![("name", name)];
            attributes.extend(hash.as_ref().map(|hash| ("hash", hash as &dyn Display)));
            out.empty("ivgen", &attributes);
        }
    });
}

fn display(text: &Option<String>) -> Option<&dyn Display> {
    text.as_ref().map(|text| text as &dyn Display)
}
