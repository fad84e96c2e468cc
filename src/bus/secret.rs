//! `org.poold1.Secret`, `Manager.SetSecret` and `SetSecretXml`: secrets, never their values.

use super::call::{About, Handlers, Plan, Reply, Request};
use super::exposed::{Exposed, Property};
use super::limits::blocking;
use super::settings::invalid;
use super::table;
use crate::backend::Peer;
use crate::model::{Error, ErrorKind, Result, SecretDef, SecretDraft, SecretUsage, Uuid};
use crate::path::ObjectRef;
use crate::xml;
use futures_util::FutureExt;
use std::sync::Arc;
use std::time::Duration;

/// Largest value.
const MAX_VALUE: usize = 64 << 10;
/// How long a descriptor may deliver nothing.
const IDLE: Duration = Duration::from_secs(10);

/// A secret as the bus shows it.
#[derive(Clone, PartialEq)]
pub(super) struct SecretView(pub(super) Arc<SecretDef>);

impl Exposed for SecretView {
    const INTERFACE: &'static str = table::SECRET;
    const PROPERTIES: &'static [Property<Self>] = &[
        Property::new("Uuid", |secret| secret.0.uuid.to_string().into()),
        Property::new("UsageType", |secret| secret.0.usage.parts().0.into()),
        Property::new("UsageName", |secret| secret.0.usage.parts().1.into()),
        Property::new("Description", |secret| secret.0.description.as_deref().unwrap_or("").into()),
        Property::new("Ephemeral", |secret| secret.0.ephemeral.into()),
        Property::new("Private", |secret| secret.0.private.into()),
    ];

    fn path(&self) -> String {
        ObjectRef::Secret(self.0.uuid).path()
    }
}

/// The handlers.
pub(super) const METHODS: Handlers<Uuid> =
    &[("Delete", |call| delete(call).boxed()), ("GetXml", |call| get_xml(call).boxed())];

async fn delete(call: Request<Uuid>) -> Result<Plan> {
    Ok(Plan::act(About::default(), async move {
        call.core.engine.delete_secret(call.target).await?;
        Ok(Reply::empty())
    }))
}

async fn get_xml(call: Request<Uuid>) -> Result<Plan> {
    let uuid = call.target;
    let secret =
        call.core.engine.secret(uuid).ok_or_else(|| {
            Error::new(ErrorKind::UnknownObject, format!("secret {uuid} is gone"))
        })?;
    Ok(Plan::answer(Reply::new(xml::write_secret(&secret))))
}

/// `Manager.SetSecret`.
pub(super) async fn set(mut call: Request<()>) -> Result<Plan> {
    let source = Peer::source(call.args.take_descriptor(0)?)?;
    let options = &call.options;
    let usage = match (options.text("usage-type"), options.text("usage-name")) {
        (None, None) => None,
        (None, Some(name)) => Some(usage_named(&call, name)?),
        (Some(kind), name) => Some(SecretUsage::from_parts(kind, name.unwrap_or(""))?),
    };
    let uuid = match options.text("uuid") {
        None => None,
        Some(text) => Some(
            Uuid::try_parse(text)
                .map_err(|_| invalid(format!("option \"uuid\": {text:?} is none")))?,
        ),
    };
    let draft = SecretDraft {
        uuid,
        usage,
        description: options.text("description").map(str::to_owned),
        ephemeral: options.flag("ephemeral"),
        private: None,
    };
    Ok(keep(call, draft, source))
}

/// `Manager.SetSecretXml`.
pub(super) async fn set_xml(mut call: Request<()>) -> Result<Plan> {
    let source = Peer::source(call.args.take_descriptor(0)?)?;
    let text = call.args.text(1)?.to_owned();
    let draft = call.core.parsers.run(call.uid, move || xml::parse_secret(&text)).await?;
    Ok(keep(call, draft, source))
}

/// The usage of that name, which has the type that it had, where it has one, or that of a passphrase.
fn usage_named(call: &Request<()>, name: &str) -> Result<SecretUsage> {
    let known = call.core.engine.secrets();
    let mut named = known
        .iter()
        .map(|known| &known.usage)
        .filter(|usage| usage.parts().1 == name && !name.is_empty());
    match (named.next(), named.next()) {
        (None, _) => SecretUsage::from_parts("volume", name),
        (Some(only), None) => Ok(only.clone()),
        (Some(one), Some(other)) => Err(invalid(format!(
            "secrets for {} and {} have the usage name {name:?}; say which by option \"usage-type\"",
            one.parts().0,
            other.parts().0
        ))),
    }
}

/// Keeps a secret; the value is read only when its caller may set it.
fn keep(call: Request<()>, draft: SecretDraft, source: Peer) -> Plan {
    Plan::act(About::default(), async move {
        let value = blocking(move || source.read_secret(MAX_VALUE, IDLE)).await??;
        let uuid = call.core.engine.set_secret(draft, value).await?;
        Reply::path(ObjectRef::Secret(uuid).path())
    })
}
