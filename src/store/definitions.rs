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
            let there = parse(&path, &file).map_err(|e| conflict(format!("is damaged ({e})")))?;
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
        let mut def = parse(path, file)?;
        // Without a uuid that stays, nothing that is kept by uuid would be found again.
        if def.uuid.is_nil() {
            def.uuid = Uuid::new_v4();
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
fn parse(path: &Path, file: &str) -> Result<PoolDef> {
    let text = atomic::read(path, DOCUMENT_LIMIT)?;
    let def = xml::parse_pool(&text)?;
    if file.strip_suffix(SUFFIX) != Some(def.name.as_str()) {
        return Err(Error::new(
            ErrorKind::Conflict,
            format!("defines pool {}, whose file is {}{SUFFIX}", def.name, def.name),
        ));
    }
    Ok(def)
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use tempfile::TempDir;

    fn pool(name: &str, uuid: u128, target: &str) -> PoolDef {
        let uuid = Uuid::from_u128(uuid);
        let text = format!(
            "<pool type='dir'><name>{name}</name><uuid>{uuid}</uuid>\
             <target><path>{target}</path></target></pool>"
        );
        xml::parse_pool(&text).unwrap()
    }

    fn stored(def: &PoolDef, autostart: bool) -> StoredPool {
        StoredPool { def: def.clone(), autostart }
    }

    #[test]
    fn a_definition_and_its_autostart_are_there_after_a_restart() {
        let root = TempDir::new().unwrap();
        let store = Store::open(root.path()).unwrap();
        assert_eq!(store.pools(), (vec![], vec![]));
        let (a, b) = (pool("a", 1, "/srv/a"), pool(".b ä", 2, "/srv/b"));
        store.save_pool(&a).unwrap();
        store.save_pool(&b).unwrap();
        store.set_autostart(&a.name, true).unwrap();
        store.set_autostart(&a.name, true).unwrap();
        store.set_autostart(&b.name, false).unwrap();
        let link = root.path().join("etc/poold/autostart/a.xml");
        assert_eq!(fs::read_link(&link).unwrap(), Path::new("../pools/a.xml"));
        assert!(fs::read_to_string(&link).unwrap().contains("<name>a</name>"));

        let store = Store::open(root.path()).unwrap();
        assert_eq!(store.pools(), (vec![stored(&b, false), stored(&a, true)], vec![]));
        let moved = pool("a", 1, "/srv/elsewhere");
        store.save_pool(&moved).unwrap();
        assert_eq!(store.pools().0[1], stored(&moved, true));
        store.set_autostart(&a.name, false).unwrap();
        store.remove_pool(&b.name).unwrap();
        store.remove_pool(&b.name).unwrap();
        assert_eq!(
            Store::open(root.path()).unwrap().pools(),
            (vec![stored(&moved, false)], vec![])
        );
    }

    #[test]
    fn a_pool_that_is_defined_anew_does_not_inherit_the_autostart_of_the_old() {
        let root = TempDir::new().unwrap();
        let store = Store::open(root.path()).unwrap();
        let a = pool("a", 1, "/srv/a");
        store.save_pool(&a).unwrap();
        store.set_autostart(&a.name, true).unwrap();
        // Killed in the middle of an undefine.
        fs::remove_file(root.path().join("etc/poold/pools/a.xml")).unwrap();
        let store = Store::open(root.path()).unwrap();
        assert_eq!(store.pools(), (vec![], vec![]));
        store.save_pool(&a).unwrap();
        assert_eq!(store.pools(), (vec![stored(&a, false)], vec![]));
    }

    #[test]
    fn files_that_are_no_definitions_are_reported_and_left_alone() {
        let root = TempDir::new().unwrap();
        let store = Store::open(root.path()).unwrap();
        let good = pool("good", 1, "/srv/good");
        store.save_pool(&good).unwrap();
        let dir = root.path().join("etc/poold/pools");
        let text = fs::read_to_string(dir.join("good.xml")).unwrap();
        let torn = &text[..text.len() / 2];
        for (file, content) in [
            ("copy.xml", text.as_str()),
            ("torn.xml", torn),
            ("empty.xml", ""),
            ("large.xml", &" ".repeat(2 << 20)),
            ("same-uuid.xml", &text.replace("<name>good<", "<name>same-uuid<")),
            ("good.xml.rpmsave", torn),
        ] {
            fs::write(dir.join(file), content).unwrap();
        }
        fs::create_dir(dir.join("directory.xml")).unwrap();
        nix::unistd::mkfifo(&dir.join("fifo.xml"), nix::sys::stat::Mode::S_IRUSR).unwrap();
        let (pools, problems) = store.pools();
        assert_eq!(pools, [stored(&good, false)]);
        let found: Vec<_> = problems
            .iter()
            .map(|problem| problem.path.file_name().unwrap().to_str().unwrap())
            .collect();
        let expected = ["copy", "directory", "empty", "fifo", "large", "same-uuid", "torn"];
        assert_eq!(found, expected.map(|name| name.to_owned() + ".xml"));
        assert!(problems[0].message.contains("good.xml"), "{}", problems[0].message);
        assert!(problems[5].message.contains("uuid of pool good"), "{}", problems[5].message);
        assert_eq!(fs::read_to_string(dir.join("torn.xml")).unwrap(), torn);

        let error = store.save_pool(&pool("torn", 7, "/srv/torn")).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
        let error = store.save_pool(&pool("same-uuid", 7, "/srv/x")).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
        assert_eq!(fs::read_to_string(dir.join("torn.xml")).unwrap(), torn);
    }

    #[test]
    fn a_definition_written_by_hand_gets_a_uuid_that_stays() {
        let root = TempDir::new().unwrap();
        let store = Store::open(root.path()).unwrap();
        let text = "<pool type='dir'><name>a</name><target><path>/srv/a</path></target></pool>";
        fs::write(root.path().join("etc/poold/pools/a.xml"), text).unwrap();
        let (pools, problems) = store.pools();
        assert_eq!((pools.len(), problems), (1, vec![]));
        assert_eq!(Store::open(root.path()).unwrap().pools().0, pools);
        // Spelled otherwise it is still one.
        let spelled = Uuid::from_u128(0xabc).simple().to_string().to_uppercase();
        let text = text.replace("</name>", &format!("</name><uuid>{spelled}</uuid>"));
        fs::write(root.path().join("etc/poold/pools/a.xml"), &text).unwrap();
        assert_eq!(store.pools().0[0].def.uuid, Uuid::from_u128(0xabc));
        assert_eq!(fs::read_to_string(root.path().join("etc/poold/pools/a.xml")).unwrap(), text);
    }

    #[test]
    fn a_name_that_is_too_long_for_a_file_is_an_error_that_says_so() {
        let root = TempDir::new().unwrap();
        let store = Store::open(root.path()).unwrap();
        let longest = pool(&"x".repeat(251), 1, "/srv/a");
        store.save_pool(&longest).unwrap();
        store.set_autostart(&longest.name, true).unwrap();
        assert_eq!(store.pools().0, [stored(&longest, true)]);
        let error = store.save_pool(&pool(&"x".repeat(252), 2, "/srv/b")).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument);
        assert!(error.message().contains("at most 251 bytes"), "{error}");
    }
}
