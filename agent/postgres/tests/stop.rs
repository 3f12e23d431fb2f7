//! An orderly stop waits for nobody who doesn't end, over a real PostgreSQL 15.

mod common;

use common::{Node, as_postgres, begun, process, runtime, soon, standby};
use primacy_postgres::Instant;
use rustix::process::{Pid, Signal, kill_process};
use std::fs;
use std::time::Duration;

const MINUTE: Duration = Duration::from_secs(60);

/// Stops it, long before the order ends.
async fn stops(node: &Node) {
    let by = Instant::now() + 3 * MINUTE;
    node.postgres.stop(&node.runner, by).await.unwrap();
    assert!(Instant::now() + MINUTE < by, "it waited for the end of its order");
    assert!(node.found().await.clean);
}

#[test]
fn a_hanging_archive_command_is_not_waited_for() {
    if as_postgres("a_hanging_archive_command_is_not_waited_for") {
        runtime().block_on(async {
            let number = std::env::temp_dir().join(format!("primacy-archives-{}", std::process::id()));
            let command = format!("echo $$ > {}; exec sleep 3600", number.display());
            let parameters = [("archive_mode", "on"), ("archive_command", command.as_str())];
            let a = begun(Node::with("a", &[], &parameters)).await;
            a.postgres.open_archive(soon()).await.unwrap();
            let b = standby("b", &a).await;
            a.ask("CREATE TABLE t AS SELECT 1 AS n");
            a.ask("SELECT pg_switch_wal()");
            let archives = tokio::time::timeout(MINUTE, async {
                loop {
                    match fs::read_to_string(&number).ok().and_then(|text| text.trim().parse().ok()) {
                        Some(archives) => break Pid::from_raw(archives).unwrap(),
                        None => tokio::time::sleep(Duration::from_millis(20)).await,
                    }
                }
            });
            let archives = archives.await.unwrap();
            stops(&a).await;
            // Here nobody else does: the harness kills the postmaster alone.
            kill_process(archives, Signal::KILL).unwrap();
            fs::remove_file(&number).unwrap();
            assert_eq!(b.position().await, a.found().await.position, "the last checkpoint was sent");
        });
    }
}

#[test]
fn a_receiver_that_says_nothing_is_not_waited_for() {
    if as_postgres("a_receiver_that_says_nothing_is_not_waited_for") {
        runtime().block_on(async {
            let a = begun(Node::with("c", &[], &[("wal_sender_timeout", "0")])).await;
            let b = standby("d", &a).await;
            let c = standby("e", &b).await;
            for (source, follower) in [(&a, &b), (&b, &c)] {
                let receiver = process(follower, "walreceiver");
                kill_process(receiver, Signal::STOP).unwrap();
                stops(source).await;
                kill_process(receiver, Signal::CONT).unwrap_or_default();
            }
        });
    }
}
