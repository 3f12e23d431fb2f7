//! What the keys that other tools know say just now: where members are, who leads, how it came to be.

use crate::board::Notes;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Shared by everything that looks at it.
#[derive(Clone, Debug, Default)]
pub struct Directory(Arc<Mutex<Contents>>);

/// See [`Directory`].
#[derive(Clone, Debug, Default)]
pub struct Contents {
    /// The members that are there, by name.
    pub members: BTreeMap<String, Member>,
    /// Where members have last been, also those that have gone.
    pub last_seen: BTreeMap<String, Member>,
    /// The value and the lease of the `leader` key.
    pub leader: Option<(String, Option<i64>)>,
    /// Patroni's `history`.
    pub history: Vec<Value>,
    /// What members say to people, by key below `primacy/`.
    pub notes: Notes,
    /// When the store last answered, in seconds since 1970.
    pub answered: u64,
}

/// A member as it describes itself to other tools. Fields that aren't known here are kept.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Member {
    /// `postgres://HOST:PORT/DATABASE`
    pub conn_url: String,
    /// `http://HOST:PORT/patroni`
    pub api_url: String,
    /// `running`, `stopped` and so on.
    pub state: String,
    /// `primary`, `replica`, `uninitialized`.
    pub role: String,
    /// Everything else.
    #[serde(flatten)]
    pub more: serde_json::Map<String, Value>,
}

impl Member {
    /// Host and port of its PostgreSQL.
    pub fn address(&self) -> Option<(String, u16)> {
        host_and_port(&self.conn_url)
    }

    /// `host:port` of its REST interface.
    pub fn api_address(&self) -> Option<String> {
        let (host, port) = host_and_port(&self.api_url)?;
        Some(if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") })
    }

    /// A number among the other fields.
    pub fn number(&self, field: &str) -> Option<u64> {
        self.more.get(field).and_then(Value::as_u64)
    }

    /// A text among the other fields.
    pub fn text(&self, field: &str) -> Option<&str> {
        self.more.get(field).and_then(Value::as_str)
    }
}

/// `scheme://host:port/…`
fn host_and_port(url: &str) -> Option<(String, u16)> {
    let rest = url.split_once("://")?.1;
    let authority = rest.split(['/', '?']).next()?;
    let authority = authority.rsplit_once('@').map_or(authority, |(_, after)| after);
    let (host, port) = authority.rsplit_once(':')?;
    Some((host.trim_start_matches('[').trim_end_matches(']').to_owned(), port.parse().ok()?))
}

impl Directory {
    /// A look at it. Never held over an await.
    pub fn look(&self) -> MutexGuard<'_, Contents> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Contents {
    /// A member wrote its key; garbage counts as missing.
    pub fn see_member(&mut self, name: &str, value: &[u8]) {
        match serde_json::from_slice::<Member>(value) {
            Ok(member) => {
                self.last_seen.insert(name.to_owned(), member.clone());
                self.members.insert(name.to_owned(), member);
            }
            Err(_) => drop(self.members.remove(name)),
        }
    }

    /// Garbage counts as missing.
    pub fn see_note(&mut self, name: &str, value: &[u8]) {
        match serde_json::from_slice(value) {
            Ok(value) => drop(self.notes.insert(name.to_owned(), value)),
            Err(_) => drop(self.notes.remove(name)),
        }
    }

    /// Garbage counts as missing.
    pub fn see_history(&mut self, value: &[u8]) {
        self.history = serde_json::from_slice(value).unwrap_or_default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_taken_from_urls() {
        let cases = [
            ("postgres://127.0.0.1:5391/postgres", Some(("127.0.0.1", 5391))),
            ("postgres://u:p@[::1]:5432/postgres?x=y", Some(("::1", 5432))),
            ("http://a:8008", Some(("a", 8008))),
            ("a:1", None),
            ("http://a/patroni", None),
        ];
        for (url, expected) in cases {
            assert_eq!(host_and_port(url), expected.map(|(host, port)| (host.to_owned(), port)), "{url}");
        }
    }
}
