//! The adapter over a real PostgreSQL 15.

mod common;

use common::{Node, SECRET, as_postgres, begun, primary, runtime, soon, standby};
use primacy_postgres::{Aside, Forks, Found, Postgres, Runner, Settings, Upstream, User};
use serde_json::json;
use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

#[test]
fn a_promotion_takes_the_ordered_timeline_and_others_follow_it() {
    if as_postgres("a_promotion_takes_the_ordered_timeline_and_others_follow_it") {
        runtime().block_on(async {
            let a = primary("a").await;
            let b = standby("b", &a).await;
            let c = standby("c", &a).await;
            a.followed_by(&["b", "c"]).await;
            b.postgres
                .follow(&Upstream { host: "127.0.0.1".into(), port: 9 }, &Forks::new(), soon())
                .await
                .unwrap();
            a.followed_by(&["c"]).await;
            let said = async {
                while b.postgres.last_failure().is_none_or(|said| !said.contains("could not connect")) {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            };
            tokio::time::timeout_at(soon(), said).await.unwrap();
            b.postgres.follow(&a.upstream(), &Forks::new(), soon()).await.unwrap();
            a.followed_by(&["b", "c"]).await;
            a.run_sql("CREATE TABLE t AS SELECT generate_series(1, 1000) AS n").await;
            b.reaches(a.position().await).await;

            let closed = b.postgres.close_sources(soon()).await.unwrap();
            a.run_sql("INSERT INTO t VALUES (0)").await;
            tokio::time::sleep(Duration::from_millis(300)).await;
            assert_eq!(b.position().await, closed, "nothing arrives any more");

            let refused = b.postgres.promote(4_000_000_000, soon()).await.unwrap_err();
            assert_eq!(refused.to_string(), "timeline 4000000000 is more than 1000 above 1");
            b.postgres.promote(5, soon()).await.unwrap();
            b.postgres.mark_epoch(5, 77, soon()).await.unwrap();
            let leads = b.postgres.probe(soon()).await.unwrap();
            assert!(!leads.in_recovery);
            assert_eq!(leads.position.timeline, 5);
            assert_eq!(leads.forks.get(&5), Some(&closed), "it left timeline 1 where its WAL ended");
            b.postgres.checkpoint(soon()).await.unwrap();
            assert_eq!(b.postgres.probe(soon()).await.unwrap().checkpoint, 5);

            // c has a row that b lacks: it must not be made to follow. a new copy can.
            let d = standby("d", &b).await;
            assert_eq!(d.position().await.timeline, 5);
            assert_eq!(d.postgres.probe(soon()).await.unwrap().forks, leads.forks);
            assert_eq!(c.position().await.timeline, 1);
        });
    }
}

#[test]
fn a_promotion_that_was_cut_short_leaves_nothing_in_the_way() {
    if as_postgres("a_promotion_that_was_cut_short_leaves_nothing_in_the_way") {
        runtime().block_on(async {
            let a = primary("k").await;
            let b = standby("l", &a).await;
            let history = |timeline| b.root.join(format!("data/pg_wal/{timeline:08X}.history"));
            [2, 3].iter().for_each(|between| fs::write(history(*between), "").unwrap());
            b.runner.kill_all().await.unwrap();
            a.run_sql("CREATE TABLE t AS SELECT generate_series(1, 1000) AS n").await;
            b.postgres.start_standby(&b.runner, soon()).await.unwrap();
            b.postgres.follow(&a.upstream(), &Forks::new(), soon()).await.unwrap();
            b.reaches(a.position().await).await;

            // Those of a promotion that came to its end are needed by others.
            b.postgres.close_sources(soon()).await.unwrap();
            b.postgres.promote(4, soon()).await.unwrap();
            b.runner.kill_all().await.unwrap();
            b.postgres.start_standby(&b.runner, soon()).await.unwrap();
            assert!((2..=4).all(|timeline| history(timeline).exists()));
        });
    }
}

#[test]
fn a_clean_shutdown_ends_where_its_standby_ends() {
    if as_postgres("a_clean_shutdown_ends_where_its_standby_ends") {
        runtime().block_on(async {
            let a = primary("e").await;
            let b = standby("f", &a).await;
            a.run_sql("CREATE TABLE t AS SELECT generate_series(1, 1000) AS n").await;
            a.postgres.stop(&a.runner, soon()).await.unwrap();
            let stopped = a.found().await;
            assert!(stopped.clean && !stopped.signal);
            assert_eq!(b.position().await, stopped.position);

            // The other way round: the old primary follows without a copy.
            b.postgres.promote(2, soon()).await.unwrap();
            a.postgres.start_standby(&a.runner, soon()).await.unwrap();
            a.postgres.follow(&b.upstream(), &Forks::new(), soon()).await.unwrap();
            b.run_sql("INSERT INTO t VALUES (0)").await;
            a.reaches(b.position().await).await;

            // With PostgreSQL down, the same is read from the files.
            let before = a.position().await;
            a.runner.kill_all().await.unwrap();
            let found = a.found().await;
            assert_eq!(found.position.timeline, 2);
            assert!(found.position >= before && !found.clean && found.signal, "{found:?} after {before:?}");
        });
    }
}

#[test]
fn a_crashed_primary_is_known_to_its_last_flushed_record() {
    if as_postgres("a_crashed_primary_is_known_to_its_last_flushed_record") {
        runtime().block_on(async {
            let a = primary("g").await;
            a.run_sql("CREATE TABLE t AS SELECT generate_series(1, 200000) AS n").await;
            a.run_sql("INSERT INTO t VALUES (0)").await;
            let flushed = a.position().await;
            a.runner.kill_all().await.unwrap();
            let found = a.found().await;
            assert!(found.position >= flushed && !found.clean, "{found:?} below {flushed:?}");
            // Whichever the file system names first: segments that were made in advance say nothing yet.
            let last = a.segments().into_iter().max().unwrap();
            let number =
                u64::from_str_radix(&last.to_str().unwrap()[last.to_str().unwrap().len() - 8..], 16).unwrap();
            for next in number + 1..number + 60 {
                let made =
                    fs::File::create(last.with_file_name(format!("0000000100000000{next:08X}"))).unwrap();
                made.set_len(1 << 24).unwrap();
            }
            assert_eq!(a.found().await.position, found.position);
            a.postgres.start_in_place(&a.runner, soon()).await.unwrap();
            assert!(a.position().await >= found.position);

            a.runner.kill_all().await.unwrap();
            let unheard = a.postgres.follow(&a.upstream(), &Forks::new(), soon()).await.unwrap_err();
            assert_eq!(unheard.to_string(), "no postmaster runs");
            a.postgres.set_identity(&json!({"copy": 9})).await.unwrap();
            assert_eq!(a.postgres.identity(), Some(json!({"copy": 9})));
            let aside = a.postgres.set_aside(&Aside::default(), soon()).await.unwrap();
            assert!(aside.join("PG_VERSION").exists());
            assert_eq!(a.postgres.inspect(soon()).await.unwrap(), Found::Absent);
        });
    }
}

#[test]
fn the_end_of_the_wal_is_found_without_reading_all_of_it() {
    if as_postgres("the_end_of_the_wal_is_found_without_reading_all_of_it") {
        runtime().block_on(async {
            let a = begun(Node::with("i", &["--wal-segsize=1"], &[])).await;
            // Some of the segments are kept for later use.
            a.run_sql("ALTER SYSTEM SET wal_keep_size = 0").await;
            a.run_sql("SELECT pg_reload_conf()").await;
            for table in ["t", "u", "v"] {
                a.run_sql(&format!("CREATE TABLE {table} AS SELECT generate_series(1, 50000) AS n")).await;
                a.run_sql("CHECKPOINT").await;
            }
            let redo = a.position().await;
            a.run_sql("INSERT INTO t SELECT generate_series(1, 50000)").await;
            let flushed = a.position().await;
            assert!(a.segments().last() > Some(&a.segment(flushed.lsn)), "there is one made in advance");
            a.runner.kill_all().await.unwrap();
            let unreadable = a.segment(redo.lsn);
            fs::set_permissions(&unreadable, fs::Permissions::from_mode(0o000)).unwrap();
            let found = a.found().await.position;
            fs::set_permissions(&unreadable, fs::Permissions::from_mode(0o600)).unwrap();
            assert!(found >= flushed, "{found:?} below {flushed:?}");
            a.postgres.start_in_place(&a.runner, soon()).await.unwrap();
            assert!(a.position().await >= found);

            a.run_sql("SELECT pg_switch_wal()").await;
            let switched = a.position().await;
            a.runner.kill_all().await.unwrap();
            assert_eq!(a.found().await.position, switched, "a segment that is closed is full");
        });
    }
}

#[test]
fn a_record_over_many_segments_counts_once_it_is_complete() {
    if as_postgres("a_record_over_many_segments_counts_once_it_is_complete") {
        runtime().block_on(async {
            let a = begun(Node::with("j", &["--wal-segsize=1"], &[])).await;
            let before = a.position().await;
            a.run_sql("SELECT pg_logical_emit_message(false, 'x', repeat('x', 5000000))").await;
            a.run_sql(
                "DO $$ BEGIN WHILE pg_current_wal_flush_lsn() < pg_current_wal_insert_lsn() \
                 LOOP PERFORM pg_sleep(0.05); END LOOP; END $$",
            )
            .await;
            let flushed = a.position().await;
            a.runner.kill_all().await.unwrap();
            let found = a.found().await.position;
            assert!(found >= flushed, "{found:?} below {flushed:?}");

            // Its last page gets lost.
            let file = fs::File::options().write(true).open(a.segment(flushed.lsn)).unwrap();
            let page = (flushed.lsn - 1) % (1 << 20) / 8_192 * 8_192;
            file.write_all_at(&[0; 8_192], page).unwrap();
            let found = a.found().await.position;
            assert!(found >= before && found < flushed, "{found:?} after {before:?}");
            a.postgres.start_in_place(&a.runner, soon()).await.unwrap();
        });
    }
}

#[test]
fn what_is_no_data_directory_is_left_alone() {
    if as_postgres("what_is_no_data_directory_is_left_alone") {
        runtime().block_on(async {
            let a = Node::new("h");
            let data = a.root.join("data");
            fs::create_dir(&data).unwrap();
            fs::write(data.join("precious"), "x").unwrap();
            let found = a.postgres.inspect(soon()).await.unwrap();
            assert_eq!(found, Found::Foreign(primacy_postgres::Foreign::NotPostgres));
            assert!(
                a.postgres.initdb(&json!({}), soon()).await.unwrap_err().to_string().contains("not empty")
            );
            fs::write(data.join("PG_VERSION"), "\n").unwrap();
            let found = a.postgres.inspect(soon()).await.unwrap();
            assert_eq!(found, Found::Foreign(primacy_postgres::Foreign::NotPostgres), "it names no version");
            fs::write(data.join("PG_VERSION"), "9.6\n").unwrap();
            fs::create_dir(data.join("global")).unwrap();
            assert!(matches!(a.postgres.inspect(soon()).await.unwrap(), Found::Incomplete(_)));
            fs::write(data.join("global/pg_control"), "x").unwrap();
            let found = a.postgres.inspect(soon()).await.unwrap();
            assert_eq!(found, Found::Foreign(primacy_postgres::Foreign::OtherVersion));
            assert_eq!(fs::read_to_string(data.join("precious")).unwrap(), "x");
        });
    }
}

#[test]
fn a_password_is_in_one_file_and_in_no_log() {
    if as_postgres("a_password_is_in_one_file_and_in_no_log") {
        runtime().block_on(async {
            let a = primary("i").await;
            let b = standby("j", &a).await;
            b.postgres.close_sources(soon()).await.unwrap();
            for node in [&a, &b] {
                let files = ["data/primacy.source.conf", "data/postgresql.conf", "run/postgres.log"];
                for file in files.map(|file| node.root.join(file)) {
                    let text = fs::read_to_string(&file).unwrap();
                    assert!(!text.contains("secret"), "{}: {text}", file.display());
                }
            }
            let log = fs::read_to_string(b.root.join("run/postgres.log")).unwrap();
            assert!(log.contains("\"primary_conninfo\" changed to"), "PostgreSQL logs it: {log}");
        });
    }
}

#[test]
fn roles_are_set_up_in_silence_though_all_is_logged_and_read_only() {
    if as_postgres("roles_are_set_up_in_silence_though_all_is_logged_and_read_only") {
        runtime().block_on(async {
            let parameters = [
                ("log_statement", "all"),
                ("log_min_duration_statement", "0"),
                ("default_transaction_read_only", "on"),
            ];
            let a = begun(Node::with("k", &[], &parameters)).await;
            a.postgres.mark_epoch(1, 7, soon()).await.unwrap();
            // Names that begin like this are PostgreSQL's own.
            let replication = User { name: "pg_mine".into(), password: Some(SECRET.into()) };
            let settings = Settings { replication, ..a.postgres.settings().clone() };
            let refused = Postgres::new(settings).prepare_roles(soon()).await.unwrap_err().to_string();
            assert!(refused.contains("reserved"), "{refused}");
            a.run_sql("SELECT 'of others'").await;
            // The roles have their passwords: a standby gets in.
            standby("l", &a).await;
            let log = fs::read_to_string(a.root.join("run/postgres.log")).unwrap();
            assert!(log.contains("SELECT 'of others'") && log.contains("reserved"), "{log}");
            assert!(!log.contains("ALTER ROLE") && !log.contains("SCRAM"), "{log}");
        });
    }
}

/// A process of this program that names a path on its command line and waits for a line.
fn at_work(program: &Path, path: &Path) -> Child {
    let mut command = Command::new(program);
    command.args(["-c", "read line"]).arg(path).stdin(Stdio::piped()).spawn().unwrap()
}

#[test]
fn what_a_dead_agent_was_copying_is_cleared_away_and_nothing_else() {
    if as_postgres("what_a_dead_agent_was_copying_is_cleared_away_and_nothing_else") {
        runtime().block_on(async {
            let a = Node::new("m");
            let [dead, unmarked, named] =
                ["data.new-7", "data.new-8", "data.new-mine"].map(|name| a.root.join(name));
            for folder in [&dead, &unmarked, &named] {
                fs::create_dir(folder).unwrap();
                fs::write(folder.join("precious"), "x").unwrap();
            }
            for folder in [&dead, &named] {
                fs::write(folder.join("primacy-making"), "").unwrap();
            }
            // A shell by the name of a program that makes copies, and one by its own.
            let shell = a.root.join("pg_basebackup");
            fs::copy("/bin/sh", &shell).unwrap();
            let mut leftover = at_work(&shell, &dead.join("data"));
            let mut elsewhere = at_work(&shell, &unmarked.join("data"));
            let mut stranger = at_work(Path::new("/bin/sh"), &dead.join("data"));

            a.postgres.initdb(&json!({"copy": 2}), soon()).await.unwrap();
            assert!(leftover.try_wait().unwrap().is_some(), "it still works on what is gone");
            assert!(!dead.exists() && unmarked.join("precious").exists() && named.join("precious").exists());
            let left = fs::read_dir(&a.root).unwrap().flatten().map(|entry| entry.file_name());
            let mut left: Vec<OsString> = left.collect();
            left.sort();
            assert_eq!(left, ["data", "data.new-8", "data.new-mine", "pg_basebackup", "run"]);
            for other in [&mut elsewhere, &mut stranger] {
                assert_eq!(other.try_wait().unwrap(), None, "only who works on it is killed");
                other.kill().unwrap();
                other.wait().unwrap();
            }
        });
    }
}

#[test]
fn a_restarted_standby_counts_what_it_has_not_replayed_yet() {
    if as_postgres("a_restarted_standby_counts_what_it_has_not_replayed_yet") {
        runtime().block_on(async {
            let a = primary("o").await;
            let b = standby("p", &a).await;
            b.run_sql("ALTER SYSTEM SET recovery_min_apply_delay = '1h'").await;
            b.run_sql("SELECT pg_reload_conf()").await;
            a.run_sql("CREATE TABLE t AS SELECT generate_series(1, 1000) AS n").await;
            a.run_sql("INSERT INTO t VALUES (0)").await;
            let held = a.position().await;
            b.reaches(held).await;
            b.runner.kill_all().await.unwrap();
            b.postgres.start_standby(&b.runner, soon()).await.unwrap();
            let probe = b.postgres.probe(soon()).await.unwrap();
            assert!(probe.replayed < held.lsn && probe.position >= held, "{probe:?} below {held:?}");
            assert!(b.postgres.close_sources(soon()).await.unwrap() >= held);
        });
    }
}

#[test]
fn what_can_not_be_read_is_no_fact() {
    if as_postgres("what_can_not_be_read_is_no_fact") {
        runtime().block_on(async {
            let a = primary("o").await;
            let b = standby("p", &a).await;
            b.postgres.close_sources(soon()).await.unwrap();
            b.postgres.promote(2, soon()).await.unwrap();
            let data = b.root.join("data");
            let hidden = |name: &str, mode| {
                fs::set_permissions(data.join(name), fs::Permissions::from_mode(mode)).unwrap();
            };
            hidden("pg_wal/00000002.history", 0o000);
            let why = b.postgres.probe(soon()).await.unwrap_err().to_string();
            assert!(why.contains("00000002.history"), "{why}");
            b.runner.kill_all().await.unwrap();
            let names = [("pg_wal/00000002.history", 0o600), ("PG_VERSION", 0o600), ("global", 0o700)];
            for (name, mode) in names {
                hidden(name, 0o000);
                let why = b.postgres.inspect(soon()).await.unwrap_err().to_string();
                assert!(why.contains(name), "{why}");
                hidden(name, mode);
            }
            assert_eq!(b.found().await.position.timeline, 2);
        });
    }
}

#[test]
fn sources_are_closed_though_the_clock_goes_back() {
    if as_postgres("sources_are_closed_though_the_clock_goes_back") {
        runtime().block_on(async {
            let a = primary("q").await;
            let b = standby("r", &a).await;
            a.run_sql(
                "CREATE SCHEMA back; CREATE FUNCTION back.pg_conf_load_time() RETURNS timestamptz LANGUAGE sql AS \
                 $$SELECT '2000-01-01'::timestamptz - (pg_catalog.pg_conf_load_time() - '2000-01-01')$$; \
                 ALTER ROLE postgres SET search_path = back, pg_catalog",
            )
            .await;
            b.reaches(a.position().await).await;
            let held = a.position().await;
            assert!(b.ask("SELECT pg_conf_load_time()").starts_with("19"), "it runs backwards");
            assert!(b.postgres.close_sources(soon()).await.unwrap() >= held);
        });
    }
}
