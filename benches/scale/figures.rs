//! The figures of one run and the table of both.

use std::collections::BTreeMap;

/// What is measured, in the order of the table: key and title with unit.
const ROWS: &[(&str, &str)] = &[
    ("first-answer", "start to first answer, ms"),
    ("loaded", "start to all volumes listed, ms"),
    ("list", "list all with details over D-Bus, ms"),
    ("refresh", "refresh, ms"),
    ("refresh-each", "refresh per image, µs"),
    ("create-raw", "create raw 1 GiB, p50, ms"),
    ("create-qcow2", "create qcow2 1 GiB, p50, ms"),
    ("tree", "busctl tree, ms"),
    ("rss-idle", "resident memory before the pool, MiB"),
    ("rss", "resident memory with the pool, MiB"),
];

/// Figures by key; what could not be measured is absent.
#[derive(Debug, Default)]
pub struct Figures(BTreeMap<String, f64>);

impl Figures {
    /// Records one.
    pub fn set(&mut self, key: &str, value: f64) {
        debug_assert!(ROWS.iter().any(|(row, _)| *row == key), "no row {key}");
        self.0.insert(key.to_owned(), value);
    }

    /// Figures as lines, for another process.
    pub fn print_lines(&self) {
        for (key, value) in &self.0 {
            println!("{key} {value}");
        }
    }

    /// Figures from such lines.
    pub fn from_lines(text: &str) -> Self {
        Self(
            text.lines()
                .filter_map(|line| line.split_once(' '))
                .filter_map(|(key, value)| Some((key.to_owned(), value.parse().ok()?)))
                .collect(),
        )
    }
}

/// Prints ours, theirs and how many times less ours is.
pub fn print_table(size: usize, ours: &Figures, theirs: &Figures) {
    println!("\n{size} volumes{:>41} {:>10} {:>8}", "poold", "libvirt", "ratio");
    for (key, title) in ROWS {
        let cell = |value: Option<&f64>| value.map_or("-".to_owned(), |v| format!("{v:.2}"));
        let (our, their) = (ours.0.get(*key), theirs.0.get(*key));
        let ratio = match (our, their) {
            (Some(our), Some(their)) if *our > 0.0 => format!("{:.1}", their / our),
            _ => "-".to_owned(),
        };
        println!("  {title:<40}{:>10} {:>10} {ratio:>8}", cell(our), cell(their));
    }
}

/// Resident memory of a process, MiB.
pub fn resident_mib(pid: u32) -> anyhow::Result<f64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    let kib = line
        .and_then(|line| line.split_whitespace().nth(1))
        .and_then(|kib| kib.parse::<f64>().ok());
    kib.map(|kib| kib / 1024.0).ok_or_else(|| anyhow::anyhow!("no VmRSS of process {pid}"))
}
