//! The arguments and options of a call, checked against their declaration before any handler
//! sees them.

use super::table::Method;
use crate::model::{Error, ErrorKind, Result};
use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use zbus::wire::Signature;
use zbus::{Fd, Message, Structure, Variant};

/// Largest body of a call. Documents are at most 1 MiB; the rest is room for what is around them.
const MAX_BODY: usize = (1 << 20) + (64 << 10);

/// The arguments of a call without its options, in order.
#[derive(Debug, Default)]
pub(super) struct Args(Vec<Variant<'static>>);

/// The options of a call.
#[derive(Debug, Default)]
pub(super) struct Options(BTreeMap<String, Variant<'static>>);

/// Reads the body of a call of `method`.
pub(super) fn read(message: &Message, method: &Method) -> Result<(Args, Options)> {
    let body = message.body();
    if body.len() > MAX_BODY {
        return Err(Error::new(
            ErrorKind::LimitsExceeded,
            format!("the arguments of {} are larger than 1 MiB", method.name),
        ));
    }
    if *body.signature() != method.input {
        return Err(Error::new(
            ErrorKind::InvalidArgs,
            format!(
                "{} takes arguments of type {:?}, not {:?}",
                method.name,
                method.input.to_string_no_parens(),
                body.signature().to_string_no_parens()
            ),
        ));
    }
    if method.input == Signature::Unit {
        return Ok((Args::default(), Options::default()));
    }
    let broken = |error: zbus::Error| {
        Error::new(
            ErrorKind::InvalidArgs,
            format!("the arguments of {} cannot be read: {error}", method.name),
        )
    };
    let structure: Structure<'_> = body.deserialize().map_err(broken)?;
    let mut values = Vec::with_capacity(structure.fields().len());
    for value in structure.into_fields() {
        values.push(value.try_into_owned().map_err(broken)?.into());
    }
    let options = match (&method.options, values.pop()) {
        (Some(declared), Some(last)) => {
            Options::check(dict(last)?, declared, &format!("options of {}", method.name))?
        }
        (None, last) => {
            values.extend(last);
            Options::default()
        }
        (Some(_), None) => Options::default(),
    };
    Ok((Args(values), options))
}

/// The entries of an `a{sv}`.
pub(super) fn dict(value: Variant<'static>) -> Result<BTreeMap<String, Variant<'static>>> {
    let Variant::Dict(dict) = value else { return Err(wrong_type("dictionary")) };
    let mut entries = BTreeMap::new();
    for (key, value) in dict {
        let (Variant::Str(key), Variant::Variant(value)) = (key, value) else {
            return Err(wrong_type("dictionary"));
        };
        if entries.insert(key.to_string(), *value).is_some() {
            return Err(Error::new(
                ErrorKind::InvalidArgument,
                format!("{:?} is given twice", key.as_str()),
            ));
        }
    }
    Ok(entries)
}

fn wrong_type(what: &str) -> Error {
    Error::new(ErrorKind::InvalidArgs, format!("an argument is not the {what} that it is to be"))
}

impl Args {
    /// The text at `position`.
    pub(super) fn text(&self, position: usize) -> Result<&str> {
        match self.0.get(position) {
            Some(Variant::Str(text)) => Ok(text.as_str()),
            _ => Err(wrong_type("text")),
        }
    }

    /// The number at `position`.
    pub(super) fn number(&self, position: usize) -> Result<u64> {
        match self.0.get(position) {
            Some(Variant::U64(number)) => Ok(*number),
            Some(Variant::U32(number)) => Ok(u64::from(*number)),
            _ => Err(wrong_type("number")),
        }
    }

    /// The truth value at `position`.
    pub(super) fn flag(&self, position: usize) -> Result<bool> {
        match self.0.get(position) {
            Some(Variant::Bool(flag)) => Ok(*flag),
            _ => Err(wrong_type("boolean")),
        }
    }

    /// Takes the descriptor at `position`.
    pub(super) fn take_descriptor(&mut self, position: usize) -> Result<OwnedFd> {
        let value = self.0.get_mut(position).map(|value| std::mem::replace(value, false.into()));
        match value {
            Some(Variant::Fd(Fd::Owned(descriptor))) => Ok(descriptor),
            _ => Err(wrong_type("descriptor")),
        }
    }

    /// Takes the dictionary at `position`.
    pub(super) fn take_dict(
        &mut self,
        position: usize,
    ) -> Result<BTreeMap<String, Variant<'static>>> {
        match self.0.get_mut(position) {
            Some(value) => dict(std::mem::replace(value, Variant::Bool(false))),
            None => Err(wrong_type("dictionary")),
        }
    }
}

impl Options {
    /// Refuses keys that are not declared and values of another type.
    pub(super) fn check(
        given: BTreeMap<String, Variant<'static>>,
        declared: &BTreeMap<String, Signature>,
        whose: &str,
    ) -> Result<Self> {
        for (key, value) in &given {
            let Some(kind) = declared.get(key) else {
                let known: Vec<_> = declared.keys().map(String::as_str).collect();
                return Err(Error::new(
                    ErrorKind::InvalidArgument,
                    format!("{whose}: there is no {key:?}; there are {}", known.join(", ")),
                ));
            };
            if *value.value_signature() != *kind {
                return Err(Error::new(
                    ErrorKind::InvalidArgument,
                    format!("{whose}: {key:?} is of type {kind}, not {}", value.value_signature()),
                ));
            }
        }
        Ok(Self(given))
    }

    /// Whether an option is given and says more than "no": what `org.poold1.OptionActions` is
    /// about.
    pub(super) fn applies(&self, key: &str) -> bool {
        match self.0.get(key) {
            None | Some(Variant::Bool(false)) => false,
            Some(Variant::Str(text)) => !matches!(text.as_str(), "" | "no"),
            Some(_) => true,
        }
    }

    /// Text, if the option is given and not empty.
    pub(super) fn text(&self, key: &str) -> Option<&str> {
        match self.0.get(key) {
            Some(Variant::Str(text)) if !text.is_empty() => Some(text.as_str()),
            _ => None,
        }
    }

    /// A 64 bit number, if given.
    pub(super) fn number(&self, key: &str) -> Option<u64> {
        match self.0.get(key) {
            Some(Variant::U64(number)) => Some(*number),
            _ => None,
        }
    }

    /// A 32 bit number, if given and not the one that stands for none.
    pub(super) fn id(&self, key: &str) -> Option<u32> {
        match self.0.get(key) {
            Some(Variant::U32(number)) if *number != u32::MAX => Some(*number),
            _ => None,
        }
    }

    /// A truth value; false if not given.
    pub(super) fn flag(&self, key: &str) -> bool {
        matches!(self.0.get(key), Some(Variant::Bool(true)))
    }

    /// Text by text, if given.
    pub(super) fn table(&self, key: &str) -> Vec<(String, String)> {
        let Some(Variant::Dict(dict)) = self.0.get(key) else { return Vec::new() };
        let text = |value: &Variant<'_>| value.downcast_ref::<String>().ok();
        dict.iter().filter_map(|(key, value)| Some((text(key)?, text(value)?))).collect()
    }

    /// A truth value, if given.
    pub(super) fn said(&self, key: &str) -> Option<bool> {
        match self.0.get(key) {
            Some(Variant::Bool(flag)) => Some(*flag),
            _ => None,
        }
    }

    /// A list of texts, if given.
    pub(super) fn texts(&self, key: &str) -> Option<Vec<String>> {
        match self.0.get(key) {
            Some(Variant::Array(array)) => {
                Some(array.iter().filter_map(|text| text.downcast_ref().ok()).collect())
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::table::{POOL, Table};
    use super::*;
    use std::collections::HashMap;

    fn stop(options: HashMap<&str, Variant<'_>>) -> Result<Options> {
        let method = Table::get().interface(POOL).unwrap().method("Stop").unwrap();
        let message = Message::method_call("/", "Stop").build(&options).unwrap();
        read(&message, method).map(|(_, options)| options)
    }

    #[test]
    fn declared_options_arrive() {
        let options =
            stop(HashMap::from([("force", Variant::from(true)), ("wait", Variant::from(5u64))]));
        let options = options.unwrap();
        assert!(options.flag("force") && options.applies("force") && !options.flag("release"));
        assert_eq!(options.number("wait"), Some(5));
        let options = stop(HashMap::from([("auth.no_user_interaction", Variant::from(true))]));
        assert!(options.unwrap().flag("auth.no_user_interaction"));
        assert!(!stop(HashMap::from([("force", Variant::from(false))])).unwrap().applies("force"));
    }

    #[test]
    fn an_unknown_option_is_named_with_those_that_there_are() {
        let error = stop(HashMap::from([("forse", Variant::from(true))])).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument);
        assert!(error.message().contains("\"forse\"") && error.message().contains("force"));
    }

    #[test]
    fn an_option_of_the_wrong_type_is_named() {
        let error = stop(HashMap::from([("wait", Variant::from(5u32))])).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument);
        assert!(error.message().contains("\"wait\"") && error.message().contains('t'));
    }

    #[test]
    fn arguments_of_another_signature_are_refused() {
        let method = Table::get().interface(POOL).unwrap().method("Stop").unwrap();
        for message in [
            Message::method_call("/", "Stop").build(&()).unwrap(),
            Message::method_call("/", "Stop").build(&"x").unwrap(),
            Message::method_call("/", "Stop").build(&("x", 1u32)).unwrap(),
        ] {
            assert_eq!(read(&message, method).unwrap_err().kind(), ErrorKind::InvalidArgs);
        }
    }

    #[test]
    fn a_call_beyond_a_mebibyte_is_refused() {
        let method = Table::get().interface(POOL).unwrap().method("LookupVolume").unwrap();
        let body = ("x".repeat(2 << 20), HashMap::<String, Variant<'_>>::new());
        let message = Message::method_call("/", "LookupVolume").build(&body).unwrap();
        assert_eq!(read(&message, method).unwrap_err().kind(), ErrorKind::LimitsExceeded);
    }
}
