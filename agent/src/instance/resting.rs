//! A copy of the data whose agent is stopped, as operators' commands look at it.

use super::{data, postgres_settings, saved};
use crate::config::Settings;
use crate::place;
use anyhow::bail;
use primacy_core::instance::{Data, Saved};
use primacy_postgres::{Found, Instant, Postgres};
use std::fs::File;
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
    if dir.join("postmaster.pid").exists() {
        bail!(
            "{shown} has a postmaster.pid: if PostgreSQL runs there, stop it; else start and stop the agent"
        );
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
