//! What is true until the next boot: state of pools, whether autostart was done, job numbers.

use super::definitions::DOCUMENT_LIMIT;
use super::layout::Layout;
use super::{Problem, RunState, Store, atomic, lock};
use crate::model::{Error, ErrorKind, Result, Usage, Uuid};
use crate::xml;
use serde::{Deserialize, Serialize};
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

/// Exists when autostart was done.
const AUTOSTARTED: &str = "autostarted";
/// The first job number that was never reserved.
const NUMBERS: &str = "jobs.next";
/// Which boot all this belongs to.
const BOOT: &str = "boot-id";
/// How many job numbers are reserved by one write.
const BLOCK: u64 = 1000;
/// How the file of a pool's state ends.
const SUFFIX: &str = ".json";
/// Largest state file: a document, escaped, and what the backend remembers.
const STATE_LIMIT: u64 = 4 * DOCUMENT_LIMIT;

/// A pool's state as it is in its file.
#[derive(Serialize, Deserialize)]
struct StateFile {
    definition: String,
    activation: Option<serde_json::Value>,
    stopped_by_hand: bool,
    transient: bool,
}

/// Job numbers: those in hand, out of the block reserved on disk.
#[derive(Debug)]
pub(super) struct Numbers {
    next: u64,
    reserved: u64,
}

impl Numbers {
    pub(super) fn load(layout: &Layout) -> Self {
        let path = layout.run.join(NUMBERS);
        let counted = match atomic::read(&path, 64) {
            Ok(text) => text.trim().parse().map_err(|_| "it holds no number".to_owned()),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(1),
            Err(error) => Err(error.to_string()),
        };
        let counted = counted.unwrap_or_else(|why| {
            // Beyond any number that counting from 1 can have reached since boot.
            let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            tracing::warn!("{} is damaged, so job numbers jump: {why}", path.display());
            since_epoch.as_secs() * BLOCK
        });
        // Journals survive a boot: a new job must not write into one that waits to be undone.
        let journals = atomic::names(&layout.jobs).unwrap_or_default();
        let journals = journals.iter().filter_map(|name| super::journal::number(name));
        let next = counted.max(journals.max().map_or(1, |last| last.saturating_add(1)));
        Self { next, reserved: next }
    }
}

impl Store {
    /// What is remembered since boot, and the files that cannot be read.
    pub fn run_states(&self) -> (Vec<RunState>, Vec<Problem>) {
        let dir = &self.layout.run_pools;
        let files = match atomic::names(dir) {
            Ok(files) => files,
            Err(error) => return (Vec::new(), vec![Problem::from_error(dir.clone(), &error)]),
        };
        let (mut states, mut problems) = (Vec::new(), Vec::new());
        for file in files.iter().filter(|file| file.ends_with(SUFFIX)) {
            let path = dir.join(file);
            match read_state(&path, file) {
                Ok(state) => states.push(state),
                Err(error) => problems.push(Problem::from_error(path, &error)),
            }
        }
        (states, problems)
    }

    /// Remembers a pool until the next boot.
    pub fn save_run_state(&self, state: &RunState) -> Result<()> {
        let file = StateFile {
            definition: xml::write_pool(&state.def, Usage::default()),
            activation: state.activation.clone(),
            stopped_by_hand: state.stopped_by_hand,
            transient: state.transient,
        };
        let bytes = to_json(&file)?;
        let name = format!("{}{SUFFIX}", state.def.uuid);
        self.layout.writing(|| atomic::write(&self.layout.run_pools, &name, &bytes))
    }

    /// Forgets it.
    pub fn remove_run_state(&self, pool: Uuid) -> Result<()> {
        atomic::remove(&self.layout.run_pools, &format!("{pool}{SUFFIX}")).map(drop)
    }

    /// Whether autostart was done since boot.
    pub fn autostart_done(&self) -> bool {
        self.layout.run.join(AUTOSTARTED).symlink_metadata().is_ok()
    }

    /// Says that autostart was done.
    pub fn mark_autostart_done(&self) -> Result<()> {
        self.layout.writing(|| atomic::write(&self.layout.run, AUTOSTARTED, b""))
    }

    /// A job number not given since boot; numbers are taken from disk in blocks.
    pub fn next_job_number(&self) -> Result<u64> {
        let mut numbers = lock(&self.numbers);
        if numbers.next >= numbers.reserved {
            let reserved = numbers.next.saturating_add(BLOCK);
            let text = format!("{reserved}\n");
            self.layout.writing(|| atomic::write(&self.layout.run, NUMBERS, text.as_bytes()))?;
            numbers.reserved = reserved;
        }
        let number = numbers.next;
        numbers.next += 1;
        Ok(number)
    }
}

fn read_state(path: &Path, file: &str) -> Result<RunState> {
    let damaged = |why: String| Error::new(ErrorKind::InvalidArgument, why);
    let text = atomic::read(path, STATE_LIMIT)?;
    let read: StateFile = serde_json::from_str(&text).map_err(|e| damaged(e.to_string()))?;
    let def = xml::parse_pool(&read.definition)?;
    if file.strip_suffix(SUFFIX) != Some(&def.uuid.to_string()) {
        return Err(damaged(format!("holds the state of pool {} ({})", def.name, def.uuid)));
    }
    Ok(RunState {
        def,
        activation: read.activation,
        stopped_by_hand: read.stopped_by_hand,
        transient: read.transient,
    })
}

/// Removes what an earlier boot left, where `/run` (or a root for tests) outlives a boot.
pub(super) fn forget_other_boots(layout: &Layout) -> Result<()> {
    let Ok(boot) = std::fs::read_to_string("/proc/sys/kernel/random/boot_id") else {
        return Ok(());
    };
    match atomic::read(&layout.run.join(BOOT), 64) {
        Ok(known) if known == boot => return Ok(()),
        Ok(_) => {
            for file in atomic::names(&layout.run_pools)? {
                atomic::remove(&layout.run_pools, &file)?;
            }
            atomic::remove(&layout.run, NUMBERS)?;
            atomic::remove(&layout.run, AUTOSTARTED)?;
        }
        Err(_) => {}
    }
    atomic::write(&layout.run, BOOT, boot.as_bytes())
}

/// `value` as JSON.
pub(super) fn to_json(value: &impl Serialize) -> Result<Vec<u8>> {
    serde_json::to_vec(value)
        .map_err(|e| Error::new(ErrorKind::Failed, format!("cannot be written as JSON: {e}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use std::fs;
    use tempfile::TempDir;

    fn state(name: &str, uuid: u128) -> RunState {
        let uuid = Uuid::from_u128(uuid);
        let text = format!(
            "<pool type='dir'><name>{name}</name><uuid>{uuid}</uuid>\
             <target><path>/srv/{name}</path></target></pool>"
        );
        RunState {
            def: xml::parse_pool(&text).unwrap(),
            activation: Some(json!({"adopted": true, "mount_id": 18_446_744_073_709_551_615_u64})),
            stopped_by_hand: false,
            transient: true,
        }
    }

    #[test]
    fn what_is_active_is_known_after_a_restart_and_forgotten_when_told() {
        let root = TempDir::new().unwrap();
        let store = Store::open(root.path()).unwrap();
        let active = state("a", 1);
        let stopped = RunState { activation: None, stopped_by_hand: true, ..state("b", 2) };
        store.save_run_state(&active).unwrap();
        store.save_run_state(&state("b", 2)).unwrap();
        store.save_run_state(&stopped).unwrap();
        let store = Store::open(root.path()).unwrap();
        assert_eq!(store.run_states(), (vec![active, stopped.clone()], vec![]));
        store.remove_run_state(Uuid::from_u128(1)).unwrap();
        store.remove_run_state(Uuid::from_u128(1)).unwrap();
        assert_eq!(Store::open(root.path()).unwrap().run_states(), (vec![stopped], vec![]));
    }

    #[test]
    fn damaged_state_is_reported_and_hides_no_other() {
        let root = TempDir::new().unwrap();
        let store = Store::open(root.path()).unwrap();
        store.save_run_state(&state("a", 1)).unwrap();
        let dir = root.path().join("run/poold/pools");
        let text = fs::read(dir.join(format!("{}.json", Uuid::from_u128(1)))).unwrap();
        fs::write(dir.join(format!("{}.json", Uuid::from_u128(2))), &text).unwrap();
        fs::write(dir.join(format!("{}.json", Uuid::from_u128(3))), &text[..20]).unwrap();
        let (states, problems) = Store::open(root.path()).unwrap().run_states();
        assert_eq!(states, [state("a", 1)]);
        assert_eq!(problems.len(), 2);
        assert!(problems[0].message.contains("state of pool a"), "{}", problems[0].message);
    }
}
