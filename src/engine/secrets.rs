//! Secrets: what they are for, where their values are kept, and how they are sealed.

use super::Engine;
use super::shared::Shared;
use crate::backend::Secrets;
use crate::host::{Command, Host, Limits};
use crate::model::{
    Error, ErrorKind, Result, SecretDef, SecretDraft, SecretKind, SecretRef, SecretUsage,
    SecretValue, Uuid,
};
use crate::store::{KeptValue, Store};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// What seals values with a key of this host.
const SEALER: &str = "systemd-creds";
/// How long it may take.
const SEALING: Duration = Duration::from_secs(20);

/// A secret that is known; the value of one that is kept is on disk.
#[derive(Debug)]
struct Known {
    def: Arc<SecretDef>,
    value: Option<SecretValue>,
}

/// All secrets of an engine.
#[derive(Debug)]
pub(super) struct SecretTable {
    known: Mutex<BTreeMap<Uuid, Known>>,
    /// Whether values are sealed where that is possible.
    seals: bool,
}

impl SecretTable {
    /// Those that are kept.
    pub(super) fn load(store: &Store, seals: bool) -> Self {
        let known = store.secrets().0.into_iter().map(|def| {
            let def = Arc::new(def);
            (def.uuid, Known { def, value: None })
        });
        Self { known: Mutex::new(known.collect()), seals }
    }

    fn known(&self) -> MutexGuard<'_, BTreeMap<Uuid, Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether some are gone when the daemon ends.
    pub(super) fn any_ephemeral(&self) -> bool {
        self.known().values().any(|known| known.def.ephemeral)
    }

    /// What `draft` means: which secret, and as what.
    fn resolve(&self, draft: SecretDraft) -> Result<SecretDef> {
        let known = self.known();
        let of_usage = draft.usage.as_ref().filter(|usage| **usage != SecretUsage::None);
        let taken =
            of_usage.and_then(|usage| known.values().find(|known| known.def.usage == *usage));
        let uuid = match (draft.uuid, taken) {
            (None, Some(taken)) => taken.def.uuid,
            (Some(uuid), Some(other)) if other.def.uuid != uuid => {
                let (kind, name) = other.def.usage.parts();
                return Err(Error::new(
                    ErrorKind::Conflict,
                    format!(
                        "the {kind} secret {} has the usage name {name:?} already; delete it or choose another",
                        other.def.uuid,
                    ),
                ));
            }
            (Some(uuid), _) => uuid,
            (None, None) => Uuid::new_v4(),
        };
        let before = known.get(&uuid).map(|known| Arc::clone(&known.def));
        let usage = draft.usage.or_else(|| before.as_ref().map(|before| before.usage.clone()));
        Ok(SecretDef {
            uuid,
            usage: usage.unwrap_or(SecretUsage::None),
            description: draft
                .description
                .or_else(|| before.as_ref().and_then(|before| before.description.clone())),
            ephemeral: draft.ephemeral,
            private: draft.private.unwrap_or_else(|| before.is_some_and(|before| before.private)),
        })
    }
}

impl Engine {
    /// The secrets, by uuid, without their values.
    pub fn secrets(&self) -> Vec<Arc<SecretDef>> {
        self.shared.secrets.known().values().map(|known| Arc::clone(&known.def)).collect()
    }

    /// The secret of that uuid.
    pub fn secret(&self, uuid: Uuid) -> Option<Arc<SecretDef>> {
        self.shared.secrets.known().get(&uuid).map(|known| Arc::clone(&known.def))
    }

    /// Whether there is such a secret of that kind.
    pub fn check_secret(&self, secret: &SecretRef, kind: SecretKind) -> Result<()> {
        find(&self.shared.secrets.known(), secret, kind).map(drop)
    }

    /// Keeps a secret, or replaces the value of one that is known; which one.
    pub async fn set_secret(&self, draft: SecretDraft, value: SecretValue) -> Result<Uuid> {
        // One at a time, so that two of one usage cannot both be new.
        let _turn = self.shared.setting_secrets.lock().await;
        let def = Arc::new(self.shared.secrets.resolve(draft)?);
        let uuid = def.uuid;
        let (kept, host) = (Arc::clone(&def), Arc::clone(&self.shared.host));
        let seals = self.shared.secrets.seals;
        let in_memory = def.ephemeral.then(|| value.clone());
        self.shared
            .store(move |store| match kept.ephemeral {
                true => store.remove_secret(uuid),
                false => store.save_secret(&kept, &seal(&*host, seals, uuid, value)),
            })
            .await?;
        self.shared.secrets.known().insert(uuid, Known { def, value: in_memory });
        self.shared.changes.secret(uuid);
        Ok(uuid)
    }

    /// Forgets a secret.
    pub async fn delete_secret(&self, uuid: Uuid) -> Result<()> {
        let _turn = self.shared.setting_secrets.lock().await;
        self.shared.store(move |store| store.remove_secret(uuid)).await?;
        self.shared.secrets.known().remove(&uuid);
        self.shared.changes.secret(uuid);
        Ok(())
    }
}

/// The secret of that uuid, which is for nothing in particular or of that kind, or of that kind and usage name.
fn find<'a>(
    known: &'a BTreeMap<Uuid, Known>,
    secret: &SecretRef,
    kind: SecretKind,
) -> Result<&'a Known> {
    let missing = |what: String| Error::new(ErrorKind::NotFound, format!("{what}; set it first"));
    match secret {
        SecretRef::Uuid(uuid) => {
            let found = known.get(uuid);
            let found = found.ok_or_else(|| missing(format!("there is no secret {uuid}")))?;
            let (is, wanted) = (found.def.usage.parts().0, kind(String::new()).parts().0);
            if found.def.usage != SecretUsage::None && is != wanted {
                let message = format!("secret {uuid} is for {is}, not {wanted}");
                return Err(Error::new(ErrorKind::InvalidArgument, message));
            }
            Ok(found)
        }
        SecretRef::Usage(name) => {
            let usage = kind(name.clone());
            let found = known.values().find(|known| known.def.usage == usage);
            found.ok_or_else(|| {
                let other = known.values().find(|known| known.def.usage.parts().1 == name);
                let other = other.map_or_else(String::new, |other| {
                    format!(", but one for {}", other.def.usage.parts().0)
                });
                missing(format!("there is no secret {name:?} for {}{other}", usage.parts().0))
            })
        }
    }
}

/// Seals a value where that is wanted and possible.
fn seal(host: &dyn Host, seals: bool, uuid: Uuid, value: SecretValue) -> KeptValue {
    if seals && host.find_tool(SEALER).is_some() {
        match credential(host, "encrypt", uuid, &value) {
            Ok(bytes) => return KeptValue { bytes, sealed: true },
            Err(error) => tracing::warn!("secret {uuid} is kept unsealed: {error}"),
        }
    }
    KeptValue { bytes: value, sealed: false }
}

/// Seals or unseals; values pass through pipes alone.
fn credential(host: &dyn Host, what: &str, uuid: Uuid, value: &SecretValue) -> Result<SecretValue> {
    let args = [what.to_owned(), format!("--name=poold-{}", uuid.simple()), "-".into(), "-".into()];
    let command = Command {
        program: SEALER,
        args: args.into_iter().map(Into::into).collect(),
        input: value.bytes().to_vec().into(),
        ..Command::default()
    };
    host.run(&command, &Limits::within(SEALING)).map(|output| SecretValue::new(output.stdout))
}

/// The secrets as operations see them.
pub(super) struct EngineSecrets(pub(super) Arc<Shared>);

impl Secrets for EngineSecrets {
    fn value(&self, secret: &SecretRef, kind: SecretKind) -> Result<SecretValue> {
        let uuid = {
            let known = self.0.secrets.known();
            let found = find(&known, secret, kind)?;
            if let Some(value) = &found.value {
                return Ok(value.clone());
            }
            found.def.uuid
        };
        let kept = self.0.store.secret_value(uuid)?;
        if !kept.sealed {
            return Ok(kept.bytes);
        }
        credential(&*self.0.host, "decrypt", uuid, &kept.bytes).map_err(|error| {
            Error::new(
                ErrorKind::AuthenticationFailed,
                format!("secret {uuid} cannot be unsealed on this host: {error}; set it again"),
            )
        })
    }
}
