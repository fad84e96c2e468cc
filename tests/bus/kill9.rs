//! `kill -9` before each step of each kind of write, and once after the answer; then a restart.
//!
//! A tracer (support/tracer.rs) numbers the system calls by which the unmodified daemon changes anything on disk. Each
//! kind of write is done again and again, and the daemon dies before its first step, its second, and so on, until it
//! lives to answer and dies then. After every death the next call starts it anew, and
//! * what was acknowledged is there; what was not is as before or wholly done, and if as before, can be done now;
//! * what earlier rounds left is as they left it; no definition is damaged, no temporary file is left;
//! * no number of a job was given twice.

use super::support::runner::{Skip, fail, pass};
use super::support::tracer::Tracer;
use super::support::world::{World, eventually, none, with};
use anyhow::{Context, Result, bail, ensure};
use futures_util::StreamExt;
use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use poold::client::PoolProxy;
use poold::model::ErrorKind;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::num::NonZeroUsize;
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};
use zbus::message::Type;
use zbus::{MatchRule, MessageStream};

const MIB: u64 = 1 << 20;

/// A kind of write, done to a pool of the given name.
struct Write<P, A, S> {
    name: &'static str,
    /// What must be there first.
    prepare: P,
    /// The write itself.
    act: A,
    /// What a user can see of it, in words.
    state: S,
    before: &'static str,
    after: &'static str,
}

impl<P, A, S> Write<P, A, S>
where
    P: AsyncFn(&World, &str) -> Result<()>,
    A: AsyncFn(&World, &str) -> Result<()>,
    S: AsyncFn(&World, &str) -> Result<String>,
{
    async fn at_each_step(&self) -> Result<()> {
        let world = World::start().await?;
        world.active_pool("probe").await?;
        let jobs = Jobs::listen(&world).await?;
        let mut left = BTreeMap::new();
        for fatal in 1.. {
            let pool = format!("{}-{fatal}", self.name);
            let (step, outcome, last) = self.die(&world, &pool, fatal).await?;
            let step = format!("{}/{fatal}:{step}", self.name);
            let left_behind = self.check_after(&world, &jobs).await;
            match outcome.and_then(|state| left_behind.map(|()| state)) {
                Ok(state) => {
                    pass("kill9", step);
                    left.insert(pool, state);
                }
                Err(error) => fail("kill9", step, format_args!("{error:#}")),
            }
            if last {
                break;
            }
            ensure!(fatal < 200, "it never ends");
        }
        eventually("jobs were announced", async || Ok(!jobs.seen.lock().unwrap().is_empty()))
            .await?;
        for (pool, state) in left {
            let now = (self.state)(&world, &pool).await?;
            ensure!(now == state, "{pool} was left {state} and is {now}");
        }
        Ok(())
    }

    /// One death. Returns the step before which it came, what it left, and whether the write was answered.
    async fn die(
        &self,
        world: &World,
        pool: &str,
        fatal: usize,
    ) -> Result<(String, Result<String>, bool)> {
        (self.prepare)(world, pool).await.context("preparing")?;
        let found = (self.state)(world, pool).await?;
        ensure!(found == self.before, "prepared to be {}, is {found}", self.before);
        let poold = world.poold().await?;
        let tracer = match Tracer::attach(poold, world.whole(), Some(fatal)) {
            Err(error)
                if error
                    .chain()
                    .any(|cause| matches!(cause.downcast_ref(), Some(Errno::EPERM))) =>
            {
                return Err(Skip("this machine lets nobody trace".into()).into());
            }
            outcome => outcome?,
        };
        let acted = (self.act)(world, pool).await;
        let answered = acted.is_ok();
        match kill(poold, Signal::SIGKILL) {
            Ok(()) | Err(Errno::ESRCH) => {}
            Err(error) => return Err(error.into()),
        }
        world.gone("org.poold1").await?;
        let mut steps = tokio::task::spawn_blocking(|| tracer.steps()).await??;
        let step = match steps.pop() {
            Some(step) if steps.len() + 1 == fatal => step,
            _ => "answered".to_owned(),
        };
        if let (Err(error), "answered") = (&acted, step.as_str()) {
            bail!("{}: it failed without dying: {error:#}", self.name);
        }
        let outcome = self.check(world, pool, answered).await;
        Ok((step.clone(), outcome, step == "answered"))
    }

    async fn check(&self, world: &World, pool: &str, answered: bool) -> Result<String> {
        let found = (self.state)(world, pool).await?;
        ensure!(!answered || found == self.after, "acknowledged, and yet it is {found}");
        // At once, while what the dead one had begun may still be being undone. An error says that it is done already.
        let again = if answered { Ok(()) } else { (self.act)(world, pool).await };
        eventually("what the dead one had begun is undone", async || {
            let journals = std::fs::read_dir(world.data("var/lib/poold/jobs"));
            Ok(journals.map_or(0, Iterator::count) == 0)
        })
        .await?;
        let found = (self.state)(world, pool).await?;
        match again {
            Ok(()) => ensure!(found == self.after, "done again, and yet it is {found}"),
            Err(_) if found == self.after => {}
            Err(why) => {
                ensure!(
                    found == self.before,
                    "{found}, neither {} nor {}",
                    self.before,
                    self.after
                );
                (self.act)(world, pool).await.with_context(|| format!("first {why:#}, then"))?;
                let found = (self.state)(world, pool).await?;
                ensure!(found == self.after, "done again, and yet it is {found}");
            }
        }
        Ok(self.after.to_owned())
    }

    async fn check_after(&self, world: &World, jobs: &Jobs) -> Result<()> {
        let problems = world.manager().await?.problems().await?;
        ensure!(problems.is_empty(), "damaged: {problems:?}");
        no_temporaries(world.whole())?;
        let probe = world.manager().await?.lookup_pool("probe", &none()).await?;
        world.pool(&probe).await?.refresh(&none()).await?;
        jobs.are_numbered_once()
    }
}

/// Nothing hidden or half is left anywhere.
fn no_temporaries(directory: &Path) -> Result<()> {
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let suspect = name.starts_with('.') || name.ends_with('~') || name.contains("tmp");
        ensure!(!suspect, "{} is left", entry.path().display());
        if entry.file_type()?.is_dir() {
            no_temporaries(&entry.path())?;
        }
    }
    Ok(())
}

/// Every job that was ever announced.
struct Jobs {
    seen: Arc<Mutex<Vec<String>>>,
}

impl Jobs {
    async fn listen(world: &World) -> Result<Jobs> {
        let connection = world.connect().await?;
        let rule = MatchRule::builder()
            .msg_type(Type::Signal)
            .path("/org/poold1/jobs")
            .member("InterfacesAdded")
            .build()?;
        let mut stream =
            MessageStream::for_match_rule(rule, &connection, NonZeroUsize::new(1000)).await?;
        let seen = Arc::new(Mutex::new(Vec::new()));
        let into = seen.clone();
        tokio::spawn(async move {
            let _connection = connection;
            while let Some(Ok(message)) = stream.next().await {
                let body = message.body();
                let fields = body.deserialize::<zbus::wire::Structure<'_>>();
                if let Ok([zbus::Variant::ObjectPath(path), ..]) =
                    fields.as_ref().map(|f| f.fields())
                {
                    into.lock().unwrap().push(path.to_string());
                }
            }
        });
        Ok(Jobs { seen })
    }

    fn are_numbered_once(&self) -> Result<()> {
        let mut once = HashSet::new();
        let seen = self.seen.lock().unwrap();
        match seen.iter().find(|path| !once.insert((*path).clone())) {
            Some(path) => bail!("{path} was announced twice"),
            None => Ok(()),
        }
    }
}

// What a user can see.

async fn pool_of(world: &World, name: &str) -> Result<PoolProxy<'static>> {
    let path = world.manager().await?.lookup_pool(name, &none()).await?;
    world.pool(&path).await
}

/// inactive, active ..., or absent.
async fn pool_state(world: &World, name: &str) -> Result<String> {
    match pool_of(world, name).await {
        Ok(pool) => Ok(pool.state().await?),
        Err(error) => match error.downcast_ref::<poold::model::Error>() {
            Some(missing) if missing.kind() == ErrorKind::NotFound => Ok("absent".into()),
            _ => Err(error),
        },
    }
}

async fn mark(world: &World, name: &str) -> Result<String> {
    let marked = pool_of(world, name).await?.autostart().await?;
    Ok(if marked { "marked" } else { "unmarked" }.into())
}

/// Whether the pool's directory is there and used only as far as the service knows.
async fn directory(world: &World, name: &str) -> Result<String> {
    ensure!(pool_state(world, name).await? == "inactive");
    Ok(if world.pools().join(name).exists() { "there" } else { "absent" }.into())
}

/// Format, capacity and source of the format; the image on disk must be that, by qemu-img's word.
async fn volume(world: &World, name: &str) -> Result<String> {
    let pool = pool_of(world, name).await?;
    let file = world.pools().join(name).join("disk");
    let path = match pool.lookup_volume("disk", &none()).await {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            ensure!(!file.exists(), "there is a file that is no volume");
            return Ok("absent".into());
        }
        outcome => outcome?,
    };
    let volume = world.volume(&path).await?;
    let (format, capacity) = (volume.format().await?, volume.capacity().await?);
    let source = volume.format_source().await?;
    let info = Command::new("qemu-img")
        .args(["info", "--output=json", "-f", &format])
        .arg(&file)
        .output()
        .context("qemu-img")?;
    let info: serde_json::Value = serde_json::from_slice(&info.stdout).with_context(|| {
        format!("qemu-img cannot read it: {}", String::from_utf8_lossy(&info.stderr))
    })?;
    ensure!(info["virtual-size"] == capacity, "qemu-img says {}", info["virtual-size"]);
    if format == "qcow2" {
        let check =
            Command::new("qemu-img").args(["check", "-q", "-f", "qcow2"]).arg(&file).output()?;
        ensure!(
            check.status.success(),
            "qemu-img check: {}",
            String::from_utf8_lossy(&check.stdout)
        );
    }
    ensure!(!volume.incomplete().await?, "it is marked incomplete");
    Ok(format!("{format} {capacity} {source}"))
}

// What must be there first.

async fn nothing(_: &World, _: &str) -> Result<()> {
    Ok(())
}

async fn defined(world: &World, name: &str) -> Result<()> {
    world.manager().await?.define_pool_xml(&world.pool_xml(name), &none()).await?;
    Ok(())
}

async fn built(world: &World, name: &str) -> Result<()> {
    defined(world, name).await?;
    pool_of(world, name).await?.build(&none()).await?;
    Ok(())
}

async fn active(world: &World, name: &str) -> Result<()> {
    world.active_pool(name).await?;
    Ok(())
}

async fn create(world: &World, name: &str, options: &[(&'static str, &'static str)]) -> Result<()> {
    let options: HashMap<_, _> =
        options.iter().map(|(key, value)| (*key, (*value).into())).collect();
    pool_of(world, name).await?.create_volume("disk", MIB, &options).await?;
    Ok(())
}

async fn with_volume(world: &World, name: &str, format: &'static str) -> Result<()> {
    active(world, name).await?;
    create(world, name, &[("format", format)]).await
}

async fn resize(world: &World, name: &str) -> Result<()> {
    let path = pool_of(world, name).await?.lookup_volume("disk", &none()).await?;
    world.volume(&path).await?.resize(2 * MIB, &none()).await?;
    Ok(())
}

// The kinds of write.

pub async fn define() -> Result<()> {
    let (name, prepare, act, state) = ("define", nothing, defined, pool_state);
    Write { name, prepare, act, state, before: "absent", after: "inactive" }.at_each_step().await
}

pub async fn redefine() -> Result<()> {
    let marked = |world: &World, name: &str| {
        let permissions = "<permissions><mode>0750</mode></permissions></target>";
        world.pool_xml(name).replace("</target>", permissions)
    };
    let act = async |world: &World, name: &str| {
        // Another definition of the same pool has its uuid.
        let uuid = format!("<uuid>{}</uuid><target>", pool_of(world, name).await?.uuid().await?);
        let xml = marked(world, name).replace("<target>", &uuid);
        world.manager().await?.define_pool_xml(&xml, &none()).await?;
        Ok(())
    };
    let state = async |world: &World, name: &str| {
        let xml = pool_of(world, name).await?.get_xml(&with("inactive", true)).await?;
        Ok(if xml.contains("<mode>0750</mode>") { "new" } else { "old" }.into())
    };
    let (name, prepare) = ("redefine", defined);
    Write { name, prepare, act, state, before: "old", after: "new" }.at_each_step().await
}

pub async fn undefine() -> Result<()> {
    let prepare = async |world: &World, name: &str| {
        defined(world, name).await?;
        Ok(pool_of(world, name).await?.set_autostart(true, &none()).await?)
    };
    let act =
        async |world: &World, name: &str| Ok(pool_of(world, name).await?.undefine(&none()).await?);
    let (name, state) = ("undefine", pool_state);
    Write { name, prepare, act, state, before: "inactive", after: "absent" }.at_each_step().await
}

pub async fn set_autostart() -> Result<()> {
    let act = async |world: &World, name: &str| {
        Ok(pool_of(world, name).await?.set_autostart(true, &none()).await?)
    };
    let (name, prepare, state) = ("set-autostart", defined, mark);
    Write { name, prepare, act, state, before: "unmarked", after: "marked" }.at_each_step().await
}

pub async fn clear_autostart() -> Result<()> {
    let prepare = async |world: &World, name: &str| {
        defined(world, name).await?;
        Ok(pool_of(world, name).await?.set_autostart(true, &none()).await?)
    };
    let act = async |world: &World, name: &str| {
        Ok(pool_of(world, name).await?.set_autostart(false, &none()).await?)
    };
    let (name, state) = ("clear-autostart", mark);
    Write { name, prepare, act, state, before: "marked", after: "unmarked" }.at_each_step().await
}

pub async fn build() -> Result<()> {
    let act = async |world: &World, name: &str| {
        pool_of(world, name).await?.build(&none()).await?;
        Ok(())
    };
    let (name, prepare, state) = ("build", defined, directory);
    Write { name, prepare, act, state, before: "absent", after: "there" }.at_each_step().await
}

pub async fn start() -> Result<()> {
    let act = async |world: &World, name: &str| {
        pool_of(world, name).await?.start(&none()).await?;
        Ok(())
    };
    let (name, prepare, state) = ("start", built, pool_state);
    Write { name, prepare, act, state, before: "inactive", after: "active" }.at_each_step().await
}

pub async fn stop() -> Result<()> {
    let act = async |world: &World, name: &str| {
        pool_of(world, name).await?.stop(&none()).await?;
        Ok(())
    };
    let (name, prepare, state) = ("stop", active, pool_state);
    Write { name, prepare, act, state, before: "active", after: "inactive" }.at_each_step().await
}

pub async fn create_raw() -> Result<()> {
    let act = async |world: &World, name: &str| create(world, name, &[]).await;
    let (name, prepare, state) = ("create-raw", active, volume);
    Write { name, prepare, act, state, before: "absent", after: "raw 1048576 declared" }
        .at_each_step()
        .await
}

pub async fn create_allocated_raw() -> Result<()> {
    let act =
        async |world: &World, name: &str| create(world, name, &[("preallocation", "full")]).await;
    let (name, prepare, state) = ("create-allocated-raw", active, volume);
    Write { name, prepare, act, state, before: "absent", after: "raw 1048576 declared" }
        .at_each_step()
        .await
}

pub async fn create_qcow2() -> Result<()> {
    let act = async |world: &World, name: &str| create(world, name, &[("format", "qcow2")]).await;
    let (name, prepare, state) = ("create-qcow2", active, volume);
    Write { name, prepare, act, state, before: "absent", after: "qcow2 1048576 declared" }
        .at_each_step()
        .await
}

pub async fn resize_raw() -> Result<()> {
    let prepare = async |world: &World, name: &str| with_volume(world, name, "raw").await;
    let (before, after) = ("raw 1048576 declared", "raw 2097152 declared");
    Write { name: "resize-raw", prepare, act: resize, state: volume, before, after }
        .at_each_step()
        .await
}

pub async fn resize_qcow2() -> Result<()> {
    let prepare = async |world: &World, name: &str| with_volume(world, name, "qcow2").await;
    let (before, after) = ("qcow2 1048576 declared", "qcow2 2097152 declared");
    Write { name: "resize-qcow2", prepare, act: resize, state: volume, before, after }
        .at_each_step()
        .await
}

pub async fn delete_volume() -> Result<()> {
    let prepare = async |world: &World, name: &str| with_volume(world, name, "qcow2").await;
    let act = async |world: &World, name: &str| {
        let path = pool_of(world, name).await?.lookup_volume("disk", &none()).await?;
        world.volume(&path).await?.delete(&none()).await?;
        Ok(())
    };
    let (name, state) = ("delete-volume", volume);
    Write { name, prepare, act, state, before: "qcow2 1048576 declared", after: "absent" }
        .at_each_step()
        .await
}

pub async fn delete_pool() -> Result<()> {
    let act = async |world: &World, name: &str| {
        pool_of(world, name).await?.delete(&none()).await?;
        Ok(())
    };
    let (name, prepare, state) = ("delete-pool", built, directory);
    Write { name, prepare, act, state, before: "there", after: "absent" }.at_each_step().await
}
