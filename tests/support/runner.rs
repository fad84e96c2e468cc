//! Runs cases and prints `RESULT <area> <step> pass|fail|skip <why>` and a count.
//!
//! The cases of an area run one after the other; a few areas run at once, as most of what takes long is waiting. Each
//! is the same program once more in process and mount namespaces of its own, so that it meets nothing of others, and nothing
//! that a case starts or mounts outlives it, however it ends.

use anyhow::{Result, anyhow};
use std::collections::VecDeque;
use std::fmt::Display;
use std::future::Future;
use std::io::{BufRead, BufReader};
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::process::{Command, ExitCode, Stdio};
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

/// Says to the program which area it is to run, and that it is in its namespaces.
const AREA: &str = "POOLD_TEST_AREA";

/// Logs of the case that runs.
static LOG: Mutex<String> = Mutex::new(String::new());

/// Keeps a log, of which the end is shown if the case fails.
pub fn note(log: String) {
    LOG.lock().unwrap().push_str(&log);
}

fn show_log(area: &str) {
    let log = std::mem::take(&mut *LOG.lock().unwrap());
    let lines: Vec<_> = log.lines().collect();
    lines[lines.len().saturating_sub(20)..].iter().for_each(|line| println!("    {area}: {line}"));
}

/// Prints a step that passed.
pub fn pass(area: &str, step: impl Display) {
    pass_with(area, step, "");
}

/// The same with a note.
pub fn pass_with(area: &str, step: impl Display, note: impl Display) {
    println!("{}", format!("RESULT {area} {step} pass {note}").trim_end());
}

/// Prints a step that failed.
pub fn fail(area: &str, step: impl Display, why: impl Display) {
    println!("RESULT {area} {step} fail {}", why.to_string().replace('\n', " | "));
}

/// Prints a step that could not be tried.
pub fn skip(area: &str, step: impl Display, why: impl Display) {
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
    let wanted = cases.iter().filter(|case| {
        let full = format!("{}::{}", case.area, case.name);
        wanted.is_empty() || wanted.iter().any(|wanted| full.contains(wanted.as_str()))
    });
    if let Ok(area) = std::env::var(AREA) {
        end_on_signals();
        wanted.filter(|case| case.area == area).for_each(run);
        return ExitCode::SUCCESS;
    }
    let mut areas = VecDeque::new();
    for case in wanted {
        if !areas.contains(&case.area) {
            areas.push_back(case.area);
        }
    }
    let counts = if can_unshare() {
        run_areas(areas)
    } else {
        skip(tier, "all", "no namespaces here: needs root");
        [0, 0, 1]
    };
    println!("{tier} tier: {}", in_words(counts));
    if counts[1] == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Runs areas, as many at once as there are processors; the sum of passed, failed and skipped.
fn run_areas(areas: VecDeque<&'static str>) -> [usize; 3] {
    let lanes = std::thread::available_parallelism().map_or(2, usize::from).min(areas.len());
    let (areas, sum) = (Mutex::new(areas), Mutex::new([0; 3]));
    std::thread::scope(|scope| {
        for _ in 0..lanes {
            scope.spawn(|| {
                while let Some(area) = { areas.lock().unwrap().pop_front() } {
                    let counts = run_area(area);
                    let mut sum = sum.lock().unwrap();
                    (0..3).for_each(|outcome| sum[outcome] += counts[outcome]);
                }
            });
        }
    });
    sum.into_inner().unwrap()
}

/// Runs an area in namespaces of its own, and passes on and counts what it prints.
fn run_area(area: &str) -> [usize; 3] {
    let begun = Instant::now();
    let mut counts = [0; 3];
    let mut inside = Command::new("setpriv");
    inside
        .args(["--pdeathsig", "KILL", "unshare"])
        .args(UNSHARE)
        .arg(std::env::current_exe().unwrap())
        .args(std::env::args_os().skip(1));
    let mut inside = inside.env(AREA, area).stdout(Stdio::piped()).spawn().unwrap();
    for line in BufReader::new(inside.stdout.take().unwrap()).split(b'\n') {
        let line = String::from_utf8_lossy(&line.unwrap()).into_owned();
        println!("{line}");
        // A step may have several words.
        if let Some(said) = line.strip_prefix("RESULT ") {
            let outcome = |word| ["pass", "fail", "skip"].iter().position(|each| *each == word);
            counts[said.split(' ').skip(2).find_map(outcome).expect("an outcome")] += 1;
        }
    }
    let status = inside.wait().unwrap();
    if !status.success() {
        fail(area, "all", format!("its program ended with {status}"));
        counts[1] += 1;
    }
    println!("{area}: {} in {} s", in_words(counts), begun.elapsed().as_secs());
    counts
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
                show_log(case.area);
            }
        },
        Err(panic) => {
            let why = panic
                .downcast_ref::<String>()
                .map(String::as_str)
                .or_else(|| panic.downcast_ref::<&str>().copied())
                .unwrap_or("panicked");
            fail(case.area, step, why);
            show_log(case.area);
        }
    }
}

/// How a program is run in namespaces of its own.
const UNSHARE: [&str; 6] =
    ["--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "--propagation=slave"];

fn can_unshare() -> bool {
    let possible = Command::new("unshare").args(UNSHARE).arg("true").output();
    possible.is_ok_and(|output| output.status.success())
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
