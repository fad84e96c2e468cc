//! poolctl: its commands, and how their results are shown.
//!
//! `options` says what may be typed, a module per noun does it through `client`, `record` and
//! `table` show it. A command that starts a job follows it (`follow`) to its end.

mod agent;
mod definition;
mod follow;
mod job;
mod monitor;
mod options;
mod output;
mod pool;
mod record;
mod secret;
mod session;
mod settings;
mod table;
mod transfer;
mod values;
mod volume;

use crate::model::{Error, ErrorKind};
use clap::{CommandFactory, Parser};
use options::{Cli, Command, ServiceCommand};
use std::io;
use std::process::ExitCode;

/// Everything that may be typed, for the manual page and its test.
pub fn command() -> clap::Command {
    Cli::command()
}

/// Runs poolctl with the process's arguments.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are errors to clap; it knows where each goes and its status.
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    match run(cli) {
        Ok(()) => ExitCode::SUCCESS,
        // Whoever read our output has seen enough.
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            output::complain(&error);
            ExitCode::from(exit_status(&error))
        }
    }
}

fn run(cli: Cli) -> anyhow::Result<()> {
    match cli.command {
        Command::Validate(args) => definition::validate(&args, &cli.global),
        Command::Completion { shell } => output::print(&completion(shell)),
        Command::Service(command) => {
            let runtime = tokio::runtime::Builder::new_multi_thread()
                .worker_threads(2)
                .enable_all()
                .build()
                .map_err(|error| Error::io("cannot start", &error))?;
            runtime.block_on(talk(cli.global, *command))
        }
    }
}

/// Runs a command that needs the service.
async fn talk(global: options::Global, command: ServiceCommand) -> anyhow::Result<()> {
    let session = session::Session::open(global).await?;
    match command {
        ServiceCommand::Pool(command) => pool::run(&session, command).await,
        ServiceCommand::Definition(command) => definition::run(&session, command).await,
        ServiceCommand::Vol(command) => volume::run(&session, command).await,
        ServiceCommand::Secret(command) => secret::run(&session, command).await,
        ServiceCommand::Job(command) => job::run(&session, command).await,
        ServiceCommand::Monitor => monitor::run(&session).await,
    }
}

/// The shell's completion script.
fn completion(shell: clap_complete::Shell) -> String {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut command(), "poolctl", &mut script);
    String::from_utf8_lossy(&script).into_owned()
}

fn exit_status(error: &anyhow::Error) -> u8 {
    error.downcast_ref::<Error>().map_or(ErrorKind::Failed, Error::kind).exit_status()
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}
