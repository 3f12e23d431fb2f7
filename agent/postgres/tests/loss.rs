//! What is lost with a copy, read from the WAL of a real PostgreSQL 15.

mod common;

use common::{Node, as_postgres, begun, runtime, soon, standby};
use primacy_postgres::{Position, Runner};
use std::fs;

/// A primary with a table for these transactions.
async fn with_table(node: Node) -> Node {
    let node = begun(node).await;
    node.run_sql("CREATE TABLE k AS SELECT 1 AS n").await;
    node
}

/// Transactions that are committed each on its own, by their numbers. One that writes nothing would not be waited for.
async fn commits(node: &Node, count: usize) -> Vec<u32> {
    let file = node.root.join("xids");
    for _ in 0..count {
        let copy = format!(
            "\\copy (INSERT INTO k VALUES (1) RETURNING txid_current()) TO PROGRAM 'cat >> {}'",
            file.display()
        );
        node.run_sql(&copy).await;
    }
    let text = fs::read_to_string(&file).unwrap();
    let numbers: Vec<u32> = text.lines().map(|line| line.parse().unwrap()).collect();
    numbers[numbers.len() - count..].to_vec()
}

#[test]
fn each_commit_after_the_fork_is_counted_and_nothing_else() {
    if as_postgres("each_commit_after_the_fork_is_counted_and_nothing_else") {
        runtime().block_on(async {
            let a = with_table(Node::with("la", &[], &[("max_prepared_transactions", "5")])).await;
            a.run_sql("CREATE TABLE t (n int)").await;
            commits(&a, 2).await;
            let fork = a.position().await;
            let mut lost = commits(&a, 3).await;
            a.run_sql("BEGIN; INSERT INTO t VALUES (1); ROLLBACK").await;
            a.run_sql("BEGIN; INSERT INTO t VALUES (2); PREPARE TRANSACTION 'x'").await;
            a.run_sql("BEGIN; INSERT INTO t VALUES (3); PREPARE TRANSACTION 'y'").await;
            a.run_sql("BEGIN; INSERT INTO t VALUES (4); PREPARE TRANSACTION 'z'").await;
            let after = a.position().await;
            a.run_sql("COMMIT PREPARED 'x'").await;
            a.run_sql("ROLLBACK PREPARED 'y'").await;
            lost.extend(commits(&a, 2).await);
            a.runner.kill_all().await.unwrap();

            let end = a.found().await.position;
            let loss = a.postgres.loss(fork, end, soon()).await.unwrap();
            let plain: Vec<u32> = loss
                .listed
                .iter()
                .filter(|commit| lost.contains(&commit.xid))
                .map(|commit| commit.xid)
                .collect();
            assert_eq!(plain, lost, "{loss:?}");
            assert_eq!((loss.transactions, loss.listed.len(), loss.prepared), (6, 6, 1), "{loss:?}");
            assert_eq!((loss.fork, loss.end, loss.bytes), (fork, end, end.lsn - fork.lsn));
            assert!(loss.listed.iter().all(|commit| commit.lsn >= fork.lsn && commit.lsn < end.lsn));
            assert_eq!(loss.between, Some((loss.listed[0].at.clone(), loss.listed[5].at.clone())));
            let relations = loss.relations.unwrap();
            let counts: Vec<u64> = relations.values().copied().collect();
            assert_eq!(counts, [5, 4], "the rows of k, and those of t: {relations:?}");

            // What was prepared before is committed behind the fork all the same.
            let loss = a.postgres.loss(after, end, soon()).await.unwrap();
            assert_eq!((loss.transactions, loss.prepared), (3, 0), "{loss:?}");
            assert!(loss.missing.is_empty());
            let none = a.postgres.loss(end, end, soon()).await.unwrap();
            assert_eq!((none.transactions, none.bytes), (0, 0));
        });
    }
}

#[test]
fn a_loss_goes_over_the_copy_s_own_timelines() {
    if as_postgres("a_loss_goes_over_the_copy_s_own_timelines") {
        runtime().block_on(async {
            let a = with_table(Node::new("lb")).await;
            let b = standby("lc", &a).await;
            let fork = a.position().await;
            let mut lost = commits(&a, 2).await;
            b.reaches(a.position().await).await;
            b.postgres.close_sources(soon()).await.unwrap();
            b.postgres.promote(4, soon()).await.unwrap();
            lost.extend(commits(&b, 3).await);
            b.runner.kill_all().await.unwrap();
            let end = b.found().await.position;
            assert_eq!(end.timeline, 4);
            let loss = b.postgres.loss(fork, end, soon()).await.unwrap();
            assert_eq!(loss.listed.iter().map(|commit| commit.xid).collect::<Vec<_>>(), lost, "{loss:?}");
            assert_eq!((loss.bytes, loss.missing.len()), (end.lsn - fork.lsn, 0));

            let elsewhere = Position { timeline: 3, ..fork };
            let why = b.postgres.loss(elsewhere, end, soon()).await.unwrap_err().to_string();
            assert!(why.contains("is not in the history of the copy at t4 "), "{why}");
        });
    }
}

#[test]
fn wal_that_is_gone_is_named_and_a_record_that_is_not_whole_is_not_counted() {
    if as_postgres("wal_that_is_gone_is_named_and_a_record_that_is_not_whole_is_not_counted") {
        runtime().block_on(async {
            let a = with_table(Node::with("ld", &["--wal-segsize=1"], &[])).await;
            let fork = a.position().await;
            let first = commits(&a, 1).await;
            a.run_sql("SELECT pg_switch_wal()").await;
            let gone = a.position().await;
            commits(&a, 2).await;
            a.run_sql("SELECT pg_switch_wal()").await;
            let last = commits(&a, 2).await;
            a.runner.kill_all().await.unwrap();
            let end = a.found().await.position;
            fs::remove_file(a.segment(gone.lsn)).unwrap();

            let loss = a.postgres.loss(fork, end, soon()).await.unwrap();
            let xids: Vec<u32> = loss.listed.iter().map(|commit| commit.xid).collect();
            assert_eq!(xids, [first, last.clone()].concat(), "{loss:?}");
            assert_eq!(loss.missing.len(), 1);
            assert_eq!((loss.missing[0].from.lsn, loss.missing[0].to), (gone.lsn, gone.lsn + (1 << 20)));
            assert!(loss.to_string().contains("is no longer there"), "{loss}");

            // The last commit record lost its end.
            let cut = Position { lsn: loss.listed.last().unwrap().lsn + 16, ..end };
            let loss = a.postgres.loss(fork, cut, soon()).await.unwrap();
            assert_eq!(loss.transactions, 2, "{loss:?}");
            assert!(loss.listed.iter().all(|commit| commit.xid != last[1]));
        });
    }
}
