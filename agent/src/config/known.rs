//! Which keys a configuration file may have.
//!
//! A misspelt key must not be silently without effect, so every unknown one is an error that names the nearest known
//! key. Keys of Patroni's that this agent doesn't act on yet are accepted and named, in one warning.

use super::shape::Shape;
use serde_json::Value;

/// What becomes of a key.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// A section with keys of its own.
    Section,
    /// Used, with a value of this kind.
    Used(Shape),
    /// Known, and without effect for now.
    Later,
}
use Kind::{Later, Section};

const TEXT: Kind = Kind::Used(Shape::Text);
const COUNT: Kind = Kind::Used(Shape::Count);
const TEXTS: Kind = Kind::Used(Shape::Texts);
const SETTINGS: Kind = Kind::Used(Shape::Settings);

/// `*` stands for any name.
const KEYS: &[(Kind, &str, &[&str])] = &[
    (Section, "", &["restapi", "etcd", "etcd3", "bootstrap", "postgresql", "tags", "log", "primacy"]),
    (TEXT, "", &["scope", "namespace", "name"]),
    (Later, "", &["ctl", "watchdog", "consul", "zookeeper", "kubernetes", "raft", "citus", "exhibitor"]),
    (TEXT, "restapi", &["listen", "connect_address"]),
    (Section, "restapi", &["authentication"]),
    (TEXT, "restapi.authentication", &["username", "password"]),
    (
        Later,
        "restapi",
        &[
            "certfile",
            "keyfile",
            "keyfile_password",
            "cafile",
            "ciphers",
            "verify_client",
            "allowlist",
            "allowlist_include_members",
            "http_extra_headers",
            "https_extra_headers",
            "request_queue_size",
            "thread_pool_size",
            "server_tokens",
        ],
    ),
    (TEXT, "etcd", &["host", "protocol"]),
    (Kind::Used(Shape::Hosts), "etcd", &["hosts"]),
    (TEXT, "etcd3", &["host", "protocol"]),
    (Kind::Used(Shape::Hosts), "etcd3", &["hosts"]),
    (
        Later,
        "etcd",
        &[
            "url",
            "proxy",
            "srv",
            "srv_suffix",
            "use_proxies",
            "username",
            "password",
            "cacert",
            "cert",
            "key",
        ],
    ),
    (
        Later,
        "etcd3",
        &[
            "url",
            "proxy",
            "srv",
            "srv_suffix",
            "use_proxies",
            "username",
            "password",
            "cacert",
            "cert",
            "key",
        ],
    ),
    (Section, "primacy", &["aside"]),
    (TEXT, "primacy", &["health_age"]),
    (COUNT, "primacy.aside", &["keep"]),
    (TEXT, "primacy.aside", &["max_age"]),
    (Kind::Used(Shape::Flag), "tags", &["nofailover"]),
    (Kind::Used(Shape::Integer), "tags", &["failover_priority"]),
    (Kind::Used(Shape::Any), "tags", &["*"]),
    (TEXT, "log", &["type", "level"]),
    (
        Later,
        "log",
        &[
            "traceback_level",
            "format",
            "dateformat",
            "static_fields",
            "max_queue_size",
            "dir",
            "mode",
            "file_num",
            "file_size",
            "loggers",
            "deduplicate_heartbeat_logs",
        ],
    ),
    (Section, "bootstrap", &["dcs"]),
    (Kind::Used(Shape::Options), "bootstrap", &["initdb"]),
    (TEXTS, "bootstrap", &["pg_hba"]),
    (Later, "bootstrap", &["method", "post_bootstrap", "post_init", "users"]),
    (COUNT, "bootstrap.dcs", &["ttl", "loop_wait", "retry_timeout", "maximum_lag_on_failover"]),
    (Section, "bootstrap.dcs", &["postgresql"]),
    (
        Later,
        "bootstrap.dcs",
        &[
            "maximum_lag_on_syncnode",
            "check_timeline",
            "max_timelines_history",
            "primary_start_timeout",
            "master_start_timeout",
            "primary_stop_timeout",
            "master_stop_timeout",
            "primary_race_backoff",
            "synchronous_mode",
            "synchronous_mode_strict",
            "synchronous_node_count",
            "failsafe_mode",
            "pause",
            "member_slots_ttl",
            "slots",
            "permanent_slots",
            "permanent_replication_slots",
            "ignore_slots",
            "standby_cluster",
        ],
    ),
    (SETTINGS, "bootstrap.dcs.postgresql", &["parameters"]),
    (TEXTS, "bootstrap.dcs.postgresql", &["pg_hba"]),
    (Section, "bootstrap.dcs.postgresql", &["recovery_conf"]),
    (TEXT, "bootstrap.dcs.postgresql.recovery_conf", &["restore_command"]),
    (Later, "bootstrap.dcs.postgresql.recovery_conf", &["*"]),
    (Section, "postgresql", &["recovery_conf"]),
    (TEXT, "postgresql.recovery_conf", &["restore_command"]),
    (Later, "postgresql.recovery_conf", &["*"]),
    (Kind::Used(Shape::Flag), "bootstrap.dcs.postgresql", &["use_pg_rewind"]),
    (Later, "bootstrap.dcs.postgresql", POSTGRESQL_LATER),
    (TEXT, "postgresql", &["listen", "connect_address", "data_dir", "bin_dir", "database"]),
    (SETTINGS, "postgresql", &["parameters"]),
    (TEXTS, "postgresql", &["pg_hba"]),
    (Later, "postgresql", &["pgpass", "use_unix_socket", "use_unix_socket_repl", "pg_ctl_timeout"]),
    (Section, "postgresql", &["authentication"]),
    (Kind::Used(Shape::Flag), "postgresql", &["use_pg_rewind"]),
    (Section, "postgresql.authentication", &["superuser", "replication", "rewind"]),
    (TEXT, "postgresql.authentication.superuser", &["username", "password"]),
    (TEXT, "postgresql.authentication.replication", &["username", "password"]),
    (TEXT, "postgresql.authentication.rewind", &["username", "password"]),
    (Later, "postgresql.authentication.superuser", CONNECTION_LATER),
    (Later, "postgresql.authentication.replication", CONNECTION_LATER),
    (Later, "postgresql.authentication.rewind", CONNECTION_LATER),
    (Later, "postgresql", POSTGRESQL_LATER),
    (
        Later,
        "postgresql",
        &["proxy_address", "config_dir", "config_base_name", "custom_conf", "bin_name", "krbsrvname"],
    ),
];

const CONNECTION_LATER: &[&str] = &[
    "sslmode",
    "sslcert",
    "sslkey",
    "sslpassword",
    "sslrootcert",
    "sslcrl",
    "sslcrldir",
    "gssencmode",
    "channel_binding",
    "sslnegotiation",
];

const POSTGRESQL_LATER: &[&str] = &[
    "parameters_primary",
    "parameters_replica",
    "parameters_standby_leader",
    "pg_hba_primary",
    "pg_hba_replica",
    "pg_hba_standby_leader",
    "pg_ident",
    "pg_ident_primary",
    "pg_ident_replica",
    "pg_ident_standby_leader",
    "create_replica_methods",
    "basebackup",
    "use_slots",
    "rewind",
    "remove_data_directory_on_rewind_failure",
    "remove_data_directory_on_diverged_timelines",
    "callbacks",
    "pre_promote",
    "before_stop",
];

/// Names every key that can't be right, and returns the known ones without effect.
pub(super) fn check(document: &Value) -> Result<Vec<String>, Vec<String>> {
    // Patroni's name for a section with whatever the user's own way to make a cluster takes.
    let method = document.get("bootstrap").and_then(|bootstrap| bootstrap.get("method")?.as_str());
    let mut found = Found { method, later: Vec::new(), wrong: Vec::new() };
    walk("", document, &mut found);
    if found.wrong.is_empty() { Ok(found.later) } else { Err(found.wrong) }
}

struct Found<'a> {
    method: Option<&'a str>,
    later: Vec<String>,
    wrong: Vec<String>,
}

fn walk(section: &str, value: &Value, found: &mut Found) {
    let map = match value {
        Value::Object(map) => map,
        Value::Null => return,
        Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
            let name = if section.is_empty() { "the file" } else { section };
            return found.wrong.push(format!("{name}: expected a section with keys of its own"));
        }
    };
    for (key, below) in map {
        let path = path_of(section, key);
        match kind_of(section, key) {
            Some(Section) => walk(&path, below, found),
            Some(Kind::Used(shape)) => {
                found.wrong.extend(shape.mistake(below).map(|mistake| format!("{path}: {mistake}")));
            }
            Some(Later) => found.later.push(path),
            None if section == "bootstrap" && found.method == Some(key) => found.later.push(path),
            None => found.wrong.push(match nearest(section, key) {
                Some(known) => format!("{path}: unknown key; did you mean {known}?"),
                None => format!("{path}: unknown key"),
            }),
        }
    }
}

fn path_of(section: &str, key: &str) -> String {
    if section.is_empty() { key.to_owned() } else { format!("{section}.{key}") }
}

fn keys_of(section: &str) -> impl Iterator<Item = (Kind, &'static str)> {
    let here = KEYS.iter().filter(move |(_, name, _)| *name == section);
    here.flat_map(|(kind, _, keys)| keys.iter().map(|key| (*kind, *key)))
}

fn kind_of(section: &str, key: &str) -> Option<Kind> {
    let exact = keys_of(section).find(|(_, known)| *known == key);
    exact.or_else(|| keys_of(section).find(|(_, known)| *known == "*")).map(|(kind, _)| kind)
}

/// Where this key may stand, if not here; else the most alike of this section's keys.
fn nearest(section: &str, key: &str) -> Option<String> {
    let alike = |known: &str| match strsim::damerau_levenshtein(key, known) {
        1 => 1.0,
        _ => strsim::jaro_winkler(key, known),
    };
    let scored = keys_of(section).map(|(_, known)| (alike(known), known));
    let here = scored.filter(|(score, _)| *score > 0.8).max_by(|a, b| a.0.total_cmp(&b.0));
    elsewhere(key).or_else(|| here.map(|(_, known)| format!("{known:?}")))
}

/// A key at the wrong depth. More than a few places would help nobody.
fn elsewhere(key: &str) -> Option<String> {
    let places = KEYS.iter().filter(|(kind, _, keys)| *kind != Later && keys.contains(&key));
    let places: Vec<String> = places.map(|(_, section, _)| format!("{:?}", path_of(section, key))).collect();
    (1..=3).contains(&places.len()).then(|| places.join(" or "))
}
