//! A real etcd cluster on loopback, whose members can be frozen and killed.

use std::fs::{self, File};
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command};
use std::sync::atomic::{AtomicU16, AtomicU32, Ordering};
use std::time::Duration;

use primacy_etcd::{Client, Config, Endpoint, Instant};
use rustix::process::{Pid, Signal, WaitOptions, kill_process, waitpid};

/// How long a cluster may take to come up, or a new leader to be elected, on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(15);

pub struct Cluster {
    members: Vec<Member>,
    directory: PathBuf,
}

struct Member {
    process: Child,
    endpoint: Endpoint,
}

impl Cluster {
    /// Starts a cluster of this size and waits until it takes writes.
    pub async fn start(size: usize) -> Cluster {
        let directory = new_directory();
        let ports: Vec<(u16, u16)> = (0..size).map(|_| (free_port(), free_port())).collect();
        let members = (0..size).map(|index| Member::start(index, &ports, &directory)).collect();
        let cluster = Cluster { members, directory };
        cluster.wait_until_writable().await;
        cluster
    }

    pub fn endpoint(&self, member: usize) -> &Endpoint {
        &self.members[member].endpoint
    }

    /// A client that uses these members, in this order.
    pub fn client_of(&self, members: &[usize]) -> Client {
        Client::new(Config::new(members.iter().map(|m| self.endpoint(*m).to_string()))).expect("a client")
    }

    /// A client of all members.
    pub fn client(&self) -> Client {
        self.client_of(&(0..self.members.len()).collect::<Vec<_>>())
    }

    /// The leader first, then the followers.
    pub async fn by_role(&self) -> Vec<usize> {
        let client = self.client();
        let mut order: Vec<usize> = (0..self.members.len()).collect();
        let leader = client.status(self.endpoint(0), soon()).await.expect("the status of a member").leader_id;
        let mut ids = Vec::new();
        for member in &self.members {
            let status = client.status(&member.endpoint, soon()).await.expect("the status of a member");
            ids.push(status.header.member_id);
        }
        order.sort_by_key(|member| Some(ids[*member]) != leader);
        order
    }

    /// Returns once it stands still: on a busy machine the signal alone leaves it time for an answer.
    pub fn freeze(&self, member: usize) {
        let pid = self.members[member].pid();
        kill_process(pid, Signal::STOP).expect("freeze a member");
        waitpid(Some(pid), WaitOptions::UNTRACED).expect("wait until it stands still");
    }

    pub fn thaw(&self, member: usize) {
        kill_process(self.members[member].pid(), Signal::CONT).expect("thaw a member");
    }

    pub fn kill(&mut self, member: usize) {
        self.members[member].end();
    }

    /// Kills a cluster's only member and starts an empty cluster at its address.
    pub async fn replace(&mut self, member: usize) {
        assert_eq!(self.members.len(), 1, "the others would stay what they are");
        self.kill(member);
        let port =
            self.endpoint(member).to_string().rsplit_once(':').expect("a port").1.parse().expect("a number");
        let directory = self.directory.join("anew");
        fs::create_dir_all(&directory).expect("create a directory");
        // The id of a new cluster comes of the addresses of its members.
        self.members[member] = Member::start(0, &[(port, free_port())], &directory);
        self.wait_until_writable().await;
    }

    async fn wait_until_writable(&self) {
        let end = Instant::now() + PATIENCE;
        for member in 0..self.members.len() {
            let client = self.client_of(&[member]);
            while let Err(error) = client.put("started", "", None, soon()).await {
                assert!(Instant::now() < end, "etcd doesn't come up: {error}\n{}", self.log(member));
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }

    fn log(&self, member: usize) -> String {
        fs::read_to_string(self.directory.join(format!("{member}.log"))).unwrap_or_default()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.members.iter_mut().for_each(Member::end);
        let _ = fs::remove_dir_all(&self.directory);
    }
}

impl Member {
    fn start(index: usize, ports: &[(u16, u16)], directory: &std::path::Path) -> Member {
        let url = |port: u16| format!("http://127.0.0.1:{port}");
        let (client, peer) = (url(ports[index].0), url(ports[index].1));
        let all = ports.iter().enumerate().map(|(i, (_, peer))| format!("m{i}={}", url(*peer)));
        let log = File::create(directory.join(format!("{index}.log"))).expect("create a log");
        let process = Command::new("etcd")
            .args(["--name", &format!("m{index}"), "--logger", "zap", "--log-outputs", "stderr"])
            .args(["--listen-client-urls", &client, "--advertise-client-urls", &client])
            .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
            .args(["--initial-cluster", &all.collect::<Vec<_>>().join(",")])
            .args(["--heartbeat-interval", "50", "--election-timeout", "500"])
            .arg("--data-dir")
            .arg(directory.join(index.to_string()))
            .stdout(log.try_clone().expect("a second handle"))
            .stderr(log)
            .spawn()
            .expect("these tests need etcd in PATH: install the Debian package etcd-server");
        let endpoint = client.parse().expect("an endpoint");
        Member { process, endpoint }
    }

    fn pid(&self) -> Pid {
        Pid::from_child(&self.process)
    }

    fn end(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The usual deadline of one call.
pub fn soon() -> Instant {
    Instant::now() + Duration::from_secs(5)
}

/// A port nobody listens on, from below the range of outgoing connections, so that none of those takes it.
pub fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let start = (std::process::id() % 600) as u16 * 20;
    loop {
        let port = 20_000 + (start + NEXT.fetch_add(1, Ordering::Relaxed)) % 12_000;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

fn new_directory() -> PathBuf {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let directory = std::env::temp_dir().join(format!("primacy-etcd-{}-{number}", std::process::id()));
    fs::create_dir_all(&directory).expect("create a temporary directory");
    directory
}
