//! A share: what mount(8) is told of it, and how it is recognised where it is mounted.

use crate::host::Mount;
use crate::model::{Error, ErrorKind, HostAddress, PoolDef, Result};
use std::ffi::OsStr;
use std::path::Path;

/// How shares are served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Protocol {
    Nfs,
    Cifs,
    GlusterFs,
}

/// What mounts each of them, in the order above, and what finds sources.
pub(super) static TOOLS: [&str; 5] =
    ["mount.nfs", "mount.cifs", "mount.glusterfs", "showmount", "gluster"];

/// What mount.cifs says of a server that hangs up, which it also takes one for that says nothing.
const HANGS_UP: &str = "abruptly closed the connection";

/// Options that would have a password, or what leads to one, in everybody's sight.
const CREDENTIALS: [&str; 8] =
    ["password", "pass", "password2", "pass2", "credentials", "cred", "username", "passwd"];

/// The share that a pool is.
#[derive(Debug)]
pub(super) struct Share<'a> {
    pool: &'a PoolDef,
    protocol: Protocol,
    host: &'a HostAddress,
    dir: &'a str,
}

impl<'a> Share<'a> {
    /// That of a definition, if it could be mounted.
    pub(super) fn of(pool: &'a PoolDef) -> Result<Self> {
        let invalid = |what: String| {
            Err(Error::new(ErrorKind::InvalidArgument, format!("pool {}: {what}", pool.name)))
        };
        let (Some(host), Some(dir)) = (pool.source.hosts.first(), pool.source.dir.as_deref())
        else {
            return invalid("a share needs a host and a directory".to_owned());
        };
        let protocol = match pool.source.format.as_deref() {
            // libvirt's rule: HOST:DIR, which mount(8) takes for NFS.
            Some("nfs" | "auto") | None => Protocol::Nfs,
            Some("cifs") => Protocol::Cifs,
            Some("glusterfs") => Protocol::GlusterFs,
            Some(other) => return invalid(format!("{other:?} is no format of netfs pools")),
        };
        let share = Self { pool, protocol, host, dir };
        // mount(8) would read more of it than one name.
        if dir.chars().any(char::is_control) || share.path().is_empty() && !share.is_nfs() {
            return invalid(format!("{dir:?} is no name of a share"));
        }
        let named = |option: &&String| {
            let name = option.split('=').next().unwrap_or_default();
            CREDENTIALS.contains(&name)
        };
        if let Some(option) = pool.mount_options.iter().find(named) {
            let name = option.split('=').next().unwrap_or_default();
            return invalid(format!(
                "mount option {name:?}: credentials are no options; set a secret, and name it in <auth>"
            ));
        }
        if share.is_nfs() && !dir.starts_with('/') {
            return invalid(format!("{dir:?} is no absolute path"));
        }
        Ok(share)
    }

    fn is_nfs(&self) -> bool {
        self.protocol == Protocol::Nfs
    }

    /// Its directory without slashes around it.
    fn path(&self) -> &str {
        self.dir.trim_matches('/')
    }

    /// The server, as it stands before a colon.
    fn server(&self) -> String {
        let name = self.host.name.trim_matches(['[', ']']);
        match name.contains(':') {
            true => format!("[{name}]"),
            false => name.to_owned(),
        }
    }

    /// What a failed mount comes to: one that takes too long, as one that the other side hangs up on, is none of
    /// a server.
    pub(super) fn failed(&self, error: Error) -> Error {
        if error.kind() != ErrorKind::TimedOut && !error.message().contains(HANGS_UP) {
            return error;
        }
        let protocol = match self.protocol {
            Protocol::Nfs => "NFS",
            Protocol::Cifs => "CIFS",
            Protocol::GlusterFs => "GlusterFS",
        };
        let (pool, server) = (&self.pool.name, self.server());
        let what = format!("pool {pool}: no {protocol} server answers at {server}");
        Error::new(ErrorKind::Inaccessible, what)
    }

    /// What is mounted: `HOST:/DIR`, `//HOST/SHARE`.
    pub(super) fn source(&self) -> String {
        match self.protocol {
            Protocol::Nfs => format!("{}:{}", self.server(), self.dir),
            Protocol::GlusterFs => format!("{}:/{}", self.server(), self.path()),
            Protocol::Cifs => {
                format!("//{}/{}", self.host.name.trim_matches(['[', ']']), self.path())
            }
        }
    }

    /// The type for mount(8).
    pub(super) fn fs_type(&self) -> &'static str {
        match self.protocol {
            Protocol::Nfs => "nfs",
            Protocol::Cifs => "cifs",
            Protocol::GlusterFs => "glusterfs",
        }
    }

    /// The program that mounts it.
    pub(super) fn helper(&self) -> &'static str {
        TOOLS[self.protocol as usize]
    }

    /// Whether a process serves the mount.
    pub(super) fn by_process(&self) -> bool {
        self.protocol == Protocol::GlusterFs
    }

    /// Mount options, before those of the definition; `credentials` is the file that has those.
    pub(super) fn options(&self, credentials: Option<&Path>) -> Vec<String> {
        let port = |option: &str| self.host.port.map(|port| format!("{option}={port}"));
        let mut options = Vec::new();
        match self.protocol {
            Protocol::Nfs => {
                let version = self.pool.source.protocol_version.as_deref();
                options.extend(version.map(|version| format!("nfsvers={version}")));
                options.extend(port("port"));
                // It says at once that the server does not answer; the engine tries again.
                options.push("retry=0".to_owned());
            }
            Protocol::Cifs => {
                options.extend(port("port"));
                let access = self.pool.access();
                options.extend(access.owner.map(|uid| format!("uid={uid}")));
                options.extend(access.group.map(|gid| format!("gid={gid}")));
                // Locks of bytes forbid reading and writing them on such servers, and QEMU's lie
                // where images have data: they hold on this host only.
                options.push("nobrl".to_owned());
                options.push(match credentials {
                    Some(file) => format!("credentials={}", file.display()),
                    None => "guest".to_owned(),
                });
            }
            Protocol::GlusterFs => {
                options.extend(port("server-port"));
                options.push("direct-io-mode=1".to_owned());
            }
        }
        options
    }

    /// What refusals of its server mean.
    pub(super) fn refusals(&self) -> &'static [(&'static str, ErrorKind)] {
        use ErrorKind::{AuthenticationFailed, Inaccessible};
        match self.protocol {
            Protocol::Nfs => &[
                ("access denied by server", Inaccessible),
                ("No such file or directory", Inaccessible),
                ("Connection refused", Inaccessible),
                ("Connection timed out", Inaccessible),
                ("Connection reset", Inaccessible),
                ("No route to host", Inaccessible),
                ("Network is unreachable", Inaccessible),
                ("Failed to resolve server", Inaccessible),
                ("not supported", Inaccessible),
            ],
            Protocol::Cifs => &[
                ("error(13)", AuthenticationFailed),
                ("error(126)", AuthenticationFailed),
                ("error(128)", AuthenticationFailed),
                ("error(129)", AuthenticationFailed),
                ("error(", Inaccessible),
                (HANGS_UP, Inaccessible),
                ("could not resolve address", Inaccessible),
                ("could not find", Inaccessible),
            ],
            Protocol::GlusterFs => &[("", Inaccessible)],
        }
    }

    /// Whether a mount is of this share, all of it.
    pub(super) fn is_mounted_as(&self, mount: &Mount) -> bool {
        let is_whole = mount.root == Path::new("/");
        match self.protocol {
            Protocol::Nfs => {
                matches!(mount.fs_type.as_str(), "nfs" | "nfs4")
                    && is_whole
                    && self.is_nfs_at(mount)
            }
            Protocol::Cifs => {
                matches!(mount.fs_type.as_str(), "cifs" | "smb3")
                    && text(&mount.source).eq_ignore_ascii_case(&self.source())
            }
            Protocol::GlusterFs => {
                let found = text(&mount.source);
                let found =
                    found.split_once(':').map(|(host, path)| (host, path.trim_matches('/')));
                mount.fs_type == "fuse.glusterfs"
                    && is_whole
                    && found.is_some_and(|(host, path)| {
                        host.eq_ignore_ascii_case(&self.server()) && path == self.path()
                    })
            }
        }
    }

    /// By its name or, where it was mounted by another of the server's names, its address.
    fn is_nfs_at(&self, mount: &Mount) -> bool {
        let found = text(&mount.source);
        // An IPv6 address has colons too.
        let Some(at) = found.find(":/") else { return false };
        let (host, path) = (&found[..at], &found[at + 1..]);
        let address = mount.fs_options.split(',').find_map(|option| option.strip_prefix("addr="));
        let bare = self.host.name.trim_matches(['[', ']']);
        let same_host = host.eq_ignore_ascii_case(&self.server())
            || address.is_some_and(|address| address == bare);
        same_host && path.trim_end_matches('/') == self.dir.trim_end_matches('/')
    }
}

fn text(source: &OsStr) -> std::borrow::Cow<'_, str> {
    source.to_string_lossy()
}

#[cfg(test)]
mod tests {
    use super::super::super::tests::fixture::definition;
    use super::*;
    use crate::host::MountTable;
    use crate::model::{Permissions, Target};

    fn pool(format: &str, host: &str, port: Option<u16>, dir: &str) -> PoolDef {
        let mut pool = definition(crate::model::PoolType::NetFs, Path::new("/srv/share"));
        pool.source.format = Some(format.to_owned());
        pool.source.hosts = vec![HostAddress { name: host.to_owned(), port }];
        pool.source.dir = Some(dir.to_owned());
        pool
    }

    fn told(pool: &PoolDef) -> (String, &'static str, String) {
        let share = Share::of(pool).unwrap();
        (share.source(), share.fs_type(), share.options(None).join(","))
    }

    #[test]
    fn each_protocol_is_mounted_in_its_own_words() {
        let mut nfs = pool("nfs", "nas.example", Some(20490), "/export/vms");
        nfs.source.protocol_version = Some("4.2".to_owned());
        assert_eq!(
            told(&nfs),
            ("nas.example:/export/vms".into(), "nfs", "nfsvers=4.2,port=20490,retry=0".into())
        );
        let auto = pool("auto", "fd00::1", None, "/e");
        assert_eq!(told(&auto), ("[fd00::1]:/e".into(), "nfs", "retry=0".into()));
        let mut cifs = pool("cifs", "nas", None, "vms/sub");
        cifs.target = Some(Target {
            path: "/srv/share".into(),
            permissions: Some(Permissions {
                owner: Some(7),
                group: Some(8),
                ..Permissions::default()
            }),
        });
        assert_eq!(told(&cifs), ("//nas/vms/sub".into(), "cifs", "uid=7,gid=8,nobrl,guest".into()));
        let gluster = pool("glusterfs", "nas", None, "/vol");
        assert_eq!(told(&gluster), ("nas:/vol".into(), "glusterfs", "direct-io-mode=1".into()));
    }

    #[test]
    fn what_is_no_share_is_refused() {
        for (format, dir) in [("nfs", "export"), ("cifs", "/"), ("glusterfs", "/"), ("ext4", "/x")]
        {
            let error = Share::of(&pool(format, "nas", None, dir)).map(drop).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{format} {dir}");
        }
    }

    #[test]
    fn no_option_is_a_password() {
        for option in ["password=x", "pass=x", "credentials=/etc/shadow", "username=a"] {
            let mut cifs = pool("cifs", "nas", None, "vms");
            cifs.mount_options = vec!["vers=3.0".to_owned(), option.to_owned()];
            let error = Share::of(&cifs).map(drop).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{option}");
            assert!(!error.message().contains("=x"), "{error}");
        }
        let cifs = pool("cifs", "nas", None, "vms");
        let file = Path::new("/run/poold/private/cifs-1");
        let options = Share::of(&cifs).unwrap().options(Some(file)).join(",");
        assert_eq!(options, "nobrl,credentials=/run/poold/private/cifs-1");
    }

    #[test]
    fn only_the_same_share_is_recognised() {
        let table = MountTable::parse(
            b"1 1 8:1 / / rw - ext4 /dev/vda1 rw\n\
              2 1 0:40 / /a rw - nfs4 nas.example:/export/vms rw,vers=4.2,addr=10.0.0.5\n\
              3 1 0:41 / /b rw - nfs nas.example:/export/vms2/ rw,vers=3,addr=10.0.0.5\n\
              4 1 0:40 /sub /c rw - nfs4 nas.example:/export/vms rw,addr=10.0.0.5\n\
              5 1 0:42 / /d rw - nfs4 [fd00::1]:/e rw,addr=fd00::1\n\
              6 1 0:43 / /e rw - cifs //NAS/Vms/sub rw\n\
              7 1 0:44 / /f rw - fuse.glusterfs nas:/vol rw\n",
        )
        .unwrap();
        let found = |pool: &PoolDef| -> Vec<u64> {
            let share = Share::of(pool).unwrap();
            table.iter().filter(|mount| share.is_mounted_as(mount)).map(|mount| mount.id).collect()
        };
        assert_eq!(found(&pool("nfs", "NAS.example", None, "/export/vms")), [2]);
        assert_eq!(found(&pool("nfs", "10.0.0.5", None, "/export/vms")), [2]);
        assert_eq!(found(&pool("auto", "nas.example", None, "/export/vms2")), [3]);
        assert!(found(&pool("nfs", "other", None, "/export/vms")).is_empty());
        assert_eq!(found(&pool("nfs", "[fd00::1]", None, "/e")), [5]);
        assert_eq!(found(&pool("cifs", "nas", None, "vms/sub")), [6]);
        assert!(found(&pool("cifs", "nas", None, "vms")).is_empty());
        assert_eq!(found(&pool("glusterfs", "nas", None, "/vol")), [7]);
    }
}
