//! The jobs that move data, and how each is started.

use super::super::support::world::{World, with};
use anyhow::{Result, ensure};
use poold::client::{JobProxy, Options, PoolProxy, VolumeProxy};
use std::io::{Read, Seek, Write};
use zbus::{Connection, OwnedObjectPath};

/// What volumes hold before, and what one is overwritten with.
pub const OLD: u8 = 0x11;
pub const NEW: u8 = 0x22;

/// A job that moves data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    CreateRaw,
    CreateQcow2,
    CreateVdi,
    CloneCopy,
    /// The same where files can share blocks.
    CloneReflink,
    CloneConvert,
    Upload,
    UploadPipe,
    Download,
    Wipe,
    Resize,
}

impl Kind {
    /// Those that every file system can do.
    pub const ALL: [Self; 10] = [
        Self::CreateRaw,
        Self::CreateQcow2,
        Self::CreateVdi,
        Self::CloneCopy,
        Self::CloneConvert,
        Self::Upload,
        Self::UploadPipe,
        Self::Download,
        Self::Wipe,
        Self::Resize,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::CreateRaw => "create-raw",
            Self::CreateQcow2 => "create-qcow2",
            Self::CreateVdi => "create-vdi",
            Self::CloneCopy => "clone-copy",
            Self::CloneReflink => "clone-reflink",
            Self::CloneConvert => "clone-convert",
            Self::Upload => "upload",
            Self::UploadPipe => "upload-pipe",
            Self::Download => "download",
            Self::Wipe => "wipe",
            Self::Resize => "resize",
        }
    }

    /// What the volume "old" is overwritten with.
    pub fn overwrites(self) -> Option<u8> {
        match self {
            Self::Upload | Self::UploadPipe => Some(NEW),
            Self::Wipe => Some(0),
            _ => None,
        }
    }

    /// Whether qemu-img has a part in it.
    pub fn runs_qemu_img(self) -> bool {
        matches!(self, Self::CreateVdi | Self::CloneConvert)
    }

    /// Asks for it as the user of `connection`, for volumes of `size` bytes, and does not wait; the job.
    pub async fn start(
        self,
        connection: &Connection,
        pool: &OwnedObjectPath,
        size: u64,
    ) -> Result<OwnedObjectPath> {
        let pool = PoolProxy::new(connection, pool.clone()).await?;
        let options = |more: &[(&'static str, &'static str)]| -> Options<'static> {
            let mut options = with("wait", 0_u64);
            options.extend(more.iter().map(|(key, value)| (*key, (*value).into())));
            options
        };
        let create = async |format, preallocation| -> Result<OwnedObjectPath> {
            let options = options(&[("format", format), ("preallocation", preallocation)]);
            Ok(pool.create_volume("new", size, &options).await?.1)
        };
        let volume = async |name: &str| -> Result<VolumeProxy<'static>> {
            let path = pool.lookup_volume(name, &Options::new()).await?;
            Ok(VolumeProxy::new(connection, path).await?)
        };
        Ok(match self {
            Self::CreateRaw => create("raw", "full").await?,
            Self::CreateQcow2 => create("qcow2", "full").await?,
            Self::CreateVdi => create("vdi", "none").await?,
            Self::CloneCopy | Self::CloneReflink => {
                volume("source").await?.clone("new", &options(&[])).await?.1
            }
            Self::CloneConvert => {
                volume("source").await?.clone("new", &options(&[("format", "qcow2")])).await?.1
            }
            Self::Upload => {
                let file = file_of(NEW, size)?;
                volume("old").await?.upload((&file).into(), &Options::new()).await?
            }
            Self::UploadPipe => {
                let (reader, mut writer) = std::io::pipe()?;
                let content = vec![NEW; usize::try_from(size)?];
                // It ends early when the service does.
                std::thread::spawn(move || writer.write_all(&content));
                volume("old").await?.upload((&reader).into(), &Options::new()).await?
            }
            Self::Download => {
                let (mut reader, writer) = std::io::pipe()?;
                std::thread::spawn(move || reader.read_to_end(&mut Vec::new()));
                volume("source").await?.download((&writer).into(), &Options::new()).await?
            }
            Self::Wipe => {
                let mut options = options(&[]);
                options.extend([("force", true.into()), ("allocate", true.into())]);
                volume("old").await?.wipe(&options).await?
            }
            Self::Resize => {
                let mut options = options(&[]);
                options.insert("allocate", true.into());
                volume("old").await?.resize(size * 2, &options).await?
            }
        })
    }
}

/// A file without a name, full of a byte.
fn file_of(byte: u8, size: u64) -> Result<std::fs::File> {
    let mut file = tempfile::tempfile()?;
    file.write_all(&vec![byte; usize::try_from(size)?])?;
    file.rewind()?;
    Ok(file)
}

/// Makes the volumes "source" and "old" in a pool, both full.
pub async fn fill(world: &World, pool: &PoolProxy<'_>, size: u64) -> Result<()> {
    for name in ["source", "old"] {
        let (path, _) = pool.create_volume(name, size, &with("format", "raw")).await?;
        let file = file_of(OLD, size)?;
        let volume = world.volume(&path).await?;
        let job = volume.upload((&file).into(), &Options::new()).await?;
        ensure!(ends(world, &job).await?, "{name} cannot be filled");
    }
    Ok(())
}

/// Waits until a job ends, as root; whether well.
pub async fn ends(world: &World, job: &OwnedObjectPath) -> Result<bool> {
    let job = JobProxy::builder(&world.root)
        .path(job.clone())
        .cache_properties(zbus::proxy::CacheProperties::No)
        .build()
        .await?;
    let ended = job.wait(&with("wait", 60_000_000_u64)).await;
    match (job.state().await?.as_str(), ended) {
        ("done", Ok(())) => Ok(true),
        ("failed" | "cancelled", Err(_)) => Ok(false),
        (state, ended) => anyhow::bail!("a job is {state} and Wait says {ended:?}"),
    }
}
