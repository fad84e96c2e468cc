//! The content of images: opened, wiped, and shared with or copied from other volumes.

use super::cluster::Session;
use super::images::{Opened, image};
use super::snapshots::{OURS, release_snapshot, snapshot};
use super::{Work, list};
use crate::backend::block_volumes::Fresh;
use crate::backend::{CloneSource, Preallocation, Undo, VolumeAccess, VolumeIo, WipeOptions};
use crate::host::serve;
use crate::model::{ErrorKind, Result, Uuid, Volume, VolumeDef, VolumeKind, VolumeName};

impl Work<'_> {
    /// Opens a volume's content.
    pub(super) fn open(&self, volume: &Volume, access: VolumeAccess) -> Result<VolumeIo> {
        let name = &volume.name;
        let named = |error| self.pool.of_volume(name, error);
        let session = self.session().map_err(named)?;
        let write = matches!(access, VolumeAccess::Write { .. });
        if matches!(access, VolumeAccess::ReadUnchanged | VolumeAccess::Write { force: false }) {
            self.check_unused(&session, name)?;
        }
        let Some(info) = list::info(&session, name.as_str()).map_err(named)? else {
            return Err(self.pool.volume_error(ErrorKind::NotFound, name, "it is gone"));
        };
        if info.size != volume.physical {
            return Err(self.pool.other_size(volume, "it", info.size));
        }
        self.serve(&session, name.as_str(), info.size, write).map_err(named)
    }

    fn serve(
        &self,
        session: &Session<'_>,
        image: &str,
        size: u64,
        write: bool,
    ) -> Result<VolumeIo> {
        let (node, configuration) = session.node(image);
        let ctx = self.ctx;
        let kept = (configuration, Opened::new(&self.cluster, image));
        serve(&node, Vec::new(), kept, write, &ctx.private, &ctx.limits)
            .map(|served| VolumeIo::served(served, size))
    }

    /// Overwrites a volume's content.
    pub(super) fn wipe(&self, volume: &Volume, options: WipeOptions) -> Result<Volume> {
        let io = self.open(volume, VolumeAccess::Write { force: options.force })?;
        self.blocks().wipe_open(volume, &io, options)?;
        drop(io);
        let session = self.session().map_err(|error| self.pool.of_volume(&volume.name, error))?;
        self.read(&session, &volume.name)
    }

    /// A copy: what is in the same pool shares its content with it, all else is written.
    pub(super) fn clone_from(
        &self,
        def: &VolumeDef,
        source: &CloneSource,
        how: Preallocation,
    ) -> Result<Volume> {
        let name = &def.name;
        self.check_new(def)?;
        let named = |error| self.pool.of_volume(name, error);
        let session = self.session().map_err(named)?;
        let def = &self.blocks().clone_def(def, source)?;
        let capacity = self.blocks().device_size(def)?;
        let from = &source.volume;
        let shares = source.pool == self.pool.def.uuid
            && from.kind == VolumeKind::Network
            && how == Preallocation::None
            && !from.encrypted();
        if shares {
            self.share(&session, &from.name, name, Some(capacity)).map_err(named)?;
            self.ctx.findings.say("method", "snapshot");
            return self.read(&session, name);
        }
        let made = self.hidden()?;
        self.make(&session, &made, capacity, how != Preallocation::None).map_err(named)?;
        let io = self.serve(&session, &made, capacity, true).map_err(named)?;
        let volume = list::volume(self, name.clone(), capacity, capacity, None);
        self.blocks().fill_open(def, &volume, &io, source, Fresh::Zeros)?;
        drop(io);
        self.publish(&session, &made, name).map_err(named)?;
        self.read(&session, name)
    }

    /// Creates a volume that begins as another one of its pool is.
    pub(super) fn create_on(
        &self,
        session: &Session<'_>,
        def: &VolumeDef,
        backing: &str,
    ) -> Result<Volume> {
        let name = &def.name;
        let named = |error| self.pool.of_volume(name, error);
        let origin = backing
            .strip_prefix(self.cluster.pool())
            .and_then(|rest| rest.strip_prefix('/'))
            .and_then(VolumeName::found);
        let Some(origin) = origin else {
            let what = format!("backing store {backing}: is no image of this pool");
            return Err(self.pool.volume_error(ErrorKind::InvalidArgument, name, what));
        };
        let capacity = def.capacity.filter(|capacity| *capacity != 0);
        self.share(session, &origin, name, capacity).map_err(named)?;
        self.read(session, name)
    }

    /// Makes an image that shares the content of another by a snapshot of that. Where the cluster has it
    /// (clone v2), the snapshot goes with the last clone; else it is protected, and taken away here.
    fn share(
        &self,
        session: &Session<'_>,
        from: &VolumeName,
        name: &VolumeName,
        capacity: Option<u64>,
    ) -> Result<()> {
        let snap = format!("{OURS}{}", Uuid::new_v4());
        self.ctx.journal.record(&Undo::RemoveRbdSnapshot {
            cluster: self.cluster.clone(),
            image: from.to_string(),
            snapshot: snap.clone(),
        })?;
        let source = [image(from), snapshot(&snap)];
        session.rbd(&["snap", "create"], &[&source[..], &["--no-progress".to_owned()]].concat())?;
        let made = self.hidden()?;
        let target = [format!("--dest-pool={}", self.cluster.pool()), format!("--dest={made}")];
        let args = [&source[..], &target].concat();
        let clone = || session.rbd(&["clone"], &args);
        let is_protected = match clone() {
            Ok(_) => false,
            Err(error) if error.kind() == ErrorKind::InvalidArgument => {
                session.rbd(&["snap", "protect"], &source)?;
                clone()?;
                true
            }
            Err(error) => return Err(error),
        };
        if let Some(capacity) = capacity {
            let size = list::info(session, &made)?.map_or(0, |info| info.size);
            if capacity > size {
                let args =
                    [image(&made), format!("--size={capacity}B"), "--no-progress".to_owned()];
                session.rbd(&["resize"], &args)?;
            }
        }
        if !is_protected {
            release_snapshot(session, from.as_str(), &snap)?;
        }
        self.publish(session, &made, name)
    }
}
