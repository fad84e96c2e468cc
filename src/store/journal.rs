//! The job journal: one file for each job that changes storage, a line for each step.

use super::runtime::to_json;
use super::{JournalEntry, Problem, Store, atomic};
use crate::model::{Error, ErrorKind, Result, Uuid};
use serde::{Deserialize, Serialize};
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;

/// How the file of a job ends.
const SUFFIX: &str = ".jsonl";
/// Largest journal.
const JOURNAL_LIMIT: u64 = 16 << 20;

/// One line.
#[derive(Serialize, Deserialize)]
struct Line {
    pool: Uuid,
    step: serde_json::Value,
}

impl Store {
    /// Journals of jobs that did not end, by job number, and the files that cannot be read.
    pub fn journals(&self) -> (Vec<(u64, JournalEntry)>, Vec<Problem>) {
        let dir = &self.layout.jobs;
        let files = match atomic::names(dir) {
            Ok(files) => files,
            Err(error) => return (Vec::new(), vec![Problem::from_error(dir.clone(), &error)]),
        };
        let (mut entries, mut problems) = (Vec::new(), Vec::new());
        for file in &files {
            let Some(job) = number(file) else { continue };
            let path = dir.join(file);
            match read(&path) {
                Ok(Some(entry)) => entries.push((job, entry)),
                // Its first step was not acknowledged, so it was not taken.
                Ok(None) => {
                    if let Err(error) = atomic::remove(dir, file) {
                        tracing::warn!("{error}");
                    }
                }
                Err(error) => problems.push(Problem::from_error(path, &error)),
            }
        }
        entries.sort_unstable_by_key(|(job, _)| *job);
        (entries, problems)
    }

    /// Appends an undo step to a job's journal; durable when it returns.
    pub fn journal_step(&self, job: u64, pool: Uuid, step: &serde_json::Value) -> Result<()> {
        let mut line = to_json(&Line { pool, step: step.clone() })?;
        line.push(b'\n');
        let path = self.layout.jobs.join(format!("{job}{SUFFIX}"));
        self.layout.writing(|| {
            append(&path, &line)
                .map_err(|e| Error::io(format_args!("cannot write {}", path.display()), &e))
        })
    }

    /// Removes a job's journal for good, if it has one.
    pub fn end_journal(&self, job: u64) -> Result<()> {
        atomic::remove(&self.layout.jobs, &format!("{job}{SUFFIX}")).map(drop)
    }
}

/// The job that a file is the journal of.
pub(super) fn number(file: &str) -> Option<u64> {
    file.strip_suffix(SUFFIX)?.parse().ok()
}

fn append(path: &Path, line: &[u8]) -> io::Result<()> {
    let mut file = match OpenOptions::new().append(true).open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let file = atomic::create(path)?;
            atomic::sync_parent(path)?;
            file
        }
        opened => opened?,
    };
    let before = file.metadata()?.len();
    let appended = file.write_all(line).and_then(|()| file.sync_data());
    if appended.is_err() {
        undo_append(&file, before);
    }
    appended
}

/// Takes back half a line, so that the next one does not continue it.
fn undo_append(file: &File, before: u64) {
    if let Err(error) = file.set_len(before) {
        tracing::error!("cannot take back half a journal line: {error}");
    }
}

/// Reads a journal; `None` when no step was acknowledged.
fn read(path: &Path) -> Result<Option<JournalEntry>> {
    let text = atomic::read(path, JOURNAL_LIMIT)?;
    let mut lines: Vec<&str> = text.split_inclusive('\n').collect();
    let whole = |line: &str| line.ends_with('\n') && serde_json::from_str::<Line>(line).is_ok();
    // Torn, therefore not acknowledged, therefore not taken.
    lines.pop_if(|line| !whole(line));
    let mut entry: Option<JournalEntry> = None;
    for (number, line) in lines.iter().enumerate() {
        let damaged = |why: String| {
            let hint = "undo its steps by hand and remove the file";
            let message = format!("line {}: {why}; {hint}", number + 1);
            Error::new(ErrorKind::InvalidArgument, message)
        };
        let line: Line = serde_json::from_str(line).map_err(|e| damaged(e.to_string()))?;
        let entry =
            entry.get_or_insert_with(|| JournalEntry { pool: line.pool, steps: Vec::new() });
        if entry.pool != line.pool {
            return Err(damaged("another pool".to_owned()));
        }
        entry.steps.push(line.step);
    }
    Ok(entry)
}
