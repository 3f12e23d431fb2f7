//! What the agents logged: how reigns began, and by which way nodes came back.
//!
//! An event of the core is a line with its sentence and, in `event="…"`, its fields as JSON. This is the only place
//! that knows their names.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::judge::Taking;
use crate::network::{Host, NODES};
use crate::place;

/// The way a node came back to streaming, from the easiest to the hardest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Way {
    /// It streamed what it lacked.
    Stream,
    /// It read it from the archive.
    Archive,
    /// It was rewound.
    Rewind,
    /// Its data was copied anew.
    Clone,
}

impl Way {
    /// Its word.
    pub fn word(self) -> &'static str {
        match self {
            Way::Stream => "stream",
            Way::Archive => "archive",
            Way::Rewind => "rewind",
            Way::Clone => "clone",
        }
    }
}

/// The agents' logs from a moment on.
#[derive(Clone, Debug)]
pub struct Record {
    logs: Vec<(Host, PathBuf, u64)>,
}

impl Record {
    /// Whatever the agents of a lab log from now on.
    pub fn from_now(lab: &str) -> Record {
        let log = |host: Host| {
            let path = place::of_lab(lab).join(host.to_string()).join("agent.log");
            let length = std::fs::metadata(&path).map_or(0, |data| data.len());
            (host, path, length)
        };
        Record { logs: NODES.map(log).to_vec() }
    }

    /// The text of each agent since then.
    pub fn texts(&self) -> Vec<(Host, String)> {
        let text = |(host, path, from): &(Host, PathBuf, u64)| (*host, read_from(path, *from));
        self.logs.iter().map(text).collect()
    }

    /// How epochs were taken since then, in their order.
    pub fn takings(&self) -> Vec<Taking> {
        let mut found: Vec<Taking> =
            self.texts().iter().flat_map(|(host, text)| takings(*host, text)).collect();
        found.sort_by_key(|taking| taking.epoch);
        found
    }

    /// By which ways nodes came to follow a primary since then, host by host.
    pub fn returns(&self) -> Vec<(Host, Way)> {
        let of_host = |(host, text): (Host, String)| returns(&text).into_iter().map(move |way| (host, way));
        self.texts().into_iter().flat_map(of_host).collect()
    }

    /// What agents said when a bug ended them.
    pub fn panics(&self) -> Vec<String> {
        let of_host = |(host, text): &(Host, String)| {
            let lines = text.lines().filter(|line| line.contains("panicked at"));
            lines.map(|line| format!("the agent of {host}: {line}")).collect::<Vec<_>>()
        };
        self.texts().iter().flat_map(of_host).collect()
    }

    /// The hardest way each node has gone since then; none for those that never followed anybody anew.
    pub fn ways(&self) -> Vec<(Host, Way)> {
        let way = |(host, text): (Host, String)| Some((host, hardest_way(&text)?));
        self.texts().into_iter().filter_map(way).collect()
    }
}

/// The old data directories that nodes keep aside.
pub fn kept_aside(lab: &str) -> BTreeSet<(Host, OsString)> {
    let of_host = |host: Host| {
        let directory = place::of_lab(lab).join(host.to_string()).join("postgres");
        let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
        let directories = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
        let names = directories.map(|entry| entry.file_name());
        names.filter(|name| name.to_string_lossy().contains("aside")).map(move |name| (host, name))
    };
    NODES.into_iter().flat_map(of_host).collect()
}

/// The lines from a length on; empty if there is no such file.
fn read_from(path: &PathBuf, from: u64) -> String {
    let mut bytes = Vec::new();
    if let Ok(mut file) = File::open(path) {
        let read = file.seek(SeekFrom::Start(from)).and_then(|_| file.read_to_end(&mut bytes));
        drop(read);
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The events of a log, in their order.
fn events(text: &str) -> impl Iterator<Item = Value> {
    text.lines().filter_map(|line| {
        let (_, quoted) = line.split_once(" event=\"")?;
        let fields: String = serde_json::from_str(&format!("\"{quoted}")).ok()?;
        serde_json::from_str(&fields).ok()
    })
}

fn takings(host: Host, text: &str) -> Vec<Taking> {
    let mut found = Vec::new();
    let mut stood: Option<(u64, String)> = None;
    for event in events(text) {
        let (stands, took) = (&event["stands"], &event["took"]);
        if let (Some(epoch), Some(right)) = (stands["epoch"].as_u64(), stands["right"].as_str()) {
            stood = Some((epoch, right.to_owned()));
        }
        if let Some(epoch) = took["epoch"].as_u64() {
            let right = stood.take().filter(|(stood, _)| *stood == epoch).map(|(_, right)| right);
            let right = right.unwrap_or_else(|| "first".to_owned());
            found.push(Taking { epoch: epoch as u32, host, right });
        }
    }
    found
}

/// What shows that a node went a way: a part of a sentence.
const SIGNS: [(&str, Way); 4] = [
    ("copies anew", Way::Clone),
    ("rewinds", Way::Rewind),
    ("from the archive", Way::Archive),
    (" follows ", Way::Stream),
];

/// The ways that lines speak of, in their order.
fn ways(text: &str) -> impl Iterator<Item = Way> {
    let sentences = text.lines().map(|line| line.split(" event=").next().unwrap_or(line));
    let ways = sentences.flat_map(|sentence| SIGNS.iter().filter(move |(sign, _)| sentence.contains(sign)));
    ways.map(|(_, way)| *way)
}

fn hardest_way(text: &str) -> Option<Way> {
    ways(text).max()
}

/// Each time that ended in following somebody, by its hardest way.
fn returns(text: &str) -> Vec<Way> {
    let (mut found, mut hardest) = (Vec::new(), Way::Stream);
    for way in ways(text) {
        hardest = hardest.max(way);
        if way == Way::Stream {
            found.push(std::mem::replace(&mut hardest, Way::Stream));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    const FAILOVER: &str = r#"2026-01-01T00:00:00.000001Z  INFO the lease of h1 has lapsed: unchanged for 5 s event="{\"lapsed\":{\"holder\":\"h1\",\"after\":5000000}}"
2026-01-01T00:00:00.000002Z  INFO stands for epoch 2 as a listed member, at t1 0/5 event="{\"stands\":{\"epoch\":2,\"right\":\"listed\",\"position\":{\"epoch\":1,\"lsn\":5}}}"
2026-01-01T00:00:00.000003Z  INFO took epoch 2, fenced in 4.4 s event="{\"took\":{\"epoch\":2,\"fence_in\":4487202}}"
"#;
    const RETURN: &str = r#"2026-01-01T00:00:00.000001Z  WARN its data at t1 0/7 is not part of the history of epoch 2: moves it aside and copies anew event="{}"
2026-01-01T00:00:00.000002Z  INFO follows h2 in epoch 2 event="{\"follows\":{\"source\":\"h2\",\"epoch\":2}}"
"#;

    #[test]
    fn a_taking_has_the_right_it_stood_by() {
        let taking = |epoch, right: &str| Taking { epoch, host: Host(2), right: right.into() };
        assert_eq!(takings(Host(2), FAILOVER), [taking(2, "listed")]);
        let first = FAILOVER.lines().last().expect("a line").replace("2,", "1,");
        assert_eq!(takings(Host(2), &first), [taking(1, "first")]);
        let lost_then_taken = FAILOVER.replace(r#"\"epoch\":2,\"right"#, r#"\"epoch\":1,\"right"#);
        assert_eq!(takings(Host(2), &lost_then_taken), [taking(2, "first")]);
    }

    #[test]
    fn the_hardest_way_counts() {
        assert_eq!(hardest_way(RETURN), Some(Way::Clone));
        assert_eq!(
            hardest_way(&RETURN.replace("moves it aside and copies anew", "rewinds")),
            Some(Way::Rewind)
        );
        assert_eq!(hardest_way(RETURN.lines().last().expect("a line")), Some(Way::Stream));
        assert_eq!(hardest_way(FAILOVER), None);
    }

    #[test]
    fn each_return_is_counted_once() {
        let stream = RETURN.lines().last().expect("a line");
        assert_eq!(returns(&format!("{stream}\n{RETURN}{stream}")), [Way::Stream, Way::Clone, Way::Stream]);
    }
}
