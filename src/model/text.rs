//! Rules for text that any value must keep.

/// Whether a character may be in no value: controls, and what XML cannot carry.
pub fn unprintable(c: char) -> bool {
    c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}')
}

/// `path` with one `/` where there are several, without `.` components and without a `/` at the
/// end. Purely textual: `..` and symbolic links stay.
pub fn clean_path(path: &str) -> String {
    let parts: Vec<&str> = path.split('/').filter(|part| !matches!(*part, "" | ".")).collect();
    let root = if path.starts_with('/') { "/" } else { "" };
    match parts.join("/") {
        joined if joined.is_empty() && root.is_empty() && !path.is_empty() => ".".to_owned(),
        joined => root.to_owned() + &joined,
    }
}

/// A path as URLs have it: what has a meaning there is escaped, as libvirt does (libxml2's xmlSaveUri).
pub(super) fn escape_url_path(path: &str) -> String {
    let mut escaped = String::with_capacity(path.len());
    for byte in path.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' => escaped.push(char::from(byte)),
            _ if b"-_.!~*'()/;@&=+$,".contains(&byte) => escaped.push(char::from(byte)),
            _ => escaped.push_str(&format!("%{byte:02X}")),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_url_would_read_otherwise_is_escaped() {
        assert_eq!(escape_url_path("vms/a_1.qcow2"), "vms/a_1.qcow2");
        assert_eq!(escape_url_path("a b?#%é"), "a%20b%3F%23%25%C3%A9");
    }

    #[test]
    fn paths_are_cleaned_as_libvirt_does() {
        for (path, clean) in [
            ("///var/////lib/libvirt/images//", "/var/lib/libvirt/images"),
            ("/a/./b/.", "/a/b"),
            ("//", "/"),
            ("share", "share"),
            ("./", "."),
            ("/a/../b", "/a/../b"),
            ("", ""),
        ] {
            assert_eq!(clean_path(path), clean, "{path}");
            assert_eq!(clean_path(clean), clean);
        }
    }
}
