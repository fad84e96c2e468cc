//! A host in small: a private bus (scripts/private-bus.sh) with polkitd and the built poold, data below a temporary
//! directory, and what a case does to it: call, kill, restart, "reboot", mount.

use super::runner;
use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use poold::client::{ManagerProxy, Options, PoolProxy, VolumeProxy};
use std::collections::{BTreeMap, HashMap};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use zbus::connection::Builder;
use zbus::proxy::CacheProperties;
use zbus::{Connection, OwnedObjectPath, Variant};

/// No options.
pub fn none() -> Options<'static> {
    HashMap::new()
}

/// One option.
pub fn with<'a>(key: &'a str, value: impl Into<Variant<'a>>) -> Options<'a> {
    HashMap::from([(key, value.into())])
}

/// The built daemon.
pub const POOLD: &str = env!("CARGO_BIN_EXE_poold");

/// The host in small. Dropped, everything in it ends.
pub struct World {
    /// Root's connection.
    pub root: Connection,
    variables: HashMap<String, String>,
    directory: tempfile::TempDir,
    bus: Child,
}

impl World {
    /// A host without pools.
    pub async fn start() -> Result<World> {
        Self::start_with("").await
    }

    /// The same with a text for poold.toml.
    pub async fn start_with(configuration: &str) -> Result<World> {
        Self::make(configuration, &[], None).await
    }

    /// A host that has no polkitd.
    pub async fn start_without_polkit() -> Result<World> {
        Self::make("", &[("POOLD_NO_POLKIT", "1")], None).await
    }

    /// A host whose network is a process's.
    pub async fn start_in_network_of(process: u32, configuration: &str) -> Result<World> {
        Self::make(configuration, &[], Some(process)).await
    }

    async fn make(
        configuration: &str,
        environment: &[(&str, &str)],
        network: Option<u32>,
    ) -> Result<World> {
        let directory = tempfile::Builder::new().prefix("poold-test.").tempdir()?;
        let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(directory.path(), open)?;
        let root = directory.path().join("root");
        std::fs::create_dir_all(root.join("etc/poold"))?;
        std::fs::create_dir_all(directory.path().join("pools"))?;
        if !configuration.is_empty() {
            std::fs::write(root.join("etc/poold/poold.toml"), configuration)?;
        }
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/private-bus.sh");
        let mut bus = match network {
            None => Command::new(script),
            Some(process) => {
                let mut command = Command::new("nsenter");
                command.arg(format!("--net=/proc/{process}/ns/net")).arg("--").arg(script);
                command
            }
        };
        let mut bus = bus
            .args(["--poold", POOLD, "--root"])
            .arg(&root)
            .envs(environment.iter().copied())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let mut variables = HashMap::new();
        for line in BufReader::new(bus.stdout.take().context("no output")?).lines() {
            let line = line?;
            let Some((name, value)) = line.split_once('=') else { break };
            variables.insert(name.to_owned(), value.to_owned());
        }
        let address = variables.get("DBUS_SYSTEM_BUS_ADDRESS").context("no private bus")?;
        let root = Builder::address(address.as_str()).build().await?;
        Ok(World { root, variables, directory, bus })
    }

    /// Address of the bus.
    pub fn address(&self) -> &str {
        &self.variables["DBUS_SYSTEM_BUS_ADDRESS"]
    }

    /// Path of the bus's socket.
    pub fn bus_socket(&self) -> String {
        self.address().trim_start_matches("unix:path=").to_owned()
    }

    /// One more connection of root's.
    pub async fn connect(&self) -> Result<Connection> {
        Ok(Builder::address(self.address()).build().await?)
    }

    /// A path below the daemon's root.
    pub fn data(&self, path: &str) -> PathBuf {
        self.directory.path().join("root").join(path)
    }

    /// The directory that a case's pools are in, which is not below the daemon's root.
    pub fn pools(&self) -> PathBuf {
        self.directory.path().join("pools")
    }

    /// Everything of this host on disk.
    pub fn whole(&self) -> &Path {
        self.directory.path()
    }

    /// Gives polkit a rule: the body of a function of `action` and `subject`; waits until polkit has read it.
    pub async fn rule(&self, body: &str) -> Result<()> {
        let path = Path::new(&self.variables["POOLD_BUS_DIR"]).join("rules/50-test.rules");
        // polkit starts with the rules that are there, which needs no waiting for its directory watch.
        if let Some(pid) = self.owner("org.freedesktop.PolicyKit1").await? {
            kill(pid, Signal::SIGKILL)?;
            self.gone("org.freedesktop.PolicyKit1").await?;
        }
        std::fs::write(path, format!("polkit.addRule(function(action, subject) {{ {body} }});\n"))?;
        Ok(())
    }

    /// Whether this machine has polkitd.
    pub fn has_polkit(&self) -> bool {
        let services = Path::new(&self.variables["POOLD_BUS_DIR"]).join("services");
        services.join("org.freedesktop.PolicyKit1.service").exists()
    }

    /// A command that sees the daemon's mounts.
    pub fn inside(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["--target", &self.variables["POOLD_BUS_PID"], "--mount", "--", program]);
        command
    }

    /// Where the bus has its files and its log.
    pub fn bus_directory(&self) -> &Path {
        Path::new(&self.variables["POOLD_BUS_DIR"])
    }

    /// Has the daemon find programs of tests/support/fakes, with files beside them that say what they are to do.
    pub fn add_fakes(&self, programs: &[&str], files: &[(&str, &str)]) -> Result<()> {
        let directory = self.whole().join("fakes");
        std::fs::create_dir(&directory)?;
        let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/fakes");
        for program in programs {
            std::fs::copy(from.join(program), directory.join(program))?;
        }
        for (name, text) in files {
            std::fs::write(directory.join(name), text)?;
        }
        let layers = format!("lowerdir={}:/usr/sbin", directory.display());
        let mount = ["-t", "overlay", "-o", &layers, "overlay", "/usr/sbin"];
        ensure!(self.inside("mount").args(mount).status()?.success(), "no overlay here");
        Ok(())
    }

    /// Puts a shell script in the place of a program, to which that is `$real` and the host's directory `$here`.
    pub fn replace_program(&self, program: &str, script: &str) -> Result<()> {
        let put = "cd \"$0\"; path=$(command -v \"$1\"); cp \"$path\" \"the-$1\"
            printf '#!/bin/sh\nhere=%s real=%s\n%s\n' \"$0\" \"$0/the-$1\" \"$2\" >\"before-$1\"
            chmod 755 \"before-$1\"; mount --bind \"before-$1\" \"$path\"";
        let mut command = self.inside("sh");
        let output =
            command.args(["-ec", put]).arg(self.whole()).args([program, script]).output()?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Ok(())
    }

    /// From now on qemu-img, when the daemon runs it, waits until it is let go.
    pub fn delay_qemu_img(&self) -> Result<()> {
        let script = ": >\"$here/began\"; while [ ! -e \"$here/go\" ]; do sleep 0.02; done; exec \"$real\" \"$@\"";
        self.replace_program("qemu-img", script)
    }

    /// Whether a qemu-img waits.
    pub fn qemu_img_waits(&self) -> bool {
        self.whole().join("began").exists()
    }

    /// Forgets that one waited.
    pub fn forget_qemu_img(&self) -> Result<()> {
        Ok(std::fs::remove_file(self.whole().join("began"))?)
    }

    /// Lets it go, and those to come.
    pub fn let_qemu_img_go(&self) -> Result<()> {
        Ok(std::fs::write(self.whole().join("go"), "")?)
    }

    /// The manager, for root.
    pub async fn manager(&self) -> Result<ManagerProxy<'static>> {
        manager(&self.root).await
    }

    /// A pool, for root.
    pub async fn pool(&self, path: &OwnedObjectPath) -> Result<PoolProxy<'static>> {
        pool(&self.root, path).await
    }

    /// A volume, for root.
    pub async fn volume(&self, path: &OwnedObjectPath) -> Result<VolumeProxy<'static>> {
        Ok(VolumeProxy::builder(&self.root)
            .path(path.clone())
            .cache_properties(CacheProperties::No)
            .build()
            .await?)
    }

    /// Defines a pool from libvirt's document.
    pub async fn define(&self, document: &str) -> Result<PoolProxy<'static>> {
        let (path, _) = self.manager().await?.define_pool_xml(document, &none()).await?;
        self.pool(&path).await
    }

    /// Keeps a value as the secret of a usage.
    pub async fn set_secret(&self, kind: &str, usage: &str, value: &str) -> Result<()> {
        let (reader, mut writer) = std::io::pipe()?;
        writer.write_all(value.as_bytes())?;
        drop(writer);
        let options = HashMap::from([("usage-name", usage.into()), ("usage-type", kind.into())]);
        self.manager().await?.set_secret((&reader).into(), &options).await?;
        Ok(())
    }

    /// Defines, builds and starts a dir pool.
    pub async fn active_pool(&self, name: &str) -> Result<PoolProxy<'static>> {
        let options = HashMap::from([("build", "yes".into()), ("start", true.into())]);
        let (path, _) =
            self.manager().await?.define_pool_xml(&self.pool_xml(name), &options).await?;
        self.pool(&path).await
    }

    /// libvirt's document of a dir pool.
    pub fn pool_xml(&self, name: &str) -> String {
        let path = self.pools().join(name);
        format!(
            "<pool type='dir'><name>{name}</name><target><path>{}</path></target></pool>",
            path.display()
        )
    }

    /// The process behind a name.
    pub async fn owner(&self, name: &str) -> Result<Option<Pid>> {
        let bus = zbus::fdo::DBusProxy::new(&self.root).await?;
        match bus.get_connection_unix_process_id(name.try_into()?).await {
            Ok(pid) => Ok(Some(Pid::from_raw(pid.try_into()?))),
            Err(zbus::fdo::Error::NameHasNoOwner(_)) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// The daemon's process; starts it when it does not run.
    pub async fn poold(&self) -> Result<Pid> {
        self.manager().await?.version().await?;
        self.owner("org.poold1").await?.context("poold left at once")
    }

    /// Ends the daemon by a signal and waits until the bus has noticed.
    pub async fn end(&self, signal: Signal) -> Result<()> {
        kill(self.poold().await?, signal)?;
        self.gone("org.poold1").await
    }

    /// Waits until nobody has the name.
    pub async fn gone(&self, name: &str) -> Result<()> {
        eventually(&format!("{name} leaves the bus"), async || {
            Ok(self.owner(name).await?.is_none())
        })
        .await
    }

    /// Ends the daemon and forgets what a boot forgets.
    pub async fn reboot(&self) -> Result<()> {
        self.end(Signal::SIGTERM).await?;
        std::fs::remove_dir_all(self.data("run/poold"))?;
        Ok(())
    }

    /// State of every pool by name.
    pub async fn states(&self) -> Result<BTreeMap<String, String>> {
        let pools = poold::client::objects(&self.root, "/org/poold1/pools").await?;
        let text = |value: Option<&zbus::OwnedVariant>| -> Result<String> {
            Ok(value.context("no such property")?.try_clone()?.try_into()?)
        };
        pools.values().map(|has| Ok((text(has.get("Name"))?, text(has.get("State"))?))).collect()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        // What the bus, polkitd and poold wrote, should the case fail.
        let log = Path::new(&self.variables["POOLD_BUS_DIR"]).join("bus.log");
        runner::note(std::fs::read_to_string(log).unwrap_or_default());
        // Its input ends: it ends what is on the bus. Not waiting for a bus that hangs is the namespace's business.
        drop(self.bus.stdin.take());
        let _ = self.bus.wait();
    }
}

/// The manager, for whoever has the connection.
pub async fn manager(connection: &Connection) -> Result<ManagerProxy<'static>> {
    Ok(ManagerProxy::builder(connection).cache_properties(CacheProperties::No).build().await?)
}

/// A pool, for whoever has the connection.
pub async fn pool(connection: &Connection, path: &OwnedObjectPath) -> Result<PoolProxy<'static>> {
    Ok(PoolProxy::builder(connection)
        .path(path.clone())
        .cache_properties(CacheProperties::No)
        .build()
        .await?)
}

/// Waits until something is so, as a person would who looks again and again.
pub async fn eventually(what: &str, mut so: impl AsyncFnMut() -> Result<bool>) -> Result<()> {
    for _ in 0..1500 {
        if so().await? {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    bail!("in 30 s it did not come true that {what}")
}

/// Names of the volumes of a pool.
pub async fn volume_names(pool: &PoolProxy<'_>) -> Result<Vec<String>> {
    let (volumes, next) = pool.list_volumes("", 0, &with("properties", vec!["Name"])).await?;
    ensure!(next.is_empty(), "one page was not enough");
    volumes
        .into_iter()
        .map(|(_, mut has)| Ok(has.remove("Name").context("no Name")?.try_into()?))
        .collect()
}
