//! libvirt's documents: pool, volume, sources, secret, capabilities <-> model.
//!
//! Pure functions. Documents of more than 1 MiB, too deep, with DOCTYPE or control characters,
//! with a wrong root, or with duplicate or misplaced values are `InvalidXml` with line and path;
//! unknown elements are ignored.
//!
//! `dom` makes a tree of the text, `element` reads values out of it, `writer` writes; each kind of
//! document has a file of its own.

mod capabilities;
mod dom;
mod element;
mod permissions;
mod pool;
mod secret;
mod source;
mod volume;
mod writer;

use crate::model::{
    PoolDef, PoolDraft, PoolType, Result, SecretDef, SecretDraft, Source, Usage, VolumeDef,
};
use dom::Node;
use element::{Element, invalid};
use writer::Writer;

/// Most sources of a `<sources>` document.
const MAX_SOURCES: usize = 4096;

/// Reads a pool document. A missing uuid is nil: whoever defines the pool decides.
///
/// The `<poolstate>` around the pool in libvirt's run-time files is understood.
pub fn parse_pool(text: &str) -> Result<PoolDef> {
    read_pool(&dom::parse(text)?)
}

/// Writes a pool document, with the room it has.
pub fn write_pool(pool: &PoolDef, usage: Usage) -> String {
    written(|out| pool::write(out, pool, usage))
}

/// Reads a volume document for a pool of that type.
///
/// A document without allocation asks for all of the capacity, as it does libvirt.
pub fn parse_volume(text: &str, pool_type: PoolType) -> Result<VolumeDef> {
    read_volume(&dom::parse(text)?, pool_type)
}

/// Writes a volume document for a pool of that type.
pub fn write_volume(volume: &VolumeDef, pool_type: PoolType) -> String {
    written(|out| volume::write(out, volume, pool_type))
}

/// Reads a `<source>` document that says where to look for sources; an empty text says nothing.
pub fn parse_source(text: &str, pool_type: PoolType) -> Result<Source> {
    if text.trim_ascii().is_empty() {
        return Ok(Source::default());
    }
    read_source(&dom::parse(text)?, Some(pool_type))
}

/// Reads a `<sources>` document.
pub fn parse_sources(text: &str, pool_type: PoolType) -> Result<Vec<Source>> {
    read_sources(&dom::parse(text)?, Some(pool_type))
}

/// Writes a `<sources>` document; a source that names no format has the type's default one.
pub fn write_sources(sources: &[Source], pool_type: PoolType) -> String {
    written_sources(sources, Some(pool_type))
}

/// Reads a secret document.
pub fn parse_secret(text: &str) -> Result<SecretDraft> {
    read_secret(&dom::parse(text)?)
}

/// Writes a secret document.
pub fn write_secret(secret: &SecretDef) -> String {
    written(|out| secret::write(out, secret))
}

/// Writes the `<storagepoolCapabilities>` document; `available` says which types this host has.
pub fn write_capabilities(available: impl Fn(PoolType) -> bool) -> String {
    written(|out| capabilities::write(out, available))
}

/// Reads a document of any kind and writes it as we would. A volume is taken for one of a pool of
/// that type, dir unless said; sources for what any type may have.
pub fn canonical(text: &str, pool_type: Option<PoolType>) -> Result<String> {
    let root = dom::parse(text)?;
    match root.name.as_str() {
        "pool" | "poolstate" => Ok(write_pool(&read_pool(&root)?, Usage::default())),
        "volume" => {
            let pool_type = pool_type.unwrap_or(PoolType::Dir);
            Ok(write_volume(&read_volume(&root, pool_type)?, pool_type))
        }
        "secret" => Ok(write_secret(&read_secret(&root)?.complete())),
        "source" => {
            let source = read_source(&root, pool_type)?;
            Ok(written(|out| source::write(out, &source, default_format(pool_type))))
        }
        "sources" => Ok(written_sources(&read_sources(&root, pool_type)?, pool_type)),
        name => Err(invalid(
            root.line,
            &format!("/{name}"),
            "the root element must be pool, volume, secret, source or sources",
        )),
    }
}

fn read_pool(root: &Node) -> Result<PoolDef> {
    if root.name == "poolstate" {
        let state = Element::root(root, "poolstate", &["pool"], pool::VOCABULARY)?;
        return match state.element("pool", pool::CHILDREN)? {
            Some(pool) => pool::read(&pool),
            None => Err(state.invalid_below("pool", "is missing")),
        };
    }
    pool::read(&Element::root(root, "pool", pool::CHILDREN, pool::VOCABULARY)?)
}

fn read_volume(root: &Node, pool_type: PoolType) -> Result<VolumeDef> {
    let root = Element::root(root, "volume", volume::CHILDREN, volume::VOCABULARY)?;
    volume::read(&root, pool_type)
}

fn read_secret(root: &Node) -> Result<SecretDraft> {
    secret::read(&Element::root(root, "secret", secret::CHILDREN, secret::VOCABULARY)?)
}

fn read_source(root: &Node, pool_type: Option<PoolType>) -> Result<Source> {
    let root = Element::root(root, "source", source::CHILDREN, pool::VOCABULARY)?;
    checked_source(&root, pool_type)
}

fn read_sources(root: &Node, pool_type: Option<PoolType>) -> Result<Vec<Source>> {
    let root = Element::root(root, "sources", &["source"], pool::VOCABULARY)?;
    let sources = root.all(None, "source", source::CHILDREN)?;
    if sources.len() > MAX_SOURCES {
        return Err(root.invalid(format!("has more than {MAX_SOURCES} sources")));
    }
    sources.iter().map(|source| checked_source(source, pool_type)).collect()
}

fn checked_source(element: &Element<'_>, pool_type: Option<PoolType>) -> Result<Source> {
    let source = source::read(element)?;
    let draft = PoolDraft { pool_type, source, ..PoolDraft::default() };
    draft.check_source().map_err(|flaw| {
        element.invalid_below(flaw.element.trim_start_matches("source/"), flaw.message)
    })
}

fn written_sources(sources: &[Source], pool_type: Option<PoolType>) -> String {
    let format = default_format(pool_type);
    written(|out| {
        out.element("sources", &[], |out| {
            sources.iter().for_each(|source| source::write(out, source, format));
        });
    })
}

fn default_format(pool_type: Option<PoolType>) -> Option<&'static str> {
    pool_type.and_then(|pool_type| pool_type.info().default_source_format)
}

fn written(write: impl FnOnce(&mut Writer)) -> String {
    let mut out = Writer::default();
    write(&mut out);
    out.finish()
}

#[cfg(test)]
mod tests;
