//! Images that name a file of the host: whatever is done with them, it is not even opened, and no server is asked.

use super::support::world::{World, none, with};
use anyhow::{Context, Result, ensure};
use nix::errno::Errno;
use nix::sys::fanotify::{EventFFlags, Fanotify, InitFlags, MarkFlags, MaskFlags};
use poold::client::{JobProxy, Options, PoolProxy, VolumeProxy};
use std::collections::BTreeSet;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;

const MIB: u64 = 1 << 20;
const MARKER: &[u8] = b"what only root may read, and no image may name";

/// A file of the host and a server, both of which notice who comes.
struct Secret {
    path: PathBuf,
    watch: Fanotify,
    server: TcpListener,
}

impl Secret {
    fn new(world: &World) -> Result<Self> {
        let path = world.whole().join("secret");
        std::fs::write(&path, MARKER.repeat(4096))?;
        let flags = InitFlags::FAN_NONBLOCK | InitFlags::FAN_CLOEXEC;
        let watch = Fanotify::init(flags, EventFFlags::O_RDONLY | EventFFlags::O_CLOEXEC)?;
        let what = MaskFlags::FAN_OPEN | MaskFlags::FAN_ACCESS;
        let file = std::fs::File::open(&path)?;
        watch.mark(MarkFlags::FAN_MARK_ADD, what, &file, None::<&Path>)?;
        let server = TcpListener::bind("127.0.0.1:0")?;
        server.set_nonblocking(true)?;
        Ok(Self { path, watch, server })
    }

    /// Fails when anybody came.
    fn check(&self, what: &str) -> Result<()> {
        let who = self.openers()?;
        ensure!(who.is_empty(), "{what}: it was opened by {who:?}");
        let came = self.server.accept().map(|(_, from)| from);
        ensure!(came.is_err(), "{what}: the server was asked by {came:?}");
        Ok(())
    }

    /// The processes of this area's namespace that opened it. Those of another area, which may look for a secret of its
    /// own in all files that are new, have no id here.
    fn openers(&self) -> Result<BTreeSet<String>> {
        let mut openers = BTreeSet::new();
        loop {
            let events = match self.watch.read_events() {
                Err(Errno::EAGAIN) => return Ok(openers),
                events => events?,
            };
            for id in events.iter().map(|event| event.pid()).filter(|id| *id != 0) {
                let name = std::fs::read_to_string(format!("/proc/{id}/comm"));
                let name = name.unwrap_or_else(|_| "which has ended".to_owned());
                openers.insert(format!("{id} {}", name.trim()));
            }
        }
    }
}

/// Images that name the secret, by what they are; none of them was made by opening it.
fn images(directory: &Path, secret: &Secret) -> Result<Vec<(&'static str, Vec<u8>)>> {
    let path = secret.path.to_str().context("a path")?;
    let json = format!("json:{{\"driver\":\"file\",\"filename\":\"{path}\"}}");
    let nbd = format!("nbd://{}/disk", secret.server.local_addr()?);
    let own_data = directory.join("x".repeat(path.len() - directory.as_os_str().len() - 1));
    let own_data = own_data.to_str().context("a path")?;
    let data_file = format!("data_file={own_data},data_file_raw=on");
    let mut made = Vec::new();
    for (name, arguments) in [
        ("qcow2 with a backing file", vec!["-f", "qcow2", "-u", "-b", path, "-F", "raw"]),
        ("qcow2 with a backing image", vec!["-f", "qcow2", "-u", "-b", path, "-F", "qcow2"]),
        ("qcow2 on json:", vec!["-f", "qcow2", "-u", "-b", &json, "-F", "raw"]),
        ("qcow2 on nbd://", vec!["-f", "qcow2", "-u", "-b", &nbd, "-F", "raw"]),
        ("qcow2 with a data file", vec!["-f", "qcow2", "-o", &data_file]),
        ("qed with a backing file", vec!["-f", "qed", "-u", "-b", path, "-F", "raw"]),
        ("qcow with a backing file", vec!["-f", "qcow", "-u", "-b", path, "-F", "raw"]),
    ] {
        let image = directory.join("image");
        let output = Command::new("qemu-img")
            .args(["create", "-q"])
            .args(arguments)
            .arg(&image)
            .arg("1M")
            .output()?;
        let complaint = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{name}: {complaint}");
        let mut content = std::fs::read(&image)?;
        // The data file was another, of a name of the same length, as making it empties it.
        let own = own_data.as_bytes();
        if let Some(at) = content.windows(own.len()).position(|window| window == own) {
            content[at..at + own.len()].copy_from_slice(path.as_bytes());
        }
        let named = content.windows(path.len()).any(|window| window == path.as_bytes());
        ensure!(named || name.contains("nbd"), "{name} does not name it");
        made.push((name, content));
    }
    let descriptor = |lines: String| {
        format!("# Disk DescriptorFile\nversion=1\nCID=fffffffe\n{lines}\n").into_bytes()
    };
    let flat =
        format!("parentCID=ffffffff\ncreateType=\"monolithicFlat\"\nRW 2048 FLAT \"{path}\" 0");
    made.push(("vmdk with an extent", descriptor(flat)));
    let child = format!(
        "parentCID=12345678\nparentFileNameHint=\"{path}\"\ncreateType=\"monolithicSparse\"\nRW 2048 SPARSE \"{path}\""
    );
    made.push(("vmdk with a parent", descriptor(child)));
    Ok(made)
}

/// Everything that can be done with a volume; what comes of it does not matter here.
async fn do_everything(world: &World, pool: &PoolProxy<'_>, name: &str) -> Result<()> {
    let path = pool.lookup_volume(name, &none()).await?;
    let volume = world.volume(&path).await?;
    let _ = volume.refresh(&none()).await;
    volume.get_xml(&none()).await?;
    let _ = download(world, &volume, &world.pools().join(format!("out.{name}"))).await;
    if let Ok(descriptor) = volume.open("r", &none()).await {
        let content = std::fs::read(format!(
            "/proc/self/fd/{}",
            std::os::fd::AsRawFd::as_raw_fd(&std::os::fd::AsFd::as_fd(&descriptor))
        ));
        ensure!(!holds_marker(&content?), "an opened volume shows it");
    }
    for (suffix, options) in [
        ("same", none()),
        ("raw", with("format", "raw")),
        ("qcow2", with("format", "qcow2")),
        ("shallow", with("shallow", true)),
    ] {
        let _ = volume.clone(&format!("{name}.{suffix}"), &options).await;
    }
    let at = volume.path().await?;
    for format in ["raw", "qcow2"] {
        let overlay = format!("{name}.on-{format}");
        let options = Options::from([
            ("format", "qcow2".into()),
            ("backing-path", at.as_str().into()),
            ("backing-format", format.into()),
        ]);
        let _ = pool.create_volume(&overlay, 0, &options).await;
    }
    for above in ["shallow", "on-raw", "on-qcow2"] {
        // What lies above it is read through it.
        if let Ok(path) = pool.lookup_volume(&format!("{name}.{above}"), &none()).await {
            let above = world.volume(&path).await?;
            let copy = format!("{}.flat", above.name().await?);
            let _ = above.clone(&copy, &with("format", "raw")).await;
            let _ = above.delete(&with("force", true)).await;
        }
    }
    for options in [none(), with("allocate", true)] {
        let _ = volume.resize(2 * MIB, &options).await;
    }
    // What is written into it must not go where it points.
    let new = world.pools().join(format!("in.{name}"));
    std::fs::write(&new, [0x5a; 4096])?;
    let file = std::fs::File::open(&new)?;
    if let Ok(job) = volume.upload((&file).into(), &with("offset", 65536_u64)).await {
        let _ = JobProxy::new(&world.root, job).await?.wait(&none()).await;
    }
    for options in [none(), with("force", true)] {
        let _ = volume.open("w", &options).await;
        let _ = volume.wipe(&options).await;
    }
    let _ = volume.delete(&with("force", true)).await;
    Ok(())
}

async fn download(world: &World, volume: &VolumeProxy<'_>, to: &Path) -> Result<()> {
    let file = std::fs::File::create(to)?;
    let job = volume.download((&file).into(), &none()).await?;
    Ok(JobProxy::new(&world.root, job).await?.wait(&none()).await?)
}

fn holds_marker(content: &[u8]) -> bool {
    content.windows(MARKER.len()).any(|window| window == MARKER)
}

pub async fn nothing_that_an_image_names_is_opened() -> Result<()> {
    let world = World::start().await?;
    let pool = world.active_pool("images").await?;
    let secret = Secret::new(&world)?;
    let directory = world.pools().join("images");
    let scratch = world.whole().join("s");
    std::fs::create_dir(&scratch)?;
    for (number, (what, content)) in images(&scratch, &secret)?.into_iter().enumerate() {
        secret.check(&format!("making a {what}"))?;
        // Dropped into the directory by somebody; written by a guest into its raw disk; and in the place of the content
        // of a volume that was declared another image.
        let dropped = format!("{number}-dropped");
        std::fs::write(directory.join(&dropped), &content)?;
        let mut names = vec![dropped];
        for format in ["raw", "qcow2", "vmdk", "qed"] {
            let name = format!("{number}-declared-{format}");
            pool.create_volume(&name, MIB, &with("format", format)).await?;
            let file = std::fs::File::options().write(true).open(directory.join(&name))?;
            std::os::unix::fs::FileExt::write_all_at(&file, &content, 0)?;
            names.push(name);
        }
        pool.refresh(&none()).await?;
        for name in names {
            do_everything(&world, &pool, &name).await.with_context(|| format!("{what}, {name}"))?;
            secret.check(&format!("{what}, {name}"))?;
        }
    }
    for place in [directory, world.pools()] {
        for entry in std::fs::read_dir(place)? {
            let path = entry?.path();
            let held = path.is_file() && holds_marker(&std::fs::read(&path)?);
            ensure!(!held, "{} has it", path.display());
        }
    }
    // They do notice.
    ensure!(world.inside("cat").arg(&secret.path).output()?.status.success(), "it is not there");
    ensure!(secret.check("").is_err(), "nobody would have noticed");
    Ok(())
}
