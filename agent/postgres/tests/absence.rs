//! What a standby finds when it comes back, over a real PostgreSQL 15.

mod common;

use common::{Node, as_postgres, begun, joined, primary, runtime, soon};
use primacy_postgres::{Error, Forks, Instant, Position, Postgres, Upstream};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

fn first() -> Forks {
    Forks::from([(1, Position::default())])
}

fn nobody() -> Upstream {
    Upstream { host: "127.0.0.1".into(), port: 9 }
}

/// One that keeps nothing for those who are away.
async fn forgetful(name: &str) -> Node {
    let parameters = [("max_slot_wal_keep_size", "0"), ("wal_keep_size", "0")];
    begun(Node::with(name, &["--wal-segsize=1"], &parameters)).await
}

/// A standby that no longer streams, at the end of a segment of its source.
async fn left_behind(name: &str, source: &Node) -> Node {
    let node = joined(Node::new(name), source, &first()).await;
    source.run_sql("SELECT pg_switch_wal()").await;
    node.reaches(source.position().await).await;
    node.postgres.follow(&nobody(), &first(), soon()).await.unwrap();
    source.followed_by(&[]).await;
    node
}

/// Goes on until it no longer has the segment with this byte. A copy of it is kept.
async fn goes_on(node: &Node, lsn: u64) -> PathBuf {
    let (segment, end) = (node.segment(lsn), soon());
    node.run_sql("SELECT pg_logical_emit_message(false, 'x', 'x')").await;
    node.run_sql("SELECT pg_switch_wal()").await;
    let copy = node.root.join(segment.file_name().unwrap());
    fs::copy(&segment, &copy).unwrap();
    while segment.exists() {
        assert!(Instant::now() < end, "it keeps {}", segment.display());
        node.run_sql("SELECT pg_logical_emit_message(false, 'x', 'x')").await;
        node.run_sql("SELECT pg_switch_wal()").await;
        node.run_sql("CHECKPOINT").await;
    }
    copy
}

async fn lacks(postgres: &Postgres, source: &Upstream) -> Result<bool, Error> {
    postgres.source_lacks_wal(source, &first(), soon()).await
}

#[test]
fn wal_is_gone_once_the_source_has_gone_on_and_lists_it_no_more() {
    if as_postgres("wal_is_gone_once_the_source_has_gone_on_and_lists_it_no_more") {
        runtime().block_on(async {
            let a = forgetful("a").await;
            let b = left_behind("b", &a).await;
            let next = b.position().await.lsn;
            assert_eq!(next % (1 << 20), 0);
            // It may have been made in advance. What isn't there yet isn't gone.
            fs::remove_file(a.segment(next)).unwrap_or_default();
            assert!(!lacks(&b.postgres, &a.upstream()).await.unwrap());
            a.run_sql("SELECT pg_logical_emit_message(true, 'x', 'x')").await;
            assert!(a.position().await.lsn > next);
            assert!(!lacks(&b.postgres, &a.upstream()).await.unwrap());
            goes_on(&a, next).await;
            assert!(lacks(&b.postgres, &a.upstream()).await.unwrap());

            // Who can't be asked says nothing.
            let refused = lacks(&b.postgres, &nobody()).await.unwrap_err();
            assert!(matches!(refused, Error::Sql { .. }), "{refused}");
            let stranger = primary("c").await;
            let refused = lacks(&b.postgres, &stranger.upstream()).await.unwrap_err().to_string();
            assert!(refused.ends_with("is of another cluster"), "{refused}");
        });
    }
}

#[test]
fn wal_is_not_gone_as_long_as_the_archive_has_it() {
    if as_postgres("wal_is_not_gone_as_long_as_the_archive_has_it") {
        runtime().block_on(async {
            let a = forgetful("d").await;
            let b = left_behind("e", &a).await;
            let copy = goes_on(&a, b.position().await.lsn).await;
            let with = |command: &str| {
                let mut settings = b.postgres.settings().clone();
                settings.restore_command = Some(command.to_owned());
                Postgres::new(settings)
            };
            let fetch = format!("cp {}/%f \"%p\"", a.root.display());
            assert!(!lacks(&with(&fetch), &a.upstream()).await.unwrap());
            let left: Vec<_> = fs::read_dir(b.root.join("run")).unwrap().flatten().collect();
            assert!(!left.iter().any(|entry| Path::new(&entry.file_name()).ends_with("restored.wal")));
            // Only what the history names counts.
            let elsewhere = Forks::from([(2, Position::default())]);
            assert!(with(&fetch).source_lacks_wal(&a.upstream(), &elsewhere, soon()).await.unwrap());

            for (command, words) in [
                ("kill -9 $$", "restore_command failed: ended by a signal"),
                ("exit 126", "restore_command failed: exit code 126"),
                ("echo x > %p", "restore_command fetched 2 bytes of 000000010000000"),
            ] {
                let refused = lacks(&with(command), &a.upstream()).await.unwrap_err().to_string();
                assert!(refused.starts_with(words), "{refused}");
            }
            let hangs = with("sleep 600");
            let shortly = Instant::now() + Duration::from_secs(1);
            let refused = hangs.source_lacks_wal(&a.upstream(), &first(), shortly).await.unwrap_err();
            assert!(matches!(refused, Error::TimedOut("restore_command")), "{refused}");

            fs::remove_file(copy).unwrap();
            assert!(lacks(&with(&fetch), &a.upstream()).await.unwrap());
        });
    }
}

#[test]
fn one_that_cannot_even_start_without_it_lacks_it_too() {
    if as_postgres("one_that_cannot_even_start_without_it_lacks_it_too") {
        runtime().block_on(async {
            let a = forgetful("d").await;
            let b = left_behind("e", &a).await;
            b.postgres.stop(&b.runner, soon()).await.unwrap();
            goes_on(&a, a.position().await.lsn).await;
            // As after a rewind to a source that no longer has the WAL since the last common checkpoint.
            b.segments().iter().for_each(|segment| fs::remove_file(segment).unwrap());
            let begun = b.postgres.start_standby(&b.runner, Instant::now() + Duration::from_secs(2)).await;
            assert!(begun.is_err() && b.runner.lives());
            let end = soon();
            let lacks = loop {
                match lacks(&b.postgres, &a.upstream()).await {
                    Ok(lacks) => break lacks,
                    Err(error) => assert!(Instant::now() < end, "{error}"),
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            };
            assert!(lacks);
        });
    }
}
