//! What takes long says how far it is, and ends when nothing moves any more; over a real PostgreSQL 15.

mod common;

use common::{Node, as_postgres, begun, ends_after, primary, runtime, soon, standby};
use primacy_postgres::{Error, Found, Postgres, Progress, Runner};
use serde_json::json;
use std::collections::BTreeSet;
use std::fs;
use std::time::Duration;

/// What it ends with, and what was to be read meanwhile.
async fn watched<T>(postgres: &Postgres, work: impl Future<Output = T>) -> (T, Vec<Progress>) {
    let (mut work, mut seen) = (Box::pin(work), Vec::new());
    loop {
        tokio::select! {
            biased;
            ended = &mut work => return (ended, seen),
            () = tokio::time::sleep(Duration::from_millis(2)) => seen.extend(postgres.progress()),
        }
    }
}

#[test]
fn a_copy_from_a_source_that_stops_sending_ends() {
    if as_postgres("a_copy_from_a_source_that_stops_sending_ends") {
        runtime().block_on(async {
            let (a, b) = (primary("a").await, Node::new("b"));
            let hasty = b.with_settings(|settings| settings.stall = Duration::from_secs(3));
            let (way, identity) = (ends_after(&a, 4 << 20), json!({"copy": 2}));
            let (copied, seen) = watched(&hasty, hasty.clone_from(&way, &identity, soon())).await;
            assert!(matches!(copied, Err(Error::Stalled("copy from another member"))), "{copied:?}");
            assert!(seen.iter().any(|at| at.what == "copy from another member"));
            assert_eq!(hasty.progress(), None);
            assert_eq!(b.postgres.inspect(soon()).await.unwrap(), Found::Absent);
            let source = a.upstream();
            let whole = b.postgres.clone_from(&source, &identity, soon());
            let (copied, seen) = watched(&b.postgres, whole).await;
            copied.unwrap();
            // It says so once a second, and at the end, before it syncs what it has.
            assert!(seen.iter().any(|at| at.total_bytes == Some(at.done_bytes) && at.done_bytes > 1 << 20));
        });
    }
}

#[test]
fn recovery_says_how_far_it_is() {
    if as_postgres("recovery_says_how_far_it_is") {
        runtime().block_on(async {
            let a = begun(Node::with("c", &["--wal-segsize=1"], &[("max_wal_size", "1GB")])).await;
            a.ask("CHECKPOINT");
            let before = a.position().await.lsn;
            a.ask("CREATE TABLE t AS SELECT generate_series(1, 1000000) AS n");
            let after = a.position().await.lsn;
            a.runner.kill_all().await.unwrap();
            let (started, seen) = watched(&a.postgres, a.postgres.start_in_place(&a.runner, soon())).await;
            started.unwrap();
            let positions: BTreeSet<u64> = seen.iter().filter_map(|at| at.position).collect();
            assert!(positions.len() > 1, "{seen:?}");
            let segment = 1 << 20;
            assert!(positions.iter().all(|at| (before - segment..=after).contains(at)), "{positions:?}");
            assert!(seen.iter().all(|at| at.done_bytes <= after - before + segment));
        });
    }
}

#[test]
fn a_start_that_waits_for_wal_that_nobody_has_ends() {
    if as_postgres("a_start_that_waits_for_wal_that_nobody_has_ends") {
        runtime().block_on(async {
            let a = begun(Node::with("d", &["--wal-segsize=1"], &[])).await;
            let b = standby("e", &a).await;
            a.ask("CREATE TABLE t AS SELECT generate_series(1, 100000) AS n");
            b.reaches(a.position().await).await;
            b.postgres.stop(&b.runner, soon()).await.unwrap();
            // The end of what it has replayed lies behind this.
            let gone = b.segment(b.found().await.position.lsn - (2 << 20));
            for segment in b.segments().iter().filter(|path| **path >= gone) {
                fs::remove_file(segment).unwrap();
            }
            let hasty = b.with_settings(|settings| settings.stall = Duration::from_secs(3));
            let started = hasty.start_standby(&b.runner, soon()).await;
            assert!(matches!(started, Err(Error::Stalled("start PostgreSQL"))), "{started:?}");
            assert!(b.runner.any_left().await.unwrap(), "it is not for this to end it");
        });
    }
}
