//! Making, changing and deleting images. What is made in steps has a hidden name until it is whole, and
//! is known to the journal by it.

use super::cluster::{Cluster, Session};
use super::{Work, list};
use crate::backend::block_volumes::BlockVolumes;
use crate::backend::{DeleteOptions, Preallocation, ResizeOptions, Secrets, Undo};
use crate::host::{HIDDEN_PREFIX, Host, Limits};
use crate::model::{Error, ErrorKind, Result, Uuid, Volume, VolumeDef, VolumeName};
use serde::Deserialize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How long a client that died may have an image open: the cluster forgets it after 30 s.
pub(in crate::backend) const FORGOTTEN: Duration = Duration::from_secs(35);

/// How often it is tried meanwhile.
const FORGOTTEN_LOOK: Duration = Duration::from_secs(1);

/// How long whoever only looks at an image may have it open.
const A_LOOK: Duration = Duration::from_secs(2);

/// `rbd status`.
#[derive(Debug, Deserialize)]
struct Status {
    watchers: Vec<Watcher>,
}

/// A client that has an image open.
#[derive(Debug, Deserialize)]
struct Watcher {
    address: String,
    client: u64,
}

/// A lock in `rbd lock ls`.
#[derive(Debug, Deserialize)]
struct Lock {
    id: String,
    locker: String,
}

/// An image that this daemon has open, by a program that serves it.
pub(super) struct Opened(Arc<(Cluster, String)>);

static OPENED: Mutex<Vec<Arc<(Cluster, String)>>> = Mutex::new(Vec::new());

impl Opened {
    pub(super) fn new(cluster: &Cluster, image: &str) -> Self {
        let entry = Arc::new((cluster.clone(), image.to_owned()));
        Self::all().push(Arc::clone(&entry));
        Self(entry)
    }

    /// How often this daemon has an image open.
    fn count(cluster: &Cluster, image: &str) -> usize {
        let same = |entry: &&Arc<(Cluster, String)>| entry.0 == *cluster && entry.1 == image;
        Self::all().iter().filter(same).count()
    }

    fn all() -> MutexGuard<'static, Vec<Arc<(Cluster, String)>>> {
        OPENED.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Opened {
    fn drop(&mut self) {
        Self::all().retain(|entry| !Arc::ptr_eq(entry, &self.0));
    }
}

pub(super) fn image(name: impl std::fmt::Display) -> String {
    format!("--image={name}")
}

fn size(bytes: u64) -> String {
    format!("--size={bytes}B")
}

/// Says what to do when a name is another image's.
fn taken(error: Error) -> Error {
    match error.kind() {
        ErrorKind::Exists => Error::new(ErrorKind::Exists, "the name is taken; choose another"),
        _ => error,
    }
}

impl Work<'_> {
    pub(super) fn blocks(&self) -> BlockVolumes<'_> {
        BlockVolumes::new(self.pool, self.ctx)
    }

    fn refuse(&self, name: &VolumeName, what: &str) -> Error {
        self.pool.volume_error(ErrorKind::InvalidArgument, name, what)
    }

    /// Refuses what no image can be.
    pub(super) fn check_new(&self, def: &VolumeDef) -> Result<()> {
        let name = &def.name;
        if name.as_str().contains('@') {
            return Err(self.refuse(name, "the name of an image has no '@'"));
        }
        if name.as_str().starts_with(HIDDEN_PREFIX) {
            return Err(self.refuse(name, "names that begin so are for what is being made"));
        }
        if def.encryption.is_some() {
            let what = "volumes of rbd pools are not encrypted by poold; leave the encryption out";
            return Err(self.pool.volume_error(ErrorKind::NotSupported, name, what));
        }
        self.blocks().check_new(def)
    }

    pub(super) fn read(&self, session: &Session<'_>, name: &VolumeName) -> Result<Volume> {
        list::one(self, session, name)?.ok_or_else(|| {
            self.pool.volume_error(ErrorKind::NotFound, name, "it is gone; refresh the pool")
        })
    }

    /// Creates an empty image, or one that shares the content of another.
    pub(super) fn create(&self, def: &VolumeDef, how: Preallocation) -> Result<Volume> {
        let name = &def.name;
        self.check_new(def)?;
        let session = self.session().map_err(|error| self.pool.of_volume(name, error))?;
        if let Some(backing) = &def.backing {
            return self.create_on(&session, def, &backing.path);
        }
        let capacity = self.blocks().device_size(def)?;
        match how {
            Preallocation::None => self.make(&session, name.as_str(), capacity, false),
            Preallocation::Metadata => {
                return Err(self.refuse(name, "an image has no metadata to preallocate"));
            }
            // Every byte is written, which takes as long as that takes.
            Preallocation::Falloc | Preallocation::Full => {
                let made = self.hidden()?;
                self.make(&session, &made, capacity, true)
                    .and_then(|()| self.publish(&session, &made, name))
            }
        }
        .map_err(|error| self.pool.of_volume(name, error))?;
        self.read(&session, name)
    }

    /// Makes an image; it is whole or not there.
    pub(super) fn make(
        &self,
        session: &Session<'_>,
        name: &str,
        capacity: u64,
        thick: bool,
    ) -> Result<()> {
        let mut args = vec![image(name), size(capacity), "--no-progress".to_owned()];
        if thick {
            args.push("--thick-provision".to_owned());
        }
        session.rbd(&["create"], &args).map(drop).map_err(taken)
    }

    /// A name for an image that is in the making; when the job does not end well it is removed.
    pub(super) fn hidden(&self) -> Result<String> {
        let name = format!("{HIDDEN_PREFIX}{}", Uuid::new_v4());
        let (cluster, image) = (self.cluster.clone(), name.clone());
        self.ctx.journal.record(&Undo::RemoveRbdImage { cluster, image })?;
        Ok(name)
    }

    /// Gives an image that is whole its name.
    pub(super) fn publish(
        &self,
        session: &Session<'_>,
        hidden: &str,
        name: &VolumeName,
    ) -> Result<()> {
        let args = [
            image(hidden),
            format!("--dest-pool={}", self.cluster.pool()),
            format!("--dest={name}"),
        ];
        session.rbd(&["rename"], &args).map(drop).map_err(taken)
    }

    /// Refuses (`Busy`) an image that a client has open, and names that. Whoever only looks at it, as a
    /// listing does, is waited for.
    pub(super) fn check_unused(&self, session: &Session<'_>, name: &VolumeName) -> Result<()> {
        let mut watcher = None;
        let free = self.ctx.limits.look_for(A_LOOK, || match self.watcher(session, name) {
            Ok(None) => Some(Ok(())),
            Ok(found) => {
                watcher = found;
                None
            }
            Err(error) => Some(Err(self.pool.of_volume(name, error))),
        })?;
        let (None, Some(watcher)) = (&free, watcher) else { return free.unwrap_or(Ok(())) };
        let what = format!(
            "client.{} at {} has it open; end that first (a client that died is forgotten after 30 s)",
            watcher.client, watcher.address
        );
        Err(self.pool.volume_error(ErrorKind::Busy, name, what))
    }

    /// A client that has an image open, which is not this daemon.
    fn watcher(&self, session: &Session<'_>, name: &VolumeName) -> Result<Option<Watcher>> {
        let args = [image(name), "--format=json".to_owned()];
        let said = match session.rbd(&["status"], &args) {
            Ok(said) => said,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let status: Status = list::parse("rbd status", &said.answer)?;
        // Jobs of this daemon do not stand against each other here: they have leases.
        let ours = Opened::count(&self.cluster, name.as_str());
        Ok(status.watchers.into_iter().nth(ours))
    }

    /// Deletes an image; one that is gone is success.
    pub(super) fn delete(&self, volume: &Volume, options: DeleteOptions) -> Result<()> {
        let name = &volume.name;
        let named = |error| self.pool.of_volume(name, error);
        let session = self.session().map_err(named)?;
        let Some(info) = list::info(&session, name.as_str()).map_err(named)? else {
            return self.blocks().forget(name);
        };
        if let Some(group) = &info.group {
            let what = format!(
                "it is in the group {group}; see `rbd group image remove`, and do that first"
            );
            return Err(self.pool.volume_error(ErrorKind::Busy, name, what));
        }
        let has_snapshots = info.snapshot_count > 0;
        // Ceph refuses an image that is open, force or not; its snapshots would be gone by then.
        if has_snapshots || !options.force {
            self.check_unused(&session, name)?;
        }
        if has_snapshots {
            self.check_no_clones(&session, name)?;
            if !options.snapshots {
                let what = "it has snapshots, which `rbd snap ls` shows; say snapshots to delete them with it";
                return Err(self.pool.volume_error(ErrorKind::Busy, name, what));
            }
        }
        if let Some(parent) = &info.parent {
            self.note_parent(parent).map_err(named)?;
        }
        if has_snapshots {
            self.delete_snapshots(&session, name)?;
        }
        let args = [image(name), "--no-progress".to_owned()];
        let mut refusal = None;
        let removed = self.ctx.limits.look_for(A_LOOK, || match session.rbd(&["rm"], &args) {
            Err(error) if error.kind() == ErrorKind::Busy => {
                refusal = Some(error);
                None
            }
            Err(error) if error.kind() != ErrorKind::NotFound => Some(Err(error)),
            _ => Some(Ok(())),
        })?;
        removed.or(refusal.map(Err)).unwrap_or(Ok(())).map_err(named)?;
        if let Some(parent) = &info.parent {
            self.release_parent(&session, parent);
        }
        self.blocks().forget(name)
    }

    /// Changes the size of an image; one that is open may grow.
    pub(super) fn resize(
        &self,
        volume: &Volume,
        capacity: u64,
        options: ResizeOptions,
    ) -> Result<Volume> {
        let name = &volume.name;
        let named = |error| self.pool.of_volume(name, error);
        if capacity == 0 {
            return Err(self.refuse(name, "an image cannot have a capacity of 0"));
        }
        let session = self.session().map_err(named)?;
        let Some(info) = list::info(&session, name.as_str()).map_err(named)? else {
            return Err(self.pool.volume_error(ErrorKind::NotFound, name, "it is gone"));
        };
        let header = volume.physical.saturating_sub(volume.capacity);
        let target = capacity
            .checked_add(header)
            .ok_or_else(|| self.refuse(name, "no image can be as large as this capacity"))?;
        if target == info.size {
            return self.read(&session, name);
        }
        let mut args = vec![image(name), size(target), "--no-progress".to_owned()];
        if target < info.size {
            if !options.shrink {
                let what = "it is larger than that; say shrink to cut off its end";
                return Err(self.refuse(name, what));
            }
            if !options.force {
                self.check_unused(&session, name)?;
            }
            args.push("--allow-shrink".to_owned());
        }
        session.rbd(&["resize"], &args).map_err(named)?;
        self.read(&session, name)
    }
}

/// Removes an image that a job made; one that is not there, or has its name by now, is left.
pub(in crate::backend) fn remove_image(
    cluster: &Cluster,
    name: &str,
    host: &dyn Host,
    secrets: &dyn Secrets,
) -> Result<()> {
    let limits = Limits::default();
    let session = Session::with(cluster, secrets, host, &limits)?;
    if let Err(error) = break_locks(&session, name) {
        // Ceph breaks them too, when it has forgotten who has them.
        tracing::debug!("locks of image {} stay for now: {error}", cluster.path(name));
    }
    let removed = limits.look_every(FORGOTTEN_LOOK, FORGOTTEN, || {
        match session.rbd(&["rm"], &[image(name), "--no-progress".to_owned()]) {
            Err(error) if error.kind() == ErrorKind::NotFound => Some(Ok(())),
            Err(error) if error.kind() == ErrorKind::Busy => None,
            removed => Some(removed.map(drop)),
        }
    })?;
    removed.unwrap_or_else(|| {
        let what = format!("image {} is still open", cluster.path(name));
        Err(Error::new(ErrorKind::Busy, what))
    })
}

/// Breaks the locks of an image that only programs of a job have used, which has ended: Ceph would wait for those
/// that died.
fn break_locks(session: &Session<'_>, name: &str) -> Result<()> {
    let said = match session.rbd(&["lock", "ls"], &[image(name), "--format=json".to_owned()]) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        said => said?,
    };
    for lock in list::parse::<Vec<Lock>>("rbd lock ls", &said.answer)? {
        session.rbd(&["lock", "rm"], &[image(name), lock.id, lock.locker])?;
    }
    Ok(())
}
