//! One cell: a daemon of its own with a pool on the server and one that is not, before, while and after the server is dead.

use super::super::poolctl::done;
use super::super::support::others::{Latency, Others};
use super::super::support::world::{World, eventually, none, volume_names, with};
use super::Moment;
use super::servers::Served;
use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use poold::client::{JobProxy, PoolProxy};
use std::io::Write;
use std::sync::mpsc::{Sender, channel};
use std::time::Duration;
use tokio::sync::Mutex;
use zbus::OwnedObjectPath;

/// The deadlines of poold are its own; those who wait for the next try need not do so for long.
const CONFIGURATION: &str = "[timeouts]\nretry-first = \"500ms\"\nretry-longest = \"1s\"\n";
/// What a pool promises, twice, as this machine may be busy: a refresh, a start, and an answer of a daemon that starts.
const REFRESH: Duration = Duration::from_secs(2 * 10);
const START: Duration = Duration::from_secs(2 * 30);
const ANSWER: Duration = Duration::from_secs(2 * 5);
/// Bytes that an upload sends before its server dies, and in all.
const BEFORE: usize = 2 << 20;
const ALL: usize = 8 << 20;

/// One cell.
pub(super) struct Cell {
    /// The type, and the name of the pool.
    kind: &'static str,
    /// What the pool waits for before it is started.
    waited_for: &'static str,
    moment: Moment,
    world: World,
    pool: PoolProxy<'static>,
    others: Others,
    /// A volume of the pool, where it has been active.
    volume: Option<String>,
    upload: Option<Upload>,
    /// Calls on the other pool, without and beside a dead server.
    calls: (Latency, Latency),
    seen: Seen,
}

/// What the pool says.
#[derive(Default)]
struct Seen {
    error: String,
    state: String,
    job: String,
    said: String,
}

/// An upload whose client waits in the middle.
struct Upload {
    job: JobProxy<'static>,
    go: Sender<()>,
    content: Vec<u8>,
}

impl Cell {
    /// A pool that is as it should be when the server dies.
    pub(super) async fn prepare<S: Served>(
        server: &S,
        moment: Moment,
        quiet: &Mutex<()>,
    ) -> Result<Self> {
        let world = match server.network() {
            None => World::start_with(CONFIGURATION).await?,
            Some(process) => World::start_in_network_of(process, CONFIGURATION).await?,
        };
        server.equip(&world).await?;
        let pool = world.define(&server.document()).await?;
        let mut volume = None;
        if moment != Moment::Start {
            pool.start(&with("wait", u64::MAX)).await?;
            volume = Some(server.volume(&pool, moment).await?);
        }
        let others = Others::beside(&world, &pool).await?;
        let without = {
            let _quiet = quiet.lock().await;
            others.a_thousand_calls().await?
        };
        let upload = match &volume {
            Some(volume) if moment == Moment::Job => {
                Some(Upload::begin(&world, &pool, volume).await?)
            }
            _ => None,
        };
        let (calls, seen) = ((without, without), Seen::default());
        Ok(Self {
            kind: S::TYPE,
            waited_for: S::WAITED_FOR,
            moment,
            world,
            pool,
            others,
            volume,
            upload,
            calls,
            seen,
        })
    }

    /// What it says while the server is dead.
    pub(super) async fn broken(&mut self, quiet: &Mutex<()>) -> Result<()> {
        let no_wait = with("wait", 0_u64);
        let manager = self.world.manager().await?;
        let job = match self.moment {
            Moment::Start => {
                self.pool.set_autostart(true, &none()).await?;
                let jobs = manager.autostart(&no_wait).await?;
                Some((jobs.into_iter().next().context("nothing is started")?, START))
            }
            Moment::Active => Some((self.pool.refresh(&no_wait).await?, REFRESH)),
            Moment::Job => {
                self.upload.as_ref().context("no upload")?.go.send(())?;
                None
            }
            Moment::Daemon => {
                self.world.end(Signal::SIGKILL).await?;
                let answer = tokio::time::timeout(ANSWER, manager.version()).await;
                answer.context("the daemon that starts does not answer")??;
                None
            }
        };
        self.calls.1 = {
            let _quiet = quiet.lock().await;
            self.others.a_thousand_calls().await?
        };
        let refused = match job {
            Some((job, within)) => Some(self.refused(job, within).await?),
            None => None,
        };
        let expected = if self.moment == Moment::Start { "inactive" } else { "inaccessible" };
        // While it is tried again it is starting.
        let trying = |state: &str| self.moment == Moment::Start && state == "starting";
        eventually("the pool says that it is dead", async || {
            let state = self.pool.state().await?;
            Ok(state == expected || trying(&state))
        })
        .await?;
        if self.moment == Moment::Start {
            eventually("it says what it waits for", async || {
                let waits = self.pool.waiting_for().await? == self.waited_for;
                Ok(waits && self.pool.next_try().await? > 0)
            })
            .await?;
        }
        if let (Some(volume), Moment::Active | Moment::Job) = (&self.volume, self.moment) {
            let known = volume_names(&self.pool).await?;
            ensure!(known.contains(volume), "what was known is shown: {known:?}");
        }
        let (error, said) = match refused {
            Some(refused) => refused,
            None => self.pool.last_error().await?,
        };
        self.seen.error = error.trim_start_matches("org.poold1.Error.").to_owned();
        let data = format!("{}", self.world.data("").display());
        let uuid = self.pool.uuid().await?;
        self.seen.said = plain(&said, &data).replace(&uuid, "UUID");
        self.seen.state = expected.to_owned();
        Ok(())
    }

    /// The error of a job that must fail in time.
    async fn refused(&self, job: OwnedObjectPath, within: Duration) -> Result<(String, String)> {
        let job = JobProxy::new(&self.world.root, job).await?;
        let forever = with("wait", u64::MAX);
        let ended = tokio::time::timeout(within, job.wait(&forever)).await;
        ensure!(ended.context("it is not given up in time")?.is_err(), "it succeeded");
        Ok(job.error().await?)
    }

    /// That it is usable again, when the server is back.
    pub(super) async fn mended(&mut self) -> Result<()> {
        eventually("the pool is active again", async || {
            let active = self.pool.state().await? == "active";
            let well = self.pool.last_error().await?.0.is_empty();
            let waits = !self.pool.waiting_for().await?.is_empty();
            Ok(active && well && !waits && self.pool.next_try().await? == 0)
        })
        .await?;
        self.seen.job = match (self.upload.take(), &self.volume) {
            (Some(upload), Some(volume)) => {
                upload.ended(&self.world, &format!("{}/{volume}", self.kind)).await?
            }
            _ => "-".to_owned(),
        };
        self.pool.refresh(&with("wait", u64::MAX)).await?;
        if let Some(volume) = &self.volume {
            let known = volume_names(&self.pool).await?;
            ensure!(known.contains(volume), "volume {volume} is not there: {known:?}");
        }
        Ok(())
    }

    /// What the table has of it.
    pub(super) fn seen(&self) -> String {
        let Seen { error, state, job, said } = &self.seen;
        format!("{error} | {state} | {job} | {said}")
    }

    /// How many times longer calls took beside a dead server: the median, and the ninety-ninth of a hundred.
    pub(super) fn ratios(&self) -> [f64; 2] {
        let (without, beside) = self.calls;
        [(without.median, beside.median), (without.most, beside.most)]
            .map(|(without, beside)| beside.as_secs_f64() / without.as_secs_f64())
    }

    /// What it came to, in short.
    pub(super) fn note(&self) -> String {
        let Seen { error, state, .. } = &self.seen;
        let (Latency { median, most }, [ratio, most_ratio]) = (self.calls.1, self.ratios());
        format!(
            "{error}, {state}; 1000 calls beside it took {:.1} ms (x {ratio:.2}), 99% at most {:.1} ms (x {most_ratio:.2})",
            median.as_secs_f64() * 1e3,
            most.as_secs_f64() * 1e3
        )
    }

    /// The end of what its daemon wrote.
    pub(super) fn show_log(&self) {
        let log = self.world.bus_directory().join("bus.log");
        let log = std::fs::read_to_string(log).unwrap_or_default();
        let lines: Vec<_> = log.lines().collect();
        lines[lines.len().saturating_sub(20)..].iter().for_each(|line| println!("    log: {line}"));
    }
}

/// A message without what is another one each time: addresses, uuids, times, where the daemon has its data, and what it was
/// that found out first.
pub(in super::super) fn plain(said: &str, data: &str) -> String {
    let said = said.replace(data, "/");
    let first = [
        "a probe of ",
        "a check of ",
        "the refresh of ",
        "reading volumes of ",
        "volume-upload of ",
    ];
    let found = first.iter().find_map(|first| said.strip_prefix(first));
    let said = found.map_or(said.clone(), |rest| format!("... of {rest}"));
    let mut words = Vec::new();
    for word in said.split(' ') {
        if word.parse::<f64>().is_ok() {
            words.push("N".to_owned());
            continue;
        }
        let address = word.split("127.0.0.1:").nth(1);
        let port: Option<String> =
            address.map(|rest| rest.chars().take_while(char::is_ascii_digit).collect());
        words.push(match port {
            Some(port) => word.replace(&format!("127.0.0.1:{port}"), "SERVER"),
            None => word.replace("127.0.0.1", "SERVER"),
        });
    }
    words.join(" ")
}

impl Upload {
    /// Begins one, and has it wait for more.
    async fn begin(world: &World, pool: &PoolProxy<'_>, volume: &str) -> Result<Self> {
        let (reader, mut writer) = std::io::pipe()?;
        let mut content = vec![0; ALL];
        std::io::Read::read_exact(&mut std::fs::File::open("/dev/urandom")?, &mut content)?;
        let path = pool.lookup_volume(volume, &none()).await?;
        let job = world.volume(&path).await?.upload((&reader).into(), &none()).await?;
        drop(reader);
        let (go, gone) = channel();
        let sent = content.clone();
        std::thread::spawn(move || {
            // A pipe that nobody reads any more is the job's affair.
            let begun = writer.write_all(&sent[..BEFORE]);
            if begun.is_ok() && gone.recv().is_ok() {
                let _ = writer.write_all(&sent[BEFORE..]);
            }
        });
        let job = JobProxy::new(&world.root, job).await?;
        eventually("the upload is under way", async || {
            Ok(job.bytes().await? >= u64::try_from(BEFORE)?)
        })
        .await?;
        Ok(Self { job, go, content })
    }

    /// How it ended. What is said to be done must be there.
    async fn ended(self, world: &World, volume: &str) -> Result<String> {
        eventually("the upload ends", async || {
            Ok(!matches!(self.job.state().await?.as_str(), "queued" | "running"))
        })
        .await?;
        let state = self.job.state().await?;
        if state != "done" {
            let (error, _) = self.job.error().await?;
            return Ok(format!("{state} {}", error.trim_start_matches("org.poold1.Error.")));
        }
        let file = world.pools().join("back");
        let download = format!("vol download {volume} {} --length 8M", file.display());
        done(world, &download).await?;
        ensure!(std::fs::read(&file)? == self.content, "it is said to be done, and is not there");
        Ok(state)
    }
}
