//! The file by which mount.cifs gets a user's password: root's alone, and gone when it is dropped.

use crate::backend::OpContext;
use crate::model::{Auth, Error, ErrorKind, PoolDef, Result, SecretUsage};
use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// Longest password that mount.cifs takes.
const LONGEST: usize = 512;

/// The file.
#[derive(Debug)]
pub(super) struct CredentialsFile(PathBuf);

impl CredentialsFile {
    /// Writes that of a pool.
    pub(super) fn write(pool: &PoolDef, auth: &Auth, ctx: &OpContext) -> Result<Self> {
        let ours = |error: Error| error.context(format_args!("pool {}", pool.name));
        let (username, secret) = auth.parts();
        let value = ctx.secrets.value(secret, SecretUsage::Cifs).map_err(ours)?;
        let content = content(username, value.bytes()).map_err(ours)?;
        let path = ctx.private.join(format!("cifs-{}", pool.uuid));
        let failed = |error: std::io::Error| {
            let what =
                format_args!("pool {}: cannot write its credentials for mount.cifs", pool.name);
            Error::io(what, &error)
        };
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(failed(error));
            }
            _ => {}
        }
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
        let mut file = file.map_err(failed)?;
        // From here on it goes away, whatever happens.
        let kept = Self(path);
        file.write_all(&content).map_err(failed)?;
        Ok(kept)
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for CredentialsFile {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_file(&self.0) {
            tracing::error!("cannot remove {}: {error}", self.0.display());
        }
    }
}

/// What mount.cifs reads (mount.cifs(8), `credentials`): a value goes to the end of its line.
fn content(username: &str, password: &[u8]) -> Result<Zeroizing<Vec<u8>>> {
    let refused = |what: &str| Err(Error::new(ErrorKind::InvalidArgument, what.to_owned()));
    // It takes what follows for a password.
    if username.contains('%') || username.chars().any(char::is_control) {
        return refused("a CIFS user's name has neither % nor control characters");
    }
    if password.iter().any(|byte| matches!(byte, b'\n' | b'\r' | 0)) {
        return refused(
            "the secret has a line break or zero byte, which mount.cifs does not take; set it again",
        );
    }
    if password.len() > LONGEST {
        return refused("the secret is longer than mount.cifs takes (512 bytes); set another");
    }
    let (domain, user) = match username.split_once('\\') {
        Some((domain, user)) => (Some(domain), user),
        None => (None, username),
    };
    let mut content = Zeroizing::new(Vec::with_capacity(64 + username.len() + password.len()));
    content.extend_from_slice(format!("username={user}\n").as_bytes());
    if let Some(domain) = domain {
        content.extend_from_slice(format!("domain={domain}\n").as_bytes());
    }
    content.extend_from_slice(b"password=");
    content.extend_from_slice(password);
    content.push(b'\n');
    Ok(content)
}

#[cfg(test)]
mod tests {
    use super::super::super::tests::fixture::{World, context, definition};
    use super::*;
    use crate::model::{PoolType, SecretRef, SecretValue};
    use std::os::unix::fs::PermissionsExt;
    use std::sync::Arc;

    #[test]
    fn a_password_is_a_line_of_its_own_whatever_it_is_made_of() {
        let of = |user, password: &[u8]| content(user, password).map(|content| content.to_vec());
        assert_eq!(of("alice", b"a,b=c %\\ d").unwrap(), b"username=alice\npassword=a,b=c %\\ d\n");
        assert_eq!(of("DOM\\alice", b"x").unwrap(), b"username=alice\ndomain=DOM\npassword=x\n");
        for (user, password) in [
            ("alice", &b"a\nusername=root"[..]),
            ("alice", b"a\0"),
            ("alice", &[b'x'; 513]),
            ("alice%x", b"a"),
            ("alice\nsec=none", b"a"),
        ] {
            assert_eq!(of(user, password).unwrap_err().kind(), ErrorKind::InvalidArgument);
        }
    }

    #[test]
    fn the_file_is_roots_alone_and_goes_away() {
        let world = Arc::new(World::default());
        world.secrets.lock().unwrap().insert("nas".into(), SecretValue::new(b"word".to_vec()));
        let dir = tempfile::tempdir().unwrap();
        let ctx = OpContext { private: dir.path().into(), ..context(&world) };
        let pool = definition(PoolType::NetFs, Path::new("/srv/share"));
        let auth = |usage: &str| Auth::Cifs {
            username: "alice".to_owned(),
            secret: SecretRef::Usage(usage.to_owned()),
        };
        // One that a daemon left that died is replaced.
        std::fs::write(dir.path().join(format!("cifs-{}", pool.uuid)), "old").unwrap();
        let file = CredentialsFile::write(&pool, &auth("nas"), &ctx).unwrap();
        let metadata = file.path().metadata().unwrap();
        assert_eq!(metadata.permissions().mode() & 0o777, 0o600);
        assert!(std::fs::read_to_string(file.path()).unwrap().contains("password=word"));
        drop(file);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
        let error = CredentialsFile::write(&pool, &auth("other"), &ctx).map(drop).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound);
    }
}
