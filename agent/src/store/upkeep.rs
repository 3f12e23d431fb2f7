//! What an agent does about etcd itself: for its next life it keeps which cluster it uses, and it says in time that
//! etcd's database fills up. Nothing is compacted here: how much history others need on a shared etcd isn't known.

use primacy_etcd::{Client, Endpoint, Instant, Status};
use primacy_postgres::files;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// In the run directory: the id of the cluster in hexadecimal, as etcd's log has it.
const FILE: &str = "etcd-cluster";

/// The time for one request.
const PATIENCE: Duration = Duration::from_millis(400);

/// How often etcd's members are asked how they are.
const EVERY: Duration = Duration::from_secs(3600);

/// The pause while the cluster is not kept yet.
const SOON: Duration = Duration::from_secs(10);

/// A database of this size is told of: half of the quota that etcd has by itself.
const LARGE: i64 = 1 << 30;

/// What to do about a database that has reached its quota.
pub(super) const FULL: &str = "etcd's database has reached its quota and takes no writes, so a primary stops: compact it, \
                               defragment each member and disarm the alarm (docs/operation.md, \"When etcd fills up\")";

/// The cluster that this member's last agent has used, if that is known.
pub fn earlier(run_dir: &Path) -> Option<u64> {
    let path = run_dir.join(FILE);
    let why = match std::fs::read_to_string(&path) {
        Ok(text) => match u64::from_str_radix(text.trim(), 16) {
            Ok(id) => return Some(id),
            Err(error) => error.to_string(),
        },
        Err(error) if error.kind() == ErrorKind::NotFound => return None,
        Err(error) => error.to_string(),
    };
    tracing::warn!("{}: {why}: which etcd was used before isn't known", path.display());
    None
}

/// Runs for as long as the runtime does.
pub async fn run(client: Client, run_dir: PathBuf) {
    let mut kept = earlier(&run_dir);
    let mut tell_at = Instant::now();
    loop {
        let mut pause = SOON;
        if let Ok(id) = client.cluster(Instant::now() + PATIENCE).await {
            let members = look(&client, id).await;
            if kept != Some(id) && members.len() * 2 > client.endpoints().len() {
                kept = keep(&run_dir, id).await;
            }
            if !members.is_empty() && Instant::now() >= tell_at {
                members.iter().for_each(|(endpoint, status)| tell(endpoint, status));
                tell_at = Instant::now() + EVERY;
            }
            if kept == Some(id) {
                pause = EVERY;
            }
        }
        tokio::time::sleep(pause).await;
    }
}

/// How the members are that answer and belong to the cluster.
async fn look(client: &Client, id: u64) -> Vec<(Endpoint, Status)> {
    let mut members = Vec::new();
    for endpoint in client.endpoints() {
        match client.status(endpoint, Instant::now() + PATIENCE).await {
            Ok(status) if status.header.cluster_id == id => members.push((endpoint.clone(), status)),
            Ok(_) | Err(_) => {}
        }
    }
    members
}

/// Keeps it, unless the disk doesn't take it.
async fn keep(run_dir: &Path, id: u64) -> Option<u64> {
    let path = run_dir.join(FILE);
    let shown = path.display().to_string();
    let written = tokio::task::spawn_blocking(move || files::replace(&path, format!("{id:x}\n").as_bytes()));
    match written.await {
        Ok(Ok(())) => Some(id),
        Ok(Err(error)) => {
            tracing::warn!(%error, "could not keep in {shown} which etcd is used");
            None
        }
        Err(_) => None,
    }
}

/// Says so if its database is full, or on the way there.
pub(super) fn tell(endpoint: &Endpoint, status: &Status) {
    if status.errors.iter().any(|error| error.contains("NOSPACE")) {
        tracing::error!(%endpoint, "{FULL}");
    } else if status.db_size_bytes >= LARGE {
        tracing::warn!(
            %endpoint,
            "etcd's database has {} MiB, {} of them in use; at its quota, 2048 unless etcd was told another, it takes no \
             writes: let etcd compact by itself and defragment it (docs/operation.md, \"When etcd fills up\")",
            status.db_size_bytes >> 20,
            status.db_size_in_use_bytes >> 20
        );
    }
}
