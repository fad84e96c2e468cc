//! Pools of type netfs and a real NFS server in user space: what it offers, and what is said when it is away. Mounting it
//! takes a kernel with NFS, which the guest tier has.

use super::poolctl::{done, fails, status_of};
use super::support::ganesha::{EXPORTS, Ganesha, MOUNTD, RPCBIND};
use super::support::garbage::Garbage;
use super::support::leaks::Watch;
use super::support::others::Others;
use super::support::runner::Skip;
use super::support::world::{World, eventually, none, with};
use anyhow::{Context, Result, bail, ensure};
use poold::client::PoolProxy;
use poold::model::{Error, ErrorKind};
use std::path::Path;
use std::process::Command;

/// Servers are waited for in tests: not long.
const CONFIGURATION: &str =
    "[timeouts]\nstart = \"3s\"\nretry-first = \"500ms\"\nretry-longest = \"1s\"\n";

/// libvirt's document of a pool on the server's first export. Version 3 has the server asked before the kernel is; what it
/// locks with is started by the program that mounts, on this host.
fn document(world: &World, name: &str, version: &str) -> String {
    format!(
        "<pool type='netfs' xmlns:fs='http://libvirt.org/schemas/storagepool/fs/1.0'><name>{name}</name>\
         <source><host name='127.0.0.1'/><dir path='{}'/><format type='nfs'/><protocol ver='{version}'/></source>\
         <target><path>{}</path></target>\
         <fs:mount_opts><fs:option name='nolock'/></fs:mount_opts></pool>",
        EXPORTS[0],
        world.pools().join(name).display()
    )
}

/// The error of what must fail.
fn refusal<T>(result: Result<T, Error>) -> Result<Error> {
    match result {
        Ok(_) => bail!("it succeeded"),
        Err(error) => Ok(error),
    }
}

/// A skip where the kernel could mount the export after all.
fn needs_a_kernel_without_nfs(server: &Ganesha) -> Result<()> {
    let directory = tempfile::tempdir()?;
    let mounted = server
        .network()
        .inside("mount")
        .args(["-t", "nfs", "-o", "retry=0", "127.0.0.1:/export1"])
        .arg(directory.path())
        .output()?;
    let said = String::from_utf8_lossy(&mounted.stderr);
    if mounted.status.success() {
        Command::new("umount").arg(directory.path()).status()?;
        return Err(Skip("this kernel has NFS; the guest tier shows what it does".into()).into());
    }
    ensure!(said.contains("No such device"), "mount(8): {said}");
    Ok(())
}

/// That a start that failed leaves nothing: no mount, no program, nothing to be undone, no file. A program that was given up
/// has been killed, and may not be gone yet.
async fn nothing_is_left(world: &World) -> Result<()> {
    let mut left = Vec::new();
    let gone = eventually("nothing of it is left", async || {
        left = what_is_left(world)?;
        Ok(left.is_empty())
    });
    gone.await.with_context(|| format!("{left:?}"))
}

fn what_is_left(world: &World) -> Result<Vec<String>> {
    let table = world.inside("cat").arg("/proc/self/mountinfo").output()?;
    let table = String::from_utf8(table.stdout)?;
    ensure!(table.contains("/run/dbus"), "the table is the daemon's");
    let pools = world.pools().display().to_string();
    let is_ours = |row: &&str| row.contains(&pools) || row.contains(" nfs");
    let mut left: Vec<String> = table.lines().filter(is_ours).map(str::to_owned).collect();
    for process in std::fs::read_dir("/proc")? {
        let line = std::fs::read(process?.path().join("cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line).into_owned();
        left.extend((line.contains("mount.nfs") || line.contains("showmount")).then_some(line));
    }
    for directory in ["var/lib/poold/jobs", "run/poold/private"] {
        let files = std::fs::read_dir(world.data(directory)).into_iter().flatten();
        left.extend(files.flatten().map(|file| file.path().display().to_string()));
    }
    Ok(left)
}

pub async fn exports_of_a_server_are_found() -> Result<()> {
    let server = Ganesha::start()?;
    let world = server.network().world("").await?;
    let manager = world.manager().await?;
    let find = async |source: &str| manager.find_sources_xml("netfs", source, &none()).await;
    // By address and name, with or without a format.
    for (host, more) in [
        ("127.0.0.1", "<format type='nfs'/>"),
        ("127.0.0.1", "<format type='auto'/>"),
        ("127.0.0.1", ""),
        ("localhost", "<format type='nfs'/>"),
        ("::1", "<format type='nfs'/>"),
    ] {
        let found = find(&format!("<source><host name='{host}'/>{more}</source>")).await?;
        ensure!(found.matches("<source>").count() == EXPORTS.len(), "{host} {more}: {found}");
        ensure!(found.matches(&format!("<host name='{host}'/>")).count() == EXPORTS.len());
        ensure!(found.matches("<format type='nfs'/>").count() == EXPORTS.len());
        for export in EXPORTS {
            ensure!(found.contains(&format!("<dir path='{export}'/>")), "{export}: {found}");
        }
    }
    for (source, kind) in [
        ("<source/>", ErrorKind::InvalidArgument),
        (
            "<source><host name='127.0.0.1'/><host name='127.0.0.2'/></source>",
            ErrorKind::InvalidXml,
        ),
        (
            "<source><host name='127.0.0.1'/><initiator><iqn name='iqn.2026-01.org.example:x'/></initiator></source>",
            ErrorKind::InvalidXml,
        ),
        ("<source><host name='127.0.0.1'/><format type='cifs'/></source>", ErrorKind::NotSupported),
    ] {
        let refused = refusal(find(source).await)?;
        ensure!(refused.kind() == kind, "{source}: {refused:?}");
    }

    let two = with("hosts", vec!["127.0.0.1", "127.0.0.2"]);
    let refused = refusal(manager.find_sources("netfs", &two, &none()).await)?;
    ensure!(refused.kind() == ErrorKind::InvalidArgument, "{refused:?}");

    // What is found are settings of a pool.
    let place = with("hosts", vec!["127.0.0.1"]);
    let mut found = manager.find_sources("netfs", &place, &none()).await?;
    ensure!(found.len() == EXPORTS.len());
    let blank = found.pop().context("none")?;
    let mut settings: poold::client::Options<'_> = blank
        .iter()
        .map(|(key, value)| Ok((key.as_str(), value.try_clone()?.into())))
        .collect::<Result<_>>()?;
    let target = world.pools().join("blank").display().to_string();
    settings.insert("target", target.into());
    manager.define_pool("netfs", "blank", &settings, &none()).await?;
    let defined = done(&world, "dump blank").await?;
    ensure!(defined.contains(&format!("<dir path='{}'/>", EXPORTS[2])), "{defined}");

    let shown = done(&world, "sources netfs --host 127.0.0.1 --source-format nfs").await?;
    let lines: Vec<_> = shown.lines().collect();
    ensure!(lines.len() == 1 + EXPORTS.len() && lines[1].contains(EXPORTS[0]), "{shown}");
    ensure!(lines[0].split_whitespace().eq(["HOST", "DIRECTORY", "FORMAT"]), "{shown}");
    let shown = done(&world, "sources netfs --host 127.0.0.1 --json").await?;
    let shown: serde_json::Value = serde_json::from_str(&shown)?;
    ensure!(shown[1]["dir"] == EXPORTS[1] && shown[1]["hosts"][0] == "127.0.0.1", "{shown}");
    fails(&world, "sources netfs", status_of(ErrorKind::InvalidArgument), "one server").await?;
    fails(&world, "sources dir", status_of(ErrorKind::NotSupported), "dir").await
}

/// What a search and the start of a pool of version 3 come to, side by side.
async fn both_fail(world: &World, pool: &PoolProxy<'_>) -> Result<[Error; 2]> {
    let manager = world.manager().await?;
    let source = "<source><host name='127.0.0.1'/><format type='nfs'/></source>";
    let (no_options, forever) = (none(), with("wait", u64::MAX));
    let (found, started) =
        tokio::join!(manager.find_sources_xml("netfs", source, &no_options), pool.start(&forever));
    let errors = [refusal(found).context("the search")?, refusal(started).context("the start")?];
    for error in &errors {
        let said = error.message();
        ensure!(said.contains("server 127.0.0.1") || said.contains("pool nfs"), "{said}");
    }
    ensure!(pool.state().await? == "inactive");
    Ok(errors)
}

pub async fn a_server_that_is_dead_is_given_up_and_holds_up_nobody() -> Result<()> {
    let mut server = Ganesha::start()?;
    let world = server.network().world(CONFIGURATION).await?;
    let pool = world.define(&document(&world, "nfs", "3")).await?;
    let others = Others::beside(&world, &pool).await?;
    let kinds = |errors: &[Error; 2]| [errors[0].kind(), errors[1].kind()];

    server.freeze();
    let (errors, calls) = tokio::join!(both_fail(&world, &pool), others.a_thousand_calls());
    server.thaw();
    let errors = errors.context("frozen")?;
    calls?;
    ensure!(kinds(&errors) == [ErrorKind::TimedOut, ErrorKind::Inaccessible], "{errors:?}");
    nothing_is_left(&world).await?;

    // Something else where the server was, which rpcbind goes on naming.
    server.kill_server()?;
    let garbage = Garbage::at(MOUNTD, Some(server.network().process()))?;
    let errors = both_fail(&world, &pool).await.context("garbage in its place")?;
    drop(garbage);
    let inaccessible =
        |kind: ErrorKind| matches!(kind, ErrorKind::TimedOut | ErrorKind::Inaccessible);
    ensure!(kinds(&errors).into_iter().all(inaccessible), "{errors:?}");
    server.stop()?;
    let garbage = Garbage::at(RPCBIND, Some(server.network().process()))?;
    let errors = both_fail(&world, &pool).await.context("garbage in rpcbind's place")?;
    drop(garbage);
    ensure!(kinds(&errors).into_iter().all(inaccessible), "{errors:?}");

    let errors = both_fail(&world, &pool).await.context("stopped")?;
    ensure!(kinds(&errors) == [ErrorKind::Inaccessible; 2], "{errors:?}");
    ensure!(errors[1].message().contains("Connection refused"), "{errors:?}");
    nothing_is_left(&world).await?;

    server.start_again()?;
    done(&world, "sources netfs --host 127.0.0.1 --source-format nfs").await?;
    Ok(())
}

pub async fn a_kernel_without_the_file_system_says_so_and_nothing_is_left() -> Result<()> {
    let server = Ganesha::start()?;
    needs_a_kernel_without_nfs(&server)?;
    let world = server.network().world("").await?;
    for version in ["3", "4.2"] {
        let name = format!("v{}", version.split('.').next().unwrap_or_default());
        let pool = world.define(&document(&world, &name, version)).await?;
        let refused = refusal(pool.start(&none()).await)?;
        ensure!(refused.kind() == ErrorKind::NotSupported, "{refused:?}");
        let said = refused.message();
        ensure!(said.contains(&name) && said.contains("kernel has no file system nfs"), "{said}");
        ensure!(pool.state().await? == "inactive" && pool.last_error().await?.1 == said);
        nothing_is_left(&world).await?;
        pool.undefine(&none()).await?;
    }
    Ok(())
}

pub async fn a_pool_that_is_started_at_boot_waits_for_its_server() -> Result<()> {
    let mut server = Ganesha::start()?;
    needs_a_kernel_without_nfs(&server)?;
    let world = server.network().world(CONFIGURATION).await?;
    let pool = world.define(&document(&world, "nfs", "3")).await?;
    pool.set_autostart(true, &none()).await?;
    server.stop()?;
    world.reboot().await?;
    eventually("it says what it waits for", async || {
        let waits = pool.waiting_for().await? == "server 127.0.0.1";
        Ok(waits && pool.next_try().await? > 0)
    })
    .await?;
    let (name, said) = pool.last_error().await?;
    ensure!(
        name.ends_with(".Inaccessible") && said.contains("Connection refused"),
        "{name}: {said}"
    );
    let shown = done(&world, "show nfs").await?;
    ensure!(shown.contains("server 127.0.0.1") && shown.contains("Next try"), "{shown}");
    // The server is back, and it is the kernel that cannot.
    server.start_again()?;
    eventually("it is tried again without help", async || {
        Ok(pool.last_error().await?.0.ends_with(".NotSupported"))
    })
    .await?;
    eventually("there is nothing to wait for", async || {
        Ok(pool.waiting_for().await?.is_empty() && pool.next_try().await? == 0)
    })
    .await?;
    nothing_is_left(&world).await
}

pub async fn the_password_of_a_share_is_seen_nowhere_while_it_is_mounted_in_vain() -> Result<()> {
    const PASSWORD: &str = "f1ve,tiny=birds%42";
    if !Path::new("/usr/sbin/mount.cifs").exists() {
        return Err(Skip("no mount.cifs here: scripts/setup.sh bus".into()).into());
    }
    if std::fs::read_to_string("/proc/filesystems")?.contains("cifs") {
        return Err(Skip("this kernel has CIFS; the guest tier shows what it does".into()).into());
    }
    let world = World::start_with("log-level = \"trace\"\n").await?;
    let watch = Watch::over(PASSWORD)?;
    world.set_secret("cifs", "nas", PASSWORD).await?;
    let pool = world
        .define(&format!(
            "<pool type='netfs'><name>closed</name><source><host name='127.0.0.1'/><dir path='closed'/>\
             <format type='cifs'/><auth type='cifs' username='alice'><secret usage='nas'/></auth></source>\
             <target><path>{}</path></target></pool>",
            world.pools().join("closed").display()
        ))
        .await?;
    let mut said = Vec::new();
    for _ in 0..10 {
        let refused = refusal(pool.start(&none()).await)?;
        ensure!(refused.kind() == ErrorKind::NotSupported, "{refused:?}");
        ensure!(refused.message().contains("kernel has no file system cifs"), "{refused}");
        said.push(refused.message().to_owned());
    }
    nothing_is_left(&world).await?;
    watch.nowhere(&world, &said).await
}
