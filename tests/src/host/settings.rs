//! A host's files and the commands of its services.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::{Service, Unit};
use crate::network::{Host, NODES, SUBNET};
use crate::place;

/// The settings of all hosts of a lab.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The lab's directory.
    pub root: PathBuf,
    /// Dynamic configuration at bootstrap, `(key, value)`, beyond the agent's defaults.
    pub dynamic: Vec<(String, String)>,
    /// PostgreSQL's server programs.
    pub postgres_programs: PathBuf,
}

impl Settings {
    /// The directory of a host.
    pub fn directory(&self, host: Host) -> PathBuf {
        self.root.join(host.to_string())
    }

    /// The agent's configuration file.
    pub fn agent_file(&self, host: Host) -> PathBuf {
        self.directory(host).join("agent.yml")
    }

    /// Makes a host's directories and files, for the users that need them.
    pub fn install(&self, host: Host) -> Result<()> {
        let directory = self.directory(host);
        for (name, owner) in
            [("", "root"), ("etcd", etcd_user()), ("postgres", "postgres"), ("run", "postgres")]
        {
            owned_directory(&directory.join(name), owner)?;
        }
        let file = self.agent_file(host);
        fs::write(&file, self.agent_yaml(host)).with_context(|| format!("write {}", file.display()))
    }

    /// Removes what a host's etcd and PostgreSQL have stored.
    pub fn wipe(&self, host: Host) -> Result<()> {
        for name in ["etcd", "postgres", "run"] {
            let path = self.directory(host).join(name);
            if path.exists() {
                fs::remove_dir_all(&path).with_context(|| format!("remove {}", path.display()))?;
            }
        }
        self.install(host)
    }

    /// Removes PostgreSQL's data directory.
    pub fn wipe_data(&self, host: Host) -> Result<()> {
        let path = self.directory(host).join("postgres/data");
        if path.exists() {
            fs::remove_dir_all(&path).with_context(|| format!("remove {}", path.display()))?;
        }
        Ok(())
    }

    /// How a service is run on a host; the agent in a cgroup of its own if there is one.
    pub fn unit(&self, host: Host, service: Service, cgroup: Option<&Path>) -> Unit {
        let directory = self.directory(host);
        let (user, command, log) = match service {
            Service::Etcd => (etcd_user(), self.etcd_command(host), "etcd.log"),
            Service::Agent => ("postgres", self.agent_command(host), "agent.log"),
        };
        let home = directory.join("postgres").display().to_string();
        let path =
            format!("{}:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin", self.postgres_programs.display());
        let environment =
            [("HOME", home.as_str()), ("USER", user), ("LANG", "C.UTF-8"), ("PATH", path.as_str())];
        Unit {
            command: as_user(user, cgroup, command),
            environment: environment.map(|(key, value)| (key.into(), value.into())).to_vec(),
            log: directory.join(log),
        }
    }

    fn agent_command(&self, host: Host) -> Vec<String> {
        let program = self.root.join("bin/primacy").display().to_string();
        vec![program, "agent".into(), self.agent_file(host).display().to_string()]
    }

    fn etcd_command(&self, host: Host) -> Vec<String> {
        let url = |host: Host, port: u16| format!("http://{}:{port}", host.address());
        let all: Vec<String> = NODES.iter().map(|node| format!("{node}={}", url(*node, 2380))).collect();
        let options = [
            ("name", host.to_string()),
            ("data-dir", self.directory(host).join("etcd/data").display().to_string()),
            ("listen-client-urls", format!("{},http://127.0.0.1:2379", url(host, 2379))),
            ("advertise-client-urls", url(host, 2379)),
            ("listen-peer-urls", url(host, 2380)),
            ("initial-advertise-peer-urls", url(host, 2380)),
            ("initial-cluster", all.join(",")),
            ("initial-cluster-token", "primacy-lab".into()),
            ("heartbeat-interval", "100".into()),
            ("election-timeout", "1000".into()),
            ("pre-vote", "true".into()),
            ("logger", "zap".into()),
            ("log-outputs", "stderr".into()),
        ];
        let options = options.into_iter().map(|(key, value)| format!("--{key}={value}"));
        [String::from("etcd")].into_iter().chain(options).collect()
    }

    fn agent_yaml(&self, host: Host) -> String {
        let (address, directory) = (host.address(), self.directory(host).display().to_string());
        let stores: Vec<String> = NODES.iter().map(|node| format!("{}:2379", node.address())).collect();
        let dynamic: String =
            self.dynamic.iter().map(|(key, value)| format!("    {key}: {value}\n")).collect();
        format!(
            "scope: lab
namespace: /service/
name: {host}
restapi:
  listen: {address}:8008
  connect_address: {address}:8008
etcd3:
  hosts: [{stores}]
bootstrap:
  dcs:
{dynamic}    postgresql:
      use_pg_rewind: true
  initdb:
    - encoding: UTF8
    - locale: C.UTF-8
    - data-checksums
postgresql:
  listen: {address}:5432
  connect_address: {address}:5432
  data_dir: {directory}/postgres/data
  bin_dir: {programs}
  pgpass: {directory}/postgres/pgpass
  use_pg_rewind: true
  authentication:
    superuser: {{username: postgres, password: lab-superuser}}
    replication: {{username: replicator, password: lab-replication}}
    rewind: {{username: rewinder, password: lab-rewind}}
  pg_hba:
    - local all all trust
    - host replication replicator {SUBNET} scram-sha-256
    - host all all {SUBNET} trust
  parameters:
    unix_socket_directories: {directory}/run
    shared_buffers: 32MB
    max_connections: 60
    log_line_prefix: '%m [%p] '
",
            stores = stores.join(", "),
            programs = self.postgres_programs.display(),
        )
    }
}

/// The user etcd runs as: the package's own, if it is there.
fn etcd_user() -> &'static str {
    if place::user("etcd").is_some() { "etcd" } else { "postgres" }
}

fn owned_directory(path: &Path, owner: &str) -> Result<()> {
    let (user, group) =
        place::user(owner).with_context(|| format!("no user {owner}: is its package installed?"))?;
    fs::create_dir_all(path).with_context(|| format!("make {}", path.display()))?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o755))?;
    chown(path, Some(user), Some(group)).with_context(|| format!("give {} to {owner}", path.display()))
}

/// A command as another user, after the process has moved into a cgroup.
fn as_user(user: &str, cgroup: Option<&Path>, command: Vec<String>) -> Vec<String> {
    let mut whole: Vec<String> = Vec::new();
    if let Some(cgroup) = cgroup {
        let script = "echo 0 > \"$0/cgroup.procs\" && exec \"$@\"";
        whole.extend(["sh".into(), "-c".into(), script.into(), cgroup.display().to_string()]);
    }
    let identity = [format!("--reuid={user}"), format!("--regid={user}")];
    whole.push("setpriv".into());
    whole.extend(identity);
    whole.extend(["--init-groups".into(), "--".into()]);
    whole.extend(command);
    whole
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> Settings {
        let dynamic = vec![("ttl".into(), "20".into())];
        Settings { root: "/lab".into(), dynamic, postgres_programs: "/usr/lib/postgresql/15/bin".into() }
    }

    #[test]
    fn dynamic_settings_go_below_bootstrap_dcs() {
        let yaml = settings().agent_yaml(Host(2));
        assert!(yaml.contains("  dcs:\n    ttl: 20\n    postgresql:\n"), "{yaml}");
        assert!(yaml.contains("name: h2\n") && yaml.contains("192.0.2.2:8008"), "{yaml}");
    }

    #[test]
    fn the_agent_enters_its_cgroup_before_it_gives_up_root() {
        let unit = settings().unit(Host(1), Service::Agent, Some(Path::new("/sys/fs/cgroup/x")));
        assert_eq!(unit.command[..2], ["sh", "-c"]);
        assert_eq!(unit.command[3], "/sys/fs/cgroup/x");
        assert!(unit.command.ends_with(&["agent".into(), "/lab/h1/agent.yml".into()]));
    }
}
