//! Whether a header says of an image what its creator declared.

use super::formats;
use super::probe::{Verdict, resolve_backing};
use crate::model::{BackingStore, VolumeFormat};

/// How a verdict on the content of an image in `directory` contradicts its declared format and
/// backing file; none when it does not. What it names besides is never followed.
pub fn contradiction(
    verdict: Verdict,
    format: VolumeFormat,
    backing: Option<&BackingStore>,
    directory: &str,
) -> Option<String> {
    let image = match verdict {
        Verdict::Image(image) if formats::driver(image.format) == formats::driver(format) => image,
        Verdict::Damaged { why, .. } => return Some(why),
        Verdict::Image(_) | Verdict::Raw => {
            return Some(format!("its content is no {format} image"));
        }
    };
    if image.attributes.features.data_file || !image.others.is_empty() {
        let others = image.others.join(", ");
        return Some(format!("its header names the data file {others}, which was not declared"));
    }
    let mut found = image.attributes.backing;
    if let Some(found) = &mut found {
        resolve_backing(found, directory);
    }
    match (found, backing) {
        (Some(found), Some(declared)) if found.path == declared.path => None,
        (None, None) => None,
        (Some(found), _) => Some(format!(
            "its header names the backing file {}, which was not declared",
            found.path
        )),
        (None, Some(declared)) => {
            Some(format!("its header does not name its backing file {}", declared.path))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::probe::Image;
    use crate::model::ImageAttributes;

    fn store(path: &str) -> BackingStore {
        BackingStore { path: path.to_owned(), format: None, permissions: None }
    }

    fn image(backing: Option<&str>, others: &[&str]) -> Verdict {
        let attributes = ImageAttributes { backing: backing.map(store), ..Default::default() };
        let others = others.iter().map(|name| (*name).to_owned()).collect();
        let (format, capacity) = (VolumeFormat::Qcow2, 1 << 20);
        Verdict::Image(Box::new(Image { format, capacity, attributes, others }))
    }

    #[test]
    fn a_header_agrees_only_with_exactly_what_was_declared() {
        let against = |verdict, backing: Option<&str>| {
            let store = backing.map(store);
            contradiction(verdict, VolumeFormat::Qcow2, store.as_ref(), "/pool")
        };
        assert_eq!(against(image(None, &[]), None), None);
        assert_eq!(against(image(Some("/pool/base"), &[]), Some("/pool/base")), None);
        assert_eq!(against(image(Some("base"), &[]), Some("/pool/base")), None);
        for (verdict, backing) in [
            (image(Some("/etc/shadow"), &[]), None),
            (image(Some("/etc/shadow"), &[]), Some("/pool/base")),
            (image(Some("json:{}"), &[]), Some("/pool/json:{}")),
            (image(Some("nbd://host/x"), &[]), None),
            (image(None, &[]), Some("/pool/base")),
            (image(None, &["/etc/shadow"]), None),
            (Verdict::Raw, None),
            (Verdict::Damaged { format: VolumeFormat::Qcow2, why: "cut".to_owned() }, None),
        ] {
            assert!(against(verdict.clone(), backing).is_some(), "{verdict:?} {backing:?}");
        }
        let raw = contradiction(image(None, &[]), VolumeFormat::Raw, None, "/pool");
        assert!(raw.is_some_and(|what| what.contains("no raw image")));
    }
}
