//! The process: options, configuration, logging, activation, lifecycle.
//!
//! Puts the layers together and talks to the service manager; called by `bin/poold`.

mod activation;
mod config;
mod jobs;
mod lifecycle;
mod logging;
mod notify;
mod options;

use crate::host::{exit_now, give_back_freed_memory, keep_out_of_dumps};
use crate::model::{Error, Result};
use clap::Parser;
use config::Config;
use nix::sys::stat::{Mode, umask};
use std::process::ExitCode;
use tracing::error;

/// Exit status of a configuration that cannot be read (EX_CONFIG): the unit does not try again.
const BAD_CONFIGURATION: u8 = 78;

/// Runs poold with the process's arguments.
pub fn main() -> ExitCode {
    give_back_freed_memory();
    let options = options::Options::parse();
    umask(Mode::from_bits_truncate(0o077));
    let (file, must_exist) = options.config_file();
    let config = match Config::load(&file, must_exist) {
        Ok(config) => config.with_options(&options),
        Err(error) => {
            eprintln!("poold: {error}");
            return ExitCode::from(BAD_CONFIGURATION);
        }
    };
    let logging = logging::Logging::start(config.log_level());
    let served = keep_out_of_dumps().and_then(|()| runtime()).and_then(|runtime| {
        let served = runtime.block_on(lifecycle::run(options, config, logging));
        // Dropped, it would wait for its threads.
        std::mem::forget(runtime);
        served
    });
    match served {
        Ok(()) => exit_now(0),
        Err(error) => {
            error!("{error}");
            exit_now(1)
        }
    }
}

/// Two event threads suffice: storage has threads of its own.
fn runtime() -> Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name("event")
        .enable_all()
        .build()
        .map_err(|error| Error::io("cannot start threads", &error))
}
