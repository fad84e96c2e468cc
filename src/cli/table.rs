//! Records as aligned columns, or as one line per key.

use super::output::{Emphasis, emphasise, printable};
use super::record::Record;
use crate::model::format_size;
use comfy_table::{CellAlignment, ContentArrangement, Table, presets};
use serde_json::Value;

/// How values are shown.
#[derive(Debug, Clone, Copy)]
pub(super) struct View {
    /// Sizes as exact bytes.
    pub(super) bytes: bool,
    /// Whether colours are welcome.
    pub(super) colours: bool,
}

/// What a value is, for showing it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shown {
    /// Text, or a list of words.
    Text,
    /// A count.
    Number,
    /// Bytes.
    Size,
    /// Bytes that are not known when they are 0.
    Room,
    /// yes or no.
    Flag,
    /// A count or flag that is worth a word when it is not 0 or no.
    IfAny,
    /// µs since the epoch.
    Time,
    /// Permission bits.
    Mode,
    /// Hundredths of a percent.
    Percent,
    /// `{name, message}`.
    Error,
}

/// A column of a list, or a line of the details: heading, key, and what it is.
pub(super) type Field = (&'static str, &'static str, Shown);

/// One value for a person; `None` when there is none.
pub(super) fn show(value: &Value, shown: Shown, view: View) -> Option<String> {
    let number = value.as_u64();
    let text = match shown {
        Shown::Room | Shown::IfAny if number == Some(0) => return None,
        Shown::IfAny if *value == Value::Bool(false) => return None,
        Shown::IfAny if number.is_none() => "yes".to_owned(),
        Shown::Size | Shown::Room if view.bytes => number?.to_string(),
        Shown::Size | Shown::Room => format_size(number?),
        Shown::Number | Shown::IfAny => number?.to_string(),
        Shown::Flag => if value.as_bool()? { "yes" } else { "no" }.to_owned(),
        Shown::Time => format_time(number?),
        Shown::Percent => format!("{}.{:02} %", number? / 100, number? % 100),
        Shown::Mode => format!("{:04o}", number?),
        Shown::Error => value.get("message")?.as_str()?.to_owned(),
        Shown::Text => match value {
            Value::Array(words) => {
                words.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(" ")
            }
            Value::String(text) => text.clone(),
            Value::Null => return None,
            other => other.to_string(),
        },
    };
    (!text.is_empty()).then(|| printable(&text))
}

/// A list: one row per record, columns aligned, numbers to the right.
pub(super) fn list(
    columns: &[Field],
    rows: &[Record],
    view: View,
    emphasis: impl Fn(&Record) -> Emphasis,
) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(columns.iter().map(|column| column.0));
    for row in rows {
        table.add_row(columns.iter().map(|(_, key, shown)| {
            row.get(*key)
                .and_then(|value| show(value, *shown, view))
                .unwrap_or_else(|| "-".to_owned())
        }));
    }
    for (index, (_, _, shown)) in columns.iter().enumerate() {
        if let Some(column) = table.column_mut(index) {
            let left = if index == 0 { 0 } else { 1 };
            column.set_padding((left, 1));
            if matches!(shown, Shown::Number | Shown::Size | Shown::Room) {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
    }
    let emphases = std::iter::once(Emphasis::Heading).chain(rows.iter().map(emphasis));
    let mut text = String::new();
    for (line, emphasis) in table.lines().zip(emphases) {
        text.push_str(&emphasise(line.trim_end(), emphasis, view.colours));
        text.push('\n');
    }
    text
}

/// The details of one record: a line per key that says something.
pub(super) fn details(lines: &[Field], record: &Record, view: View) -> String {
    let shown: Vec<_> = lines
        .iter()
        .filter_map(|(label, key, shown)| Some((label, show(record.get(*key)?, *shown, view)?)))
        .collect();
    let width = shown.iter().map(|(label, _)| label.len()).max().unwrap_or(0);
    shown
        .iter()
        .map(|(label, value)| format!("{:<1$} {value}\n", format!("{label}:"), width + 1))
        .collect()
}

/// µs since the epoch as date and time, UTC.
pub(super) fn format_time(micros: u64) -> String {
    let seconds = micros / 1_000_000;
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    // Days since 0000-03-01, so that the leap day is a year's last (Howard Hinnant's civil_from_days).
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    format!(
        "{year:04}-{month:02}-{day:02} {:02}:{:02}:{:02} UTC",
        second / 3600,
        second / 60 % 60,
        second % 60
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const FIELDS: &[Field] = &[
        ("NAME", "name", Shown::Text),
        ("SIZE", "size", Shown::Size),
        ("FREE", "free", Shown::Room),
        ("AUTOSTART", "autostart", Shown::Flag),
    ];

    fn rows() -> Vec<Record> {
        [
            json!({"name": "images", "size": 10u64 << 30, "free": 1536, "autostart": true}),
            json!({"name": "日本", "size": 512, "free": 0, "autostart": false}),
        ]
        .map(|row| row.as_object().cloned().unwrap())
        .to_vec()
    }

    #[test]
    fn columns_are_aligned_and_numbers_stand_to_the_right() {
        let view = View { bytes: false, colours: false };
        assert_eq!(
            list(FIELDS, &rows(), view, |_| Emphasis::Alarm),
            "NAME      SIZE     FREE  AUTOSTART\n\
             images  10 GiB  1.5 KiB  yes\n\
             日本     512 B        -  no\n"
        );
    }

    #[test]
    fn sizes_can_be_exact_and_lines_coloured() {
        let view = View { bytes: true, colours: true };
        let text = list(FIELDS, &rows()[..1], view, |_| Emphasis::Active);
        assert!(text.contains("10737418240"), "{text}");
        assert!(text.lines().all(|line| line.ends_with("\x1b[0m")), "{text:?}");
    }

    #[test]
    fn details_leave_out_what_is_not_known() {
        let view = View { bytes: false, colours: false };
        assert_eq!(
            details(FIELDS, &rows()[1], view),
            "NAME:      日本\nSIZE:      512 B\nAUTOSTART: no\n"
        );
    }

    #[test]
    fn times_are_dates() {
        for (seconds, text) in [
            (0, "1970-01-01 00:00:00 UTC"),
            (951_782_400, "2000-02-29 00:00:00 UTC"),
            (1_795_379_317, "2026-11-22 20:28:37 UTC"),
        ] {
            assert_eq!(format_time(seconds * 1_000_000), text);
        }
    }
}
