//! Who may do what: every method by nobody, with rules, with agents, and with a polkitd that does not answer.

use super::support::agent::{Agent, Mood};
use super::support::call::{Answer, Ask, Method, call};
use super::support::caller::{Caller, NOBODY};
use super::support::interfaces::{self, methods};
use super::support::runner::{Skip, fail, pass};
use super::support::stuck::Stuck;
use super::support::world::{World, eventually, none, with};
use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::{Signal, kill};
use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use zbus::Variant;
use zbus::wire::{Structure, StructureBuilder};

const ALL: &str = "if (action.id.indexOf('org.poold1.') == 0) return polkit.Result.YES;";

/// A world with polkit, or a visible skip.
async fn polkit_world() -> Result<World> {
    let world = World::start().await?;
    if !world.has_polkit() {
        return Err(Skip("polkitd is not installed".into()).into());
    }
    Ok(world)
}

/// One object of each kind that there can be, by interface, below a pool of this name.
async fn objects(world: &World, name: &str) -> Result<BTreeMap<String, String>> {
    let pool = world.active_pool(name).await?;
    let (volume, _) = pool.create_volume("disk.raw", 1 << 20, &none()).await?;
    let job = pool.refresh(&none()).await?;
    let (reader, mut writer) = std::io::pipe()?;
    std::io::Write::write_all(&mut writer, b"passphrase")?;
    drop(writer);
    let options = with("usage-name", "disk");
    let secret = world.manager().await?.set_secret((&reader).into(), &options).await?;
    let at = |interface: &str, path: &str| (format!("org.poold1.{interface}"), path.to_owned());
    Ok(BTreeMap::from([
        at("Manager", "/org/poold1"),
        at("Pool", pool.inner().path().as_str()),
        at("Volume", volume.as_str()),
        at("Job", job.as_str()),
        at("Secret", secret.as_str()),
    ]))
}

/// Arguments with which the method would do something, from the names and types in its document.
fn arguments(world: &World, pool: &str, method: &interfaces::Method) -> Result<Structure<'static>> {
    let mut body = StructureBuilder::new();
    for (name, signature) in &method.inputs {
        let text = |value: &str| Variant::from(value.to_owned());
        let value = match (name.as_str(), signature.as_str()) {
            ("xml", "s") if method.name == "CreateVolumeXml" => {
                text("<volume><name>new.raw</name><capacity>1048576</capacity></volume>")
            }
            ("xml", "s") if method.name == "SetSecretXml" => text("<secret/>"),
            ("xml", "s") => text(&world.pool_xml("new")),
            ("type", "s") => text("dir"),
            ("name_or_uuid", "s") => text(pool),
            ("path", "s") => text(&world.pools().join(pool).to_string_lossy()),
            ("path_or_key", "s") => {
                text(&world.pools().join(pool).join("disk.raw").to_string_lossy())
            }
            ("mode", "s") => text("r"),
            ("source" | "after", "s") => text(""),
            ("settings", "a{sv}") => {
                let target = world.pools().join("new").to_string_lossy().into_owned();
                Variant::from(HashMap::from([("target".to_owned(), Variant::from(target))]))
            }
            ("name", "s") if method.name == "LookupVolume" => text("disk.raw"),
            (_, "s") => text("new.raw"),
            (_, "b") => Variant::from(true),
            (_, "u") => Variant::from(0_u32),
            (_, "t") => Variant::from(2_u64 << 20),
            (_, "a{sv}") => Variant::from(HashMap::<String, Variant<'_>>::new()),
            (_, "h") => {
                let mut file = tempfile::tempfile()?;
                std::io::Write::write_all(&mut file, b"something")?;
                std::io::Seek::rewind(&mut file)?;
                Variant::from(zbus::wire::Fd::from(std::os::fd::OwnedFd::from(file)))
            }
            _ => bail!("{}: what to give for {name} ({signature})? Say it here", method.name),
        };
        body.push_value(value);
    }
    Ok(body.build()?)
}

/// Everything that a call could have changed: files with sizes, and the states of pools.
async fn fingerprint(world: &World) -> Result<(Vec<String>, BTreeMap<String, String>)> {
    fn walk(directory: &Path, into: &mut Vec<String>) -> Result<()> {
        for entry in std::fs::read_dir(directory)? {
            let entry = entry?;
            let about = entry.metadata()?;
            into.push(format!(
                "{} {}",
                entry.path().display(),
                if about.is_file() { about.len() } else { 0 }
            ));
            if about.is_dir() {
                walk(&entry.path(), into)?;
            }
        }
        into.sort();
        Ok(())
    }
    let mut files = Vec::new();
    walk(&world.data("etc"), &mut files)?;
    walk(&world.pools(), &mut files)?;
    Ok((files, world.states().await?))
}

pub async fn nobody_may_read_and_do_nothing_else() -> Result<()> {
    let world = World::start().await?;
    let objects = objects(&world, "images").await?;
    let nobody = Caller::nobody(&world).await?;
    let before = fingerprint(&world).await?;
    for method in methods()? {
        let step =
            format!("{}.{}", method.interface.trim_start_matches("org.poold1."), method.name);
        let path = &objects[&method.interface];
        let raw = Method { path, interface: &method.interface, member: &method.name };
        let body = arguments(&world, "images", &method)?;
        let answer = if method.inputs.is_empty() {
            call(&nobody.connection, raw, &(), Ask::Never).await?
        } else {
            call(&nobody.connection, raw, &body, Ask::Never).await?
        };
        // A job of somebody else's is cancelled by whoever has the action; its document says so in words.
        let free = method.action == "none" && step != "Job.Cancel";
        match (free, &answer) {
            (true, Answer::Reply(_)) => pass("access-nobody", format_args!("{step} answers")),
            (false, answer) if answer.is_refusal() => {
                pass("access-nobody", format_args!("{step} refused"))
            }
            _ => fail("access-nobody", step, format_args!("action {}: {answer:?}", method.action)),
        }
    }
    let after = fingerprint(&world).await?;
    ensure!(before == after, "nobody changed something: {before:?} became {after:?}");
    Ok(())
}

pub async fn with_all_granted_no_method_is_refused() -> Result<()> {
    let world = polkit_world().await?;
    world.rule(ALL).await?;
    for (number, method) in methods()?.into_iter().enumerate() {
        let pool = format!("images-{number}");
        let objects = objects(&world, &pool).await?;
        let Some(path) = objects.get(&method.interface) else { continue };
        // A caller each, or one pool's mistakes would be another method's.
        let nobody = Caller::nobody(&world).await?;
        let raw = Method { path, interface: &method.interface, member: &method.name };
        let body = arguments(&world, &pool, &method)?;
        let answer = call(&nobody.connection, raw, &body, Ask::Never).await?;
        let step =
            format!("{}.{}", method.interface.trim_start_matches("org.poold1."), method.name);
        let known = answer.error().is_empty() || answer.error().starts_with("org.poold1.Error.");
        if known && !answer.is_refusal() {
            pass("access-granted", step);
        } else {
            fail("access-granted", step, format_args!("{answer:?}"));
        }
    }
    Ok(())
}

pub async fn a_rule_grants_what_it_names_and_no_more() -> Result<()> {
    let world = polkit_world().await?;
    let (scratch, vault) = (world.active_pool("scratch").await?, world.active_pool("vault").await?);
    let target = world.pools().join("scratch");
    let rule = [
        "action.id == 'org.poold1.create-volume'",
        "action.lookup('pool') == 'scratch'",
        "action.lookup('pool.type') == 'dir'",
        &format!("action.lookup('pool.target') == '{}'", target.display()),
        "action.lookup('volume') == 'mine.raw'",
        "subject.user == 'nobody'",
    ];
    world.rule(&format!("if ({}) return polkit.Result.YES;", rule.join(" && "))).await?;
    let nobody = Caller::nobody(&world).await?;
    let create = async |pool: &str| {
        let method = Method { path: pool, interface: "org.poold1.Pool", member: "CreateVolume" };
        call(&nobody.connection, method, &("mine.raw", 1_u64 << 20, none()), Ask::Never).await
    };
    let answer = create(scratch.inner().path().as_str()).await?;
    ensure!(answer.error().is_empty(), "the rule did not help: {answer:?}");
    let answer = create(vault.inner().path().as_str()).await?;
    ensure!(answer.is_refusal(), "the rule reached another pool: {answer:?}");
    let volume = scratch.lookup_volume("mine.raw", &none()).await?;
    let delete = Method { path: volume.as_str(), interface: "org.poold1.Volume", member: "Delete" };
    let answer = call(&nobody.connection, delete, &(none(),), Ask::Never).await?;
    ensure!(answer.is_refusal(), "the rule reached another action: {answer:?}");
    Ok(())
}

/// Nobody defines and builds a pool, with an agent of this mood and these options.
async fn ask_to_define(
    world: &World,
    mood: Mood,
    ask: Ask,
    more: &[(&'static str, Variant<'static>)],
) -> Result<(Answer, Agent)> {
    let nobody = Caller::nobody(world).await?;
    let agent = Agent::register(world, nobody.pid(), mood).await?;
    let define =
        Method { path: "/org/poold1", interface: "org.poold1.Manager", member: "DefinePoolXml" };
    let mut options =
        HashMap::from([("build", Variant::from("yes")), ("start", Variant::from(true))]);
    for (key, value) in more {
        options.insert(key, value.try_clone()?);
    }
    let body = (world.pool_xml("asked"), options);
    let answer = call(&nobody.connection, define, &body, ask).await?;
    Ok((answer, agent))
}

pub async fn an_agent_that_says_yes_is_asked_once_and_by_name() -> Result<()> {
    let world = polkit_world().await?;
    let (answer, agent) = ask_to_define(&world, Mood::Yes, Ask::Interactively, &[]).await?;
    ensure!(answer.error().is_empty(), "{answer:?}");
    let questions = agent.questions();
    ensure!(questions.len() == 1, "asked {} times: {questions:?}", questions.len());
    let question = &questions[0];
    ensure!(
        question.action == "org.poold1.build-pool",
        "not the most demanding action: {question:?}"
    );
    ensure!(question.message.contains("asked"), "the message does not name the pool: {question:?}");
    ensure!(world.states().await?["asked"] == "active");
    Ok(())
}

pub async fn an_agent_that_cancels_changes_nothing() -> Result<()> {
    let world = polkit_world().await?;
    let (answer, agent) = ask_to_define(&world, Mood::Cancel, Ask::Interactively, &[]).await?;
    ensure!(answer.is_refusal(), "{answer:?}");
    ensure!(agent.questions().len() == 1);
    ensure!(world.states().await?.is_empty() && !world.pools().join("asked").exists());
    Ok(())
}

pub async fn a_caller_who_forbids_questions_is_not_asked() -> Result<()> {
    let world = polkit_world().await?;
    let forbid = [("auth.no_user_interaction", Variant::from(true))];
    for (ask, more) in [(Ask::Never, &[][..]), (Ask::Interactively, &forbid[..])] {
        let (answer, agent) = ask_to_define(&world, Mood::Yes, ask, more).await?;
        ensure!(answer.is_refusal(), "{ask:?}: {answer:?}");
        ensure!(agent.questions().is_empty(), "{ask:?}: asked all the same");
    }
    Ok(())
}

pub async fn a_caller_who_leaves_takes_the_question_along() -> Result<()> {
    let world = polkit_world().await?;
    let nobody = Caller::nobody(&world).await?;
    let agent = Agent::register(&world, nobody.pid(), Mood::Silent).await?;
    let connection = nobody.connection.clone();
    let xml = world.pool_xml("asked");
    let pending = tokio::spawn(async move {
        let define = Method {
            path: "/org/poold1",
            interface: "org.poold1.Manager",
            member: "DefinePoolXml",
        };
        call(&connection, define, &(xml, none()), Ask::Interactively).await
    });
    eventually("the agent is asked", async || Ok(!agent.questions().is_empty())).await?;
    pending.abort();
    nobody.connection.clone().close().await?;
    eventually("polkit takes the question back", async || Ok(agent.cancelled() > 0)).await?;
    ensure!(world.states().await?.is_empty());
    Ok(())
}

pub async fn a_frozen_polkitd_holds_up_nobody_but_who_asked() -> Result<()> {
    let world = polkit_world().await?;
    let images = world.active_pool("images").await?;
    let path = images.inner().path().to_string();
    let nobody = Caller::nobody(&world).await?;
    let stop = Method { path: &path, interface: "org.poold1.Pool", member: "Stop" };
    // polkitd runs once somebody asked it.
    ensure!(call(&nobody.connection, stop, &(none(),), Ask::Never).await?.is_refusal());
    let polkitd =
        world.owner("org.freedesktop.PolicyKit1").await?.context("polkitd does not run")?;
    kill(polkitd, Signal::SIGSTOP)?;
    let held = {
        let (connection, path) = (nobody.connection.clone(), path.clone());
        tokio::spawn(async move {
            let stop = Method { path: &path, interface: "org.poold1.Pool", member: "Stop" };
            call(&connection, stop, &(none(),), Ask::Never).await
        })
    };
    // Nobody goes on reading, on the same connection; root goes on working, on the same pool.
    let theirs =
        super::support::world::pool(&nobody.connection, &path.as_str().try_into()?).await?;
    for _ in 0..100 {
        ensure!(theirs.state().await? == "active");
    }
    images.create_volume("while.raw", 1 << 20, &none()).await?;
    images.refresh(&none()).await?;
    ensure!(
        !held.is_finished(),
        "polkitd is frozen, and yet there is an answer: {:?}",
        held.await?
    );
    kill(polkitd, Signal::SIGCONT)?;
    let answer = held.await??;
    ensure!(answer.is_refusal(), "{answer:?}");
    ensure!(images.state().await? == "active");
    Ok(())
}

pub async fn without_polkitd_only_root_may_change_things() -> Result<()> {
    let world = World::start_without_polkit().await?;
    let images = world.active_pool("images").await?;
    let nobody = Caller::nobody(&world).await?;
    let path = images.inner().path().to_string();
    let theirs =
        super::support::world::pool(&nobody.connection, &path.as_str().try_into()?).await?;
    ensure!(theirs.name().await? == "images");
    let stop = Method { path: &path, interface: "org.poold1.Pool", member: "Stop" };
    let answer = call(&nobody.connection, stop, &(none(),), Ask::Interactively).await?;
    ensure!(answer.is_refusal(), "{answer:?}");
    Ok(())
}

pub async fn the_job_of_another_is_not_ours_to_cancel() -> Result<()> {
    let world = polkit_world().await?;
    let stuck = Stuck::pool(&world, "stuck").await?;
    world.rule("if (action.id == 'org.poold1.create-volume') return polkit.Result.YES;").await?;
    stuck.freeze()?;
    let nobody = Caller::nobody(&world).await?;
    let path = stuck.pool.inner().path().to_string();
    let theirs =
        super::support::world::pool(&nobody.connection, &path.as_str().try_into()?).await?;
    let (_, of_root) = stuck.pool.create_volume("root.raw", 1 << 20, &with("wait", 0_u64)).await?;
    let (_, of_nobody) = theirs.create_volume("nobody.raw", 1 << 20, &with("wait", 0_u64)).await?;
    let cancel = async |job: &str| {
        let method = Method { path: job, interface: "org.poold1.Job", member: "Cancel" };
        call(&nobody.connection, method, &(none(),), Ask::Never).await
    };
    let answer = cancel(of_root.as_str()).await?;
    ensure!(answer.is_refusal(), "nobody cancelled root's job: {answer:?}");
    let answer = cancel(of_nobody.as_str()).await?;
    ensure!(answer.error().is_empty(), "nobody may not cancel their own job: {answer:?}");
    let uid = poold::client::JobProxy::new(&world.root, of_nobody).await?.caller_uid().await?;
    ensure!(uid == NOBODY, "CallerUid is {uid}");
    stuck.thaw()
}
