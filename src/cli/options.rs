//! What may be typed: commands, arguments and options. Their help is the reference; the manual page
//! docs/man/poolctl.1 says the same with examples.

use super::settings::{CloneSettings, PoolSettings, SourceSettings, VolumeSettings};
use super::transfer::Part;
use super::values::{Build, Resize, VolumeRef, pool_type, size};
use crate::model::PoolType;
use clap::{Args, Parser, Subcommand};
use std::path::PathBuf;
use std::str::FromStr;

/// Manage a host's storage as pools and volumes, through poold.
#[derive(Debug, Parser)]
#[command(name = "poolctl", version, after_help = "See poolctl(1) for examples and exit statuses.")]
pub(super) struct Cli {
    #[command(flatten)]
    pub(super) global: Global,
    #[command(subcommand)]
    pub(super) command: Command,
}

/// Options of every command.
#[derive(Debug, Args)]
#[command(next_help_heading = "Global options")]
pub(super) struct Global {
    /// D-Bus address of a bus, or of poold's own socket [default: the system bus, else
    /// unix:path=/run/poold/bus]
    #[arg(long, global = true, value_name = "ADDRESS")]
    pub(super) address: Option<String>,
    /// Print JSON; keys are the D-Bus property names in lower case with dashes
    #[arg(long, global = true)]
    pub(super) json: bool,
    /// Print sizes as exact bytes
    #[arg(long, global = true)]
    pub(super) bytes: bool,
    /// Never ask for a password, fail instead
    #[arg(long, global = true)]
    pub(super) no_ask: bool,
    /// Do not wait for the job that a command starts, print its number
    #[arg(long, global = true, overrides_with = "wait")]
    pub(super) no_wait: bool,
    /// Wait for the job that a command starts (the default)
    #[arg(long, global = true)]
    pub(super) wait: bool,
    /// Do not say what was done
    #[arg(short, long, global = true)]
    pub(super) quiet: bool,
}

/// What can be done.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    #[command(flatten)]
    Service(Box<ServiceCommand>),
    /// Check a document without the service, and print it as poold would write it
    Validate(ValidateArgs),
    /// Print the completion script of a shell
    Completion {
        /// Shell
        shell: clap_complete::Shell,
    },
}

/// What the service does.
#[derive(Debug, Subcommand)]
pub(super) enum ServiceCommand {
    #[command(flatten)]
    Pool(PoolCommand),
    #[command(flatten)]
    Definition(DefinitionCommand),
    /// Work on volumes; VOLUME is POOL/NAME, or its path
    #[command(subcommand)]
    Vol(VolCommand),
    /// Work on secrets: passphrases and keys that the service keeps
    #[command(subcommand)]
    Secret(SecretCommand),
    /// Work on jobs
    #[command(subcommand)]
    Job(JobCommand),
    /// Print what happens to pools, volumes and jobs until Ctrl-C
    Monitor,
}

/// Commands on pools.
#[derive(Debug, Subcommand)]
pub(super) enum PoolCommand {
    /// List all pools
    List {
        /// Only pools of this type
        #[arg(long = "type", value_name = "TYPE", value_parser = pool_type)]
        pool_type: Option<PoolType>,
        /// Only pools in this state
        #[arg(long, value_parser = ["inactive", "starting", "active", "inaccessible", "stopping"])]
        state: Option<String>,
    },
    /// Show everything about a pool
    Show {
        /// Name or UUID
        pool: String,
    },
    /// Make a pool usable, and read its volumes
    Start {
        /// Name or UUID
        pool: String,
        /// Build it before: with =overwrite even if that destroys data
        #[arg(long, value_name = "HOW", num_args = 0..=1, require_equals = true, default_missing_value = "yes")]
        build: Option<Build>,
        /// When it cannot start now, try again until it can
        #[arg(long)]
        retry: bool,
    },
    /// Stop a pool; its volumes stay where they are
    Stop {
        /// Name or UUID
        pool: String,
        /// Although its storage is dead or its volumes are in use
        #[arg(long)]
        force: bool,
        /// Also undo what was active before poold started the pool, such as a mount
        #[arg(long)]
        release: bool,
    },
    /// Make a pool's storage: directory, file system, volume group, partition table
    Build {
        /// Name or UUID
        pool: String,
        /// Even if that destroys data
        #[arg(long)]
        overwrite: bool,
    },
    /// Destroy the storage of an inactive pool; its definition stays
    Delete {
        /// Name or UUID
        pool: String,
        /// And the volumes in it
        #[arg(long)]
        volumes: bool,
    },
    /// Forget a pool's definition; its storage stays
    Undefine {
        /// Name or UUID
        pool: String,
    },
    /// Start a pool at boot, or not any more; without a pool, start now all that start at boot
    Autostart {
        /// Name or UUID
        pool: Option<String>,
        /// Not any more
        #[arg(long, requires = "pool")]
        disable: bool,
    },
    /// Read a pool's volumes again (happens by itself, too)
    Refresh {
        /// Name or UUID
        pool: String,
    },
    /// Print a pool's XML document
    Dump {
        /// Name or UUID
        pool: String,
        /// The definition that the next start uses
        #[arg(long)]
        inactive: bool,
    },
    /// Find what pools of a type could be made from
    Sources {
        /// Type of the pools, see poolctl types
        #[arg(value_name = "TYPE", value_parser = pool_type)]
        pool_type: PoolType,
        #[command(flatten)]
        place: Box<SourceSettings>,
    },
    /// List the types of pools, and what this host can do with them
    Types {
        /// Print libvirt's capabilities document
        #[arg(long, conflicts_with = "json")]
        xml: bool,
    },
}

/// Commands on definitions of pools.
#[derive(Debug, Subcommand)]
pub(super) enum DefinitionCommand {
    /// Define a pool from libvirt's XML document
    Define(DefineArgs),
    /// Define, build and start a pool from options
    Create(Box<CreateArgs>),
    /// Edit a pool's definition with $VISUAL or $EDITOR
    Edit {
        /// Name or UUID
        pool: String,
    },
}

/// `define`.
#[derive(Debug, Args)]
pub(super) struct DefineArgs {
    /// File with the document, or - for standard input
    #[arg(value_name = "FILE")]
    pub(super) file: PathBuf,
    /// Start it
    #[arg(long)]
    pub(super) start: bool,
    /// Build it before: with =overwrite even if that destroys data
    #[arg(long, value_name = "HOW", num_args = 0..=1, require_equals = true,
          default_missing_value = "yes")]
    pub(super) build: Option<Build>,
    #[command(flatten)]
    pub(super) common: DefineCommon,
}

/// `create`.
#[derive(Debug, Args)]
pub(super) struct CreateArgs {
    /// Name of the pool
    pub(super) name: String,
    /// Type of the pool, see poolctl types
    #[arg(long = "type", value_name = "TYPE", value_parser = pool_type, default_value = "dir")]
    pub(super) pool_type: PoolType,
    #[command(flatten)]
    pub(super) settings: PoolSettings,
    /// Do not start it
    #[arg(long)]
    pub(super) no_start: bool,
    /// Whether to build its storage before
    #[arg(long, value_name = "HOW", default_value = "yes")]
    pub(super) build: Build,
    #[command(flatten)]
    pub(super) common: DefineCommon,
}

/// What `define` and `create` share.
#[derive(Debug, Args)]
pub(super) struct DefineCommon {
    /// Start it at boot, too
    #[arg(long)]
    pub(super) autostart: bool,
    /// Forget it when it stops
    #[arg(long, conflicts_with = "autostart")]
    pub(super) transient: bool,
    /// Check everything, change nothing
    #[arg(long)]
    pub(super) validate_only: bool,
}

/// `validate`.
#[derive(Debug, Args)]
pub(super) struct ValidateArgs {
    /// File with the document, or - for standard input
    #[arg(value_name = "FILE")]
    pub(super) file: PathBuf,
    /// Type of the pool that a volume document is for
    #[arg(long, value_name = "TYPE", value_parser = pool_type)]
    pub(super) pool_type: Option<PoolType>,
}

/// Commands on volumes. VOLUME is POOL/NAME, or the volume's path or key beginning with /.
#[derive(Debug, Subcommand)]
pub(super) enum VolCommand {
    /// List the volumes of a pool
    List {
        /// Name or UUID
        pool: String,
    },
    /// Show everything about a volume
    Show {
        /// POOL/NAME, or its path
        volume: VolumeRef,
    },
    /// Create a volume
    Create {
        /// POOL/NAME; with --xml only POOL
        #[arg(value_name = "VOLUME")]
        volume: String,
        /// Capacity, such as 10G or 512MiB; may be left out with --backing
        #[arg(value_parser = size, conflicts_with = "xml",
              required_unless_present_any = ["backing", "xml"])]
        size: Option<u64>,
        /// File with libvirt's volume document, or - for standard input
        #[arg(long, value_name = "FILE")]
        xml: Option<PathBuf>,
        #[command(flatten)]
        settings: Box<VolumeSettings>,
    },
    /// Delete volumes
    Delete {
        /// POOL/NAME, or its path
        #[arg(required = true)]
        volumes: Vec<VolumeRef>,
        /// With its snapshots, in rbd and zfs pools
        #[arg(long)]
        snapshots: bool,
        /// Although it is in use
        #[arg(long)]
        force: bool,
    },
    /// Change the capacity of a volume
    Resize {
        /// POOL/NAME, or its path
        volume: VolumeRef,
        /// New capacity, or +SIZE or -SIZE to add to it or take away
        #[arg(value_name = "SIZE", allow_hyphen_values = true, value_parser = Resize::from_str)]
        size: Resize,
        /// Allow it to get smaller; what is beyond the end is lost
        #[arg(long)]
        shrink: bool,
        /// Allocate what is added
        #[arg(long)]
        allocate: bool,
        /// Although it is in use
        #[arg(long)]
        force: bool,
    },
    /// Write a file into a volume
    Upload {
        /// POOL/NAME, or its path
        volume: VolumeRef,
        /// File, or - for standard input
        file: PathBuf,
        #[command(flatten)]
        part: Part,
        /// Although it is in use
        #[arg(long)]
        force: bool,
    },
    /// Write a volume's content into a file
    Download {
        /// POOL/NAME, or its path
        volume: VolumeRef,
        /// File, which is replaced, or - for standard output
        file: PathBuf,
        #[command(flatten)]
        part: Part,
    },
    /// Copy a volume
    Clone {
        /// POOL/NAME, or its path
        volume: VolumeRef,
        /// Name of the copy, or POOL/NAME to make it in another pool
        new: String,
        /// Make it a difference to the volume, which must then not change
        #[arg(long)]
        shallow: bool,
        /// Do not encrypt it although the volume is encrypted
        #[arg(long, conflicts_with = "encryption")]
        decrypt: bool,
        #[command(flatten)]
        settings: CloneSettings,
    },
    /// Overwrite a volume's content
    Wipe {
        /// POOL/NAME, or its path
        volume: VolumeRef,
        /// With what: zero trim random nnsa dod bsi gutmann schneier pfitzner7 pfitzner33
        #[arg(long, default_value = "zero")]
        algorithm: String,
        /// Overwrite also what is not allocated, which allocates it
        #[arg(long)]
        allocate: bool,
        /// Although it is in use, or on storage that keeps old content elsewhere
        #[arg(long)]
        force: bool,
    },
    /// Run a command with a volume's content as its standard input
    Open {
        /// POOL/NAME, or its path
        volume: VolumeRef,
        /// Open it for writing too
        #[arg(long)]
        write: bool,
        /// Although it is in use
        #[arg(long)]
        force: bool,
        /// Command and its arguments
        #[arg(required = true, trailing_var_arg = true, value_name = "COMMAND")]
        command: Vec<String>,
    },
    /// Print the path of a volume
    Path {
        /// POOL/NAME, or its key
        volume: VolumeRef,
    },
    /// Print a volume's XML document
    Dump {
        /// POOL/NAME, or its path
        volume: VolumeRef,
    },
}

/// Commands on secrets.
#[derive(Debug, Subcommand)]
pub(super) enum SecretCommand {
    /// List secrets, never their values
    List,
    /// Keep a secret, or give one another value
    Set(SetSecretArgs),
    /// Forget secrets
    Delete {
        /// UUID or usage name
        #[arg(required = true)]
        secrets: Vec<String>,
    },
    /// Print a secret's XML document, which has no value
    Dump {
        /// UUID or usage name
        secret: String,
    },
}

/// `secret set`.
#[derive(Debug, Args)]
pub(super) struct SetSecretArgs {
    /// File with the value, or - for standard input; a terminal is asked twice and shows nothing
    #[arg(value_name = "FILE", default_value = "-")]
    pub(super) file: PathBuf,
    /// File with libvirt's secret document, which says all but the value
    #[arg(long, value_name = "FILE",
          conflicts_with_all = ["uuid", "usage_type", "usage_name", "description", "ephemeral"])]
    pub(super) xml: Option<PathBuf>,
    /// UUID [default: that of the usage name, or a new one]
    #[arg(long)]
    pub(super) uuid: Option<String>,
    /// What it is for: none volume ceph iscsi cifs tls vtpm [default: as it was, else volume if it has a name]
    #[arg(long, value_name = "TYPE")]
    pub(super) usage_type: Option<String>,
    /// Name by which others refer to it
    #[arg(long, value_name = "NAME")]
    pub(super) usage_name: Option<String>,
    /// Free text
    #[arg(long, value_name = "TEXT")]
    pub(super) description: Option<String>,
    /// Forget it when the service ends
    #[arg(long)]
    pub(super) ephemeral: bool,
    /// The newline at the end of the file is part of the value
    #[arg(long)]
    pub(super) raw: bool,
}

/// Commands on jobs.
#[derive(Debug, Subcommand)]
pub(super) enum JobCommand {
    /// List jobs under way, and those that ended within the last minute
    List,
    /// Wait for the end of a job; its error is the command's
    Wait {
        /// Number
        job: u64,
    },
    /// End a job and undo its work
    Cancel {
        /// Number
        job: u64,
    },
}

#[cfg(test)]
mod tests {
    use super::Cli;
    use clap::CommandFactory;

    #[test]
    fn the_commands_are_consistent() {
        Cli::command().debug_assert();
    }
}
