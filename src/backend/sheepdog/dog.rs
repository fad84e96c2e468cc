//! `dog`, the client of a Sheepdog cluster, and what its refusals mean.

use super::list::{self, Vdi};
use crate::host::{Command, Host, Limits};
use crate::model::{Error, ErrorKind, PoolDef, Result, Usage};
use serde::{Deserialize, Serialize};
use std::ffi::OsString;
use std::time::Duration;

/// The program.
pub(super) const TOOL: &str = "dog";

/// The port of a cluster that says none.
const PORT: u16 = 7000;

/// Statuses that say why by their message, or by themselves (Sheepdog's `include/sheepdog_proto.h` and `exits.h`).
const FAILURES: &[i32] = &[1, 2, 3, 4, 5, 64];

/// How long a cluster may take until it shows what it has been told.
const SHOWS: Duration = Duration::from_secs(10);

/// Where a cluster is: one of its nodes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Node {
    host: String,
    port: u16,
}

impl Node {
    /// That of a definition.
    pub(super) fn of(pool: &PoolDef) -> Result<Self> {
        let host = pool.source.hosts.first().ok_or_else(|| {
            let what = format!("pool {} has no host; define it with a node", pool.name);
            Error::new(ErrorKind::InvalidArgument, what)
        })?;
        let name = host.name.trim_matches(['[', ']']).to_owned();
        Ok(Self { host: name, port: host.port.unwrap_or(PORT) })
    }
}

/// `dog` for one operation.
pub(super) struct Dog<'a> {
    pub(super) node: &'a Node,
    pub(super) host: &'a dyn Host,
    pub(super) limits: &'a Limits,
}

/// What it said.
struct Said {
    answer: String,
    complaint: String,
}

impl Dog<'_> {
    fn run(&self, words: &[&str]) -> Result<Said> {
        let mut args: Vec<OsString> = words.iter().map(Into::into).collect();
        let port = self.node.port.to_string();
        args.extend(["-a", &self.node.host, "-p", &port].map(Into::into));
        let command = Command { program: TOOL, args, accept: FAILURES, ..Command::default() };
        let output = self.host.run(&command, self.limits)?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let said = Said { answer: text(&output.stdout), complaint: text(&output.stderr) };
        match output.status {
            0 => Ok(said),
            status => Err(refusal(status, &said.complaint)),
        }
    }

    /// Room in the cluster.
    pub(super) fn room(&self) -> Result<Usage> {
        let said = self.run(&["node", "info", "-r"])?;
        list::room(&said.answer).ok_or_else(|| self.unread("node info"))
    }

    /// All images, and how many could not be read.
    pub(super) fn list(&self) -> Result<(Vec<Vdi>, u32)> {
        let said = self.run(&["vdi", "list", "-r"])?;
        list::vdis(&said.answer).ok_or_else(|| self.unread("vdi list"))
    }

    /// One image; of one that is not there `dog` says nothing, and that it has succeeded.
    pub(super) fn find(&self, name: &str) -> Result<Option<Vdi>> {
        let said = self.run(&["vdi", "list", name, "-r"])?;
        let (found, _) = list::vdis(&said.answer).ok_or_else(|| self.unread("vdi list"))?;
        Ok(found.into_iter().find(|vdi| vdi.name == name))
    }

    fn unread(&self, what: &str) -> Error {
        Error::new(ErrorKind::ToolFailed, format!("{TOOL} {what} gave no whole answer"))
    }

    /// Makes an image.
    pub(super) fn create(&self, name: &str, size: u64) -> Result<()> {
        self.run(&["vdi", "create", name, &size.to_string()]).map(drop)
    }

    /// Changes the size of an image, which can only grow.
    pub(super) fn resize(&self, name: &str, size: u64) -> Result<()> {
        self.run(&["vdi", "resize", name, &size.to_string()])?;
        self.await_that("it has its new size", || {
            Ok(self.find(name)?.is_some_and(|vdi| vdi.size == size))
        })
    }

    /// Deletes an image. What `dog` returns says nothing: the list does.
    pub(super) fn delete(&self, name: &str) -> Result<()> {
        let said = self.run(&["vdi", "delete", name])?;
        let gone = self.await_that("it is gone", || Ok(self.find(name)?.is_none()));
        gone.map_err(|error| match said.complaint.trim() {
            "" => error,
            _ => refusal(1, &said.complaint),
        })
    }

    /// Makes a snapshot of an image, and an image that begins as that.
    pub(super) fn clone_by(&self, tag: &str, from: &str, name: &str) -> Result<()> {
        self.run(&["vdi", "snapshot", "-s", tag, from])?;
        self.run(&["vdi", "clone", "-s", tag, from, name]).map(drop)
    }

    /// Deletes a snapshot of an image; one that is not there is success. What was made from it keeps its content.
    pub(super) fn delete_snapshot(&self, tag: &str, of: &str) -> Result<()> {
        self.run(&["vdi", "delete", "-s", tag, of]).map(drop)
    }

    fn await_that(&self, what: &str, mut so: impl FnMut() -> Result<bool>) -> Result<()> {
        let shown = self.limits.look_for(SHOWS, || match so() {
            Ok(false) => None,
            Ok(true) => Some(Ok(())),
            Err(error) => Some(Err(error)),
        })?;
        shown.unwrap_or_else(|| {
            let what =
                format!("{TOOL} said it was done, but the cluster does not show that {what}");
            Err(Error::new(ErrorKind::ToolFailed, what))
        })
    }
}

/// What a refusal means.
fn refusal(status: i32, complaint: &str) -> Error {
    let line = complaint.lines().map(str::trim).find(|line| !line.is_empty());
    let why = line.unwrap_or("it does not say why");
    let why: String = why.chars().filter(|c| !c.is_control()).take(400).collect();
    let kind = match status {
        3 => ErrorKind::Exists,
        4 => ErrorKind::NoSpace,
        5 => ErrorKind::NotFound,
        2 => ErrorKind::Inaccessible,
        64 => ErrorKind::InvalidArgument,
        _ if why.contains("exists already") => ErrorKind::Exists,
        _ if why.contains("No VDI found") => ErrorKind::NotFound,
        _ => ErrorKind::ToolFailed,
    };
    match kind {
        ErrorKind::Exists => Error::new(kind, "the name is taken; choose another"),
        ErrorKind::ToolFailed => Error::new(kind, format!("{TOOL} failed: {why}")),
        _ => Error::new(kind, format!("{TOOL}: {why}")),
    }
}

/// Removes the snapshot that a job made to clone an image.
pub(in crate::backend) fn remove_snapshot(
    node: &Node,
    vdi: &str,
    tag: &str,
    host: &dyn Host,
) -> Result<()> {
    Dog { node, host, limits: &Limits::default() }.delete_snapshot(tag, vdi)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_are_told_apart() {
        for (status, complaint, kind) in [
            (1, "Failed to create VDI v1: VDI exists already\n", ErrorKind::Exists),
            (
                1,
                "Failed to open VDI x (snapshot id: 0 snapshot tag: ): No VDI found",
                ErrorKind::NotFound,
            ),
            (1, "Failed to do that: I/O error\nand more", ErrorKind::ToolFailed),
            (2, "failed to connect to 127.0.0.1:7000: Connection refused", ErrorKind::Inaccessible),
            (64, "Shrinking VDIs is not implemented", ErrorKind::InvalidArgument),
            (2, "", ErrorKind::Inaccessible),
        ] {
            assert_eq!(refusal(status, complaint).kind(), kind, "{complaint}");
        }
    }
}
