//! Arguments and options of every method as a stranger may send them: what the fuzz target `dbus`
//! reads. Not in builds that are used.

use super::args::{self, Args, Options};
use super::table::{Method, Table};
use super::{creation, settings};
use crate::model::{PoolType, Result, Usage, VolumeDef, WipeAlgorithm};
use crate::xml;
use zbus::Message;

/// A method of the service.
pub struct Callable(&'static Method);

/// Every method of the service.
pub fn methods() -> Vec<Callable> {
    let interfaces = Table::get().interfaces().iter();
    let ours = interfaces.filter(|interface| interface.name.starts_with("org.poold1."));
    ours.flat_map(|interface| &interface.methods).map(Callable).collect()
}

impl Callable {
    /// Its name.
    pub fn name(&self) -> &'static str {
        &self.0.name
    }

    /// The signature of its arguments.
    pub fn signature(&self) -> String {
        self.0.input.to_string_no_parens()
    }

    /// Reads a call of it as far as it goes without an engine. Whatever is accepted keeps its
    /// promises, else this panics.
    pub fn read(&self, message: &Message) -> Result<()> {
        let (mut args, options) = args::read(message, self.0)?;
        look_at(&self.0.options.iter().flatten().map(|(key, _)| key.as_str()).collect(), &options);
        match self.0.name.as_str() {
            "DefinePool" => define_pool(&mut args),
            "DefinePoolXml" => xml::parse_pool(args.text(0)?).map(drop),
            "FindSources" => {
                let pool_type = settings::pool_type(args.text(0)?)?;
                let source = settings::source(pool_type, args.take_dict(1)?)?;
                settings::of_source(&source);
                Ok(())
            }
            "CreateVolume" => {
                let (name, capacity) = (args.text(0)?, args.number(1)?);
                for pool_type in PoolType::ALL {
                    check_volume(&creation::volume(pool_type, name, capacity, &options)?);
                }
                creation::preallocation(&options).map(drop)
            }
            "CreateVolumeXml" => xml::parse_volume(args.text(0)?, PoolType::Dir).map(drop),
            "Wipe" => {
                options.text("algorithm").map(WipeAlgorithm::from_name);
                Ok(())
            }
            "Upload" | "Download" | "SetSecret" => args.take_descriptor(0).map(drop),
            _ => Ok(()),
        }
    }
}

/// Asks for every option in every way.
fn look_at(keys: &Vec<&str>, options: &Options) {
    for key in keys {
        options.applies(key);
        options.flag(key);
        options.said(key);
        options.number(key);
        options.id(key);
        options.text(key);
        options.texts(key);
        options.table(key);
    }
}

/// What settings define is in a document what it is.
fn define_pool(args: &mut Args) -> Result<()> {
    let given = args.take_dict(2)?;
    let def = settings::pool(args.text(0)?, args.text(1)?, given)?;
    settings::has_custom_options(&def);
    let text = xml::write_pool(&def, Usage::default());
    match xml::parse_pool(&text) {
        Ok(again) => assert_eq!(again, def, "{text}"),
        Err(error) => panic!("{error}: {text}"),
    }
    Ok(())
}

/// Names of volumes are single components of paths.
fn check_volume(def: &VolumeDef) {
    let name = def.name.as_str();
    assert!(!name.is_empty() && !name.contains(['/', '\0', '\n']) && name != "." && name != "..");
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;
    use zbus::Variant;

    #[test]
    fn a_call_of_any_method_is_read_or_refused() {
        let options = HashMap::<&str, Variant<'_>>::new();
        let mut read = Vec::new();
        for method in methods() {
            let message = Message::method_call("/", method.name());
            if method.read(&message.build(&options).unwrap()).is_ok() {
                read.push(method.name());
            }
        }
        assert!(read.contains(&"Stop") && !read.contains(&"Open"), "{read:?}");
    }
}
