//! Patroni's words: what its tools expect in keys of the store and in answers of the REST interface.

use crate::board::Seen;
use crate::config::Settings;
use crate::store::directory::{Contents, Member};
use primacy_core::instance::Instance;
use primacy_core::lineage;
use primacy_core::store::Beat;
use primacy_core::store::View;
use primacy_core::{Lsn, Node, Role, Time};
use serde_json::{Map, Value, json};

/// The version of Patroni whose interface this is. Its nodes treat older ones differently.
pub const VERSION: &str = "4.1.0";

/// PostgreSQL's own words for why a timeline began, where nobody asked for a place to recover to.
pub const PROMOTED: &str = "no recovery target specified";

/// `GET /history`: each change of timeline on the verified way to the newest, oldest first. The records don't say when
/// it was; that is taken from the key that other tools read, if it is there.
pub fn history(view: &View, contents: &Contents) -> Vec<Value> {
    let newest_first = view.epochs.keys().rev();
    let Some(path) = newest_first.filter_map(|epoch| lineage::path(view, *epoch)).next() else {
        return contents.history.clone();
    };
    let changes = path.iter().filter_map(|(epoch, _)| {
        let record = view.epochs.get(epoch)?;
        let fork = record.fork.filter(|fork| fork.epoch.0 > 0)?;
        let (timeline, lsn) = (json!(fork.epoch), json!(fork.lsn));
        let mirrored = contents.history.iter().find(|line| line[0] == timeline && line[1] == lsn);
        let when = mirrored.and_then(|line| line[3].as_str()).unwrap_or_default();
        Some(json!([timeline, lsn, PROMOTED, when, record.holder]))
    });
    changes.collect()
}

/// `state` in all documents.
pub fn state(seen: &Seen) -> &'static str {
    if let Some(activity) = seen.activity {
        return activity;
    }
    match seen.node.as_ref().map(Node::instance) {
        // It takes no connections yet, whether or not an order waits for that.
        Some(Instance::Standby { ready: false, .. }) => "starting",
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
    if let Some(progress) = &seen.progress {
        more.insert("progress".to_owned(), json!(progress));
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

/// `GET /patroni`, and the body of every health check. `answered` is when the store last did, in seconds since 1970.
pub fn status(seen: &Seen, settings: &Settings, answered: u64, now: Time) -> Value {
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
    if let Some(progress) = &seen.progress {
        put("progress", json!(progress));
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
    put("dcs_last_seen", json!(answered));
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

/// What the holder last said; none if that is older than its lease.
fn heard(node: &Node, now: Time) -> Option<&Beat> {
    let reign = node.view().reign.as_ref().filter(|reign| now < node.unchanged_since() + reign.ttl)?;
    node.view().beat.as_deref().filter(|beat| beat.epoch == reign.epoch)
}

/// The end of the holder's WAL as it last said; none if that is long ago.
pub fn end(node: &Node, now: Time) -> Option<Lsn> {
    heard(node, now).map(|beat| beat.end)
}

/// Bytes between that and what this member has.
pub fn lag(node: &Node, now: Time) -> Option<u64> {
    let own = node.instance().data().map_or(0, |data| data.position.lsn.0);
    Some(end(node, now)?.0.saturating_sub(own))
}

/// Who may be shown as the leader at `now`: this member by its own authority only, another one only for as long as it
/// is heard of. What the store said once doesn't count (invariant I12).
pub fn leader<'a>(node: &'a Node, contents: &'a Contents, now: Time) -> Option<&'a str> {
    let me = node.config().me.as_str();
    if node.is_primary(now) {
        return Some(me);
    }
    let (name, _) = contents.leader.as_ref()?;
    heard(node, now).filter(|_| name != me).map(|_| name.as_str())
}

/// `GET /cluster`, and what the command line lists. `end` is that of the leader's WAL, if known.
pub fn cluster(scope: &str, contents: &Contents, leader: Option<&str>, end: Option<Lsn>) -> Value {
    let members = contents.members.iter().map(|(name, member)| cluster_member(name, member, leader, end));
    json!({"members": members.collect::<Vec<_>>(), "scope": scope})
}

fn cluster_member(name: &str, member: &Member, leader: Option<&str>, end: Option<Lsn>) -> Value {
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
    for field in ["tags", "guard", "progress"] {
        if let Some(value) = member.more.get(field) {
            put(field, value.clone());
        }
    }
    if !leads {
        for (kind, field) in [("receive_", "receive_lsn"), ("replay_", "replay_lsn"), ("", "xlog_location")] {
            let unknown = || json!("unknown");
            let lsn = member.number(field);
            let lag = lsn.zip(end).map(|(lsn, end)| json!(end.0.saturating_sub(lsn)));
            put(&format!("{kind}lsn"), lsn.map_or_else(unknown, |lsn| json!(Lsn(lsn).to_string())));
            put(&format!("{kind}lag"), lag.unwrap_or_else(unknown));
        }
    }
    Value::Object(shown)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::instance::progress::Shown;
    use primacy_core::instance::{Data, Found, Saved};
    use primacy_core::store::{News, Record, Reign};
    use primacy_core::{Boot, Config, Epoch, Input, MachineId, Nonce, Position, Revision, Span, SystemId};
    use std::sync::Arc;

    const TTL: Span = Span::secs(5);

    /// The view of `me` that has just heard a beat of `holder` at `heard`.
    fn node(me: &str, holder: &str, heard: Time) -> Node {
        let mut node = Node::new(Arc::new(Config::new(me.into(), TTL)), Boot(1), Saved::default());
        let reign = Reign {
            epoch: Epoch(3),
            holder: holder.into(),
            boot: Boot(7),
            machine: MachineId(0),
            nonce: Nonce(9),
            ttl: TTL,
            released: None,
        };
        let records = vec![Record::Reign(reign), Record::Beat(Beat { epoch: Epoch(3), end: Lsn(1_000) })];
        drop(node.handle(heard, Input::News(News::Changed(Revision(5), records))));
        node
    }

    fn contents(leader: &str) -> Contents {
        let mut contents = Contents { leader: Some((leader.to_owned(), None)), ..Contents::default() };
        for name in ["a", "b"] {
            contents.see_member(name, br#"{"state": "running", "xlog_location": 400}"#);
        }
        contents
    }

    #[test]
    fn a_leader_is_named_only_while_it_is_heard_of() {
        let (heard, contents) = (Time(1_000_000), contents("a"));
        let other = node("b", "a", heard);
        let last = Time(heard.0 + TTL.0 - 1);
        assert_eq!(leader(&other, &contents, last), Some("a"));
        assert_eq!(leader(&other, &contents, heard + TTL), None);
        // Of itself it knows better than the store.
        assert_eq!(leader(&node("a", "a", heard), &contents, last), None);
    }

    #[test]
    fn a_lag_behind_nobody_is_unknown() {
        let (heard, contents) = (Time(1_000_000), contents("a"));
        let node = node("b", "a", heard);
        assert_eq!(lag(&node, heard), Some(1_000));
        assert_eq!(lag(&node, heard + TTL), None);
        let shown = |now: Time| {
            let cluster = cluster("x", &contents, leader(&node, &contents, now), end(&node, now));
            let members = cluster["members"].as_array().cloned().unwrap_or_default();
            members
                .into_iter()
                .map(|member| (member["role"].clone(), member["lag"].clone()))
                .collect::<Vec<_>>()
        };
        let replica = |lag: Value| (json!("replica"), lag);
        assert_eq!(shown(heard), [(json!("leader"), Value::Null), replica(json!(600))]);
        assert_eq!(shown(heard + TTL), [replica(json!("unknown")), replica(json!("unknown"))]);
    }

    #[test]
    fn a_standby_that_takes_no_connections_does_not_run_yet() {
        let state = |ready| {
            let position = Position { epoch: Epoch(1), lsn: Lsn(100) };
            let (data, source) = (Data { system: SystemId(1), position, forks: Arc::default() }, None);
            let instance = Instance::Standby { data, source, streaming: false, ready, starved: false };
            let mut node = Node::new(Arc::new(Config::new("b".into(), TTL)), Boot(1), Saved::default());
            drop(node.handle(Time(1), Input::Instance(Found { instance, saved: None })));
            super::state(&Seen { node: Some(node), ..Seen::default() })
        };
        assert_eq!((state(true), state(false)), ("running", "starting"));
    }

    #[test]
    fn who_is_on_the_way_back_says_how_far_it_has_come() {
        let file = "scope: x\nname: b\nrestapi: {listen: '127.0.0.1:8008'}\netcd3: {host: '127.0.0.1'}\npostgresql:\n  \
                    listen: 127.0.0.1:5432\n  data_dir: /data\n";
        let settings = Settings::parse(file).expect("a good file");
        let progress = Shown { what: "copy".to_owned(), percent: Some(42), ..Shown::default() };
        let expected = json!({"what": "copy", "seconds": 0, "percent": 42});
        for (progress, expected) in [(Some(progress), expected), (None, Value::Null)] {
            let seen = Seen { activity: Some("creating replica"), progress, ..Seen::default() };
            assert_eq!(status(&seen, &settings, 0, Time(0))["progress"], expected);
            let mut contents = Contents::default();
            let key = serde_json::to_vec(&member(&seen, &settings, Time(0))).expect("a member");
            contents.see_member("b", &key);
            let shown = cluster("x", &contents, None, None);
            assert_eq!(
                (&shown["members"][0]["progress"], &shown["members"][0]["state"]),
                (&expected, &json!("creating replica"))
            );
        }
    }

    #[test]
    fn the_history_follows_the_records_and_takes_times_from_the_mirror() {
        use primacy_core::store::EpochRecord;
        let mut view = View::default();
        let at = |epoch, lsn| Position { epoch: Epoch(epoch), lsn: Lsn(lsn) };
        // The reign of 3 was won and came to nothing; that of 5 is not verified yet.
        let forks = [(1, Some(at(0, 0))), (2, Some(at(1, 100))), (3, None), (4, Some(at(2, 200))), (5, None)];
        let contents = Contents {
            history: vec![json!([1, 100, "elsewise", "then", "x"]), json!([2, 199, "", "never", "x"])],
            ..Contents::default()
        };
        assert_eq!(history(&view, &contents), contents.history, "there are no records yet");
        for (epoch, fork) in forks {
            let record = EpochRecord {
                epoch: Epoch(epoch),
                holder: "b".into(),
                nonce: Nonce(9),
                fork,
                checkpointed: true,
            };
            view.put(Record::Epoch(record), Revision(1));
        }
        let expected = [json!([1, 100, PROMOTED, "then", "b"]), json!([2, 200, PROMOTED, "", "b"])];
        assert_eq!(history(&view, &contents), expected);
    }
}
