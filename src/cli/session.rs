//! The connection and the global options, as every command needs them.

use super::agent::Agent;
use super::options::Global;
use super::output::{self, Emphasis};
use super::record::{self, Record};
use super::table::{self, Field, View};
use super::values::VolumeRef;
use crate::client::{
    self, Connection, JobProxy, ManagerProxy, ObjectPath, ObjectRef, Options, PoolProxy,
    Properties, VolumeProxy,
};
use crate::model::{Error, ErrorKind, Result, Uuid};
use std::collections::HashMap;
use std::io::IsTerminal;

/// A connected poolctl.
pub(super) struct Session {
    pub(super) connection: Connection,
    pub(super) global: Global,
    /// Whether poold may ask the user.
    ask: bool,
}

impl Session {
    pub(super) async fn open(global: Global) -> Result<Self> {
        let connection = client::connect(global.address.as_deref()).await?;
        let ask = !global.no_ask && std::io::stdin().is_terminal();
        Ok(Self { connection, global, ask })
    }

    /// How values are shown.
    pub(super) fn view(&self) -> View {
        View { bytes: self.global.bytes, colours: output::colours() }
    }

    /// Options of a call that may need authorisation, and the agent that asks for it.
    pub(super) async fn change(&self) -> (Options<'static>, Option<Agent>) {
        let mut options = Options::new();
        if !self.ask {
            options.insert("auth.no_user_interaction", true.into());
            return (options, None);
        }
        // A peer is authorised by its uid alone.
        let agent = if self.connection.is_bus() { Agent::start().await } else { None };
        (options, agent)
    }

    /// The same for a call that starts a job: it returns at once and the job is followed.
    pub(super) async fn start_job(&self) -> (Options<'static>, Option<Agent>) {
        let (mut options, agent) = self.change().await;
        options.insert("wait", 0u64.into());
        (options, agent)
    }

    /// The same with those flags that are set.
    pub(super) async fn start_job_with<const N: usize>(
        &self,
        flags: [(&'static str, bool); N],
    ) -> (Options<'static>, Option<Agent>) {
        let (mut options, agent) = self.start_job().await;
        options.extend(flags.into_iter().filter(|flag| flag.1).map(|(key, _)| (key, true.into())));
        (options, agent)
    }

    /// Prints records as a table or as JSON.
    pub(super) fn show_list(
        &self,
        columns: &[Field],
        rows: Vec<Record>,
        emphasis: impl Fn(&Record) -> Emphasis,
    ) -> anyhow::Result<()> {
        if self.global.json {
            let rows = rows.into_iter().map(serde_json::Value::Object).collect();
            return output::print_json(&serde_json::Value::Array(rows), true);
        }
        output::print(&table::list(columns, &rows, self.view(), emphasis))
    }

    /// Prints one record as lines or as JSON.
    pub(super) fn show_details(&self, lines: &[Field], record: Record) -> anyhow::Result<()> {
        if self.global.json {
            return output::print_json(&record.into(), true);
        }
        output::print(&table::details(lines, &record, self.view()))
    }

    pub(super) async fn manager(&self) -> Result<ManagerProxy<'static>> {
        Ok(ManagerProxy::new(&self.connection).await?)
    }

    /// The pool of that name or uuid.
    pub(super) async fn pool(&self, name: &str) -> Result<PoolProxy<'static>> {
        let path = self.manager().await?.lookup_pool(name, &Options::new()).await?;
        self.pool_at(path).await
    }

    pub(super) async fn pool_at(&self, path: ObjectPath) -> Result<PoolProxy<'static>> {
        Ok(PoolProxy::new(&self.connection, path).await?)
    }

    /// The volume of that name in its pool, or of that path.
    pub(super) async fn volume(&self, volume: &VolumeRef) -> Result<VolumeProxy<'static>> {
        let path = match volume {
            VolumeRef::Path(path) => {
                self.manager().await?.lookup_volume(path, &Options::new()).await?
            }
            VolumeRef::Name { pool, volume } => {
                self.pool(pool).await?.lookup_volume(volume, &Options::new()).await?
            }
        };
        self.volume_at(path).await
    }

    pub(super) async fn volume_at(&self, path: ObjectPath) -> Result<VolumeProxy<'static>> {
        Ok(VolumeProxy::new(&self.connection, path).await?)
    }

    pub(super) async fn job_at(&self, path: ObjectPath) -> Result<JobProxy<'static>> {
        Ok(JobProxy::new(&self.connection, path).await?)
    }

    /// All properties of an object of ours.
    pub(super) async fn properties(&self, path: &ObjectPath) -> Result<Properties> {
        let interface = match ObjectRef::parse(path.as_str()) {
            Some(ObjectRef::Pool(_)) => "org.poold1.Pool",
            Some(ObjectRef::Volume(..)) => "org.poold1.Volume",
            Some(ObjectRef::Job(_)) => "org.poold1.Job",
            Some(ObjectRef::Secret(_)) => "org.poold1.Secret",
            _ => {
                return Err(Error::new(ErrorKind::UnknownObject, format!("no object {path}")));
            }
        };
        client::properties(&self.connection, path, interface).await
    }

    /// The record of an object; a volume's pool is named.
    pub(super) async fn record(&self, path: &ObjectPath) -> Result<Record> {
        let mut record = record::record(path, &self.properties(path).await?);
        if let Some(ObjectRef::Volume(..)) = ObjectRef::parse(path.as_str()) {
            let pool = self.names().await?.show(record::text(&record, "pool"));
            record.insert("pool".to_owned(), pool.into());
        }
        Ok(record)
    }

    /// The names of all pools.
    pub(super) async fn names(&self) -> Result<Names> {
        let mut names = Names::default();
        for (path, properties) in client::objects(&self.connection, client::POOLS).await? {
            names.learn(&path, &properties);
        }
        Ok(names)
    }
}

/// Names of pools by uuid, to show objects by name.
#[derive(Debug, Default)]
pub(super) struct Names(HashMap<Uuid, String>);

impl Names {
    /// Remembers a pool.
    pub(super) fn learn(&mut self, path: &ObjectPath, properties: &Properties) {
        if let Some(ObjectRef::Pool(uuid)) = ObjectRef::parse(path.as_str())
            && let Some(name) = properties.get("Name").map(|name| client::to_json(name))
            && let Some(name) = name.as_str()
        {
            self.0.insert(uuid, name.to_owned());
        }
    }

    /// `POOL`, `POOL/VOLUME`, a job's number, or the path of what has no name.
    pub(super) fn show(&self, path: &str) -> String {
        let pool = |uuid: &Uuid| self.0.get(uuid).cloned().unwrap_or_else(|| uuid.to_string());
        match ObjectRef::parse(path) {
            Some(ObjectRef::Pool(uuid)) => pool(&uuid),
            Some(ObjectRef::Volume(uuid, name)) => format!("{}/{name}", pool(&uuid)),
            Some(ObjectRef::Job(number)) => number.to_string(),
            _ => path.to_owned(),
        }
    }
}
