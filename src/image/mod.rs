//! Image formats: probe, create, resize, and qemu's image locks. Parsers are pure functions over
//! bytes.
