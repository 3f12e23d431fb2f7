//! A host as the keeper sees it: on or off, and what it should run.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, kill_process};

use super::processes;
use super::protocol::Signal;
use crate::host::settings::Settings;
use crate::host::{Order, Service, init};
use crate::network::Host;

/// One host with power switch.
#[derive(Debug)]
pub struct Machine {
    host: Host,
    namespace: PathBuf,
    cgroup: Option<PathBuf>,
    wanted: BTreeSet<Service>,
    running: Option<Running>,
}

#[derive(Debug)]
struct Running {
    /// The program that made the namespaces and waits for the first process in them.
    maker: Child,
    init: i32,
}

impl Machine {
    /// A host that is off and, once on, runs etcd.
    pub fn new(host: Host, namespace: PathBuf, cgroup: Option<PathBuf>) -> Machine {
        Machine { host, namespace, cgroup, wanted: BTreeSet::from([Service::Etcd]), running: None }
    }

    /// The first process of a host that is on, by the number the machine below knows it by.
    pub fn init(&mut self) -> Option<i32> {
        let running = self.running.as_mut()?;
        if let Ok(Some(_)) = running.maker.try_wait() {
            self.running = None;
        }
        self.running.as_ref().map(|running| running.init)
    }

    /// Switches it on or off.
    pub fn power(&mut self, settings: &Settings, on: bool) -> Result<()> {
        match (on, self.init()) {
            (true, None) => self.switch_on(settings),
            (false, Some(_)) => self.switch_off(),
            (true, Some(_)) | (false, None) => Ok(()),
        }
    }

    /// Starts a service and keeps it running, or stops restarting it. Holds for later starts of the host, too.
    pub fn want(&mut self, settings: &Settings, service: Service, wanted: bool) -> Result<()> {
        if wanted {
            self.wanted.insert(service);
        } else {
            self.wanted.remove(&service);
        }
        if self.init().is_none() {
            return Ok(());
        }
        self.tell(settings, service, wanted)
    }

    fn tell(&mut self, settings: &Settings, service: Service, wanted: bool) -> Result<()> {
        let cgroup = self.cgroup.as_deref().filter(|_| service == Service::Agent);
        let order = match wanted {
            true => Order::Want(service, settings.unit(self.host, service, cgroup)),
            false => Order::Leave(service),
        };
        let running = self.running.as_mut().context("the host is off")?;
        let pipe = running.maker.stdin.as_mut().context("the host takes orders")?;
        let text = serde_json::to_string(&order).expect("an order is JSON");
        writeln!(pipe, "{text}").with_context(|| format!("order {service:?} on {}", self.host))
    }

    fn switch_on(&mut self, settings: &Settings) -> Result<()> {
        // In a chroot that isn't a mount, the root can't be made private; the host does what it can itself.
        let running = self.make("private").or_else(|_| self.make("unchanged"));
        self.running = Some(running.with_context(|| format!("start the first process of {}", self.host))?);
        for service in self.wanted.clone() {
            self.tell(settings, service, true)?;
        }
        Ok(())
    }

    fn make(&self, propagation: &str) -> Result<Running> {
        let own = std::fs::read_link("/proc/self/exe").context("find this program")?;
        let mut maker = Command::new("nsenter")
            .arg(format!("--net={}", self.namespace.display()))
            .args(["unshare", "--mount", "--pid", "--ipc", "--uts", "--fork", "--kill-child=SIGKILL"])
            .args(["--propagation", propagation, "--"])
            .arg(own)
            .args(["host", &self.host.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("run unshare (package util-linux)")?;
        match first_process(&mut maker) {
            Ok(init) => Ok(Running { maker, init }),
            Err(error) => {
                let _ = maker.kill();
                let _ = maker.wait();
                Err(error)
            }
        }
    }

    fn switch_off(&mut self) -> Result<()> {
        let mut running = self.running.take().context("the host is off")?;
        send(running.init, Signal::Kill)?;
        // The kernel lets the first process of a namespace end last.
        let status = running.maker.wait().context("wait for the host's end")?;
        match status.code().or(status.signal()) {
            Some(_) => Ok(()),
            None => bail!("{} didn't end: {status}", self.host),
        }
    }
}

/// The one child of the program that makes a host's namespaces, once it is ready.
fn first_process(maker: &mut Child) -> Result<i32> {
    let said = BufReader::new(maker.stdout.take().context("the host talks")?).lines().next();
    match said {
        Some(Ok(line)) if line == init::READY => {}
        _ => bail!("the host didn't come up; the keeper's log says why"),
    }
    let children = processes::children_of(maker.id() as i32);
    children.first().copied().context("the host has no first process")
}

/// Sends a signal to a process of the lab.
pub fn send(pid: i32, signal: Signal) -> Result<()> {
    let signal = match signal {
        Signal::Kill => rustix::process::Signal::KILL,
        Signal::Stop => rustix::process::Signal::STOP,
        Signal::Continue => rustix::process::Signal::CONT,
        Signal::Terminate => rustix::process::Signal::TERM,
    };
    let process = Pid::from_raw(pid).context("a process has a number")?;
    match kill_process(process, signal) {
        // It ended by itself in the meantime.
        Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
        Err(error) => Err(error).with_context(|| format!("signal process {pid}")),
    }
}
