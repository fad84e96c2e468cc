//! A Ceph pool as poold reaches it: by the programs `rbd` and `rados`, which are told whom to ask, and as
//! whom, by a configuration in sealed memory. No key is in an argument, the environment or a file of a
//! disk, and the host's own /etc/ceph is not heeded, as in libvirt.

use super::key;
use super::refusal::refusal;
use crate::backend::{OpContext, Secrets};
use crate::host::{Command, Host, Limits, Sealed};
use crate::model::{
    Auth, Error, ErrorKind, HostAddress, PoolDef, Result, SecretRef, SecretUsage, SecretValue,
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::ffi::OsString;
use std::sync::Arc;
use zeroize::Zeroizing;

/// How long Ceph may take, in seconds, unless the definition says otherwise: until the monitors let the
/// client in, for an answer of a monitor, and for one of an OSD. Ceph's own limits are five minutes and
/// none at all.
const TIMES: [(&str, &str); 3] =
    [("client_mount_timeout", "5"), ("rados_mon_op_timeout", "15"), ("rados_osd_op_timeout", "30")];
/// Options that no definition may have: they say whom to ask and as whom, which its source says, or have
/// the client write or load files of the host.
const REFUSED: [&str; 26] = [
    "admin_socket",
    "auth_client_required",
    "auth_cluster_required",
    "auth_service_required",
    "auth_supported",
    "chdir",
    "crash_dir",
    "daemonize",
    "erasure_code_dir",
    "fsid",
    "heartbeat_file",
    "key",
    "keyfile",
    "keyring",
    "log_file",
    "log_to_file",
    "mon_host",
    "mon_host_override",
    "no_config_file",
    "osd_class_dir",
    "pid_file",
    "plugin_dir",
    "rbd_plugins",
    "run_dir",
    "setuser",
    "setgroup",
];
/// What is said of each image that cannot be opened.
pub(super) const UNREADABLE: &str = "rbd: error opening ";
/// All that a program may end with: why it failed is in what it says.
const ANY_STATUS: &[i32] = &{
    let mut statuses = [0; 256];
    let mut status = 0;
    while status < 256 {
        statuses[status] = status as i32;
        status += 1;
    }
    statuses
};

/// Which Ceph pool, where, and as whom.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cluster {
    monitors: Vec<String>,
    pool: String,
    /// Name, without `client.`, and where the key is; none where the cluster asks for none.
    user: Option<(String, SecretRef)>,
    options: Vec<(String, String)>,
}

impl Cluster {
    /// What a definition says; refuses what would say something else to Ceph.
    pub(super) fn of(def: &PoolDef) -> Result<Self> {
        let refuse = |what: String| {
            Error::new(ErrorKind::InvalidArgument, format!("pool {}: {what}", def.name))
        };
        let pool = def.source.name.clone().unwrap_or_default();
        if pool.is_empty() || pool.contains(['/', '@']) {
            return Err(refuse(format!("source name {pool:?} is no name of a Ceph pool")));
        }
        let user = match &def.source.auth {
            Some(Auth::Ceph { username, secret }) => {
                if !is_plain(username) {
                    return Err(refuse(format!("{username:?} is no name of a Ceph user")));
                }
                Some((username.clone(), secret.clone()))
            }
            _ => None,
        };
        let options = def.config_options.iter().map(|(name, value)| {
            let canonical = canonical(name);
            let is_name = canonical.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
            if !is_name || REFUSED.contains(&canonical.as_str()) {
                return Err(refuse(format!("no pool may have the configuration option {name:?}")));
            }
            if !is_plain(value) {
                return Err(refuse(format!(
                    "configuration option {name:?} has the value {value:?}, which Ceph would read as something else"
                )));
            }
            Ok((canonical, value.clone()))
        });
        Ok(Self {
            monitors: def.source.hosts.iter().map(monitor).collect(),
            pool,
            user,
            options: options.collect::<Result<_>>()?,
        })
    }

    /// The name of the Ceph pool.
    pub(super) fn pool(&self) -> &str {
        &self.pool
    }

    /// The path of an image, in libvirt's spelling, which is its key too.
    pub(super) fn path(&self, image: &str) -> String {
        format!("{}/{image}", self.pool)
    }

    fn user(&self) -> &str {
        self.user.as_ref().map_or("admin", |(name, _)| name)
    }

    /// The configuration of its clients.
    fn configuration(&self, key: Option<&str>) -> Zeroizing<String> {
        let mut text = Zeroizing::new(String::with_capacity(4096));
        let mut line = |name: &str, value: &str| {
            for part in [name, " = ", value, "\n"] {
                text.push_str(part);
            }
        };
        line("mon_host", &self.monitors.join(","));
        match key {
            Some(key) => {
                line("auth_client_required", "cephx");
                line("key", key);
            }
            None => line("auth_client_required", "none"),
        }
        for (name, value) in TIMES {
            if !self.options.iter().any(|(given, _)| given == name) {
                line(name, value);
            }
        }
        for (name, value) in &self.options {
            line(name, value);
        }
        Zeroizing::new(["[global]\n", &text].concat())
    }

    fn key(&self, secrets: &dyn Secrets) -> Result<Option<Zeroizing<String>>> {
        let Some((name, secret)) = &self.user else { return Ok(None) };
        let value: SecretValue = secrets.value(secret, SecretUsage::Ceph)?;
        match key::text(value.bytes()) {
            Some(key) => Ok(Some(key)),
            None => Err(Error::new(
                ErrorKind::AuthenticationFailed,
                format!(
                    "the secret of Ceph user {name} is no Ceph key; set it to what `ceph auth get-key client.{name}` says"
                ),
            )),
        }
    }
}

/// A monitor's address as Ceph reads it, which may say by a prefix which messenger it speaks. Without, Ceph
/// takes 6789 for version 1 and 3300 for version 2, and tries both at other ports.
fn monitor(host: &HostAddress) -> String {
    let prefix = ["v1:", "v2:"].into_iter().find(|prefix| host.name.starts_with(prefix));
    let prefix = prefix.unwrap_or_default();
    let name = &host.name[prefix.len()..];
    let name = match name.contains(':') && !name.starts_with('[') {
        true => format!("[{name}]"),
        false => name.to_owned(),
    };
    match host.port {
        Some(port) => format!("{prefix}{name}:{port}"),
        None => format!("{prefix}{name}"),
    }
}

/// An option's name with all that Ceph takes for the same made the same.
fn canonical(name: &str) -> String {
    name.trim().replace([' ', '-'], "_").to_ascii_lowercase()
}

/// Whether Ceph reads a value as it is: no comment, continuation, quote or variable, no blanks around it.
fn is_plain(value: &str) -> bool {
    value.trim() == value
        && !value.is_empty()
        && !value.chars().any(|c| c.is_control() || "#;\"'\\$[]=".contains(c))
}

/// A Ceph pool that programs can be run on.
pub(super) struct Session<'a> {
    pub(super) cluster: &'a Cluster,
    configuration: Arc<Sealed>,
    host: &'a dyn Host,
    limits: &'a Limits,
}

impl<'a> Session<'a> {
    /// For an operation.
    pub(super) fn new(cluster: &'a Cluster, ctx: &'a OpContext) -> Result<Self> {
        Self::with(cluster, &*ctx.secrets, &*ctx.host, &ctx.limits)
    }

    /// Outside of one.
    pub(super) fn with(
        cluster: &'a Cluster,
        secrets: &dyn Secrets,
        host: &'a dyn Host,
        limits: &'a Limits,
    ) -> Result<Self> {
        let key = cluster.key(secrets)?;
        let text = cluster.configuration(key.as_ref().map(|key| key.as_str()));
        let configuration = Arc::new(Sealed::new("Ceph configuration", text.as_bytes())?);
        Ok(Self { cluster, configuration, host, limits })
    }

    /// The same for another time.
    pub(super) fn within<'b>(&self, limits: &'b Limits) -> Session<'b>
    where
        'a: 'b,
    {
        Session { limits, configuration: Arc::clone(&self.configuration), ..*self }
    }

    /// How long its programs may take.
    pub(super) fn limits(&self) -> &Limits {
        self.limits
    }

    /// Runs a command of `rbd` on the pool.
    pub(super) fn rbd(&self, subcommand: &[&str], args: &[String]) -> Result<Said> {
        let pool = format!("--pool={}", self.cluster.pool);
        let words = subcommand.iter().map(|word| (*word).to_owned()).chain([pool]);
        self.run("rbd", &subcommand.join(" "), words.chain(args.iter().cloned()), |_| false)
    }

    /// All images as `rbd ls` lists them. It ends with the error of the last one, if that has one, but lists
    /// the others all the same.
    pub(super) fn list(&self) -> Result<Said> {
        let pool = format!("--pool={}", self.cluster.pool);
        let words = ["ls", "--long", "--format=json"].map(str::to_owned).into_iter().chain([pool]);
        self.run("rbd", "ls", words, |complaints| complaints.contains(UNREADABLE))
    }

    /// Room in the cluster, and what the pool takes of it, as `rados df` reports it.
    pub(super) fn room(&self) -> Result<Said> {
        self.run("rados", "df", ["df".to_owned(), "--format=json".to_owned()], |_| false)
    }

    fn run(
        &self,
        program: &'static str,
        subcommand: &str,
        args: impl IntoIterator<Item = String>,
        forgives: impl FnOnce(&str) -> bool,
    ) -> Result<Said> {
        let whom =
            ["-c".to_owned(), self.configuration.path(), format!("--id={}", self.cluster.user())];
        let args = whom.into_iter().chain(args).map(OsString::from).collect();
        let command = Command { program, args, accept: ANY_STATUS, ..Command::default() };
        let output = self.host.run(&command, self.limits)?;
        let complaints = String::from_utf8_lossy(&output.stderr).into_owned();
        match output.status {
            0 => Ok(Said { answer: output.stdout, complaints }),
            _ if !output.stdout.is_empty() && forgives(&complaints) => {
                Ok(Said { answer: output.stdout, complaints })
            }
            status => Err(refusal(&format!("{program} {subcommand}"), status, &complaints)),
        }
    }

    /// An image of the pool as QEMU reaches it, and the configuration that this names.
    pub(super) fn node(&self, image: &str) -> (Value, Arc<Sealed>) {
        let node = json!({
            "driver": "rbd",
            "pool": self.cluster.pool,
            "image": image,
            "conf": self.configuration.path(),
            "user": self.cluster.user(),
            "discard": "unmap",
        });
        (node, Arc::clone(&self.configuration))
    }
}

/// What a program said that did what it should.
pub(super) struct Said {
    /// Standard output.
    pub(super) answer: Vec<u8>,
    /// Standard error.
    pub(super) complaints: String,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::tests::fixture::definition;
    use crate::model::PoolType;
    use std::path::Path;

    fn cluster(hosts: &[(&str, Option<u16>)], options: &[(&str, &str)]) -> PoolDef {
        let mut def = definition(PoolType::Rbd, Path::new("/"));
        def.source.name = Some("images".to_owned());
        let host = |(name, port): &(&str, _)| HostAddress { name: (*name).into(), port: *port };
        def.source.hosts = hosts.iter().map(host).collect();
        let option = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        def.config_options = options.iter().map(option).collect();
        def
    }

    fn as_user(mut def: PoolDef, name: &str) -> PoolDef {
        let secret = SecretRef::Usage("ceph".to_owned());
        def.source.auth = Some(Auth::Ceph { username: name.to_owned(), secret });
        def
    }

    #[test]
    fn the_configuration_says_whom_to_ask_and_how_long() {
        let hosts = [
            ("a", Some(6789)),
            ("fd00::1", Some(3300)),
            ("fd00::2", None),
            ("[fd00::3]", Some(1)),
            ("v1:192.0.2.1", Some(7)),
            ("v2:fd00::4", Some(8)),
        ];
        let options = [("client mount-timeout", "9"), ("rbd_cache", "false")];
        let cluster = Cluster::of(&as_user(cluster(&hosts, &options), "libvirt")).unwrap();
        assert_eq!(
            cluster.configuration(Some("KEY")).as_str(),
            "[global]\nmon_host = a:6789,[fd00::1]:3300,[fd00::2],[fd00::3]:1,v1:192.0.2.1:7,v2:[fd00::4]:8\n\
             auth_client_required = cephx\nkey = KEY\nrados_mon_op_timeout = 15\n\
             rados_osd_op_timeout = 30\nclient_mount_timeout = 9\nrbd_cache = false\n"
        );
        assert_eq!((cluster.user(), cluster.path("x").as_str()), ("libvirt", "images/x"));
    }

    #[test]
    fn without_credentials_none_are_looked_for() {
        let cluster = Cluster::of(&cluster(&[("a", None)], &[])).unwrap();
        let text = cluster.configuration(None);
        assert!(text.contains("auth_client_required = none\n") && !text.contains("key"));
        assert_eq!(cluster.user(), "admin");
    }

    #[test]
    fn what_ceph_would_read_as_something_else_is_refused() {
        let host = [("a", None)];
        for option in [
            ("mon_host", "b"),
            ("Mon Host", "b"),
            ("keyring", "/etc/x"),
            ("log_file", "/etc/x"),
            ("plugin-dir", "/tmp"),
            ("a = b", "x"),
            ("rbd_cache", "true # x"),
            ("rbd_cache", "$host"),
            ("rbd_cache", "'x'"),
            ("rbd_cache", " x"),
        ] {
            let error = Cluster::of(&cluster(&host, &[option])).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{option:?}");
        }
        assert!(Cluster::of(&as_user(cluster(&host, &[]), "a;b")).is_err());
        let mut def = cluster(&host, &[]);
        def.source.name = Some("images@snap".to_owned());
        assert!(Cluster::of(&def).is_err());
    }
}
