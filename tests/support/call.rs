//! Raw calls: any object, interface, member and arguments, with the flags and the answer as they travel.

use anyhow::{Result, anyhow};
use futures_util::StreamExt;
use serde::Serialize;
use std::time::Duration;
use zbus::message::{Flags, Type};
use zbus::wire::DynamicType;
use zbus::{Connection, Message, MessageStream};

/// Longest wait for an answer; D-Bus clients give up after 25 s, and so does this one, a little later.
pub const PATIENCE: Duration = Duration::from_secs(40);

/// What came back.
#[derive(Debug)]
pub enum Answer {
    Reply(Message),
    Error { name: String, text: String },
}

impl Answer {
    /// The error's name, or "" for a reply.
    pub fn error(&self) -> &str {
        match self {
            Answer::Reply(_) => "",
            Answer::Error { name, .. } => name,
        }
    }

    /// Whether it says that the caller may not do this.
    pub fn is_refusal(&self) -> bool {
        matches!(
            self.error(),
            "org.freedesktop.DBus.Error.AccessDenied"
                | "org.freedesktop.DBus.Error.InteractiveAuthorizationRequired"
        )
    }
}

/// Whether polkit may ask the user.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ask {
    Never,
    Interactively,
}

/// A method of poold.
#[derive(Debug, Clone, Copy)]
pub struct Method<'a> {
    pub path: &'a str,
    pub interface: &'a str,
    pub member: &'a str,
}

/// Calls it and waits for the answer.
pub async fn call<B>(from: &Connection, method: Method<'_>, body: &B, ask: Ask) -> Result<Answer>
where
    B: Serialize + DynamicType,
{
    let peer = from.unique_name().is_none();
    let mut message = Message::method_call(method.path, method.member);
    if !method.interface.is_empty() {
        message = message.interface(method.interface);
    }
    if !peer {
        message = message.destination("org.poold1");
    }
    if ask == Ask::Interactively {
        message = message.with_flags(Flags::ALLOW_INTERACTIVE_AUTH);
    }
    let message = message.build(body)?;
    let serial = message.primary_header().serial_num();
    let mut stream = MessageStream::from(from);
    from.send(&message).await?;
    let answer = async {
        while let Some(received) = stream.next().await {
            let received = received?;
            if received.header().reply_serial() == Some(serial) {
                return Ok(received);
            }
        }
        Err(anyhow!("{}: the connection ended", method.member))
    };
    let received = tokio::time::timeout(PATIENCE, answer)
        .await
        .map_err(|_| anyhow!("{} {}: no answer", method.path, method.member))??;
    if received.message_type() != Type::Error {
        return Ok(Answer::Reply(received));
    }
    let name = received.header().error_name().map(ToString::to_string).unwrap_or_default();
    let text = received.body().deserialize::<String>().unwrap_or_default();
    Ok(Answer::Error { name, text })
}
