//! Whether a secret can be seen: looked for in what others see of the machine while it is used, and afterwards in what is left.
//!
//! Each look must also find something that is known to be there, or it fails: a search that looks in the wrong place finds
//! nothing either.

use super::world::{POOLD, World, none};
use anyhow::{Context, Result, ensure};
use std::collections::BTreeSet;
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime};

/// Where anything on this machine may leave something, beside a world's own directories.
const SHARED: [&str; 5] = ["/tmp", "/var/tmp", "/dev/shm", "/run", "/var/log"];
/// Larger files are images, or none of a program that leaks.
const LARGEST: u64 = 16 << 20;
/// How much memory is looked at at once.
const BLOCK: usize = 1 << 20;
/// Between two looks at all processes.
const PAUSE: Duration = Duration::from_millis(4);

/// A watch over a secret, from before it is used to after.
pub struct Watch {
    secret: String,
    /// Whether there is a variable that it may be in.
    trusted: bool,
    since: SystemTime,
    end: Arc<AtomicBool>,
    seen: Arc<Mutex<Seen>>,
    looking: Option<JoinHandle<()>>,
    /// A process that shows something on purpose.
    decoy: Child,
}

/// What was seen of processes.
#[derive(Default)]
struct Seen {
    looks: usize,
    /// Where the secret was.
    secret: BTreeSet<String>,
    /// Whether it was where it may be.
    trusted: bool,
    /// In what the decoy's word was.
    decoy: BTreeSet<&'static str>,
}

/// What the decoy shows.
const DECOY: &str = "a-word-that-is-there";

impl Watch {
    /// Begins.
    pub fn over(secret: &str) -> Result<Self> {
        Self::begin(secret, None)
    }

    /// Begins; it may be in an environment that is root's alone to read, as the value of a variable, and must be seen there.
    pub fn over_but_in(secret: &str, variable: &'static str) -> Result<Self> {
        Self::begin(secret, Some(variable))
    }

    fn begin(secret: &str, trusted: Option<&'static str>) -> Result<Self> {
        ensure!(secret.len() > 7, "it may be anywhere by chance");
        let decoy = decoy()?;
        let (end, seen) = <(Arc<AtomicBool>, Arc<Mutex<Seen>>)>::default();
        let (value, ended, shared) = (secret.to_owned(), Arc::clone(&end), Arc::clone(&seen));
        let looking = std::thread::spawn(move || {
            while !ended.load(Ordering::Acquire) {
                look(&value, trusted, &mut shared.lock().unwrap());
                std::thread::sleep(PAUSE);
            }
        });
        let since = SystemTime::now() - Duration::from_secs(2);
        let (secret, trusted) = (secret.to_owned(), trusted.is_some());
        let looking = Some(looking);
        Ok(Self { secret, trusted, since, end, seen, looking, decoy })
    }

    /// Whether it was seen by now in the environment that it may be in, where it is for moments only.
    pub fn has_seen_it(&self) -> bool {
        self.seen.lock().unwrap().trusted
    }

    /// Ends, and fails when it was or is to be seen: in arguments or environments, in files that were written meanwhile,
    /// in what the service says of all it has, in its memory, or in `said`, what it answered.
    pub async fn nowhere(mut self, world: &World, said: &[String]) -> Result<()> {
        self.end.store(true, Ordering::Release);
        self.looking.take().context("it ended before")?.join().unwrap();
        let seen = std::mem::take(&mut *self.seen.lock().unwrap());
        ensure!(seen.secret.is_empty(), "it was seen: {:?}", seen.secret);
        let both = seen.decoy.contains("cmdline") && seen.decoy.contains("environ");
        ensure!(seen.looks > 1 && both, "{} looks saw {:?} of the decoy", seen.looks, seen.decoy);
        ensure!(seen.trusted == self.trusted, "{} looks did not see where it may be", seen.looks);
        for text in said {
            ensure!(!text.contains(&self.secret), "it is said: {text}");
        }
        for text in told(world).await? {
            ensure!(!text.contains(&self.secret), "it is told: {text}");
        }
        self.in_no_file(world)?;
        let pid = world.poold().await?.as_raw();
        leaves_no_core(pid)?;
        let root = world.data("").display().to_string();
        let memory = Memory::of(pid)?;
        ensure!(memory.places(root.trim_end_matches('/'))? > 0, "it is not its memory");
        let places = memory.places(&self.secret)?;
        ensure!(places == 0, "it is in {places} places of the service's memory");
        Ok(())
    }

    fn in_no_file(&self, world: &World) -> Result<()> {
        let search = |since| Search { secret: &self.secret, since, files: Vec::new() };
        let (mut ours, mut others) = (search(None), search(Some(self.since)));
        let own = [world.whole(), world.bus_directory()];
        own.iter().try_for_each(|directory| ours.below(directory, &[]))?;
        let names: Vec<_> = ours.files.iter().filter_map(|path| path.file_name()).collect();
        ensure!(names.iter().any(|name| *name == "bus.log"), "no log was looked at");
        let log = std::fs::read_to_string(world.bus_directory().join("bus.log"))?;
        ensure!(log.contains("TRACE") || log.contains("DEBUG"), "the log says little: {log}");
        let places = SHARED.iter().map(PathBuf::from).chain([std::env::temp_dir()]);
        // The tests' own program has it, too, and may have been built there just now.
        let built = Path::new(POOLD).parent().context("an odd path")?;
        let but = [own[0], own[1], built];
        places.into_iter().try_for_each(|place| others.below(&place, &but))
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.end.store(true, Ordering::Release);
        let _ = self.decoy.kill();
        let _ = self.decoy.wait();
    }
}

/// A process that has a word in its arguments and its environment.
fn decoy() -> Result<Child> {
    Ok(Command::new("sleep").arg0(DECOY).arg("infinity").env("DECOY", DECOY).spawn()?)
}

fn has(content: &[u8], text: &str) -> bool {
    String::from_utf8_lossy(content).contains(text)
}

/// One look at the arguments and environments of all processes.
fn look(secret: &str, trusted: Option<&str>, seen: &mut Seen) {
    seen.looks += 1;
    for process in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        for part in ["cmdline", "environ"] {
            // Whose it is, is asked while it is open: the process may end at any moment.
            let Ok(mut file) = File::open(process.path().join(part)) else { continue };
            let mut content = Vec::new();
            if file.read_to_end(&mut content).is_err() || content.is_empty() {
                continue;
            }
            if has(&content, DECOY) {
                seen.decoy.insert(part);
            }
            if !has(&content, secret) {
                continue;
            }
            let roots = file.metadata().is_ok_and(|of| of.uid() == 0 && of.mode() & 0o077 == 0);
            let elsewhere = content.split(|byte| *byte == 0).any(|word| {
                let name =
                    String::from_utf8_lossy(word.split(|byte| *byte == b'=').next().unwrap_or(b""));
                has(word, secret) && Some(&*name) != trusted
            });
            if part == "environ" && roots && !elsewhere {
                seen.trusted = true;
                continue;
            }
            let name = std::fs::read_to_string(process.path().join("comm")).unwrap_or_default();
            seen.secret.insert(format!("{part} of {}", name.trim()));
        }
    }
}

/// A search through files.
struct Search<'a> {
    secret: &'a str,
    /// Only those that were written since then.
    since: Option<SystemTime>,
    /// What was looked at.
    files: Vec<PathBuf>,
}

impl Search<'_> {
    /// Fails when it is in a file below a directory, other than below some. What goes away meanwhile is not there.
    fn below(&mut self, directory: &Path, but: &[&Path]) -> Result<()> {
        for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
            let (path, Ok(metadata)) = (entry.path(), entry.metadata()) else { continue };
            if metadata.is_dir() && !but.contains(&path.as_path()) {
                self.below(&path, but)?;
            }
            let old =
                self.since.is_some_and(|since| metadata.modified().is_ok_and(|at| at < since));
            if !metadata.is_file() || metadata.len() > LARGEST || old {
                continue;
            }
            let content = std::fs::read(&path).unwrap_or_default();
            ensure!(!has(&content, self.secret), "{} has it", path.display());
            self.files.push(path);
        }
        Ok(())
    }
}

/// What the service tells everybody: its objects' properties, and the documents of its pools.
async fn told(world: &World) -> Result<Vec<String>> {
    let mut texts = Vec::new();
    for under in ["/org/poold1/pools", "/org/poold1/jobs", "/org/poold1/secrets"] {
        let objects = poold::client::objects(&world.root, under).await?;
        texts.push(format!("{objects:?}"));
    }
    for path in world.manager().await?.list_pools(&none()).await? {
        let pool = world.pool(&path).await?;
        texts.push(pool.get_xml(&none()).await?);
        if pool.state().await? == "active" {
            texts.push(format!("{:?}", pool.list_volumes("", 0, &none()).await?));
        }
    }
    ensure!(texts.iter().any(|text| text.contains("UsageName")), "no secret is told of");
    Ok(texts)
}

/// That a process, and what it starts, may leave no core: neither as a file nor with a program that is given it.
fn leaves_no_core(pid: i32) -> Result<()> {
    let limits = std::fs::read_to_string(format!("/proc/{pid}/limits"))?;
    let core = limits.lines().find(|line| line.starts_with("Max core file size"));
    let words: Vec<_> = core.context("no limit")?.split_whitespace().skip(4).collect();
    ensure!(words == ["1", "1", "bytes"], "it may leave a core: {words:?}");
    Ok(())
}

/// What a process has in memory that it can change: what a core dump would have.
pub struct Memory {
    memory: File,
    ranges: Vec<(u64, u64)>,
}

impl Memory {
    /// That of a process.
    pub fn of(pid: i32) -> Result<Self> {
        let maps = std::fs::read_to_string(format!("/proc/{pid}/maps"))?;
        let mut ranges = Vec::new();
        for line in maps.lines() {
            let mut words = line.split_whitespace();
            let (Some(range), Some(access)) = (words.next(), words.next()) else { continue };
            if !access.starts_with("rw") {
                continue;
            }
            let (from, to) = range.split_once('-').context("an odd map")?;
            ranges.push((u64::from_str_radix(from, 16)?, u64::from_str_radix(to, 16)?));
        }
        ensure!(ranges.iter().map(|(from, to)| to - from).sum::<u64>() > 1 << 20, "{maps}");
        Ok(Self { memory: File::open(format!("/proc/{pid}/mem"))?, ranges })
    }

    /// In how many places a text is.
    pub fn places(&self, text: &str) -> Result<usize> {
        let mut found = 0;
        let mut block = vec![0; BLOCK];
        for (from, to) in self.ranges.iter().copied() {
            let mut at = from;
            while at < to {
                let length = usize::try_from(to - at)?.min(BLOCK);
                // What was given back meanwhile is not there.
                if self.memory.read_exact_at(&mut block[..length], at).is_ok() {
                    found += String::from_utf8_lossy(&block[..length]).matches(text).count();
                }
                // It may lie across the end of a block.
                let next = if length == BLOCK { length + 1 - text.len() } else { length };
                at += u64::try_from(next)?;
            }
        }
        Ok(found)
    }
}
