//! `monitor`: what happens, as it happens.

use super::follow::interrupts;
use super::job;
use super::output::{self, Emphasis, emphasise, printable};
use super::record::{self, Record, text};
use super::session::{Names, Session};
use super::table::{Shown, format_time, show};
use crate::client::{self, Event, ObjectPath, ObjectRef, Properties};
use crate::model::{ErrorKind, Result};
use futures_util::StreamExt;
use serde_json::json;
use std::time::{SystemTime, UNIX_EPOCH};

/// Changes worth a line of their own, by kind of object, with how they are shown. The others (usage,
/// bytes of a job) come often and are in `--json` only.
const CHANGES: &[(&str, &str, Shown)] = &[
    ("pool", "state", Shown::Text),
    ("pool", "autostart", Shown::Flag),
    ("pool", "persistent", Shown::Flag),
    ("pool", "volumes-stale", Shown::Flag),
    ("pool", "last-error", Shown::Error),
    ("pool", "waiting-for", Shown::Text),
    ("pool", "target-path", Shown::Text),
    ("volume", "capacity", Shown::Size),
    ("volume", "format", Shown::Text),
    ("volume", "backing-path", Shown::Text),
    ("volume", "incomplete", Shown::Flag),
    ("volume", "encrypted", Shown::Flag),
    ("volume", "path", Shown::Text),
    ("job", "state", Shown::Text),
    ("job", "error", Shown::Error),
];

/// Prints events until Ctrl-C, or until the connection is lost.
pub(super) async fn run(session: &Session) -> anyhow::Result<()> {
    let mut events = client::events(&session.connection).await?;
    let mut interrupts = interrupts()?;
    let mut monitor = Monitor { session, names: Names::default() };
    monitor.look().await?;
    loop {
        tokio::select! {
            event = events.next() => match event {
                Some(event) => monitor.tell(event).await?,
                None => anyhow::bail!("the connection to poold is lost"),
            },
            _ = interrupts.recv() => return Ok(()),
        }
    }
}

struct Monitor<'a> {
    session: &'a Session,
    names: Names,
}

impl Monitor<'_> {
    /// Asks for all objects once, which is what makes the service tell of all changes.
    async fn look(&mut self) -> Result<()> {
        let connection = &self.session.connection;
        for (path, properties) in client::objects(connection, client::POOLS).await? {
            self.names.learn(&path, &properties);
            self.look_into(&properties).await?;
        }
        client::objects(connection, client::JOBS).await.map(drop)
    }

    /// The same for the volumes of a pool.
    async fn look_into(&self, pool: &Properties) -> Result<()> {
        let pool = record::changes(pool);
        match client::objects(&self.session.connection, text(&pool, "volumes")).await {
            // More volumes than fit a message: asking was enough.
            Err(error) if error.kind() == ErrorKind::LimitsExceeded => Ok(()),
            // Gone meanwhile.
            Err(error) if error.kind() == ErrorKind::UnknownObject => Ok(()),
            result => result.map(drop),
        }
    }

    async fn tell(&mut self, event: Event) -> anyhow::Result<()> {
        match event {
            Event::Added(path, properties) => {
                if let Some(ObjectRef::Pool(_)) = ObjectRef::parse(path.as_str()) {
                    self.names.learn(&path, &properties);
                    self.look_into(&properties).await?;
                }
                self.print("added", &path, record::changes(&properties))
            }
            Event::Removed(path) => self.print("removed", &path, Record::new()),
            Event::Changed(path, properties) => {
                self.print("changed", &path, record::changes(&properties))
            }
            Event::Left => self.print_service("stopped"),
            Event::Returned => {
                self.print_service("started")?;
                Ok(self.look().await?)
            }
        }
    }

    fn print(&self, event: &str, path: &ObjectPath, values: Record) -> anyhow::Result<()> {
        let kind = match ObjectRef::parse(path.as_str()) {
            Some(ObjectRef::Pool(_)) => "pool",
            Some(ObjectRef::Volume(..)) => "volume",
            Some(ObjectRef::Job(_)) => "job",
            _ => return Ok(()),
        };
        let name = self.names.show(path.as_str());
        if self.session.global.json {
            let line = json!({
                "time": now(), "event": event, "kind": kind, "name": name,
                "object": path.as_str(), "properties": values,
            });
            return output::print_json(&line, false);
        }
        let what = match event {
            "changed" => self.describe_change(kind, &values),
            _ => Some(self.describe(kind, event, &values)),
        };
        let Some(what) = what else { return Ok(()) };
        let emphasis = match event {
            "added" => Emphasis::Active,
            "removed" => Emphasis::Faint,
            _ => Emphasis::None,
        };
        self.line(&format!("{kind} {}: {what}", printable(&name)), emphasis)
    }

    /// What appeared or went, in a few words.
    fn describe(&self, kind: &str, event: &str, values: &Record) -> String {
        let mut words = vec![event.to_owned()];
        let mut word = |key: &str, shown: Shown| {
            words.extend(values.get(key).and_then(|value| show(value, shown, self.session.view())));
        };
        match kind {
            "pool" => {
                word("type", Shown::Text);
                word("state", Shown::Text);
            }
            "volume" => {
                word("format", Shown::Text);
                word("capacity", Shown::Size);
            }
            _ => {
                word("operation", Shown::Text);
                words.extend(job::works_on(values, &self.names).iter().map(|name| printable(name)));
                words.push(text(values, "state").to_owned());
            }
        }
        words.join(" ")
    }

    /// The changes that matter, or none.
    fn describe_change(&self, kind: &str, values: &Record) -> Option<String> {
        let mut parts: Vec<_> = CHANGES
            .iter()
            .filter(|(of, key, _)| *of == kind && values.contains_key(*key))
            .map(|(_, key, shown)| {
                let value = values.get(*key).and_then(|v| show(v, *shown, self.session.view()));
                let value = value.unwrap_or_else(|| "none".to_owned());
                if *key == "state" { value } else { format!("{key} {value}") }
            })
            .collect();
        if kind == "job" {
            parts.extend(job::progress(values));
        }
        (!parts.is_empty()).then(|| parts.join(", "))
    }

    fn print_service(&self, state: &str) -> anyhow::Result<()> {
        if self.session.global.json {
            let line = json!({ "time": now(), "event": state, "kind": "service" });
            return output::print_json(&line, false);
        }
        self.line(&format!("poold {state}"), Emphasis::Heading)
    }

    fn line(&self, text: &str, emphasis: Emphasis) -> anyhow::Result<()> {
        let time = format_time(now());
        let clock = time.split(' ').nth(1).unwrap_or_default();
        let line = emphasise(text, emphasis, self.session.view().colours);
        output::print(&format!("{clock} {line}\n"))
    }
}

/// µs since the epoch.
fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}
