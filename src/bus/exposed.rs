//! Objects as rows of properties: what Get, GetAll, the listings and the change signals share.

use serde::ser::{Serialize, SerializeMap, Serializer};
use zbus::Variant;
use zbus::wire::{Signature, Type, signature};

/// One property of an object of type `T`.
pub(super) struct Property<T> {
    /// Its name in the interface document.
    pub(super) name: &'static str,
    /// Whether it is announced at most twice a second.
    pub(super) throttled: bool,
    /// Its value.
    pub(super) get: for<'a> fn(&'a T) -> Variant<'a>,
}

impl<T> Property<T> {
    /// A property that is announced at once.
    pub(super) const fn new(name: &'static str, get: for<'a> fn(&'a T) -> Variant<'a>) -> Self {
        Self { name, throttled: false, get }
    }

    /// A property that is announced at most twice a second.
    pub(super) const fn throttled(
        name: &'static str,
        get: for<'a> fn(&'a T) -> Variant<'a>,
    ) -> Self {
        Self { name, throttled: true, get }
    }
}

/// An object that the bus sees.
pub(super) trait Exposed: Sized + 'static {
    /// Its interface.
    const INTERFACE: &'static str;
    /// Its properties, in the order of the interface document.
    const PROPERTIES: &'static [Property<Self>];

    /// Its path.
    fn path(&self) -> String;
}

/// Serialises the properties of an object as `a{sv}`.
pub(super) struct All<'a, T: Exposed>(pub(super) &'a T);

impl<T: Exposed> Type for All<'_, T> {
    const SIGNATURE: &'static Signature = &signature!("a{sv}");
}

impl<T: Exposed> Serialize for All<'_, T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(T::PROPERTIES.len()))?;
        for property in T::PROPERTIES {
            map.serialize_entry(property.name, &(property.get)(self.0))?;
        }
        map.end()
    }
}

/// Serialises some properties of an object as `a{sv}`.
pub(super) struct Selected<'a, T: Exposed>(pub(super) &'a T, pub(super) &'a [&'static Property<T>]);

impl<T: Exposed> Type for Selected<'_, T> {
    const SIGNATURE: &'static Signature = &signature!("a{sv}");
}

impl<T: Exposed> Serialize for Selected<'_, T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.1.len()))?;
        for property in self.1 {
            map.serialize_entry(property.name, &(property.get)(self.0))?;
        }
        map.end()
    }
}

/// Serialises an object's one interface with its properties as `a{sa{sv}}`.
pub(super) struct Interfaces<'a, T: Exposed>(pub(super) &'a T);

impl<T: Exposed> Type for Interfaces<'_, T> {
    const SIGNATURE: &'static Signature = &signature!("a{sa{sv}}");
}

impl<T: Exposed> Serialize for Interfaces<'_, T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(1))?;
        map.serialize_entry(T::INTERFACE, &All(self.0))?;
        map.end()
    }
}

/// The properties of one class that differ between two states of an object.
pub(super) fn changed<T: Exposed>(old: &T, new: &T, throttled: bool) -> Vec<&'static Property<T>> {
    T::PROPERTIES
        .iter()
        .filter(|property| property.throttled == throttled)
        .filter(|property| (property.get)(old) != (property.get)(new))
        .collect()
}
