//! poold on a private bus, and virsh where it is installed.

use crate::contender::{Contender, done, remove};
use crate::place::{Disk, Place};
use crate::support::PrivateBus;
use anyhow::{Context, Result};
use poold::client::{JobProxy, ManagerProxy, Options, PoolProxy, VolumeProxy};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::rc::Rc;
use tokio::runtime::Runtime;
use zbus::{Connection, Variant};

const OURS: &str = "poold";

/// libvirt's pool, which is this process's own.
fn virsh_name() -> String {
    format!("poold-bench-{}", std::process::id())
}

/// virsh with some words.
fn virsh(words: &[&str]) -> Command {
    let mut command = Command::new("virsh");
    command.arg("-q").args(words);
    command
}

/// A pool of poold's.
pub struct Service {
    runtime: Rc<Runtime>,
    connection: Connection,
    pool: PoolProxy<'static>,
    directory: PathBuf,
    _bus: Rc<PrivateBus>,
}

/// Waits for as long as it takes.
fn for_ever() -> Options<'static> {
    Options::from([("wait", Variant::from(u64::MAX))])
}

fn name(path: &Path) -> Result<&str> {
    path.file_name().and_then(|name| name.to_str()).context("a name")
}

impl Service {
    /// poold with a pool in a place.
    pub fn start(place: &Place) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let bus = PrivateBus::start(&place.path("root"))?;
        let connection = runtime.block_on(poold::client::connect(Some(bus.address())))?;
        let directory = place.path("pool");
        let pool = runtime.block_on(pool(&connection, "bench", &directory))?;
        Ok(Self { runtime: runtime.into(), connection, pool, directory, _bus: bus.into() })
    }

    /// The same poold with a pool on another file system.
    pub fn pool_on(&self, disk: &Disk) -> Result<Self> {
        let (connection, runtime) = (self.connection.clone(), Rc::clone(&self.runtime));
        let pool = runtime.block_on(pool(&connection, name(&disk.mounted)?, &disk.mounted))?;
        let directory = disk.mounted.clone();
        Ok(Self { runtime, connection, pool, directory, _bus: Rc::clone(&self._bus) })
    }

    /// Lets the pool go.
    pub fn stop(&self) -> Result<()> {
        self.runtime.block_on(self.pool.stop(&for_ever()))?;
        Ok(())
    }

    async fn volume(&self, path: &Path) -> Result<VolumeProxy<'static>> {
        let volume = self.pool.lookup_volume(name(path)?, &Options::new()).await?;
        Ok(VolumeProxy::new(&self.connection, volume).await?)
    }

    async fn ends(&self, job: zbus::OwnedObjectPath) -> Result<()> {
        JobProxy::new(&self.connection, job).await?.wait(&for_ever()).await?;
        Ok(())
    }

    /// A new empty volume for all of a file.
    fn empty(&self, source: &Path, volume: &Path) -> Result<()> {
        self.delete(volume)?;
        let (size, name) = (source.metadata()?.len(), name(volume)?);
        let options = Options::from([("format", Variant::from("raw"))]);
        self.runtime.block_on(self.pool.create_volume(name, size, &options))?;
        Ok(())
    }

    fn delete(&self, volume: &Path) -> Result<()> {
        if !volume.exists() {
            return Ok(());
        }
        self.runtime.block_on(async {
            self.volume(volume).await?.delete(&for_ever()).await?;
            Ok(())
        })
    }

    /// Makes a volume with the content of a file.
    pub fn fill(&self, source: &Path, volume: &Path) -> Result<()> {
        self.empty(source, volume)?;
        self.runtime.block_on(async {
            let file = File::open(source)?;
            let job = self.volume(volume).await?.upload((&file).into(), &Options::new()).await?;
            self.ends(job).await
        })
    }

    /// Upload of a file.
    pub fn upload<'a>(&'a self, source: &'a Path, volume: &'a Path) -> Contender<'a> {
        let run = move || {
            self.runtime.block_on(async {
                let (file, none) = (File::open(source)?, Options::new());
                let volume = self.volume(volume).await?;
                self.ends(volume.upload((&file).into(), &none).await?).await
            })
        };
        Contender::new(OURS, run, move || self.delete(volume))
            .prepared(move || self.empty(source, volume))
    }

    /// Upload of what `cat` writes into a pipe.
    pub fn upload_by_pipe<'a>(&'a self, source: &'a Path, volume: &'a Path) -> Contender<'a> {
        let run = move || {
            let (reader, writer) = std::io::pipe()?;
            let mut cat = Command::new("cat").arg(source).stdout(writer).spawn()?;
            self.runtime.block_on(async {
                let (volume, none) = (self.volume(volume).await?, Options::new());
                let job = volume.upload((&reader).into(), &none).await?;
                drop(reader);
                self.ends(job).await
            })?;
            anyhow::ensure!(cat.wait()?.success(), "cat failed");
            Ok(())
        };
        Contender::new(OURS, run, move || self.delete(volume))
            .prepared(move || self.empty(source, volume))
    }

    /// Download into a new file.
    pub fn download<'a>(&'a self, volume: &'a Path, copy: &'a Path) -> Contender<'a> {
        let run = move || {
            self.runtime.block_on(async {
                let (file, none) = (File::create(copy)?, Options::new());
                let volume = self.volume(volume).await?;
                self.ends(volume.download((&file).into(), &none).await?).await
            })
        };
        Contender::new(OURS, run, move || remove(copy))
    }

    /// Download into a pipe that `cat` reads.
    pub fn download_by_pipe<'a>(&'a self, volume: &'a Path) -> Contender<'a> {
        let run = move || {
            let (reader, writer) = std::io::pipe()?;
            let mut cat = Command::new("cat").stdin(reader).stdout(Stdio::null()).spawn()?;
            self.runtime.block_on(async {
                let (volume, none) = (self.volume(volume).await?, Options::new());
                let job = volume.download((&writer).into(), &none).await?;
                drop(writer);
                self.ends(job).await
            })?;
            anyhow::ensure!(cat.wait()?.success(), "cat failed");
            Ok(())
        };
        Contender::new(OURS, run, || Ok(()))
    }

    /// A copy of a volume in the same pool.
    pub fn clone<'a>(
        &'a self,
        volume: &'a Path,
        clone: &'a Path,
        format: &'static str,
    ) -> Contender<'a> {
        let run = move || {
            let mut options = for_ever();
            options.insert("format", Variant::from(format));
            self.runtime.block_on(async {
                self.volume(volume).await?.clone(name(clone)?, &options).await?;
                Ok(())
            })
        };
        Contender::new(OURS, run, move || self.delete(clone))
    }

    /// A new volume of 1 GiB.
    pub fn create<'a>(&'a self, volume: &'a Path, format: &'static str) -> Contender<'a> {
        let run = move || {
            let options = Options::from([("format", Variant::from(format))]);
            self.runtime.block_on(self.pool.create_volume(name(volume)?, 1 << 30, &options))?;
            Ok(())
        };
        Contender::new(OURS, run, move || self.delete(volume))
    }

    /// A transfer by libvirt, which syncs nothing.
    pub fn virsh<'a>(
        &'a self,
        verb: &'static str,
        volume: &'a Path,
        file: &'a Path,
    ) -> Contender<'a> {
        const NAME: &str = "virsh, unsynced";
        if let Err(why) = self.virsh_pool() {
            return Contender::absent(NAME, &why);
        }
        let pool = virsh_name();
        let run = move || done(virsh(&[verb, "--pool", &pool]).args([volume, file]));
        if verb == "vol-download" {
            return Contender::new(NAME, run, move || remove(file));
        }
        let prepare = move || {
            self.empty(file, volume)?;
            done(&mut virsh(&["pool-refresh", &virsh_name()]))
        };
        Contender::new(NAME, run, move || self.delete(volume)).prepared(prepare)
    }

    /// A new volume by libvirt.
    pub fn virsh_create<'a>(&'a self, volume: &'a Path, format: &'static str) -> Contender<'a> {
        if let Err(why) = self.virsh_pool() {
            return Contender::absent("virsh", &why);
        }
        let run = move || {
            let words = ["vol-create-as", &virsh_name(), "new", "1G", "--allocation", "0"];
            done(virsh(&words).args(["--format", format]))
        };
        Contender::new("virsh", run, move || remove(volume))
    }

    /// A pool of libvirt's in the same directory; says why there is none.
    fn virsh_pool(&self) -> Result<(), String> {
        if done(&mut virsh(&["uri"])).is_err() {
            return Err("virsh, or a libvirtd for it".to_owned());
        }
        if done(&mut virsh(&["pool-info", &virsh_name()])).is_ok() {
            return Ok(());
        }
        let create = ["pool-create-as", &virsh_name(), "dir", "--target"];
        done(virsh(&create).arg(&self.directory)).map_err(|error| format!("{error:#}"))
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = virsh(&["pool-destroy", &virsh_name()]).output();
    }
}

/// A pool in a directory.
async fn pool(connection: &Connection, name: &str, target: &Path) -> Result<PoolProxy<'static>> {
    let xml = format!(
        "<pool type='dir'><name>{name}</name><target><path>{}</path></target></pool>",
        target.display()
    );
    let options = Options::from([("start", Variant::from(true))]);
    let (path, _) = ManagerProxy::new(connection).await?.define_pool_xml(&xml, &options).await?;
    Ok(PoolProxy::new(connection, path).await?)
}
