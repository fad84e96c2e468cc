//! Objects with all their properties, in one call each.

use crate::model::Result;
use std::collections::HashMap;
use zbus::fdo::{ObjectManagerProxy, PropertiesProxy};
use zbus::names::InterfaceName;
use zbus::proxy::CacheProperties;
use zbus::{Connection, ObjectPath, OwnedObjectPath, OwnedVariant};

/// Properties of one interface of an object, by name.
pub type Properties = HashMap<String, OwnedVariant>;

/// Objects by path, each with the properties of poold's interface on it.
pub type Objects = HashMap<OwnedObjectPath, Properties>;

/// What the ObjectManager at `path` has: pools, a pool's volumes, jobs or secrets.
pub async fn objects(connection: &Connection, path: impl AsRef<str>) -> Result<Objects> {
    let managed = ObjectManagerProxy::builder(connection)
        .destination(super::proxies::NAME)
        .path(path.as_ref().to_owned())
        .cache_properties(CacheProperties::No)
        .build()
        .await?
        .get_managed_objects()
        .await?;
    let own = |interfaces: HashMap<_, Properties>| {
        interfaces.into_iter().find_map(
            |(name, properties): (zbus::names::OwnedInterfaceName, _)| {
                name.starts_with(super::proxies::NAME).then_some(properties)
            },
        )
    };
    Ok(managed.into_iter().map(|(path, has)| (path, own(has).unwrap_or_default())).collect())
}

/// All properties of one interface of the object at `path`.
pub async fn properties(
    connection: &Connection,
    path: &ObjectPath<'_>,
    interface: &'static str,
) -> Result<Properties> {
    let proxy = PropertiesProxy::builder(connection)
        .destination(super::proxies::NAME)
        .path(path)
        .cache_properties(CacheProperties::No)
        .build()
        .await?;
    Ok(proxy.get_all(InterfaceName::from_static_str(interface)?).await?)
}
