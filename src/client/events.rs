//! What changes at the service, as it happens.

use super::proxies::NAME;
use super::{Properties, Record};
use crate::model::Result;
use futures_util::{Stream, StreamExt, stream};
use std::collections::HashMap;
use zbus::message::{Message, Type};
use zbus::{Connection, MatchRule, MessageStream, OwnedObjectPath};

/// Signals that may wait for a slow reader.
const QUEUE: usize = 4096;

/// Something that changed.
#[derive(Debug)]
pub enum Event {
    /// An object appeared.
    Added(OwnedObjectPath, Properties),
    /// An object is gone.
    Removed(OwnedObjectPath),
    /// Properties of an object have new values.
    Changed(OwnedObjectPath, Properties),
    /// The service left the bus: it had nothing to do, or failed.
    Left,
    /// The service is on the bus again.
    Returned,
}

/// Events from now on. A peer, and a pool with very many changes at once, tells only those who have
/// asked for its objects ([`objects()`](super::objects())) before.
pub async fn events(connection: &Connection) -> Result<impl Stream<Item = Event> + Unpin + use<>> {
    let rule = MatchRule::builder().msg_type(Type::Signal).path_namespace("/org/poold1");
    let rule = if connection.is_bus() { rule.sender(NAME) } else { rule };
    let queue = std::num::NonZeroUsize::new(QUEUE);
    let signals = MessageStream::for_match_rule(rule.build()?, connection, queue).await?;
    let owner = MatchRule::builder()
        .msg_type(Type::Signal)
        .sender("org.freedesktop.DBus")
        .member("NameOwnerChanged")
        .arg(0, NAME)
        .build()?;
    let owner = MessageStream::for_match_rule(owner, connection, None).await?;
    // A closed connection ends both streams, and so the events.
    let messages = stream::select(signals, owner).take_while(|message| {
        let open = message.is_ok();
        async move { open }
    });
    Ok(Box::pin(messages.filter_map(|message| async move { event(&message.ok()?) })))
}

fn event(message: &Message) -> Option<Event> {
    let header = message.header();
    let body = message.body();
    match header.member()?.as_str() {
        "InterfacesAdded" => {
            let (path, mut interfaces): (OwnedObjectPath, HashMap<String, Properties>) =
                body.deserialize().ok()?;
            let own = interfaces.keys().find(|name| name.starts_with(NAME))?.clone();
            Some(Event::Added(path, interfaces.remove(&own)?))
        }
        "InterfacesRemoved" => {
            let (path, _): (OwnedObjectPath, Vec<String>) = body.deserialize().ok()?;
            Some(Event::Removed(path))
        }
        "PropertiesChanged" => {
            let (_, changed, _): (String, Record, Vec<String>) = body.deserialize().ok()?;
            Some(Event::Changed(header.path()?.to_owned().into(), changed))
        }
        "NameOwnerChanged" => {
            let (_, _, new): (String, String, String) = body.deserialize().ok()?;
            Some(if new.is_empty() { Event::Left } else { Event::Returned })
        }
        _ => None,
    }
}
