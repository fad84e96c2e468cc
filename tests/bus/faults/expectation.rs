//! What must be so after a fault.

use super::super::support::world::{World, none};
use super::job::{Kind, OLD};
use anyhow::{Context, Result, bail, ensure};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Room that a file system may take or give by itself: directories, its journal, what it counts late.
const SLACK: u64 = 512 << 10;

/// A pool before the fault.
pub struct Scene {
    pub name: String,
    pub kind: Kind,
    /// Bytes of each volume.
    pub size: u64,
    /// What the volume "old" is full of.
    pub old: u8,
    directory: PathBuf,
    /// Bytes in use in the file system, where it is the pool's alone; in its files else.
    used: u64,
    own_disk: bool,
}

/// How the job ended, as far as anybody was told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Told {
    Done,
    Failed,
    /// The service died first.
    Nothing,
}

impl Scene {
    /// As it is now.
    pub fn new(world: &World, name: &str, kind: Kind, size: u64, own_disk: bool) -> Result<Self> {
        let directory = world.pools().join(name);
        let used = used(world, &directory, own_disk)?;
        Ok(Self { name: name.to_owned(), kind, size, old: OLD, directory, used, own_disk })
    }

    /// The same, whose volume "old" was emptied.
    pub fn emptied(self, world: &World) -> Result<Self> {
        let used = used(world, &self.directory, self.own_disk)?;
        Ok(Self { old: 0, used, ..self })
    }

    /// Looks at everything; in which state it was left.
    pub async fn check(&self, world: &World, told: Told) -> Result<&'static str> {
        ensure!(!qemu_img_runs()?, "a qemu-img goes on");
        let pool = world.manager().await?.lookup_pool(&self.name, &none()).await?;
        let pool = world.pool(&pool).await?;
        pool.refresh(&none()).await?;
        let mut found = files(world, &self.directory)?;
        let full = |content: Option<&Vec<u8>>, size: u64, byte: u8| {
            content.is_some_and(|bytes| {
                bytes.len() as u64 == size && bytes.iter().all(|each| *each == byte)
            })
        };
        ensure!(full(found.get("source"), self.size, OLD), "the source changed");
        found.remove("source");
        let old = found.remove("old").context("a volume is gone")?;
        let volume = world.volume(&pool.lookup_volume("old", &none()).await?).await?;
        let incomplete = volume.incomplete().await?;
        let as_before = full(Some(&old), self.size, self.old) && !incomplete;
        let state = match self.kind.overwrites() {
            Some(_) if incomplete => "incomplete",
            Some(new) if full(Some(&old), self.size, new) => "whole",
            Some(_) if as_before => "as before",
            Some(_) => bail!("it is half overwritten and not marked"),
            None if self.kind == Kind::Resize => {
                let (grown, added) = old.split_at(old.len().min(usize::try_from(self.size)?));
                ensure!(full(Some(&grown.to_vec()), self.size, self.old), "it lost content");
                ensure!(added.iter().all(|byte| *byte == 0) && !incomplete, "what was added");
                match added.len() as u64 {
                    0 => "as before",
                    added if added == self.size => "whole",
                    added => bail!("it grew by {added} bytes"),
                }
            }
            None => {
                ensure!(as_before, "another volume changed");
                match found.remove("new") {
                    _ if self.kind == Kind::Download => "as before",
                    None => "absent",
                    Some(_) => {
                        let new = pool.lookup_volume("new", &none()).await?;
                        let new = world.volume(&new).await?;
                        ensure!(!new.incomplete().await?, "it is there and not whole");
                        ensure!(new.capacity().await? == self.size, "its capacity");
                        ensure!(new.format_source().await? == "declared", "it is not declared");
                        "whole"
                    }
                }
            }
        };
        ensure!(found.is_empty(), "left over: {:?}", found.keys());
        match told {
            Told::Done => ensure!(
                state == "whole" || self.kind == Kind::Download,
                "it was acknowledged and is {state}"
            ),
            // What was overwritten may be whole when only the word of that could not be kept.
            Told::Failed => ensure!(
                state != "whole" || self.kind.overwrites().is_some(),
                "it failed and is there"
            ),
            Told::Nothing => {}
        }
        self.check_room(world, state)?;
        self.check_open_files(world).await?;
        Ok(state)
    }

    /// What is used is what is there.
    fn check_room(&self, world: &World, state: &str) -> Result<()> {
        let now = used(world, &self.directory, self.own_disk)?;
        let may_grow = state == "whole" || (self.old == 0 && state == "incomplete");
        let most = self.used + SLACK + if may_grow { self.size + SLACK } else { 0 };
        ensure!(
            now <= most && now + SLACK >= self.used,
            "{now} bytes are used, {} were before",
            self.used
        );
        Ok(())
    }

    /// The service keeps nothing of the pool open.
    async fn check_open_files(&self, world: &World) -> Result<()> {
        let poold = world.poold().await?;
        for entry in std::fs::read_dir(format!("/proc/{poold}/fd"))? {
            // One that is gone is not open.
            let Ok(target) = std::fs::read_link(entry?.path()) else { continue };
            ensure!(!target.starts_with(&self.directory), "{} is still open", target.display());
        }
        Ok(())
    }
}

/// Content of the files of a pool, hidden ones too, as the daemon sees them.
fn files(world: &World, directory: &Path) -> Result<BTreeMap<String, Vec<u8>>> {
    let script = "cd \"$0\" && find . -maxdepth 1 -type f -printf '%f\\n'";
    let listed = world.inside("sh").args(["-c", script]).arg(directory).output()?;
    let mut found = BTreeMap::new();
    for name in String::from_utf8(listed.stdout)?.lines() {
        let content = world.inside("cat").arg(directory.join(name)).output()?.stdout;
        found.insert(name.to_owned(), content);
    }
    Ok(found)
}

/// Bytes in use.
fn used(world: &World, directory: &Path, own_disk: bool) -> Result<u64> {
    let script = match own_disk {
        true => {
            "sync -f \"$0\"; stat -f -c '%b %f %S' \"$0\" | (read -r b f s; echo $(((b - f) * s)))"
        }
        false => "du -s -B1 --apparent-size \"$0\" | cut -f1",
    };
    let said = world.inside("sh").args(["-c", script]).arg(directory).output()?.stdout;
    String::from_utf8(said)?.trim().parse().context("bytes in use")
}

/// Whether a qemu-img goes on; this process sees those of its own namespace only.
pub fn qemu_img_runs() -> Result<bool> {
    for process in std::fs::read_dir("/proc")? {
        let line = std::fs::read(process?.path().join("cmdline")).unwrap_or_default();
        let mut words = line.split(|byte| *byte == 0).take(2);
        if words.any(|word| word.ends_with(b"/qemu-img")) {
            return Ok(true);
        }
    }
    Ok(false)
}
