//! The peer: libvirtd and libvirt-dbus of this host, in a mount namespace of their own so that the host's libvirt,
//! if it runs, is left alone.

use crate::figures::{Figures, resident_mib};
use crate::pool_directory::PoolDirectory;
use crate::support::{median, milliseconds};
use anyhow::Context;
use std::collections::HashMap;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use zbus::wire::{OwnedObjectPath, OwnedVariant};

/// First argument of the process inside the namespace.
pub const PEER_ARGUMENT: &str = "--libvirt-peer";

const PROGRAMS: &[&str] = &["/usr/sbin/libvirtd", "/usr/bin/virsh", "/usr/sbin/libvirt-dbus"];
const URI: &str = "qemu:///system";
const BUS: &str = "unix:path=/run/dbus/system_bus_socket";

/// Measures libvirt on the same images, in a namespace.
pub fn measure(directory: &PoolDirectory) -> anyhow::Result<Figures> {
    for program in PROGRAMS {
        anyhow::ensure!(
            Path::new(program).exists(),
            "{program} is missing: install libvirt-daemon, libvirt-daemon-driver-qemu, libvirt-clients and libvirt-dbus"
        );
    }
    let output = Command::new("unshare")
        .args([
            "--mount",
            "--propagation",
            "private",
            "--pid",
            "--fork",
            "--kill-child",
            "--mount-proc",
        ])
        .arg(std::env::current_exe()?)
        .arg(PEER_ARGUMENT)
        .arg(directory.images())
        .stderr(Stdio::inherit())
        .output()?;
    anyhow::ensure!(output.status.success(), "the measurement inside the namespace failed");
    Ok(Figures::from_lines(&String::from_utf8_lossy(&output.stdout)))
}

/// What happens inside: private directories, the daemons, the measurement, figures on standard output.
pub fn run_inside_namespace(images: &Path) -> anyhow::Result<()> {
    for directory in ["/run", "/var/lib/libvirt", "/var/cache/libvirt"] {
        run("mount", &["-t", "tmpfs", "tmpfs", directory])?;
    }
    for directory in ["/run/libvirt", "/run/lock", "/run/dbus", "/run/etc", "/run/work"] {
        std::fs::create_dir_all(directory)?;
    }
    run(
        "mount",
        &[
            "-t",
            "overlay",
            "-o",
            "lowerdir=/etc/libvirt,upperdir=/run/etc,workdir=/run/work",
            "overlay",
            "/etc/libvirt",
        ],
    )?;
    std::fs::write("/run/bus.conf", BUS_CONFIGURATION)?;
    let _bus = Daemon::start("dbus-daemon", &["--config-file=/run/bus.conf", "--nofork"])?;
    wait_for(|| Path::new("/run/dbus/system_bus_socket").exists())?;
    let start = Instant::now();
    let libvirtd = Daemon::start("/usr/sbin/libvirtd", &["--timeout", "600"])?;
    wait_for(|| virsh(&["uri"]).is_ok())?;
    let mut figures = Figures::default();
    figures.set("first-answer", milliseconds(start));
    figures.set("rss-idle", resident_mib(libvirtd.0.id())?);

    virsh(&["pool-create-as", "bench", "dir", "--target", &images.display().to_string()])?;
    let count = std::fs::read_dir(images)?.count();
    let dbus = Daemon::start("/usr/sbin/libvirt-dbus", &["--system"])?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(measure_over_dbus(&mut figures, count))?;
    figures.set("rss", resident_mib(libvirtd.0.id())? + resident_mib(dbus.0.id())?);
    figures.print_lines();
    Ok(())
}

/// What a client of libvirt-dbus does: refresh, list with details (a call for the list, two per volume), create.
async fn measure_over_dbus(figures: &mut Figures, count: usize) -> anyhow::Result<()> {
    const SERVICE: &str = "org.libvirt";
    const POOL: &str = "org.libvirt.StoragePool";
    const VOLUME: &str = "org.libvirt.StorageVol";
    let bus = zbus::connection::Builder::address(BUS).build().await?;
    let call = async |path: &str, interface: &str, method: &str| {
        bus.call_method(Some(SERVICE), path, Some(interface), method, &0_u32).await
    };
    let deadline = Instant::now() + Duration::from_secs(10);
    let pools: Vec<OwnedObjectPath> = loop {
        match call("/org/libvirt/QEMU", "org.libvirt.Connect", "ListStoragePools").await {
            Ok(reply) => break reply.body().deserialize()?,
            Err(error) if Instant::now() > deadline => return Err(error.into()),
            Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    };
    let pool = pools.first().context("libvirt-dbus shows no pool")?;

    let start = Instant::now();
    call(pool, POOL, "Refresh").await?;
    figures.set("refresh", milliseconds(start));
    figures.set("refresh-each", milliseconds(start) * 1e3 / count as f64);

    let start = Instant::now();
    let volumes: Vec<OwnedObjectPath> =
        call(pool, POOL, "ListStorageVolumes").await?.body().deserialize()?;
    for volume in &volumes {
        let _: (i32, u64, u64) = call(volume, VOLUME, "GetInfo").await?.body().deserialize()?;
        let properties = bus
            .call_method(
                Some(SERVICE),
                volume,
                Some("org.freedesktop.DBus.Properties"),
                "GetAll",
                &VOLUME,
            )
            .await?;
        let _: HashMap<String, OwnedVariant> = properties.body().deserialize()?;
    }
    figures.set("list", milliseconds(start));

    for format in ["raw", "qcow2"] {
        let mut times = Vec::new();
        for number in 0..9 {
            let xml = format!(
                "<volume><name>new-{number}.{format}</name><capacity unit='GiB'>1</capacity>\
                 <allocation>0</allocation><target><format type='{format}'/></target></volume>"
            );
            let start = Instant::now();
            let reply = bus
                .call_method(Some(SERVICE), pool, Some(POOL), "StorageVolCreateXML", &(xml, 0_u32))
                .await?;
            times.push(milliseconds(start));
            let volume: OwnedObjectPath = reply.body().deserialize()?;
            call(&volume, VOLUME, "Delete").await?;
        }
        figures.set(&format!("create-{format}"), median(times));
    }
    Ok(())
}

/// A daemon that ends with us.
struct Daemon(Child);

impl Daemon {
    fn start(program: &str, arguments: &[&str]) -> anyhow::Result<Self> {
        let child = Command::new(program)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .with_context(|| format!("cannot start {program}"))?;
        Ok(Self(child))
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn virsh(arguments: &[&str]) -> anyhow::Result<()> {
    run("virsh", &[&["-q", "-c", URI], arguments].concat())
}

fn run(program: &str, arguments: &[&str]) -> anyhow::Result<()> {
    let output = Command::new(program).args(arguments).stdin(Stdio::null()).output()?;
    let complaint = String::from_utf8_lossy(&output.stderr);
    anyhow::ensure!(output.status.success(), "{program} {arguments:?}: {complaint}");
    Ok(())
}

fn wait_for(mut ready: impl FnMut() -> bool) -> anyhow::Result<()> {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !ready() {
        anyhow::ensure!(Instant::now() < deadline, "a daemon did not come up");
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}

const BUS_CONFIGURATION: &str = r#"<busconfig>
  <type>system</type>
  <listen>unix:path=/run/dbus/system_bus_socket</listen>
  <auth>EXTERNAL</auth>
  <policy context="default">
    <allow user="*"/><allow own="*"/><allow send_destination="*"/><allow receive_sender="*"/>
  </policy>
</busconfig>
"#;
