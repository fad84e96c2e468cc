//! Making logical volumes.

use super::pool::Opened;
use super::report::LogicalVolume;
use super::undo::new_tag;
use super::volumes::Volumes;
use crate::backend::block_volumes::Fresh;
use crate::backend::{CloneSource, Preallocation, Undo};
use crate::host::BlockDevice;
use crate::model::{Error, ErrorKind, Provisioning, Result, Volume, VolumeDef, VolumeName};
use std::path::Path;
use std::time::Duration;

/// How full a thin pool may be, data or metadata, for a new volume to be made in it: in hundredths of
/// a percent.
pub(super) const FULL: u32 = 95_00;
/// LVM counts in sectors.
const SECTOR: u64 = 512;
/// How long the device of a new volume is waited for.
const PATIENCE: Duration = Duration::from_secs(30);
/// Beginnings and parts of names that LVM keeps for itself.
const RESERVED: (&[&str], &[&str]) = (
    &["snapshot", "pvmove"],
    &[
        "_cdata", "_cmeta", "_corig", "_cpool", "_cvol", "_iorig", "_imeta", "_mimage", "_mlog",
        "_pmspare", "_rimage", "_rmeta", "_tdata", "_tmeta", "_vdata", "_vorigin", "_wcorig",
    ],
);
/// Longest name of a volume and its group together.
const LONGEST: usize = 125;

/// What lvcreate is to make.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Plan {
    /// How its blocks are provided.
    pub(super) provisioning: Provisioning,
    /// The arguments that say so.
    pub(super) args: Vec<String>,
}

/// Refuses a name that LVM does not take.
pub(super) fn check_name(group: &str, name: &VolumeName) -> Result<(), &'static str> {
    let text = name.as_str();
    let letters = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '_' | '.' | '-');
    if !text.chars().all(letters) {
        Err("LVM's names have no other characters than a-z A-Z 0-9 + _ . -")
    } else if RESERVED.0.iter().any(|word| text.starts_with(word))
        || RESERVED.1.iter().any(|word| text.contains(word))
    {
        Err("LVM keeps names like this for itself; take another")
    } else if text.len() + group.len() > LONGEST {
        Err("the name is too long for LVM")
    } else {
        Ok(())
    }
}

/// Bytes, as LVM takes them.
pub(super) fn size(bytes: u64) -> String {
    format!("{}b", bytes.div_ceil(SECTOR).saturating_mul(SECTOR))
}

/// What the kernel's device mapper needs for a volume. lvcreate wants the one for snapshots also where
/// the snapshot is a thin one.
fn targets(plan: &Plan) -> impl Iterator<Item = &'static str> {
    let store: &[&str] = match plan.provisioning {
        Provisioning::Thick | Provisioning::Snapshot => &[],
        Provisioning::Sparse => &["snapshot", "zero"],
        Provisioning::Thin | Provisioning::ThinPool => &["thin-pool"],
    };
    let is_snapshot = plan.args.iter().any(|arg| arg == "--snapshot");
    store.iter().copied().chain(is_snapshot.then_some("snapshot"))
}

impl Volumes<'_> {
    /// Makes a volume, empty or a snapshot of another.
    pub(super) fn create(&self, def: &VolumeDef, preallocation: Preallocation) -> Result<Volume> {
        let blocks = self.blocks();
        blocks.check_new(def)?;
        let plan = self.plan(def)?;
        self.check_preallocation(def, &plan, preallocation)?;
        let (made, tag) = self.make(def, &plan)?;
        let volume = self.show(def, &made)?;
        match &def.backing {
            Some(backing) => {
                let origin = self.origin(def, &backing.path)?;
                blocks.inherit(&self.show(def, origin)?, &volume)?;
            }
            None => blocks.encrypt(def, &volume)?,
        }
        self.finish(def, made, &tag)
    }

    /// Makes a volume with another one's content.
    pub(super) fn clone(
        &self,
        def: &VolumeDef,
        source: &CloneSource,
        preallocation: Preallocation,
    ) -> Result<Volume> {
        let blocks = self.blocks();
        blocks.check_new(def)?;
        let def = blocks.clone_def(def, source)?;
        let plan = self.plan(&def)?;
        let fresh = match plan.provisioning {
            Provisioning::Thick => Fresh::Anything,
            Provisioning::Thin | Provisioning::Sparse => Fresh::Zeros,
            Provisioning::Snapshot | Provisioning::ThinPool => {
                let what = "a copy is thick, thin or sparse";
                return Err(self.refuse(&def, ErrorKind::InvalidArgument, what));
            }
        };
        self.check_preallocation(&def, &plan, preallocation)?;
        let (made, tag) = self.make(&def, &plan)?;
        let volume = self.show(&def, &made)?;
        blocks.fill(&def, &volume, source, fresh)?;
        self.finish(&def, made, &tag)
    }

    fn refuse(&self, def: &VolumeDef, kind: ErrorKind, what: impl std::fmt::Display) -> Error {
        self.pool.volume_error(kind, &def.name, what)
    }

    fn check_preallocation(
        &self,
        def: &VolumeDef,
        plan: &Plan,
        preallocation: Preallocation,
    ) -> Result<()> {
        let all = matches!(plan.provisioning, Provisioning::Thick | Provisioning::ThinPool);
        match all || preallocation == Preallocation::None {
            true => Ok(()),
            false => {
                let what = format!(
                    "a {} volume cannot be preallocated ({}); make it thick",
                    plan.provisioning.as_str(),
                    preallocation.as_str()
                );
                Err(self.refuse(def, ErrorKind::InvalidArgument, what))
            }
        }
    }

    /// What lvcreate is to make for a definition.
    pub(super) fn plan(&self, def: &VolumeDef) -> Result<Plan> {
        let group = &self.opened.group;
        let refuse = |kind, what: &str| Err(self.refuse(def, kind, what));
        if let Err(what) = check_name(&group.name, &def.name) {
            return refuse(ErrorKind::InvalidArgument, what);
        }
        if group.volume(def.name.as_str()).is_some() {
            return refuse(ErrorKind::Exists, "the volume group has one of that name");
        }
        if let Some(backing) = &def.backing {
            return self.plan_snapshot(def, &backing.path);
        }
        let bytes = self.blocks().device_size(def)?;
        // The smallest store that holds something.
        let store = def.allocation.filter(|bytes| Some(*bytes) < def.capacity);
        let store = store.map(|bytes| size(bytes.max(group.extent)));
        let chosen = def.provisioning.unwrap_or(match (&def.thin_pool, &store) {
            (Some(_), _) => Provisioning::Thin,
            (None, Some(_)) => Provisioning::Sparse,
            (None, None) => Provisioning::Thick,
        });
        if chosen != Provisioning::Thin && def.thin_pool.is_some() {
            return refuse(ErrorKind::InvalidArgument, "only a thin volume is in a thin pool");
        }
        if chosen == Provisioning::ThinPool && def.encryption.is_some() {
            return refuse(ErrorKind::InvalidArgument, "encrypt the volumes in a thin pool");
        }
        let bytes = size(bytes);
        let args = match (chosen, &store) {
            (Provisioning::Thick, _) => vec!["--size", &bytes, "--wipesignatures", "y"],
            (Provisioning::ThinPool, _) => vec!["--type", "thin-pool", "--size", &bytes],
            (Provisioning::Sparse, Some(store)) => {
                vec!["--type", "snapshot", "--size", store, "--virtualsize", &bytes]
            }
            (Provisioning::Sparse, None) => {
                let what = "a sparse volume needs an allocation that is less than its capacity";
                return refuse(ErrorKind::InvalidArgument, what);
            }
            (Provisioning::Snapshot, _) => {
                let what = "a snapshot needs a backing store, the volume that it is one of";
                return refuse(ErrorKind::InvalidArgument, what);
            }
            (Provisioning::Thin, _) => {
                let pool = &self.thin_pool(def)?.name;
                vec!["--type", "thin", "--virtualsize", &bytes, "--thinpool", pool]
            }
        };
        let mut args: Vec<String> = args.into_iter().map(str::to_owned).collect();
        args.push(group.name.clone());
        Ok(Plan { provisioning: chosen, args })
    }

    fn plan_snapshot(&self, def: &VolumeDef, path: &str) -> Result<Plan> {
        let origin = self.origin(def, path)?;
        let refuse = |kind, what: &str| Err(self.refuse(def, kind, what));
        let same = self.show(def, origin)?.capacity;
        if def.capacity.is_some_and(|capacity| capacity != 0 && capacity != same) {
            let what = format!("a snapshot has the capacity of its origin, which is {same}");
            return refuse(ErrorKind::InvalidArgument, &what);
        }
        if def.encryption.is_some() {
            let what = "a snapshot is encrypted as its origin is; leave the encryption out";
            return refuse(ErrorKind::InvalidArgument, what);
        }
        let source = self.opened.named(&origin.name);
        let (provisioning, args) = match (origin.provisioning, def.provisioning) {
            (Provisioning::ThinPool, _) => {
                return refuse(ErrorKind::InvalidArgument, "there are no snapshots of thin pools");
            }
            (Provisioning::Snapshot | Provisioning::Sparse, _) => {
                let what = "LVM makes no snapshots of a snapshot or sparse volume; clone it";
                return refuse(ErrorKind::NotSupported, what);
            }
            (Provisioning::Thin, None | Some(Provisioning::Thin)) => {
                self.check_room(def, origin.thin_pool.as_deref())?;
                let args = vec!["--snapshot", "--setactivationskip", "n"];
                (Provisioning::Thin, args.into_iter().map(str::to_owned).collect())
            }
            (Provisioning::Thin | Provisioning::Thick, None | Some(Provisioning::Snapshot)) => {
                let store = def.allocation.filter(|bytes| *bytes != 0).unwrap_or(origin.size);
                let store = size(store.max(self.opened.group.extent));
                (Provisioning::Snapshot, vec!["--snapshot".into(), "--size".into(), store])
            }
            (Provisioning::Thick, Some(Provisioning::Thin)) => {
                let what = "its origin is not thin; leave the provisioning out, or clone it";
                return refuse(ErrorKind::NotSupported, what);
            }
            (_, Some(_)) => {
                return refuse(
                    ErrorKind::InvalidArgument,
                    "a snapshot is of type snapshot or thin",
                );
            }
        };
        let mut args: Vec<String> = args;
        args.push(source);
        Ok(Plan { provisioning, args })
    }

    /// The volume that a path names.
    fn origin(&self, def: &VolumeDef, path: &str) -> Result<&LogicalVolume> {
        let mut volumes = self.opened.group.volumes.iter();
        let found = volumes.find(|volume| self.opened.path(&volume.name) == Path::new(path));
        found.ok_or_else(|| {
            let what =
                format!("{path} is no volume of this pool, and LVM makes snapshots of these only");
            self.refuse(def, ErrorKind::NotFound, what)
        })
    }

    /// The thin pool for a new volume, which has room.
    fn thin_pool(&self, def: &VolumeDef) -> Result<&LogicalVolume> {
        let volumes = &self.opened.group.volumes;
        let mut pools = volumes.iter().filter(|v| v.provisioning == Provisioning::ThinPool);
        let pool = match (&def.thin_pool, pools.next(), pools.next()) {
            (Some(name), ..) => {
                let found = self.opened.group.volume(name.as_str());
                found.filter(|v| v.provisioning == Provisioning::ThinPool).ok_or_else(|| {
                    self.refuse(def, ErrorKind::NotFound, format!("there is no thin pool {name}"))
                })?
            }
            (None, Some(only), None) => only,
            (None, None, _) => {
                let what = "there is no thin pool; create one first";
                return Err(self.refuse(def, ErrorKind::NotFound, what));
            }
            (None, Some(_), Some(_)) => {
                let what = "there are several thin pools; name one";
                return Err(self.refuse(def, ErrorKind::InvalidArgument, what));
            }
        };
        self.check_room(def, Some(&pool.name))?;
        Ok(pool)
    }

    /// Refuses a thin pool that is about to be full.
    fn check_room(&self, def: &VolumeDef, pool: Option<&str>) -> Result<()> {
        let Some(pool) = pool.and_then(|name| self.opened.group.volume(name)) else {
            return Ok(());
        };
        let parts = [("data", pool.data_used), ("metadata", pool.metadata_used)];
        match parts.into_iter().find(|(_, used)| used.is_some_and(|used| used >= FULL)) {
            None => Ok(()),
            Some((part, used)) => {
                let (used, most) = (used.unwrap_or(0) / 100, FULL / 100);
                let what = format!(
                    "the {part} of thin pool {} is {used} % full, and new volumes are made up to {most} %; resize it",
                    pool.name
                );
                Err(self.refuse(def, ErrorKind::NoSpace, what))
            }
        }
    }

    /// Makes a logical volume, with a tag until it is whole.
    fn make(&self, def: &VolumeDef, plan: &Plan) -> Result<(LogicalVolume, String)> {
        let (opened, ctx, tag) = (&self.opened, self.opened.ctx, new_tag());
        let group = opened.group.uuid.clone();
        ctx.journal.record(&Undo::RemoveLogicalVolume { group, tag: tag.clone() })?;
        opened.lvm().load(targets(plan));
        let options = ["--yes", "--addtag", &tag, "--name", def.name.as_str()];
        let args = options.into_iter().chain(plan.args.iter().map(String::as_str));
        let made = opened.lvm().run("lvcreate", &args.collect::<Vec<_>>());
        made.map_err(|error| self.pool.of_volume(&def.name, error))?;
        ctx.limits.check()?;
        let again = Opened::on(opened.pool, opened.devices.clone(), ctx)?;
        let found = again.as_ref().and_then(|again| again.group.volume(def.name.as_str()));
        let found = found.filter(|found| found.tags.contains(&tag)).ok_or_else(|| {
            self.refuse(def, ErrorKind::Failed, "LVM made it, and it is not there")
        })?;
        if found.provisioning != Provisioning::ThinPool {
            self.await_device(def, found)?;
        }
        Ok((found.clone(), tag))
    }

    fn await_device(&self, def: &VolumeDef, found: &LogicalVolume) -> Result<BlockDevice> {
        let found = self.opened.ctx.limits.look_for(PATIENCE, || self.opened.device(found))?;
        found.ok_or_else(|| {
            let what = "LVM made it, and its device does not appear; is udev alive?";
            self.refuse(def, ErrorKind::TimedOut, what)
        })
    }

    /// Says that a volume is whole: from here on it stays.
    fn finish(&self, def: &VolumeDef, mut made: LogicalVolume, tag: &str) -> Result<Volume> {
        self.opened.ctx.limits.check()?;
        let name = self.opened.named(def.name.as_str());
        let whole = self.opened.lvm().run("lvchange", &["--deltag", tag, &name]);
        whole.map_err(|error| self.pool.of_volume(&def.name, error))?;
        made.tags.clear();
        self.show(def, &made)
    }

    fn show(&self, def: &VolumeDef, found: &LogicalVolume) -> Result<Volume> {
        let gone = || self.refuse(def, ErrorKind::Failed, "its name cannot be shown");
        self.volume(found).ok_or_else(gone)
    }
}
