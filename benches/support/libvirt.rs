//! The peer: libvirtd and libvirt-dbus of this host, in a mount namespace of their own so that the host's libvirt,
//! if it runs, is left alone.

use super::milliseconds;
use anyhow::Context;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use zbus::wire::OwnedObjectPath;

/// First argument of the process inside the namespace.
pub const PEER_ARGUMENT: &str = "--libvirt-peer";

/// Interface of its pools.
pub const POOL: &str = "org.libvirt.StoragePool";

const PROGRAMS: &[&str] = &["/usr/sbin/libvirtd", "/usr/bin/virsh", "/usr/sbin/libvirt-dbus"];
const URI: &str = "qemu:///system";
const BUS: &str = "unix:path=/run/dbus/system_bus_socket";

/// Runs this program again, in a namespace, with [`PEER_ARGUMENT`] and a directory; what it prints.
pub fn in_namespace(directory: &Path) -> anyhow::Result<String> {
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
        .arg(directory)
        .stderr(Stdio::inherit())
        .output()?;
    anyhow::ensure!(output.status.success(), "the measurement inside the namespace failed");
    Ok(String::from_utf8(output.stdout)?)
}

/// The daemons, inside the namespace. They end with it.
pub struct Libvirt {
    _bus: Daemon,
    /// libvirtd.
    pub libvirtd: Daemon,
    /// How long its first answer took, in milliseconds.
    pub first_answer: f64,
}

impl Libvirt {
    /// Starts libvirtd, with directories of its own.
    pub fn start() -> anyhow::Result<Self> {
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
        let bus = Daemon::start("dbus-daemon", &["--config-file=/run/bus.conf", "--nofork"])?;
        wait_for(|| Path::new("/run/dbus/system_bus_socket").exists())?;
        let start = Instant::now();
        let libvirtd = Daemon::start("/usr/sbin/libvirtd", &["--timeout", "600"])?;
        wait_for(|| virsh(&["uri"]).is_ok())?;
        Ok(Self { _bus: bus, libvirtd, first_answer: milliseconds(start) })
    }

    /// Starts and serves libvirt-dbus until it is dropped.
    pub fn on_the_bus(&self) -> anyhow::Result<Daemon> {
        Daemon::start("/usr/sbin/libvirt-dbus", &["--system"])
    }
}

/// Makes and starts a directory pool.
pub fn make_pool(name: &str, directory: &Path) -> anyhow::Result<()> {
    virsh(&["pool-create-as", name, "dir", "--target", &directory.display().to_string()])
}

/// libvirt-dbus, as a client of it sees it.
pub struct Client(zbus::Connection);

impl Client {
    /// Connects to it.
    pub async fn connect() -> anyhow::Result<Self> {
        Ok(Self(zbus::connection::Builder::address(BUS).build().await?))
    }

    /// Calls a method with these arguments.
    pub async fn call<A: serde::Serialize + zbus::wire::DynamicType>(
        &self,
        path: &str,
        interface: &str,
        method: &str,
        arguments: &A,
    ) -> zbus::Result<zbus::Message> {
        self.0.call_method(Some("org.libvirt"), path, Some(interface), method, arguments).await
    }

    /// Its pools, as soon as it answers.
    pub async fn pools(&self) -> anyhow::Result<Vec<OwnedObjectPath>> {
        let deadline = Instant::now() + Duration::from_secs(10);
        loop {
            let connect = ("/org/libvirt/QEMU", "org.libvirt.Connect");
            match self.call(connect.0, connect.1, "ListStoragePools", &0_u32).await {
                Ok(reply) => return Ok(reply.body().deserialize()?),
                Err(error) if Instant::now() > deadline => return Err(error.into()),
                Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        }
    }
}

/// A daemon that ends with us.
pub struct Daemon(Child);

impl Daemon {
    /// Its process.
    pub fn pid(&self) -> u32 {
        self.0.id()
    }

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
