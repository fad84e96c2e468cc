//! docs/dead-servers.md, read.

use super::super::support::fault::Fault;
use super::Moment;
use anyhow::{Context, Result};
use std::path::Path;

/// What is expected of a cell: the error, the state of the pool, the end of the job and the message, as the table has them.
pub(in super::super) struct Expected(pub(in super::super) String);

impl Expected {
    /// Whether it is what is seen. An upload may end in one way `or` another, where how long the server is away decides.
    pub(in super::super) fn is(&self, seen: &str) -> bool {
        let (expected, seen): (Vec<_>, Vec<_>) =
            (self.0.split(" | ").collect(), seen.split(" | ").collect());
        expected.len() == seen.len()
            && expected.iter().zip(seen).enumerate().all(|(column, (expected, seen))| {
                *expected == seen || column == 2 && expected.split(" or ").any(|end| end == seen)
            })
    }

    pub(in super::super) fn of(kind: &str, fault: Fault, moment: Moment) -> Result<Self> {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/dead-servers.md");
        let text = std::fs::read_to_string(file)?;
        let rows =
            text.lines().skip_while(|line| !line.starts_with(&format!("## {kind}:"))).skip(1);
        let mut rows = rows.take_while(|line| !line.starts_with("## "));
        let begin = format!("| {} | {} | ", fault.word(), moment.word());
        let row = rows.find_map(|row| row.strip_prefix(&begin));
        let row = row.with_context(|| {
            format!("no row {} {} of {kind} in docs/dead-servers.md", fault.word(), moment.word())
        })?;
        Ok(Self(row.trim_end_matches(" |").replace('`', "")))
    }
}
