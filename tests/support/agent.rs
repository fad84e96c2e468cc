//! A polkit authentication agent without a person: says yes, or cancels, and counts what it was asked.

use super::world::World;
use anyhow::{Context, Result};
use futures_util::StreamExt;
use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use zbus::{Connection, Message, MessageStream, Variant};

/// What the person would do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mood {
    /// Types the right password.
    Yes,
    /// Closes the dialog.
    Cancel,
    /// Leaves it open.
    Silent,
}

/// A question: action, and message as shown.
#[derive(Debug, Clone)]
pub struct Question {
    pub action: String,
    pub message: String,
}

/// The agent of one process's questions, on a connection of root's.
pub struct Agent {
    asked: Asked,
    _connection: Connection,
}

const POLKIT: (&str, &str, &str) = (
    "org.freedesktop.PolicyKit1",
    "/org/freedesktop/PolicyKit1/Authority",
    "org.freedesktop.PolicyKit1.Authority",
);

const INTERFACE: &str = "org.freedesktop.PolicyKit1.AuthenticationAgent";

/// What was asked, as the serving task writes it down.
#[derive(Debug, Default)]
struct Notes {
    questions: Vec<Question>,
    cancelled: u32,
}

type Asked = Arc<Mutex<Notes>>;

impl Agent {
    /// Registers for what the process `pid` asks for.
    pub async fn register(world: &World, pid: u32, mood: Mood) -> Result<Agent> {
        let asked = Asked::default();
        let connection = world.connect().await?;
        tokio::spawn(serve(connection.clone(), mood, asked.clone()));
        let subject = HashMap::from([
            ("pid", Variant::from(pid)),
            ("start-time", Variant::from(start_time(pid)?)),
        ]);
        let (name, path, interface) = POLKIT;
        let body = (("unix-process", subject), "C", "/test/agent");
        connection
            .call_method(Some(name), path, Some(interface), "RegisterAuthenticationAgent", &body)
            .await
            .context("polkit refused the agent")?;
        Ok(Agent { asked, _connection: connection })
    }

    /// What it was asked so far.
    pub fn questions(&self) -> Vec<Question> {
        self.asked.lock().unwrap().questions.clone()
    }

    /// How many questions polkit took back.
    pub fn cancelled(&self) -> u32 {
        self.asked.lock().unwrap().cancelled
    }
}

/// When a process started, in clock ticks since boot: field 22 of its stat.
fn start_time(pid: u32) -> Result<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let after_name = stat.rsplit(") ").next().context("odd stat")?;
    Ok(after_name.split(' ').nth(19).context("odd stat")?.parse()?)
}

/// Answers polkit's calls to the agent, each in a task of its own, until the connection ends.
async fn serve(connection: Connection, mood: Mood, asked: Asked) {
    let mut stream = MessageStream::from(&connection);
    while let Some(Ok(message)) = stream.next().await {
        let header = message.header();
        if header.interface().map(|name| name.as_str()) != Some(INTERFACE) {
            continue;
        }
        match header.member().map(|name| name.as_str()) {
            Some("BeginAuthentication") => {
                tokio::spawn(begin(connection.clone(), message.clone(), mood, asked.clone()));
            }
            Some("CancelAuthentication") => {
                asked.lock().unwrap().cancelled += 1;
                let _ = connection.reply(&header, &()).await;
            }
            _ => {}
        }
    }
}

type Identity = (String, HashMap<String, zbus::OwnedVariant>);
type Begin = (String, String, String, HashMap<String, String>, String, Vec<Identity>);

async fn begin(connection: Connection, call: Message, mood: Mood, asked: Asked) -> Result<()> {
    let (action, message, _, _, cookie, identities) = call.body().deserialize::<Begin>()?;
    asked.lock().unwrap().questions.push(Question { action, message });
    match mood {
        Mood::Silent => return Ok(()),
        Mood::Cancel => {
            let cancelled = "org.freedesktop.PolicyKit1.Error.Cancelled";
            return Ok(connection.reply_error(&call.header(), cancelled, &"dismissed").await?);
        }
        Mood::Yes => {}
    }
    let identity = identities.first().context("nobody to authenticate as")?;
    let (name, path, interface) = POLKIT;
    let body = (0_u32, cookie, identity);
    connection
        .call_method(Some(name), path, Some(interface), "AuthenticationAgentResponse2", &body)
        .await?;
    Ok(connection.reply(&call.header(), &()).await?)
}
