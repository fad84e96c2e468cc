//! Pools of type iscsi-direct on targets of tgt; what they did is checked in the files that are behind the units.

use super::poolctl::{done, fails, noise, status_of};
use super::support::runner::Skip;
use super::support::world::{World, none, volume_names, with};
use anyhow::{Context, Result, bail, ensure};
use poold::client::{Options, PoolProxy};
use poold::model::ErrorKind;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

const MIB: u64 = 1 << 20;
const TARGET: &str = "iqn.2026-01.org.example:units";
const OTHER: &str = "iqn.2026-01.org.example:other";
const PASSWORD: &str = "correct.horse.7";

/// tgt with two targets, each with a user of its own; it ends when this is dropped.
struct Tgt {
    daemon: Child,
    control: String,
    port: u16,
    directory: PathBuf,
}

impl Tgt {
    fn start(world: &World) -> Result<Self> {
        for program in ["tgtd", "tgtadm", "iscsi-ls", "qemu-storage-daemon"] {
            let found =
                ["/usr/sbin", "/usr/bin"].iter().any(|dir| Path::new(dir).join(program).exists());
            if !found || !Path::new("/dev/fuse").exists() {
                bail!(Skip(format!("needs {program} and /dev/fuse: scripts/setup.sh bus")));
            }
        }
        let port = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let control = (std::process::id() % 30_000).to_string();
        std::fs::create_dir_all("/var/run/tgtd")?;
        let daemon = Command::new("tgtd")
            .args(["-f", "-C", &control, "--iscsi", &format!("portal=127.0.0.1:{port}")])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        let directory = world.pools().join("units");
        std::fs::create_dir_all(&directory)?;
        let tgt = Self { daemon, control, port, directory };
        let ready = (0..500).any(|_| {
            let ready = tgt.admin("--mode system --op show").is_ok();
            if !ready {
                std::thread::sleep(Duration::from_millis(20));
            }
            ready
        });
        ensure!(ready, "tgtd does not answer");
        // The list of targets begins with the one that refuses.
        tgt.target(1, OTHER, "bob", "another.horse.8")?;
        tgt.unit(1, 1, 8)?;
        tgt.target(2, TARGET, "alice", PASSWORD)?;
        for (number, mebibytes) in [(1, 16), (3, 33)] {
            tgt.unit(2, number, mebibytes)?;
        }
        Ok(tgt)
    }

    fn admin(&self, arguments: &str) -> Result<()> {
        let output = Command::new("tgtadm")
            .args(["-C", &self.control, "--lld", "iscsi"])
            .args(arguments.split_whitespace())
            .output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "tgtadm {arguments}: {said}");
        Ok(())
    }

    fn target(&self, id: u32, name: &str, user: &str, password: &str) -> Result<()> {
        self.admin(&format!("--mode target --op new --tid {id} -T {name}"))?;
        self.admin(&format!("--mode account --op new --user {user} --password {password}"))?;
        self.admin(&format!("--mode account --op bind --tid {id} --user {user}"))?;
        self.admin(&format!("--mode target --op bind --tid {id} -I ALL"))
    }

    fn unit(&self, target: u32, number: u32, mebibytes: u64) -> Result<()> {
        let file = self.directory.join(format!("{target}-{number}"));
        std::fs::File::create(&file)?.set_len(mebibytes * MIB)?;
        let file = file.display();
        self.admin(&format!("--mode logicalunit --op new --tid {target} --lun {number} -b {file}"))
    }

    fn content(&self, number: u32) -> Result<Vec<u8>> {
        Ok(std::fs::read(self.directory.join(format!("2-{number}")))?)
    }

    fn document(&self, name: &str, target: &str) -> String {
        let port = self.port;
        format!(
            "<pool type='iscsi-direct'><name>{name}</name><source><host name='127.0.0.1' port='{port}'/>\
             <device path='{target}'/><initiator><iqn name='iqn.2026-01.org.example:poold'/></initiator>\
             <auth type='chap' username='alice'><secret usage='units'/></auth></source></pool>"
        )
    }
}

impl Drop for Tgt {
    fn drop(&mut self) {
        let _ = self.daemon.kill();
        let _ = self.daemon.wait();
        let _ = std::fs::remove_file(format!("/var/run/tgtd/socket.{}", self.control));
    }
}

async fn set_password(world: &World, value: &str) -> Result<()> {
    let (reader, mut writer) = std::io::pipe()?;
    writer.write_all(value.as_bytes())?;
    drop(writer);
    let options = Options::from([("usage-name", "units".into()), ("usage-type", "iscsi".into())]);
    world.manager().await?.set_secret((&reader).into(), &options).await?;
    Ok(())
}

async fn define(world: &World, document: &str) -> Result<PoolProxy<'static>> {
    let (path, _) = world.manager().await?.define_pool_xml(document, &none()).await?;
    world.pool(&path).await
}

pub async fn units_serve_without_the_kernel() -> Result<()> {
    let world = World::start().await?;
    let tgt = Tgt::start(&world)?;
    set_password(&world, PASSWORD).await?;
    let pool = define(&world, &tgt.document("direct", TARGET)).await?;
    pool.start(&none()).await?;
    ensure!(volume_names(&pool).await? == ["unit:0:0:1", "unit:0:0:3"]);
    ensure!(pool.capacity().await? == 49 * MIB, "sizes are exact");
    let path = format!("ip-127.0.0.1:{}-iscsi-{TARGET}-lun-3", tgt.port);
    let found = world.manager().await?.lookup_volume(&path, &none()).await?;
    ensure!(world.volume(&found).await?.capacity().await? == 33 * MIB);

    let file = world.pools().join("source");
    let mut content = noise(&file, 3)?;
    done(&world, &format!("vol upload direct/unit:0:0:3 {}", file.display())).await?;
    content.resize(usize::try_from(33 * MIB)?, 0);
    ensure!(tgt.content(3)? == content, "it is in the unit");
    let out = world.pools().join("out");
    let part = format!("vol download direct/unit:0:0:3 {} --offset 1M --length 1M", out.display());
    done(&world, &part).await?;
    ensure!(std::fs::read(&out)? == content[MIB as usize..2 * MIB as usize]);
    world.active_pool("files").await?;
    done(&world, "vol clone direct/unit:0:0:3 files/copy.qcow2 --format qcow2").await?;
    done(&world, "vol clone files/copy.qcow2 files/copy.raw --format raw").await?;
    ensure!(std::fs::read(world.pools().join("files/copy.raw"))? == content);
    done(&world, "vol wipe direct/unit:0:0:3").await?;
    ensure!(tgt.content(3)?.iter().all(|byte| *byte == 0), "nothing of it is left");

    let unsupported = status_of(ErrorKind::NotSupported);
    fails(&world, "vol create direct/new 1M", unsupported, "iscsi-direct").await?;
    fails(&world, "vol delete direct/unit:0:0:1", unsupported, "iscsi-direct").await?;
    // What is made and changed there is seen when somebody looks.
    tgt.unit(2, 4, 5)?;
    tgt.admin("--mode logicalunit --op delete --tid 2 --lun 1")?;
    pool.refresh(&none()).await?;
    ensure!(volume_names(&pool).await? == ["unit:0:0:3", "unit:0:0:4"]);
    pool.stop(&none()).await?;
    Ok(())
}

pub async fn targets_are_found_and_refusals_told_apart() -> Result<()> {
    let world = World::start().await?;
    let mut tgt = Tgt::start(&world)?;
    let source = format!("<source><host name='127.0.0.1' port='{}'/></source>", tgt.port);
    let manager = world.manager().await?;
    let found = manager.find_sources_xml("iscsi-direct", &source, &none()).await?;
    ensure!(found.contains(TARGET) && found.contains(OTHER), "{found}");

    let pool = define(&world, &tgt.document("direct", TARGET)).await?;
    let kind = async |pool: &PoolProxy<'_>| match pool.start(&none()).await {
        Ok(_) => bail!("it started"),
        Err(error) => Ok((error.kind(), error.message().to_owned())),
    };
    ensure!(kind(&pool).await?.0 == ErrorKind::NotFound, "no secret");
    set_password(&world, "wrong.horse.99").await?;
    let (refused, said) = kind(&pool).await?;
    ensure!(refused == ErrorKind::AuthenticationFailed && !said.contains("wrong.horse"), "{said}");
    set_password(&world, PASSWORD).await?;
    let absent = define(&world, &tgt.document("absent", &format!("{TARGET}:no"))).await?;
    ensure!(kind(&absent).await?.0 == ErrorKind::Inaccessible, "no such target");

    pool.start(&none()).await?;
    tgt.daemon.kill()?;
    tgt.daemon.wait()?;
    let gone = pool.refresh(&none()).await.err().context("it was refreshed")?;
    ensure!(gone.kind() == ErrorKind::Inaccessible, "{gone}");
    ensure!(pool.state().await? == "inaccessible");
    pool.stop(&with("force", true)).await?;
    Ok(())
}
