//! Pools, volumes, sources and secrets of every shape.

use crate::model::{
    Adapter, AuthKind, BackingStore, Encryption, FcHost, FcParent, Features, HostAddress, Need,
    PciAddress, Permissions, PoolDef, PoolDraft, PoolType, RefreshAllocation, ScsiHost, SecretDef,
    SecretRef, SecretUsage, Source, SourceDevice, Uuid, VolumeDef, VolumeFeatures, VolumeFormat,
    VolumeKind, VolumeName,
};
use proptest::collection::vec;
use proptest::option::of;
use proptest::prelude::*;
use proptest::sample::select;

/// Any text that a value may be.
fn text() -> impl Strategy<Value = String> {
    "\\PC{1,20}".prop_filter("begins with '-'", |text| !text.starts_with('-'))
}

/// A component of a path.
fn part() -> impl Strategy<Value = String> {
    "[^/\\p{C}]{1,12}".prop_filter("cannot be a name", |part| VolumeName::new(part).is_ok())
}

fn path() -> impl Strategy<Value = String> {
    vec(part(), 1..4).prop_map(|parts| format!("/{}", parts.join("/")))
}

fn uuid() -> impl Strategy<Value = Uuid> {
    any::<u128>().prop_map(Uuid::from_u128)
}

fn secret_ref() -> impl Strategy<Value = SecretRef> {
    prop_oneof![uuid().prop_map(SecretRef::Uuid), text().prop_map(SecretRef::Usage)]
}

fn wwn() -> impl Strategy<Value = String> {
    "(0x)?[0-9a-f]{16}"
}

fn adapter() -> impl Strategy<Value = Adapter> {
    let address = (any::<u32>(), 0..=0xffu32, 0..=0x1fu32, 0..=7u32)
        .prop_map(|(domain, bus, slot, function)| PciAddress { domain, bus, slot, function });
    let parent = prop_oneof![
        part().prop_map(FcParent::Name),
        (wwn(), wwn()).prop_map(|(wwnn, wwpn)| FcParent::Wwn { wwnn, wwpn }),
        wwn().prop_map(FcParent::Fabric),
    ];
    prop_oneof![
        part().prop_map(|name| Adapter::ScsiHost(ScsiHost::Name(name))),
        (address, any::<u32>()).prop_map(|(address, unique_id)| {
            Adapter::ScsiHost(ScsiHost::Parent { address, unique_id })
        }),
        (wwn(), wwn(), of(parent), any::<Option<bool>>()).prop_map(
            |(wwnn, wwpn, parent, managed)| {
                Adapter::FcHost(FcHost { wwnn, wwpn, parent, managed })
            }
        ),
    ]
}

pub(super) fn permissions() -> impl Strategy<Value = Permissions> {
    (of(0..=0o7777u32), of(0..u32::MAX), of(0..u32::MAX), of(text()))
        .prop_map(|(mode, owner, group, label)| Permissions { mode, owner, group, label })
}

/// A source with the parts that `pool_type` must have and some that it may have.
pub(super) fn source(pool_type: PoolType) -> impl Strategy<Value = Source> {
    let info = pool_type.info();
    let host = ("[a-z0-9][a-z0-9.:-]{0,12}", of(1..u16::MAX));
    let host = host.prop_map(|(name, port)| HostAddress { name, port });
    let device = (path(), any::<Option<bool>>()).prop_map(|(path, part_separator)| SourceDevice {
        path,
        part_separator,
        free_extents: Vec::new(),
    });
    let formats: Vec<String> = info
        .source_formats
        .iter()
        .filter(|format| **format != "unknown")
        .map(|format| (*format).to_owned())
        .collect();
    let format = match formats.is_empty() {
        true => Just(None).boxed(),
        false => select(formats).prop_map(Some).boxed(),
    };
    let auth = match info.auth {
        None => Just(None).boxed(),
        Some(kind) => of((text(), secret_ref()))
            .prop_map(move |auth| auth.map(|(name, secret)| AuthKind::auth(kind, name, secret)))
            .boxed(),
    };
    let lists = (
        vec(host, info.hosts.0..=info.hosts.1.min(3)),
        vec(device, info.devices.0..=info.devices.1.min(3)),
    );
    let names = (
        wanted(info.dir, path()),
        wanted(info.source_name, part()),
        wanted(info.initiator, text()),
        wanted(info.vendor, text()),
        wanted(info.vendor, text()),
    );
    let rest = (wanted(info.adapter, adapter()), auth, format, of("[0-9.]{1,4}"));
    (lists, names, rest).prop_map(
        move |((hosts, devices), names, (adapter, auth, format, version))| {
            let (dir, name, initiator_iqn, vendor, product) = names;
            let protocol_version = version.filter(|_| format.as_deref() == Some("nfs"));
            let has_auth = pool_type != PoolType::NetFs || format.as_deref() == Some("cifs");
            let auth = auth.filter(|_| has_auth);
            Source {
                hosts,
                devices,
                dir,
                name,
                adapter,
                initiator_iqn,
                auth,
                format,
                protocol_version,
                vendor,
                product,
            }
        },
    )
}

/// As often there as a definition needs it.
fn wanted<T: std::fmt::Debug + Clone + 'static>(
    need: Need,
    value: impl Strategy<Value = T> + 'static,
) -> BoxedStrategy<Option<T>> {
    match need {
        Need::Never => Just(None).boxed(),
        Need::May | Need::Filled => of(value).boxed(),
        Need::Must => value.prop_map(Some).boxed(),
    }
}

/// A definition of a pool of any type.
pub(super) fn pool() -> impl Strategy<Value = PoolDef> {
    select(&PoolType::ALL[..]).prop_flat_map(pool_of)
}

fn pool_of(pool_type: PoolType) -> impl Strategy<Value = PoolDef> {
    let info = pool_type.info();
    let allocation = select(vec![RefreshAllocation::Default, RefreshAllocation::Capacity]);
    let target = match info.target {
        Need::Never => Just(Permissions::default()).boxed(),
        _ => permissions().boxed(),
    };
    // A volume is no program.
    let of_volumes = match info.volume_kind {
        VolumeKind::File => permissions()
            .prop_map(|given| Permissions { mode: given.mode.map(|mode| mode & 0o1777), ..given })
            .boxed(),
        _ => Just(Permissions::default()).boxed(),
    };
    let options = (
        wanted(info.cow, any::<bool>()),
        wanted(info.refresh_allocation, allocation),
        wanted(info.mount_options, vec(text(), 0..3)),
        wanted(info.config_options, vec((text(), text()), 0..3)),
        of_volumes,
    );
    let names = (part(), uuid(), wanted(info.target, path()));
    (names, source(pool_type), target, options).prop_map(
        move |((name, uuid, target_path), source, permissions, options)| {
            let (cow, refresh_allocation, mount_options, config_options, volume_permissions) =
                options;
            PoolDraft {
                pool_type: Some(pool_type),
                name: Some(name),
                uuid: Some(uuid),
                features: Features { cow },
                source,
                target_path,
                permissions,
                refresh_allocation,
                mount_options: mount_options.unwrap_or_default(),
                config_options: config_options.unwrap_or_default(),
                volume_permissions,
            }
            .complete()
            .expect("a draft that has what its type needs is complete")
        },
    )
}

fn encryption() -> impl Strategy<Value = Encryption> {
    let format = select(vec!["default", "qcow", "luks", "luks2", "luks-any"]);
    let ivgen = (text(), of(text()));
    let cipher = (text(), any::<u32>(), of(text()), of(text()));
    (format, vec(secret_ref(), 0..3), of((cipher, of(ivgen)))).prop_map(
        |(format, secrets, ciphers)| {
            let (cipher, ivgen) = ciphers.map_or((None, None), |(cipher, iv)| (Some(cipher), iv));
            Encryption { format: format.to_owned(), secrets, cipher, ivgen }
        },
    )
}

fn format(pool_type: PoolType) -> BoxedStrategy<Option<VolumeFormat>> {
    match pool_type.info().volume_formats {
        [] => Just(None).boxed(),
        formats => select(formats).prop_map(Some).boxed(),
    }
}

/// A volume of a pool of any type, with everything that a document can ask for.
pub(super) fn volume() -> impl Strategy<Value = (VolumeDef, PoolType)> {
    select(&PoolType::ALL[..]).prop_flat_map(|pool_type| (volume_of(pool_type), Just(pool_type)))
}

fn volume_of(pool_type: PoolType) -> impl Strategy<Value = VolumeDef> {
    let size = || 0..=i64::MAX.unsigned_abs();
    let kind = select(&VolumeKind::ALL[..]);
    let given =
        |permissions: Permissions| (permissions != Permissions::default()).then_some(permissions);
    let backing = (path(), format(PoolType::Dir), permissions()).prop_map(
        move |(path, format, permissions)| BackingStore {
            path,
            format,
            permissions: given(permissions),
        },
    );
    let features =
        any::<(bool, bool, bool)>().prop_map(|(lazy_refcounts, extended_l2, data_file)| {
            VolumeFeatures { lazy_refcounts, extended_l2, data_file }
        });
    let identity = (part(), kind, of(text()), of(path()));
    let content = (size(), size(), format(pool_type), of(1..=i64::MAX.unsigned_abs()));
    let image = (of("[0-9]{1,2}\\.[0-9]{1,2}"), of(features), of(encryption()), of(backing));
    let provided = match pool_type.info().provisionings {
        [] => Just((None, None)).boxed(),
        choice => (of(select(choice)), of(part())).boxed(),
    };
    (identity, content, permissions(), image, provided).prop_map(
        move |(
            (name, kind, key, path),
            (capacity, allocation, format, cluster_size),
            permissions,
            image,
            (provisioning, thin_pool),
        )| {
            let (compat, features, encryption, backing) = image;
            let name = VolumeName::new(&name).expect("a part is a name");
            VolumeDef {
                kind,
                key,
                path,
                capacity: Some(capacity),
                allocation: Some(allocation),
                format,
                // Sheepdog's documents have a mode always.
                permissions: match pool_type {
                    PoolType::Sheepdog => Some(Permissions { mode: Some(0o600), ..permissions }),
                    _ => given(permissions),
                },
                compat: compat.or(features.map(|_| "1.1".to_owned())),
                features,
                cluster_size,
                encryption,
                backing,
                provisioning,
                thin_pool: thin_pool.map(|name| VolumeName::new(&name).expect("a part is a name")),
                ..VolumeDef::new(name, pool_type)
            }
        },
    )
}

/// A secret of any kind.
pub(super) fn secret() -> impl Strategy<Value = SecretDef> {
    let usage = prop_oneof![
        Just(SecretUsage::None),
        text().prop_map(SecretUsage::Volume),
        text().prop_map(SecretUsage::Ceph),
        text().prop_map(SecretUsage::Iscsi),
        text().prop_map(SecretUsage::Cifs),
        text().prop_map(SecretUsage::Tls),
        text().prop_map(SecretUsage::Vtpm),
    ];
    (uuid(), usage, of(text()), any::<bool>(), any::<bool>()).prop_map(
        |(uuid, usage, description, ephemeral, private)| SecretDef {
            uuid,
            usage,
            description,
            ephemeral,
            private,
        },
    )
}
