//! What the daemon says of itself is what the interface documents say.

use super::support::call::{Answer, Ask, Method, call};
use super::support::interfaces::{Shape, documents, shapes};
use super::support::world::{World, none};
use anyhow::{Context, Result, bail, ensure};
use std::collections::BTreeMap;
use std::process::Command;

/// Objects of every kind that there is, by interface.
async fn objects(world: &World) -> Result<BTreeMap<&'static str, String>> {
    let images = world.active_pool("images").await?;
    let (volume, _) = images.create_volume("disk.raw", 1 << 20, &none()).await?;
    let job = images.refresh(&none()).await?;
    Ok(BTreeMap::from([
        ("org.poold1.Manager", "/org/poold1".to_owned()),
        ("org.poold1.Pool", images.inner().path().to_string()),
        ("org.poold1.Volume", volume.to_string()),
        ("org.poold1.Job", job.to_string()),
    ]))
}

async fn introspect(world: &World, path: &str) -> Result<String> {
    let method =
        Method { path, interface: "org.freedesktop.DBus.Introspectable", member: "Introspect" };
    match call(&world.root, method, &(), Ask::Never).await? {
        Answer::Reply(reply) => Ok(reply.body().deserialize::<String>()?),
        Answer::Error { name, text } => bail!("Introspect on {path}: {name}: {text}"),
    }
}

pub async fn introspection_says_what_the_documents_say() -> Result<()> {
    let world = World::start().await?;
    let mut documented = BTreeMap::<String, Shape>::new();
    for document in documents()? {
        documented.extend(shapes(&document)?);
    }
    for (interface, path) in objects(&world).await? {
        let said = shapes(&introspect(&world, &path).await?)?;
        let said = said.get(interface).with_context(|| format!("{path} has no {interface}"))?;
        ensure!(
            said == &documented[interface],
            "{interface}: {said:?} is not {:?}",
            documented[interface]
        );
    }
    Ok(())
}

pub async fn busctl_walks_the_tree() -> Result<()> {
    let world = World::start().await?;
    let objects = objects(&world).await?;
    let busctl = async |arguments: &[&str]| -> Result<String> {
        let mut command = Command::new("busctl");
        command.arg(format!("--address={}", world.address())).args(arguments);
        let output = tokio::task::spawn_blocking(move || command.output()).await??;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        ensure!(
            output.status.success(),
            "{arguments:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(text)
    };
    let tree = busctl(&["tree", "--list", "org.poold1"]).await?;
    for node in [
        "/org",
        "/org/poold1/pools",
        "/org/poold1/volumes",
        "/org/poold1/jobs",
        "/org/poold1/secrets",
    ]
    .into_iter()
    .chain(objects.values().map(String::as_str))
    {
        ensure!(tree.lines().any(|line| line == node), "{node} is not in the tree:\n{tree}");
    }
    for (interface, path) in &objects {
        let shown = busctl(&["introspect", "org.poold1", path]).await?;
        ensure!(shown.contains(interface), "busctl introspect {path}: {shown}");
    }
    Ok(())
}

pub async fn every_property_answers_with_its_type() -> Result<()> {
    let world = World::start().await?;
    let mut documented = BTreeMap::<String, Shape>::new();
    for document in documents()? {
        documented.extend(shapes(&document)?);
    }
    let properties = "org.freedesktop.DBus.Properties";
    for (interface, path) in objects(&world).await? {
        let all =
            poold::client::properties(&world.root, &path.as_str().try_into()?, interface).await?;
        for (name, (kind, _)) in &documented[interface].properties {
            let value =
                all.get(name).with_context(|| format!("GetAll has no {interface}.{name}"))?;
            let found = value.value_signature().to_string();
            // A structure's outer parentheses come and go with the library, not on the wire.
            ensure!(
                found.trim_matches(['(', ')']) == kind.trim_matches(['(', ')']),
                "{interface}.{name} is {found}"
            );
            let get = Method { path: &path, interface: properties, member: "Get" };
            let answer = call(&world.root, get, &(interface, name.as_str()), Ask::Never).await?;
            ensure!(answer.error().is_empty(), "Get {interface}.{name}: {answer:?}");
            let set = Method { path: &path, interface: properties, member: "Set" };
            let body = (interface, name.as_str(), zbus::Variant::from(true));
            let answer = call(&world.root, set, &body, Ask::Never).await?;
            ensure!(!answer.error().is_empty(), "{interface}.{name} could be set");
        }
        ensure!(
            all.len() == documented[interface].properties.len(),
            "{interface}: {:?}",
            all.keys()
        );
    }
    Ok(())
}
