//! Secrets: what each is for, and its value, sealed or readable by root alone.

use super::runtime::to_json;
use super::{Problem, Store, atomic};
use crate::model::{Error, ErrorKind, Result, SecretDef, SecretUsage, SecretValue, Uuid};
use serde::{Deserialize, Serialize};
use zeroize::Zeroize;

/// How the file of a secret ends.
const SUFFIX: &str = ".json";
/// Largest file: a value of 64 KiB, sealed and in hexadecimal, and what is said of it.
const LIMIT: u64 = 1 << 20;

/// A value as it is kept.
#[derive(Debug, Clone)]
pub struct KeptValue {
    /// The value, or what sealing made of it.
    pub bytes: SecretValue,
    /// Whether it has to be unsealed.
    pub sealed: bool,
}

/// The file of a secret.
#[derive(Serialize, Deserialize)]
struct File {
    uuid: Uuid,
    usage_type: String,
    usage_name: String,
    description: Option<String>,
    private: bool,
    sealed: bool,
    /// In hexadecimal.
    value: String,
}

impl Drop for File {
    fn drop(&mut self) {
        self.value.zeroize();
    }
}

impl Store {
    /// What is kept, without values, and the files that cannot be read.
    pub fn secrets(&self) -> (Vec<SecretDef>, Vec<Problem>) {
        let dir = &self.layout.secrets;
        let files = match atomic::names(dir) {
            Ok(files) => files,
            Err(error) => return (Vec::new(), vec![Problem::from_error(dir.clone(), &error)]),
        };
        let (mut secrets, mut problems) = (Vec::new(), Vec::new());
        for name in files {
            let Some(uuid) = name.strip_suffix(SUFFIX).and_then(|uuid| uuid.parse().ok()) else {
                continue;
            };
            match self.read_secret(uuid).and_then(|file| definition(&file)) {
                Ok(def) => secrets.push(def),
                Err(error) => problems.push(Problem::from_error(dir.join(&name), &error)),
            }
        }
        (secrets, problems)
    }

    /// Keeps a secret, instead of what was kept of it; durable when it returns.
    pub fn save_secret(&self, def: &SecretDef, value: &KeptValue) -> Result<()> {
        let (usage_type, usage_name) = def.usage.parts();
        let file = File {
            uuid: def.uuid,
            usage_type: usage_type.to_owned(),
            usage_name: usage_name.to_owned(),
            description: def.description.clone(),
            private: def.private,
            sealed: value.sealed,
            value: hex(value.bytes.bytes()),
        };
        let bytes = zeroize::Zeroizing::new(to_json(&file)?);
        let name = format!("{}{SUFFIX}", def.uuid);
        self.layout.writing(|| atomic::write(&self.layout.secrets, &name, &bytes))
    }

    /// The value of a secret.
    pub fn secret_value(&self, uuid: Uuid) -> Result<KeptValue> {
        let file = self.read_secret(uuid)?;
        let damaged =
            || Error::new(ErrorKind::Failed, format!("secret {uuid}: its file is damaged"));
        let bytes = unhex(&file.value).ok_or_else(damaged)?;
        Ok(KeptValue { bytes: SecretValue::new(bytes), sealed: file.sealed })
    }

    /// Forgets a secret for good, if it is kept.
    pub fn remove_secret(&self, uuid: Uuid) -> Result<()> {
        atomic::remove(&self.layout.secrets, &format!("{uuid}{SUFFIX}")).map(drop)
    }

    fn read_secret(&self, uuid: Uuid) -> Result<File> {
        let path = self.layout.secrets.join(format!("{uuid}{SUFFIX}"));
        let text = zeroize::Zeroizing::new(atomic::read(&path, LIMIT)?);
        // What is wrong may quote what it read.
        let damaged = |error: serde_json::Error| {
            let message = format!("it is no file of a secret (line {})", error.line());
            Error::new(ErrorKind::InvalidArgument, message)
        };
        let file: File = serde_json::from_str(&text).map_err(damaged)?;
        match file.uuid == uuid {
            true => Ok(file),
            false => {
                Err(Error::new(ErrorKind::InvalidArgument, "it is the file of another secret"))
            }
        }
    }
}

fn definition(file: &File) -> Result<SecretDef> {
    Ok(SecretDef {
        uuid: file.uuid,
        usage: SecretUsage::from_parts(&file.usage_type, &file.usage_name)?,
        description: file.description.clone(),
        ephemeral: false,
        private: file.private,
    })
}

fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |nibble: u8| char::from(DIGITS[usize::from(nibble)]);
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        text.push(digit(byte >> 4));
        text.push(digit(byte & 15));
    }
    text
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let digits = text.as_bytes();
    let digit = |byte: u8| char::from(byte).to_digit(16).map(|digit| digit as u8);
    let pair = |pair: &[u8]| Some(digit(pair[0])? << 4 | digit(pair[1])?);
    digits.len().is_multiple_of(2).then(|| digits.chunks_exact(2).map(pair).collect())?
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn secrets_survive_and_only_root_reads_them() {
        let root = tempfile::tempdir().unwrap();
        let store = Store::open(root.path()).unwrap();
        let def = SecretDef {
            uuid: Uuid::from_u128(5),
            usage: SecretUsage::Volume("disk".to_owned()),
            description: Some("of a disk".to_owned()),
            ephemeral: false,
            private: false,
        };
        let bytes = SecretValue::new(b"a,\0\n\xff".to_vec());
        store.save_secret(&def, &KeptValue { bytes: bytes.clone(), sealed: true }).unwrap();
        let store = Store::open(root.path()).unwrap();
        assert_eq!(store.secrets().0, [def]);
        let kept = store.secret_value(Uuid::from_u128(5)).unwrap();
        assert!(kept.sealed && kept.bytes == bytes);
        let dir = root.path().join("var/lib/poold/secrets");
        let file = std::fs::read_dir(&dir).unwrap().next().unwrap().unwrap();
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(dir.metadata().unwrap().permissions().mode() & 0o777, 0o700);
        std::fs::write(file.path(), "{\"value\": 7}").unwrap();
        let (found, problems) = store.secrets();
        assert_eq!((found.len(), problems.len()), (0, 1));
        store.remove_secret(Uuid::from_u128(5)).unwrap();
        assert_eq!(std::fs::read_dir(&dir).unwrap().count(), 0);
    }
}
