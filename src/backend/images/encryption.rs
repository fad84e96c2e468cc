//! Encrypted volumes: their passphrases, and how QEMU is told of them.

use super::Images;
use crate::image::qemu_img::QemuImg;
use crate::model::{
    Encryption, ErrorKind, Result, SecretUsage, SecretValue, Volume, VolumeFormat, VolumeName,
};

/// How a new volume is encrypted, with its passphrase.
pub(in crate::backend) struct Lock {
    /// As it is declared.
    pub(in crate::backend) encryption: Encryption,
    passphrase: SecretValue,
}

impl Images<'_> {
    /// The encryption that a definition asks for.
    pub(in crate::backend) fn lock_of(
        &self,
        name: &VolumeName,
        asked: &Encryption,
    ) -> Result<Lock> {
        let refuse = |kind, what: String| Err(self.pool.volume_error(kind, name, what));
        match asked.format.as_str() {
            "luks" | "default" => {}
            "qcow" => {
                let what = "qcow encryption is broken and QEMU makes it no more; use luks";
                return refuse(ErrorKind::NotSupported, what.to_owned());
            }
            other => {
                let what = format!("there is no encryption {other:?}; there is luks");
                return refuse(ErrorKind::InvalidArgument, what);
            }
        }
        let encryption = Encryption { format: "luks".to_owned(), ..asked.clone() };
        Ok(Lock { passphrase: self.passphrase(name, &encryption)?, encryption })
    }

    /// The passphrase of an encrypted volume.
    fn passphrase(&self, name: &VolumeName, encryption: &Encryption) -> Result<SecretValue> {
        let Some(secret) = encryption.secrets.first() else {
            return Err(self.pool.volume_error(
                ErrorKind::InvalidArgument,
                name,
                "it is encrypted and no secret with its passphrase is stated",
            ));
        };
        let value = self.ctx.secrets.value(secret, SecretUsage::Volume);
        value.map_err(|error| self.pool.of_volume(name, error))
    }

    /// Gives a run of qemu-img the passphrase of a volume that is there, if it is encrypted; the id
    /// for its node.
    pub(in crate::backend) fn unlock(
        &self,
        run: &mut QemuImg,
        volume: &Volume,
    ) -> Result<Option<String>> {
        let encryption = volume.image.as_ref().and_then(|image| image.encryption.as_ref());
        let Some(encryption) = encryption else { return Ok(None) };
        let passphrase = self.passphrase(&volume.name, encryption)?;
        run.secret(&passphrase).map(Some).map_err(|error| self.pool.of_volume(&volume.name, error))
    }
}

impl Lock {
    /// Gives a run of qemu-img the passphrase; the id for its node.
    pub(in crate::backend) fn unlock(&self, run: &mut QemuImg) -> Result<String> {
        run.secret(&self.passphrase)
    }

    /// Gives a run of qemu-img that makes an image of `format` the passphrase and the options.
    pub(in crate::backend) fn apply(
        &self,
        mut run: QemuImg,
        format: VolumeFormat,
    ) -> Result<QemuImg> {
        let id = run.secret(&self.passphrase)?;
        let prefix = if format == VolumeFormat::Luks { "" } else { "encrypt." };
        if format != VolumeFormat::Luks {
            run = run.option("encrypt.format", "luks");
        }
        run = run.option(&format!("{prefix}key-secret"), &id);
        let mut options: Vec<(&str, String)> = Vec::new();
        if let Some((name, size, mode, hash)) = &self.encryption.cipher {
            options.push(("cipher-alg", format!("{name}-{size}")));
            options.extend(mode.clone().map(|mode| ("cipher-mode", mode)));
            options.extend(hash.clone().map(|hash| ("hash-alg", hash)));
        }
        if let Some((name, hash)) = &self.encryption.ivgen {
            options.push(("ivgen-alg", name.clone()));
            options.extend(hash.clone().map(|hash| ("ivgen-hash-alg", hash)));
        }
        Ok(options
            .iter()
            .fold(run, |run, (key, value)| run.option(&format!("{prefix}{key}"), value)))
    }
}
