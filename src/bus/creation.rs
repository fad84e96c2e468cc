//! Options of methods that make something, as the engine has them: what CreateVolume takes without
//! XML, and how storage is built.

use super::args::Options;
use super::settings::{invalid, permissions};
use crate::backend::{BuildMode, Preallocation};
use crate::engine::Engine;
use crate::model::{
    BackingStore, Encryption, Permissions, PoolDef, PoolType, Provisioning, Result, SecretRef,
    SecretUsage, Uuid, VolumeDef, VolumeFeatures, VolumeFormat, VolumeKind, VolumeName,
};

/// The option `build`.
pub(super) fn build_mode(options: &Options) -> Result<Option<BuildMode>> {
    match options.text("build") {
        None | Some("no") => Ok(None),
        Some("yes") => Ok(Some(BuildMode::KeepData)),
        Some("overwrite") => Ok(Some(BuildMode::Overwrite)),
        Some(word) => Err(invalid(format!(
            "option \"build\" is \"no\", \"yes\" or \"overwrite\", not {word:?}"
        ))),
    }
}

/// The option `preallocation`.
pub(super) fn preallocation(options: &Options) -> Result<Preallocation> {
    match options.text("preallocation") {
        None | Some("none") => Ok(Preallocation::None),
        Some("metadata") => Ok(Preallocation::Metadata),
        Some("falloc") => Ok(Preallocation::Falloc),
        Some("full") => Ok(Preallocation::Full),
        Some(word) => Err(invalid(format!(
            "option \"preallocation\" is \"none\", \"metadata\", \"falloc\" or \"full\", not {word:?}"
        ))),
    }
}

/// The volume that CreateVolume's options describe.
pub(super) fn volume(
    pool_type: PoolType,
    name: &str,
    capacity: u64,
    options: &Options,
) -> Result<VolumeDef> {
    let format = |key: &str| match options.text(key) {
        None => Ok(None),
        Some(word) => VolumeFormat::from_name(word)
            .map(Some)
            .ok_or_else(|| invalid(format!("option {key:?}: there is no format {word:?}"))),
    };
    let backing_format = format("backing-format")?;
    let backing = options.text("backing-path").map(|path| BackingStore {
        path: path.to_owned(),
        format: backing_format,
        permissions: None,
    });
    if backing.is_none() && backing_format.is_some() {
        return Err(invalid("option \"backing-format\" needs \"backing-path\"".into()));
    }
    let permissions = permissions(options);
    if permissions != Permissions::default() && pool_type.info().volume_kind == VolumeKind::Block {
        return Err(invalid(format!(
            "options mode, owner, group and label mean nothing for {pool_type} pools: udev's rules say who may use a device"
        )));
    }
    let features = VolumeFeatures {
        lazy_refcounts: options.flag("lazy-refcounts"),
        extended_l2: options.flag("extended-l2"),
        data_file: false,
    };
    let format = format("format")?;
    Ok(VolumeDef {
        name: VolumeName::new(name)?,
        key: None,
        kind: match format {
            Some(VolumeFormat::Dir) => pool_type.info().directory_kind(),
            Some(VolumeFormat::Ploop) if pool_type == PoolType::Vstorage => VolumeKind::Ploop,
            _ => pool_type.info().volume_kind,
        },
        capacity: (capacity > 0 || backing.is_none()).then_some(capacity),
        allocation: options.number("allocation"),
        physical: None,
        extents: Vec::new(),
        path: None,
        format,
        permissions: (permissions != Permissions::default()).then_some(permissions),
        timestamps: None,
        compat: options.text("compat").map(str::to_owned),
        nocow: options.flag("nocow"),
        cluster_size: options.number("cluster-size"),
        features: (features != VolumeFeatures::default()).then_some(features),
        encryption: encryption(options)?,
        backing,
        provisioning: provisioning(pool_type, options)?,
        thin_pool: options.text("thin-pool").map(VolumeName::new).transpose()?,
    })
}

/// The volume that Clone's options describe; what they leave open is as in the source.
pub(super) fn cloned(pool: &PoolDef, name: &str, options: &Options) -> Result<VolumeDef> {
    Ok(VolumeDef { capacity: None, ..volume(pool.pool_type, name, 0, options)? })
}

/// How the blocks of a device are to be provided.
fn provisioning(pool_type: PoolType, options: &Options) -> Result<Option<Provisioning>> {
    let choice = pool_type.info().provisionings;
    let given = ["provisioning", "thin-pool"].into_iter().find(|key| options.text(key).is_some());
    if let Some(key) = given.filter(|_| choice.is_empty()) {
        return Err(invalid(format!("option {key:?} means nothing for {pool_type} pools")));
    }
    let Some(word) = options.text("provisioning") else { return Ok(None) };
    let found = Provisioning::from_name(word).filter(|found| choice.contains(found));
    found.map(Some).ok_or_else(|| {
        let words: Vec<_> = choice.iter().map(|one| one.as_str()).collect();
        let words = words.join(" ");
        invalid(format!("option \"provisioning\" is one of {words}, not {word:?}"))
    })
}

/// The encryption that the options ask for.
fn encryption(options: &Options) -> Result<Option<Encryption>> {
    let secret = options.text("secret").map(|secret| match Uuid::try_parse(secret) {
        Ok(uuid) => SecretRef::Uuid(uuid),
        Err(_) => SecretRef::Usage(secret.to_owned()),
    });
    match (options.text("encryption"), secret) {
        (None, None) => Ok(None),
        (Some("none"), None) => Ok(Some(Encryption::probed("none"))),
        (Some("none"), Some(_)) => {
            Err(invalid("option \"secret\" is for what is encrypted".to_owned()))
        }
        (Some(word), _) if !matches!(word, "luks" | "default") => {
            Err(invalid(format!("option \"encryption\" is \"luks\" or \"none\", not {word:?}")))
        }
        (_, None) => Err(invalid("option \"encryption\" needs a \"secret\"".to_owned())),
        (_, Some(secret)) => {
            Ok(Some(Encryption { secrets: vec![secret], ..Encryption::probed("luks") }))
        }
    }
}

/// Refuses a secret that nobody set, before anything begins.
pub(super) fn check_secret(engine: &Engine, def: &VolumeDef) -> Result<()> {
    let secrets = def.encryption.iter().flat_map(|encryption| &encryption.secrets);
    secrets.take(1).try_for_each(|secret| engine.check_secret(secret, SecretUsage::Volume))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_capacity_of_zero_is_that_of_the_backing_store_if_there_is_one() {
        let plain = volume(PoolType::Dir, "a", 0, &Options::default()).unwrap();
        assert_eq!((plain.capacity, plain.backing), (Some(0), None));
        assert!(volume(PoolType::Dir, "../a", 1, &Options::default()).is_err());
    }
}
