//! Sizes with units, as people and libvirt's documents write them.

use super::{Error, ErrorKind, Result};

/// Multiplier of a unit; libvirt's rule: K and KiB are 1024, KB is 1000, no unit is bytes.
fn multiplier(unit: &str) -> Option<u64> {
    let lower = unit.to_ascii_lowercase();
    if matches!(lower.as_str(), "" | "b" | "byte" | "bytes") {
        return Some(1);
    }
    let mut chars = lower.chars();
    let prefix = chars.next()?;
    let power = "kmgtpe".find(prefix)? + 1;
    let base: u64 = match chars.as_str() {
        "" | "ib" => 1024,
        "b" => 1000,
        _ => return None,
    };
    base.checked_pow(u32::try_from(power).ok()?)
}

/// A number and its unit, in bytes.
pub fn parse_scaled(number: &str, unit: &str) -> Result<u64> {
    let invalid = |why: &str| {
        Error::new(
            ErrorKind::InvalidArgument,
            format!("size {:?}: {why}", format!("{number}{unit}")),
        )
    };
    let digits = number.trim();
    if digits.starts_with('+') {
        return Err(invalid("not a whole number"));
    }
    let value: u64 = digits.parse().map_err(|_| invalid("not a whole number"))?;
    let multiplier = multiplier(unit.trim()).ok_or_else(|| invalid("unknown unit"))?;
    value.checked_mul(multiplier).ok_or_else(|| invalid("larger than 16 EiB"))
}

/// `bytes` for a person: three digits and a binary unit.
pub fn format_size(bytes: u64) -> String {
    const UNITS: [&str; 7] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 1023.5 && unit < UNITS.len() - 1 {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 || (value - value.round()).abs() < 0.005 || value >= 99.95 {
        format!("{value:.0} {}", UNITS[unit])
    } else {
        format!("{value:.1} {}", UNITS[unit])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_libvirts() {
        for (number, unit, bytes) in [
            ("10", "GB", 10_000_000_000),
            ("5", "G", 5 << 30),
            ("1", "TiB", 1 << 40),
            ("7", "", 7),
            ("7", "bytes", 7),
            ("3", "k", 3072),
        ] {
            assert_eq!(parse_scaled(number, unit).unwrap(), bytes, "{number}{unit}");
        }
        for (number, unit) in [
            ("-1", ""),
            ("+1", ""),
            ("1", "X"),
            ("1", "Ⱥ"),
            ("16", "EiB"),
            ("", "G"),
            ("1", "kiloB"),
        ] {
            assert!(parse_scaled(number, unit).is_err(), "{number}{unit}");
        }
    }

    #[test]
    fn sizes_are_short() {
        for (bytes, text) in
            [(0, "0 B"), (1023, "1023 B"), (1024, "1 KiB"), (1536, "1.5 KiB"), (u64::MAX, "16 EiB")]
        {
            assert_eq!(format_size(bytes), text);
        }
    }
}
