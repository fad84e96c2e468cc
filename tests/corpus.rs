//! libvirt's own test documents: what we write of each is what libvirt writes of it, and keeps its
//! schemas.
//!
//! The documents are not part of this project; POOLD_CORPUS names the directory that has them.

#![allow(clippy::unwrap_used)]

use poold::model::{ErrorKind, Extent, PoolType, Timestamps, Usage, VolumeDef, VolumeName};
use poold::xml;
use quick_xml::Reader;
use quick_xml::events::{BytesStart, Event};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

/// An element for comparison: attributes as a set, text without the space around it, children in
/// order.
#[derive(Debug, Default, PartialEq, Eq, Clone)]
struct Tree {
    name: String,
    attributes: BTreeMap<String, String>,
    text: String,
    children: Vec<Tree>,
}

/// A small reader of its own, so that the one under test does not judge itself.
fn tree(text: &str) -> Tree {
    let mut reader = Reader::from_str(text);
    let mut open = vec![Tree::default()];
    let node = |tag: &BytesStart<'_>| Tree {
        name: tag.name().0.to_owned(),
        attributes: tag
            .attributes()
            .map(|attribute| {
                let attribute = attribute.unwrap();
                (attribute.key.0.to_owned(), attribute.value.into_owned())
            })
            .collect(),
        ..Tree::default()
    };
    loop {
        match reader.read_event().unwrap() {
            Event::Start(tag) => open.push(node(&tag)),
            Event::Empty(tag) => open.last_mut().unwrap().children.push(node(&tag)),
            Event::End(_) => {
                let mut done = open.pop().unwrap();
                done.text = done.text.trim().to_owned();
                open.last_mut().unwrap().children.push(done);
            }
            Event::Text(text) => open.last_mut().unwrap().text += &text.xml10_content(),
            Event::GeneralRef(name) => open.last_mut().unwrap().text += &format!("&{};", &*name),
            Event::Eof => break,
            _ => {}
        }
    }
    open.pop().unwrap().children.pop().unwrap()
}

fn corpus() -> Option<PathBuf> {
    let directory = std::env::var_os("POOLD_CORPUS").map(PathBuf::from);
    if directory.is_none() {
        println!("RESULT corpus all skip POOLD_CORPUS does not name libvirt's test documents");
    }
    directory
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The documents of a folder by name, without `.xml`, in order.
fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(folder)
        .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "xml"))
        .map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned())
        .collect();
    names.sort();
    assert!(!names.is_empty(), "{} has no documents", folder.display());
    names
}

/// The type of pool in whose context a volume is read, as the index says.
fn context(corpus: &Path, volume: &str) -> PoolType {
    let index = read(&corpus.join("INDEX.tsv"));
    let row = index.lines().map(|line| line.split('\t').collect::<Vec<_>>());
    let row = row.into_iter().find(|row| row[0] == volume);
    let pool = row.unwrap_or_else(|| panic!("{volume} is not in the index"))[1].to_owned();
    PoolType::from_name(pool.trim_start_matches("pool-")).unwrap()
}

/// Writes what `read` makes of every document of `folder` and compares it with libvirt's writing.
fn compare(corpus: &Path, folder: &str, rewrite: impl Fn(&str, &str) -> String) {
    let (mut pairs, mut equal) = (0, 0);
    let inputs = names(&corpus.join(folder).join("in"));
    for name in &inputs {
        let file = format!("{name}.xml");
        let written = rewrite(name, &read(&corpus.join(folder).join("in").join(&file)));
        let expected = corpus.join(folder).join("out").join(&file);
        if !expected.exists() {
            continue;
        }
        pairs += 1;
        let mut expected = tree(&read(&expected));
        if folder == "volumes" {
            // Two of libvirt's files keep an empty <source/>, which it no longer writes.
            expected.children.retain(|child| {
                child.name != "source" || !child.children.is_empty() || !child.text.is_empty()
            });
        }
        if tree(&written) == expected {
            equal += 1;
        } else {
            println!("{name} differs; written:\n{written}");
        }
    }
    let verdict = if equal == pairs { "pass" } else { "fail" };
    println!(
        "RESULT corpus {folder} {verdict} {} documents parsed, {equal} of {pairs} pairs equal",
        inputs.len()
    );
    assert!(pairs > 0, "no pairs in {folder}");
    assert_eq!(equal, pairs, "{folder} that differ from libvirt's writing are printed above");
}

fn rewrite_pool(name: &str, text: &str) -> String {
    let pool = xml::parse_pool(text).unwrap_or_else(|error| panic!("{name}: {error}"));
    xml::write_pool(&pool, Usage::default())
}

fn rewrite_volume(corpus: &Path, name: &str, text: &str) -> String {
    let pool_type = context(corpus, name);
    let volume =
        xml::parse_volume(text, pool_type).unwrap_or_else(|error| panic!("{name}: {error}"));
    xml::write_volume(&volume, pool_type)
}

#[test]
fn pools_are_written_as_libvirt_writes_them() {
    let Some(corpus) = corpus() else { return };
    compare(&corpus, "pools", rewrite_pool);
}

#[test]
fn volumes_are_written_as_libvirt_writes_them() {
    let Some(corpus) = corpus() else { return };
    compare(&corpus, "volumes", |name, text| rewrite_volume(&corpus, name, text));
}

#[test]
fn sources_are_written_as_libvirt_writes_them() {
    let Some(corpus) = corpus() else { return };
    let (mut pairs, mut equal) = (0, 0);
    for name in names(&corpus.join("gluster")) {
        let pool_type = match name.rsplit('-').next() {
            Some("native") => PoolType::Gluster,
            Some("netfs") => PoolType::NetFs,
            _ => continue,
        };
        let text = read(&corpus.join("gluster").join(format!("{name}.xml")));
        let sources = xml::parse_sources(&text, pool_type).unwrap();
        pairs += 1;
        equal += usize::from(tree(&xml::write_sources(&sources, pool_type)) == tree(&text));
    }
    let verdict = if equal == pairs && pairs > 0 { "pass" } else { "fail" };
    println!("RESULT corpus sources {verdict} {equal} of {pairs} documents equal");
    assert!(pairs > 0 && equal == pairs);
}

#[test]
fn what_libvirt_refuses_is_refused_with_a_line() {
    let Some(corpus) = corpus() else { return };
    let names = names(&corpus.join("invalid"));
    for name in &names {
        let text = read(&corpus.join("invalid").join(format!("{name}.xml")));
        let error = xml::parse_pool(&text).expect_err(name);
        assert_eq!(error.kind(), ErrorKind::InvalidXml, "{name}: {error}");
        assert!(error.message().starts_with("line "), "{name}: {error}");
        println!("{name}: {error}");
    }
    println!("RESULT corpus invalid pass {} documents refused", names.len());
}

/// Validates documents against one of libvirt's schemas.
fn validate(corpus: &Path, schema: &str, documents: &[(String, String)]) {
    assert!(!documents.is_empty());
    if Command::new("xmllint").arg("--version").output().is_err() {
        println!("RESULT corpus {schema} skip xmllint is missing (libxml2-utils, libxml2)");
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let mut command = Command::new("xmllint");
    command.arg("--noout").arg("--relaxng").arg(corpus.join("schemas").join(schema));
    for (name, text) in documents {
        let path = directory.path().join(format!("{name}.xml"));
        std::fs::write(&path, text).unwrap();
        command.arg(path);
    }
    let output = command.output().unwrap();
    let messages = String::from_utf8_lossy(&output.stderr);
    let valid = messages.lines().filter(|line| line.ends_with(" validates")).count();
    let verdict = if output.status.success() { "pass" } else { "fail" };
    println!("RESULT corpus {schema} {verdict} {valid} of {} documents valid", documents.len());
    assert!(output.status.success(), "{messages}");
    assert_eq!(valid, documents.len());
}

#[test]
fn what_is_accepted_after_damage_is_still_a_document() {
    let Some(corpus) = corpus() else { return };
    if Command::new("xmllint").arg("--version").output().is_err() {
        println!("RESULT corpus damage skip xmllint is missing (libxml2-utils, libxml2)");
        return;
    }
    let damage =
        ["<", ">", "/", "&", "\"", "'", " ", "=", ";", "--", "]]>", "<a/>", "&#65;", "</b>"];
    let folder = corpus.join("pools/in");
    let directory = tempfile::tempdir().unwrap();
    let mut command = Command::new("xmllint");
    command.arg("--noout");
    let (mut tried, mut accepted) = (0, 0);
    for name in names(&folder) {
        let text = read(&folder.join(format!("{name}.xml")));
        for (start, piece) in damage.iter().enumerate() {
            for at in (start..text.len()).step_by(damage.len() * 2 + 1) {
                let damaged = format!("{}{piece}{}", &text[..at], &text[at..]);
                tried += 1;
                if xml::parse_pool(&damaged).is_ok() {
                    accepted += 1;
                    let path = directory.path().join(format!("{accepted}.xml"));
                    std::fs::write(&path, damaged).unwrap();
                    command.arg(path);
                }
            }
        }
    }
    let output = command.output().unwrap();
    let messages = String::from_utf8_lossy(&output.stderr);
    let verdict = if output.status.success() { "pass" } else { "fail" };
    println!("RESULT corpus damage {verdict} {tried} documents damaged, {accepted} accepted");
    assert!(accepted > 0);
    assert!(output.status.success(), "accepted, although xmllint says:\n{messages}");
}

/// Pools with what libvirt's own documents leave out.
const POOLS: &[(&str, &str)] = &[
    (
        "scsi-parentaddr",
        "<pool type='scsi'><name>s</name><source><adapter type='scsi_host'>
         <parentaddr unique_id='1'><address domain='0' bus='0x1f' slot='2' function='7'/></parentaddr>
         </adapter><vendor name='V'/><product name='P'/></source>
         <target><path>/dev/disk/by-path</path></target></pool>",
    ),
    (
        "scsi-parent-wwn",
        "<pool type='scsi'><name>s</name><source><adapter type='fc_host' managed='yes'
         parent_wwnn='20000000c9831b4b' parent_wwpn='10000000c9831b4b'
         wwnn='20000000c9831b4c' wwpn='10000000c9831b4c'/></source>
         <target><path>/dev/disk/by-path</path></target></pool>",
    ),
    (
        "scsi-fabric",
        "<pool type='scsi'><name>s</name><source><adapter type='fc_host'
         parent_fabric_wwn='20000000c9831b4b' wwnn='20000000c9831b4c' wwpn='10000000c9831b4c'/>
         </source><target><path>/dev/disk/by-path</path></target></pool>",
    ),
    (
        "rbd-refresh",
        "<pool type='rbd'><name>r</name><source><name>rbd</name><host name='::1' port='6789'/>
         <auth type='ceph' username='admin'><secret usage='u &amp; v'/></auth></source>
         <refresh><volume allocation='default'/></refresh></pool>",
    ),
    (
        "iscsi-initiator",
        "<pool type='iscsi'><name>i</name><source><host name='h' port='3260'/>
         <device path='iqn.2013-06.com.example:pool'/>
         <initiator><iqn name='iqn.2013-06.com.example:me'/></initiator></source>
         <target><path>/dev/disk/by-path</path></target></pool>",
    ),
    (
        "disk-separator",
        "<pool type='disk'><name>d</name><source><device path='/dev/mapper/m' part_separator='no'/>
         </source><target><path>/dev/mapper</path></target></pool>",
    ),
    ("logical-by-name", "<pool type='logical'><name>vg</name></pool>"),
    (
        "zfs-devices",
        "<pool type='zfs'><name>z</name><source><name>tank/vm</name><device path='/dev/sdb'/>
         </source></pool>",
    ),
];

/// Volumes with what libvirt's own documents leave out.
const VOLUMES: &[(&str, &str)] = &[
    (
        "luks-cipher",
        "<volume><name>v</name><capacity>1</capacity><target><encryption format='luks'>
         <secret type='passphrase' usage='u'/>
         <cipher name='aes' size='256' mode='cbc' hash='sha256'/><ivgen name='plain64' hash='sha256'/>
         </encryption></target></volume>",
    ),
    (
        "cluster",
        "<volume><name>v</name><capacity unit='EB'>9</capacity><target><format type='qcow2'/>
         <clusterSize unit='KiB'>128</clusterSize>
         <features><extended_l2/><lazy_refcounts/></features></target></volume>",
    ),
];

/// A volume with everything that is written and never read.
fn found_volume() -> String {
    let name = VolumeName::new("v").unwrap();
    let extent = |device: &str, start| Extent { device: device.to_owned(), start, end: start + 1 };
    let volume = VolumeDef {
        capacity: Some(1 << 20),
        allocation: Some(0),
        physical: Some(4096),
        extents: vec![extent("/dev/a", 0), extent("/dev/a", 8), extent("/dev/b", 0)],
        timestamps: Some(Timestamps {
            atime: (1_341_933_637, 273_190_990),
            mtime: (1, 1),
            ctime: (-1, 0),
            btime: Some((0, 0)),
        }),
        ..VolumeDef::new(name, PoolType::Dir)
    };
    xml::write_volume(&volume, PoolType::Dir)
}

#[test]
fn what_is_written_keeps_libvirts_schemas() {
    let Some(corpus) = corpus() else { return };
    let written = |folder: &str, rewrite: &dyn Fn(&str, &str) -> String| {
        let folder = corpus.join(folder).join("in");
        names(&folder)
            .into_iter()
            .map(|name| {
                let text = rewrite(&name, &read(&folder.join(format!("{name}.xml"))));
                (name, text)
            })
            .collect::<Vec<_>>()
    };
    let mut pools = written("pools", &rewrite_pool);
    pools.extend(POOLS.iter().map(|(name, text)| ((*name).to_owned(), rewrite_pool(name, text))));
    validate(&corpus, "storagepool.rng", &pools);

    let in_context = |name: &str, text: &str| rewrite_volume(&corpus, name, text);
    let mut volumes = written("volumes", &in_context);
    volumes.extend(VOLUMES.iter().map(|(name, text)| {
        ((*name).to_owned(), xml::canonical(text, None).unwrap_or_else(|error| panic!("{error}")))
    }));
    volumes.push(("found".to_owned(), found_volume()));
    validate(&corpus, "storagevol.rng", &volumes);

    let capabilities = xml::write_capabilities(|pool_type| pool_type == PoolType::Dir);
    validate(&corpus, "storagepoolcaps.rng", &[("capabilities".to_owned(), capabilities)]);
}
