//! Commands on secrets. Values go through pipes alone and are shown by nothing.

use super::options::{SecretCommand, SetSecretArgs};
use super::output::Emphasis;
use super::record::{record, text};
use super::session::Session;
use super::table::{Field, Shown};
use crate::client::{self, Options, SecretProxy};
use crate::model::{Error, ErrorKind, Result};
use nix::sys::termios::{LocalFlags, SetArg, tcgetattr, tcsetattr};
use std::io::{self, BufRead, IsTerminal, Read, Write};
use std::os::fd::AsFd;
use std::path::Path;
use zeroize::Zeroizing;

/// Columns of `secret list`.
const COLUMNS: &[Field] = &[
    ("UUID", "uuid", Shown::Text),
    ("TYPE", "usage-type", Shown::Text),
    ("NAME", "usage-name", Shown::Text),
    ("EPHEMERAL", "ephemeral", Shown::Flag),
    ("DESCRIPTION", "description", Shown::Text),
];
/// Where secrets are.
const SECRETS: &str = "/org/poold1/secrets";
/// Largest value; as much as a pipe holds, so that it is written before anybody reads.
const MAX_VALUE: usize = 64 << 10;

/// Runs a command on secrets.
pub(super) async fn run(session: &Session, command: SecretCommand) -> anyhow::Result<()> {
    match command {
        SecretCommand::List => list(session).await,
        SecretCommand::Set(args) => set(session, &args).await,
        SecretCommand::Delete { secrets } => {
            for secret in secrets {
                delete(session, &secret).await?;
            }
            Ok(())
        }
        SecretCommand::Dump { secret } => {
            let xml = find(session, &secret).await?.get_xml(&Options::new()).await?;
            super::output::print_document(&xml, session.global.json)
        }
    }
}

async fn list(session: &Session) -> anyhow::Result<()> {
    let found = client::objects(&session.connection, SECRETS).await?;
    let mut rows: Vec<_> =
        found.iter().map(|(path, properties)| record(path, properties)).collect();
    rows.sort_by(|a, b| {
        let key = |row| (text(row, "usage-type").to_owned(), text(row, "usage-name").to_owned());
        key(a).cmp(&key(b))
    });
    session.show_list(COLUMNS, rows, |_| Emphasis::None)
}

async fn set(session: &Session, args: &SetSecretArgs) -> anyhow::Result<()> {
    let document = args.xml.as_deref().map(super::definition::read).transpose()?;
    let value = read(&args.file, args.raw)?;
    let (mut options, _agent) = session.change().await;
    for (key, value) in [
        ("uuid", &args.uuid),
        ("usage-type", &args.usage_type),
        ("usage-name", &args.usage_name),
        ("description", &args.description),
    ] {
        options.extend(value.as_deref().map(|value| (key, value.into())));
    }
    options.extend(args.ephemeral.then(|| ("ephemeral", true.into())));
    let pipe = |error| Error::io("cannot pass the value", &error);
    let (reader, mut writer) = io::pipe().map_err(pipe)?;
    writer.write_all(&value).map_err(pipe)?;
    drop(writer);
    let manager = session.manager().await?;
    let path = match document {
        Some(xml) => manager.set_secret_xml((&reader).into(), &xml, &options).await?,
        None => manager.set_secret((&reader).into(), &options).await?,
    };
    let properties = session.properties(&path).await?;
    let record = record(&path, &properties);
    if session.global.json {
        return super::output::print_json(&record.into(), true);
    }
    match session.global.quiet {
        true => Ok(()),
        false => super::output::print(&format!("Set secret {}\n", text(&record, "uuid"))),
    }
}

/// The secret of that uuid or usage name.
async fn find(session: &Session, secret: &str) -> anyhow::Result<SecretProxy<'static>> {
    let found = client::objects(&session.connection, SECRETS).await?;
    let is_it = |key: &str, row: &super::record::Record| text(row, key) == secret;
    let mut paths = found.into_iter().filter_map(|(path, properties)| {
        let row = record(&path, &properties);
        (is_it("uuid", &row) || is_it("usage-name", &row)).then_some(path)
    });
    let (kind, message) = match (paths.next(), paths.next()) {
        (Some(path), None) => return Ok(SecretProxy::new(&session.connection, path).await?),
        (None, _) => (ErrorKind::NotFound, format!("there is no secret {secret:?}")),
        (Some(_), Some(_)) => {
            let message =
                format!("several secrets have the usage name {secret:?}; name one by its UUID");
            (ErrorKind::InvalidArgument, message)
        }
    };
    Err(Error::new(kind, message).into())
}

async fn delete(session: &Session, secret: &str) -> anyhow::Result<()> {
    let found = find(session, secret).await?;
    let (options, _agent) = session.change().await;
    found.delete(&options).await?;
    match session.global.quiet || session.global.json {
        true => Ok(()),
        false => {
            super::output::print(&format!("Deleted secret {}\n", super::output::printable(secret)))
        }
    }
}

/// Reads a value: twice from a terminal, else once to its end. The newline that ends a text is no
/// part of it, unless `raw`.
fn read(file: &Path, raw: bool) -> Result<Zeroizing<Vec<u8>>> {
    let failed =
        |error: io::Error| Error::io(format_args!("cannot read {}", file.display()), &error);
    let mut value = Zeroizing::new(Vec::with_capacity(MAX_VALUE + 2));
    let most = MAX_VALUE as u64 + 2;
    if file != Path::new("-") {
        let opened = std::fs::File::open(file).map_err(failed)?;
        opened.take(most).read_to_end(&mut value).map_err(failed)?;
    } else if io::stdin().is_terminal() {
        let first = ask("Value: ").map_err(failed)?;
        let second = ask("Again: ").map_err(failed)?;
        if *first != *second {
            return Err(Error::new(ErrorKind::InvalidArgument, "the two values differ"));
        }
        return Ok(first);
    } else {
        io::stdin().lock().take(most).read_to_end(&mut value).map_err(failed)?;
    }
    if !raw && value.last() == Some(&b'\n') {
        value.pop();
    }
    match value.len() {
        length if length <= MAX_VALUE => Ok(value),
        _ => Err(Error::new(ErrorKind::LimitsExceeded, "the value is larger than 64 KiB")),
    }
}

/// Asks on the terminal without showing what is typed.
fn ask(prompt: &str) -> io::Result<Zeroizing<Vec<u8>>> {
    let stdin = io::stdin();
    let before = tcgetattr(stdin.as_fd())?;
    let mut silent = before.clone();
    silent.local_flags.remove(LocalFlags::ECHO);
    eprint!("{prompt}");
    tcsetattr(stdin.as_fd(), SetArg::TCSAFLUSH, &silent)?;
    let mut line = Zeroizing::new(Vec::with_capacity(4096));
    let read = stdin.lock().read_until(b'\n', &mut line);
    tcsetattr(stdin.as_fd(), SetArg::TCSAFLUSH, &before)?;
    eprintln!();
    read?;
    if line.last() == Some(&b'\n') {
        line.pop();
    }
    Ok(line)
}
