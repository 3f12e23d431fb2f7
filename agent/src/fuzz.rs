//! Whatever stands in the file, in the store or in a request, reading it doesn't panic, and a mistake is told.

#[path = "../fuzz/mutate.rs"]
mod mutate;

use crate::config::Settings;
use crate::store::directory::Contents;
use crate::store::records::{Meaning, Paths, decode, encode};
use mutate::fuzz;

const FILE: &str = "
scope: batman
name: postgresql0
restapi: {listen: 127.0.0.1:8008, authentication: {username: u, password: p}}
etcd3: {hosts: '127.0.0.1:2379,127.0.0.1:22379'}
bootstrap:
  dcs: {ttl: 30, loop_wait: 2, maximum_lag_on_failover: 1048576}
  initdb: [{encoding: UTF8}, data-checksums]
postgresql:
  listen: 127.0.0.1,localhost:5433
  data_dir: /data/pg0
  parameters: {log_file_mode: 0640, max_connections: 200}
tags: {failover_priority: 3, clonefrom: false}
primacy: {aside: {keep: 3, max_age: 7d}}
";

const KEYS: [(&str, &str); 8] = [
    (
        "reign",
        r#"{"epoch":2,"holder":"a","boot":7,"machine":9,"nonce":18446744073709551615,"ttl":5000000,"released":{"end":9,"to":"b"}}"#,
    ),
    ("beat", r#"{"epoch":4294967295,"end":117440728}"#),
    ("rule", r#"{"epoch":2,"leader":"a","leader_copy":1,"electable":{"b":2}}"#),
    ("initialize", r#"{"by":"a","boot":1,"system":7400000000000000000,"foreign":false}"#),
    ("switchover", r#"{"epoch":2,"to":"b","refused":null}"#),
    ("epochs/2", r#"{"epoch":2,"holder":"a","nonce":1,"fork":{"epoch":1,"lsn":5},"checkpointed":true}"#),
    ("pledge/a", r#"{"member":"a","epoch":2,"held":true,"position":{"epoch":1,"lsn":5},"copy":3}"#),
    ("members/a", r#"{"name":"a","copy":3,"priority":1}"#),
];

const OTHERS: [&str; 3] = [
    r#"{"conn_url":"postgres://u:p@[::1]:5432/postgres?x=y","api_url":"http://127.0.0.1:8008/patroni","state":"running","role":"replica","timeline":2}"#,
    r#"[[1,117440672,"no recovery target specified","2026-11-25T00:00:00+00:00","a"]]"#,
    "7400000000000000000",
];

#[test]
fn a_file_is_read_or_each_mistake_is_told() {
    fuzz(&[FILE], |bytes| {
        if let Err(mistakes) = Settings::parse(&String::from_utf8_lossy(bytes)) {
            assert!(!mistakes.0.is_empty() && mistakes.0.iter().all(|mistake| !mistake.is_empty()));
        }
    });
}

#[test]
fn a_record_comes_back_as_it_was_written_and_garbage_names_its_key() {
    let paths = Paths { prefix: "/s/c/".to_owned() };
    let values = KEYS.map(|(_, value)| value);
    for (name, value) in KEYS {
        let path = paths.note(name);
        let Meaning::Record(key) = paths.meaning(path.as_bytes()) else { panic!("{path} is a record's") };
        decode(&key, path.as_bytes(), value.as_bytes()).expect("a record of the corpus");
        fuzz(&values, |bytes| match decode(&key, path.as_bytes(), bytes) {
            Ok(record) => assert_eq!(decode(&key, path.as_bytes(), &encode(&record)), Ok(record)),
            Err(garbage) => assert!(garbage.key == path && !garbage.why.is_empty()),
        });
    }
}

#[test]
fn an_epoch_that_none_can_follow_is_garbage() {
    let paths = Paths { prefix: "/s/c/".to_owned() };
    for (name, value) in [("reign", KEYS[0].1), ("epochs/4294967295", KEYS[5].1)] {
        let path = paths.note(name);
        let Meaning::Record(key) = paths.meaning(path.as_bytes()) else { panic!("{path} is a record's") };
        let value = value.replacen("\"epoch\":2", "\"epoch\":4294967295", 1);
        let garbage = decode(&key, path.as_bytes(), value.as_bytes()).expect_err("garbage");
        assert!(garbage.decides && garbage.why.starts_with("no epoch could follow it"), "{garbage}");
    }
}

#[test]
fn what_other_tools_write_is_understood_or_left_out() {
    fuzz(&OTHERS, |bytes| {
        let mut contents = Contents::default();
        contents.see_member("a", bytes);
        contents.see_history(bytes);
        contents.see_note("losses/1", bytes);
        for member in contents.members.values() {
            let _ = (member.address(), member.api_address(), member.number("timeline"));
        }
        let shown = crate::patroni::cluster("c", &contents, Some("a"), None);
        assert_eq!(shown["members"].as_array().map(Vec::len), Some(contents.members.len()));
    });
}

#[test]
fn a_request_for_a_switchover_makes_sense_or_is_refused() {
    fuzz(&[r#"{"leader":"a","candidate":"b","scheduled_at":null}"#, "[]", "\"x\""], |bytes| {
        assert!(crate::api::refuses(bytes).is_none_or(|code| matches!(code, 400 | 501)));
    });
}
