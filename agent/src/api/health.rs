//! Health checks: who gets a 200.

use crate::board::Seen;
use crate::config::Settings;
use crate::patroni;
use primacy_core::instance::Instance;
use primacy_core::{Node, Time};
use serde_json::Value;

/// What a health check is about, at the moment of its answer.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// Holds the lease with authority, and PostgreSQL is writable.
    pub primary: bool,
    /// PostgreSQL runs in recovery.
    pub replica: bool,
    /// PostgreSQL runs.
    pub running: bool,
    /// It streams.
    pub streaming: bool,
    /// How far it is behind, if somebody has said lately where the end is.
    pub lag_bytes: Option<u64>,
    /// The bound on that, where none is asked for.
    pub lag_bytes_max: u64,
    /// As configured.
    pub tags: serde_json::Map<String, Value>,
}

impl Facts {
    /// The facts at `now`.
    pub fn at(now: Time, seen: &Seen, settings: &Settings) -> Facts {
        let instance = seen.node.as_ref().map(Node::instance);
        Facts {
            primary: seen.node.as_ref().is_some_and(|node| node.is_primary(now)),
            replica: matches!(instance, Some(Instance::Standby { .. })),
            running: patroni::state(seen) == "running",
            streaming: matches!(instance, Some(Instance::Standby { streaming: true, .. })),
            lag_bytes: seen.node.as_ref().and_then(|node| patroni::lag(node, now)),
            lag_bytes_max: settings.core.lag_bytes_max,
            tags: settings.tags.clone(),
        }
    }

    /// Whether a check of this path succeeds. Paths match by what they contain, so that a trailing slash or a prefix
    /// that a load balancer adds does no harm.
    pub fn healthy(&self, path: &str, query: &[(String, String)]) -> bool {
        let has = |word: &str| path.contains(word);
        match path {
            "/sync" | "/synchronous" | "/quorum" => false,
            "/async" | "/asynchronous" => self.is_fit_replica(query),
            "/read-only-sync" | "/read-only-synchronous" | "/read-only-quorum" => self.primary,
            _ if has("standby-leader") || has("standby_leader") => false,
            _ if path == "/" || has("leader") || has("primary") || has("master") || has("read-write") => {
                self.primary
            }
            _ if has("read-only") => (self.primary && self.has_tags(query)) || self.is_fit_replica(query),
            _ if has("replica") => self.is_fit_replica(query),
            _ if has("health") => self.running && self.has_tags(query),
            _ => false,
        }
    }

    /// `GET /readiness`.
    pub fn ready(&self, query: &[(String, String)]) -> bool {
        self.primary
            || (self.running && self.streaming && self.is_within(lag_max(query), Some(self.lag_bytes_max)))
    }

    fn is_fit_replica(&self, query: &[(String, String)]) -> bool {
        let state =
            query.iter().find(|(name, _)| name == "replication_state").map(|(_, value)| value.as_str());
        self.replica
            && self.running
            && self.tags.get("noloadbalance") != Some(&Value::Bool(true))
            && self.is_within(lag_max(query), None)
            && state.is_none_or(|state| (state == "streaming") == self.streaming)
            && self.has_tags(query)
    }

    /// An unknown lag is too much for a bound that is asked for; but a store that is down doesn't make standbys
    /// unreadable by itself.
    fn is_within(&self, asked: Option<u64>, usual: Option<u64>) -> bool {
        match (self.lag_bytes, asked) {
            (Some(lag), _) => asked.or(usual).is_none_or(|bound| lag <= bound),
            (None, asked) => asked.is_none(),
        }
    }

    /// Each `tag_NAME=VALUE` must be met.
    fn has_tags(&self, query: &[(String, String)]) -> bool {
        let mut wanted = query.iter().filter_map(|(name, value)| Some((name.strip_prefix("tag_")?, value)));
        wanted.all(|(name, value)| match self.tags.get(name) {
            Some(Value::String(text)) => text == value,
            Some(other) => serde_json::to_string(other).is_ok_and(|text| text == *value),
            None => false,
        })
    }
}

/// The bound of `lag=`; what can't be read is no bound that could be met.
fn lag_max(query: &[(String, String)]) -> Option<u64> {
    let (_, text) = query.iter().find(|(name, _)| name == "lag")?;
    Some(bytes(text).unwrap_or(0))
}

/// A number of bytes, or one with a unit of PostgreSQL's.
fn bytes(text: &str) -> Option<u64> {
    let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
    let factor = match text[digits.len()..].trim() {
        "" | "B" => 1,
        "kB" => 1 << 10,
        "MB" => 1 << 20,
        "GB" => 1 << 30,
        "TB" => 1 << 40,
        _ => return None,
    };
    digits.parse::<u64>().ok()?.checked_mul(factor)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query(text: &str) -> Vec<(String, String)> {
        let pairs = text.split('&').filter_map(|pair| pair.split_once('='));
        pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
    }

    fn primary() -> Facts {
        Facts { primary: true, running: true, ..Facts::default() }
    }

    fn replica() -> Facts {
        let tags =
            serde_json::json!({"zone": "a", "clonefrom": true}).as_object().cloned().unwrap_or_default();
        Facts {
            replica: true,
            running: true,
            streaming: true,
            lag_bytes: Some(2048),
            lag_bytes_max: 1 << 20,
            tags,
            ..Facts::default()
        }
    }

    #[test]
    fn paths_tell_primaries_from_replicas() {
        let cases = [
            ("/", true, false),
            ("/primary", true, false),
            ("/master", true, false),
            ("/leader", true, false),
            ("/read-write", true, false),
            ("/primary/", true, false),
            ("/replica", false, true),
            ("/read-only", true, true),
            ("/health", true, true),
            ("/async", false, true),
            ("/sync", false, false),
            ("/quorum", false, false),
            ("/read-only-sync", true, false),
            ("/standby-leader", false, false),
            ("/nonsense", false, false),
        ];
        for (path, of_primary, of_replica) in cases {
            assert_eq!(primary().healthy(path, &[]), of_primary, "{path} of a primary");
            assert_eq!(replica().healthy(path, &[]), of_replica, "{path} of a replica");
            assert!(!Facts::default().healthy(path, &[]), "{path} of nobody");
        }
    }

    #[test]
    fn a_replica_may_be_asked_for_its_lag_tags_and_state() {
        let cases = [
            ("lag=2048", true),
            ("lag=2047", false),
            ("lag=2kB", true),
            ("lag=1MB", true),
            ("lag=soon", false),
            ("tag_zone=a", true),
            ("tag_zone=b", false),
            ("tag_clonefrom=true", true),
            ("tag_none=x", false),
            ("replication_state=streaming", true),
        ];
        for (text, expected) in cases {
            assert_eq!(replica().healthy("/replica", &query(text)), expected, "{text}");
        }
        assert!(primary().healthy("/primary", &query("tag_zone=b")), "tags don't count for the primary");
    }

    #[test]
    fn a_replica_that_is_not_to_be_balanced_to_is_still_healthy() {
        let mut facts = replica();
        facts.tags.insert("noloadbalance".to_owned(), Value::Bool(true));
        assert!(!facts.healthy("/replica", &[]) && facts.healthy("/health", &[]));
    }

    #[test]
    fn ready_is_who_leads_or_streams_close_behind() {
        assert!(primary().ready(&[]) && replica().ready(&[]));
        assert!(!replica().ready(&query("lag=1")));
        assert!(!Facts { streaming: false, ..replica() }.ready(&[]));
    }

    #[test]
    fn an_unknown_lag_is_too_much_only_for_who_asks() {
        let facts = Facts { lag_bytes: None, ..replica() };
        assert!(facts.healthy("/replica", &[]) && facts.ready(&[]));
        let bound = query("lag=1TB");
        assert!(!facts.healthy("/replica", &bound) && !facts.ready(&bound));
        let behind = Facts { lag_bytes: Some(1 << 21), ..replica() };
        assert!(behind.healthy("/replica", &bound) && behind.ready(&bound) && !behind.ready(&[]));
    }
}
