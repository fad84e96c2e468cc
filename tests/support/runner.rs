//! Runs cases one after the other and prints `RESULT <area> <step> pass|fail|skip <why>` and a count.
//!
//! The whole binary runs in process and mount namespaces of its own, so that nothing that a case starts or mounts
//! outlives it, however it ends.

use anyhow::{Result, anyhow};
use std::collections::BTreeMap;
use std::fmt::Display;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::process::{Command, ExitCode};
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// What a case returns while it runs.
pub type Running = Pin<Box<dyn Future<Output = Result<()>>>>;

/// A test: a sentence, and what proves it.
pub struct Case {
    pub area: &'static str,
    pub name: &'static str,
    pub run: fn() -> Running,
}

/// Cases from paths of functions: the module is the area, the function the sentence.
#[macro_export]
macro_rules! cases {
    ($($area:ident :: { $($name:ident),* $(,)? }),* $(,)?) => {
        &[$($($crate::support::runner::Case {
            area: stringify!($area),
            name: stringify!($name),
            run: || Box::pin($area::$name()),
        }),*),*]
    };
}

/// Longest that a case may take; a daemon that hangs must not hang the run.
const LONGEST: Duration = Duration::from_secs(300);

/// Passed, failed and skipped, by area.
static COUNTS: Mutex<BTreeMap<String, [usize; 3]>> = Mutex::new(BTreeMap::new());

fn count(area: &str, outcome: usize) {
    COUNTS.lock().unwrap().entry(area.to_owned()).or_default()[outcome] += 1;
}

/// Logs of the case that runs.
static LOG: Mutex<String> = Mutex::new(String::new());

/// Keeps a log, of which the end is shown if the case fails.
pub fn note(log: String) {
    LOG.lock().unwrap().push_str(&log);
}

fn show_log() {
    let log = std::mem::take(&mut *LOG.lock().unwrap());
    let lines: Vec<_> = log.lines().collect();
    lines[lines.len().saturating_sub(20)..].iter().for_each(|line| println!("    log: {line}"));
}

/// Prints and counts a step that passed.
pub fn pass(area: &str, step: impl Display) {
    count(area, 0);
    println!("RESULT {area} {step} pass");
}

/// Prints and counts a step that failed.
pub fn fail(area: &str, step: impl Display, why: impl Display) {
    count(area, 1);
    println!("RESULT {area} {step} fail {}", why.to_string().replace('\n', " | "));
}

/// Prints and counts a step that could not be tried.
pub fn skip(area: &str, step: impl Display, why: impl Display) {
    count(area, 2);
    println!("RESULT {area} {step} skip {why}");
}

/// An error with which a case says that this machine cannot run it.
#[derive(Debug)]
pub struct Skip(pub String);

impl Display for Skip {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Skip {}

/// Runs the cases whose area or name contains one of the arguments (all without arguments).
pub fn main(tier: &str, cases: &[Case]) -> ExitCode {
    let wanted: Vec<String> = std::env::args().skip(1).filter(|a| !a.starts_with('-')).collect();
    if std::env::args().any(|argument| argument == "--list") {
        cases.iter().for_each(|case| println!("{}::{}: test", case.area, case.name));
        return ExitCode::SUCCESS;
    }
    if std::process::id() != 1 {
        return in_namespaces(tier);
    }
    end_on_signals();
    let mut times = BTreeMap::<&str, Duration>::new();
    for case in cases {
        let full = format!("{}::{}", case.area, case.name);
        if wanted.is_empty() || wanted.iter().any(|wanted| full.contains(wanted.as_str())) {
            let start = Instant::now();
            run(case);
            *times.entry(case.area).or_default() += start.elapsed();
        }
    }
    let (mut all, counts) = ([0; 3], COUNTS.lock().unwrap());
    for (area, counts) in counts.iter() {
        let took = times.get(area.as_str()).map_or(0, Duration::as_secs);
        println!("{area}: {} in {took} s", in_words(*counts));
        (0..3).for_each(|outcome| all[outcome] += counts[outcome]);
    }
    println!("{tier} tier: {}", in_words(all));
    if all[1] == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn in_words([passed, failed, skipped]: [usize; 3]) -> String {
    format!("{passed} passed, {failed} failed, {skipped} skipped")
}

fn run(case: &Case) {
    let step = case.name.replace('_', "-");
    LOG.lock().unwrap().clear();
    let outcome = std::panic::catch_unwind(AssertUnwindSafe(|| {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        let outcome = runtime.block_on(async { tokio::time::timeout(LONGEST, (case.run)()).await });
        runtime.shutdown_background();
        outcome.unwrap_or_else(|_| Err(anyhow!("not done after {} s", LONGEST.as_secs())))
    }));
    match outcome {
        Ok(Ok(())) => pass(case.area, step),
        Ok(Err(error)) => match error.downcast_ref::<Skip>() {
            Some(why) => skip(case.area, step, why),
            None => {
                fail(case.area, step, format!("{error:#}"));
                show_log();
            }
        },
        Err(panic) => {
            let why = panic
                .downcast_ref::<String>()
                .map(String::as_str)
                .or_else(|| panic.downcast_ref::<&str>().copied())
                .unwrap_or("panicked");
            fail(case.area, step, why);
            show_log();
        }
    }
}

/// The same program once more, as the first process of its own process and mount namespaces.
fn in_namespaces(tier: &str) -> ExitCode {
    let unshare =
        ["--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "--propagation", "slave"];
    let possible = Command::new("unshare").args(unshare).arg("true").output();
    if !possible.is_ok_and(|output| output.status.success()) {
        skip(tier, "all", "no namespaces here: needs root");
        println!("{tier} tier: {}", in_words([0, 0, 1]));
        return ExitCode::SUCCESS;
    }
    let mut inside = Command::new("unshare");
    inside.args(unshare).arg(std::env::current_exe().unwrap()).args(std::env::args_os().skip(1));
    let status = inside.status().unwrap();
    ExitCode::from(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1))
}

/// The first process of a namespace ignores signals that it does not handle.
fn end_on_signals() {
    std::thread::spawn(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            use tokio::signal::unix::{SignalKind, signal};
            let mut interrupt = signal(SignalKind::interrupt()).unwrap();
            let mut terminate = signal(SignalKind::terminate()).unwrap();
            tokio::select! { _ = interrupt.recv() => {}, _ = terminate.recv() => {} }
        });
        std::process::exit(130);
    });
}
