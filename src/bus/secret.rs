//! `org.poold1.Secret`, and `Manager.SetSecret`: secrets, never their values.

use super::call::{About, Handlers, Plan, Reply, Request};
use super::exposed::{Exposed, Property};
use super::limits::blocking;
use super::settings::invalid;
use super::table;
use crate::backend::Peer;
use crate::engine::SecretDraft;
use crate::model::{Result, SecretDef, SecretUsage, Uuid};
use crate::path::ObjectRef;
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
    ];

    fn path(&self) -> String {
        ObjectRef::Secret(self.0.uuid).path()
    }
}

/// The handlers.
pub(super) const METHODS: Handlers<Uuid> = &[("Delete", |call| delete(call).boxed())];

async fn delete(call: Request<Uuid>) -> Result<Plan> {
    Ok(Plan::act(About::default(), async move {
        call.core.engine.delete_secret(call.target).await?;
        Ok(Reply::empty())
    }))
}

/// `Manager.SetSecret`. The value is read only when its caller may set it.
pub(super) async fn set(mut call: Request<()>) -> Result<Plan> {
    let source = Peer::source(call.args.take_descriptor(0)?)?;
    let options = &call.options;
    let usage = match (options.text("usage-type"), options.text("usage-name")) {
        (None, None) => None,
        (None, Some(name)) => Some(SecretUsage::from_parts("volume", name)?),
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
    };
    Ok(Plan::act(About::default(), async move {
        let value = blocking(move || source.read_secret(MAX_VALUE, IDLE)).await??;
        let uuid = call.core.engine.set_secret(draft, value).await?;
        Reply::path(ObjectRef::Secret(uuid).path())
    }))
}
