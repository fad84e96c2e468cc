//! Who competes, and the race.

use crate::support::{median, milliseconds};
use anyhow::{Context, Result};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

/// One way of doing a job.
pub struct Contender<'a> {
    name: &'static str,
    /// Why it cannot compete here.
    absent: Option<String>,
    /// What is made before the time runs.
    prepare: Box<dyn Fn() -> Result<()> + 'a>,
    run: Box<dyn Fn() -> Result<()> + 'a>,
    /// What is taken away afterwards.
    clear: Box<dyn Fn() -> Result<()> + 'a>,
    /// Where its result is, when not where the others have it.
    result: Option<PathBuf>,
}

impl<'a> Contender<'a> {
    /// One that needs nothing made before.
    pub fn new(
        name: &'static str,
        run: impl Fn() -> Result<()> + 'a,
        clear: impl Fn() -> Result<()> + 'a,
    ) -> Self {
        Self {
            name,
            absent: None,
            prepare: Box::new(|| Ok(())),
            run: Box::new(run),
            clear: Box::new(clear),
            result: None,
        }
    }

    /// One that is not here.
    pub fn absent(name: &'static str, why: &str) -> Self {
        let absent = Some(why.to_owned());
        Self { absent, ..Self::new(name, || Ok(()), || Ok(())) }
    }

    /// The same with something to make before each run.
    pub fn prepared(self, prepare: impl Fn() -> Result<()> + 'a) -> Self {
        Self { prepare: Box::new(prepare), ..self }
    }

    /// The same, whose result is elsewhere.
    pub fn instead(self, result: &Path) -> Self {
        Self { result: Some(result.to_owned()), ..self }
    }
}

/// A line for the shell that makes `result`.
pub fn shell<'a>(name: &'static str, line: String, result: &Path) -> Contender<'a> {
    let result = result.to_owned();
    let run = move || done(Command::new("sh").arg("-c").arg(&line));
    Contender::new(name, run, move || remove(&result))
}

/// A program without a shell.
pub struct Program {
    name: &'static str,
    words: Vec<String>,
    result: PathBuf,
}

/// A program that makes `result`, its next argument.
pub fn command(name: &'static str, words: &[&str], result: &Path) -> Program {
    let words = words.iter().map(|word| (*word).to_owned()).collect();
    Program { name, words, result: result.to_owned() }
}

impl Program {
    /// With a last argument.
    pub fn with<'a>(self, last: &'static str) -> Contender<'a> {
        let Self { name, words, result } = self;
        let made = result.clone();
        let run = move || {
            let (program, arguments) = words.split_first().context("a program")?;
            done(Command::new(program).args(arguments).arg(&made).arg(last))
        };
        Contender::new(name, run, move || remove(&result))
    }
}

/// Runs a command that has to succeed.
pub fn done(command: &mut Command) -> Result<()> {
    let output = command.output().with_context(|| format!("{command:?}"))?;
    let complaint = String::from_utf8_lossy(&output.stderr);
    anyhow::ensure!(output.status.success(), "{command:?}: {complaint}");
    Ok(())
}

/// Removes a file that may be gone.
pub fn remove(path: &Path) -> Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
        _ => Ok(()),
    }
}

/// Lets them run in turn and prints the medians: the first one's beside each other's. `check` is what their results must
/// equal, and where they are.
pub fn compare(
    title: &str,
    rounds: usize,
    check: Option<(&Path, &Path)>,
    contenders: Vec<Contender<'_>>,
) -> Result<()> {
    let (present, absent): (Vec<_>, Vec<_>) =
        contenders.into_iter().partition(|contender| contender.absent.is_none());
    let mut times = vec![Vec::new(); present.len()];
    // The first round warms up and does not count.
    for round in 0..=rounds {
        for (contender, times) in present.iter().zip(&mut times) {
            (contender.prepare)().context(contender.name)?;
            rustix::fs::sync();
            let start = Instant::now();
            (contender.run)().with_context(|| format!("{title}: {}", contender.name))?;
            let took = milliseconds(start);
            if round > 0 {
                times.push(took);
            }
            if let Some((source, result)) = check {
                let result = contender.result.as_deref().unwrap_or(result);
                done(Command::new("cmp").arg("--").arg(source).arg(result))
                    .with_context(|| format!("{title}: what {} made differs", contender.name))?;
            }
            (contender.clear)().context(contender.name)?;
        }
    }
    let medians: Vec<_> = times.into_iter().map(median).collect();
    let Some((ours, theirs)) = medians.split_first() else { return Ok(()) };
    println!("  {title:<40}{ours:>12.2} ms");
    for (contender, their) in present.iter().skip(1).zip(theirs) {
        println!("{:>56}{:>24}{their:>12.2} ms{:>8.2}", "", contender.name, their / ours);
    }
    for contender in absent {
        let why = contender.absent.unwrap_or_default();
        println!("{:>56}{:>24}   not here: {why}", "", contender.name);
    }
    Ok(())
}
