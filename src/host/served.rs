//! Images that are on a server, as files of this host: QEMU's storage daemon serves one by FUSE.
//!
//! What copies, wipes or converts files works on it unchanged. The file has a name for a moment only:
//! once it is open it is unmounted lazily, so that nothing is left of it when poold dies, and no one else
//! sees it. Called by `backend`.

use super::process::Running;
use super::tool::last_line;
use super::{CancelToken, Lifetime, Limits, SystemHost};
use crate::model::{Error, ErrorKind, Result, Uuid};
use nix::mount::{MntFlags, umount2};
use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// The program.
const PROGRAM: &str = "qemu-storage-daemon";
/// How long it may take until it serves.
const BEGIN: Duration = Duration::from_secs(25);
/// How long it may take to let go of the image in an orderly way: one that is killed is taken for a
/// user of the image by its server for a while.
const FAREWELL: Duration = Duration::from_secs(5);
/// How long whoever uses the file may take to hear of a cancel before the file is taken away, which
/// ends what is stuck in it.
const HEARING: Duration = Duration::from_secs(2);
/// What it says when what reaches a kind of server is not installed, and what has that.
const NO_DRIVER: &str = "Unknown driver";
const DRIVERS: &str = "qemu-block-extra (Debian) or qemu-block-rbd, qemu-block-iscsi ... (Fedora)";

/// A program that serves an image; it ends when this is dropped, after which nothing can be read or
/// written any more.
#[derive(Debug)]
pub struct Server {
    unwanted: CancelToken,
    thread: Option<JoinHandle<Ended>>,
}

/// Its last words.
type Ended = Option<String>;

impl Drop for Server {
    fn drop(&mut self) {
        self.unwanted.cancel();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Server {
    /// Starts it, with a thread of its own that hears what it says.
    fn start(args: Vec<OsString>, limits: &Limits, kept: impl Send + 'static) -> Result<Self> {
        let path = SystemHost.tool(PROGRAM)?;
        let unwanted = CancelToken::default();
        let (asked, limits) = (unwanted.clone(), limits.clone());
        let serve = move || -> Ended {
            let running = match Running::spawn(&path, &args, &[], Lifetime::Orderly) {
                Ok(running) => running,
                Err(error) => return Some(error.to_string()),
            };
            let mut late: Option<Instant> = None;
            let (_, said) = running.serve(
                || {
                    if limits.check().is_err() {
                        late.get_or_insert_with(Instant::now);
                    }
                    asked.is_cancelled() || late.is_some_and(|since| since.elapsed() > HEARING)
                },
                FAREWELL,
            );
            drop(kept);
            last_line(&said)
        };
        let thread = std::thread::Builder::new().name("served".to_owned()).spawn(serve);
        let thread = thread.map_err(|error| Error::io("cannot start a thread", &error))?;
        Ok(Self { unwanted, thread: Some(thread) })
    }

    /// Its last words, when it has ended.
    fn ended(&mut self) -> Option<Ended> {
        let thread = self.thread.take_if(|thread| thread.is_finished())?;
        Some(thread.join().unwrap_or_default())
    }
}

/// Serves the image that `node` describes (a block device of QEMU's, in its JSON) as a file, for
/// reading or also for writing. `objects` are arguments that the node refers to; `kept`, what these
/// name for one, is dropped when the program has ended. For a moment the file has a name in `directory`.
pub fn serve(
    node: &serde_json::Value,
    objects: Vec<OsString>,
    kept: impl Send + 'static,
    write: bool,
    directory: &Path,
    limits: &Limits,
) -> Result<(File, Server)> {
    let point = MountPoint::make(directory)
        .map_err(|error| Error::io("cannot make a place for the image", &error))?;
    let mut node = node.clone();
    node["node-name"] = "image".into();
    node["read-only"] = (!write).into();
    let export = serde_json::json!({
        "type": "fuse", "id": "file", "node-name": "image", "writable": write,
        "allow-other": "off", "mountpoint": point.path.to_str(),
    });
    let args = objects.into_iter().chain([
        "--blockdev".into(),
        node.to_string().into(),
        "--export".into(),
        export.to_string().into(),
    ]);
    let mut server = Server::start(args.collect(), limits, kept)?;
    let failed = |kind, what: &str| Error::new(kind, format!("{PROGRAM}: {what}"));
    let mut ended = None;
    let served = limits.look_for(BEGIN, || {
        ended = server.ended();
        (ended.is_some() || point.is_mounted()).then_some(())
    })?;
    match (ended, served) {
        (Some(said), _) => {
            let said = said.unwrap_or_else(|| "ended without a word".to_owned());
            if said.contains(NO_DRIVER) {
                let what = format!("QEMU cannot reach it ({said}); install package {DRIVERS}");
                return Err(failed(ErrorKind::ToolMissing, &what));
            }
            return Err(failed(ErrorKind::ToolFailed, &said));
        }
        (None, None) => return Err(failed(ErrorKind::TimedOut, "the image does not open")),
        (None, Some(())) => {}
    }
    let file = OpenOptions::new()
        .read(true)
        .write(write)
        .custom_flags(libc::O_NOFOLLOW)
        .open(&point.path)
        .map_err(|error| Error::io("cannot open the image that is served", &error))?;
    Ok((file, server))
}

/// A file that an image is mounted on; goes when it is dropped.
struct MountPoint {
    path: PathBuf,
    device: u64,
}

impl MountPoint {
    fn make(directory: &Path) -> io::Result<Self> {
        let path = directory.join(format!("served-{}", Uuid::new_v4().simple()));
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
        Ok(Self { device: file.metadata()?.dev(), path })
    }

    fn is_mounted(&self) -> bool {
        std::fs::symlink_metadata(&self.path).is_ok_and(|meta| meta.dev() != self.device)
    }
}

impl Drop for MountPoint {
    fn drop(&mut self) {
        remove(&self.path);
    }
}

/// Takes a file away, and what is mounted on it.
fn remove(path: &Path) {
    // One that nothing was mounted on says so.
    let _ = umount2(path, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW);
    if let Err(error) = std::fs::remove_file(path)
        && error.kind() != io::ErrorKind::NotFound
    {
        tracing::warn!("cannot remove {}: {error}", path.display());
    }
}

/// Empties the directory of files that only programs of ours see, of what a daemon that died left in it.
pub fn sweep_private(directory: &Path) {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    entries.for_each(|entry| remove(&entry.path()));
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use std::os::unix::fs::FileExt;

    /// Whether images can be served here; says so when not.
    fn can_serve() -> bool {
        let can = SystemHost.tool(PROGRAM).is_ok() && Path::new("/dev/fuse").exists();
        if !can {
            eprintln!("RESULT host served skip no {PROGRAM} or no /dev/fuse");
        }
        can
    }

    fn node(image: &Path) -> serde_json::Value {
        json!({ "driver": "raw", "file": { "driver": "file", "filename": image.to_str() } })
    }

    #[test]
    fn what_a_daemon_that_died_left_is_swept() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("cifs-1"), "password=x").unwrap();
        sweep_private(directory.path());
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
        sweep_private(&directory.path().join("none"));
    }

    #[test]
    fn an_image_is_a_file_that_leaves_nothing_behind() {
        if !can_serve() {
            return;
        }
        let base = tempfile::tempdir().unwrap();
        let (image, scratch) = (base.path().join("image"), base.path().join("scratch"));
        std::fs::create_dir(&scratch).unwrap();
        std::fs::write(&image, vec![b'x'; 1 << 20]).unwrap();
        let limits = Limits::default();
        let (file, server) = serve(&node(&image), Vec::new(), (), true, &scratch, &limits).unwrap();
        assert_eq!(std::fs::read_dir(&scratch).unwrap().count(), 0);
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        assert!(!mounts.contains(scratch.to_str().unwrap()));
        assert_eq!(file.metadata().unwrap().len(), 1 << 20);
        file.write_all_at(b"abc", 1000).unwrap();
        assert!(super::super::copy::zero(&file, 5000, 3000).unwrap());
        file.sync_all().unwrap();
        let mut read = [0; 3];
        file.read_exact_at(&mut read, 1000).unwrap();
        assert_eq!(&read, b"abc");
        drop((file, server));
        let content = std::fs::read(&image).unwrap();
        assert_eq!(&content[999..1004], b"xabcx");
        assert!(content[5000..8000].iter().all(|byte| *byte == 0));
        assert_eq!((content[4999], content[8000]), (b'x', b'x'));
    }

    #[test]
    fn what_is_for_reading_cannot_be_written_and_what_is_not_there_is_said() {
        if !can_serve() {
            return;
        }
        let base = tempfile::tempdir().unwrap();
        let image = base.path().join("image");
        let limits = Limits::default();
        let error = serve(&node(&image), Vec::new(), (), false, base.path(), &limits);
        let error = error.map(drop).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ToolFailed);
        assert!(error.message().contains("No such file"), "{error}");
        std::fs::write(&image, [0; 512]).unwrap();
        let served = serve(&node(&image), Vec::new(), (), false, base.path(), &limits);
        let (file, _server) = served.unwrap();
        assert!(file.write_all_at(b"x", 0).is_err());
    }

    #[test]
    fn a_cancel_ends_it_for_whoever_is_stuck_in_it() {
        if !can_serve() {
            return;
        }
        let base = tempfile::tempdir().unwrap();
        let image = base.path().join("image");
        std::fs::write(&image, [1; 512]).unwrap();
        let limits = Limits { deadline: None, cancel: CancelToken::default() };
        let served = serve(&node(&image), Vec::new(), (), false, base.path(), &limits);
        let (file, _server) = served.unwrap();
        limits.cancel.cancel();
        let gone = Limits::within(Duration::from_secs(30))
            .look_for(Duration::from_secs(20), || {
                file.read_exact_at(&mut [0], 0).is_err().then_some(())
            });
        assert!(gone.unwrap().is_some());
    }
}
