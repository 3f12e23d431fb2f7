//! The hand that inflicts what a plan says, and undoes it.

use std::collections::BTreeMap;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Result, bail};
use serde_json::{Value, json};

use super::plan::{Kind, Planned, Trouble, Victim, Whom};
use crate::client::{Clients, REST, http};
use crate::faults::{STORE_PORTS, Scene, Store};
use crate::host::Service;
use crate::keeper::protocol::{Request, Signal, Target};
use crate::lab::Lab;
use crate::network::{Act, CLIENT, Host, NODES, Peer, Rule};

/// All of PostgreSQL.
const POSTGRES: [Target; 3] = [Target::Postmaster, Target::Checkpointer, Target::Backends];

/// A switchover is given up after this time.
const SWITCHOVER_WITHIN: Duration = Duration::from_secs(40);

/// What is in force, by the number of its fault.
#[derive(Debug)]
pub struct Hand<'a> {
    lab: &'a Lab,
    clients: &'a Clients,
    store: Store,
    /// The last one known; in a time without any, that is who faults on the primary hit.
    primary: Host,
    active: BTreeMap<usize, (Kind, Host)>,
    rules: BTreeMap<usize, Vec<Rule>>,
    answers: (Sender<String>, Receiver<String>),
    asking: Vec<JoinHandle<()>>,
}

impl<'a> Hand<'a> {
    /// A hand that has done nothing yet.
    pub fn new(lab: &'a Lab, clients: &'a Clients) -> Result<Hand<'a>> {
        let store = Store { namespace: lab.namespace(CLIENT)? };
        let primary = clients.nodes().primary().unwrap_or(NODES[0]);
        let (active, rules) = (BTreeMap::new(), BTreeMap::new());
        Ok(Hand { lab, clients, store, primary, active, rules, answers: channel(), asking: Vec::new() })
    }

    /// Inflicts a fault; returns whom it hit, in words. What can't be done to a host as it is now is an error, and
    /// nothing to worry about.
    pub fn inflict(&mut self, number: usize, fault: &Planned) -> (String, Result<()>) {
        let host = self.whom(fault.whom);
        let role = if fault.whom == Whom::Primary { "primary" } else { "standby" };
        let done = self.begin(number, fault.kind, host);
        // Half of it may have been done, so it is undone in any case.
        self.active.insert(number, (fault.kind, host));
        (format!("{host} ({role})"), done)
    }

    /// Undoes a fault.
    pub fn undo(&mut self, number: usize) -> Result<()> {
        let Some((kind, host)) = self.active.remove(&number) else { return Ok(()) };
        if self.rules.remove(&number).is_some() {
            self.set_rules()?;
        }
        match kind {
            Kind::AgentFrozen => self.thaw(host, &[Target::Agent]),
            Kind::PostgresFrozen => self.thaw(host, &POSTGRES),
            Kind::StoreFrozen => self.thaw(host, &[Target::Etcd]),
            Kind::StoreMajorityFrozen => two(host).iter().for_each(|host| self.thaw(*host, &[Target::Etcd])),
            Kind::AgentAway | Kind::AgentStopped => self.keep(host, Service::Agent, true)?,
            Kind::StoreAway => {
                NODES.into_iter().try_for_each(|host| self.keep(host, Service::Etcd, true))?;
            }
            Kind::PowerLost | Kind::Wiped => self.power(host, true)?,
            Kind::ShutDown => {
                self.power(host, false)?;
                self.keep(host, Service::Etcd, true)?;
                self.keep(host, Service::Agent, true)?;
                self.power(host, true)?;
            }
            Kind::Killed(_) | Kind::Network(_) | Kind::Switchover | Kind::SwitchoverTo | Kind::Reinit => {}
        }
        Ok(())
    }

    /// Undoes everything, and whatever else may be broken.
    pub fn undo_all(&mut self) -> Result<()> {
        for number in self.active.keys().copied().collect::<Vec<_>>() {
            self.undo(number)?;
        }
        Scene { lab: self.lab, clients: self.clients, marks: Vec::new(), problems: Vec::new() }.repair()
    }

    /// The answers to what was asked that have come meanwhile.
    pub fn answers(&mut self) -> Vec<String> {
        self.answers.1.try_iter().collect()
    }

    /// Waits for the answers that are still to come.
    pub fn finish(&mut self) -> Vec<String> {
        for thread in self.asking.drain(..) {
            let _ = thread.join();
        }
        self.answers()
    }

    fn whom(&mut self, whom: Whom) -> Host {
        self.primary = self.clients.nodes().primary().unwrap_or(self.primary);
        let mut others = NODES.into_iter().filter(|host| *host != self.primary);
        let found = match whom {
            Whom::Primary => None,
            Whom::OneStandby => others.next(),
            Whom::OtherStandby => others.nth(1),
        };
        found.unwrap_or(self.primary)
    }

    fn begin(&mut self, number: usize, kind: Kind, host: Host) -> Result<()> {
        match kind {
            Kind::Killed(victim) => self.kill(host, targets(victim)),
            Kind::AgentAway => {
                self.keep(host, Service::Agent, false)?;
                self.kill(host, &[Target::Agent])
            }
            Kind::AgentStopped => {
                self.keep(host, Service::Agent, false)?;
                self.signal(host, &[Target::Agent], Signal::Terminate)
            }
            Kind::AgentFrozen => self.signal(host, &[Target::Agent], Signal::Stop),
            Kind::PostgresFrozen => self.signal(host, &POSTGRES, Signal::Stop),
            Kind::StoreFrozen => self.signal(host, &[Target::Etcd], Signal::Stop),
            Kind::StoreMajorityFrozen => {
                two(host).iter().try_for_each(|host| self.signal(*host, &[Target::Etcd], Signal::Stop))
            }
            Kind::StoreAway => NODES.into_iter().try_for_each(|host| {
                self.keep(host, Service::Etcd, false)?;
                self.kill(host, &[Target::Etcd])
            }),
            Kind::PowerLost => {
                self.cut(number, Rule::isolate(host))?;
                self.power(host, false)
            }
            Kind::ShutDown => self.lab.shut_down(host).map(drop),
            Kind::Wiped => self.wipe(number, host),
            Kind::Network(trouble) => self.cut(number, rules(trouble, host)),
            Kind::Switchover => self.switchover(host, None),
            Kind::SwitchoverTo => self.switchover(self.primary, Some(host)),
            Kind::Reinit => self.post(host, "reinitialize", json!({})),
        }
    }

    /// Only while two others have everything.
    fn wipe(&mut self, number: usize, host: Host) -> Result<()> {
        let nodes = self.clients.nodes();
        if !nodes.healthy() || nodes.primary() == Some(host) {
            bail!("not while its data may be needed");
        }
        self.cut(number, Rule::isolate(host))?;
        self.power(host, false)?;
        self.lab.ask(Request::WipeData(host)).map(drop)
    }

    fn switchover(&mut self, from: Host, to: Option<Host>) -> Result<()> {
        self.post(from, "switchover", switchover_body(from, to))
    }

    /// Asks something of an agent, whose answer may take a while.
    fn post(&mut self, host: Host, what: &'static str, body: Value) -> Result<()> {
        let (store, sender) = (self.store.clone(), self.answers.0.clone());
        self.asking.push(thread::spawn(move || {
            let path = format!("/{what}");
            let asked = http::ask(host, REST, &path, Some(&body), SWITCHOVER_WITHIN);
            let answer = store.block_on(asked);
            let text = match answer.and_then(|answer| answer) {
                Ok(answer) => format!("{}: {}", answer.code, answer.text.trim()),
                Err(error) => format!("{error:#}"),
            };
            let _ = sender.send(format!("{host} answers to {what}: {text}"));
        }));
        Ok(())
    }

    fn cut(&mut self, number: usize, rules: Vec<Rule>) -> Result<()> {
        self.rules.insert(number, rules);
        self.set_rules()
    }

    /// The first rule that fits decides, so those that lose packets come before those that delay them.
    fn set_rules(&self) -> Result<()> {
        let mut all: Vec<Rule> = self.rules.values().flatten().cloned().collect();
        all.sort_by_key(|rule| rule.act != Act::Drop);
        self.lab.set_rules(all).map(drop)
    }

    fn kill(&self, host: Host, targets: &[Target]) -> Result<()> {
        self.signal(host, targets, Signal::Kill)
    }

    fn signal(&self, host: Host, targets: &[Target], signal: Signal) -> Result<()> {
        self.lab.signal(host, targets, signal).map(drop)
    }

    /// What has ended meanwhile needs no thawing.
    fn thaw(&self, host: Host, targets: &[Target]) {
        for target in targets {
            let _ = self.lab.signal(host, &[*target], Signal::Continue);
        }
    }

    fn keep(&self, host: Host, service: Service, wanted: bool) -> Result<()> {
        self.lab.ask(Request::Service(host, service, wanted)).map(drop)
    }

    fn power(&self, host: Host, on: bool) -> Result<()> {
        self.lab.ask(Request::Power(host, on)).map(drop)
    }
}

fn switchover_body(from: Host, to: Option<Host>) -> Value {
    match to {
        Some(to) => json!({ "leader": from.to_string(), "candidate": to.to_string() }),
        None => json!({ "leader": from.to_string() }),
    }
}

/// A host and the next one.
fn two(host: Host) -> [Host; 2] {
    let next = NODES.iter().position(|node| *node == host).map_or(0, |at| (at + 1) % NODES.len());
    [host, NODES[next]]
}

fn targets(victim: Victim) -> &'static [Target] {
    match victim {
        Victim::Postmaster => &[Target::Postmaster],
        Victim::Backends => &[Target::Backends],
        Victim::Checkpointer => &[Target::Checkpointer],
        Victim::Agent => &[Target::Agent],
        Victim::Guard => &[Target::Guard],
        Victim::AgentAndGuard => &[Target::Guard, Target::Agent],
        Victim::Etcd => &[Target::Etcd],
    }
}

/// The network's rules of a trouble.
fn rules(trouble: Trouble, host: Host) -> Vec<Rule> {
    let both = Rule::isolate(host);
    let with = |change: &dyn Fn(Rule) -> Rule| both.iter().cloned().map(change).collect::<Vec<Rule>>();
    match trouble {
        Trouble::CutOff => both,
        Trouble::Outbound => both[..1].to_vec(),
        Trouble::Inbound => both[1..].to_vec(),
        Trouble::Etcd => with(&|rule| Rule { ports: STORE_PORTS.to_vec(), ..rule }),
        Trouble::Slow { millis } => with(&|rule| Rule { act: Act::Delay { millis }, ..rule }),
        // Between nodes only: the client goes on reaching it.
        Trouble::Replication => {
            let others = NODES.into_iter().filter(|node| *node != host);
            let only = Peer::Only;
            let rule = |from, to| Rule { from: only(from), to: only(to), ports: vec![5432], act: Act::Drop };
            others.flat_map(|other| [rule(host, other), rule(other, host)]).collect()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_say_who_loses_what() {
        let outbound = rules(Trouble::Outbound, Host(1));
        assert_eq!((outbound.len(), outbound[0].from), (1, Peer::Only(Host(1))));
        let inbound = rules(Trouble::Inbound, Host(1));
        assert_eq!((inbound.len(), inbound[0].to), (1, Peer::Only(Host(1))));
        let replication = rules(Trouble::Replication, Host(1));
        let nodes = |peer| matches!(peer, Peer::Only(host) if NODES.contains(&host));
        assert_eq!(replication.len(), 4);
        assert!(replication.iter().all(|rule| nodes(rule.from) && nodes(rule.to) && rule.ports == [5432]));
    }

    #[test]
    fn a_majority_is_two_different_members() {
        assert_eq!(NODES.map(two), [[Host(1), Host(2)], [Host(2), Host(3)], [Host(3), Host(1)]]);
    }
}
