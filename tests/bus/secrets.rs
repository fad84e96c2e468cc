//! Secrets: where their values are while they are used, and where they are not.

use super::poolctl::{done, fails, status_of};
use super::support::leaks::{Memory, Watch};
use super::support::runner::Skip;
use super::support::world::{POOLD, World, eventually, none, with};
use anyhow::{Context, Result, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use poold::client::{JobProxy, Options, SecretProxy};
use poold::model::{Error, ErrorKind};
use std::io::Write;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, ExitStatus};
use zbus::OwnedObjectPath;

/// The log says all.
const TRACE: &str = "log-level = \"trace\"\n";
const MARKER: &str = "MARKED,of=a,,passphrase";

pub async fn a_passphrase_is_seen_nowhere_while_it_is_used() -> Result<()> {
    let world = World::start_with(TRACE).await?;
    let watch = Watch::over(MARKER)?;
    let value = format!("{MARKER}\nin two lines");
    let pool = world.active_pool("images").await?;
    world.set_secret("volume", "key", &value).await?;
    pool.create_volume("plain", 1 << 20, &with("format", "raw")).await?;
    world.delay_qemu_img()?;
    let encrypted = |format: &'static str| {
        Options::from([
            ("format", format.into()),
            ("encryption", "luks".into()),
            ("secret", "key".into()),
            ("wait", 0_u64.into()),
        ])
    };
    let plain = world.volume(&pool.lookup_volume("plain", &none()).await?).await?;
    let jobs = [
        pool.create_volume("disk.qcow2", 1 << 20, &encrypted("qcow2")).await?.1,
        plain.clone("disk.luks", &encrypted("raw")).await?.1,
    ];
    // It is looked for while the program waits, too.
    eventually("qemu-img works", async || Ok(world.qemu_img_waits())).await?;
    world.let_qemu_img_go()?;
    for job in jobs {
        JobProxy::new(&world.root, job).await?.wait(&with("wait", u64::MAX)).await?;
    }
    // With another value it opens nothing, and says so.
    let disk = world.volume(&pool.lookup_volume("disk.qcow2", &none()).await?).await?;
    let mut said = vec![disk.get_xml(&none()).await?];
    world.set_secret("volume", "key", "wrong.horse").await?;
    let forever = with("wait", u64::MAX);
    let plainly = Options::from([("encryption", "none".into()), ("wait", u64::MAX.into())]);
    for refused in
        [disk.resize(2 << 20, &forever).await, disk.clone("x", &plainly).await.map(|(_, job)| job)]
    {
        let error = refused.err().context("a wrong passphrase opens it")?;
        ensure!(error.kind() == ErrorKind::AuthenticationFailed, "{error:?}");
        ensure!(error.message().contains("another passphrase"), "{error}");
        said.push(error.message().to_owned());
    }
    world.set_secret("volume", "key", &value).await?;
    disk.resize(2 << 20, &forever).await?;
    watch.nowhere(&world, &said).await?;
    // And yet it is the one.
    let passphrase = world.whole().join("passphrase");
    std::fs::write(&passphrase, value)?;
    let image = world.pools().join("images/disk.qcow2");
    let opened = Command::new("qemu-img")
        .args(["info", "--object", &format!("secret,id=s,file={}", passphrase.display())])
        .arg("--image-opts")
        .arg(format!("driver=qcow2,file.filename={},encrypt.key-secret=s", image.display()))
        .output()?;
    ensure!(opened.status.success(), "{}", String::from_utf8_lossy(&opened.stderr));
    Ok(())
}

pub async fn only_an_ephemeral_secret_stays_in_memory() -> Result<()> {
    const KEPT: &str = "a-value-that-is-on-disk";
    const EPHEMERAL: &str = "a-value-that-is-nowhere-else";
    let world = World::start_with(TRACE).await?;
    world.active_pool("images").await?;
    world.set_secret("volume", "kept", KEPT).await?;
    let (reader, mut writer) = std::io::pipe()?;
    writer.write_all(EPHEMERAL.as_bytes())?;
    drop(writer);
    let options = Options::from([("usage-name", "short".into()), ("ephemeral", true.into())]);
    world.manager().await?.set_secret((&reader).into(), &options).await?;
    let memory = Memory::of(world.poold().await?.as_raw())?;
    ensure!(memory.places(KEPT)? == 0, "what is on disk is in memory");
    ensure!(memory.places(EPHEMERAL)? == 1, "in {} places", memory.places(EPHEMERAL)?);
    // Forgotten, it is nowhere.
    let secrets = poold::client::objects(&world.root, "/org/poold1/secrets").await?;
    for path in secrets.into_keys() {
        poold::client::SecretProxy::new(&world.root, path).await?.delete(&none()).await?;
    }
    let memory = Memory::of(world.poold().await?.as_raw())?;
    ensure!(memory.places(EPHEMERAL)? == 0, "it is in {} places", memory.places(EPHEMERAL)?);
    Ok(())
}

/// Keeps a value as a secret of a document; its path.
async fn set_xml(world: &World, xml: &str, value: &str) -> Result<OwnedObjectPath, Error> {
    let (reader, mut writer) = std::io::pipe().expect("a pipe");
    writer.write_all(value.as_bytes()).expect("room in the pipe");
    drop(writer);
    world.manager().await.expect("a manager").set_secret_xml((&reader).into(), xml, &none()).await
}

pub async fn libvirts_documents_are_taken_in_and_given_back() -> Result<()> {
    let world = World::start().await?;
    let secret = async |path: &OwnedObjectPath| {
        let built = SecretProxy::builder(&world.root).path(path.clone());
        anyhow::Ok(built.cache_properties(zbus::proxy::CacheProperties::No).build().await?)
    };
    for (kind, element, name) in [
        ("volume", "volume", "/srv/images/a.qcow2"),
        ("ceph", "name", "client.libvirt"),
        ("iscsi", "target", "iqn.2026-01.org.example:units"),
        ("cifs", "name", "nas"),
        ("tls", "name", "tls key"),
        ("vtpm", "name", "tpm"),
    ] {
        let uuid = poold::model::Uuid::new_v4();
        let document = |flags: &str, uuid: &str| {
            format!(
                "<secret {flags}>{uuid}<description>for {kind}</description>\
                 <usage type='{kind}'><{element}>{name}</{element}></usage></secret>"
            )
        };
        let stated = document("private='yes'", &format!("<uuid>{uuid}</uuid>"));
        let path = set_xml(&world, &stated, "first").await?;
        let kept = secret(&path).await?;
        ensure!(kept.uuid().await? == uuid.to_string() && kept.usage_type().await? == kind);
        ensure!(kept.usage_name().await? == name && kept.private().await?);
        ensure!(!kept.ephemeral().await? && kept.description().await? == format!("for {kind}"));
        let given = kept.get_xml(&none()).await?;
        ensure!(given.contains("private='yes'") && given.contains("ephemeral='no'"), "{given}");
        ensure!(given.contains(&format!("<{element}>{name}</{element}>")), "{given}");
        // Its usage tells which one is meant, and a document is what it gives.
        let again = set_xml(&world, &document("ephemeral='yes'", ""), "second").await?;
        ensure!(again == path && kept.ephemeral().await?, "{again} is not {path}");
        ensure!(set_xml(&world, &given, "third").await? == path && !kept.ephemeral().await?);
        let other = document("", &format!("<uuid>{}</uuid>", poold::model::Uuid::new_v4()));
        let taken = set_xml(&world, &other, "x").await;
        ensure!(taken.is_err_and(|error| error.kind() == ErrorKind::Conflict), "{kind}");
    }
    // One of another type is another, whatever its name.
    let iscsi = "<secret><usage type='iscsi'><target>nas</target></usage></secret>";
    let another = secret(&set_xml(&world, iscsi, "x").await?).await?;
    ensure!(another.usage_type().await? == "iscsi");
    let (reader, writer) = std::io::pipe()?;
    drop(writer);
    let of_one = Options::from([("usage-name", "nas".into())]);
    let set = world.manager().await?.set_secret((&reader).into(), &of_one).await;
    let error = set.expect_err("nobody knows which");
    ensure!(error.kind() == ErrorKind::InvalidArgument && error.message().contains("usage-type"));
    fails(&world, "secret dump nas", status_of(ErrorKind::InvalidArgument), "UUID").await?;
    // And nothing is locked with one that is for something else.
    world.active_pool("images").await?;
    let locked =
        |secret: &str| format!("vol create images/locked 1M --format luks --secret {secret}");
    let with =
        async |secret: &str, kind, why| fails(&world, &locked(secret), status_of(kind), why).await;
    with("nas", ErrorKind::NotFound, "is no secret \"nas\" for volume, but one for").await?;
    let iscsi = another.uuid().await?;
    with(&iscsi, ErrorKind::InvalidArgument, "is for iscsi, not volume").await?;
    another.delete(&none()).await?;
    with(&iscsi, ErrorKind::NotFound, &iscsi).await?;
    world.set_secret("cifs", "nas", "another").await?;
    for (document, why) in [
        ("<secret><usage type='tape'><name>x</name></usage></secret>", "tape"),
        ("<secret><usage type='ceph'/></secret>", "name"),
        ("<secret><uuid>7</uuid></secret>", "uuid"),
        ("<secret ephemeral='maybe'/>", "ephemeral"),
        ("<secret><usage type='ceph'><name></name></usage></secret>", "name"),
        ("<secret>", "secret"),
        ("<pool type='dir'/>", "secret"),
    ] {
        let error = set_xml(&world, document, "x").await.expect_err(document);
        ensure!(error.kind() == ErrorKind::InvalidXml, "{document}: {error:?}");
        ensure!(error.message().contains(why), "{document}: {error}");
    }

    // At a shell, the same.
    let (document, value) = (world.pools().join("secret.xml"), world.pools().join("value"));
    std::fs::write(&document, "<secret><usage type='ceph'><name>shell</name></usage></secret>")?;
    std::fs::write(&value, "of a shell\n")?;
    done(&world, &format!("secret set {} --xml {}", value.display(), document.display())).await?;
    let shown = done(&world, "secret dump shell").await?;
    ensure!(
        shown.contains("<usage type='ceph'>") && shown.contains("<name>shell</name>"),
        "{shown}"
    );
    // By its name it keeps its type.
    done(&world, &format!("secret set {} --usage-name shell", value.display())).await?;
    ensure!(done(&world, "secret dump shell").await?.contains("<usage type='ceph'>"));
    fails(&world, "secret dump nobody", status_of(ErrorKind::NotFound), "nobody").await?;
    done(&world, "secret delete shell").await?;
    Ok(())
}

/// Ends a process that was allowed to leave as large a core as it likes, as a crash does.
fn crash(mut child: Child) -> Result<ExitStatus> {
    kill(Pid::from_raw(child.id().cast_signed()), Signal::SIGABRT)?;
    Ok(child.wait()?)
}

pub async fn a_crash_leaves_no_core() -> Result<()> {
    let world = World::start().await?;
    let directory = tempfile::tempdir()?;
    let allowed = |program: &str| {
        let mut command = Command::new("prlimit");
        command.arg("--core=unlimited").arg(program).current_dir(directory.path());
        command
    };
    let other = allowed("sleep").arg("infinity").spawn()?;
    let sleeps = format!("/proc/{}/comm", other.id());
    eventually("the other runs", async || Ok(std::fs::read_to_string(&sleeps)? == "sleep\n"))
        .await?;
    if !crash(other)?.core_dumped() {
        return Err(Skip("no program leaves a core here".into()).into());
    }
    let root = world.whole().join("other");
    std::fs::create_dir(&root)?;
    let poold =
        allowed(POOLD).arg("--address").arg(world.address()).arg("--root").arg(&root).spawn()?;
    eventually("it serves", async || Ok(world.owner("org.poold1").await?.is_some())).await?;
    let status = crash(poold)?;
    ensure!(status.signal() == Some(Signal::SIGABRT as i32), "{status:?}");
    ensure!(!status.core_dumped(), "it left a core");
    Ok(())
}
