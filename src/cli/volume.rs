//! Commands on volumes.

use super::definition;
use super::follow::{Step, complete};
use super::options::VolCommand;
use super::output::{self, Emphasis};
use super::record::record;
use super::session::Session;
use super::settings::{CloneSettings, VolumeSettings};
use super::table::{Field, Shown};
use super::transfer;
use super::values::{Resize, VolumeRef};
use crate::client::{Options, PoolProxy};
use crate::model::{Error, ErrorKind, Result};
use serde_json::json;
use std::path::PathBuf;

/// Columns of `vol list`.
const COLUMNS: &[Field] = &[
    ("NAME", "name", Shown::Text),
    ("FORMAT", "format", Shown::Text),
    ("CAPACITY", "capacity", Shown::Size),
    ("ALLOCATED", "allocation", Shown::Size),
    ("PATH", "path", Shown::Text),
];

/// Properties that `vol list` needs beside its columns.
const ALSO: &[&str] = &["Incomplete"];

/// Lines of `vol show`.
const DETAILS: &[Field] = &[
    ("Name", "name", Shown::Text),
    ("Pool", "pool", Shown::Text),
    ("Path", "path", Shown::Text),
    ("Key", "key", Shown::Text),
    ("Kind", "kind", Shown::Text),
    ("Format", "format", Shown::Text),
    ("Format is", "format-source", Shown::Text),
    ("Content is", "content-format", Shown::Text),
    ("Incomplete", "incomplete", Shown::IfAny),
    ("Because", "incomplete-reason", Shown::Text),
    ("Capacity", "capacity", Shown::Size),
    ("Allocated", "allocation", Shown::Size),
    ("Physical", "physical", Shown::Size),
    ("Backing", "backing-path", Shown::Text),
    ("Backing format", "backing-format", Shown::Text),
    ("Provisioning", "provisioning", Shown::Text),
    ("Origin", "origin", Shown::Text),
    ("Thin pool", "thin-pool", Shown::Text),
    ("Data used", "data-used", Shown::Percent),
    ("Metadata used", "metadata-used", Shown::Percent),
    ("Paths", "member-paths", Shown::Text),
    ("Encrypted", "encrypted", Shown::IfAny),
    ("Modified", "modified", Shown::Time),
    ("Mode", "mode", Shown::Mode),
    ("Owner", "owner", Shown::Number),
    ("Group", "group", Shown::Number),
    ("Job", "job", Shown::Number),
    ("Object", "object", Shown::Text),
];

/// Runs a command on volumes.
pub(super) async fn run(session: &Session, command: VolCommand) -> anyhow::Result<()> {
    match command {
        VolCommand::List { pool } => list(session, &pool).await,
        VolCommand::Show { volume } => show(session, &volume).await,
        VolCommand::Create { volume, size, xml, settings } => match xml {
            Some(xml) => create_from_xml(session, &volume, xml, &settings).await,
            None => create(session, &volume.parse().map_err(usage)?, size, &settings).await,
        },
        VolCommand::Delete { volumes, snapshots, force } => {
            for volume in volumes {
                delete(session, &volume, [("snapshots", snapshots), ("force", force)]).await?;
            }
            Ok(())
        }
        VolCommand::Resize { volume, size, shrink, allocate, force } => {
            let flags = [("shrink", shrink), ("allocate", allocate), ("force", force)];
            resize(session, &volume, size, flags).await
        }
        VolCommand::Upload { volume, file, part, force } => {
            transfer::upload(session, &volume, &file, &part, force).await
        }
        VolCommand::Download { volume, file, part } => {
            transfer::download(session, &volume, &file, &part).await
        }
        VolCommand::Clone { volume, new, shallow, decrypt, settings } => {
            clone(session, &volume, &new, shallow, decrypt, &settings).await
        }
        VolCommand::Wipe { volume, algorithm, allocate, force } => {
            wipe(session, &volume, &algorithm, [("allocate", allocate), ("force", force)]).await
        }
        VolCommand::Open { volume, write, force, command } => {
            transfer::open(session, &volume, write, force, &command).await
        }
        VolCommand::Path { volume } => {
            let path = session.volume(&volume).await?.path().await?;
            match session.global.json {
                true => output::print_json(&json!({ "path": path }), true),
                false => output::print(&format!("{}\n", output::printable(&path))),
            }
        }
        VolCommand::Dump { volume } => {
            let xml = session.volume(&volume).await?.get_xml(&Options::new()).await?;
            output::print_document(&xml, session.global.json)
        }
    }
}

async fn list(session: &Session, pool: &str) -> anyhow::Result<()> {
    let pool = session.pool(pool).await?;
    let name = pool.name().await?;
    let mut options = Options::new();
    if !session.global.json {
        let columns = COLUMNS.iter().map(|(_, key, _)| capitalised(key));
        let also = ALSO.iter().map(|&name| name.to_owned());
        options.insert("properties", columns.chain(also).collect::<Vec<_>>().into());
    }
    let (mut rows, mut after) = (Vec::new(), String::new());
    loop {
        let (page, next) = pool.list_volumes(&after, 0, &options).await?;
        rows.extend(page.iter().map(|(path, properties)| {
            let mut row = record(path, properties);
            row.insert("pool".to_owned(), name.as_str().into());
            row
        }));
        if next.is_empty() {
            break;
        }
        after = next;
    }
    session.show_list(COLUMNS, rows, |volume| {
        if volume.get("incomplete") == Some(&json!(true)) {
            Emphasis::Alarm
        } else {
            Emphasis::None
        }
    })
}

/// `format` -> `Format`, for keys of one word.
fn capitalised(key: &str) -> String {
    let (first, rest) = key.split_at(1);
    first.to_ascii_uppercase() + rest
}

async fn show(session: &Session, volume: &VolumeRef) -> anyhow::Result<()> {
    let path = session.volume(volume).await?.object_path();
    session.show_details(DETAILS, session.record(&path).await?)
}

async fn create(
    session: &Session,
    volume: &VolumeRef,
    size: Option<u64>,
    settings: &VolumeSettings,
) -> anyhow::Result<()> {
    let VolumeRef::Name { pool, volume: name } = volume else {
        return Err(usage("a new volume is named POOL/NAME".to_owned()).into());
    };
    let backing = match &settings.backing {
        Some(image) => Some(backing_path(session, image).await?),
        None => None,
    };
    let (mut options, _agent) = session.start_job().await;
    settings.add_to(&mut options, backing);
    let proxy = session.pool(pool).await?;
    let (volume, job) = proxy.create_volume(name, size.unwrap_or(0), &options).await?;
    let step = Step::new("Creating", "Created", format!("volume {pool}/{name}"));
    complete(session, job, Some(&volume), &step).await
}

/// The path of a backing image that may be named as a volume.
async fn backing_path(session: &Session, image: &str) -> Result<String> {
    match image.parse().map_err(usage)? {
        VolumeRef::Path(path) => Ok(path),
        name => session.volume(&name).await?.path().await,
    }
}

async fn create_from_xml(
    session: &Session,
    pool: &str,
    file: PathBuf,
    settings: &VolumeSettings,
) -> anyhow::Result<()> {
    let xml = definition::read(&file)?;
    let (mut options, _agent) = session.start_job().await;
    settings.add_to(&mut options, None);
    let proxy: PoolProxy<'_> = session.pool(pool).await?;
    let (volume, job) = proxy.create_volume_xml(&xml, &options).await?;
    let name = session.names().await?.show(volume.as_str());
    let step = Step::new("Creating", "Created", format!("volume {name}"));
    complete(session, job, Some(&volume), &step).await
}

async fn delete(
    session: &Session,
    volume: &VolumeRef,
    flags: [(&'static str, bool); 2],
) -> anyhow::Result<()> {
    let (options, _agent) = session.start_job_with(flags).await;
    let job = session.volume(volume).await?.delete(&options).await?;
    complete(session, job, None, &Step::new("Deleting", "Deleted", subject(volume))).await
}

async fn resize(
    session: &Session,
    volume: &VolumeRef,
    size: Resize,
    flags: [(&'static str, bool); 3],
) -> anyhow::Result<()> {
    let (mut options, _agent) = session.start_job_with(flags).await;
    let bytes = match size {
        Resize::To(bytes) => bytes,
        Resize::Grow(bytes) => {
            if options.contains_key("shrink") {
                return Err(
                    usage("--shrink is for a smaller size, not for +SIZE".to_owned()).into()
                );
            }
            options.insert("delta", true.into());
            bytes
        }
        Resize::Shrink(bytes) => {
            if !options.contains_key("shrink") {
                let why = "a smaller size needs --shrink: what is beyond the new end is lost";
                return Err(usage(why.to_owned()).into());
            }
            options.insert("delta", true.into());
            bytes
        }
    };
    let proxy = session.volume(volume).await?;
    let job = proxy.resize(bytes, &options).await?;
    let step = Step::new("Resizing", "Resized", subject(volume));
    complete(session, job, Some(&proxy.object_path()), &step).await
}

async fn clone(
    session: &Session,
    volume: &VolumeRef,
    new: &str,
    shallow: bool,
    decrypt: bool,
    settings: &CloneSettings,
) -> anyhow::Result<()> {
    let (mut options, _agent) = session.start_job_with([("shallow", shallow)]).await;
    settings.add_to(&mut options);
    options.extend(decrypt.then(|| ("encryption", "none".into())));
    let name = match new.split_once('/') {
        None => new,
        Some((pool, name)) => {
            options.insert("pool", pool.into());
            name
        }
    };
    let (copy, job) = session.volume(volume).await?.clone(name, &options).await?;
    let name = session.names().await?.show(copy.as_str());
    let step = Step::new("Cloning into", "Cloned into", format!("volume {name}"));
    complete(session, job, Some(&copy), &step).await
}

async fn wipe(
    session: &Session,
    volume: &VolumeRef,
    algorithm: &str,
    flags: [(&'static str, bool); 2],
) -> anyhow::Result<()> {
    let (mut options, _agent) = session.start_job_with(flags).await;
    options.insert("algorithm", algorithm.into());
    let proxy = session.volume(volume).await?;
    let job = proxy.wipe(&options).await?;
    let step = Step::new("Wiping", "Wiped", subject(volume));
    complete(session, job, Some(&proxy.object_path()), &step).await
}

pub(super) fn subject(volume: &VolumeRef) -> String {
    match volume {
        VolumeRef::Path(path) => format!("volume {path}"),
        VolumeRef::Name { pool, volume } => format!("volume {pool}/{volume}"),
    }
}

fn usage(message: String) -> Error {
    Error::new(ErrorKind::InvalidArgument, message)
}
