//! A copy of the data whose agent is stopped, as operators' commands look at it.

use super::{data, postgres_settings, saved};
use crate::config::Settings;
use crate::place;
use anyhow::bail;
use primacy_core::instance::{Data, Saved};
use primacy_postgres::{Found, Instant, Postgres};
use std::fs::File;
use std::path::Path;
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
    if let Some(pid) = at_work_in(&dir) {
        bail!("PostgreSQL runs on {shown}, process {pid}: stop it first");
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

/// A process that is at work in this directory, as all of PostgreSQL's are in that of their data.
fn at_work_in(dir: &Path) -> Option<i32> {
    let processes = std::fs::read_dir("/proc").ok()?.flatten();
    let pids = processes.filter_map(|process| process.file_name().to_str()?.parse().ok());
    let mut inside = pids
        .filter(|pid: &i32| std::fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|place| place == dir));
    inside.next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_at_work_in_a_directory_is_found() {
        let dir =
            std::env::temp_dir().canonicalize().unwrap().join(format!("primacy-work-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        assert_eq!(at_work_in(&dir), None);
        let mut child = std::process::Command::new("sleep").arg("60").current_dir(&dir).spawn().unwrap();
        assert_eq!(at_work_in(&dir), i32::try_from(child.id()).ok());
        child.kill().unwrap();
        child.wait().unwrap();
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
