//! Values of properties and results as JSON, for those who do not know their types beforehand.

use serde_json::Value;
use zbus::Variant;

/// A D-Bus value as JSON: paths and signatures as text, structures as arrays, descriptors as null.
pub fn to_json(value: &Variant<'_>) -> Value {
    match value {
        Variant::U8(number) => (*number).into(),
        Variant::Bool(flag) => (*flag).into(),
        Variant::I16(number) => (*number).into(),
        Variant::U16(number) => (*number).into(),
        Variant::I32(number) => (*number).into(),
        Variant::U32(number) => (*number).into(),
        Variant::I64(number) => (*number).into(),
        Variant::U64(number) => (*number).into(),
        Variant::F64(number) => (*number).into(),
        Variant::Str(text) => text.as_str().into(),
        Variant::Signature(signature) => signature.to_string().into(),
        Variant::ObjectPath(path) => path.as_str().into(),
        Variant::Variant(inner) => to_json(inner),
        Variant::Array(items) => items.iter().map(to_json).collect(),
        Variant::Structure(structure) => structure.fields().iter().map(to_json).collect(),
        Variant::Dict(dict) => {
            let mut entries: Vec<_> = dict.iter().map(|(k, v)| (key(k), to_json(v))).collect();
            entries.sort_by(|a, b| a.0.cmp(&b.0));
            Value::Object(entries.into_iter().collect())
        }
        Variant::Fd(_) => Value::Null,
    }
}

/// JSON has only text for keys.
fn key(value: &Variant<'_>) -> String {
    match to_json(value) {
        Value::String(text) => text,
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    #[test]
    fn nested_values_keep_their_shape() {
        let inner: HashMap<&str, Variant<'_>> =
            HashMap::from([("formats", vec!["raw", "qcow2"].into()), ("available", true.into())]);
        let value = Variant::from(HashMap::from([("dir", inner)]));
        assert_eq!(
            to_json(&value),
            serde_json::json!({"dir": {"available": true, "formats": ["raw", "qcow2"]}})
        );
        assert_eq!(to_json(&Variant::from(("name", 7u64))), serde_json::json!(["name", 7]));
    }
}
