//! Members that have left the elected history come back to it, over a real PostgreSQL 15.

mod common;

use common::{BIN, Node, as_postgres, begun, ends_after, primary, process, runtime, soon, standby};
use primacy_postgres::{Error, Forks, Instant, Postgres, Runner, Upstream};
use rustix::process::{Signal, kill_process};
use serde_json::json;
use std::fs;
use std::process::{Command, Stdio};
use std::time::Duration;

/// A primary that has gone another way than its standby, which is elected.
async fn parted(old: Node, name: &str) -> (Node, Node) {
    let elected = standby(name, &old).await;
    old.ask("CREATE TABLE t AS SELECT n, 'both' AS held FROM generate_series(1, 20000) AS n");
    elected.reaches(old.position().await).await;
    elected.postgres.close_sources(soon()).await.unwrap();
    old.ask("UPDATE t SET held = 'lost' WHERE n % 2 = 0");
    (old, elected)
}

async fn elect(node: &Node) {
    node.postgres.promote(2, soon()).await.unwrap();
    node.postgres.checkpoint(soon()).await.unwrap();
    node.ask("UPDATE t SET held = 'won' WHERE n % 3 = 0");
}

/// Starts it, which it does without a source, and lets it follow.
async fn comes_back(node: &Node, source: &Node) {
    node.postgres.start_standby(&node.runner, soon()).await.unwrap();
    node.postgres.follow(&source.upstream(), &Forks::new(), soon()).await.unwrap();
    node.reaches(source.position().await).await;
    let question = "SELECT count(*), sum(hashtext(t::text)) FROM t WHERE held <> 'lost'";
    assert_eq!(node.ask(question), source.ask(question));
    assert_eq!(node.ask("SELECT count(*) FROM t WHERE held = 'lost'"), "0");
}

#[test]
fn a_crashed_primary_comes_back_and_nothing_of_the_source_s_own_comes_with_it() {
    if as_postgres("a_crashed_primary_comes_back_and_nothing_of_the_source_s_own_comes_with_it") {
        runtime().block_on(async {
            // It keeps no more WAL than its own recovery needs.
            let a = begun(Node::with("a", &["--wal-segsize=1"], &[("wal_keep_size", "0")])).await;
            let (a, b) = parted(a, "b").await;
            for (node, name) in [(&a, "a"), (&b, "b")] {
                fs::write(node.root.join("data/pg_ident.conf"), format!("# {name}\n")).unwrap();
                node.ask(&format!("ALTER SYSTEM SET cluster_name = '{name}'"));
                node.ask(&format!("SELECT pg_create_physical_replication_slot('of_{name}')"));
            }
            a.runner.kill_all().await.unwrap();
            elect(&b).await;
            fs::write(b.root.join("data/recovery.signal"), "").unwrap();
            fs::write(b.root.join("data/primacy.source.conf"), "primary_conninfo = 'host=of_b'\n").unwrap();
            // It is written to all the time.
            let busy = "DO $$ BEGIN FOR i IN 1..100000 LOOP UPDATE t SET held = 'won' WHERE n = 3; COMMIT; END LOOP; END $$";
            let mut busy = b.psql(busy).stderr(Stdio::null()).spawn().unwrap();
            a.postgres.rewind(&b.upstream(), 2, soon()).await.unwrap();
            busy.kill().unwrap();
            busy.wait().unwrap();

            assert_eq!((a.postgres.identity(), a.postgres.progress()), (None, None));
            let found = a.found().await;
            assert!(found.signal && found.position.timeline == 2, "{found:?}");
            let text = |name: &str| fs::read_to_string(a.root.join("data").join(name)).unwrap();
            assert_eq!(text("pg_ident.conf"), "# a\n");
            assert!(text("postgresql.auto.conf").contains("'a'"));
            assert!(!text("primacy.source.conf").contains("of_b"));
            for name in ["recovery.signal", "postmaster.pid", "postmaster.opts", "pg_wal/primacy-fetched"] {
                assert!(!a.root.join("data").join(name).exists(), "{name}");
            }
            comes_back(&a, &b).await;
            assert_eq!(a.ask("SELECT count(*) FROM pg_replication_slots"), "0");
        });
    }
}

/// `pg_rewind` keeps it by itself since 2025; before, nothing could start from what it had rewound.
#[test]
fn wal_that_the_source_has_recycled_is_not_taken_away() {
    if as_postgres("wal_that_the_source_has_recycled_is_not_taken_away") {
        runtime().block_on(async {
            let parameters = [("max_wal_size", "1GB"), ("autovacuum", "off")];
            let a = begun(Node::with("aa", &["--wal-segsize=1"], &parameters)).await;
            let b = standby("ab", &a).await;
            for set in ["wal_keep_size = 0", "min_wal_size = '2MB'"] {
                b.ask(&format!("ALTER SYSTEM SET {set}"));
            }
            b.ask("SELECT pg_reload_conf()");
            // Much is written in common after the last checkpoint.
            a.ask("CHECKPOINT");
            let common = a.segment(a.position().await.lsn);
            a.ask("CREATE TABLE t AS SELECT n, 'both' AS held FROM generate_series(1, 60000) AS n");
            b.reaches(a.position().await).await;
            b.postgres.close_sources(soon()).await.unwrap();
            a.ask("UPDATE t SET held = 'lost' WHERE n % 2 = 0");
            a.runner.kill_all().await.unwrap();
            elect(&b).await;
            let name = common.file_name().unwrap();
            assert!(!b.root.join("data/pg_wal").join(name).exists(), "the source has recycled {name:?}");
            a.postgres.rewind(&b.upstream(), 2, soon()).await.unwrap();
            assert!(common.exists(), "recovery begins there");
            comes_back(&a, &b).await;
        });
    }
}

#[test]
fn standbys_that_were_ahead_come_back_however_they_ended() {
    if as_postgres("standbys_that_were_ahead_come_back_however_they_ended") {
        runtime().block_on(async {
            let a = primary("c").await;
            let [stopped, crashed, delayed] =
                [standby("d", &a).await, standby("e", &a).await, standby("f", &a).await];
            // What it has received and not replayed is to be forgotten, too.
            delayed.ask("ALTER SYSTEM SET recovery_min_apply_delay = '1h'");
            delayed.ask("SELECT pg_reload_conf()");
            let (a, b) = parted(a, "g").await;
            let nodes = [&stopped, &crashed, &delayed];
            for node in nodes {
                node.reaches(a.position().await).await;
            }
            stopped.postgres.stop(&stopped.runner, soon()).await.unwrap();
            crashed.runner.kill_all().await.unwrap();
            delayed.postgres.stop(&delayed.runner, soon()).await.unwrap();
            a.runner.kill_all().await.unwrap();
            elect(&b).await;
            fs::remove_file(delayed.root.join("data/postgresql.auto.conf")).unwrap();
            for node in nodes {
                node.postgres.rewind(&b.upstream(), 2, soon()).await.unwrap();
                comes_back(node, &b).await;
            }
        });
    }
}

fn unfit(refused: Result<(), Error>) -> String {
    match refused {
        Err(Error::Unfit(why)) => why,
        other => panic!("{other:?}"),
    }
}

fn unrewindable(refused: Result<(), Error>) -> String {
    match refused {
        Err(Error::Unrewindable(why)) => why,
        other => panic!("{other:?}"),
    }
}

#[test]
fn from_what_is_no_settled_primary_nothing_is_taken() {
    if as_postgres("from_what_is_no_settled_primary_nothing_is_taken") {
        runtime().block_on(async {
            let (a, b) = parted(primary("h").await, "i").await;
            assert_eq!(unfit(a.postgres.rewind(&b.upstream(), 2, soon()).await), "PostgreSQL runs");
            a.runner.kill_all().await.unwrap();
            let refused = unfit(a.postgres.rewind(&b.upstream(), 2, soon()).await);
            assert!(refused.ends_with("it is in recovery"), "{refused}");

            let checkpointer = process(&b, "checkpointer");
            kill_process(checkpointer, Signal::STOP).unwrap();
            b.postgres.promote(2, soon()).await.unwrap();
            let refused = unfit(a.postgres.rewind(&b.upstream(), 2, soon()).await);
            assert!(refused.ends_with("it has no checkpoint on timeline 2 yet"), "{refused}");
            kill_process(checkpointer, Signal::CONT).unwrap();

            let stranger = primary("j").await;
            let refused = unfit(a.postgres.rewind(&stranger.upstream(), 2, soon()).await);
            assert!(refused.contains("its system identifier is"), "{refused}");
            let nobody = Upstream { host: "127.0.0.1".into(), port: 9 };
            let away = a.postgres.rewind(&nobody, 2, soon()).await;
            assert!(matches!(away, Err(Error::Program { program: "psql", .. })), "{away:?}");

            b.ask("REVOKE EXECUTE ON FUNCTION pg_read_binary_file(text) FROM rewinder");
            b.postgres.checkpoint(soon()).await.unwrap();
            let refused = unfit(a.postgres.rewind(&b.upstream(), 2, soon()).await);
            assert!(refused.contains("may not read files") && refused.contains("GRANT EXECUTE"), "{refused}");
            assert_eq!(a.postgres.identity(), Some(json!({"copy": 1})), "it is still what it was");
            b.postgres.prepare_roles(soon()).await.unwrap();
            // The end of its WAL is the beginning of a segment, and nobody writes any more.
            kill_process(process(&b, "background writer"), Signal::STOP).unwrap();
            b.ask("SELECT pg_switch_wal()");
            a.postgres.rewind(&b.upstream(), 2, soon()).await.unwrap();
            kill_process(process(&b, "background writer"), Signal::CONT).unwrap();
            comes_back(&a, &b).await;
        });
    }
}

#[test]
fn what_can_never_be_rewound_is_said_to_be_so() {
    if as_postgres("what_can_never_be_rewound_is_said_to_be_so") {
        runtime().block_on(async {
            for (name, initdb, parameter, why) in [
                ("k", None, ("wal_log_hints", "off"), Some("wal_log_hints")),
                ("m", Some("--data-checksums"), ("wal_log_hints", "off"), None),
                ("o", None, ("full_page_writes", "off"), Some("full_page_writes")),
            ] {
                let a = begun(Node::with(name, initdb.as_slice(), &[parameter])).await;
                a.ask("CHECKPOINT");
                let (a, b) = parted(a, &format!("{name}2")).await;
                a.runner.kill_all().await.unwrap();
                elect(&b).await;
                let done = a.postgres.rewind(&b.upstream(), 2, soon()).await;
                match why {
                    Some(why) => assert!(unrewindable(done).contains(why)),
                    None => done.unwrap(),
                }
            }
            // The WAL from before they parted is gone. Its source is asked once more, and not to blame.
            let (a, b) = parted(begun(Node::with("l", &["--wal-segsize=1"], &[])).await, "l2").await;
            a.postgres.stop(&a.runner, soon()).await.unwrap();
            elect(&b).await;
            let last = a.segment(a.found().await.position.lsn);
            for segment in a.segments().iter().filter(|path| **path < last) {
                fs::remove_file(segment).unwrap();
            }
            let refused = unrewindable(a.postgres.rewind(&b.upstream(), 2, soon()).await);
            assert!(refused.starts_with("pg_rewind failed"), "{refused}");
            assert_eq!(a.postgres.identity(), Some(json!({"copy": 1})), "it is still what it was");

            let a = primary("p").await;
            let b = Node::new("q");
            b.postgres.clone_from(&a.upstream(), &json!({"copy": 2}), soon()).await.unwrap();
            let refused = unrewindable(b.postgres.rewind(&a.upstream(), 1, soon()).await);
            assert!(refused.contains("never started"), "{refused}");
            b.postgres.start_standby(&b.runner, soon()).await.unwrap();
            b.postgres.stop(&b.runner, soon()).await.unwrap();
            let refused = unrewindable(b.postgres.rewind(&a.upstream(), 1, soon()).await);
            assert!(refused.contains("timeline 1, too"), "{refused}");
        });
    }
}

/// Programs at work on the directory, as anybody sees them.
fn at_work(node: &Node) -> Vec<String> {
    let data = node.root.join("data").to_string_lossy().into_owned();
    let processes = fs::read_dir("/proc").unwrap().flatten();
    let lines = processes.filter_map(|process| fs::read_to_string(process.path().join("cmdline")).ok());
    lines.filter(|line| line.split('\0').any(|word| word == data)).collect()
}

#[test]
fn an_interrupted_rewind_leaves_nobody_at_work() {
    if as_postgres("an_interrupted_rewind_leaves_nobody_at_work") {
        runtime().block_on(async {
            let (a, b) = parted(primary("r").await, "s").await;
            a.runner.kill_all().await.unwrap();
            elect(&b).await;
            let hasty: Postgres = a.with_settings(|settings| settings.stall = Duration::from_secs(5));
            let frozen = hasty.rewind(&ends_after(&b, 0), 2, soon()).await;
            assert!(matches!(frozen, Err(Error::TimedOut("psql"))), "{frozen:?}");
            // It isn't told which files there are.
            let stalled = hasty.rewind(&ends_after(&b, 16 << 10), 2, soon()).await;
            assert!(matches!(stalled, Err(Error::Stalled("rewind"))), "{stalled:?}");
            assert_eq!(a.postgres.identity(), Some(json!({"copy": 1})));

            let half = ends_after(&b, 4 << 20);
            let mut running = Box::pin(a.postgres.rewind(&half, 2, soon()));
            loop {
                tokio::select! {
                    biased;
                    ended = &mut running => panic!("{ended:?}"),
                    () = tokio::time::sleep(Duration::from_millis(20)) => {}
                }
                if a.postgres.progress().is_some_and(|progress| progress.total_bytes.is_some()) {
                    break;
                }
            }
            assert_eq!(at_work(&a).len(), 1);
            drop(running);
            let until = soon();
            while !at_work(&a).is_empty() {
                assert!(Instant::now() < until, "{:?}", at_work(&a));
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            assert_eq!(a.postgres.progress(), None);
        });
    }
}

#[test]
fn a_rewind_that_stops_half_way_is_not_tried_again() {
    if as_postgres("a_rewind_that_stops_half_way_is_not_tried_again") {
        runtime().block_on(async {
            let (a, b) = parted(primary("t").await, "u").await;
            a.postgres.stop(&a.runner, soon()).await.unwrap();
            elect(&b).await;
            let hasty: Postgres = a.with_settings(|settings| settings.stall = Duration::from_secs(5));
            let why = unrewindable(hasty.rewind(&ends_after(&b, 4 << 20), 2, soon()).await);
            assert!(why.contains("rewind: no progress any more"), "{why}");
        });
    }
}

#[test]
fn what_a_dead_agent_left_at_work_is_ended_and_no_server_is() {
    if as_postgres("what_a_dead_agent_left_at_work_is_ended_and_no_server_is") {
        runtime().block_on(async {
            let (a, b) = parted(primary("v").await, "w").await;
            a.postgres.stop(&a.runner, soon()).await.unwrap();
            let hangs = ends_after(&b, 0);
            let conninfo = format!("host=127.0.0.1 port={} user=rewinder dbname=postgres", hangs.port);
            let mut left = Command::new(format!("{BIN}/pg_rewind"))
                .args(["--source-server", &conninfo, "-D"])
                .arg(a.root.join("data"))
                .spawn()
                .unwrap();
            let mut single = Command::new(format!("{BIN}/postgres"))
                .args(["--single", "-D"])
                .arg(a.root.join("data"))
                .args(["-c", "port=1", "template1"])
                .stdin(Stdio::piped())
                .stdout(Stdio::null())
                .spawn()
                .unwrap();
            a.postgres.end_leftovers(soon()).await.unwrap();
            b.postgres.end_leftovers(soon()).await.unwrap();
            for child in [&mut left, &mut single] {
                assert!(child.try_wait().unwrap().is_some());
            }
            assert!(b.runner.any_left().await.unwrap() && b.position().await.timeline == 1);
        });
    }
}

#[test]
fn wal_that_was_not_archived_is_kept() {
    if as_postgres("wal_that_was_not_archived_is_kept") {
        runtime().block_on(async {
            let parameters = [("archive_mode", "on"), ("archive_command", "false")];
            let (a, b) = parted(begun(Node::with("x", &[], &parameters)).await, "y").await;
            a.ask("SELECT pg_switch_wal()");
            a.ask("UPDATE t SET held = 'lost'");
            a.runner.kill_all().await.unwrap();
            elect(&b).await;
            let ready = fs::read_dir(a.root.join("data/pg_wal/archive_status")).unwrap().flatten();
            let ready = ready.filter_map(|entry| {
                let name = entry.file_name().into_string().unwrap();
                let name = name.strip_suffix(".ready")?;
                let content = fs::read(a.root.join("data/pg_wal").join(name)).unwrap();
                Some((name.to_owned(), content))
            });
            let ready: Vec<_> = ready.collect();
            assert!(ready.len() > 1, "{ready:?}");
            a.postgres.rewind(&b.upstream(), 2, soon()).await.unwrap();
            let kept = a.postgres.unarchived_dir().unwrap();
            for (name, content) in ready {
                assert!(fs::read(kept.join(&name)).unwrap() == content, "{name}");
            }
            comes_back(&a, &b).await;
        });
    }
}
