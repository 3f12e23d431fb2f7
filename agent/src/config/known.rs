//! Which keys a configuration file may have.
//!
//! A misspelt key must not be silently without effect, so every unknown one is an error that names the nearest known
//! key. Keys of Patroni's that this agent doesn't act on yet are accepted and named, in one warning.

use serde_json::Value;

/// What becomes of a key.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// A section with keys of its own.
    Section,
    /// Used as it is, whatever lies below.
    Used,
    /// Known, and without effect for now.
    Later,
}
use Kind::{Later, Section, Used};

/// `*` stands for any name.
const KEYS: &[(Kind, &str, &[&str])] = &[
    (Section, "", &["restapi", "etcd", "etcd3", "bootstrap", "postgresql", "log", "primacy"]),
    (Used, "", &["scope", "namespace", "name", "tags"]),
    (Later, "", &["ctl", "watchdog", "consul", "zookeeper", "kubernetes", "raft", "citus", "exhibitor"]),
    (Used, "restapi", &["listen", "connect_address"]),
    (Section, "restapi", &["authentication"]),
    (Used, "restapi.authentication", &["username", "password"]),
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
    (Used, "etcd", &["host", "hosts", "protocol"]),
    (Used, "etcd3", &["host", "hosts", "protocol"]),
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
    (Used, "primacy.aside", &["keep", "max_age"]),
    (Used, "log", &["type", "level"]),
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
    (Used, "bootstrap", &["initdb", "pg_hba"]),
    (Later, "bootstrap", &["method", "post_bootstrap", "post_init", "users", "*"]),
    (Used, "bootstrap.dcs", &["ttl", "loop_wait", "retry_timeout", "maximum_lag_on_failover"]),
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
    (Used, "bootstrap.dcs.postgresql", &["parameters", "pg_hba"]),
    (Section, "bootstrap.dcs.postgresql", &["recovery_conf"]),
    (Used, "bootstrap.dcs.postgresql.recovery_conf", &["restore_command"]),
    (Later, "bootstrap.dcs.postgresql.recovery_conf", &["*"]),
    (Section, "postgresql", &["recovery_conf"]),
    (Used, "postgresql.recovery_conf", &["restore_command"]),
    (Later, "postgresql.recovery_conf", &["*"]),
    (Later, "bootstrap.dcs.postgresql", POSTGRESQL_LATER),
    (
        Used,
        "postgresql",
        &["listen", "connect_address", "data_dir", "bin_dir", "database", "parameters", "pg_hba"],
    ),
    (Later, "postgresql", &["pgpass", "use_unix_socket", "use_unix_socket_repl", "pg_ctl_timeout"]),
    (Section, "postgresql", &["authentication"]),
    (Section, "postgresql.authentication", &["superuser", "replication"]),
    (Later, "postgresql.authentication", &["rewind"]),
    (Used, "postgresql.authentication.superuser", &["username", "password"]),
    (Used, "postgresql.authentication.replication", &["username", "password"]),
    (Later, "postgresql.authentication.superuser", CONNECTION_LATER),
    (Later, "postgresql.authentication.replication", CONNECTION_LATER),
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
    "use_pg_rewind",
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
    let mut found = Found::default();
    walk("", document, &mut found);
    if found.wrong.is_empty() { Ok(found.later) } else { Err(found.wrong) }
}

#[derive(Default)]
struct Found {
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
        let path = if section.is_empty() { key.clone() } else { format!("{section}.{key}") };
        match kind_of(section, key) {
            Some(Section) => walk(&path, below, found),
            Some(Used) => {}
            Some(Later) => found.later.push(path),
            None => found.wrong.push(match nearest(section, key) {
                Some(known) => format!("{path}: unknown key; did you mean {known:?}?"),
                None => format!("{path}: unknown key"),
            }),
        }
    }
}

fn keys_of(section: &str) -> impl Iterator<Item = (Kind, &'static str)> {
    let here = KEYS.iter().filter(move |(_, name, _)| *name == section);
    here.flat_map(|(kind, _, keys)| keys.iter().map(|key| (*kind, *key)))
}

fn kind_of(section: &str, key: &str) -> Option<Kind> {
    let exact = keys_of(section).find(|(_, known)| *known == key);
    exact.or_else(|| keys_of(section).find(|(_, known)| *known == "*")).map(|(kind, _)| kind)
}

fn nearest(section: &str, key: &str) -> Option<&'static str> {
    let scored = keys_of(section).map(|(_, known)| (strsim::jaro_winkler(key, known), known));
    scored.filter(|(score, _)| *score > 0.8).max_by(|a, b| a.0.total_cmp(&b.0)).map(|(_, known)| known)
}
