//! Instances for the tests over a real PostgreSQL 15. PostgreSQL doesn't run as root, so each test starts itself once
//! more as the user `postgres` where it was started as root.

// Not each file of tests needs all of it.
#![allow(dead_code)]

use primacy_postgres::{Forks, Found, Instant, Position, Postgres, Runner, Settings, Upstream, User};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;
use std::ffi::OsString;
use std::fs;
use std::io::Read as _;
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::time::Duration;

/// With all that has a meaning somewhere.
pub const SECRET: &str = r"it's:a\secret";

pub const BIN: &str = "/usr/lib/postgresql/15/bin";

pub fn soon() -> Instant {
    Instant::now() + Duration::from_secs(60)
}

/// Held while a copy of this program is written and a child started.
static COPYING: Mutex<()> = Mutex::new(());

/// Starts the test of this name again as `postgres`, if this is root.
pub fn as_postgres(test: &str) -> bool {
    assert!(
        Path::new(BIN).join("postgres").exists(),
        "PostgreSQL 15 is missing: apt-get install postgresql-15"
    );
    if !rustix::process::geteuid().is_root() {
        return true;
    }
    // The build may lie where only root can read.
    let copy = std::env::temp_dir().join(format!("primacy-postgres-test-{}-{test}", std::process::id()));
    let mut again = Command::new("setpriv");
    again.args(["--reuid=postgres", "--regid=postgres", "--init-groups"]).arg(&copy);
    again.args(["--exact", test, "--nocapture"]).current_dir("/");
    // A child that is made while a copy is being written holds it open, and then it can't be run ("text file busy").
    let copying = COPYING.lock().unwrap();
    fs::copy(std::env::current_exe().unwrap(), &copy).unwrap();
    fs::set_permissions(&copy, fs::Permissions::from_mode(0o755)).unwrap();
    let mut child = again.spawn().unwrap();
    drop(copying);
    let status = child.wait().unwrap();
    fs::remove_file(&copy).unwrap();
    assert!(status.success(), "{test} failed as user postgres");
    false
}

/// Starts and kills directly; the guard has tests of its own.
pub struct Direct {
    data_dir: PathBuf,
    child: Mutex<Option<Child>>,
}

impl Direct {
    pub fn lives(&self) -> bool {
        let mut child = self.child.lock().unwrap();
        child.as_mut().is_some_and(|child| child.try_wait().unwrap().is_none())
    }
}

impl Runner for Direct {
    async fn start(&self, argv: Vec<OsString>, log: PathBuf, _: bool) -> Result<(), String> {
        let log = fs::File::options().create(true).append(true).open(log).unwrap();
        let mut command = Command::new(&argv[0]);
        command.args(&argv[1..]).current_dir(&self.data_dir).process_group(0);
        let child = command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log).spawn();
        *self.child.lock().unwrap() = Some(child.map_err(|e| e.to_string())?);
        Ok(())
    }

    async fn kill_all(&self) -> Result<(), String> {
        if let Some(child) = self.child.lock().unwrap().as_mut() {
            // The processes of a killed postmaster end by themselves at once: they are idle.
            child.kill().map_err(|e| e.to_string())?;
            child.wait().map_err(|e| e.to_string())?;
            std::thread::sleep(Duration::from_millis(300));
        }
        Ok(())
    }

    async fn any_left(&self) -> Result<bool, String> {
        Ok(self.lives())
    }
}

/// Others may be running these tests, too.
pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

pub struct Node {
    pub postgres: Postgres,
    pub runner: Direct,
    pub root: PathBuf,
    pub port: u16,
}

impl Node {
    pub fn new(name: &str) -> Node {
        Node::with(name, &[], &[])
    }

    /// One with further options of initdb and further parameters.
    pub fn with(name: &str, initdb: &[&str], parameters: &[(&str, &str)]) -> Node {
        let parameters = [("shared_buffers", "16MB")].iter().chain(parameters);
        let root = std::env::temp_dir().join(format!("primacy-pg-{}-{name}", std::process::id()));
        fs::create_dir_all(root.join("run")).unwrap();
        let user = |name: &str| User { name: name.into(), password: Some(SECRET.into()) };
        let data_dir = root.join("data");
        let port = free_port();
        let postgres = Postgres::new(Settings {
            name: name.into(),
            scope: "test".into(),
            bin_dir: BIN.into(),
            data_dir: data_dir.clone(),
            run_dir: root.join("run"),
            listen_addresses: "127.0.0.1".into(),
            port,
            superuser: user("postgres"),
            replication: user("replicator"),
            rewind: user("rewinder"),
            parameters: parameters.map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
            restore_command: None,
            pg_hba: vec![],
            initdb: ["--encoding=UTF8", "--no-sync"].iter().chain(initdb).map(ToString::to_string).collect(),
            stall: primacy_postgres::STALL,
        });
        Node { postgres, runner: Direct { data_dir, child: Mutex::default() }, root, port }
    }

    /// The same instance, with other settings.
    pub fn with_settings(&self, change: impl FnOnce(&mut Settings)) -> Postgres {
        let mut settings = self.postgres.settings().clone();
        change(&mut settings);
        Postgres::new(settings)
    }

    /// One whose settings are not quite these.
    pub fn but(mut self, change: impl FnOnce(&mut Settings)) -> Node {
        self.postgres = self.with_settings(change);
        self
    }

    pub fn upstream(&self) -> Upstream {
        Upstream { host: "127.0.0.1".into(), port: self.port }
    }

    pub async fn found(&self) -> primacy_postgres::Present {
        match self.postgres.inspect(soon()).await.unwrap() {
            Found::Present(present) => present,
            other => panic!("{other:?}"),
        }
    }

    /// The segment of the first timeline with this byte, where segments have 1 MB.
    pub fn segment(&self, lsn: u64) -> PathBuf {
        self.root.join(format!("data/pg_wal/00000001{:08X}{:08X}", lsn >> 32, (lsn & 0xffff_ffff) >> 20))
    }

    /// All segments, in order.
    pub fn segments(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.root.join("data/pg_wal")).unwrap();
        let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
        paths.retain(|path| path.is_file());
        paths.sort();
        paths
    }

    /// Waits until this standby has everything.
    pub async fn reaches(&self, position: Position) {
        let until = soon();
        loop {
            let probe = self.postgres.probe(soon()).await.unwrap();
            if probe.streaming && probe.position >= position {
                assert_eq!(probe.position.timeline, position.timeline);
                return;
            }
            assert!(Instant::now() < until, "{probe:?} doesn't reach {position:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Waits until just these stream from it.
    pub async fn followed_by(&self, names: &[&str]) {
        let until = soon();
        while !self.postgres.probe(soon()).await.unwrap().followers.keys().eq(names) {
            assert!(Instant::now() < until, "not followed by {names:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    pub async fn position(&self) -> Position {
        self.postgres.probe(soon()).await.unwrap().position
    }

    pub async fn run_sql(&self, sql: &str) {
        self.ask(sql);
    }

    /// What it answers, a line for each row.
    pub fn ask(&self, sql: &str) -> String {
        let said = self.psql(sql).stderr(Stdio::inherit()).output().unwrap();
        assert!(said.status.success(), "{sql}");
        String::from_utf8(said.stdout).unwrap().trim().to_owned()
    }

    /// A session that goes on by itself.
    pub fn session(&self, sql: &str) -> Child {
        self.psql(sql).stdout(Stdio::null()).spawn().unwrap()
    }

    pub fn psql(&self, sql: &str) -> Command {
        let mut psql = Command::new(format!("{BIN}/psql"));
        psql.args(["-X", "-q", "-A", "-t", "-h"]).arg(self.root.join("run"));
        psql.args(["-p", &self.port.to_string(), "-U", "postgres", "-c", sql]);
        psql
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Some(child) = self.runner.child.lock().unwrap().as_mut() {
            let _ = kill_process(Pid::from_child(child), Signal::QUIT);
            drop(child.wait());
        }
        drop(fs::remove_dir_all(&self.root));
    }
}

/// A way to a source that is cut off without a word after so many bytes of each connection.
pub fn ends_after(source: &Node, bytes_max: u64) -> Upstream {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (port, source) = (listener.local_addr().unwrap().port(), source.port);
    std::thread::spawn(move || {
        for near in listener.incoming() {
            let (mut near, mut far) = (near.unwrap(), TcpStream::connect(("127.0.0.1", source)).unwrap());
            let (mut there, mut back) = (near.try_clone().unwrap(), far.try_clone().unwrap());
            std::thread::spawn(move || {
                drop(std::io::copy(&mut there, &mut far));
                drop(far.shutdown(Shutdown::Both));
            });
            std::thread::spawn(move || {
                if std::io::copy(&mut (&mut back).take(bytes_max), &mut near)
                    .is_ok_and(|done| done < bytes_max)
                {
                    drop(near.shutdown(Shutdown::Both));
                }
                // The other direction goes on, and holds both open.
            });
        }
    });
    Upstream { host: "127.0.0.1".into(), port }
}

/// Its process of this kind.
pub fn process(node: &Node, kind: &str) -> Pid {
    let pid = node.ask(&format!("SELECT pid FROM pg_stat_activity WHERE backend_type = '{kind}'"));
    Pid::from_raw(pid.parse().unwrap()).unwrap()
}

pub async fn primary(name: &str) -> Node {
    begun(Node::new(name)).await
}

pub async fn begun(node: Node) -> Node {
    assert_eq!(node.postgres.inspect(soon()).await.unwrap(), Found::Absent);
    node.postgres.initdb(&json!({"copy": 1}), soon()).await.unwrap();
    assert_eq!(node.found().await.position.timeline, 1);
    node.postgres.start_in_place(&node.runner, soon()).await.unwrap();
    node.postgres.prepare_roles(soon()).await.unwrap();
    node.postgres.prepare_roles(soon()).await.unwrap();
    node
}

pub async fn standby(name: &str, source: &Node) -> Node {
    joined(Node::new(name), source, &Forks::new()).await
}

pub async fn joined(node: Node, source: &Node, history: &Forks) -> Node {
    node.postgres.clone_from(&source.upstream(), &json!({"copy": 2}), soon()).await.unwrap();
    node.postgres.start_standby(&node.runner, soon()).await.unwrap();
    node.postgres.follow(&source.upstream(), history, soon()).await.unwrap();
    node.reaches(source.position().await).await;
    node
}

pub fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}
