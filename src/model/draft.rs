//! A pool's definition in the making: what somebody said, before defaults and checks.
//!
//! Filled by `xml` from a document and by `bus` from settings; `complete` makes both mean the same.

mod source;

use super::{
    Adapter, AuthKind, Error, ErrorKind, FcParent, Features, Need, Permissions, PoolDef, PoolName,
    PoolType, PoolTypeInfo, RefreshAllocation, Result, ScsiHost, SecretRef, Source, Target, Uuid,
    clean_path, unprintable,
};
use source::{check_adapter, check_host, check_source_name, clean_dir, refuse_dash};

/// Longest value, in bytes (PATH_MAX).
const MAX_VALUE: usize = 4096;

/// Most mount or configuration options.
const MAX_OPTIONS: usize = 256;

/// What somebody said of a pool; everything may be absent.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PoolDraft {
    /// Type.
    pub pool_type: Option<PoolType>,
    /// Name; that of the source where the type has one.
    pub name: Option<String>,
    /// Identity; nil in the definition when absent, for the engine to decide.
    pub uuid: Option<Uuid>,
    /// Features.
    pub features: Features,
    /// Where the storage comes from.
    pub source: Source,
    /// Where it appears on this host.
    pub target_path: Option<String>,
    /// Owner, mode and label of the target.
    pub permissions: Permissions,
    /// How a refresh determines the allocation of volumes.
    pub refresh_allocation: Option<RefreshAllocation>,
    /// Additional mount options.
    pub mount_options: Vec<String>,
    /// Additional configuration, name and value.
    pub config_options: Vec<(String, String)>,
    /// Owner, mode and label of new volumes.
    pub volume_permissions: Permissions,
}

/// What is wrong with a draft, and with which element of its document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Flaw {
    /// Path of the element below `<pool>`, such as `source/host`; empty for the pool itself.
    pub element: &'static str,
    /// What is wrong with it.
    pub message: String,
}

impl Flaw {
    fn new(element: &'static str, message: impl Into<String>) -> Self {
        Self { element, message: message.into() }
    }
}

impl From<Flaw> for Error {
    fn from(flaw: Flaw) -> Self {
        let separator = if flaw.element.is_empty() { "" } else { ": " };
        Error::new(
            ErrorKind::InvalidArgument,
            format!("{}{separator}{}", flaw.element, flaw.message),
        )
    }
}

/// A part of a definition: how few and how many times it may be there, and how many it is.
struct Part {
    element: &'static str,
    range: (usize, usize),
    count: usize,
}

impl PoolDraft {
    /// The definition this draft means: libvirt's defaults filled in, everything checked.
    /// `InvalidArgument` names the element that is missing, out of place or wrong.
    pub fn complete(self) -> Result<PoolDef> {
        let name = self.name.as_deref().and_then(|name| PoolName::new(name).ok());
        let what = name.map_or("pool definition".to_owned(), |name| format!("pool {name}"));
        self.check().map_err(|flaw| Error::from(flaw).context(what))
    }

    /// What the draft says of where to look for sources: each part allowed for the type and
    /// checked, nothing required or filled in.
    pub fn check_source(mut self) -> Result<Source, Flaw> {
        self.check_texts()?;
        if let Some(pool_type) = self.pool_type {
            self.check_misplaced(pool_type.info())?;
            self.clean_source(pool_type.info())?;
        }
        Ok(self.source)
    }

    /// As `complete`, for callers that can say where in a document the element is.
    pub fn check(mut self) -> Result<PoolDef, Flaw> {
        let pool_type = self.pool_type.ok_or_else(|| Flaw::new("", "the type is missing"))?;
        let info = pool_type.info();
        self.check_texts()?;
        self.check_misplaced(info)?;
        self.check_missing(info)?;

        let name = self.name.take().or_else(|| self.source.name.clone());
        let name = name.ok_or_else(|| Flaw::new("name", "a pool needs a name"))?;
        let name = PoolName::new(&name).map_err(|error| Flaw::new("name", error.message()))?;
        self.complete_source(info, &name)?;
        let target = self.complete_target(info)?;
        self.check_options()?;

        Ok(PoolDef {
            pool_type,
            name,
            uuid: self.uuid.unwrap_or_default(),
            features: self.features,
            source: self.source,
            target,
            refresh_allocation: self.refresh_allocation,
            mount_options: self.mount_options,
            config_options: self.config_options,
            volume_permissions: (self.volume_permissions != Permissions::default())
                .then_some(self.volume_permissions),
        })
    }

    /// Every part with how many there may be and how many there are.
    fn parts(&self, info: &PoolTypeInfo) -> [Part; 18] {
        let source = &self.source;
        let part = |element, need, present| {
            let range = match need {
                Need::Never => (0, 0),
                Need::May | Need::Filled => (0, 1),
                Need::Must => (1, 1),
            };
            Part { element, range, count: usize::from(present) }
        };
        let may = |yes: bool| if yes { Need::May } else { Need::Never };
        let versions = may(info.pool_type == PoolType::NetFs);
        let formats = may(!info.source_formats.is_empty());
        let permissions = self.permissions != Permissions::default();
        let of_volumes = self.volume_permissions != Permissions::default();
        [
            Part { element: "source/host", range: info.hosts, count: source.hosts.len() },
            Part { element: "source/device", range: info.devices, count: source.devices.len() },
            part("source/dir", info.dir, source.dir.is_some()),
            part("source/name", info.source_name, source.name.is_some()),
            part("source/adapter", info.adapter, source.adapter.is_some()),
            part("source/initiator", info.initiator, source.initiator_iqn.is_some()),
            part("source/auth", may(info.auth.is_some()), source.auth.is_some()),
            part("source/format", formats, source.format.is_some()),
            part("source/protocol", versions, source.protocol_version.is_some()),
            part("source/vendor", info.vendor, source.vendor.is_some()),
            part("source/product", info.vendor, source.product.is_some()),
            part("target/path", info.target, self.target_path.is_some()),
            part("target/permissions", may(info.target != Need::Never), permissions),
            part("features/cow", info.cow, self.features.cow.is_some()),
            part("refresh", info.refresh_allocation, self.refresh_allocation.is_some()),
            part("mount_opts", info.mount_options, !self.mount_options.is_empty()),
            part("volume-permissions", may(info.has_files()), of_volumes),
            part("config_opts", info.config_options, !self.config_options.is_empty()),
        ]
    }

    /// Refuses what this type does not have, or not so many times.
    fn check_misplaced(&self, info: &PoolTypeInfo) -> Result<(), Flaw> {
        match self.parts(info).iter().find(|part| part.count > part.range.1) {
            None => Ok(()),
            Some(Part { element, range: (_, 0), .. }) => {
                let message = format!("is out of place; {} pools have none", info.name);
                Err(Flaw::new(element, message))
            }
            Some(Part { element, range: (_, most), .. }) => {
                Err(Flaw::new(element, format!("{} pools have at most {most}", info.name)))
            }
        }
    }

    /// Refuses to go without what this type must have.
    fn check_missing(&self, info: &PoolTypeInfo) -> Result<(), Flaw> {
        match self.parts(info).iter().find(|part| part.count < part.range.0) {
            None => Ok(()),
            Some(part) => {
                let message = format!("is missing; {} pools need it", info.name);
                Err(Flaw::new(part.element, message))
            }
        }
    }

    fn complete_source(&mut self, info: &PoolTypeInfo, pool: &PoolName) -> Result<(), Flaw> {
        let source = &mut self.source;
        if info.source_name == Need::Filled && source.name.is_none() {
            source.name = Some(pool.to_string());
        }
        if info.dir == Need::Filled && source.dir.is_none() {
            source.dir = Some("/".to_owned());
        }
        if source.format.is_none() {
            source.format = info.default_source_format.map(str::to_owned);
        }
        self.clean_source(info)
    }

    /// Checks and normalises what is there.
    fn clean_source(&mut self, info: &PoolTypeInfo) -> Result<(), Flaw> {
        let source = &mut self.source;
        if let Some(name) = &source.name {
            check_source_name(name, info.pool_type)?;
        }
        source.format = match source.format.take() {
            None => None,
            Some(word) if word == "unknown" => info.default_source_format.map(str::to_owned),
            Some(word) if info.source_formats.contains(&word.as_str()) => Some(word),
            Some(word) => {
                let known = info.source_formats.join(" ");
                return Err(Flaw::new(
                    "source/format",
                    format!("{word:?} is no format of {} pools; those are: {known}", info.name),
                ));
            }
        };
        clean_dir(source, info)?;
        for host in &mut source.hosts {
            check_host(&host.name)?;
            host.port = host.port.filter(|port| *port != 0);
        }
        for device in &mut source.devices {
            // What a disk's free extents are is found out, not defined.
            device.free_extents.clear();
            refuse_dash("source/device", &device.path)?;
            if device.path.starts_with('/') {
                device.path = clean_path(&device.path);
            } else if info.local_devices && info.pool_type != PoolType::Zfs {
                let message = format!("{:?} is not an absolute path", device.path);
                return Err(Flaw::new("source/device", message));
            }
        }
        if let Some(adapter) = &source.adapter {
            check_adapter(adapter)?;
        }
        match (&source.auth, info.auth) {
            (Some(auth), Some(kind)) if auth.kind() != kind => Err(Flaw::new(
                "source/auth",
                format!("{} pools have type {:?} there", info.name, kind.as_str()),
            )),
            (Some(_), Some(AuthKind::Cifs)) if source.format.as_deref() != Some("cifs") => {
                Err(Flaw::new("source/auth", "of network file systems, only format cifs has it"))
            }
            _ => Ok(()),
        }
    }

    fn complete_target(&mut self, info: &PoolTypeInfo) -> Result<Option<Target>, Flaw> {
        let path = match (info.target, &self.source.name, self.target_path.take()) {
            (Need::Filled, Some(name), _) => format!("{}/{name}", info.target_parent),
            (_, _, Some(path)) => clean_path(&path),
            _ => return Ok(None),
        };
        if !path.starts_with('/') {
            return Err(Flaw::new("target/path", format!("{path:?} is not an absolute path")));
        }
        if path.split('/').any(|part| part == "..") {
            return Err(Flaw::new("target/path", format!("{path:?} must not contain '..'")));
        }
        let permissions = std::mem::take(&mut self.permissions);
        if permissions.mode.is_some_and(|mode| mode > 0o7777) {
            return Err(Flaw::new("target/permissions", "the mode is more than 07777"));
        }
        let given = permissions != Permissions::default();
        Ok(Some(Target { path, permissions: given.then_some(permissions) }))
    }

    fn check_options(&self) -> Result<(), Flaw> {
        if self.volume_permissions.mode.is_some_and(|mode| mode > 0o7777) {
            return Err(Flaw::new("volume-permissions", "the mode is more than 07777"));
        }
        if self.volume_permissions.has_set_id() {
            let what = "the mode must not have set-user-ID or set-group-ID: a volume is no program";
            return Err(Flaw::new("volume-permissions", what));
        }
        if let Some(version) = &self.source.protocol_version {
            let format = self.source.format.as_deref();
            if !matches!(format, Some("nfs" | "auto")) {
                return Err(Flaw::new("source/protocol", "only format nfs has versions"));
            }
            if version.contains(',') {
                return Err(Flaw::new("source/protocol", "the version must not contain ','"));
            }
        }
        for (element, count) in
            [("mount_opts", self.mount_options.len()), ("config_opts", self.config_options.len())]
        {
            if count > MAX_OPTIONS {
                return Err(Flaw::new(element, format!("more than {MAX_OPTIONS} options")));
            }
        }
        Ok(())
    }

    /// Refuses empty and overlong values and control characters, wherever they are.
    fn check_texts(&self) -> Result<(), Flaw> {
        for (element, text) in self.texts() {
            let message = if text.is_empty() {
                "is empty".to_owned()
            } else if text.len() > MAX_VALUE {
                format!("is longer than {MAX_VALUE} bytes")
            } else if text.chars().any(unprintable) {
                "contains a control character".to_owned()
            } else {
                continue;
            };
            return Err(Flaw::new(element, message));
        }
        Ok(())
    }

    /// Every text there is, with its element.
    fn texts(&self) -> Vec<(&'static str, &str)> {
        let source = &self.source;
        let mut texts: Vec<(&'static str, &str)> = [
            ("name", &self.name),
            ("source/dir", &source.dir),
            ("source/name", &source.name),
            ("source/initiator", &source.initiator_iqn),
            ("source/format", &source.format),
            ("source/protocol", &source.protocol_version),
            ("source/vendor", &source.vendor),
            ("source/product", &source.product),
            ("target/path", &self.target_path),
            ("target/permissions", &self.permissions.label),
            ("volume-permissions", &self.volume_permissions.label),
        ]
        .into_iter()
        .filter_map(|(element, text)| Some((element, text.as_deref()?)))
        .collect();
        texts.extend(source.hosts.iter().map(|host| ("source/host", host.name.as_str())));
        texts.extend(source.devices.iter().map(|device| ("source/device", device.path.as_str())));
        texts.extend(self.mount_options.iter().map(|option| ("mount_opts", option.as_str())));
        for (name, value) in &self.config_options {
            texts.extend([("config_opts", name.as_str()), ("config_opts", value.as_str())]);
        }
        if let Some(auth) = &source.auth {
            let (username, secret) = auth.parts();
            texts.push(("source/auth", username));
            if let SecretRef::Usage(usage) = secret {
                texts.push(("source/auth", usage));
            }
        }
        let adapter: &[&String] = match &source.adapter {
            Some(Adapter::ScsiHost(ScsiHost::Name(name))) => &[name],
            Some(Adapter::FcHost(host)) => match &host.parent {
                None => &[&host.wwnn, &host.wwpn],
                Some(FcParent::Name(name)) => &[&host.wwnn, &host.wwpn, name],
                Some(FcParent::Wwn { wwnn, wwpn }) => &[&host.wwnn, &host.wwpn, wwnn, wwpn],
                Some(FcParent::Fabric(wwn)) => &[&host.wwnn, &host.wwpn, wwn],
            },
            _ => &[],
        };
        texts.extend(adapter.iter().map(|text| ("source/adapter", text.as_str())));
        texts
    }
}

#[cfg(test)]
mod tests;
