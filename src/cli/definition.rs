//! Commands on definitions: from a document, from options, in an editor, checked only.

use super::follow::{Step, complete, report};
use super::options::{
    CreateArgs, DefineArgs, DefineCommon, DefinitionCommand, Global, ValidateArgs,
};
use super::output;
use super::session::Session;
use super::values::Build;
use crate::client::{ObjectPath, Options};
use crate::model::{Error, ErrorKind, Result};
use anyhow::Context;
use std::fs::{self, OpenOptions};
use std::io::{self, IsTerminal, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Longest document that poold takes, and one byte, so that poold says that there is more.
const MOST: u64 = (1 << 20) + 1;

/// Runs a command on definitions.
pub(super) async fn run(session: &Session, command: DefinitionCommand) -> anyhow::Result<()> {
    match command {
        DefinitionCommand::Define(args) => define(session, &args).await,
        DefinitionCommand::Create(args) => create(session, &args).await,
        DefinitionCommand::Edit { pool } => edit(session, &pool).await,
    }
}

/// Checks a document without the service.
pub(super) fn validate(args: &ValidateArgs, global: &Global) -> anyhow::Result<()> {
    let text = read(&args.file)?;
    let document = crate::xml::canonical(&text, args.pool_type)?;
    output::print_document(&document, global.json)
}

async fn define(session: &Session, args: &DefineArgs) -> anyhow::Result<()> {
    let xml = read(&args.file)?;
    let (options, _agent) = session.start_job().await;
    let options = add(options, &args.common, args.build, args.start);
    let (pool, job) = session.manager().await?.define_pool_xml(&xml, &options).await?;
    defined(session, &args.common, pool, job, &args.file.display().to_string(), args.start).await
}

async fn create(session: &Session, args: &CreateArgs) -> anyhow::Result<()> {
    let settings = args.settings.to_options()?;
    let (options, _agent) = session.start_job().await;
    let options = add(options, &args.common, Some(args.build), !args.no_start);
    let manager = session.manager().await?;
    let (pool, job) =
        manager.define_pool(args.pool_type.as_str(), &args.name, &settings, &options).await?;
    defined(session, &args.common, pool, job, &args.name, !args.no_start).await
}

fn add(
    mut options: Options<'static>,
    common: &DefineCommon,
    build: Option<Build>,
    start: bool,
) -> Options<'static> {
    for (key, flag) in [
        ("start", start),
        ("autostart", common.autostart),
        ("transient", common.transient),
        ("validate-only", common.validate_only),
    ] {
        if flag {
            options.insert(key, true.into());
        }
    }
    options.extend(build.map(|build| ("build", build.as_str().into())));
    options
}

/// Stays with the job that builds and starts a new pool.
async fn defined(
    session: &Session,
    common: &DefineCommon,
    pool: ObjectPath,
    job: ObjectPath,
    from: &str,
    start: bool,
) -> anyhow::Result<()> {
    if common.validate_only {
        return report(session, None, &Step::new("Checking", "Valid:", from)).await;
    }
    let name = session.pool_at(pool.clone()).await?.name().await?;
    let done = if start { "Defined and started" } else { "Defined" };
    let step = Step::new("Starting", done, format!("pool {name}"));
    let missed = if start { "started" } else { "built" };
    complete(session, job, Some(&pool), &step)
        .await
        .with_context(|| format!("pool {name} is defined, but not {missed}"))
}

async fn edit(session: &Session, pool: &str) -> anyhow::Result<()> {
    let (options, _agent) = session.change().await;
    let pool = session.pool(pool).await?;
    let name = pool.name().await?;
    let inactive = Options::from([("inactive", true.into())]);
    let old = pool.get_xml(&inactive).await?;
    let file = Draft::new(&name, &old)?;
    loop {
        file.open_in_editor().await?;
        let new = file.read()?;
        if new == old {
            return report(
                session,
                None,
                &Step::new("Editing", "Not changed:", format!("pool {name}")),
            )
            .await;
        }
        match session.manager().await?.define_pool_xml(&new, &options).await {
            Ok((pool, _)) => {
                let step = Step::new("Editing", "Changed", format!("pool {name}"));
                return report(session, Some(&pool), &step).await;
            }
            Err(error) if !again(&error)? => {
                let kept = file.keep();
                return Err(error.context(format!("your text is in {}", kept.display())).into());
            }
            Err(_) => {}
        }
    }
}

/// Shows what is wrong and asks whether to go on; never, if nobody can be asked.
fn again(error: &Error) -> io::Result<bool> {
    if !io::stdin().is_terminal() {
        return Ok(false);
    }
    let mut stderr = io::stderr();
    write!(stderr, "poolctl: {}\nEdit again? [Y/n] ", output::printable(error.message()))?;
    stderr.flush()?;
    let mut answer = String::new();
    let typed = io::stdin().read_line(&mut answer)?;
    Ok(typed > 0 && !answer.trim().to_ascii_lowercase().starts_with('n'))
}

/// The whole of a file, or of standard input for `-`.
pub(super) fn read(path: &Path) -> Result<String> {
    let what = || format!("cannot read {}", path.display());
    let file: Box<dyn Read> = if path == Path::new("-") {
        Box::new(io::stdin())
    } else {
        Box::new(fs::File::open(path).map_err(|error| Error::io(what(), &error))?)
    };
    let mut bytes = Vec::new();
    file.take(MOST).read_to_end(&mut bytes).map_err(|error| Error::io(what(), &error))?;
    String::from_utf8(bytes)
        .map_err(|_| Error::new(ErrorKind::InvalidXml, format!("{} is not UTF-8", path.display())))
}

/// A text in an editor, in a file that is nobody else's and goes when it is done.
struct Draft(PathBuf);

impl Draft {
    fn new(name: &str, text: &str) -> Result<Self> {
        let id = crate::model::Uuid::new_v4().simple();
        let path = std::env::temp_dir().join(format!("poolctl-{id}-{name}.xml"));
        let failed = |error| Error::io(format!("cannot write {}", path.display()), &error);
        let mut options = OpenOptions::new();
        let mut file =
            options.write(true).create_new(true).mode(0o600).open(&path).map_err(failed)?;
        file.write_all(text.as_bytes()).map_err(failed)?;
        Ok(Self(path))
    }

    /// Runs the user's editor, which may be a command with arguments.
    async fn open_in_editor(&self) -> Result<()> {
        let chosen = ["VISUAL", "EDITOR"]
            .iter()
            .find_map(|name| std::env::var(name).ok().filter(|value| !value.trim().is_empty()));
        let editor = chosen.unwrap_or_else(|| "vi".to_owned());
        let status = tokio::process::Command::new("sh")
            .args(["-c", &format!("{editor} \"$1\""), "sh"])
            .arg(&self.0)
            .status()
            .await
            .map_err(|error| Error::io(format!("cannot run the editor {editor:?}"), &error))?;
        if status.success() {
            return Ok(());
        }
        Err(Error::new(
            ErrorKind::Failed,
            format!(
                "the editor {editor:?} failed ({status}), so nothing changes; EDITOR can name another"
            ),
        ))
    }

    fn read(&self) -> Result<String> {
        read(&self.0)
    }

    /// Leaves the file where it is.
    fn keep(self) -> PathBuf {
        let path = self.0.clone();
        std::mem::forget(self);
        path
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        // Editors rename and remove; one that is gone is as wanted.
        let _ = fs::remove_file(&self.0);
    }
}
