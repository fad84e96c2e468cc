//! What a pool is: its definition.

use super::text::escape_url_path;
use super::{PoolName, PoolType, Source, Uuid, VolumePaths};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;

/// A pool's definition; equal definitions describe the same pool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PoolDef {
    /// Type.
    pub pool_type: PoolType,
    /// Name, unique on the host.
    pub name: PoolName,
    /// Identity, unique in the world; nil in a definition that does not say one yet.
    pub uuid: Uuid,
    /// Features.
    pub features: Features,
    /// Where the storage comes from.
    pub source: Source,
    /// Where it appears on this host; absent for types that appear nowhere.
    pub target: Option<Target>,
    /// How a refresh determines the allocation of volumes (RBD).
    pub refresh_allocation: Option<RefreshAllocation>,
    /// Additional mount options (`fs:mount_opts`).
    pub mount_options: Vec<String>,
    /// Additional configuration of the RBD client (`rbd:config_opts`), name and value.
    pub config_options: Vec<(String, String)>,
    /// Owner, mode and label of new volumes whose definition leaves them open.
    pub volume_permissions: Option<Permissions>,
}

impl PoolDef {
    /// Who works with the pool's files: on a share the owner and group that its target states, or
    /// where it has no target those of its new volumes, as the server may trust no root.
    pub fn access(&self) -> AccessIds {
        let stated = match self.pool_type {
            PoolType::NetFs => self.target.as_ref().and_then(|target| target.permissions.as_ref()),
            PoolType::Gluster => self.volume_permissions.as_ref(),
            _ => None,
        };
        let ids = |stated: &Permissions| AccessIds { owner: stated.owner, group: stated.group };
        stated.map_or(AccessIds::OURS, ids)
    }

    /// What the paths of the pool's volumes have before the last slash, for types whose volumes
    /// are in a directory: the target, or where the directory is on its server.
    pub fn volume_directory(&self) -> Option<Cow<'_, str>> {
        match self.pool_type.info().volume_paths {
            VolumePaths::Urls(scheme) => self.url(scheme).map(Cow::Owned),
            VolumePaths::Local | VolumePaths::Names(_) => self.target_path().map(Cow::Borrowed),
        }
    }

    /// `SCHEME://HOST[:PORT]/NAME[/DIRECTORY]`, as libvirt and QEMU spell it.
    fn url(&self, scheme: &str) -> Option<String> {
        let source = &self.source;
        let (host, name) = (source.hosts.first()?, source.name.as_deref()?);
        let server = host.name.trim_matches(['[', ']']);
        let server = match server.contains(':') {
            true => format!("[{server}]"),
            false => server.to_owned(),
        };
        let port = host.port.map(|port| format!(":{port}")).unwrap_or_default();
        let path = [name, source.dir.as_deref().unwrap_or_default()].join("/");
        let path = super::clean_path(&path);
        Some(format!("{scheme}://{server}{port}/{}", escape_url_path(&path)))
    }

    /// The path of the target directory, if this pool has one.
    pub fn target_path(&self) -> Option<&str> {
        self.target.as_ref().map(|target| target.path.as_str())
    }
}

/// Who files are worked with as; what is absent is as poold itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AccessIds {
    /// uid.
    pub owner: Option<u32>,
    /// gid.
    pub group: Option<u32>,
}

impl AccessIds {
    /// As poold itself.
    pub const OURS: Self = Self { owner: None, group: None };
}

/// `<features>`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Features {
    /// Whether btrfs copies on write below the target; absent means: switched off where possible.
    pub cow: Option<bool>,
}

/// `<target>`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Target {
    /// Absolute, cleaned path.
    pub path: String,
    /// Owner and mode of the directory, when said.
    pub permissions: Option<Permissions>,
}

/// Owner, mode and label of a file or directory; absent parts are left as they are.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Permissions {
    /// Mode bits, at most 0o7777.
    pub mode: Option<u32>,
    /// Owner's uid.
    pub owner: Option<u32>,
    /// Group's gid.
    pub group: Option<u32>,
    /// SELinux label.
    pub label: Option<String>,
}

impl Permissions {
    /// Set-user-ID and set-group-ID. Who may make a volume, and choose owner and mode of the file,
    /// and later what is in it, must not be able to make a program that runs as root.
    const SET_ID: u32 = 0o6000;

    /// Whether its mode makes programs run as somebody else.
    pub fn has_set_id(&self) -> bool {
        self.mode.is_some_and(|mode| mode & Self::SET_ID != 0)
    }

    /// This, and `other` where this leaves something open.
    pub fn or(self, other: &Self) -> Self {
        Self {
            mode: self.mode.or(other.mode),
            owner: self.owner.or(other.owner),
            group: self.group.or(other.group),
            label: self.label.or_else(|| other.label.clone()),
        }
    }
}

/// `<refresh><volume allocation=.../></refresh>`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RefreshAllocation {
    /// Ask the storage what is in use.
    Default,
    /// Take the capacity.
    Capacity,
}

impl RefreshAllocation {
    /// libvirt's word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Default => "default",
            Self::Capacity => "capacity",
        }
    }

    /// The one of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Default, Self::Capacity].into_iter().find(|one| one.as_str() == name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::HostAddress;

    #[test]
    fn files_on_a_server_have_urls() {
        let mut pool = PoolDef {
            pool_type: PoolType::Gluster,
            name: PoolName::new("pool").unwrap(),
            uuid: Uuid::nil(),
            features: Features::default(),
            source: Source {
                hosts: vec![HostAddress { name: "nas".to_owned(), port: None }],
                name: Some("vol".to_owned()),
                dir: Some("/".to_owned()),
                ..Source::default()
            },
            target: None,
            refresh_allocation: None,
            mount_options: Vec::new(),
            config_options: Vec::new(),
            volume_permissions: None,
        };
        assert_eq!(pool.volume_directory().unwrap(), "gluster://nas/vol");
        pool.source.dir = Some("/a b/c".to_owned());
        pool.source.hosts[0] = HostAddress { name: "fd00::1".to_owned(), port: Some(24008) };
        let directory = pool.volume_directory().unwrap();
        assert_eq!(directory, "gluster://[fd00::1]:24008/vol/a%20b/c");
        let path = pool.pool_type.info().volume_path(&directory, "x y");
        assert_eq!(path, "gluster://[fd00::1]:24008/vol/a%20b/c/x%20y");
    }
}
