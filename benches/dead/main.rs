//! How long calls on one pool take while the storage of another hangs, beside libvirt (libvirtd and libvirt-dbus) in the
//! same run.
//!
//! The other pool is a directory on a FUSE file system whose server is stopped by a signal, and is being refreshed.
//! `make bench` runs it. Prints both and the ratio, and asserts nothing: numbers of a shared machine are no verdict.

mod frozen;
mod libvirt;
mod poold;
#[path = "../support/mod.rs"]
mod support;

use frozen::Frozen;
use std::time::{Duration, Instant};

/// Calls of one kind, fewer when they take longer than this altogether.
const CALLS: usize = 300;
const LONGEST: Duration = Duration::from_secs(60);
/// Whoever has not answered by then never may.
const PATIENCE: Duration = Duration::from_secs(10);

/// The median and the 99th of 100, in milliseconds; none when a call was not answered.
type Latency = Option<(f64, f64)>;

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    if let [word, directory] = &arguments[..]
        && word == support::libvirt::PEER_ARGUMENT
    {
        return libvirt::run_inside_namespace(directory.as_ref());
    }
    let place = tempfile::Builder::new().prefix("poold-bench").tempdir()?;
    std::fs::create_dir(place.path().join("well"))?;
    for number in 0..100 {
        std::fs::write(place.path().join(format!("well/image-{number}")), [0; 4096])?;
    }
    println!("\nwhile another pool hangs{:>36} {:>10} {:>8}", "before", "beside", "ratio");
    print("poold", &poold::measure(place.path())?);
    match libvirt::measure(place.path()) {
        Ok(lines) => print("libvirt", &lines),
        Err(why) => println!("RESULT bench libvirt-dead skip {why}"),
    }
    Ok(())
}

/// What one kind of call took, before and beside it.
struct Line {
    call: String,
    before: Latency,
    beside: Latency,
}

impl Line {
    /// The kinds of call, with what they took before and beside it.
    fn pairs<const N: usize>(
        before: [(&str, Latency); N],
        beside: [(&str, Latency); N],
    ) -> Vec<Self> {
        let both = before.into_iter().zip(beside);
        both.map(|((call, before), (_, beside))| Self { call: call.to_owned(), before, beside })
            .collect()
    }
}

fn print(who: &str, lines: &[Line]) {
    for Line { call, before, beside } in lines {
        for (part, of) in [("p50", 0), ("p99", 1)] {
            let pick = |latency: &Latency| latency.map(|both| [both.0, both.1][of]);
            let (before, beside) = (pick(before), pick(beside));
            let cell = |value: Option<f64>| {
                value.map_or(format!("> {} s", PATIENCE.as_secs()), |value| format!("{value:.2}"))
            };
            let ratio = before
                .zip(beside)
                .map_or("-".to_owned(), |(before, beside)| format!("{:.2}", beside / before));
            let title = format!("{who}: {call}, {part}, ms");
            println!("  {title:<48}{:>10} {:>10} {ratio:>8}", cell(before), cell(beside));
        }
    }
}

/// Calls again and again, one after the other, until one is not answered.
async fn calls(mut call: impl AsyncFnMut() -> anyhow::Result<()>) -> anyhow::Result<Latency> {
    let (begun, mut took) = (Instant::now(), Vec::new());
    while took.len() < CALLS && begun.elapsed() < LONGEST {
        let start = Instant::now();
        match tokio::time::timeout(PATIENCE, call()).await {
            Ok(answer) => answer?,
            Err(_) => return Ok(None),
        }
        took.push(support::milliseconds(start));
    }
    took.sort_by(f64::total_cmp);
    Ok(Some((took[took.len() / 2], took[took.len() * 99 / 100])))
}
