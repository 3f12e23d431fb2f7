//! PostgreSQL's own configuration files.

use crate::sources::{SOURCES, Sources};
use crate::{Error, Instant, Postgres, Settings, files};
use postgres_protocol::password::scram_sha_256;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt::Write as _;
use std::fs;

/// Where a user's own settings were before us.
pub(crate) const BASE: &str = "postgresql.base.conf";

/// What a member of a cluster needs, unless the user says otherwise.
const DEFAULTS: [(&str, &str); 13] = [
    ("hot_standby", "on"),
    ("max_replication_slots", "10"),
    ("max_slot_wal_keep_size", "4GB"),
    ("max_wal_senders", "10"),
    ("recovery_target_timeline", "latest"),
    ("tcp_keepalives_idle", "5"),
    ("tcp_keepalives_interval", "1"),
    ("wal_keep_size", "128MB"),
    ("wal_level", "replica"),
    ("wal_log_hints", "on"),
    ("wal_receiver_timeout", "5s"),
    ("wal_retrieve_retry_interval", "100ms"),
    ("wal_sender_timeout", "5s"),
];

/// Ours to set; a user's value would break what the agent relies on.
const OURS: [&str; 8] = [
    "hba_file",
    "listen_addresses",
    "port",
    "primary_conninfo",
    "primary_slot_name",
    "promote_trigger_file",
    "restore_command",
    "unix_socket_directories",
];

/// What `pg_rewind` calls on its source.
pub(crate) const REWIND_CALLS: [&str; 4] = [
    "pg_catalog.pg_ls_dir(text, boolean, boolean)",
    "pg_catalog.pg_stat_file(text, boolean)",
    "pg_catalog.pg_read_binary_file(text)",
    "pg_catalog.pg_read_binary_file(text, bigint, bigint, boolean)",
];

impl Postgres {
    /// Writes all files. There is no source of WAL afterwards, and nothing is archived.
    ///
    /// # Errors
    /// If a file can't be written.
    pub async fn write_config(&self) -> Result<(), Error> {
        let dir = &self.settings.data_dir;
        let (base, main) = (dir.join(BASE), dir.join("postgresql.conf"));
        if !files::is_there(&base)? {
            fs::rename(&main, &base).map_err(Error::io("keep the old postgresql.conf"))?;
        }
        files::write(main, self.settings.main_conf().into_bytes()).await?;
        files::write(dir.join("pg_hba.conf"), self.settings.hba_conf().into_bytes()).await?;
        self.clean_auto_conf().await?;
        self.settings.write_sources(&Sources::Closed).await
    }

    /// What `ALTER SYSTEM` may have said about recovery doesn't count; every other line stays.
    async fn clean_auto_conf(&self) -> Result<(), Error> {
        let path = self.settings.data_dir.join("postgresql.auto.conf");
        let Some(text) = files::read(&path)? else { return Ok(()) };
        let kept: Vec<&str> = text.lines().filter(|line| !is_about_recovery(line)).collect();
        if kept.len() == text.lines().count() {
            return Ok(());
        }
        files::write(path, (kept.join("\n") + "\n").into_bytes()).await
    }

    /// How the postmaster is called.
    pub(crate) fn argv(&self) -> Vec<OsString> {
        let settings = &self.settings;
        let program = settings.bin_dir.join("postgres").into_os_string();
        vec![program, "-D".into(), settings.data_dir.clone().into_os_string()]
    }

    /// Sets passwords and makes the roles of replication and rewind, over and over without harm.
    ///
    /// # Errors
    /// If a statement fails.
    pub async fn prepare_roles(&self, by: Instant) -> Result<(), Error> {
        let settings = &self.settings;
        let mut script = String::from("SET synchronous_commit = local;\n");
        let (replication, rewind) = (&settings.replication, &settings.rewind);
        if replication.name != settings.superuser.name {
            let name = identifier(&replication.name);
            script += &create_role(&replication.name);
            writeln!(script, "ALTER ROLE {name} WITH LOGIN REPLICATION;").expect("writing to a string");
        }
        if rewind.name != settings.superuser.name {
            let name = identifier(&rewind.name);
            script += &create_role(&rewind.name);
            writeln!(script, "ALTER ROLE {name} WITH LOGIN;").expect("writing to a string");
            for function in REWIND_CALLS {
                writeln!(script, "GRANT EXECUTE ON FUNCTION {function} TO {name};")
                    .expect("writing to a string");
            }
        }
        for user in [&settings.superuser, replication, rewind] {
            if let Some(password) = &user.password {
                // Not the password itself: statements may be kept in more places than one.
                let verifier = literal(&scram_sha_256(password.as_bytes()));
                writeln!(script, "ALTER ROLE {} PASSWORD {verifier};", identifier(&user.name))
                    .expect("writing to a string");
            }
        }
        self.execute("set up the roles", &script, by).await
    }
}

/// Makes it, unless it is there.
fn create_role(name: &str) -> String {
    let (name, literal) = (identifier(name), literal(name));
    format!(
        "DO $do$ BEGIN IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = {literal}) THEN \
         CREATE ROLE {name}; END IF; END $do$;\n"
    )
}

impl Settings {
    fn main_conf(&self) -> String {
        let mut parameters: BTreeMap<&str, &str> = DEFAULTS.into_iter().collect();
        parameters.extend(self.parameters.iter().map(|(name, value)| (name.as_str(), value.as_str())));
        for ours in OURS {
            parameters.remove(ours);
        }
        let (port, socket) = (self.port.to_string(), self.run_dir.to_string_lossy());
        parameters.insert("port", &port);
        parameters.insert("listen_addresses", &self.listen_addresses);
        parameters.insert("unix_socket_directories", &socket);
        parameters.entry("cluster_name").or_insert(&self.scope);
        let mut text = format!(
            "# Written by primacy at each start; your own settings are in {BASE}.\ninclude '{BASE}'\n"
        );
        for (name, value) in parameters {
            writeln!(text, "{name} = {}", quoted(value)).expect("writing to a string");
        }
        writeln!(text, "include '{SOURCES}'").expect("writing to a string");
        text
    }

    fn hba_conf(&self) -> String {
        let (superuser, replication) = (hba_name(&self.superuser.name), hba_name(&self.replication.name));
        let mut text = format!(
            "# Written by primacy at each start.\nlocal all {superuser} trust\nlocal replication {superuser} trust\n"
        );
        for line in &self.pg_hba {
            writeln!(text, "{line}").expect("writing to a string");
        }
        writeln!(text, "host replication {replication} all scram-sha-256").expect("writing to a string");
        let rewind = hba_name(&self.rewind.name);
        writeln!(text, "host postgres {rewind} all scram-sha-256").expect("writing to a string");
        text
    }
}

fn is_about_recovery(line: &str) -> bool {
    let name = line.split('=').next().unwrap_or_default().trim().to_ascii_lowercase();
    name.starts_with("recovery_target") || OURS.contains(&name.as_str())
}

/// A value for a configuration file, where a backslash escapes, and a line can't be broken.
pub(crate) fn quoted(value: &str) -> String {
    format!("'{}'", value.replace('\\', "\\\\").replace('\'', "''").replace('\n', "\\n"))
}

fn hba_name(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

fn identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

pub(crate) fn literal(text: &str) -> String {
    format!("E'{}'", text.replace('\\', "\\\\").replace('\'', "\\'"))
}

#[cfg(test)]
mod tests {
    use super::{is_about_recovery, literal};

    #[test]
    fn other_lines_of_alter_system_stay() {
        assert!(is_about_recovery("primary_conninfo = 'host=x'"));
        assert!(is_about_recovery("Recovery_Target_Time='now'"));
        assert!(!is_about_recovery("work_mem = '64MB'"));
        assert!(!is_about_recovery("# primary_conninfo"));
    }

    #[test]
    fn quotes_can_not_end_a_literal() {
        assert_eq!(literal(r"a'b\"), r"E'a\'b\\'");
    }
}
