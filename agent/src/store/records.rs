//! Records as keys and values of etcd.
//!
//! Ours lie below `PREFIX/primacy/` and are the core's own types as JSON. Beside them lie the keys that other tools
//! know, which nothing is concluded from, apart from one: a cluster that was initialised by somebody else isn't ours.

use primacy_core::store::{At, Initialize, Key, Leader, Record, View};
use primacy_core::{Boot, Epoch, Name, Revision, SystemId};
use primacy_etcd::KeyValue;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

/// Where everything of a cluster lies.
#[derive(Clone, Debug)]
pub struct Paths {
    /// Begins and ends with a slash.
    pub prefix: String,
}

/// A key of ours whose value makes no sense.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the value of {key} in the store makes no sense: {why}")]
pub struct Garbage {
    /// The whole key.
    pub key: String,
    /// What is wrong with it.
    pub why: String,
    /// See [`decides`].
    pub decides: bool,
}

/// Whether the record says who may write, or whose data is whose: without it nothing can be decided. Without any other
/// record something is only not known of one member.
pub fn decides(key: &Key) -> bool {
    match key {
        Key::Initialize | Key::Reign | Key::Beat | Key::Rule | Key::Epoch(_) => true,
        Key::Switchover | Key::Leader | Key::Pledge(_) | Key::Member(_) => false,
    }
}

/// Garbage as far as it was told of, shared by all who find some: what is wrong with a key is told once.
#[derive(Clone, Debug, Default)]
pub struct Told(Arc<Mutex<BTreeMap<String, Garbage>>>);

impl Told {
    /// Tells of it, unless that was done. Says whether it was told now.
    pub fn of(&self, garbage: Garbage) -> bool {
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if told.get(&garbage.key) == Some(&garbage) {
            return false;
        }
        if garbage.decides {
            tracing::error!(
                "{garbage}: nothing is decided until it is mended; if a newer agent wrote it, install that version \
                 here, else put back what was there before (etcdctl get --rev)"
            );
        } else {
            tracing::warn!(
                "{garbage}: it is left out; if a newer agent wrote it, install that version here, else remove the key \
                 (etcdctl del {})",
                garbage.key
            );
        }
        told.insert(garbage.key.clone(), garbage);
        true
    }
}

/// What a key below the prefix is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Meaning {
    /// A record of the core's.
    Record(Key),
    /// Patroni's `initialize`.
    Initialized,
    /// Patroni's `members/NAME`.
    Member(String),
    /// Patroni's `history`.
    History,
    /// What a member says to people, by its key below `primacy/`.
    Note(String),
    /// Nothing we know.
    Other,
}

impl Paths {
    /// Where a record is kept.
    pub fn of(&self, key: &Key) -> String {
        let prefix = &self.prefix;
        match key {
            Key::Initialize => format!("{prefix}primacy/initialize"),
            Key::Reign => format!("{prefix}primacy/reign"),
            Key::Beat => format!("{prefix}primacy/beat"),
            Key::Rule => format!("{prefix}primacy/rule"),
            Key::Switchover => format!("{prefix}primacy/switchover"),
            Key::Leader => format!("{prefix}leader"),
            Key::Epoch(epoch) => format!("{prefix}primacy/epochs/{epoch}"),
            Key::Pledge(name) => format!("{prefix}primacy/pledge/{name}"),
            Key::Member(name) => format!("{prefix}primacy/members/{name}"),
        }
    }

    /// Where a note is kept.
    pub fn note(&self, name: &str) -> String {
        format!("{}primacy/{name}", self.prefix)
    }

    /// One of the keys that other tools know.
    pub fn mirror(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }

    /// What a key means.
    pub fn meaning(&self, key: &[u8]) -> Meaning {
        let key = std::str::from_utf8(key).ok().and_then(|key| key.strip_prefix(&self.prefix));
        let Some(key) = key else { return Meaning::Other };
        let Some(ours) = key.strip_prefix("primacy/") else { return foreign(key) };
        let record = match ours.split_once('/') {
            None => match ours {
                "initialize" => Some(Key::Initialize),
                "reign" => Some(Key::Reign),
                "beat" => Some(Key::Beat),
                "rule" => Some(Key::Rule),
                "switchover" => Some(Key::Switchover),
                _ => None,
            },
            Some(("epochs", epoch)) => epoch.parse().ok().map(|epoch| Key::Epoch(Epoch(epoch))),
            Some(("pledge", name)) => Some(Key::Pledge(Name::from(name))),
            Some(("members", name)) => Some(Key::Member(Name::from(name))),
            Some(("losses" | "volumes", _)) => return Meaning::Note(ours.to_owned()),
            Some(_) => None,
        };
        record.map_or(Meaning::Other, Meaning::Record)
    }
}

fn foreign(key: &str) -> Meaning {
    match key {
        "leader" => Meaning::Record(Key::Leader),
        "initialize" => Meaning::Initialized,
        "history" => Meaning::History,
        _ => match key.strip_prefix("members/") {
            Some(name) => Meaning::Member(name.to_owned()),
            None => Meaning::Other,
        },
    }
}

/// The value of a record.
pub fn encode(record: &Record) -> Vec<u8> {
    let encoded = match record {
        Record::Initialize(v) => serde_json::to_vec(v),
        Record::Reign(v) => serde_json::to_vec(v),
        Record::Beat(v) => serde_json::to_vec(v),
        Record::Rule(v) => serde_json::to_vec(v),
        Record::Switchover(v) => serde_json::to_vec(v),
        Record::Leader(v) => Ok(v.name.as_ref().map(|name| name.as_str().into()).unwrap_or_default()),
        Record::Epoch(v) => serde_json::to_vec(v),
        Record::Pledge(v) => serde_json::to_vec(v),
        Record::Member(v) => serde_json::to_vec(v),
    };
    // The core's types have text keys and plain values only, so they always have a JSON form.
    encoded.unwrap_or_default()
}

/// The record behind a key.
pub fn decode(key: &Key, path: &[u8], value: &[u8]) -> Result<Record, Garbage> {
    fn json<T: serde::de::DeserializeOwned>(value: &[u8], record: fn(T) -> Record) -> Result<Record, String> {
        serde_json::from_slice(value).map(record).map_err(|error| error.to_string())
    }
    let record = match key {
        Key::Initialize => json(value, Record::Initialize),
        Key::Reign => json(value, Record::Reign),
        Key::Beat => json(value, Record::Beat),
        Key::Rule => json(value, Record::Rule),
        Key::Switchover => json(value, Record::Switchover),
        Key::Leader => Ok(Record::Leader(Leader { name: std::str::from_utf8(value).ok().map(Name::from) })),
        Key::Epoch(_) => json(value, Record::Epoch),
        Key::Pledge(_) => json(value, Record::Pledge),
        Key::Member(_) => json(value, Record::Member),
    };
    let record = record.and_then(|record| match record.key() == *key {
        true => Ok(record),
        false => Err("it belongs to another key".to_owned()),
    });
    let record = record.and_then(|record| match is_last(&record) {
        false => Ok(record),
        true => Err("no epoch could follow it, as PostgreSQL has no more timelines".to_owned()),
    });
    let path = || String::from_utf8_lossy(path).into_owned();
    record.map_err(|why| Garbage { key: path(), why, decides: decides(key) })
}

/// Whether it is of an epoch that no reign can get to: whoever stood for the one after it would have no number.
fn is_last(record: &Record) -> bool {
    match record {
        Record::Reign(reign) => reign.epoch == Epoch(u32::MAX),
        Record::Epoch(epoch) => epoch.epoch == Epoch(u32::MAX),
        Record::Initialize(_)
        | Record::Beat(_)
        | Record::Rule(_)
        | Record::Switchover(_)
        | Record::Leader(_)
        | Record::Pledge(_)
        | Record::Member(_) => false,
    }
}

/// All records at one revision; without those that make no sense, if they don't [decide](decides).
pub fn view(paths: &Paths, entries: &[KeyValue], as_of: i64, told: &Told) -> Result<View, Garbage> {
    let mut view = View::default();
    let mut initialized = None;
    for entry in entries {
        match paths.meaning(&entry.key) {
            Meaning::Record(key) => match decode(&key, &entry.key, &entry.value) {
                Ok(record) => view.put(record, revision(entry.mod_revision)),
                Err(garbage) if garbage.decides => return Err(garbage),
                Err(garbage) => drop(told.of(garbage)),
            },
            Meaning::Initialized => initialized = Some(entry),
            Meaning::Member(_) | Meaning::History | Meaning::Note(_) | Meaning::Other => {}
        }
    }
    if let (None, Some(entry)) = (&view.initialize, initialized) {
        view.initialize =
            Some(At { revision: revision(entry.mod_revision), value: Arc::new(somebody_elses(entry)) });
    }
    view.as_of = revision(as_of);
    Ok(view)
}

/// The cluster was initialised by another manager.
fn somebody_elses(entry: &KeyValue) -> Initialize {
    let system = std::str::from_utf8(&entry.value).ok().and_then(|text| text.parse().ok()).map(SystemId);
    Initialize { by: Name::from(""), boot: Boot(0), system, foreign: true }
}

/// etcd counts up from 1, so nothing is lost.
pub fn revision(revision: i64) -> Revision {
    Revision(u64::try_from(revision).unwrap_or_default())
}
