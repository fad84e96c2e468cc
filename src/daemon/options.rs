//! The command line of poold.

use super::config::Period;
use clap::Parser;
use std::path::PathBuf;

/// The storage pool and volume service.
///
/// Normally started by systemd: by the first call to org.poold1, by the first connection to
/// /run/poold/bus, or at boot.
#[derive(Debug, Parser)]
#[command(name = "poold", version)]
pub(super) struct Options {
    /// Bus to serve, instead of the system bus
    #[arg(long, value_name = "ADDRESS")]
    pub(super) address: Option<String>,

    /// Directory below which etc/poold, var/lib/poold and run/poold are
    #[arg(long, value_name = "DIR", default_value = "/")]
    pub(super) root: PathBuf,

    /// Configuration, instead of etc/poold/poold.toml below the root
    #[arg(long, value_name = "FILE")]
    pub(super) config: Option<PathBuf>,

    /// Serve run/poold/bus below the root although systemd passes no socket
    #[arg(long)]
    pub(super) listen: bool,

    /// How long to stay when idle ("500ms", "2min", seconds); 0: for ever
    #[arg(long, value_name = "PERIOD")]
    pub(super) idle_timeout: Option<Period>,

    /// error, warn, info, debug or trace
    #[arg(long, value_name = "LEVEL")]
    pub(super) log_level: Option<tracing::Level>,
}

impl Options {
    /// The configuration file, and whether it must exist because it was asked for by name.
    pub(super) fn config_file(&self) -> (PathBuf, bool) {
        match &self.config {
            Some(file) => (file.clone(), true),
            None => (self.root.join("etc/poold/poold.toml"), false),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Options::command().debug_assert();
    }

    #[test]
    fn the_configuration_is_below_the_root_and_optional_there() {
        let options = Options::parse_from(["poold", "--root", "/tmp/r"]);
        assert_eq!(options.config_file(), ("/tmp/r/etc/poold/poold.toml".into(), false));
        let options = Options::parse_from(["poold", "--config", "x.toml"]);
        assert_eq!(options.config_file(), ("x.toml".into(), true));
    }
}
