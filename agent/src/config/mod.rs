//! The configuration file: Patroni's YAML, read into settings.

mod known;
mod raw;
mod shape;
#[cfg(test)]
mod tests;

use base64::prelude::{BASE64_STANDARD, Engine};
use primacy_core::{BadConfig, Config, Name, Span};
use primacy_etcd::Endpoint;
use primacy_postgres::Keep;
use serde::de::DeserializeOwned;
use serde_saphyr::{MessageFormatter as _, UserMessageFormatter};
use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::path::PathBuf;
use std::time::Duration;

/// Everything the agent was told.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The cluster.
    pub scope: String,
    /// This member.
    pub name: Name,
    /// Everything in the store lies below it. Begins and ends with a slash.
    pub prefix: String,
    /// `host:port` of the members of the store.
    pub etcd: Vec<String>,
    /// See [`Rest`].
    pub rest: Rest,
    /// See [`Postgres`].
    pub postgres: Postgres,
    /// See [`Bootstrap`].
    pub bootstrap: Bootstrap,
    /// What the core is told.
    pub core: Config,
    /// How often idle state is looked at and published.
    pub loop_wait: Duration,
    /// As published; other tools look at them.
    pub tags: serde_json::Map<String, serde_json::Value>,
    /// See [`Log`].
    pub log: Log,
    /// How long copies that were moved aside are kept.
    pub aside: Keep,
    /// Known keys of the file that have no effect yet.
    pub ignored: Vec<String>,
}

/// The REST interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rest {
    /// Where it listens.
    pub listen: Address,
    /// Where others find it.
    pub connect: Address,
    /// The `Authorization` header that a request which changes something must carry, if any.
    pub authentication: Option<String>,
}

/// The local PostgreSQL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Postgres {
    /// `listen_addresses`, comma separated.
    pub listen_addresses: String,
    /// Where others find it.
    pub connect: Address,
    /// Its port here.
    pub port: u16,
    /// The data directory.
    pub data_dir: PathBuf,
    /// Where its programs are; on the `PATH` if none.
    pub bin_dir: Option<PathBuf>,
    /// The database the agent connects to.
    pub database: String,
    /// The password file for its tools.
    pub pgpass: Option<PathBuf>,
    /// Who the agent is.
    pub superuser: Login,
    /// Who a standby is.
    pub replication: Login,
    /// Who reads another member's files for `pg_rewind`.
    pub rewind: Login,
    /// Server settings.
    pub parameters: BTreeMap<String, String>,
    /// The lines of `pg_hba.conf`, if it is the agent's to write.
    pub hba: Vec<String>,
    /// What fetches a file of WAL from the archive, if there is one.
    pub restore_command: Option<String>,
}

/// A PostgreSQL role and its password.
#[derive(Clone, PartialEq, Eq)]
pub struct Login {
    /// The role.
    pub username: String,
    /// Its password.
    pub password: Option<String>,
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.username)
    }
}

/// How the first data directory of a cluster is made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bootstrap {
    /// Options of initdb: `name` or `name=value`.
    pub initdb: Vec<String>,
}

/// How the log looks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Log {
    /// Lines of JSON instead of text.
    pub json: bool,
    /// The least level that is written.
    pub level: tracing::Level,
}

/// A host and a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// Name or address, without brackets.
    pub host: String,
    /// The port.
    pub port: u16,
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// The longest lease.
const TTL_SECONDS_MAX: u64 = 3_600;

/// The longest that a primary may be asked to go without a proof.
const HEALTH_AGE_MAX: Duration = Duration::from_secs(3_600);

/// What is wrong with a configuration file. One line for each mistake.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", .0.join("\n"))]
pub struct Invalid(pub Vec<String>);

impl Invalid {
    fn one(mistake: impl Into<String>) -> Invalid {
        Invalid(vec![mistake.into()])
    }
}

impl Settings {
    /// Reads the text of a file.
    ///
    /// # Errors
    /// Names each mistake that was found with its key.
    pub fn parse(yaml: &str) -> Result<Settings, Invalid> {
        let document: serde_json::Value = read(yaml)?;
        let ignored = known::check(&document).map_err(Invalid)?;
        build(read(yaml)?, document, ignored)
    }
}

/// Reads YAML. A mistake is told with its line, and without the lines around it: a password may be among them.
fn read<T: DeserializeOwned>(yaml: &str) -> Result<T, Invalid> {
    serde_saphyr::from_str(yaml).map_err(|error| {
        let error = error.without_snippet();
        let words = UserMessageFormatter.format_message(error);
        Invalid::one(match error.location() {
            Some(place) => format!("line {} column {}: {words}", place.line(), place.column()),
            None => words.into_owned(),
        })
    })
}

/// What a request that changes something must carry, as the header has it. Half a pair would leave the door open.
fn authentication(given: raw::Credentials, wrong: &mut Wrong) -> Option<String> {
    match (given.username, given.password) {
        (Some(username), Some(password)) => {
            let words = BASE64_STANDARD.encode(format!("{username}:{password}"));
            Some(format!("Basic {words}"))
        }
        (None, None) => None,
        (_, _) => {
            wrong.push("restapi.authentication: needs both username and password");
            None
        }
    }
}

fn build(file: raw::File, document: serde_json::Value, ignored: Vec<String>) -> Result<Settings, Invalid> {
    let mut wrong = Wrong::default();
    let scope = wrong.required("scope", file.scope);
    if scope.contains('/') {
        wrong.push("scope: must be without a slash, as it is a part of the keys in etcd");
    }
    let name = wrong.required("name", file.name);
    if !name.is_empty() && !is_member_name(&name) {
        wrong.push(format!(
            "name: 1 to 63 of A-Z, a-z, 0-9, _, . and -, as PostgreSQL shows no other unchanged, not {name:?}"
        ));
    }
    let rest_listen = wrong.required("restapi.listen", file.restapi.listen);
    let rest_listen = wrong.address("restapi.listen", &rest_listen, 8008);
    let rest_connect =
        wrong.connect_address("restapi.connect_address", file.restapi.connect_address, &rest_listen);
    let etcd = wrong.hosts("etcd3", file.etcd3.hosts()).or_else(|| wrong.hosts("etcd", file.etcd.hosts()));
    if etcd.is_none() {
        wrong.push("etcd3.hosts: missing; name at least one member of etcd as host:port");
    }
    for (section, protocol) in [("etcd3", &file.etcd3.protocol), ("etcd", &file.etcd.protocol)] {
        if protocol.as_deref() == Some("https") {
            wrong.push(format!("{section}.protocol: TLS towards etcd isn't supported yet"));
        }
    }
    let authentication = authentication(file.restapi.authentication, &mut wrong);
    let mut core = core_config(&name, &file.bootstrap.dcs, &file.tags, &mut wrong);
    let use_pg_rewind = file.postgresql.use_pg_rewind.or(file.bootstrap.dcs.postgresql.use_pg_rewind);
    core.rewind = use_pg_rewind.unwrap_or(core.rewind);
    let tags = match document.get("tags") {
        Some(serde_json::Value::Object(map)) => map.clone(),
        Some(_) | None => serde_json::Map::new(),
    };
    let loop_wait = file.bootstrap.dcs.loop_wait.unwrap_or(1).max(1);
    let initdb = file.bootstrap.initdb.into_iter().flat_map(raw::Switch::into_options).collect();
    let namespace = file.namespace.unwrap_or_else(|| "service".to_owned());
    let log = log_settings(&file.log, &mut wrong);
    if let Some(text) = &file.primacy.health_age {
        core.health_age = health_age(text, &mut wrong).unwrap_or(core.health_age);
    }
    let aside = keep(&file.primacy.aside, &mut wrong);
    let mut parameters = file.bootstrap.dcs.postgresql.parameters;
    parameters.extend(file.postgresql.parameters.clone());
    // Patroni's place for it, in the file before that for all members; else one among the parameters.
    let among_parameters = parameters.remove("restore_command").flatten();
    let recovery = [&file.postgresql.recovery_conf, &file.bootstrap.dcs.postgresql.recovery_conf];
    let restore = recovery.into_iter().find_map(|section| section.restore_command.clone());
    let restore_command = restore.or(among_parameters).filter(|command| !command.trim().is_empty());
    let bootstrap_hba = if file.bootstrap.pg_hba.is_empty() {
        file.bootstrap.dcs.postgresql.pg_hba
    } else {
        file.bootstrap.pg_hba
    };
    let hba = if file.postgresql.pg_hba.is_empty() { bootstrap_hba } else { file.postgresql.pg_hba.clone() };
    let postgres = Postgres { restore_command, ..postgres(file.postgresql, parameters, hba, &mut wrong) };
    let prefix = prefix(&namespace, &scope);
    if !wrong.0.is_empty() {
        return Err(Invalid(wrong.0));
    }
    Ok(Settings {
        prefix,
        scope,
        name: name.as_str().into(),
        etcd: etcd.unwrap_or_default(),
        rest: Rest { listen: rest_listen, connect: rest_connect, authentication },
        postgres,
        bootstrap: Bootstrap { initdb },
        core,
        loop_wait: Duration::from_secs(loop_wait),
        tags,
        log,
        aside,
        ignored,
    })
}

/// Mistakes found so far.
#[derive(Default)]
struct Wrong(Vec<String>);

impl Wrong {
    fn push(&mut self, mistake: impl Into<String>) {
        self.0.push(mistake.into());
    }

    fn required(&mut self, key: &str, value: Option<String>) -> String {
        match value {
            Some(value) if !value.is_empty() => value,
            Some(_) | None => {
                self.push(format!("{key}: missing"));
                String::new()
            }
        }
    }

    fn address(&mut self, key: &str, text: &str, default_port: u16) -> Address {
        match parse_address(text, default_port) {
            Some(address) => address,
            None => {
                if !text.is_empty() {
                    self.push(format!("{key}: expected host:port, found {text:?}"));
                }
                Address { host: String::new(), port: default_port }
            }
        }
    }

    /// Where others find what listens here: all addresses together are none.
    fn connect_address(&mut self, key: &str, given: Option<String>, listen: &Address) -> Address {
        let address = given.map_or_else(|| listen.clone(), |text| self.address(key, &text, listen.port));
        if address.host.parse::<IpAddr>().is_ok_and(|ip| ip.is_unspecified()) {
            self.push(format!("{key}: needed, an address of this node: nobody can connect to {address}"));
        }
        address
    }

    fn endpoint(&mut self, key: &str, text: &str) -> String {
        let endpoint = parse_address(text, 2379).map(|address| address.to_string()).unwrap_or_default();
        if endpoint.parse::<Endpoint>().is_err() {
            self.push(format!("{key}: expected host:port, found {text:?}"));
        }
        endpoint
    }

    fn hosts(&mut self, section: &str, hosts: Vec<String>) -> Option<Vec<String>> {
        let key = format!("{section}.hosts");
        if let Some(text) = hosts.iter().find(|text| text.trim().starts_with("https://")) {
            self.push(format!("{key}: TLS towards etcd isn't supported yet, found {text:?}"));
            return Some(Vec::new());
        }
        let hosts: Vec<_> = hosts.iter().map(|text| self.endpoint(&key, text)).collect();
        (!hosts.is_empty()).then_some(hosts)
    }
}

/// Standbys are known to the primary by their `application_name`, in which PostgreSQL replaces and cuts off what it
/// doesn't like. A member that it shows by another name could never be elected.
fn is_member_name(text: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
    (1..=63).contains(&text.len()) && text.chars().all(allowed)
}

/// `host:port`, `[v6]:port`, or a host alone.
fn parse_address(text: &str, default_port: u16) -> Option<Address> {
    let text = text.trim().trim_start_matches("http://").trim_end_matches('/');
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !host.contains(':') || host.ends_with(']') => (host, parse_port(port)?),
        Some(_) | None => (text, default_port),
    };
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let host = if host == "*" || host.is_empty() { "0.0.0.0" } else { host };
    if host.contains(':') {
        let (address, _zone) = host.split_once('%').unwrap_or((host, ""));
        address.parse::<Ipv6Addr>().ok()?;
    }
    // A port alone would be taken for the name of a host.
    let is_a_host = !host.bytes().all(|byte| byte.is_ascii_digit());
    (!text.is_empty() && is_a_host).then(|| Address { host: host.to_owned(), port })
}

/// Of a service that others are to find: the port 0 would be another one each time.
fn parse_port(text: &str) -> Option<u16> {
    text.parse().ok().filter(|port| *port != 0)
}

/// `/NAMESPACE/SCOPE/`, with repeated slashes squeezed.
fn prefix(namespace: &str, scope: &str) -> String {
    let parts = namespace.split('/').chain([scope]).filter(|part| !part.is_empty());
    let mut prefix = String::from("/");
    parts.for_each(|part| {
        prefix.push_str(part);
        prefix.push('/');
    });
    prefix
}

fn postgres(
    section: raw::Postgresql,
    parameters: BTreeMap<String, Option<String>>,
    hba: Vec<String>,
    wrong: &mut Wrong,
) -> Postgres {
    let listen = wrong.required("postgresql.listen", section.listen);
    let data_dir = wrong.required("postgresql.data_dir", section.data_dir);
    if !data_dir.is_empty() && !data_dir.starts_with('/') {
        wrong.push("postgresql.data_dir: must be an absolute path");
    }
    let (addresses, port) = listen.rsplit_once(':').unwrap_or((&listen, "5432"));
    let port = parse_port(port).unwrap_or_else(|| {
        wrong.push(format!("postgresql.listen: expected host[,host...]:port, found {listen:?}"));
        5432
    });
    let addresses = if addresses.trim().is_empty() && !listen.is_empty() { "*" } else { addresses };
    let first = wrong.address("postgresql.listen", addresses.split(',').next().unwrap_or_default(), port);
    let connect = wrong.connect_address("postgresql.connect_address", section.connect_address, &first);
    let auth = section.authentication;
    let superuser = auth.superuser.into_login("postgres");
    let replication = match auth.replication.username {
        Some(_) => auth.replication.into_login("replicator"),
        None => superuser.clone(),
    };
    let rewind = match auth.rewind.username {
        Some(_) => auth.rewind.into_login("rewind"),
        None => superuser.clone(),
    };
    Postgres {
        listen_addresses: without_brackets(addresses),
        connect,
        port,
        data_dir: data_dir.into(),
        bin_dir: section.bin_dir.filter(|dir| !dir.is_empty()).map(PathBuf::from),
        database: section.database.unwrap_or_else(|| "postgres".to_owned()),
        pgpass: section.pgpass.map(PathBuf::from),
        superuser,
        replication,
        rewind,
        parameters: parameters.into_iter().filter_map(|(name, value)| Some((name, value?))).collect(),
        hba,
        restore_command: None,
    }
}

/// As PostgreSQL takes addresses: the brackets of IPv6 only belong before a port.
fn without_brackets(addresses: &str) -> String {
    let bare = |address: &str| match address.trim().strip_prefix('[').and_then(|rest| rest.strip_suffix(']'))
    {
        Some(address) => address.to_owned(),
        None => address.trim().to_owned(),
    };
    addresses.split(',').map(bare).collect::<Vec<_>>().join(",")
}

fn core_config(name: &str, dcs: &raw::Dcs, tags: &raw::Tags, wrong: &mut Wrong) -> Config {
    let mut ttl = dcs.ttl.unwrap_or(5);
    if ttl > TTL_SECONDS_MAX {
        wrong.push(format!("bootstrap.dcs.ttl: at most {TTL_SECONDS_MAX} s: a dead primary costs as long"));
        ttl = TTL_SECONDS_MAX;
    }
    let mut config = Config::new(Name::from(name), Span::secs(ttl));
    if ttl < 5 {
        config.demote_lead = Span(config.ttl.0 / 5);
    }
    if let Some(bytes) = dcs.maximum_lag_on_failover {
        config.lag_bytes_max = bytes;
    }
    config.priority = tags.priority();
    if dcs.retry_timeout.is_some_and(|seconds| seconds < 1) {
        wrong.push("bootstrap.dcs.retry_timeout: must be at least 1");
    }
    if let Err(bad) = config.validate() {
        wrong.push(in_words_of_the_file(&bad));
    }
    config
}

/// The core's settings follow from a few keys; a mistake is told in terms of these.
fn in_words_of_the_file(bad: &BadConfig) -> String {
    let key = match bad.field {
        "ttl" | "stop_budget" | "beat_every" => "bootstrap.dcs.ttl",
        "store_patience" | "retry_after" => "bootstrap.dcs.retry_timeout",
        other => other,
    };
    format!("{key}: {}", bad.rule)
}

fn keep(given: &raw::Aside, wrong: &mut Wrong) -> Keep {
    let mut keep = Keep::default();
    match given.keep {
        None => {}
        Some(0) => wrong.push("primacy.aside.keep: at least 1: the newest copy is never removed"),
        Some(count) => keep.count = count,
    }
    if let Some(text) = &given.max_age {
        match length_of_time(text) {
            Some(age) => keep.age = age,
            None => wrong.push(format!(
                "primacy.aside.max_age: seconds, or a number with s, min, h or d, not {text:?}"
            )),
        }
    }
    keep
}

/// How old the last proof may get that a primary does its work: 0, or a second and more.
fn health_age(text: &str, wrong: &mut Wrong) -> Option<Span> {
    let given = length_of_time(text).filter(|given| given.is_zero() || *given <= HEALTH_AGE_MAX);
    if given.is_none() {
        wrong.push(format!(
            "primacy.health_age: seconds, or a number with s or min, up to an hour; 0 for never; not {text:?}"
        ));
    }
    given.map(|given| Span::secs(given.as_secs()))
}

/// Seconds, or a number with a unit of PostgreSQL's.
fn length_of_time(text: &str) -> Option<Duration> {
    let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
    let seconds = match text[digits.len()..].trim() {
        "" | "s" => 1,
        "min" => 60,
        "h" => 3_600,
        "d" => 86_400,
        _ => return None,
    };
    digits.parse::<u64>().ok()?.checked_mul(seconds).map(Duration::from_secs)
}

fn log_settings(log: &raw::Log, wrong: &mut Wrong) -> Log {
    let json = match log.r#type.as_deref() {
        None | Some("plain") => false,
        Some("json") => true,
        Some(other) => {
            wrong.push(format!("log.type: plain or json, not {other:?}"));
            false
        }
    };
    let level = match log.level.as_deref().map(str::to_ascii_uppercase).as_deref() {
        None | Some("INFO") => tracing::Level::INFO,
        Some("DEBUG") => tracing::Level::DEBUG,
        Some("WARNING" | "WARN") => tracing::Level::WARN,
        Some("ERROR" | "CRITICAL") => tracing::Level::ERROR,
        Some("TRACE") => tracing::Level::TRACE,
        Some(other) => {
            wrong.push(format!("log.level: DEBUG, INFO, WARNING or ERROR, not {other:?}"));
            tracing::Level::INFO
        }
    };
    Log { json, level }
}
