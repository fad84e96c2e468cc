//! What the creators of volumes declared: a log for each pool, appended to at every change and
//! rewritten when most of it is out of date.
//!
//! In memory is only where in the file each volume's declaration is, so that 100,000 of them take
//! a few megabytes and a start does not read what nobody asks for.

use super::runtime::to_json;
use super::{Problem, Store, atomic, lock};
use crate::model::{Declaration, Error, Result, Uuid, VolumeName};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap};
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, BufWriter, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// How a log's file ends.
const SUFFIX: &str = ".jsonl";
/// A log with less than this many bytes out of date is not worth rewriting.
const WORTH_REWRITING: u64 = 64 << 10;
/// How long a log that could not be read is left alone.
const PAUSE: Duration = Duration::from_secs(1);

/// The declarations of all pools.
#[derive(Debug)]
pub(super) struct Declarations {
    dir: PathBuf,
    logs: Mutex<HashMap<Uuid, Arc<Mutex<Log>>>>,
    problems: Problems,
}

/// What is wrong with logs, by file; a lock that nobody holds while reading or writing.
type Problems = Arc<Mutex<BTreeMap<PathBuf, String>>>;

/// The log of one pool.
#[derive(Debug)]
struct Log {
    path: PathBuf,
    state: State,
    problems: Problems,
}

#[derive(Debug)]
enum State {
    /// Not read yet, or something failed that makes it worth reading again.
    Unread,
    /// Cannot be read; tried again after a pause, or when somebody writes.
    Unreadable(Instant),
    /// There is no file.
    Absent,
    /// Read.
    Open(OpenLog),
}

#[derive(Debug)]
struct OpenLog {
    file: Arc<File>,
    index: HashMap<VolumeName, Place>,
    /// The last volume that was declared to be the file of this inode number.
    by_inode: HashMap<u64, VolumeName>,
    /// Where the next line goes: behind the last whole one.
    end: u64,
    /// Bytes of lines that say what is so.
    live: u64,
    /// How much must be out of date before it is rewritten.
    rewrite_at: u64,
    /// How many lines make no sense.
    damaged: usize,
}

/// Where a line is in the file, its end of line not counted.
#[derive(Debug, Clone, Copy)]
struct Place {
    offset: u64,
    length: u32,
    /// Of the file that is declared, if it says that.
    inode: Option<u64>,
}

/// What is read of a declaration to find it.
#[derive(Deserialize)]
struct Outline {
    #[serde(default)]
    identity: Option<InodeNumber>,
}

#[derive(Deserialize)]
struct InodeNumber {
    inode: u64,
}

/// A line: declares, or forgets when there is no declaration.
#[derive(Serialize, Deserialize)]
#[serde(bound(deserialize = "D: Deserialize<'de>"))]
struct Line<D> {
    name: VolumeName,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    declaration: Option<D>,
}

impl Store {
    /// What was declared of a volume.
    pub fn declared(&self, pool: Uuid, volume: &VolumeName) -> Option<Declaration> {
        let log = self.declarations.log(pool);
        let mut log = lock(&log);
        log.read_if_needed();
        let State::Open(open) = &log.state else { return None };
        match open.get(volume) {
            Ok(found) => found,
            Err(error) => {
                log.note(Some(format!(
                    "what it declares of volume {volume} cannot be read: {error}"
                )));
                None
            }
        }
    }

    /// What was declared last of a file of this inode number, whatever its name was.
    pub fn declared_of_inode(&self, pool: Uuid, inode: u64) -> Option<Declaration> {
        let log = self.declarations.log(pool);
        let mut log = lock(&log);
        log.read_if_needed();
        let State::Open(open) = &log.state else { return None };
        open.by_inode.get(&inode).and_then(|volume| open.get(volume).ok().flatten())
    }

    /// Whether what was declared of a volume, if anything was, is in what cannot be read.
    pub fn declaration_in_doubt(&self, pool: Uuid, volume: &VolumeName) -> bool {
        let log = self.declarations.log(pool);
        let mut log = lock(&log);
        log.read_if_needed();
        match &log.state {
            State::Open(open) => open.damaged > 0 || open.get(volume).is_err(),
            State::Absent => false,
            State::Unread | State::Unreadable(_) => true,
        }
    }

    /// Declares; durable when it returns.
    pub fn declare(&self, pool: Uuid, volume: &VolumeName, what: &Declaration) -> Result<()> {
        self.append(pool, &Line { name: volume.clone(), declaration: Some(what) })
    }

    /// Forgets what was declared of a volume.
    pub fn forget(&self, pool: Uuid, volume: &VolumeName) -> Result<()> {
        let log = self.declarations.log(pool);
        let known = {
            let mut log = lock(&log);
            log.read_if_needed();
            match &log.state {
                State::Open(open) => open.index.contains_key(volume),
                State::Absent => false,
                State::Unread | State::Unreadable(_) => true,
            }
        };
        if !known {
            return Ok(());
        }
        self.append(pool, &Line::<&Declaration> { name: volume.clone(), declaration: None })
    }

    /// Forgets all of a pool's declarations.
    pub fn forget_pool(&self, pool: Uuid) -> Result<()> {
        let log = self.declarations.log(pool);
        let mut log = lock(&log);
        atomic::remove(&self.declarations.dir, &file_name(pool))?;
        log.state = State::Absent;
        log.note(None);
        Ok(())
    }

    /// Logs read so far that cannot be read in full: some volumes are in doubt. Alone of all calls this one does not block.
    pub fn declaration_problems(&self) -> Vec<Problem> {
        let problems = lock(&self.declarations.problems);
        problems.iter().map(|(path, message)| Problem::new(path.clone(), message)).collect()
    }

    fn append(&self, pool: Uuid, line: &Line<&Declaration>) -> Result<()> {
        let log = self.declarations.log(pool);
        let failed = |log: &mut Log, error: &io::Error| {
            // What the file holds now is read before it is used again.
            log.state = State::Unread;
            Error::io(format_args!("cannot write {}", log.path.display()), error)
        };
        let mut bytes = to_json(line)?;
        bytes.push(b'\n');
        let file = self.layout.writing(|| {
            let mut log = lock(&log);
            log.append(line, &bytes).map_err(|error| failed(&mut log, &error))
        })?;
        // Not under the lock: readers go on, and writers share the disk's work. When the log is
        // rewritten meanwhile, this line is in the new file, synced.
        file.sync_data().map_err(|error| failed(&mut lock(&log), &error))
    }
}

impl Declarations {
    pub(super) fn new(dir: &Path) -> Self {
        Self { dir: dir.to_owned(), logs: Mutex::default(), problems: Problems::default() }
    }

    fn log(&self, pool: Uuid) -> Arc<Mutex<Log>> {
        let mut logs = lock(&self.logs);
        let log = logs.entry(pool).or_insert_with(|| {
            let path = self.dir.join(file_name(pool));
            let problems = self.problems.clone();
            Arc::new(Mutex::new(Log { path, state: State::Unread, problems }))
        });
        log.clone()
    }
}

fn file_name(pool: Uuid) -> String {
    format!("{pool}{SUFFIX}")
}

impl Log {
    fn read_if_needed(&mut self) {
        match self.state {
            State::Unread => {}
            State::Unreadable(since) if since.elapsed() >= PAUSE => {}
            _ => return,
        }
        let (state, problem) = match OpenLog::read(&self.path) {
            Ok(open) => {
                let problem = (open.damaged > 0).then(|| {
                    format!(
                        "{} lines are damaged: volumes they declared cannot be used; remove the \
                         lines, start poold again, and see whether it finds the right formats",
                        open.damaged
                    )
                });
                (State::Open(open), problem)
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => (State::Absent, None),
            Err(error) => {
                (State::Unreadable(Instant::now()), Some(format!("cannot be read: {error}")))
            }
        };
        self.state = state;
        self.note(problem);
    }

    fn note(&self, problem: Option<String>) {
        let mut problems = lock(&self.problems);
        match problem {
            Some(problem) => {
                tracing::error!("{}: {problem}", self.path.display());
                problems.insert(self.path.clone(), problem);
            }
            None => {
                problems.remove(&self.path);
            }
        }
    }

    /// Appends a line, not yet synced, and gives the file to sync.
    fn append(&mut self, line: &Line<&Declaration>, bytes: &[u8]) -> io::Result<Arc<File>> {
        if matches!(self.state, State::Unreadable(_)) {
            self.state = State::Unread;
        }
        self.read_if_needed();
        if matches!(self.state, State::Absent) {
            self.state = State::Open(OpenLog::create(&self.path)?);
        }
        let State::Open(open) = &mut self.state else {
            return Err(io::Error::other("it cannot be read, so nothing is added to it"));
        };
        open.append(line, bytes)?;
        let outdated = open.end - open.live;
        if outdated > open.rewrite_at
            && let Err(error) = open.rewrite(&self.path)
        {
            tracing::warn!("{error}");
            open.rewrite_at = outdated.saturating_mul(2);
        }
        Ok(open.file.clone())
    }
}

impl OpenLog {
    fn create(path: &Path) -> io::Result<Self> {
        let file = atomic::create(path)?;
        atomic::sync_parent(path)?;
        Ok(Self::empty(file))
    }

    fn empty(file: File) -> Self {
        Self {
            file: Arc::new(file),
            index: HashMap::new(),
            by_inode: HashMap::new(),
            end: 0,
            live: 0,
            rewrite_at: WORTH_REWRITING,
            damaged: 0,
        }
    }

    fn read(path: &Path) -> io::Result<Self> {
        // What cannot be written can still be read.
        let file = OpenOptions::new().read(true).write(true).open(path);
        let file = file.or_else(|_| File::open(path))?;
        let mut log = Self::empty(file);
        let mut reader = BufReader::with_capacity(1 << 18, log.file.clone());
        let mut bytes = Vec::new();
        loop {
            bytes.clear();
            let length = reader.read_until(b'\n', &mut bytes)?;
            if bytes.pop() != Some(b'\n') {
                // The end, or a line that was torn and never acknowledged.
                break;
            }
            match serde_json::from_slice::<Line<Outline>>(&bytes) {
                Ok(line) => {
                    let declared = line.declaration.map(|what| what.identity.map(|id| id.inode));
                    log.index(line.name, declared, length as u64);
                }
                Err(_) => log.damaged += 1,
            }
            log.end += length as u64;
        }
        // A rewrite would lose lines that make no sense.
        log.rewrite_at = if log.damaged > 0 { u64::MAX } else { log.live + WORTH_REWRITING };
        Ok(log)
    }

    /// Notes the line of `length` bytes, its end counted, that begins at `end`. `declared`: that it
    /// declares, and which inode.
    fn index(&mut self, name: VolumeName, declared: Option<Option<u64>>, length: u64) {
        if let Some(before) = self.index.remove(&name) {
            self.live -= u64::from(before.length) + 1;
            if let Some(inode) = before.inode
                && self.by_inode.get(&inode) == Some(&name)
            {
                self.by_inode.remove(&inode);
            }
        }
        let Some(inode) = declared else { return };
        // Longer lines than 4 GiB are not written.
        let length = u32::try_from(length - 1).unwrap_or(u32::MAX);
        self.live += u64::from(length) + 1;
        if let Some(inode) = inode {
            self.by_inode.insert(inode, name.clone());
        }
        self.index.insert(name, Place { offset: self.end, length, inode });
    }

    fn get(&self, volume: &VolumeName) -> io::Result<Option<Declaration>> {
        let Some(place) = self.index.get(volume) else { return Ok(None) };
        let line: Line<Declaration> = serde_json::from_slice(&self.line(*place)?)?;
        if line.name != *volume {
            return Err(io::Error::other("the file was changed by somebody else"));
        }
        Ok(line.declaration)
    }

    fn line(&self, place: Place) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; place.length as usize];
        self.file.read_exact_at(&mut bytes, place.offset)?;
        Ok(bytes)
    }

    fn append(&mut self, line: &Line<&Declaration>, bytes: &[u8]) -> io::Result<()> {
        if self.file.metadata()?.len() != self.end {
            self.file.set_len(self.end)?;
        }
        self.file.write_all_at(bytes, self.end)?;
        let inode = |what: &Declaration| what.identity.as_ref().map(|identity| identity.inode);
        self.index(line.name.clone(), line.declaration.map(inode), bytes.len() as u64);
        self.end += bytes.len() as u64;
        Ok(())
    }

    /// Writes what is so into a new file.
    fn rewrite(&mut self, path: &Path) -> Result<()> {
        let (dir, name) = (path.parent(), path.file_name().and_then(|name| name.to_str()));
        let (Some(dir), Some(name)) = (dir, name) else { return Ok(()) };
        let mut places: Vec<_> = self.index.iter().map(|(name, at)| (name.clone(), *at)).collect();
        places.sort_unstable_by_key(|(_, place)| place.offset);
        let new = atomic::replace(dir, name, |temporary| {
            let mut new = Self::empty(atomic::create(temporary)?);
            let mut writer = BufWriter::with_capacity(1 << 18, new.file.clone());
            for (name, place) in places {
                writer.write_all(&self.line(place)?)?;
                writer.write_all(b"\n")?;
                let length = u64::from(place.length) + 1;
                new.index(name, Some(place.inode), length);
                new.end += length;
            }
            writer.flush()?;
            drop(writer);
            new.file.sync_all()?;
            Ok(new)
        })?;
        *self = Self { rewrite_at: new.live + WORTH_REWRITING, ..new };
        Ok(())
    }
}
