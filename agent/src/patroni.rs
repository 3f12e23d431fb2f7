//! Patroni's words: what its tools expect in keys of the store and in answers of the REST interface.

use crate::board::Seen;
use crate::config::Settings;
use crate::store::directory::{Contents, Member};
use primacy_core::instance::Instance;
use primacy_core::{Lsn, Node, Role, Time};
use serde_json::{Map, Value, json};

/// The version of Patroni whose interface this is. Its nodes treat older ones differently.
pub const VERSION: &str = "4.1.0";

/// `state` in all documents.
pub fn state(seen: &Seen) -> &'static str {
    if let Some(activity) = seen.activity {
        return activity;
    }
    match seen.node.as_ref().map(Node::instance) {
        Some(Instance::Standby { .. } | Instance::Primary { .. }) => "running",
        Some(Instance::Stopped { .. } | Instance::Absent | Instance::Incomplete | Instance::Foreign(_)) => {
            "stopped"
        }
        Some(Instance::Unknown) | None => "unknown",
    }
}

/// `role` in all documents. Somebody is called the primary only at a moment at which it may be (invariant I12).
pub fn role(seen: &Seen, now: Time) -> &'static str {
    let Some(node) = &seen.node else { return "uninitialized" };
    if node.is_primary(now) {
        return "primary";
    }
    match (node.instance(), node.role()) {
        (Instance::Primary { .. }, Role::Promoting) => "promoted",
        (Instance::Primary { .. }, _) => "demoted",
        (Instance::Standby { .. } | Instance::Stopped { .. } | Instance::Unknown, _) => "replica",
        (Instance::Absent | Instance::Incomplete | Instance::Foreign(_), _) => "uninitialized",
    }
}

fn streaming(seen: &Seen) -> bool {
    matches!(seen.node.as_ref().map(Node::instance), Some(Instance::Standby { streaming: true, .. }))
}

/// The value of `members/NAME`.
pub fn member(seen: &Seen, settings: &Settings, now: Time) -> Member {
    let postgres = &settings.postgres;
    let mut more = Map::new();
    more.insert("version".to_owned(), json!(VERSION));
    let tags = published_tags(&settings.tags);
    if !tags.is_empty() {
        more.insert("tags".to_owned(), Value::Object(tags));
    }
    if seen.details.guard_weak.is_some() {
        more.insert("guard".to_owned(), json!("weak"));
    }
    let data = seen.node.as_ref().and_then(|node| node.instance().data().filter(|_| node.instance().runs()));
    if let Some(data) = data {
        let end = data.position.lsn.max(seen.details.received.unwrap_or_default());
        more.insert("xlog_location".to_owned(), json!(end));
        more.insert("timeline".to_owned(), json!(data.position.epoch));
        if let Some(received) = seen.details.received {
            more.insert("receive_lsn".to_owned(), json!(received));
        }
        if let Some(replayed) = seen.details.replayed {
            more.insert("replay_lsn".to_owned(), json!(replayed));
        }
        if streaming(seen) {
            more.insert("replication_state".to_owned(), json!("streaming"));
        }
    }
    Member {
        conn_url: format!("postgres://{}/{}", postgres.connect, postgres.database),
        api_url: format!("http://{}/patroni", settings.rest.connect),
        state: state(seen).to_owned(),
        role: role(seen, now).to_owned(),
        more,
    }
}

/// All tags but those that say nothing.
fn published_tags(tags: &Map<String, Value>) -> Map<String, Value> {
    const SILENT: [&str; 5] = ["clonefrom", "nofailover", "noloadbalance", "nosync", "nostream"];
    let counterpart = |name: &str| match name {
        "nofailover" => tags.contains_key("failover_priority"),
        "nosync" => tags.contains_key("sync_priority"),
        _ => false,
    };
    let silent =
        |name: &str, value: &Value| SILENT.contains(&name) && *value == json!(false) && !counterpart(name);
    let kept = tags.iter().filter(|(name, value)| !silent(name, value));
    kept.map(|(name, value)| (name.clone(), value.clone())).collect()
}

/// `GET /patroni`, and the body of every health check.
pub fn status(seen: &Seen, settings: &Settings, contents: &Contents, now: Time) -> Value {
    let role = role(seen, now);
    let mut status = Map::new();
    let mut put = |field: &str, value: Value| drop(status.insert(field.to_owned(), value));
    put("state", json!(state(seen)));
    if let Some(start) = &seen.details.postmaster_start_time {
        put("postmaster_start_time", json!(start));
    }
    put("role", json!(role));
    if let Some(version) = seen.details.server_version {
        put("server_version", json!(version));
    }
    let instance = seen.node.as_ref().map(Node::instance);
    if let Some(data) = instance.and_then(Instance::data) {
        put("xlog", xlog(seen, data.position.lsn, instance));
        put("timeline", json!(data.position.epoch));
        put("database_system_identifier", json!(data.system.to_string()));
    }
    if streaming(seen) {
        put("replication_state", json!("streaming"));
    }
    if !seen.details.replication.is_empty() {
        put("replication", json!(seen.details.replication));
    }
    if seen.node.as_ref().is_some_and(unlocked) {
        put("cluster_unlocked", json!(true));
    }
    if let Some(why) = &seen.details.guard_weak {
        put("guard", json!(format!("weak: {why}")));
    }
    put("dcs_last_seen", json!(contents.answered));
    let tags = published_tags(&settings.tags);
    if !tags.is_empty() {
        put("tags", Value::Object(tags));
    }
    put("patroni", json!({"version": VERSION, "scope": settings.scope, "name": settings.name}));
    Value::Object(status)
}

fn unlocked(node: &Node) -> bool {
    node.view().reign.as_ref().is_none_or(|reign| reign.released.is_some())
}

fn xlog(seen: &Seen, end: Lsn, instance: Option<&Instance>) -> Value {
    match instance {
        Some(Instance::Standby { .. }) => json!({
            "received_location": seen.details.received.unwrap_or(end),
            "replayed_location": seen.details.replayed.unwrap_or(end),
            "replayed_timestamp": seen.details.replayed_timestamp,
            "paused": seen.details.paused,
        }),
        Some(_) | None => json!({"location": end}),
    }
}

/// Bytes between what the holder last published and what this member has.
pub fn lag(node: &Node) -> u64 {
    let end = node.view().beat.as_ref().map_or(0, |beat| beat.end.0);
    end.saturating_sub(node.instance().data().map_or(0, |data| data.position.lsn.0))
}

/// `GET /cluster`, and what the command line lists.
pub fn cluster(scope: &str, contents: &Contents, optime: Lsn) -> Value {
    let leader = contents.leader.as_ref().map(|(name, _)| name.as_str());
    let members = contents.members.iter().map(|(name, member)| cluster_member(name, member, leader, optime));
    json!({"members": members.collect::<Vec<_>>(), "scope": scope})
}

fn cluster_member(name: &str, member: &Member, leader: Option<&str>, optime: Lsn) -> Value {
    let leads = leader == Some(name);
    let mut shown = Map::new();
    let mut put = |field: &str, value: Value| drop(shown.insert(field.to_owned(), value));
    put("name", json!(name));
    put("role", json!(if leads { "leader" } else { "replica" }));
    put("state", json!(member.text("replication_state").unwrap_or(&member.state)));
    put("api_url", json!(member.api_url));
    if let Some((host, port)) = member.address() {
        put("host", json!(host));
        put("port", json!(port));
    }
    if let Some(timeline) = member.number("timeline") {
        put("timeline", json!(timeline));
    }
    for field in ["tags", "guard"] {
        if let Some(value) = member.more.get(field) {
            put(field, value.clone());
        }
    }
    if !leads {
        for (kind, field) in [("receive_", "receive_lsn"), ("replay_", "replay_lsn"), ("", "xlog_location")] {
            let (text, lag) = match member.number(field) {
                Some(lsn) => (json!(Lsn(lsn).to_string()), json!(optime.0.saturating_sub(lsn))),
                None => (json!("unknown"), json!("unknown")),
            };
            put(&format!("{kind}lsn"), text);
            put(&format!("{kind}lag"), lag);
        }
    }
    Value::Object(shown)
}
