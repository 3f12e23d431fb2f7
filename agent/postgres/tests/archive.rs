//! An archive that WAL comes from and goes to, over a real PostgreSQL 15.

mod common;

use common::{Node, as_postgres, begun, joined, primary, runtime, soon, standby};
use primacy_postgres::{Forks, Instant, Position, Runner, Upstream};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A folder that outlives the members.
struct Archive(PathBuf);

impl Archive {
    fn new(name: &str) -> Archive {
        let folder = std::env::temp_dir().join(format!("primacy-archive-{}-{name}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        Archive(folder)
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(&self.0).unwrap();
        let mut names: Vec<_> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    /// What writes into it, and never over what is there.
    fn command(&self) -> String {
        format!("test ! -e {0}/%f && cp %p {0}/%f.new && mv {0}/%f.new {0}/%f", self.0.display())
    }

    /// One that archives into it and keeps nothing for those who are away.
    fn node(&self, name: &str) -> Node {
        let command = self.command();
        let parameters = [
            ("archive_mode", "on"),
            ("archive_command", command.as_str()),
            ("max_slot_wal_keep_size", "0"),
            ("wal_keep_size", "0"),
        ];
        Node::with(name, &["--wal-segsize=1"], &parameters)
    }

    /// The first member of such a cluster.
    async fn primary(&self, name: &str) -> Node {
        let node = begun(self.node(name)).await;
        node.postgres.open_archive(soon()).await.unwrap();
        node
    }
}

impl Drop for Archive {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.0));
    }
}

async fn until(what: &str, holds: impl Fn() -> bool) {
    let end = soon();
    while !holds() {
        assert!(Instant::now() < end, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Writes until the source no longer has this segment.
async fn recycle(node: &Node, segment: &Path) {
    let end = soon();
    while segment.exists() {
        assert!(Instant::now() < end, "it keeps {}", segment.display());
        node.run_sql("SELECT pg_logical_emit_message(false, 'x', repeat('x', 2000000))").await;
        node.run_sql("SELECT pg_switch_wal()").await;
        node.run_sql("CHECKPOINT").await;
    }
}

fn first() -> Forks {
    Forks::from([(1, Position::default())])
}

#[test]
fn what_the_source_has_no_more_comes_from_the_archive_and_no_ghost_with_it() {
    if as_postgres("what_the_source_has_no_more_comes_from_the_archive_and_no_ghost_with_it") {
        runtime().block_on(async {
            let archive = Archive::new("a");
            let a = archive.primary("a").await;
            let folder = archive.0.display();
            let restore = format!("echo %r 100%% >> {folder}/asked; cp \"{folder}/%f\" '%p'");
            let b = Node::new("b").but(|settings| settings.restore_command = Some(restore));
            let b = joined(b, &a, &first()).await;
            b.postgres.stop(&b.runner, soon()).await.unwrap();
            a.followed_by(&[]).await;
            recycle(&a, &a.segment(b.found().await.position.lsn)).await;

            // Somebody was promoted a little further on, and never elected.
            a.run_sql("CREATE TABLE t AS SELECT generate_series(1, 1000)").await;
            let fork = a.position().await.lsn;
            let history = format!("1\t{:X}/{:X}\tx\n", fork >> 32, fork & 0xffff_ffff);
            fs::write(archive.file("00000002.history"), history).unwrap();

            // While there is only the archive, it looks for the newest timeline.
            b.postgres.start_standby(&b.runner, soon()).await.unwrap();
            assert_eq!(b.ask("SHOW restore_command"), "");
            let nobody = Upstream { host: "127.0.0.1".into(), port: 9 };
            b.postgres.follow(&nobody, &first(), soon()).await.unwrap();
            let log = || fs::read_to_string(b.root.join("run/postgres.log")).unwrap();
            until("it has looked", || log().matches("could not connect").count() > 2).await;
            // Beyond the fork it would look for the other timeline at its source, from the second stream on.
            for source in [a.upstream(), nobody, a.upstream()] {
                a.run_sql("INSERT INTO t SELECT generate_series(1, 1000)").await;
                b.postgres.follow(&source, &first(), soon()).await.unwrap();
                if source == a.upstream() {
                    b.reaches(a.position().await).await;
                } else {
                    a.followed_by(&[]).await;
                }
            }
            assert_eq!(b.ask("SELECT count(*) FROM t"), "4000");
            let asked = fs::read_to_string(archive.file("asked")).unwrap();
            assert!(asked.lines().all(|line| line.len() == 29 && line.ends_with(" 100%")), "{asked}");
            assert!(asked.lines().count() > 1);
        });
    }
}

#[test]
fn what_an_old_primary_archived_beyond_the_fork_is_passed_over() {
    if as_postgres("what_an_old_primary_archived_beyond_the_fork_is_passed_over") {
        runtime().block_on(async {
            let archive = Archive::new("l");
            let a = archive.primary("l").await;
            let b = joined(archive.node("m"), &a, &first()).await;
            let restore = format!("cp {}/%f %p", archive.0.display());
            let c = Node::new("n").but(|settings| settings.restore_command = Some(restore));
            let c = joined(c, &a, &first()).await;
            a.run_sql("CREATE TABLE t AS SELECT generate_series(1, 1000)").await;
            for node in [&b, &c] {
                node.reaches(a.position().await).await;
            }
            c.postgres.stop(&c.runner, soon()).await.unwrap();
            let fork = b.postgres.close_sources(soon()).await.unwrap();
            b.postgres.promote(2, soon()).await.unwrap();
            let history = b.postgres.probe(soon()).await.unwrap().forks;

            // The old one goes on for a while, and archives its own end of the segment.
            a.run_sql("INSERT INTO t SELECT generate_series(1, 1000)").await;
            a.run_sql("SELECT pg_switch_wal()").await;
            let tail = a.segment(fork.lsn).file_name().unwrap().to_str().unwrap().to_owned();
            until("the tail is archived", || archive.file(&tail).exists()).await;
            c.postgres.start_standby(&c.runner, soon()).await.unwrap();
            let nobody = Upstream { host: "127.0.0.1".into(), port: 9 };
            c.postgres.follow(&nobody, &history, soon()).await.unwrap();
            let log = || fs::read_to_string(c.root.join("run/postgres.log")).unwrap();
            until("it has looked", || log().matches("could not connect").count() > 2).await;
            assert_eq!(c.position().await, fork);

            b.postgres.open_archive(soon()).await.unwrap();
            b.run_sql("DELETE FROM t").await;
            recycle(&b, &b.root.join("data/pg_wal").join(tail.replacen('1', "2", 1))).await;
            c.postgres.follow(&b.upstream(), &history, soon()).await.unwrap();
            c.reaches(b.position().await).await;
            assert_eq!(c.ask("SELECT count(*) FROM t"), "0");
        });
    }
}

#[test]
fn sources_are_not_closed_while_something_is_being_fetched() {
    if as_postgres("sources_are_not_closed_while_something_is_being_fetched") {
        runtime().block_on(async {
            let archive = Archive::new("c");
            let a = archive.primary("c").await;
            let folder = archive.0.display();
            let restore = format!(
                "touch {folder}/asked; until test -e {folder}/go; do sleep 0.05; done; cp {folder}/%f %p"
            );
            let b = Node::new("d").but(|settings| settings.restore_command = Some(restore));
            fs::write(archive.file("go"), "").unwrap();
            let b = joined(b, &a, &first()).await;
            b.postgres.stop(&b.runner, soon()).await.unwrap();
            a.run_sql("CREATE TABLE t AS SELECT generate_series(1, 1000)").await;
            a.run_sql("SELECT pg_switch_wal()").await;
            let full = a.position().await.lsn;
            let name =
                a.segment(b.found().await.position.lsn).file_name().unwrap().to_str().unwrap().to_owned();
            until("the segment is archived", || archive.file(&name).exists()).await;
            for name in ["go", "asked"] {
                drop(fs::remove_file(archive.file(name)));
            }

            b.postgres.start_standby(&b.runner, soon()).await.unwrap();
            b.postgres.follow(&a.upstream(), &first(), soon()).await.unwrap();
            until("the archive is asked", || archive.file("asked").exists()).await;
            let shortly = Instant::now() + Duration::from_millis(500);
            let refused = b.postgres.close_sources(shortly).await.unwrap_err().to_string();
            assert!(refused.starts_with("stop what brings WAL"), "{refused}");
            fs::write(archive.file("go"), "").unwrap();
            let closed = b.postgres.close_sources(soon()).await.unwrap();
            // What was being fetched is there, and nothing else arrives.
            assert!(b.root.join("data/pg_wal").join(&name).exists() && closed.lsn >= full);
            a.run_sql("SELECT pg_switch_wal()").await;
            tokio::time::sleep(Duration::from_millis(300)).await;
            assert_eq!(b.position().await, closed);
        });
    }
}

#[test]
fn what_came_from_the_archive_counts_before_it_is_replayed() {
    if as_postgres("what_came_from_the_archive_counts_before_it_is_replayed") {
        runtime().block_on(async {
            let archive = Archive::new("e");
            let a = archive.primary("e").await;
            a.run_sql("CREATE TABLE t AS SELECT generate_series(1, 1000) AS n").await;
            let restore = format!("cp {}/%f %p", archive.0.display());
            let b = Node::with("f", &[], &[("max_standby_archive_delay", "-1")]);
            let b = b.but(|settings| settings.restore_command = Some(restore));
            let b = joined(b, &a, &first()).await;
            a.run_sql("INSERT INTO t VALUES (0)").await;
            b.reaches(a.position().await).await;
            let mut reader = b.session("BEGIN; SELECT count(*) FROM t; SELECT pg_sleep(600)");
            until("it reads", || {
                b.ask("SELECT count(*) FROM pg_locks WHERE relation = 't'::regclass") != "0"
            })
            .await;

            // From now on there is only the archive.
            let nobody = Upstream { host: "127.0.0.1".into(), port: 9 };
            b.postgres.follow(&nobody, &first(), soon()).await.unwrap();
            a.followed_by(&[]).await;
            a.run_sql("TRUNCATE t").await;
            a.run_sql("INSERT INTO t SELECT generate_series(1, 1000)").await;
            let end = a.position().await;
            a.run_sql("SELECT pg_switch_wal()").await;
            let blocked = "SELECT count(*) FROM pg_stat_activity \
                           WHERE backend_type = 'startup' AND wait_event_type = 'Lock'";
            until("the replay waits for the reader", || b.ask(blocked) == "1").await;
            let probe = b.postgres.probe(soon()).await.unwrap();
            assert!(probe.replayed < end.lsn && probe.position >= end, "{probe:?} below {end:?}");
            assert!(b.postgres.close_sources(soon()).await.unwrap() >= end);
            reader.kill().unwrap();
            reader.wait().unwrap();
        });
    }
}

#[test]
fn nothing_is_archived_of_a_reign_before_its_place_is_known() {
    if as_postgres("nothing_is_archived_of_a_reign_before_its_place_is_known") {
        runtime().block_on(async {
            let archive = Archive::new("g");
            let command = archive.command();
            let parameters = [("archive_mode", "on"), ("archive_command", command.as_str())];
            let a = primary("g").await;
            let b = joined(Node::with("h", &[], &parameters), &a, &first()).await;
            let early = b.postgres.open_archive(soon()).await.unwrap_err().to_string();
            assert_eq!(early, "a standby has nothing to archive");
            a.run_sql("CREATE TABLE t()").await;
            b.reaches(a.position().await).await;
            // It is promoted straight from following.
            b.postgres.promote(2, soon()).await.unwrap();
            let waits = |count: usize| {
                let log = fs::read_to_string(b.root.join("run/postgres.log")).unwrap();
                log.matches("archiving is not configured").count() >= count
            };
            until("the archiver has looked", || waits(1)).await;
            b.run_sql("SELECT pg_switch_wal()").await;
            until("the archiver has looked again", || waits(2)).await;
            assert_eq!(archive.names(), [""; 0]);

            b.postgres.open_archive(soon()).await.unwrap();
            let all = ["000000010000000000000003.partial", "00000002.history", "000000020000000000000003"];
            until("all is archived", || archive.names() == all).await;
            assert_eq!(b.ask("SELECT failed_count FROM pg_stat_archiver"), "0");

            // A start begins with a closed archive, whatever was before.
            b.runner.kill_all().await.unwrap();
            b.postgres.start_in_place(&b.runner, soon()).await.unwrap();
            b.run_sql("CREATE TABLE u()").await;
            b.run_sql("SELECT pg_switch_wal()").await;
            until("the archiver has looked once more", || waits(3)).await;
            assert_eq!(archive.names(), all);
            b.postgres.open_archive(soon()).await.unwrap();
            until("the rest is archived", || archive.names().len() > all.len()).await;
            // Closed again, by the start as a standby.
            b.postgres.stop(&b.runner, soon()).await.unwrap();
            b.postgres.start_standby(&b.runner, soon()).await.unwrap();
            assert_eq!(b.ask("SHOW archive_command"), "");
        });
    }
}

#[test]
fn a_ghost_in_the_archive_has_no_say_in_the_number_of_a_reign() {
    if as_postgres("a_ghost_in_the_archive_has_no_say_in_the_number_of_a_reign") {
        runtime().block_on(async {
            let archive = Archive::new("i");
            let a = primary("i").await;
            let restore = format!("cp {}/%f %p", archive.0.display());
            let b = Node::new("j").but(|settings| settings.restore_command = Some(restore));
            let b = joined(b, &a, &first()).await;
            fs::write(archive.file("00000002.history"), "1\t0/FF000000\tx\n").unwrap();
            b.postgres.promote(2, soon()).await.unwrap();
            assert_eq!(b.position().await.timeline, 2);
            standby("k", &b).await;
        });
    }
}
