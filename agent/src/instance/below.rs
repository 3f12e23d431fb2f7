//! PostgreSQL's processes, below the guard.

use super::guard::Hold;
use primacy_core::{Epoch, Time};
use primacy_guard::wire::Start;
use primacy_postgres::Runner;
use std::ffi::OsString;
use std::path::PathBuf;

/// Starts and ends processes for one order.
pub struct Below<'a> {
    /// The guard.
    pub guard: &'a Hold,
    /// The order's epoch.
    pub epoch: Epoch,
    /// The order's end.
    pub until: Time,
}

impl Runner for Below<'_> {
    async fn start(&self, argv: Vec<OsString>, log: PathBuf, primary: bool) -> Result<(), String> {
        let argv = argv.into_iter().map(OsString::into_string).collect::<Result<Vec<_>, _>>();
        let argv = argv.map_err(|argument| format!("{argument:?} is not UTF-8"))?;
        let primary = primary.then_some(self.epoch.0);
        let start = Start { argv, env: environment(), log, primary };
        self.guard.start(start, self.until).await.map_err(|error| error.to_string())
    }

    async fn kill_all(&self) -> Result<(), String> {
        if self.guard.kill().await { Ok(()) } else { Err("some processes are not gone yet".to_owned()) }
    }

    async fn any_left(&self) -> Result<bool, String> {
        Ok(self.guard.any_left().await)
    }
}

/// Where a session of PostgreSQL writes how readily it may be killed when memory is short. It would inherit the guard's
/// score otherwise, and be spared like that.
const OOM_FILE: &str = "PG_OOM_ADJUST_FILE";

/// The agent's own environment, without what is meant for the agent: PostgreSQL would tell the service manager that it
/// stops (hazard L20).
fn environment() -> Vec<(String, String)> {
    let own: Vec<_> = texts(std::env::vars_os()).filter(|(name, _)| is_for_postgres(name)).collect();
    let told = own.iter().any(|(name, _)| name == OOM_FILE);
    let scores = [(OOM_FILE, "/proc/self/oom_score_adj"), ("PG_OOM_ADJUST_VALUE", "0")];
    let scores =
        scores.into_iter().filter(|_| !told).map(|(name, value)| (name.to_owned(), value.to_owned()));
    own.into_iter().chain(scores).collect()
}

/// Without those that aren't text, which have no place in what the guard is told.
fn texts(variables: impl Iterator<Item = (OsString, OsString)>) -> impl Iterator<Item = (String, String)> {
    variables.filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
}

fn is_for_postgres(name: &str) -> bool {
    const PREFIXES: [&str; 3] = ["PATRONI_", "PRIMACY_", "KUBERNETES_"];
    const NAMES: [&str; 4] = ["NOTIFY_SOCKET", "PGDATA", "PGPORT", "PGHOST"];
    !PREFIXES.iter().any(|prefix| name.starts_with(prefix)) && !NAMES.contains(&name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::ffi::OsStringExt;

    #[test]
    fn a_variable_that_is_no_text_is_left_out() {
        let odd = || OsString::from_vec(vec![0xff, b'x']);
        let variables = [("A".into(), "1".into()), ("B".into(), odd()), (odd(), "2".into())];
        assert!(texts(variables.into_iter()).eq([("A".to_owned(), "1".to_owned())]));
    }

    #[test]
    fn what_is_meant_for_the_agent_is_kept_from_postgresql() {
        let names = ["PATH", "LANG", "NOTIFY_SOCKET", "PATRONI_NAME", "PGDATA", "TZ"];
        let kept: Vec<_> = names.into_iter().filter(|name| is_for_postgres(name)).collect();
        assert_eq!(kept, ["PATH", "LANG", "TZ"]);
    }
}
