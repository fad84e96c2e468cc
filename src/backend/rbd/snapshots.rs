//! Snapshots of images: those that clones are made from, and those that go with an image when that is asked
//! for. One that has clones stays.
//!
//! With clone v2 a snapshot with clones can be removed: it is kept in a trash of the image's until the last of
//! them is gone. With v1 it has to be protected, and cannot be unprotected meanwhile.

use super::Work;
use super::cluster::{Cluster, Session};
use super::images::image;
use super::list::{self, Parent};
use crate::backend::{Secrets, Undo};
use crate::host::{Host, Limits};
use crate::model::{ErrorKind, Result, VolumeName};
use serde::Deserialize;

/// What the names of snapshots that clones are made from begin with.
pub(super) const OURS: &str = "poold-";

/// A snapshot in `rbd snap ls`.
#[derive(Debug, Deserialize)]
struct Snapshot {
    name: String,
    #[serde(default)]
    protected: String,
    /// Whose it is, with `--all` only.
    #[serde(default)]
    namespace: Option<Namespace>,
}

#[derive(Debug, Deserialize)]
struct Namespace {
    #[serde(rename = "type")]
    kind: String,
}

/// An image in `rbd children --all`.
#[derive(Debug, Deserialize)]
struct Child {
    pool: String,
    #[serde(default)]
    pool_namespace: String,
    image: String,
    #[serde(default)]
    trash: bool,
}

impl Snapshot {
    fn is_protected(&self) -> bool {
        self.protected == "true"
    }
}

pub(super) fn snapshot(name: &str) -> String {
    format!("--snap={name}")
}

/// The snapshots of an image; none when there is no such image.
fn snapshots(session: &Session<'_>, name: &str, which: &[&str]) -> Result<Vec<Snapshot>> {
    let args = [image(name), "--format=json".to_owned()];
    let args = args.into_iter().chain(which.iter().map(|word| (*word).to_owned()));
    match session.rbd(&["snap", "ls"], &args.collect::<Vec<_>>()) {
        Ok(said) => list::parse("rbd snap ls", &said.answer),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

impl Work<'_> {
    /// Refuses (`Busy`) an image whose snapshots have clones, and names one.
    pub(super) fn check_no_clones(&self, session: &Session<'_>, name: &VolumeName) -> Result<()> {
        let args = [image(name), "--all".to_owned(), "--format=json".to_owned()];
        let children: Vec<Child> = session
            .rbd(&["children"], &args)
            .and_then(|said| list::parse("rbd children", &said.answer))
            .map_err(|error| self.pool.of_volume(name, error))?;
        let Some(child) = children.first() else { return Ok(()) };
        let space = match child.pool_namespace.as_str() {
            "" => String::new(),
            space => format!("{space}/"),
        };
        let (pool, image) = (&child.pool, &child.image);
        let what = match child.trash {
            false => format!(
                "{pool}/{space}{image} is a clone of it; delete that first, or `rbd flatten` it"
            ),
            true => format!(
                "{pool}/{space}{image}, which is in Ceph's trash, is a clone of it; see `rbd trash ls`"
            ),
        };
        Err(self.pool.volume_error(ErrorKind::Busy, name, what))
    }

    /// Deletes all snapshots of an image that has no clones.
    pub(super) fn delete_snapshots(&self, session: &Session<'_>, name: &VolumeName) -> Result<()> {
        let named = |error| self.pool.of_volume(name, error);
        let known = snapshots(session, name.as_str(), &["--all"]).map_err(named)?;
        let kind = |known: &Snapshot| known.namespace.as_ref().map(|space| space.kind.clone());
        let other = |kind: &String| !["user", "trash"].contains(&kind.as_str());
        if let Some(kind) = known.iter().filter_map(kind).find(other) {
            let what =
                format!("a snapshot of it is one of `rbd {kind}`; remove it from that first");
            return Err(self.pool.volume_error(ErrorKind::Busy, name, what));
        }
        // All that can be refused before what cannot be undone.
        for known in known.iter().filter(|known| known.is_protected()) {
            let args = [image(name), snapshot(&known.name)];
            session.rbd(&["snap", "unprotect"], &args).map_err(named)?;
        }
        let args = [image(name), "--no-progress".to_owned()];
        session.rbd(&["snap", "purge"], &args).map(drop).map_err(named)
    }

    /// Whether an image's parent is a snapshot that is ours to remove with the last clone. Those of clone v2
    /// have another name by then.
    fn is_ours(&self, parent: &Parent) -> bool {
        let here = parent.pool == self.cluster.pool() && parent.pool_namespace.is_empty();
        here && parent.snapshot.starts_with(OURS)
    }

    /// Has the snapshot that a clone was made from removed although the daemon dies after the clone's deletion.
    pub(super) fn note_parent(&self, parent: &Parent) -> Result<()> {
        // What nobody asked for has no journal.
        if !self.is_ours(parent) || !self.ctx.asked {
            return Ok(());
        }
        self.ctx.journal.record(&Undo::RemoveRbdSnapshot {
            cluster: self.cluster.clone(),
            image: parent.image.clone(),
            snapshot: parent.snapshot.clone(),
        })
    }

    /// Takes away the snapshot of ours that a deleted clone was made from, when it was its last.
    pub(super) fn release_parent(&self, session: &Session<'_>, parent: &Parent) {
        if !self.is_ours(parent) {
            return;
        }
        if let Err(error) = release_snapshot(session, &parent.image, &parent.snapshot) {
            // The image is gone, which is what was asked for.
            tracing::warn!("snapshot {} of {} stays: {error}", parent.snapshot, parent.image);
        }
    }
}

/// Removes a snapshot that a job made, unless clones need it.
pub(in crate::backend) fn remove_snapshot(
    cluster: &Cluster,
    name: &str,
    snap: &str,
    host: &dyn Host,
    secrets: &dyn Secrets,
) -> Result<()> {
    let limits = Limits::default();
    let session = Session::with(cluster, secrets, host, &limits)?;
    release_snapshot(&session, name, snap)
}

/// Removes a snapshot of an image unless clones need it; one that is gone is success.
pub(super) fn release_snapshot(session: &Session<'_>, name: &str, snap: &str) -> Result<()> {
    let known = snapshots(session, name, &[])?;
    let Some(found) = known.iter().find(|known| known.name == snap) else { return Ok(()) };
    let args = [image(name), snapshot(snap)];
    if found.is_protected() {
        match session.rbd(&["snap", "unprotect"], &args) {
            // Others are made from it too: it goes with the last of them.
            Err(error) if error.kind() == ErrorKind::Busy => return Ok(()),
            unprotected => drop(unprotected?),
        }
    }
    match session.rbd(&["snap", "rm"], &[&args[..], &["--no-progress".to_owned()]].concat()) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
