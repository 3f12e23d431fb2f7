//! The file as it is written. Every key is optional here; what must be there is checked with the rest.

use super::Login;
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use std::collections::BTreeMap;

/// A section of which everything is commented out is an empty one.
fn or_empty<'de, T, D>(deserializer: D) -> Result<T, D::Error>
where
    T: Default + Deserialize<'de>,
    D: Deserializer<'de>,
{
    Option::deserialize(deserializer).map(Option::unwrap_or_default)
}

#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct File {
    pub scope: Option<String>,
    pub namespace: Option<String>,
    pub name: Option<String>,
    #[serde(deserialize_with = "or_empty")]
    pub restapi: Restapi,
    #[serde(deserialize_with = "or_empty")]
    pub etcd: Etcd,
    #[serde(deserialize_with = "or_empty")]
    pub etcd3: Etcd,
    #[serde(deserialize_with = "or_empty")]
    pub bootstrap: Bootstrap,
    #[serde(deserialize_with = "or_empty")]
    pub postgresql: Postgresql,
    #[serde(deserialize_with = "or_empty")]
    pub tags: Tags,
    #[serde(deserialize_with = "or_empty")]
    pub log: Log,
    #[serde(deserialize_with = "or_empty")]
    pub primacy: Primacy,
}

/// What Patroni has no keys for.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct Primacy {
    #[serde(deserialize_with = "or_empty")]
    pub aside: Aside,
    /// As text: a number of seconds, or one with a unit.
    pub health_age: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct Aside {
    pub keep: Option<usize>,
    /// As text: a number of seconds, or one with a unit.
    pub max_age: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct Restapi {
    pub listen: Option<String>,
    pub connect_address: Option<String>,
    #[serde(deserialize_with = "or_empty")]
    pub authentication: Credentials,
}

#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct Etcd {
    pub host: Option<String>,
    pub hosts: Option<OneOrMany>,
    pub protocol: Option<String>,
}

/// A list, or one text with commas.
#[derive(Deserialize)]
#[serde(untagged)]
pub(super) enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

impl Etcd {
    pub(super) fn hosts(&self) -> Vec<String> {
        let trimmed = |text: &str| text.split(',').map(|host| host.trim().to_owned()).collect();
        match (&self.hosts, &self.host) {
            (Some(OneOrMany::Many(hosts)), _) => hosts.clone(),
            (Some(OneOrMany::One(text)), _) => trimmed(text),
            (None, Some(text)) => trimmed(text),
            (None, None) => Vec::new(),
        }
    }
}

#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct Bootstrap {
    #[serde(deserialize_with = "or_empty")]
    pub dcs: Dcs,
    #[serde(deserialize_with = "or_empty")]
    pub initdb: Vec<Switch>,
    #[serde(deserialize_with = "or_empty")]
    pub pg_hba: Vec<String>,
}

/// An option of initdb: a name, or a name with its value.
#[derive(Deserialize)]
#[serde(untagged)]
pub(super) enum Switch {
    Alone(String),
    Valued(BTreeMap<String, Value>),
}

impl Switch {
    pub(super) fn into_options(self) -> Vec<String> {
        match self {
            Switch::Alone(name) => vec![name],
            Switch::Valued(map) => map.into_iter().map(|(name, value)| option(name, &value)).collect(),
        }
    }
}

/// A number needs no quotes, and an option without a value is one that is switched on.
fn option(name: String, value: &Value) -> String {
    match value {
        Value::Null => name,
        Value::String(text) => format!("{name}={text}"),
        other => format!("{name}={other}"),
    }
}

#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct Dcs {
    pub ttl: Option<u64>,
    pub loop_wait: Option<u64>,
    pub retry_timeout: Option<u64>,
    pub maximum_lag_on_failover: Option<u64>,
    #[serde(deserialize_with = "or_empty")]
    pub postgresql: DcsPostgresql,
}

#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct RecoveryConf {
    pub restore_command: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct DcsPostgresql {
    /// As text, so that what PostgreSQL gets is what the file says (`on`, `0700`).
    #[serde(deserialize_with = "or_empty")]
    pub parameters: BTreeMap<String, Option<String>>,
    #[serde(deserialize_with = "or_empty")]
    pub pg_hba: Vec<String>,
    #[serde(deserialize_with = "or_empty")]
    pub recovery_conf: RecoveryConf,
    pub use_pg_rewind: Option<bool>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct Postgresql {
    pub use_pg_rewind: Option<bool>,
    #[serde(deserialize_with = "or_empty")]
    pub recovery_conf: RecoveryConf,
    pub listen: Option<String>,
    pub connect_address: Option<String>,
    pub data_dir: Option<String>,
    pub bin_dir: Option<String>,
    pub database: Option<String>,
    pub pgpass: Option<String>,
    #[serde(deserialize_with = "or_empty")]
    pub authentication: Authentication,
    #[serde(deserialize_with = "or_empty")]
    pub parameters: BTreeMap<String, Option<String>>,
    #[serde(deserialize_with = "or_empty")]
    pub pg_hba: Vec<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct Authentication {
    #[serde(deserialize_with = "or_empty")]
    pub superuser: Credentials,
    #[serde(deserialize_with = "or_empty")]
    pub replication: Credentials,
    #[serde(deserialize_with = "or_empty")]
    pub rewind: Credentials,
}

#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct Credentials {
    pub username: Option<String>,
    pub password: Option<String>,
}

impl Credentials {
    pub(super) fn into_login(self, default: &str) -> Login {
        Login { username: self.username.unwrap_or_else(|| default.to_owned()), password: self.password }
    }
}

#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct Tags {
    pub nofailover: Option<bool>,
    pub failover_priority: Option<i64>,
}

impl Tags {
    /// `nofailover` wins if both are given.
    pub(super) fn priority(&self) -> u32 {
        match (self.nofailover, self.failover_priority) {
            (Some(true), _) => 0,
            (Some(false), _) => self.failover_priority.unwrap_or(1).max(1).try_into().unwrap_or(u32::MAX),
            (None, priority) => priority.unwrap_or(1).max(0).try_into().unwrap_or(u32::MAX),
        }
    }
}

#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct Log {
    pub r#type: Option<String>,
    pub level: Option<String>,
}
