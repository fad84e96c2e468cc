//! `<storagepoolCapabilities>`: the types of pool, whether this host has them, and their formats.

use super::source::yes_no;
use super::writer::Writer;
use crate::model::PoolType;

/// Writes the document.
pub(super) fn write(out: &mut Writer, available: impl Fn(PoolType) -> bool) {
    out.element("storagepoolCapabilities", &[], |out| {
        for pool_type in PoolType::ALL {
            let info = pool_type.info();
            let supported = yes_no(available(pool_type));
            out.element("pool", &[("type", &info.name), ("supported", &supported)], |out| {
                let default = info.default_source_format;
                write_formats(out, "poolOptions", "sourceFormatType", default, info.source_formats);
                let formats: Vec<&str> =
                    info.volume_formats.iter().map(|format| format.as_str()).collect();
                let default = info.default_volume_format.map(|format| format.as_str());
                write_formats(out, "volOptions", "targetFormatType", default, &formats);
            });
        }
    });
}

fn write_formats(
    out: &mut Writer,
    element: &str,
    name: &str,
    default: Option<&str>,
    formats: &[&str],
) {
    if formats.is_empty() {
        return;
    }
    out.element(element, &[], |out| {
        if let Some(default) = default {
            out.empty("defaultFormat", &[("type", &default)]);
        }
        out.element("enum", &[("name", &name)], |out| {
            formats.iter().for_each(|format| out.value("value", &[], format));
        });
    });
}
