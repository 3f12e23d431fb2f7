//! Copies with a tablespace, over a real PostgreSQL 15.

mod common;

use common::{Node, as_postgres, primary, runtime, soon};
use primacy_postgres::{Aside, Forks, Position, Runner};
use serde_json::json;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

/// A place that is another one for each process. Two members on one host could have no tablespace else.
const PLACE: &str = "/proc/self/cwd/../space";

/// The names in a folder that begin so.
fn names(folder: &Path, prefix: &str) -> Vec<String> {
    let names = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = names.filter(|name| name.starts_with(prefix)).collect();
    names.sort();
    names
}

#[test]
fn a_copy_with_a_tablespace_is_made_anew_as_often_as_need_be() {
    if as_postgres("a_copy_with_a_tablespace_is_made_anew_as_often_as_need_be") {
        runtime().block_on(async {
            let a = primary("a").await;
            fs::create_dir(a.root.join("space")).unwrap();
            let place = a.root.join("space");
            a.run_sql(&format!("CREATE TABLESPACE space LOCATION '{}'", place.display())).await;
            a.run_sql("CREATE TABLE t TABLESPACE space AS SELECT 7 AS n").await;
            a.postgres.stop(&a.runner, soon()).await.unwrap();
            let link = a.root.join("data/pg_tblspc").join(&names(&a.root.join("data/pg_tblspc"), "")[0]);
            fs::remove_file(&link).unwrap();
            symlink(PLACE, &link).unwrap();
            a.postgres.start_in_place(&a.runner, soon()).await.unwrap();

            let b = Node::new("b");
            std::env::set_current_dir(b.root.join("run")).unwrap();
            let history = Forks::from([(1, Position::default())]);
            for round in 1..=3 {
                // The second of three fails half way, and its agent dies.
                if round == 2 {
                    let left = b.root.join("data.new-7");
                    fs::create_dir(&left).unwrap();
                    fs::write(left.join("primacy-making"), json!([PLACE]).to_string()).unwrap();
                    fs::create_dir_all(b.root.join("space/PG_15_202209061/5")).unwrap();
                }
                b.postgres.clone_from(&a.upstream(), &json!({"copy": round}), soon()).await.unwrap();
                b.postgres.start_standby(&b.runner, soon()).await.unwrap();
                b.postgres.follow(&a.upstream(), &history, soon()).await.unwrap();
                b.reaches(a.position().await).await;
                assert_eq!(b.ask("SELECT n FROM t"), "7");
                b.runner.kill_all().await.unwrap();
                b.postgres.set_aside(&Aside::default(), soon()).await.unwrap();
                let aside = names(&b.root, "space");
                assert_eq!(aside.len(), round, "{aside:?}");
            }

            // What nobody of ours has put there is named, and stays.
            fs::create_dir_all(b.root.join("space/precious")).unwrap();
            let cloned = b.postgres.clone_from(&a.upstream(), &json!({}), soon()).await;
            let why = cloned.unwrap_err().to_string();
            assert!(why.contains("/space is not empty here: move away what is there"), "{why}");
            assert!(b.root.join("space/precious").exists());
        });
    }
}
