//! `poold.toml`: what can be configured, read strictly: an unknown key is an error.

use super::options::Options;
use crate::bus::FaceOptions;
use crate::engine::EngineOptions;
use crate::model::{Error, ErrorKind, Result};
use serde::Deserialize;
use serde::de::{self, Deserializer, Visitor};
use std::fmt;
use std::path::Path;
use std::str::FromStr;
use std::time::Duration;

/// A length of time: whole seconds, or text with a unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Period(pub(super) Duration);

/// Units of a [`Period`] and their milliseconds.
const UNITS: &[(&str, u64)] =
    &[("ms", 1), ("s", 1000), ("min", 60_000), ("h", 3_600_000), ("", 1000)];

impl FromStr for Period {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is no period; say \"500ms\", \"15s\", \"2min\" or \"1h\"");
        let text_number = text.trim_end_matches(|c: char| !c.is_ascii_digit());
        let unit = text[text_number.len()..].trim();
        let number: u64 = text_number.parse().map_err(|_| wrong())?;
        let (_, scale) = UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(wrong)?;
        let millis = number.checked_mul(*scale).ok_or_else(wrong)?;
        Ok(Self(Duration::from_millis(millis)))
    }
}

impl<'de> Deserialize<'de> for Period {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct PeriodVisitor;
        impl Visitor<'_> for PeriodVisitor {
            type Value = Period;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("whole seconds or a period such as \"15s\"")
            }
            fn visit_i64<E: de::Error>(self, seconds: i64) -> Result<Period, E> {
                let seconds =
                    u64::try_from(seconds).map_err(|_| E::custom("a period cannot be negative"))?;
                Ok(Period(Duration::from_secs(seconds)))
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Period, E> {
                text.parse().map_err(E::custom)
            }
        }
        deserializer.deserialize_any(PeriodVisitor)
    }
}

/// A level of logging by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Level(pub(super) tracing::Level);

impl<'de> Deserialize<'de> for Level {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map(Self).map_err(|_| {
            de::Error::custom(format!(
                "{text:?} is no log level; say error, warn, info, debug or trace"
            ))
        })
    }
}

/// The configuration file.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub(super) struct Config {
    idle_timeout: Period,
    log_level: Level,
    timeouts: Timeouts,
    limits: Limits,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
struct Timeouts {
    refresh: Period,
    start: Period,
    stop: Period,
    answer: Period,
    job_retention: Period,
    retry_first: Period,
    retry_longest: Period,
    rescan: Period,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
struct Limits {
    jobs: usize,
    jobs_per_user: usize,
    workers: usize,
    authorisations_per_user: usize,
    calls_per_caller: usize,
    peers: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            idle_timeout: Period(Duration::from_secs(120)),
            log_level: Level(tracing::Level::INFO),
            timeouts: Timeouts::default(),
            limits: Limits::default(),
        }
    }
}

impl Default for Timeouts {
    fn default() -> Self {
        let (engine, face) = (EngineOptions::default(), FaceOptions::default());
        Self {
            refresh: Period(engine.refresh_timeout),
            start: Period(engine.start_timeout),
            stop: Period(engine.stop_timeout),
            answer: Period(face.wait),
            job_retention: Period(engine.job_retention),
            retry_first: Period(engine.retry.0),
            retry_longest: Period(engine.retry.1),
            rescan: Period(engine.rescan),
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        let (engine, face) = (EngineOptions::default(), FaceOptions::default());
        Self {
            jobs: engine.max_jobs,
            jobs_per_user: engine.max_jobs_per_uid,
            workers: engine.workers,
            authorisations_per_user: face.max_authorisations_per_uid,
            calls_per_caller: face.max_calls_per_caller,
            peers: face.max_peers,
        }
    }
}

impl Config {
    /// Reads a configuration file; one that is not there is the default unless it `must_exist`.
    pub(super) fn load(file: &Path, must_exist: bool) -> Result<Self> {
        let text = match std::fs::read_to_string(file) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && !must_exist => {
                return Ok(Self::default());
            }
            Err(error) => {
                return Err(Error::io(format!("cannot read {}", file.display()), &error));
            }
        };
        Self::parse(&text).map_err(|error| error.context(file.display()))
    }

    fn parse(text: &str) -> Result<Self> {
        let invalid = |message: String| Error::new(ErrorKind::InvalidArgument, message);
        let config: Self = toml::from_str(text).map_err(|error| invalid(error.to_string()))?;
        match config.nonsense() {
            Some(message) => Err(invalid(message)),
            None => Ok(config),
        }
    }

    /// What cannot work although it can be read.
    fn nonsense(&self) -> Option<String> {
        let (t, l) = (&self.timeouts, &self.limits);
        let periods = [
            ("timeouts.refresh", t.refresh),
            ("timeouts.start", t.start),
            ("timeouts.stop", t.stop),
            ("timeouts.retry-first", t.retry_first),
            ("timeouts.retry-longest", t.retry_longest),
            ("timeouts.rescan", t.rescan),
        ];
        let counts = [
            ("limits.jobs", l.jobs),
            ("limits.jobs-per-user", l.jobs_per_user),
            ("limits.workers", l.workers),
            ("limits.authorisations-per-user", l.authorisations_per_user),
            ("limits.calls-per-caller", l.calls_per_caller),
            ("limits.peers", l.peers),
        ];
        let zero = (periods.iter().filter(|(_, period)| period.0.is_zero()).map(|(key, _)| key))
            .chain(counts.iter().filter(|(_, count)| *count == 0).map(|(key, _)| key))
            .next();
        if let Some(key) = zero {
            return Some(format!("{key} must be more than 0"));
        }
        (t.retry_first.0 > t.retry_longest.0)
            .then(|| "timeouts.retry-first must not exceed timeouts.retry-longest".into())
    }

    /// The same where the command line does not say otherwise.
    pub(super) fn with_options(mut self, options: &Options) -> Self {
        self.idle_timeout = options.idle_timeout.unwrap_or(self.idle_timeout);
        self.log_level = options.log_level.map_or(self.log_level, Level);
        self
    }

    /// How long to stay when idle; none: for ever.
    pub(super) fn idle_timeout(&self) -> Option<Duration> {
        Some(self.idle_timeout.0).filter(|period| !period.is_zero())
    }

    /// The level of logging.
    pub(super) fn log_level(&self) -> tracing::Level {
        self.log_level.0
    }

    /// The engine's part.
    pub(super) fn engine_options(&self, root: &Path) -> EngineOptions {
        let (t, l) = (&self.timeouts, &self.limits);
        EngineOptions {
            refresh_timeout: t.refresh.0,
            start_timeout: t.start.0,
            stop_timeout: t.stop.0,
            job_retention: t.job_retention.0,
            max_jobs: l.jobs,
            max_jobs_per_uid: l.jobs_per_user,
            workers: l.workers,
            retry: (t.retry_first.0, t.retry_longest.0),
            // The key of the host is outside of any other root.
            seal_secrets: root == Path::new("/") && Path::new("/run/systemd/system").exists(),
            rescan: t.rescan.0,
        }
    }

    /// The bus's part.
    pub(super) fn face_options(&self) -> FaceOptions {
        let l = &self.limits;
        FaceOptions {
            wait: self.timeouts.answer.0,
            max_authorisations_per_uid: l.authorisations_per_user,
            max_calls_per_caller: l.calls_per_caller,
            max_peers: l.peers,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    /// The example that is installed.
    const EXAMPLE: &str = include_str!("../../docs/poold.toml");

    #[test]
    fn the_example_shows_every_key_with_its_default() {
        let uncommented: String = EXAMPLE
            .lines()
            .map(|line| match line.strip_prefix('#') {
                Some(key) if key.contains(" = ") => format!("{key}\n"),
                _ => format!("{line}\n"),
            })
            .collect();
        assert_eq!(Config::parse(&uncommented).unwrap(), Config::default());
        let written: toml::Table = toml::from_str(&uncommented).unwrap();
        let section = |name: &str| written[name].as_table().unwrap().len();
        assert_eq!((written.len(), section("timeouts"), section("limits")), (4, 8, 6));
    }

    #[test]
    fn the_example_as_installed_changes_nothing() {
        assert_eq!(Config::parse(EXAMPLE).unwrap(), Config::default());
    }

    #[test]
    fn the_command_line_goes_before_the_file() {
        let file = Config::parse("idle-timeout = 5\nlog-level = \"warn\"").unwrap();
        let options = |args: &[&str]| Options::parse_from([&["poold"], args].concat());
        let plain = file.clone().with_options(&options(&[]));
        assert_eq!(plain, file);
        let changed = file.with_options(&options(&["--idle-timeout", "0", "--log-level", "debug"]));
        assert_eq!((changed.idle_timeout(), changed.log_level()), (None, tracing::Level::DEBUG));
    }

    #[test]
    fn periods_are_seconds_or_have_a_unit() {
        let config = Config::parse("idle-timeout = 0\n[timeouts]\nstop = \"250ms\"").unwrap();
        assert_eq!(config.idle_timeout(), None);
        assert_eq!(config.engine_options(Path::new("/")).stop_timeout, Duration::from_millis(250));
        for (text, seconds) in [("7", 7), ("7s", 7), ("2min", 120), ("2 h", 7200)] {
            assert_eq!(text.parse(), Ok(Period(Duration::from_secs(seconds))), "{text}");
        }
        for text in ["", "s", "1.5s", "-1", "3 weeks", "99999999999999999999h"] {
            assert!(text.parse::<Period>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_key_that_is_unknown_or_makes_no_sense_is_refused_by_name() {
        for (text, named) in [
            ("idle_timeout = 3", "idle_timeout"),
            ("[limits]\nworker = 3", "worker"),
            ("[limits]\nworkers = 0", "limits.workers"),
            ("[limits]\nworkers = -1", "-1"),
            ("[timeouts]\nrefresh = \"0s\"", "timeouts.refresh"),
            ("[timeouts]\nretry-first = \"2min\"", "retry-first"),
            ("log-level = \"loud\"", "loud"),
            ("idle-timeout = -5", "negative"),
        ] {
            let error = Config::parse(text).unwrap_err();
            assert!(error.message().contains(named), "{text}: {error}");
        }
    }

    #[test]
    fn only_a_file_asked_for_by_name_must_exist() {
        let nowhere = Path::new("/nonexistent/poold.toml");
        assert_eq!(Config::load(nowhere, false).unwrap(), Config::default());
        let error = Config::load(nowhere, true).unwrap_err();
        assert!(error.message().contains("/nonexistent/poold.toml"), "{error}");
    }
}
