//! Pool definitions, one libvirt document each, and the links that mark autostart.

use super::{Problem, Store, StoredPool, atomic};
use crate::model::{Error, ErrorKind, PoolDef, PoolName, Result, Usage, Uuid};
use crate::xml;
use std::collections::HashMap;
use std::path::Path;

/// Largest document that is read, as `xml` has it.
pub(super) const DOCUMENT_LIMIT: u64 = 1 << 20;
/// How the file of a definition ends.
const SUFFIX: &str = ".xml";
/// Longest name of a file, in bytes (NAME_MAX).
const LONGEST_FILE_NAME: usize = 255;

impl Store {
    /// All definitions that can be read, and the files that cannot. A document without uuid is
    /// written back with the one it was given; links to definitions that are gone are removed.
    pub fn pools(&self) -> (Vec<StoredPool>, Vec<Problem>) {
        let mut problems = Vec::new();
        let mut pools: Vec<StoredPool> = Vec::new();
        let mut owners: HashMap<Uuid, PoolName> = HashMap::new();
        let dir = &self.layout.pools;
        let files = match atomic::names(dir) {
            Ok(files) => files,
            Err(error) => return (pools, vec![Problem::from_error(dir.clone(), &error)]),
        };
        self.sweep_links(&files);
        for file in files.iter().filter(|file| file.ends_with(SUFFIX)) {
            let path = dir.join(file);
            match self.load(&path, file) {
                Err(error) => problems.push(Problem::from_error(path, &error)),
                Ok(def) => match owners.get(&def.uuid) {
                    Some(owner) => problems.push(Problem::new(
                        path,
                        format!(
                            "has the uuid of pool {owner} ({}): give it one of its own",
                            def.uuid
                        ),
                    )),
                    None => {
                        owners.insert(def.uuid, def.name.clone());
                        let autostart = self.layout.autostart.join(file).symlink_metadata().is_ok();
                        pools.push(StoredPool { def, autostart });
                    }
                },
            }
        }
        (pools, problems)
    }

    /// Writes a definition. A file of that name that cannot be read, or that is another pool's, is
    /// left alone: `Conflict`.
    pub fn save_pool(&self, def: &PoolDef) -> Result<()> {
        let file = file_name(&def.name)?;
        let path = self.layout.pools.join(&file);
        if path.symlink_metadata().is_ok() {
            let conflict = |why: String| {
                let hint = "repair or remove it, then define the pool again";
                Error::new(ErrorKind::Conflict, format!("{} {why}: {hint}", path.display()))
            };
            let (there, _) =
                parse(&path, &file).map_err(|e| conflict(format!("is damaged ({e})")))?;
            if there.uuid != def.uuid {
                return Err(conflict(format!("belongs to another pool ({})", there.uuid)));
            }
        }
        let text = xml::write_pool(def, Usage::default());
        self.layout.writing(|| atomic::write(&self.layout.pools, &file, text.as_bytes()))
    }

    /// Removes a definition and its autostart link, if they are there.
    pub fn remove_pool(&self, name: &PoolName) -> Result<()> {
        let file = file_name(name)?;
        // In this order: a link alone is swept at the next start, a definition without its link
        // would have lost its autostart by an undefine that was never acknowledged.
        atomic::remove(&self.layout.pools, &file)?;
        atomic::remove(&self.layout.autostart, &file)?;
        Ok(())
    }

    /// Makes or removes the autostart link.
    pub fn set_autostart(&self, name: &PoolName, autostart: bool) -> Result<()> {
        let file = file_name(name)?;
        let dir = &self.layout.autostart;
        if autostart {
            let target = format!("../pools/{file}");
            self.layout.writing(|| atomic::link(dir, &file, &target))
        } else {
            atomic::remove(dir, &file).map(drop)
        }
    }

    fn load(&self, path: &Path, file: &str) -> Result<PoolDef> {
        let (def, text) = parse(path, file)?;
        // Without a uuid of its own every reading gives another one, and nothing that is kept by
        // uuid would be found again.
        let generated =
            !text.contains(&def.uuid.to_string()) && xml::parse_pool(&text)?.uuid != def.uuid;
        if generated {
            let text = xml::write_pool(&def, Usage::default());
            atomic::write(&self.layout.pools, file, text.as_bytes())
                .map_err(|error| error.context("has no uuid and cannot be given one"))?;
        }
        Ok(def)
    }

    fn sweep_links(&self, definitions: &[String]) {
        let dir = &self.layout.autostart;
        for link in atomic::names(dir).unwrap_or_default() {
            if link.ends_with(SUFFIX) && !definitions.contains(&link) {
                match atomic::remove(dir, &link) {
                    Ok(_) => tracing::info!("removed the autostart link {link} of no pool"),
                    Err(error) => tracing::warn!("{error}"),
                }
            }
        }
    }
}

/// Reads the definition in `path`, whose name must be the pool's, and its text.
fn parse(path: &Path, file: &str) -> Result<(PoolDef, String)> {
    let text = atomic::read(path, DOCUMENT_LIMIT)?;
    let def = xml::parse_pool(&text)?;
    if file.strip_suffix(SUFFIX) != Some(def.name.as_str()) {
        return Err(Error::new(
            ErrorKind::Conflict,
            format!("defines pool {}, whose file is {}{SUFFIX}", def.name, def.name),
        ));
    }
    Ok((def, text))
}

fn file_name(name: &PoolName) -> Result<String> {
    let file = format!("{name}{SUFFIX}");
    if file.len() > LONGEST_FILE_NAME {
        return Err(Error::new(
            ErrorKind::InvalidArgument,
            format!(
                "pool name {name} is too long: at most {} bytes fit in the name of its file",
                LONGEST_FILE_NAME - SUFFIX.len()
            ),
        ));
    }
    Ok(file)
}
