//! The keeper: the process in the background that owns a lab.
//!
//! It holds the only handles on what a lab consists of: namespaces and cables as open files, and a pipe to the first
//! process of each host. However the keeper ends, these are closed, and the kernel takes network and hosts down. What
//! the kernel doesn't clean, files and cgroups, is the [`janitor`]'s, which waits for the keeper's end.
//!
//! The program that starts a keeper holds its stdin as a leash: unless told to [`protocol::Request::Detach`], the
//! keeper ends when that is closed, so a lab never outlives an interrupted program.

mod cgroup;
pub mod janitor;
mod machine;
pub mod processes;
pub mod protocol;

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use anyhow::{Context, Result, bail};

use self::machine::Machine;
use self::protocol::{HostStatus, Reply, Request, Signal, Status, Target};
use crate::host::settings::Settings;
use crate::network::{CLIENT, Host, NODES, Namespace, Switch};
use crate::place;
use crate::time::Moment;

/// The socket of a lab's keeper.
pub fn socket(root: &Path) -> PathBuf {
    root.join("keeper.sock")
}

/// Runs as the keeper of a lab until it is told to quit. Its directory, with the programs, exists already.
pub fn run(name: &str, dynamic: Vec<(String, String)>) -> Result<()> {
    end_at_any_panic();
    rustix::process::setsid().context("leave the session of whoever started the lab")?;
    let root = place::of_lab(name);
    let _janitor = janitor::start(name)?;
    let settings = Settings { root: root.clone(), dynamic, postgres_programs: place::postgres_programs()? };
    let keeper = Arc::new(Mutex::new(Keeper::new(name, settings)?));
    let listener = UnixListener::bind(socket(&root)).context("listen on the keeper's socket")?;
    let leashed = Arc::new(AtomicBool::new(true));
    watch_leash(leashed.clone());
    for stream in listener.incoming().flatten() {
        let (keeper, leashed) = (keeper.clone(), leashed.clone());
        thread::spawn(move || converse(&stream, &keeper, &leashed));
    }
    Ok(())
}

/// A keeper that has lost a thread would go on lying; without it, everything is cleaned up.
fn end_at_any_panic() {
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        usual(info);
        std::process::exit(101);
    }));
}

fn watch_leash(leashed: Arc<AtomicBool>) {
    thread::spawn(move || {
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        if leashed.load(Ordering::SeqCst) {
            std::process::exit(0);
        }
    });
}

fn converse(stream: &UnixStream, keeper: &Mutex<Keeper>, leashed: &AtomicBool) {
    for line in BufReader::new(stream).lines().map_while(Result::ok) {
        let at = Moment::now();
        let reply = match serde_json::from_str(&line) {
            Ok(Request::Quit) => std::process::exit(0),
            Ok(Request::Detach) => {
                leashed.store(false, Ordering::SeqCst);
                Reply { at, ..Reply::default() }
            }
            Ok(request) => keeper.lock().expect("the keeper").answer(request),
            Err(error) => Reply { at, error: Some(format!("not a request: {error}")), status: None },
        };
        let text = serde_json::to_string(&reply).expect("a reply is JSON");
        let mut stream = stream;
        if writeln!(stream, "{text}").is_err() {
            return;
        }
    }
}

struct Keeper {
    settings: Settings,
    switch: Switch,
    namespaces: BTreeMap<Host, Namespace>,
    machines: BTreeMap<Host, Machine>,
}

impl Keeper {
    fn new(name: &str, settings: Settings) -> Result<Keeper> {
        let (mut namespaces, mut cables, mut machines) = (BTreeMap::new(), Vec::new(), BTreeMap::new());
        for host in NODES.into_iter().chain([CLIENT]) {
            let (namespace, cable) = Namespace::create(host)?;
            namespaces.insert(host, namespace);
            cables.push((host, cable));
        }
        let switch = Switch::start(cables);
        let cgroups = cgroup::of_lab(name);
        for host in NODES {
            settings.install(host)?;
            let cgroup = cgroups.as_deref().and_then(|lab| cgroup::delegate(lab, &host.to_string()));
            machines.insert(host, Machine::new(host, namespaces[&host].path(), cgroup));
        }
        Ok(Keeper { settings, switch, namespaces, machines })
    }

    fn answer(&mut self, request: Request) -> Reply {
        let at = Moment::now();
        let done = match request {
            Request::Status => return Reply { at, error: None, status: Some(self.status()) },
            Request::Rules(rules) => {
                self.switch.set_rules(rules);
                Ok(at)
            }
            Request::Signal(host, targets, signal) => self.signal(host, &targets, signal),
            Request::Service(host, service, wanted) => {
                let settings = self.settings.clone();
                self.machine(host).and_then(|machine| machine.want(&settings, service, wanted)).map(|()| at)
            }
            Request::Power(host, on) => {
                let settings = self.settings.clone();
                self.machine(host).and_then(|machine| machine.power(&settings, on)).map(|()| at)
            }
            Request::Wipe(host) => self.wipe(host, Settings::wipe).map(|()| at),
            Request::WipeData(host) => self.wipe(host, Settings::wipe_data).map(|()| at),
            Request::Detach | Request::Quit => Ok(at),
        };
        match done {
            Ok(at) => Reply { at, ..Reply::default() },
            Err(error) => Reply { at, error: Some(format!("{error:#}")), status: None },
        }
    }

    fn machine(&mut self, host: Host) -> Result<&mut Machine> {
        self.machines.get_mut(&host).with_context(|| format!("{host} is no node"))
    }

    fn wipe(&mut self, host: Host, how: fn(&Settings, Host) -> Result<()>) -> Result<()> {
        if self.machine(host)?.init().is_some() {
            bail!("{host} is switched on");
        }
        how(&self.settings, host)
    }

    fn signal(&mut self, host: Host, targets: &[Target], signal: Signal) -> Result<Moment> {
        let init = self.machine(host)?.init().with_context(|| format!("{host} is switched off"))?;
        let processes = processes::of_host(init);
        for target in targets {
            if !processes.iter().any(|process| process.target == Some(*target)) {
                bail!("{host} has no process {target:?}");
            }
        }
        let hit = processes.iter().filter(|process| process.target.is_some_and(|t| targets.contains(&t)));
        let hit: Vec<i32> = hit.map(|process| process.pid).collect();
        let at = Moment::now();
        for pid in hit {
            machine::send(pid, signal)?;
        }
        Ok(at)
    }

    fn status(&mut self) -> Status {
        let mut hosts = Vec::new();
        for (host, namespace) in &self.namespaces {
            let machine = self.machines.get_mut(host);
            let init = machine.and_then(Machine::init);
            hosts.push(host_status(*host, namespace.path(), init));
        }
        Status {
            keeper: std::process::id(),
            hosts,
            rules: self.switch.rules(),
            dynamic: self.settings.dynamic.clone(),
        }
    }
}

fn host_status(host: Host, namespace: PathBuf, init: Option<i32>) -> HostStatus {
    let processes = init.map(processes::of_host).unwrap_or_default();
    let first = |target| processes.iter().find(|p| p.target == Some(target)).map(|p| p.pid);
    HostStatus {
        host,
        namespace,
        on: init.is_some(),
        etcd: first(Target::Etcd),
        agent: first(Target::Agent),
        guard: first(Target::Guard),
        postmaster: first(Target::Postmaster),
        backends: processes.iter().filter(|p| p.target == Some(Target::Backends)).count(),
    }
}

/// Removes what an earlier lab of this name has left, if its keeper is gone.
pub fn clear(name: &str) -> Result<()> {
    janitor::wait_for_end(name)?;
    remove(name)
}

fn remove(name: &str) -> Result<()> {
    let root = place::of_lab(name);
    if let Some(cgroups) = cgroup::of_lab(name).filter(|directory| directory.exists()) {
        cgroup::remove(&cgroups);
    }
    if root.exists() {
        fs::remove_dir_all(&root).with_context(|| format!("remove {}", root.display()))?;
    }
    // Only when this was the last lab.
    let _ = root.parent().map(fs::remove_dir);
    Ok(())
}
