//! PostgreSQL's programs as children that never outlive their order.

use crate::{Error, Instant, Settings};
use std::ffi::OsStr;
use std::process::Stdio;
use tokio::process::Command;
use tokio::time::timeout_at;

/// So many of a failing program's last characters are told.
const WORDS: usize = 400;

impl Settings {
    /// A program of PostgreSQL, with English messages and nothing of the agent's environment.
    pub(crate) fn program(&self, name: &'static str) -> Program {
        let mut command = Command::new(self.bin_dir.join(name));
        command.env_clear().env("LC_ALL", "C").env("PATH", "/usr/bin:/bin").env("TZ", "UTC");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.process_group(0).kill_on_drop(true);
        Program { name, command }
    }
}

/// A program about to be run.
pub(crate) struct Program {
    name: &'static str,
    command: Command,
}

impl Program {
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Program {
        self.command.arg(arg);
        self
    }

    pub fn args(mut self, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Program {
        self.command.args(args);
        self
    }

    /// Runs it, and returns what it printed if it succeeded.
    pub async fn run(self, by: Instant) -> Result<String, Error> {
        let finished = self.finish(by).await?;
        if finished.succeeded { Ok(finished.out) } else { Err(finished.into_error()) }
    }

    /// Runs it to its end, whether it succeeds or not.
    pub async fn finish(mut self, by: Instant) -> Result<Finished, Error> {
        let child = self.command.spawn().map_err(Error::io(format!("run {}", self.name)))?;
        let output =
            timeout_at(by, child.wait_with_output()).await.map_err(|_| Error::TimedOut(self.name))?;
        let output = output.map_err(Error::io(format!("wait for {}", self.name)))?;
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Ok(Finished {
            name: self.name,
            succeeded: output.status.success(),
            out: text(output.stdout),
            err: text(output.stderr),
        })
    }
}

/// A program that has ended.
pub(crate) struct Finished {
    name: &'static str,
    pub succeeded: bool,
    pub out: String,
    pub err: String,
}

impl Finished {
    /// That it failed, with its last words.
    pub fn into_error(self) -> Error {
        Error::Program { program: self.name, words: tail(&self.err) }
    }
}

fn tail(text: &str) -> String {
    let text = text.trim();
    let skip = text.chars().count().saturating_sub(WORDS);
    text.chars().skip(skip).collect::<String>().replace('\n', "; ")
}
