//! `cargo model`: the world of Primacy explored exhaustively.

mod canon;
mod check;
mod explore;
mod live;
mod search;
mod step;
mod worlds;

use anyhow::{Context, Result, bail};
use clap::{Parser, Subcommand};
use primacy_sim::{junit, mistakes};
use std::path::PathBuf;
use std::process::ExitCode;
use worlds::{Named, WORLDS};

/// Every state of small Primacy clusters.
#[derive(Parser)]
#[command(name = "cargo model", version)]
struct Cli {
    #[command(subcommand)]
    command: Sub,
}

#[derive(Subcommand)]
enum Sub {
    /// List the worlds: what each asks, and what is fixed in it.
    Worlds,
    /// Explore worlds; all that aren't long if none is named.
    Check {
        /// The worlds.
        worlds: Vec<String>,
        /// The long ones, too.
        #[arg(long)]
        full: bool,
        /// Stop at the first violation and say what was broken, in how many steps; for the planted mistakes.
        #[arg(long)]
        first: bool,
        /// Write what came of it into this file, too, as JUnit's XML.
        #[arg(long, value_name = "FILE", conflicts_with = "first")]
        junit: Option<PathBuf>,
    },
    /// Plant mistakes in copies of the core, and see that the model checker catches them.
    Mistakes(mistakes::Choice),
    /// Walk through a world in a browser, with stateright's Explorer.
    Explore {
        /// The world.
        world: String,
        /// The port on the loopback interface.
        #[arg(long, default_value_t = 3_000)]
        port: u16,
    },
}

/// The model checker as a net for planted mistakes.
const NET: mistakes::Net =
    mistakes::Net { name: "model", package: "primacy-model", arguments: &["check", "--first"] };

fn main() -> Result<ExitCode> {
    match Cli::parse().command {
        Sub::Worlds => {
            for named in WORLDS {
                let long = if named.long { " (long: only with --full)" } else { "" };
                println!("{:10} {}{long}\n           fixed: {}", named.name, named.asks, named.fixes);
            }
            Ok(ExitCode::SUCCESS)
        }
        Sub::Check { worlds, full, first, junit } => {
            let chosen = chosen(&worlds, full)?;
            if first {
                Ok(if check::first(&chosen) { ExitCode::FAILURE } else { ExitCode::SUCCESS })
            } else {
                let cases = check::all(&chosen);
                if let Some(path) = junit {
                    junit::write(&path, "model check", &cases)?;
                }
                let failed = cases.iter().filter(|case| case.failure.is_some()).count();
                if failed > 0 { bail!("{failed} worlds failed") } else { Ok(ExitCode::SUCCESS) }
            }
        }
        Sub::Mistakes(choice) => mistakes::command(&NET, &choice).map(|()| ExitCode::SUCCESS),
        Sub::Explore { world, port } => explore::serve(found(&world)?, port).map(|()| ExitCode::SUCCESS),
    }
}

fn chosen(names: &[String], full: bool) -> Result<Vec<&'static Named>> {
    if names.is_empty() {
        return Ok(WORLDS.iter().filter(|named| full || !named.long).collect());
    }
    names.iter().map(|name| found(name)).collect()
}

fn found(name: &str) -> Result<&'static Named> {
    Named::find(name).with_context(|| format!("no world is named {name}"))
}
