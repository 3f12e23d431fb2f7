//! What a statement of the agent's leaves behind when nobody waits for it any more, over a real PostgreSQL 15.

mod common;

use common::{as_postgres, primary, runtime, soon};
use primacy_postgres::{Error, Instant};
use std::fs;
use std::time::Duration;
use tokio::time::sleep;

const OURS: &str = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'primacy'";

const WAITING: &str = "SELECT count(*) FROM pg_locks WHERE NOT granted";

fn open_files() -> usize {
    fs::read_dir("/proc/self/fd").unwrap().count()
}

#[test]
fn a_look_that_is_given_up_leaves_no_session_and_no_connection() {
    if as_postgres("a_look_that_is_given_up_leaves_no_session_and_no_connection") {
        runtime().block_on(async {
            let a = primary("s").await;
            a.postgres.probe(soon()).await.unwrap();
            let mut lock = a.session("BEGIN; LOCK TABLE pg_stat_wal_receiver; SELECT pg_sleep(3600)");
            let held = "SELECT count(*) FROM pg_locks WHERE mode = 'AccessExclusiveLock' AND granted";
            while a.ask(held) == "0" {
                sleep(Duration::from_millis(10)).await;
            }
            let before = open_files();
            for _ in 0..5 {
                let looked = a.postgres.probe(Instant::now() + Duration::from_millis(400)).await;
                assert!(matches!(looked, Err(Error::TimedOut(_) | Error::Sql { .. })), "{looked:?}");
            }
            // One that was dropped, too: a new order ends a look.
            let mut dropped = Box::pin(a.postgres.probe(Instant::now() + Duration::from_secs(10)));
            while a.ask(WAITING) == "0" {
                tokio::select! {
                    looked = &mut dropped => panic!("{looked:?}"),
                    () = sleep(Duration::from_millis(10)) => {}
                }
            }
            drop(dropped);
            let end = soon();
            while a.ask(OURS) != "0" || open_files() > before {
                assert!(
                    Instant::now() < end,
                    "{} sessions, {} files more",
                    a.ask(OURS),
                    open_files() - before
                );
                sleep(Duration::from_millis(50)).await;
            }
            assert_eq!(lock.try_wait().unwrap(), None, "it held the lock all the time");
            lock.kill().unwrap();
            lock.wait().unwrap();
            a.ask("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'BEGIN; LOCK%'");
            a.postgres.probe(soon()).await.unwrap();
        });
    }
}

#[test]
fn what_takes_long_by_its_nature_has_the_time_of_its_order() {
    if as_postgres("what_takes_long_by_its_nature_has_the_time_of_its_order") {
        runtime().block_on(async {
            let a = primary("t").await;
            // The user's own bound is not for the agent.
            a.run_sql("ALTER ROLE postgres SET statement_timeout = 1").await;
            a.postgres.checkpoint(soon()).await.unwrap();
            a.postgres.probe(Instant::now() + Duration::from_secs(90 * 86_400)).await.unwrap();
        });
    }
}
