//! `vol upload`, `vol download` and `vol open`: volumes and descriptors of this process.

use super::follow::{Step, complete};
use super::output;
use super::session::Session;
use super::values::VolumeRef;
use super::volume::subject;
use crate::client::Options;
use crate::model::{Error, ErrorKind, Result};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::JoinHandle;

/// Which part is transferred, and how.
#[derive(Debug, clap::Args)]
pub(super) struct Part {
    /// First byte in the volume
    #[arg(long, value_name = "SIZE", value_parser = super::values::size)]
    offset: Option<u64>,
    /// How many bytes [default: to the end]
    #[arg(long, value_name = "SIZE", value_parser = super::values::size)]
    length: Option<u64>,
    /// Leave holes out
    #[arg(long)]
    sparse: bool,
}

impl Part {
    fn add_to(&self, options: &mut Options<'_>) {
        // These methods answer at once and have no such option.
        options.remove("wait");
        for (key, value) in [("offset", self.offset), ("length", self.length)] {
            options.extend(value.map(|value| (key, value.into())));
        }
        options.extend(self.sparse.then(|| ("sparse", true.into())));
    }
}

/// A descriptor that the service takes: the process's own, or the end of a pipe that a thread of
/// ours serves.
struct Passed {
    descriptor: OwnedFd,
    copying: Option<JoinHandle<io::Result<u64>>>,
}

impl Passed {
    /// The standard input or output as it is, where it is a file, pipe or socket.
    fn own(standard: BorrowedFd<'_>) -> io::Result<Option<Self>> {
        let file = File::from(standard.try_clone_to_owned()?);
        let kind = file.metadata()?.file_type();
        let passes = kind.is_file() || kind.is_fifo() || kind.is_socket() || kind.is_block_device();
        Ok(passes.then(|| Self { descriptor: file.into(), copying: None }))
    }

    fn input() -> io::Result<Self> {
        if let Some(own) = Self::own(io::stdin().as_fd())? {
            return Ok(own);
        }
        let (reader, mut writer) = io::pipe()?;
        let copying = std::thread::spawn(move || io::copy(&mut io::stdin().lock(), &mut writer));
        Ok(Self { descriptor: reader.into(), copying: Some(copying) })
    }

    fn output() -> io::Result<Self> {
        if let Some(own) = Self::own(io::stdout().as_fd())? {
            return Ok(own);
        }
        let (mut reader, writer) = io::pipe()?;
        let copying = std::thread::spawn(move || io::copy(&mut reader, &mut io::stdout().lock()));
        Ok(Self { descriptor: writer.into(), copying: Some(copying) })
    }

    /// Closes our end and waits until the rest is through.
    fn finish(self) -> io::Result<()> {
        drop(self.descriptor);
        match self.copying.map(JoinHandle::join) {
            Some(Ok(copied)) => copied.map(drop),
            _ => Ok(()),
        }
    }
}

fn failed(path: &Path) -> impl Fn(io::Error) -> Error {
    move |error| Error::io(format_args!("cannot open {}", path.display()), &error)
}

fn is_standard(path: &Path) -> bool {
    path == Path::new("-")
}

pub(super) async fn upload(
    session: &Session,
    volume: &VolumeRef,
    file: &Path,
    part: &Part,
    force: bool,
) -> anyhow::Result<()> {
    let source = match is_standard(file) {
        true => Passed::input().map_err(failed(file))?,
        false => {
            Passed { descriptor: File::open(file).map_err(failed(file))?.into(), copying: None }
        }
    };
    let (mut options, _agent) = session.start_job_with([("force", force)]).await;
    part.add_to(&mut options);
    let proxy = session.volume(volume).await?;
    let job = proxy.upload((&source.descriptor).into(), &options).await?;
    drop(source.descriptor);
    let step = Step::new("Uploading to", "Uploaded to", subject(volume));
    // Whoever still types into a pipe that nobody reads ends with the process.
    complete(session, job, Some(&proxy.object_path()), &step).await
}

pub(super) async fn download(
    session: &Session,
    volume: &VolumeRef,
    file: &Path,
    part: &Part,
) -> anyhow::Result<()> {
    let (mut options, _agent) = session.start_job().await;
    part.add_to(&mut options);
    let proxy = session.volume(volume).await?;
    let step = Step::new("Downloading", "Downloaded", subject(volume));
    if is_standard(file) {
        let out = Passed::output().map_err(failed(file))?;
        let job = proxy.download((&out.descriptor).into(), &options).await?;
        // Standard output is the volume's.
        super::follow::finish(session, job, &step).await?;
        return Ok(out.finish()?);
    }
    let made = Made::new(file.to_owned())?;
    let job = proxy.download((&made.file).into(), &options).await?;
    complete(session, job, Some(&proxy.object_path()), &step).await?;
    made.keep();
    Ok(())
}

/// A file for a download; removed again when that fails, unless it was there before.
struct Made {
    file: File,
    path: PathBuf,
    new: bool,
}

impl Made {
    fn new(path: PathBuf) -> Result<Self> {
        let open =
            |new: bool| File::options().write(true).create_new(new).truncate(!new).open(&path);
        let (file, new) = match open(true) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => (open(false), false),
            file => (file, true),
        };
        Ok(Self { file: file.map_err(failed(&path))?, path, new })
    }

    fn keep(mut self) {
        self.new = false;
    }
}

impl Drop for Made {
    fn drop(&mut self) {
        if self.new {
            // What is left over says so itself.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// Runs a command with a volume's content as its standard input; its exit status is ours.
pub(super) async fn open(
    session: &Session,
    volume: &VolumeRef,
    write: bool,
    force: bool,
    command: &[String],
) -> anyhow::Result<()> {
    let (mut options, agent) = session.change().await;
    options.extend(force.then(|| ("force", true.into())));
    let mode = if write { "w" } else { "r" };
    let descriptor = session.volume(volume).await?.open(mode, &options).await?;
    drop(agent);
    let Some((program, arguments)) = command.split_first() else {
        return Err(Error::new(ErrorKind::InvalidArgument, "no command to run").into());
    };
    let status =
        Command::new(program).args(arguments).stdin(OwnedFd::from(descriptor)).status().map_err(
            |error| Error::io(format_args!("cannot run {}", output::printable(program)), &error),
        )?;
    match status.code() {
        Some(0) => Ok(()),
        Some(code) => std::process::exit(code),
        None => Err(Error::new(ErrorKind::Failed, format!("{program}: {status}")).into()),
    }
}
