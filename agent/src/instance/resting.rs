//! A copy of the data whose agent is stopped, as operators' commands look at it.

use super::{data, postgres_settings, saved};
use crate::config::Settings;
use crate::place;
use anyhow::{Context, bail};
use primacy_core::instance::{Data, Saved};
use primacy_guard::proc::{Proc, is_hidden};
use primacy_postgres::{Found, Instant, Postgres};
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long a look may take: the end of the WAL is searched.
const PATIENCE: Duration = Duration::from_secs(60);

/// A copy of the data, while no agent can touch it.
pub struct Resting {
    /// What is kept beside it.
    pub saved: Saved,
    /// What is in it.
    pub data: Data,
    _lock: File,
}

/// Looks at the copy of these settings.
///
/// # Errors
/// An agent or a PostgreSQL that runs on it, no data, or data that nobody can make sense of.
pub async fn look(mut settings: Settings) -> anyhow::Result<Resting> {
    place::check_user()?;
    settings.postgres.data_dir = place::resolve(&settings.postgres.data_dir)?;
    place::check_owner(&settings.postgres.data_dir)?;
    let run_dir = place::run_dir(&settings.postgres.data_dir)?;
    let lock = place::lock(&run_dir)?;
    let saved = saved::load(&settings.postgres.data_dir, &run_dir)?;
    let dir = settings.postgres.data_dir.clone();
    let shown = dir.display();
    if saved.mending {
        bail!("{shown} was being rewound and is not whole: use another member's copy");
    }
    if let Some((pid, program)) = at_work_in(&dir).context("look for processes")? {
        bail!("{}", refusal(&dir, pid, &program));
    }
    let postgres = Postgres::new(postgres_settings(&settings, run_dir)?);
    match postgres.inspect(Instant::now() + PATIENCE).await? {
        Found::Present(present) => {
            let data = data(present.system_id, present.position, &present.forks);
            Ok(Resting { saved, data, _lock: lock })
        }
        Found::Absent => bail!("{shown}: there is no data"),
        Found::Incomplete(why) => bail!("{shown}: {why}"),
        Found::Foreign(why) => bail!("{shown}: {why}"),
    }
}

/// A process whose working directory this is, as for all of PostgreSQL's it is that of their data, and its program.
fn at_work_in(dir: &Path) -> io::Result<Option<(i32, PathBuf)>> {
    let proc = Proc::open()?;
    for pid in proc.numbers()? {
        match proc.link(pid, "cwd") {
            Ok(place) if place.as_deref() == Some(dir) => {
                return Ok(Some((pid, proc.link(pid, "exe")?.unwrap_or_default())));
            }
            Ok(_) => {}
            // PostgreSQL runs as the one who asks.
            Err(error) if is_hidden(&error) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(None)
}

/// Not everybody who is there is PostgreSQL: an operator's shell is, too.
fn refusal(dir: &Path, pid: i32, program: &Path) -> String {
    let (shown, name) = (dir.display(), program.file_name().unwrap_or_default().display());
    if program.ends_with("postgres") {
        format!("PostgreSQL runs on {shown}, process {pid}: stop it first")
    } else {
        format!("process {pid} ({name}) works in {shown}: end it, or let it leave that directory first")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_at_work_in_a_directory_is_found() {
        let dir =
            std::env::temp_dir().canonicalize().unwrap().join(format!("primacy-work-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        assert_eq!(at_work_in(&dir).unwrap(), None);
        let mut child = std::process::Command::new("sleep").arg("60").current_dir(&dir).spawn().unwrap();
        let (pid, program) = at_work_in(&dir).unwrap().unwrap();
        assert_eq!(pid, child.id().cast_signed());
        let told = refusal(&dir, pid, &program);
        assert!(told.contains("(sleep) works in") && !told.contains("PostgreSQL"), "{told}");
        assert!(refusal(&dir, pid, Path::new("/bin/postgres")).contains("PostgreSQL runs on"));
        child.kill().unwrap();
        child.wait().unwrap();
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
