//! A lab from outside: started, found and asked by the programs.

use std::cell::RefCell;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};

use crate::host::{Service, init};
use crate::keeper::protocol::{Reply, Request, Signal, Status, Target};
use crate::keeper::{self, janitor};
use crate::network::{Host, NODES, Rule};
use crate::time::Moment;
use crate::{packages, place};

/// What a lab is started with.
#[derive(Clone, Debug)]
pub struct Options {
    /// Its name; labs of different names don't disturb each other, except by load.
    pub name: String,
    /// The agent's executable.
    pub agent: PathBuf,
    /// Dynamic configuration at bootstrap beyond the agent's defaults.
    pub dynamic: Vec<(String, String)>,
}

/// A running lab. One that was started by this program ends with it, unless detached.
#[derive(Debug)]
pub struct Lab {
    /// Its name.
    pub name: String,
    connection: RefCell<BufReader<UnixStream>>,
    keeper: Option<Child>,
}

/// The files of a host that tell what happened on it.
const KEPT: [&str; 6] = [
    "agent.log",
    "etcd.log",
    "agent.yml",
    "postgres/data.run/postgres.log",
    "postgres/data.run/guard.log",
    "postgres/data.run/journal.jsonl",
];

impl Lab {
    /// Starts a lab: network, hosts and etcd, but no agents yet.
    pub fn start(options: &Options) -> Result<Lab> {
        if !is_root() {
            bail!("a lab needs root: it makes network namespaces, TUN devices and cgroups");
        }
        if Lab::find(&options.name).is_ok() {
            bail!("the lab \"{}\" is up already: `cargo lab down` ends it", options.name);
        }
        keeper::clear(&options.name)?;
        let root = place::of_lab(&options.name);
        install_programs(&root, &options.agent)?;
        let keeper = spawn_keeper(&root, options)?;
        let log = fs::File::open(root.join("keeper.log")).context("open the keeper's log")?;
        let lab = Lab::wait_for(&options.name, keeper).and_then(Lab::switch_on);
        // When this went wrong, the log's name is gone with the lab, but the open file isn't.
        lab.map_err(|error| anyhow!("{error:#}\n{}", std::io::read_to_string(log).unwrap_or_default()))
    }

    fn switch_on(self) -> Result<Lab> {
        for host in NODES {
            self.ask(Request::Power(host, true))?;
        }
        Ok(self)
    }

    /// Finds a lab that is up.
    pub fn find(name: &str) -> Result<Lab> {
        let stream = UnixStream::connect(keeper::socket(&place::of_lab(name)))
            .with_context(|| format!("no lab \"{name}\" is up: `cargo lab up` starts one"))?;
        let connection = RefCell::new(BufReader::new(stream));
        Ok(Lab { name: name.to_string(), connection, keeper: None })
    }

    fn wait_for(name: &str, mut keeper: Child) -> Result<Lab> {
        let end = Instant::now() + Duration::from_secs(10);
        loop {
            if let Ok(mut lab) = Lab::find(name) {
                lab.keeper = Some(keeper);
                return Ok(lab);
            }
            if let Some(status) = keeper.try_wait()? {
                bail!("the keeper ended at once ({status}); it said");
            }
            if Instant::now() > end {
                let _ = keeper.kill();
                bail!("the keeper doesn't answer");
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Sends a request and returns the reply; an error of the keeper's is one here.
    pub fn ask(&self, request: Request) -> Result<Reply> {
        let mut connection = self.connection.borrow_mut();
        let text = serde_json::to_string(&request)?;
        writeln!(connection.get_mut(), "{text}").context("ask the keeper")?;
        let mut line = String::new();
        if connection.read_line(&mut line).context("hear the keeper")? == 0 {
            bail!("the keeper has ended");
        }
        let reply: Reply = serde_json::from_str(&line).context("understand the keeper")?;
        match &reply.error {
            Some(error) => bail!("{error}"),
            None => Ok(reply),
        }
    }

    /// How everything is.
    pub fn status(&self) -> Result<Status> {
        self.ask(Request::Status)?.status.context("a status")
    }

    /// Whether its clusters are bootstrapped with synchronous standbys.
    pub fn waits_for_standbys(&self) -> Result<bool> {
        let dynamic = self.status()?.dynamic;
        Ok(dynamic
            .iter()
            .any(|(key, value)| key == "synchronous_mode" && !["off", "false"].contains(&value.as_str())))
    }

    /// Where the network namespace of a host is found.
    pub fn namespace(&self, host: Host) -> Result<PathBuf> {
        let hosts = self.status()?.hosts;
        let found = hosts.into_iter().find(|status| status.host == host);
        found.map(|status| status.namespace).with_context(|| format!("no host {host}"))
    }

    /// Starts the agents of all nodes; returns when that was.
    pub fn start_agents(&self) -> Result<Moment> {
        let at = Moment::now();
        for host in NODES {
            self.ask(Request::Service(host, Service::Agent, true))?;
        }
        Ok(at)
    }

    /// Puts these rules in place of all others; returns when that was.
    pub fn set_rules(&self, rules: Vec<Rule>) -> Result<Moment> {
        Ok(self.ask(Request::Rules(rules))?.at)
    }

    /// Signals processes of a host; returns when that was.
    pub fn signal(&self, host: Host, targets: &[Target], signal: Signal) -> Result<Moment> {
        Ok(self.ask(Request::Signal(host, targets.to_vec(), signal))?.at)
    }

    /// Asks all processes of a host to end, as its shutdown does; none is started again. Returns when that was.
    pub fn shut_down(&self, host: Host) -> Result<Moment> {
        let at = Moment::now();
        for service in [Service::Agent, Service::Etcd] {
            self.ask(Request::Service(host, service, false))?;
        }
        for target in Target::ALL {
            // Some may not run just now.
            let _ = self.signal(host, &[target], Signal::Terminate);
        }
        Ok(at)
    }

    /// Lets the lab live on when this program ends.
    pub fn detach(mut self) -> Result<()> {
        self.ask(Request::Detach)?;
        // A child that isn't waited for goes to the machine's first process.
        drop(self.keeper.take());
        Ok(())
    }

    /// Ends the lab and waits until nothing of it is left.
    pub fn down(mut self) -> Result<()> {
        self.end()
    }

    fn end(&mut self) -> Result<()> {
        // The keeper ends without a reply.
        let _ = self.ask(Request::Quit);
        if let Some(mut keeper) = self.keeper.take() {
            let _ = keeper.wait();
        }
        janitor::wait_for_end(&self.name)?;
        let root = place::of_lab(&self.name);
        if root.exists() {
            bail!("{} is still there", root.display());
        }
        Ok(())
    }

    /// Copies the logs of all hosts, and the keeper's, to a directory.
    pub fn save_logs(&self, to: &Path) -> Result<()> {
        let root = place::of_lab(&self.name);
        fs::create_dir_all(to)?;
        let _ = fs::copy(root.join("keeper.log"), to.join("keeper.log"));
        for host in NODES {
            for file in KEPT {
                let from = root.join(host.to_string()).join(file);
                let name = from.file_name().unwrap_or_default().to_string_lossy().into_owned();
                if from.exists() {
                    fs::copy(&from, to.join(format!("{host}-{name}")))?;
                }
            }
        }
        place::give_to_owner(to);
        Ok(())
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if self.keeper.is_some() {
            let _ = self.end();
        }
    }
}

/// Runs this program again as root, where sudo takes no password; without sudo an error says what a lab needs.
pub fn again_as_root(arguments: &[String]) -> Result<bool> {
    if !packages::may_sudo() {
        bail!("a lab needs root: it makes network namespaces, TUN devices and cgroups. Try `sudo -v` first.");
    }
    let agent = format!("PRIMACY_LAB_AGENT={}", place::agent().display());
    let own = std::env::current_exe()?;
    let status = Command::new("sudo")
        .args(["-n", "env", &agent])
        .arg(own)
        .args(arguments)
        .status()
        .context("run sudo")?;
    Ok(status.success())
}

/// Whether this program runs as root.
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Runs as keeper, janitor or first process of a host if the arguments say so. Every program that starts labs calls
/// this first, because a lab's processes are all started from the same executable.
pub fn inner_role(arguments: &[String]) -> Option<Result<()>> {
    match arguments {
        [_, role, name, dynamic @ ..] if role == "keeper" => {
            let pairs = dynamic.iter().filter_map(|pair| pair.split_once('='));
            Some(keeper::run(name, pairs.map(|(key, value)| (key.into(), value.into())).collect()))
        }
        [_, role, name] if role == "janitor" => Some(janitor::run(name)),
        [_, role, name] if role == "host" => Some(init::run(name)),
        _ => None,
    }
}

fn install_programs(root: &Path, agent: &Path) -> Result<()> {
    let programs = root.join("bin");
    fs::create_dir_all(&programs).with_context(|| format!("make {}", programs.display()))?;
    for (from, name) in [(agent.to_path_buf(), "primacy"), (std::env::current_exe()?, "lab")] {
        let to = programs.join(name);
        fs::copy(&from, &to).with_context(|| format!("copy {} into the lab", from.display()))?;
        fs::set_permissions(&to, fs::Permissions::from_mode(0o755))?;
    }
    Ok(())
}

fn spawn_keeper(root: &Path, options: &Options) -> Result<Child> {
    let log = fs::File::create(root.join("keeper.log")).context("make the keeper's log")?;
    Command::new(root.join("bin/lab"))
        .args(["keeper", &options.name])
        .args(options.dynamic.iter().map(|(key, value)| format!("{key}={value}")))
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .context("start the keeper")
}
