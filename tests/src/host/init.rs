//! The first process of a host: mounts what a host has of its own, runs services, reaps orphans.
//!
//! It restarts a service 100 ms after it ended and kills nothing else then, as systemd does with `Restart=always` and
//! `KillMode=process`. It ends when its orders end, that is, with the keeper, and the host with it.

use std::collections::BTreeMap;
use std::ffi::CStr;
use std::fs::{self, OpenOptions};
use std::io::BufRead;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_change};
use rustix::process::{Pid, WaitOptions, WaitStatus, wait};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

use super::{Order, Service, Unit};
use crate::time::Moment;

/// What systemd waits by default before it restarts a service.
const RESTART_AFTER: Duration = Duration::from_millis(100);

/// What a host says on stdout once it takes orders.
pub const READY: &str = "ready";

/// Runs as the first process of a host until the orders on stdin end.
pub fn run(name: &str) -> Result<()> {
    rustix::system::sethostname(name.as_bytes()).context("name the host")?;
    mount_own()?;
    println!("{READY}");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(Init::default().serve())
}

/// Gives the host its own /proc and /dev/shm. All changes stay private to it.
fn mount_own() -> Result<()> {
    let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    let all_private = mount_change("/", private).is_ok();
    // Without a mount at / (a plain chroot), each place is private only if it's a mount of its own.
    let _ = mount_change("/proc", private);
    mount("proc", "/proc", "proc", MountFlags::NOSUID | MountFlags::NODEV, NOTHING).context("mount /proc")?;
    let has_shm = Path::new("/dev/shm").is_dir();
    if has_shm && (all_private || mount_change("/dev/shm", private).is_ok()) {
        mount("shm", "/dev/shm", "tmpfs", MountFlags::NOSUID | MountFlags::NODEV, Some(c"mode=1777"))
            .context("mount /dev/shm")?;
    }
    Ok(())
}

const NOTHING: Option<&CStr> = None;

#[derive(Default)]
struct Init {
    wanted: BTreeMap<Service, Unit>,
    running: BTreeMap<Service, Pid>,
    /// When to start again what ended.
    due: BTreeMap<Service, Instant>,
}

impl Init {
    async fn serve(mut self) -> Result<()> {
        let mut children = signal(SignalKind::child()).context("listen to SIGCHLD")?;
        let mut orders = orders();
        loop {
            let next = self.due.values().min().copied();
            tokio::select! {
                order = orders.recv() => match order {
                    Some(order) => self.obey(order),
                    None => return Ok(()),
                },
                _ = children.recv() => self.reap(),
                () = sleep_until(next.unwrap_or_else(Instant::now)), if next.is_some() => self.start_due(),
            }
        }
    }

    fn obey(&mut self, order: Order) {
        match order {
            Order::Want(service, unit) => {
                self.wanted.insert(service, unit);
                if !self.running.contains_key(&service) {
                    self.due.insert(service, Instant::now());
                }
            }
            Order::Leave(service) => {
                self.wanted.remove(&service);
                self.due.remove(&service);
            }
        }
    }

    /// Collects all that ended, services and orphans alike.
    fn reap(&mut self) {
        while let Ok(Some((pid, status))) = wait(WaitOptions::NOHANG) {
            let Some(service) = self.running.iter().find(|(_, p)| **p == pid).map(|(s, _)| *s) else {
                continue;
            };
            self.running.remove(&service);
            say(&format!("{service:?} ended: {}", describe(status)));
            if self.wanted.contains_key(&service) {
                self.due.insert(service, Instant::now() + RESTART_AFTER);
            }
        }
    }

    fn start_due(&mut self) {
        let now = Instant::now();
        let due: Vec<Service> = self.due.iter().filter(|(_, at)| **at <= now).map(|(s, _)| *s).collect();
        for service in due {
            self.due.remove(&service);
            match start(&self.wanted[&service]) {
                Ok(pid) => {
                    say(&format!("{service:?} started"));
                    self.running.insert(service, pid);
                }
                Err(error) => {
                    say(&format!("{service:?} can't be started: {error:#}"));
                    self.due.insert(service, now + Duration::from_secs(1));
                }
            }
        }
    }
}

fn start(unit: &Unit) -> Result<Pid> {
    let log = OpenOptions::new().create(true).append(true).open(&unit.log).context("open the log")?;
    let (program, arguments) = unit.command.split_first().context("an empty command")?;
    let child = Command::new(program)
        .args(arguments)
        .env_clear()
        .envs(unit.environment.iter().map(|(key, value)| (key, value)))
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(log.try_clone().context("share the log")?)
        .stderr(log)
        .spawn()
        .with_context(|| format!("start {program}"))?;
    Ok(Pid::from_child(&child))
}

fn describe(status: WaitStatus) -> String {
    match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => format!("exit code {code}"),
        (None, Some(signal)) => format!("signal {signal}"),
        (None, None) => format!("{status:?}"),
    }
}

/// The host's journal is the keeper's log, to which stderr goes.
fn say(what: &str) {
    let name = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    eprintln!("{} {} {what}", Moment::now(), name.trim());
}

/// Orders as they are read; the channel closes with stdin.
fn orders() -> mpsc::UnboundedReceiver<Order> {
    let (sender, receiver) = mpsc::unbounded_channel();
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines().map_while(Result::ok) {
            match serde_json::from_str(&line) {
                Ok(order) => drop(sender.send(order)),
                Err(error) => say(&format!("not an order: {line}: {error}")),
            }
        }
    });
    receiver
}
