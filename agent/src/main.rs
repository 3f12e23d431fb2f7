//! The agent beside each PostgreSQL instance.
//!
//! One process, one thread for everything that matters. It owns the node of `primacy-core` and carries its effects to
//! etcd, to PostgreSQL and to the guard; the same file, started as `primacy guard`, is the guard.
//!
//! | what | module |
//! |---|---|
//! | start and end of an agent | [`agent`] |
//! | the configuration file | [`config`] |
//! | the data directory's name and its lock | [`place`] |
//! | where this agent runs | [`machine`] |
//! | the records in etcd, and Patroni's keys beside them | [`store`] |
//! | the core's orders to PostgreSQL | [`instance`] |
//! | REST and command line | [`api`], [`cli`] |
//! | Patroni's words | [`patroni`] |
//! | what is logged and journalled, and told to who listens | [`telemetry`], [`journal`], [`drain`], [`events`] |

mod agent;
mod api;
mod board;
mod cli;
mod clock;
mod config;
mod drain;
mod events;
#[cfg(test)]
mod fuzz;
mod instance;
mod journal;
mod machine;
mod outside;
mod patroni;
mod place;
mod store;
mod telemetry;

use clap::Parser;
use cli::{Cli, Code, Command};
use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    let mut arguments: Vec<OsString> = std::env::args_os().collect();
    // Before anything else: the guard is to stay small, and has no runtime.
    if arguments.get(1).is_some_and(|first| first == "guard") {
        return guard(&arguments[2..]);
    }
    // Patroni is called with just its file.
    if arguments.len() == 2 && is_config(&arguments[1]) {
        arguments.insert(1, "agent".into());
    }
    let cli = Cli::parse_from(arguments);
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else {
        eprintln!("primacy: the operating system gives no event queue");
        return ExitCode::FAILURE;
    };
    let code = match cli.command {
        Command::Agent { config } => runtime.block_on(agent::main(&config)),
        other => runtime.block_on(cli::run(other)),
    };
    // Whatever a library still does on a thread of its own isn't waited for.
    runtime.shutdown_background();
    ExitCode::from(code as u8)
}

fn is_config(argument: &OsString) -> bool {
    let extension = Path::new(argument).extension();
    extension.is_some_and(|extension| extension == "yml" || extension == "yaml")
}

/// `primacy guard [--launch] --run-dir DIR --data-dir DIR`, as the agent calls it.
fn guard(arguments: &[OsString]) -> ExitCode {
    let value = |name: &str| {
        let at = arguments.iter().position(|argument| argument == name)?;
        arguments.get(at + 1).map(Path::new)
    };
    let (Some(run_dir), Some(data_dir)) = (value("--run-dir"), value("--data-dir")) else {
        eprintln!("primacy guard: is started by the agent, with --run-dir and --data-dir");
        return ExitCode::from(2);
    };
    let ended = if arguments.iter().any(|argument| argument == "--launch") {
        primacy_guard::client::launch(run_dir, data_dir)
    } else {
        let options =
            primacy_guard::server::Options { run_dir: run_dir.to_owned(), data_dir: data_dir.to_owned() };
        primacy_guard::server::run(&options)
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("primacy guard: {error}");
            ExitCode::from(Code::NotDone as u8)
        }
    }
}
