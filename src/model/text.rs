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

#[cfg(test)]
mod tests {
    use super::*;

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
