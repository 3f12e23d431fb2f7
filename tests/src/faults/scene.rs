//! What a fault's story may do, and what it leaves behind for the judgement.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::store::Store;
use crate::client::{Clients, http};
use crate::host::Service;
use crate::keeper::protocol::{Request, Signal, Target};
use crate::lab::Lab;
use crate::network::{Act, CLIENT, Host, NODES, Peer, Rule};
use crate::place;
use crate::time::Moment;

/// The ports of the store: for clients and between members.
pub const STORE_PORTS: [u16; 2] = [2379, 2380];

/// The port of PostgreSQL.
const POSTGRES: u16 = 5432;

/// An agent that is asked to end does so within this time.
const STOP_WITHIN: Duration = Duration::from_secs(10);

/// Seconds of a lease, unless a lab sets something else.
const TTL_DEFAULT: u64 = 5;

/// How many WAL files a primary keeps for standbys, connected by a slot or not.
const KEPT_SEGMENTS: &str = "select ceil(sum(greatest(setting::int, 0)) * 1048576.0 / \
     (select setting::int from pg_settings where name = 'wal_segment_size'))::int \
     from pg_settings where name in ('wal_keep_size', 'max_slot_wal_keep_size')";

/// Standbys that lack more than one WAL file.
const FOLLOWERS_BEHIND: &str = "select application_name from pg_stat_replication where application_name <> 'lab' \
     and flush_lsn < pg_current_wal_lsn() - 16777216";

/// Something that was done to the cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    /// When.
    pub at: Moment,
    /// What.
    pub what: String,
    /// Whether it undid the fault.
    pub repair: bool,
}

/// A running cluster with clients, to which a story happens.
#[derive(Debug)]
pub struct Scene<'a> {
    /// The lab.
    pub lab: &'a Lab,
    /// Its clients.
    pub clients: &'a Clients,
    /// What was done, the fault itself first.
    pub marks: Vec<Mark>,
    /// What a story found wrong by itself.
    pub problems: Vec<String>,
}

impl Scene<'_> {
    /// Notes that something was done.
    pub fn mark(&mut self, at: Moment, what: impl Into<String>) {
        self.marks.push(Mark { at, what: what.into(), repair: false });
    }

    /// Notes that the fault was undone.
    pub fn mark_repair(&mut self, at: Moment, what: impl Into<String>) {
        self.marks.push(Mark { at, what: what.into(), repair: true });
    }

    /// Lets time pass.
    pub fn pass(&self, seconds: u64) {
        std::thread::sleep(Duration::from_secs(seconds));
    }

    /// The primary, as soon as there is exactly one.
    pub fn primary(&self) -> Result<Host> {
        let end = Instant::now() + Duration::from_secs(10);
        loop {
            if let Some(primary) = self.clients.nodes().primary() {
                return Ok(primary);
            }
            if Instant::now() > end {
                bail!("no agent, or more than one, says that its node is the primary");
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// The first node that isn't this one.
    pub fn other_than(&self, host: Host) -> Host {
        *NODES.iter().find(|node| **node != host).expect("there are three nodes")
    }

    /// The store.
    pub fn store(&self) -> Result<Store> {
        Ok(Store { namespace: self.lab.namespace(CLIENT)? })
    }

    /// Puts the store's leader on the primary's host, or on another one.
    pub fn place_store_leader(&self, primary: Host, with_it: bool) -> Result<()> {
        let (store, leader) = (self.store()?, self.store()?.leader()?);
        match (with_it, leader == primary) {
            (true, false) => store.move_leader(primary),
            (false, true) => store.move_leader(self.other_than(primary)),
            (true, true) | (false, false) => Ok(()),
        }
    }

    /// Signals processes and notes it.
    pub fn signal(&mut self, host: Host, targets: &[Target], signal: Signal) -> Result<()> {
        let at = self.lab.signal(host, targets, signal)?;
        let names: Vec<String> = targets.iter().map(|target| format!("{target:?}").to_lowercase()).collect();
        let verb = match signal {
            Signal::Kill => "killed",
            Signal::Stop => "frozen",
            Signal::Continue => "thawed",
            Signal::Terminate => "asked to end",
        };
        let what = format!("{} of {host} {verb}", names.join(" and "));
        self.marks.push(Mark { at, what, repair: signal == Signal::Continue });
        Ok(())
    }

    /// Keeps a service running from now on, or leaves it alone once it ends.
    pub fn keep(&self, host: Host, service: Service, wanted: bool) -> Result<()> {
        self.lab.ask(Request::Service(host, service, wanted)).map(drop)
    }

    /// Starts a service again and notes it.
    pub fn start(&mut self, host: Host, service: Service) -> Result<()> {
        let at = Moment::now();
        self.keep(host, service, true)?;
        self.mark_repair(at, format!("{} of {host} started again", format!("{service:?}").to_lowercase()));
        Ok(())
    }

    /// Ends all processes of a host, and its network with them.
    pub fn switch_off(&mut self, host: Host) -> Result<()> {
        let at = self.lab.set_rules(Rule::isolate(host))?;
        self.lab.ask(Request::Power(host, false))?;
        self.mark(at, format!("{host} lost: all processes killed, links cut"));
        Ok(())
    }

    /// Starts a host again, etcd and agent with it.
    pub fn switch_on(&mut self, host: Host) -> Result<()> {
        let at = self.lab.set_rules(Vec::new())?;
        self.lab.ask(Request::Power(host, true))?;
        self.mark_repair(at, format!("{host} started again"));
        Ok(())
    }

    /// Asks all processes of a host to end, waits until the agent has, and takes its power.
    pub fn shut_down(&mut self, host: Host) -> Result<()> {
        let at = self.lab.shut_down(host)?;
        self.mark(at, format!("all processes of {host} asked to end"));
        self.wait_for_the_end_of_agent(host)?;
        self.lab.ask(Request::Power(host, false))?;
        self.mark(Moment::now(), format!("{host} is down"));
        Ok(())
    }

    /// Waits until a host's agent has ended, as it was asked to.
    pub fn wait_for_the_end_of_agent(&mut self, host: Host) -> Result<()> {
        let end = Instant::now() + STOP_WITHIN;
        let runs = |host| -> Result<bool> {
            let status = self.lab.status()?;
            Ok(status.hosts.iter().any(|status| status.host == host && status.agent.is_some()))
        };
        while runs(host)? {
            if Instant::now() > end {
                self.problems
                    .push(format!("the agent of {host} didn't end within {} s", STOP_WITHIN.as_secs()));
                break;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// Runs a command of the agent's program on a host, as its owner would, and notes what it says.
    pub fn command(&mut self, host: Host, words: &[&str]) -> Result<()> {
        match self.primacy(host, words)? {
            (true, _) => Ok(()),
            (false, said) => bail!("primacy {} on {host}: {said}", words.join(" ")),
        }
    }

    /// Runs one that must do nothing, and name a remedy.
    pub fn refused(&mut self, host: Host, words: &[&str], remedy: &str) -> Result<()> {
        let (done, said) = self.primacy(host, words)?;
        if done || !said.contains(remedy) {
            self.problems.push(format!("primacy {} didn't ask for {remedy}", words.join(" ")));
        }
        Ok(())
    }

    /// Whether it succeeded, and what it said.
    fn primacy(&mut self, host: Host, words: &[&str]) -> Result<(bool, String)> {
        let directory = place::of_lab(&self.lab.name);
        let output = Command::new("nsenter")
            .arg(format!("--net={}", self.lab.namespace(host)?.display()))
            .args(["setpriv", "--reuid=postgres", "--regid=postgres", "--init-groups"])
            .arg(directory.join("bin/primacy"))
            .args(words)
            .arg("--config-file")
            .arg(directory.join(host.to_string()).join("agent.yml"))
            .stdin(Stdio::null())
            .output()
            .context("run nsenter")?;
        let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
        let said = said.trim().to_owned();
        self.mark(Moment::now(), format!("primacy {} on {host}: {said}", words.join(" ")));
        Ok((output.status.success(), said))
    }

    /// Lets no WAL through to whoever streams from a primary.
    pub fn cut_replication(&mut self, primary: Host) -> Result<()> {
        let one_way = |from, to| Rule { from, to, ports: vec![POSTGRES], act: Act::Drop };
        let others = NODES.into_iter().filter(|host| *host != primary).map(Peer::Only);
        let holder = Peer::Only(primary);
        let rules = others.flat_map(|other| [one_way(holder, other), one_way(other, holder)]).collect();
        let at = self.lab.set_rules(rules)?;
        self.mark(at, format!("no WAL arrives from {primary}"));
        Ok(())
    }

    /// Makes a primary write so many bytes of WAL.
    pub fn write_wal(&self, primary: Host, bytes: u32) -> Result<()> {
        let message = format!("select pg_logical_emit_message(true, 'lab', repeat('x', {bytes}))");
        self.clients.query(primary, &message).map(drop)
    }

    /// Makes a primary write WAL and recycle it until what it writes now is gone.
    pub fn recycle_wal(&mut self, primary: Host) -> Result<()> {
        let ask = |statement: &str| self.clients.query(primary, statement);
        let needed = ask("select pg_walfile_name(pg_current_wal_lsn())")?.pop().context("a WAL file")?;
        let segments: u64 = ask(KEPT_SEGMENTS)?.pop().context("a setting")?.parse().context("a number")?;
        for _ in 0..segments + 3 {
            ask("select pg_logical_emit_message(false, 'lab', 'on'); select pg_switch_wal()")?;
            self.wait_for_followers(primary)?;
        }
        ask("checkpoint")?;
        let is_there = format!("select name from pg_ls_waldir() where name = '{needed}'");
        if !ask(&is_there)?.is_empty() {
            ask("select pg_drop_replication_slot(slot_name) from pg_replication_slots where not active")?;
            ask("checkpoint")?;
            self.mark(Moment::now(), format!("slots of absent members dropped on {primary}"));
        }
        if !ask(&is_there)?.is_empty() {
            bail!("{primary} still has {needed}");
        }
        self.mark(Moment::now(), format!("{primary} has recycled {needed}"));
        Ok(())
    }

    /// Waits until whoever streams from a primary has all but the last of its WAL, so that it won't need what is gone.
    fn wait_for_followers(&self, primary: Host) -> Result<()> {
        let end = Instant::now() + Duration::from_secs(20);
        while !self.clients.query(primary, FOLLOWERS_BEHIND)?.is_empty() {
            if Instant::now() > end {
                bail!("a standby doesn't keep up with {primary}");
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// How long a lease lasts.
    pub fn lease(&self) -> Result<Duration> {
        let dynamic = self.lab.status()?.dynamic;
        let set = dynamic.iter().find(|(key, _)| key == "ttl").map(|(_, value)| value.parse());
        Ok(Duration::from_secs(set.transpose().context("the ttl of this lab")?.unwrap_or(TTL_DEFAULT)))
    }

    /// Nobody may have acknowledged anything between a moment and now.
    pub fn expect_silence_after(&mut self, moment: Moment) {
        let last = self.clients.look(|seen| seen.acks.iter().map(|ack| (ack.acked, ack.host)).max());
        if let Some((at, host)) = last.filter(|(at, _)| *at > moment) {
            let late = at.since(moment);
            self.problems.push(format!("{host} acknowledged a row {late:.3} s after it had to be read-only"));
        }
    }

    /// Cuts a host off from all others.
    pub fn isolate(&mut self, host: Host) -> Result<()> {
        let at = self.lab.set_rules(Rule::isolate(host))?;
        self.mark(at, format!("{host} cut off from all others"));
        Ok(())
    }

    /// Mends the network.
    pub fn heal(&mut self) -> Result<()> {
        let at = self.lab.set_rules(Vec::new())?;
        self.mark_repair(at, "network healed");
        Ok(())
    }

    /// Asks the primary's agent for a switchover and notes its answer.
    pub fn switchover(&mut self, from: Host, to: Host) -> Result<()> {
        let at = Moment::now();
        self.mark(at, format!("switchover from {from} to {to} asked for"));
        let body = json!({ "leader": from.to_string(), "candidate": to.to_string() });
        let within = Duration::from_secs(40);
        let port = crate::client::REST;
        let answer = self
            .store()?
            .block_on(http::ask(from, port, "/switchover", Some(&body), within))?
            .context("ask for a switchover")?;
        let text: String = answer.text.trim().chars().take(60).collect();
        self.mark(Moment::now(), format!("answer {}: {text}", answer.code));
        if answer.code != 200 {
            self.problems.push(format!("the switchover was answered {}: {text}", answer.code));
        }
        if self.primary()? != to {
            self.problems.push(format!("after the switchover the primary isn't {to}"));
        }
        Ok(())
    }

    /// Asks a standby's agent for a new copy and notes its answer.
    pub fn reinitialize(&mut self, standby: Host) -> Result<()> {
        let at = Moment::now();
        self.mark(at, format!("{standby} asked to take a new copy"));
        let (port, within) = (crate::client::REST, Duration::from_secs(10));
        let body = json!({});
        let asked = http::ask(standby, port, "/reinitialize", Some(&body), within);
        let answer = self.store()?.block_on(asked)?.context("ask for a new copy")?;
        let text = answer.text.trim();
        self.mark(Moment::now(), format!("answer {}: {text}", answer.code));
        if answer.code != 200 {
            self.problems.push(format!("the wish for a new copy was answered {}: {text}", answer.code));
        }
        self.wait_until_it_copies(standby)
    }

    /// A copy that is still there when all looks healthy again would not have been replaced.
    fn wait_until_it_copies(&self, standby: Host) -> Result<()> {
        let end = Instant::now() + Duration::from_secs(10);
        let streams = || {
            self.clients
                .nodes()
                .0
                .iter()
                .any(|(host, says)| *host == standby && says.as_ref().is_some_and(|says| says.streaming))
        };
        while streams() {
            if Instant::now() > end {
                bail!("{standby} keeps its copy");
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// Undoes whatever a story may have left undone, so that the next one finds a whole cluster.
    pub fn repair(&self) -> Result<()> {
        self.lab.set_rules(Vec::new())?;
        for host in NODES {
            self.lab.ask(Request::Power(host, true))?;
            for service in [Service::Etcd, Service::Agent] {
                self.keep(host, service, true)?;
            }
            for target in Target::ALL {
                // An error means that there is no such process, which nothing needs to be done about here.
                let _ = self.lab.signal(host, &[target], Signal::Continue);
            }
        }
        Ok(())
    }
}
