//! Slots of members, over a real PostgreSQL 15.

mod common;

use common::{Node, as_postgres, begun, primary, runtime, soon, standby};
use primacy_postgres::{Forks, Instant, Runner};
use std::collections::BTreeSet;
use std::time::Duration;

fn members(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(ToString::to_string).collect()
}

/// Name, kind, whether it is in use, and whether WAL is kept for it.
fn slots(node: &Node) -> Vec<String> {
    let question = "SELECT slot_name, slot_type, active, restart_lsn IS NOT NULL \
                    FROM pg_replication_slots ORDER BY 1";
    node.ask(question).lines().map(str::to_owned).collect()
}

/// Waits until it has just these. A slot that its standby has made keeps WAL from the first word of its stream on.
async fn comes_to(node: &Node, expected: &[&str]) {
    let until = soon();
    while slots(node) != expected {
        assert!(Instant::now() < until, "{:?}", slots(node));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[test]
fn each_member_has_a_slot_and_nobody_elses_is_touched() {
    if as_postgres("each_member_has_a_slot_and_nobody_elses_is_touched") {
        runtime().block_on(async {
            let a = begun(Node::with("a", &[], &[("wal_level", "logical")])).await;
            a.run_sql("SELECT pg_create_physical_replication_slot('mine')").await;
            a.run_sql("SELECT pg_create_logical_replication_slot('theirs', 'pgoutput')").await;
            // Somebody has made it without reserving WAL.
            a.run_sql("SELECT pg_create_physical_replication_slot('c')").await;
            a.postgres.keep_slots(&members(&["a", "B-1", "c"]), soon()).await.unwrap();
            let users = ["mine|physical|f|f", "theirs|logical|f|t"];
            assert_eq!(slots(&a), ["b_1|physical|f|t", "c|physical|f|t", users[0], users[1]]);

            // One that is in use stays, whoever its member is.
            let d = standby("d", &a).await;
            a.postgres.keep_slots(&members(&["c"]), soon()).await.unwrap();
            comes_to(&a, &["c|physical|f|t", "d|physical|t|t", users[0], users[1]]).await;
            a.postgres.keep_slots(&members(&["d"]), soon()).await.unwrap();
            a.postgres.keep_slots(&members(&[]), soon()).await.unwrap();
            assert_eq!(slots(&a), ["d|physical|t|t", users[0], users[1]]);
            let refused = d.postgres.keep_slots(&members(&["a"]), soon()).await.unwrap_err();
            assert_eq!(refused.to_string(), "a standby keeps no slots for others");
            d.postgres.stop(&d.runner, soon()).await.unwrap();
            a.followed_by(&[]).await;
            a.postgres.keep_slots(&members(&[]), soon()).await.unwrap();
            assert_eq!(slots(&a), users);
        });
    }
}

#[test]
fn a_slot_that_has_lost_its_wal_is_made_anew() {
    if as_postgres("a_slot_that_has_lost_its_wal_is_made_anew") {
        runtime().block_on(async {
            let parameters = [("wal_keep_size", "0"), ("max_slot_wal_keep_size", "1MB")];
            let a = begun(Node::with("e", &["--wal-segsize=1"], &parameters)).await;
            a.postgres.keep_slots(&members(&["x"]), soon()).await.unwrap();
            let status = || a.ask("SELECT wal_status FROM pg_replication_slots");
            let until = soon();
            while status() != "lost" {
                assert!(Instant::now() < until, "{}", status());
                a.run_sql("CREATE TABLE IF NOT EXISTS t AS SELECT generate_series(1, 1000)").await;
                a.run_sql("INSERT INTO t SELECT generate_series(1, 50000)").await;
                a.run_sql("CHECKPOINT").await;
            }
            a.postgres.keep_slots(&members(&["x"]), soon()).await.unwrap();
            assert_eq!(status(), "reserved");
        });
    }
}

#[test]
fn a_standby_without_a_slot_streams_all_the_same() {
    if as_postgres("a_standby_without_a_slot_streams_all_the_same") {
        runtime().block_on(async {
            let a = begun(Node::with("f", &[], &[("max_replication_slots", "1")])).await;
            let b = standby("g", &a).await;
            a.postgres.keep_slots(&members(&["g"]), soon()).await.unwrap();
            b.postgres.stop(&b.runner, soon()).await.unwrap();
            a.followed_by(&[]).await;
            let full = a.postgres.keep_slots(&members(&["x", "y"]), soon()).await.unwrap_err();
            assert!(full.to_string().contains("all replication slots are in use"), "{full}");
            b.postgres.start_standby(&b.runner, soon()).await.unwrap();
            b.postgres.follow(&a.upstream(), &Forks::new(), soon()).await.unwrap();
            a.followed_by(&["g"]).await;
            assert_eq!(
                (slots(&a), b.ask("SHOW primary_slot_name").as_str()),
                (vec!["x|physical|f|t".into()], "")
            );

            // As soon as there is room, it has one when it is told again.
            a.postgres.keep_slots(&members(&["g"]), soon()).await.unwrap();
            b.postgres.follow(&a.upstream(), &Forks::new(), soon()).await.unwrap();
            comes_to(&a, &["g|physical|t|t"]).await;
        });
    }
}

#[test]
fn a_slot_keeps_what_a_member_misses_and_ends_with_the_reign() {
    if as_postgres("a_slot_keeps_what_a_member_misses_and_ends_with_the_reign") {
        runtime().block_on(async {
            let a = begun(Node::with("h", &["--wal-segsize=1"], &[("wal_keep_size", "0")])).await;
            let b = standby("i", &a).await;
            // It keeps WAL from the first answer of the stream on.
            comes_to(&a, &["i|physical|t|t"]).await;
            b.runner.kill_all().await.unwrap();
            let needed = a.segment(a.position().await.lsn);
            for _ in 0..4 {
                a.run_sql("SELECT pg_logical_emit_message(false, 'x', repeat('x', 1000000))").await;
                a.run_sql("CHECKPOINT").await;
            }
            assert!(needed.exists());
            b.postgres.start_standby(&b.runner, soon()).await.unwrap();
            b.postgres.follow(&a.upstream(), &Forks::new(), soon()).await.unwrap();
            b.reaches(a.position().await).await;

            a.postgres.keep_slots(&members(&["h", "i", "gone"]), soon()).await.unwrap();
            comes_to(&a, &["gone|physical|f|t", "i|physical|t|t"]).await;
            a.postgres.stop(&a.runner, soon()).await.unwrap();
            b.postgres.close_sources(soon()).await.unwrap();
            b.postgres.promote(2, soon()).await.unwrap();
            assert!(slots(&b).is_empty());
            b.postgres.keep_slots(&members(&["h", "i", "gone"]), soon()).await.unwrap();
            a.postgres.start_standby(&a.runner, soon()).await.unwrap();
            assert_eq!(slots(&a).len(), 2);
            a.postgres.follow(&b.upstream(), &Forks::new(), soon()).await.unwrap();
            assert!(slots(&a).is_empty(), "{:?}", slots(&a));
            a.reaches(b.position().await).await;
            comes_to(&b, &["gone|physical|f|t", "h|physical|t|t"]).await;
        });
    }
}

#[test]
fn a_silent_source_does_not_hold_up_who_is_to_follow_it() {
    if as_postgres("a_silent_source_does_not_hold_up_who_is_to_follow_it") {
        runtime().block_on(async {
            let a = primary("j").await;
            let b = standby("k", &a).await;
            let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            let port = silent.local_addr().unwrap().port();
            let source = primacy_postgres::Upstream { host: "127.0.0.1".into(), port };
            b.postgres.follow(&source, &Forks::new(), soon()).await.unwrap();
            assert!(b.ask("SHOW primary_conninfo").contains(&port.to_string()));
            assert_eq!(b.ask("SHOW primary_slot_name"), "");
        });
    }
}
