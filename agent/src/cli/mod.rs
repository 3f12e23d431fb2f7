//! Commands for people and scripts. Data goes to stdout, everything else to stderr.
//!
//! | exit code | means |
//! |---|---|
//! | 0 | done |
//! | 1 | not done: refused, or something is wrong with the configuration |
//! | 2 | the command line makes no sense |
//! | 3 | it isn't known whether it was done |
//! | 4 | neither the store nor a member could be reached |

mod events;
mod failover;
mod history;
mod http;
mod list;
mod rebuild;
mod reinit;
mod switchover;

use crate::config::Settings;
use crate::place;
use crate::store::directory::{Contents, Directory};
use crate::store::records::{Meaning, Paths, Told, decode, view};
use crate::store::{TRY, see_all, upkeep};
use clap::{Args, Parser, Subcommand, ValueEnum};
use primacy_core::Lsn;
use primacy_core::store::{Key, Record, View};
use primacy_etcd::{Client, Config, Instant, Keys};
use std::io::{BufRead, ErrorKind, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What is wanted of this program.
#[derive(Debug, Parser)]
#[command(name = "primacy", version, about = "Keeps a PostgreSQL cluster with exactly one primary")]
pub struct Cli {
    /// The command.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the agent of one member
    Agent {
        /// The member's configuration, as for Patroni
        config: PathBuf,
    },
    /// List the members of a cluster
    List(Shown),
    /// List the members below the one they follow
    Topology(Shown),
    /// Show how the primary moved, and what was lost on the way
    History(Shown),
    /// Show what happened at a member lately
    Events(EventsArgs),
    /// Move the primary to another member
    Switchover(SwitchoverArgs),
    /// Let a member lead that may lack commits, for when nobody can be elected
    Failover(FailoverArgs),
    /// Let a member give up its data, which is kept aside, and take a new copy of the primary's
    Reinit(ReinitArgs),
    /// Make the store anew from this member's copy, when it was wiped or restored from an old backup
    RebuildStore(RebuildArgs),
    /// Print the version
    Version,
}

/// Which cluster.
#[derive(Debug, Args)]
pub struct Cluster {
    /// The configuration of any member of the cluster
    #[arg(short = 'c', long = "config-file", env = "PRIMACY_CONFIG", value_name = "FILE")]
    config: PathBuf,
}

/// What to show, and how.
#[derive(Debug, Args)]
pub struct Shown {
    #[command(flatten)]
    cluster: Cluster,
    /// How to print it
    #[arg(short = 'o', long = "format", default_value = "pretty")]
    output: Output,
}

/// How to print something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// A table
    Pretty,
    /// JSON
    Json,
    /// YAML
    Yaml,
}

/// Whose events, and how.
#[derive(Debug, Args)]
pub struct EventsArgs {
    #[command(flatten)]
    cluster: Cluster,
    /// The member; that of the configuration if none is named
    #[arg(long)]
    member: Option<String>,
    /// Go on with what happens from now on
    #[arg(short = 'f', long)]
    follow: bool,
    /// Print each as a line of JSON
    #[arg(long)]
    json: bool,
}

/// A switchover.
#[derive(Debug, Args)]
pub struct SwitchoverArgs {
    #[command(flatten)]
    cluster: Cluster,
    /// The present primary, so that nothing is done if it is another one by now
    #[arg(long, visible_alias = "primary")]
    leader: Option<String>,
    /// The primary to be; the best member if none is named
    #[arg(long)]
    candidate: Option<String>,
    /// Don't ask
    #[arg(long)]
    force: bool,
}

/// A failover.
#[derive(Debug, Args)]
pub struct FailoverArgs {
    #[command(flatten)]
    cluster: Cluster,
    /// The primary to be; the one that goes furthest if none is named
    #[arg(long)]
    candidate: Option<String>,
    /// Don't ask: the old primary is stopped for good, and what it alone has may be lost
    #[arg(long)]
    accept_loss: bool,
}

/// A new copy.
#[derive(Debug, Args)]
pub struct ReinitArgs {
    #[command(flatten)]
    cluster: Cluster,
    /// The member; that of the configuration if none is named
    member: Option<String>,
    /// Don't ask; nothing that only this member has is given up
    #[arg(long)]
    force: bool,
    /// Don't ask: what only this member has may be lost
    #[arg(long)]
    accept_loss: bool,
    /// Tell what happens until the member follows the primary again
    #[arg(long)]
    wait: bool,
}

/// A store to be made anew.
#[derive(Debug, Args)]
pub struct RebuildArgs {
    #[command(flatten)]
    cluster: Cluster,
    /// Don't ask: all agents are stopped, and what only other members have may be lost
    #[arg(long)]
    accept_loss: bool,
}

/// The exit codes in the module's table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    /// 0
    Done = 0,
    /// 1
    NotDone = 1,
    /// 3
    Unknown = 3,
    /// 4
    Unreachable = 4,
}

/// Why a command ends early.
#[derive(Debug)]
pub struct Failure(Code, String);

impl Failure {
    /// Says why.
    pub fn report(self) -> Code {
        // The code says enough if nobody reads this.
        let _ = writeln!(std::io::stderr(), "primacy: {}", self.1);
        self.0
    }
}

/// Data for stdout.
fn print(text: &str) -> Result<(), Failure> {
    printed(writeln!(std::io::stdout(), "{text}"))
}

/// Asks a person. Without one, or if the question can't be shown, the answer is no.
fn confirmed(question: &str) -> bool {
    if !std::io::stdin().is_terminal() {
        return false;
    }
    eprint!("{question} [y/N] ");
    let _ = std::io::stderr().flush();
    let mut answer = String::new();
    let read = std::io::stdin().lock().read_line(&mut answer);
    read.is_ok() && matches!(answer.trim(), "y" | "Y" | "yes")
}

/// A reader that has read enough is no failure.
fn printed(outcome: std::io::Result<()>) -> Result<(), Failure> {
    match outcome {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            Err(Failure(Code::NotDone, format!("could not write: {error}")))
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Carries out a command that isn't the agent's own.
pub async fn run(command: Command) -> Code {
    let result = match command {
        Command::Agent { .. } => unreachable!("the agent isn't run from here"),
        Command::Version => print(concat!("primacy ", env!("CARGO_PKG_VERSION"))),
        Command::List(shown) => list::list(&shown, list::Order::ByName).await,
        Command::Topology(shown) => list::list(&shown, list::Order::LeaderFirst).await,
        Command::History(shown) => history::history(&shown).await,
        Command::Events(args) => events::events(&args).await,
        Command::Switchover(args) => switchover::run(&args).await,
        Command::Failover(args) => failover::run(&args).await,
        Command::Reinit(args) => reinit::run(&args).await,
        Command::RebuildStore(args) => rebuild::run(&args).await,
    };
    match result {
        Ok(()) => Code::Done,
        Err(failure) => failure.report(),
    }
}

/// The settings in a file.
pub fn settings(path: &Path) -> Result<Settings, Failure> {
    let failed = |why: String| Failure(Code::NotDone, why);
    let text = std::fs::read_to_string(path)
        .map_err(|error| failed(format!("could not read {}: {error}", path.display())))?;
    Settings::parse(&text).map_err(|error| failed(format!("{}:\n{error}", path.display())))
}

/// What the store says of a cluster.
struct Found {
    contents: Contents,
    /// The end of the primary's WAL, as last published.
    end: Lsn,
    /// The records; none of them if one that decides makes no sense.
    view: View,
}

/// A client of the store, on a member's own host of the one that its agent uses.
fn client(settings: &Settings) -> Result<Client, Failure> {
    let data_dir = &settings.postgres.data_dir;
    let data_dir = data_dir.canonicalize().unwrap_or_else(|_| data_dir.clone());
    let cluster = upkeep::earlier(&place::run_dir_of(&data_dir));
    let config = Config { try_timeout: TRY, cluster, ..Config::new(settings.etcd.clone()) };
    Client::new(config).map_err(|error| Failure(Code::NotDone, error.to_string()))
}

/// Reads everything of a cluster. One of which there is nothing at all has most likely another name.
async fn find(settings: &Settings) -> Result<Found, Failure> {
    let (found, entries) = store(settings).await?;
    if entries.is_empty() {
        let (scope, prefix) = (&settings.scope, &settings.prefix);
        let why = format!("no cluster {scope:?} is in the store: nothing is below {prefix}");
        return Err(Failure(Code::NotDone, why));
    }
    Ok(found)
}

/// Reads everything that is below a cluster's prefix, be it nothing; also the revision of each key.
async fn store(settings: &Settings) -> Result<(Found, Vec<(Vec<u8>, i64)>), Failure> {
    let paths = Paths { prefix: settings.prefix.clone() };
    let deadline = Instant::now() + Duration::from_secs(3);
    let range = client(settings)?
        .read(Keys::prefix(paths.prefix.clone()), deadline)
        .await
        .map_err(|error| Failure(Code::Unreachable, error.to_string()))?;
    let directory = Directory::default();
    see_all(&paths, &directory, &range.entries);
    let beat = range.entries.iter().find(|entry| paths.meaning(&entry.key) == Meaning::Record(Key::Beat));
    let end = match beat.map(|entry| decode(&Key::Beat, &entry.key, &entry.value)) {
        Some(Ok(Record::Beat(beat))) => beat.end,
        Some(_) | None => Lsn(0),
    };
    let contents = directory.look().clone();
    let view = view(&paths, &range.entries, range.header.revision, &Told::default()).unwrap_or_default();
    let keys = range.entries.iter().map(|entry| (entry.key.clone(), entry.mod_revision)).collect();
    Ok((Found { contents, end, view }, keys))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_that_has_read_enough_is_no_failure() {
        assert!(printed(Ok(())).is_ok());
        assert!(printed(Err(ErrorKind::BrokenPipe.into())).is_ok());
        let Failure(code, why) = printed(Err(ErrorKind::StorageFull.into())).expect_err("a full disk");
        assert_eq!(code, Code::NotDone, "{why}");
    }
}
