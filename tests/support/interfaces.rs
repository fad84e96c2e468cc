//! The interface documents as a reader of them sees them, independent of the daemon's own reading.

use anyhow::{Context, Result};
use quick_xml::Reader;
use quick_xml::events::{BytesStart, Event};
use std::collections::BTreeMap;
use std::path::Path;

/// A method as its document declares it.
#[derive(Debug, Clone, Default)]
pub struct Method {
    pub interface: String,
    pub name: String,
    /// `none`, or the polkit action without its prefix.
    pub action: String,
    /// Names and types of the arguments in.
    pub inputs: Vec<(String, String)>,
}

/// An interface: what a client can find by introspection.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Shape {
    /// `in` and `out` signatures by method.
    pub methods: BTreeMap<String, (String, String)>,
    /// Type and access by property.
    pub properties: BTreeMap<String, (String, String)>,
    /// Signature by signal.
    pub signals: BTreeMap<String, String>,
}

/// Methods of every document, in the order of the documents.
pub fn methods() -> Result<Vec<Method>> {
    let mut all = Vec::new();
    for document in documents()? {
        all.extend(parse(&document)?.1);
    }
    Ok(all)
}

/// Shapes of the interfaces in one introspection document.
pub fn shapes(document: &str) -> Result<BTreeMap<String, Shape>> {
    Ok(parse(document)?.0)
}

/// The text of every interface document of the project.
pub fn documents() -> Result<Vec<String>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("dbus/interfaces");
    let mut paths: Vec<_> = std::fs::read_dir(folder)?
        .map(|entry| entry.map(|e| e.path()))
        .collect::<Result<_, _>>()?;
    paths.sort();
    paths.iter().map(|path| Ok(std::fs::read_to_string(path)?)).collect()
}

fn attribute(element: &BytesStart<'_>, name: &str) -> Result<Option<String>> {
    let found = element.try_get_attribute(name)?;
    Ok(found.map(|found| found.value.into_owned()))
}

fn parse(document: &str) -> Result<(BTreeMap<String, Shape>, Vec<Method>)> {
    let mut reader = Reader::from_str(document);
    reader.config_mut().expand_empty_elements = true;
    let (mut shapes, mut methods) = (BTreeMap::<String, Shape>::new(), Vec::<Method>::new());
    let (mut interface, mut member) = (String::new(), (String::new(), String::new()));
    loop {
        let element = match reader.read_event()? {
            Event::Eof => return Ok((shapes, methods)),
            Event::Start(element) => element,
            Event::End(end) => {
                if matches!(end.name().as_ref(), "method" | "signal" | "property") {
                    member = Default::default();
                }
                continue;
            }
            _ => continue,
        };
        let tag = element.name().as_ref().to_owned();
        let name = attribute(&element, "name")?.unwrap_or_default();
        let kind = attribute(&element, "type")?.unwrap_or_default();
        match tag.as_str() {
            "interface" => {
                shapes.entry(name.clone()).or_default();
                interface = name;
                continue;
            }
            "method" | "signal" | "property" => member = (tag.clone(), name.clone()),
            _ => {}
        }
        let Some(shape) = shapes.get_mut(&interface) else { continue };
        match (tag.as_str(), member.0.as_str()) {
            ("method", _) => {
                shape.methods.insert(name.clone(), Default::default());
                let interface = interface.clone();
                methods.push(Method { interface, name, ..Method::default() });
            }
            ("signal", _) => {
                shape.signals.insert(name, String::new());
            }
            ("property", _) => {
                let access = attribute(&element, "access")?.unwrap_or_default();
                shape.properties.insert(name, (kind, access));
            }
            ("annotation", "method") if name == "org.poold1.Action" => {
                let method = methods.last_mut().context("annotation before a method")?;
                method.action = attribute(&element, "value")?.unwrap_or_default();
            }
            ("arg", "signal") => {
                shape.signals.get_mut(&member.1).context("no signal")?.push_str(&kind);
            }
            ("arg", "method") => {
                let signatures = shape.methods.get_mut(&member.1).context("no method")?;
                if attribute(&element, "direction")?.as_deref() == Some("out") {
                    signatures.1.push_str(&kind);
                } else {
                    signatures.0.push_str(&kind);
                    methods.last_mut().context("no method")?.inputs.push((name, kind));
                }
            }
            _ => {}
        }
    }
}
