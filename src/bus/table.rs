//! The table of interfaces, read once from the documents in `dbus/interfaces`: names, signatures,
//! options and actions of every method, and the properties. What `router` dispatches by and
//! `introspect` shows.

use crate::auth::Action;
use quick_xml::Reader;
use quick_xml::events::{BytesStart, Event};
use std::collections::BTreeMap;
use std::sync::OnceLock;
use zbus::wire::Signature;

/// The documents; built into the binary.
const DOCUMENTS: &[&str] = &[
    include_str!("standard.xml"),
    include_str!("../../dbus/interfaces/org.poold1.Manager.xml"),
    include_str!("../../dbus/interfaces/org.poold1.Pool.xml"),
    include_str!("../../dbus/interfaces/org.poold1.Volume.xml"),
    include_str!("../../dbus/interfaces/org.poold1.Job.xml"),
    include_str!("../../dbus/interfaces/org.poold1.Secret.xml"),
];

/// Peer, on every path.
pub(super) const PEER: &str = "org.freedesktop.DBus.Peer";
/// Introspectable, on every node.
pub(super) const INTROSPECTABLE: &str = "org.freedesktop.DBus.Introspectable";
/// Properties, on every object.
pub(super) const PROPERTIES: &str = "org.freedesktop.DBus.Properties";
/// ObjectManager.
pub(super) const OBJECT_MANAGER: &str = "org.freedesktop.DBus.ObjectManager";
/// The manager.
pub(super) const MANAGER: &str = "org.poold1.Manager";
/// A pool.
pub(super) const POOL: &str = "org.poold1.Pool";
/// A volume.
pub(super) const VOLUME: &str = "org.poold1.Volume";
/// A job.
pub(super) const SECRET: &str = "org.poold1.Secret";
pub(super) const JOB: &str = "org.poold1.Job";

/// An interface as its document declares it.
#[derive(Debug)]
pub(super) struct Interface {
    pub(super) name: String,
    pub(super) methods: Vec<Method>,
    pub(super) properties: Vec<Property>,
    /// The `<interface>` element, as introspection shows it.
    pub(super) xml: String,
}

/// A method.
#[derive(Debug)]
pub(super) struct Method {
    pub(super) name: String,
    /// Signature of all arguments together.
    pub(super) input: Signature,
    pub(super) output: Signature,
    /// Options by key; none when the method has no `options` argument.
    pub(super) options: Option<BTreeMap<String, Signature>>,
    /// What a caller needs to be allowed.
    pub(super) access: Access,
    /// What it needs besides when an option is given.
    pub(super) option_actions: Vec<(String, Action)>,
}

/// Who may call a method.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Access {
    /// Any local user.
    Free,
    /// Who is allowed the action.
    Needs(Action),
    /// Nobody: the document does not say.
    Undeclared,
}

/// A property.
#[derive(Debug)]
pub(super) struct Property {
    pub(super) name: String,
    /// Whether PropertiesChanged announces it.
    pub(super) emits: bool,
}

/// All interfaces.
#[derive(Debug)]
pub(super) struct Table {
    interfaces: Vec<Interface>,
}

impl Table {
    /// The table. The documents are part of the binary, and a test reads them all, so that one
    /// that cannot be read never ships: it would leave the interfaces after it unknown.
    pub(super) fn get() -> &'static Table {
        static TABLE: OnceLock<Table> = OnceLock::new();
        TABLE.get_or_init(|| {
            let mut interfaces = Vec::new();
            for document in DOCUMENTS {
                match parse(document) {
                    Ok(found) => interfaces.extend(found),
                    Err(why) => tracing::error!("an interface document cannot be read: {why}"),
                }
            }
            Table { interfaces }
        })
    }

    /// The interface of that name.
    pub(super) fn interface(&self, name: &str) -> Option<&Interface> {
        self.interfaces.iter().find(|interface| interface.name == name)
    }

    /// All interfaces.
    #[cfg(any(test, fuzzing))]
    pub(super) fn interfaces(&self) -> &[Interface] {
        &self.interfaces
    }
}

impl Interface {
    /// The method of that name.
    pub(super) fn method(&self, name: &str) -> Option<&Method> {
        self.methods.iter().find(|method| method.name == name)
    }

    /// The property of that name.
    pub(super) fn property(&self, name: &str) -> Option<&Property> {
        self.properties.iter().find(|property| property.name == name)
    }
}

/// What is being read.
#[derive(Default)]
struct Draft {
    interface: Option<Interface>,
    method: Option<(Method, String, String)>,
    property: Option<Property>,
    start: usize,
}

fn parse(document: &str) -> Result<Vec<Interface>, String> {
    let mut reader = Reader::from_str(document);
    let mut draft = Draft::default();
    let mut interfaces = Vec::new();
    loop {
        let before = reader.buffer_position() as usize;
        match reader.read_event().map_err(|error| error.to_string())? {
            Event::Start(element) => open(&mut draft, &element, before)?,
            Event::Empty(element) => {
                open(&mut draft, &element, before)?;
                close(&mut draft, element.name().as_ref())?;
            }
            Event::End(element) => {
                close(&mut draft, element.name().as_ref())?;
                if element.name().as_ref() == "interface"
                    && let Some(mut interface) = draft.interface.take()
                {
                    let text = &document[draft.start..reader.buffer_position() as usize];
                    interface.xml = without_comments(text);
                    interfaces.push(interface);
                }
            }
            Event::Eof => return Ok(interfaces),
            _ => {}
        }
    }
}

fn open(draft: &mut Draft, element: &BytesStart<'_>, at: usize) -> Result<(), String> {
    match element.name().as_ref() {
        "interface" => {
            draft.start = at;
            draft.interface = Some(Interface {
                name: attribute(element, "name")?,
                methods: Vec::new(),
                properties: Vec::new(),
                xml: String::new(),
            });
        }
        "method" => {
            let method = Method {
                name: attribute(element, "name")?,
                input: Signature::Unit,
                output: Signature::Unit,
                options: None,
                access: Access::Undeclared,
                option_actions: Vec::new(),
            };
            draft.method = Some((method, String::new(), String::new()));
        }
        "property" => {
            draft.property = Some(Property { name: attribute(element, "name")?, emits: true });
        }
        "arg" => {
            if let Some((_, input, output)) = &mut draft.method {
                let arguments =
                    if attribute(element, "direction")? == "in" { input } else { output };
                arguments.push_str(&attribute(element, "type")?);
            }
        }
        "annotation" => {
            annotate(draft, &attribute(element, "name")?, &attribute(element, "value")?)?;
        }
        _ => {}
    }
    Ok(())
}

fn annotate(draft: &mut Draft, name: &str, value: &str) -> Result<(), String> {
    if let Some(property) = &mut draft.property {
        if name == "org.freedesktop.DBus.Property.EmitsChangedSignal" {
            property.emits = value == "true";
        }
        return Ok(());
    }
    let Some((method, _, _)) = &mut draft.method else { return Ok(()) };
    match name {
        "org.poold1.Action" if value == "none" => method.access = Access::Free,
        "org.poold1.Action" => method.access = Access::Needs(action(value)?),
        "org.poold1.Options" => {
            let mut options = BTreeMap::new();
            for (key, kind) in pairs(value)? {
                options.insert(key.to_owned(), signature(kind)?);
            }
            options.insert("auth.no_user_interaction".to_owned(), Signature::Bool);
            method.options = Some(options);
        }
        "org.poold1.OptionActions" => {
            for (key, needed) in pairs(value)? {
                method.option_actions.push((key.to_owned(), action(needed)?));
            }
        }
        _ => {}
    }
    Ok(())
}

fn close(draft: &mut Draft, element: &str) -> Result<(), String> {
    match element {
        "method" => {
            if let Some((mut method, input, output)) = draft.method.take() {
                method.input = signature(&input)?;
                method.output = signature(&output)?;
                if let Some(interface) = &mut draft.interface {
                    interface.methods.push(method);
                }
            }
        }
        "property" => {
            if let (Some(property), Some(interface)) = (draft.property.take(), &mut draft.interface)
            {
                interface.properties.push(property);
            }
        }
        _ => {}
    }
    Ok(())
}

fn attribute(element: &BytesStart<'_>, name: &str) -> Result<String, String> {
    let found = element.try_get_attribute(name).map_err(|error| error.to_string())?;
    let found = found.ok_or_else(|| format!("an element lacks the attribute {name}"))?;
    Ok(found.value.into_owned())
}

fn pairs(list: &str) -> Result<Vec<(&str, &str)>, String> {
    list.split_whitespace()
        .map(|pair| pair.split_once('=').ok_or_else(|| format!("{pair:?} is not key=value")))
        .collect()
}

fn signature(text: &str) -> Result<Signature, String> {
    Signature::try_from(text).map_err(|error| format!("signature {text:?}: {error}"))
}

fn action(word: &str) -> Result<Action, String> {
    Action::from_word(word).ok_or_else(|| format!("no action {word:?}"))
}

fn without_comments(text: &str) -> String {
    let mut result = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("<!--") {
        result.push_str(before.trim_end_matches([' ', '\n']));
        rest = after.split_once("-->").map_or("", |(_, after)| after);
    }
    result.push_str(rest);
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_document_is_read_and_every_method_says_who_may_call_it() {
        for document in DOCUMENTS {
            let interfaces = parse(document).unwrap();
            assert!(!interfaces.is_empty());
            for method in interfaces.iter().flat_map(|interface| &interface.methods) {
                assert_ne!(method.access, Access::Undeclared, "{}", method.name);
            }
        }
    }

    #[test]
    fn every_method_of_ours_ends_in_options() {
        for interface in Table::get().interfaces() {
            let ours = interface.name.starts_with("org.poold1.");
            for method in &interface.methods {
                assert_eq!(method.options.is_some(), ours, "{}.{}", interface.name, method.name);
                if ours {
                    assert!(method.input.to_string_no_parens().ends_with("a{sv}"));
                }
                for (key, _) in &method.option_actions {
                    assert!(method.options.as_ref().unwrap().contains_key(key), "{key}");
                }
            }
        }
    }

    #[test]
    fn a_document_without_an_action_leaves_its_method_to_nobody() {
        let document = r#"<node><interface name="a.b"><method name="M"/></interface></node>"#;
        let interfaces = parse(document).unwrap();
        assert_eq!(interfaces[0].methods[0].access, Access::Undeclared);
    }

    #[test]
    fn a_declaration_is_read_whole() {
        let pool = Table::get().interface(POOL).unwrap();
        let stop = pool.method("Stop").unwrap();
        assert_eq!(stop.access, Access::Needs(Action::ControlPool));
        assert_eq!(stop.option_actions, [("force".to_owned(), Action::Force)]);
        assert_eq!(stop.options.as_ref().unwrap()["wait"], Signature::U64);
        assert_eq!(stop.output.to_string_no_parens(), "o");
        assert!(pool.property("State").unwrap().emits);
        assert!(!pool.property("Name").unwrap().emits);
        assert!(!pool.xml.contains("<!--") && pool.xml.ends_with("</interface>"));
    }
}
