//! The interfaces of `dbus/interfaces/*.xml`, where every method and property is documented.
//!
//! Calls that need an authorisation let poold ask the user; the option
//! `auth.no_user_interaction = true` forbids it.
#![allow(missing_docs, reason = "the interface documents describe every member")]

use crate::model::Result;
use std::collections::HashMap;
use zbus::{OwnedObjectPath, OwnedVariant, Variant};

/// The name on the bus.
pub(super) const NAME: &str = "org.poold1";

/// Options of a call, or settings of a pool, by name.
pub type Options<'a> = HashMap<&'a str, Variant<'a>>;

/// Named values in a reply.
pub type Record = HashMap<String, OwnedVariant>;

macro_rules! object_paths {
    ($($proxy:ident),*) => {
        $(impl $proxy<'_> {
            /// The path of the object.
            pub fn object_path(&self) -> OwnedObjectPath {
                self.inner().path().to_owned().into()
            }
        })*
    };
}

object_paths!(PoolProxy, VolumeProxy, JobProxy, SecretProxy);

/// A volume in a page of `ListVolumes`.
pub type VolumeRecord = (OwnedObjectPath, Record);

/// `org.poold1.Manager`.
#[zbus::proxy(
    interface = "org.poold1.Manager",
    default_service = "org.poold1",
    default_path = "/org/poold1"
)]
pub trait Manager {
    #[zbus(property(emits_changed_signal = "false"))]
    fn version(&self) -> Result<String>;
    #[zbus(property(emits_changed_signal = "false"))]
    fn features(&self) -> Result<Vec<String>>;
    #[zbus(property(emits_changed_signal = "false"))]
    fn pool_types(&self) -> Result<HashMap<String, Record>>;
    #[zbus(property(emits_changed_signal = "false"))]
    fn problems(&self) -> Result<Vec<(String, String)>>;
    #[zbus(allow_interactive_auth)]
    fn define_pool(
        &self,
        pool_type: &str,
        name: &str,
        settings: &Options<'_>,
        options: &Options<'_>,
    ) -> Result<(OwnedObjectPath, OwnedObjectPath)>;
    #[zbus(allow_interactive_auth)]
    fn define_pool_xml(
        &self,
        xml: &str,
        options: &Options<'_>,
    ) -> Result<(OwnedObjectPath, OwnedObjectPath)>;
    fn lookup_pool(&self, name_or_uuid: &str, options: &Options<'_>) -> Result<OwnedObjectPath>;
    fn lookup_pool_by_target(&self, path: &str, options: &Options<'_>) -> Result<OwnedObjectPath>;
    fn lookup_volume(&self, path_or_key: &str, options: &Options<'_>) -> Result<OwnedObjectPath>;
    fn list_pools(&self, options: &Options<'_>) -> Result<Vec<OwnedObjectPath>>;
    #[zbus(allow_interactive_auth)]
    fn find_sources(
        &self,
        pool_type: &str,
        source: &Options<'_>,
        options: &Options<'_>,
    ) -> Result<Vec<Record>>;
    #[zbus(allow_interactive_auth)]
    fn find_sources_xml(
        &self,
        pool_type: &str,
        source: &str,
        options: &Options<'_>,
    ) -> Result<String>;
    fn get_capabilities_xml(&self, options: &Options<'_>) -> Result<String>;
    #[zbus(allow_interactive_auth)]
    fn autostart(&self, options: &Options<'_>) -> Result<Vec<OwnedObjectPath>>;
    #[zbus(allow_interactive_auth)]
    fn set_secret(
        &self,
        value: zbus::wire::Fd<'_>,
        options: &Options<'_>,
    ) -> Result<OwnedObjectPath>;
    #[zbus(allow_interactive_auth)]
    fn set_secret_xml(
        &self,
        value: zbus::wire::Fd<'_>,
        xml: &str,
        options: &Options<'_>,
    ) -> Result<OwnedObjectPath>;
}

/// `org.poold1.Pool`.
#[zbus::proxy(interface = "org.poold1.Pool", default_service = "org.poold1")]
pub trait Pool {
    #[zbus(property(emits_changed_signal = "false"))]
    fn name(&self) -> Result<String>;
    #[zbus(property(emits_changed_signal = "false"))]
    fn uuid(&self) -> Result<String>;
    #[zbus(property(emits_changed_signal = "false"), name = "Type")]
    fn pool_type(&self) -> Result<String>;
    #[zbus(property(emits_changed_signal = "false"))]
    fn state(&self) -> Result<String>;
    #[zbus(property(emits_changed_signal = "false"))]
    fn persistent(&self) -> Result<bool>;
    #[zbus(property(emits_changed_signal = "false"))]
    fn autostart(&self) -> Result<bool>;
    #[zbus(property(emits_changed_signal = "false"))]
    fn capacity(&self) -> Result<u64>;
    #[zbus(property(emits_changed_signal = "false"))]
    fn allocation(&self) -> Result<u64>;
    #[zbus(property(emits_changed_signal = "false"))]
    fn available(&self) -> Result<u64>;
    #[zbus(property(emits_changed_signal = "false"))]
    fn volumes(&self) -> Result<OwnedObjectPath>;
    #[zbus(property(emits_changed_signal = "false"))]
    fn volume_count(&self) -> Result<u32>;
    #[zbus(property(emits_changed_signal = "false"))]
    fn skipped_entries(&self) -> Result<u32>;
    #[zbus(property(emits_changed_signal = "false"))]
    fn volumes_stale(&self) -> Result<bool>;
    #[zbus(property(emits_changed_signal = "false"))]
    fn target_path(&self) -> Result<String>;
    #[zbus(property(emits_changed_signal = "false"))]
    fn operations(&self) -> Result<Vec<String>>;
    #[zbus(property(emits_changed_signal = "false"))]
    fn last_refresh(&self) -> Result<u64>;
    #[zbus(property(emits_changed_signal = "false"))]
    fn last_error(&self) -> Result<(String, String)>;
    #[zbus(property(emits_changed_signal = "false"))]
    fn waiting_for(&self) -> Result<String>;
    #[zbus(property(emits_changed_signal = "false"))]
    fn next_try(&self) -> Result<u64>;
    #[zbus(allow_interactive_auth)]
    fn start(&self, options: &Options<'_>) -> Result<OwnedObjectPath>;
    #[zbus(allow_interactive_auth)]
    fn stop(&self, options: &Options<'_>) -> Result<OwnedObjectPath>;
    #[zbus(allow_interactive_auth)]
    fn build(&self, options: &Options<'_>) -> Result<OwnedObjectPath>;
    #[zbus(allow_interactive_auth)]
    fn delete(&self, options: &Options<'_>) -> Result<OwnedObjectPath>;
    #[zbus(allow_interactive_auth)]
    fn refresh(&self, options: &Options<'_>) -> Result<OwnedObjectPath>;
    #[zbus(allow_interactive_auth)]
    fn undefine(&self, options: &Options<'_>) -> Result<()>;
    #[zbus(allow_interactive_auth)]
    fn set_autostart(&self, autostart: bool, options: &Options<'_>) -> Result<()>;
    #[zbus(allow_interactive_auth)]
    fn create_volume(
        &self,
        name: &str,
        capacity: u64,
        options: &Options<'_>,
    ) -> Result<(OwnedObjectPath, OwnedObjectPath)>;
    #[zbus(allow_interactive_auth)]
    fn create_volume_xml(
        &self,
        xml: &str,
        options: &Options<'_>,
    ) -> Result<(OwnedObjectPath, OwnedObjectPath)>;
    fn lookup_volume(&self, name: &str, options: &Options<'_>) -> Result<OwnedObjectPath>;
    fn get_xml(&self, options: &Options<'_>) -> Result<String>;
    fn list_volumes(
        &self,
        after: &str,
        limit: u32,
        options: &Options<'_>,
    ) -> Result<(Vec<VolumeRecord>, String)>;
}

/// `org.poold1.Volume`.
#[zbus::proxy(interface = "org.poold1.Volume", default_service = "org.poold1")]
pub trait Volume {
    #[zbus(property(emits_changed_signal = "false"))]
    fn name(&self) -> Result<String>;
    #[zbus(property(emits_changed_signal = "false"))]
    fn key(&self) -> Result<String>;
    #[zbus(property(emits_changed_signal = "false"))]
    fn path(&self) -> Result<String>;
    #[zbus(property(emits_changed_signal = "false"))]
    fn kind(&self) -> Result<String>;
    #[zbus(property(emits_changed_signal = "false"))]
    fn format(&self) -> Result<String>;
    #[zbus(property(emits_changed_signal = "false"))]
    fn format_source(&self) -> Result<String>;
    #[zbus(property(emits_changed_signal = "false"))]
    fn content_format(&self) -> Result<String>;
    #[zbus(property(emits_changed_signal = "false"))]
    fn pool(&self) -> Result<OwnedObjectPath>;
    #[zbus(property(emits_changed_signal = "false"))]
    fn capacity(&self) -> Result<u64>;
    #[zbus(property(emits_changed_signal = "false"))]
    fn allocation(&self) -> Result<u64>;
    #[zbus(property(emits_changed_signal = "false"))]
    fn physical(&self) -> Result<u64>;
    #[zbus(property(emits_changed_signal = "false"))]
    fn backing_path(&self) -> Result<String>;
    #[zbus(property(emits_changed_signal = "false"))]
    fn backing_format(&self) -> Result<String>;
    #[zbus(property(emits_changed_signal = "false"))]
    fn provisioning(&self) -> Result<String>;
    #[zbus(property(emits_changed_signal = "false"))]
    fn origin(&self) -> Result<String>;
    #[zbus(property(emits_changed_signal = "false"))]
    fn thin_pool(&self) -> Result<String>;
    #[zbus(property(emits_changed_signal = "false"))]
    fn data_used(&self) -> Result<u32>;
    #[zbus(property(emits_changed_signal = "false"))]
    fn metadata_used(&self) -> Result<u32>;
    #[zbus(property(emits_changed_signal = "false"))]
    fn member_paths(&self) -> Result<Vec<String>>;
    #[zbus(property(emits_changed_signal = "false"))]
    fn encrypted(&self) -> Result<bool>;
    #[zbus(property(emits_changed_signal = "false"))]
    fn incomplete(&self) -> Result<bool>;
    #[zbus(property(emits_changed_signal = "false"))]
    fn incomplete_reason(&self) -> Result<String>;
    #[zbus(property(emits_changed_signal = "false"))]
    fn modified(&self) -> Result<u64>;
    #[zbus(property(emits_changed_signal = "false"))]
    fn mode(&self) -> Result<u32>;
    #[zbus(property(emits_changed_signal = "false"))]
    fn owner(&self) -> Result<u32>;
    #[zbus(property(emits_changed_signal = "false"))]
    fn group(&self) -> Result<u32>;
    #[zbus(property(emits_changed_signal = "false"))]
    fn job(&self) -> Result<OwnedObjectPath>;
    #[zbus(allow_interactive_auth)]
    fn delete(&self, options: &Options<'_>) -> Result<OwnedObjectPath>;
    #[zbus(allow_interactive_auth)]
    fn wipe(&self, options: &Options<'_>) -> Result<OwnedObjectPath>;
    #[zbus(allow_interactive_auth)]
    fn refresh(&self, options: &Options<'_>) -> Result<OwnedObjectPath>;
    #[zbus(allow_interactive_auth)]
    fn resize(&self, capacity: u64, options: &Options<'_>) -> Result<OwnedObjectPath>;
    #[zbus(allow_interactive_auth)]
    fn clone(
        &self,
        name: &str,
        options: &Options<'_>,
    ) -> Result<(OwnedObjectPath, OwnedObjectPath)>;
    #[zbus(allow_interactive_auth)]
    fn upload(&self, source: zbus::wire::Fd<'_>, options: &Options<'_>) -> Result<OwnedObjectPath>;
    #[zbus(allow_interactive_auth)]
    fn download(
        &self,
        destination: zbus::wire::Fd<'_>,
        options: &Options<'_>,
    ) -> Result<OwnedObjectPath>;
    #[zbus(allow_interactive_auth)]
    fn open(&self, mode: &str, options: &Options<'_>) -> Result<zbus::wire::OwnedFd>;
    fn get_xml(&self, options: &Options<'_>) -> Result<String>;
}

/// `org.poold1.Job`.
#[zbus::proxy(interface = "org.poold1.Job", default_service = "org.poold1")]
pub trait Job {
    #[zbus(property(emits_changed_signal = "false"))]
    fn operation(&self) -> Result<String>;
    #[zbus(property(emits_changed_signal = "false"))]
    fn state(&self) -> Result<String>;
    #[zbus(property(emits_changed_signal = "false"))]
    fn bytes(&self) -> Result<u64>;
    #[zbus(property(emits_changed_signal = "false"))]
    fn total_bytes(&self) -> Result<u64>;
    #[zbus(property(emits_changed_signal = "false"))]
    fn rate(&self) -> Result<u64>;
    #[zbus(property(emits_changed_signal = "false"))]
    fn objects(&self) -> Result<Vec<OwnedObjectPath>>;
    #[zbus(property(emits_changed_signal = "false"))]
    fn caller_uid(&self) -> Result<u32>;
    #[zbus(property(emits_changed_signal = "false"))]
    fn started(&self) -> Result<u64>;
    #[zbus(property(emits_changed_signal = "false"))]
    fn ended(&self) -> Result<u64>;
    #[zbus(property(emits_changed_signal = "false"))]
    fn error(&self) -> Result<(String, String)>;
    #[zbus(property(emits_changed_signal = "false"))]
    fn result(&self) -> Result<Record>;
    #[zbus(property(emits_changed_signal = "false"))]
    fn cancelable(&self) -> Result<bool>;
    #[zbus(allow_interactive_auth)]
    fn cancel(&self, options: &Options<'_>) -> Result<()>;
    fn wait(&self, options: &Options<'_>) -> Result<()>;
}

/// `org.poold1.Secret`.
#[zbus::proxy(interface = "org.poold1.Secret", default_service = "org.poold1")]
pub trait Secret {
    #[zbus(property(emits_changed_signal = "false"))]
    fn uuid(&self) -> Result<String>;
    #[zbus(property(emits_changed_signal = "false"))]
    fn usage_type(&self) -> Result<String>;
    #[zbus(property(emits_changed_signal = "false"))]
    fn usage_name(&self) -> Result<String>;
    #[zbus(property(emits_changed_signal = "false"))]
    fn description(&self) -> Result<String>;
    #[zbus(property(emits_changed_signal = "false"))]
    fn ephemeral(&self) -> Result<bool>;
    #[zbus(property(emits_changed_signal = "false"))]
    fn private(&self) -> Result<bool>;
    fn get_xml(&self, options: &Options<'_>) -> Result<String>;
    #[zbus(allow_interactive_auth)]
    fn delete(&self, options: &Options<'_>) -> Result<()>;
}
