//! The list of faults.

use std::time::Duration;

use anyhow::Result;
use primacy_scenarios::Scenario;

use super::{STORE_PORTS, Scene};
use crate::host::Service;
use crate::keeper::protocol::{Request, Signal, Target};
use crate::network::{Act, Host, NODES, Peer, Rule};
use crate::record::Way;
use crate::time::Moment;

/// A fault and what it must not do.
#[derive(Clone, Copy, Debug)]
pub struct Fault {
    /// Its id, as in the handbook.
    pub id: &'static str,
    /// One line on what happens.
    pub title: &'static str,
    /// Whether acknowledged rows may be lost in asynchronous mode.
    pub may_lose: bool,
    /// Whether the primary may change.
    pub may_move: bool,
    /// The hardest way by which a node may have to come back.
    pub returns_by: Way,
    /// Whether no writer may notice.
    pub seamless: bool,
    /// The story. Its first mark is the moment of the fault.
    pub story: Story,
}

/// What happens.
#[derive(Clone, Copy, Debug)]
pub enum Story {
    /// One that is told here.
    Code(fn(&mut Scene) -> Result<()>),
    /// One of `tests/scenarios`.
    Text(&'static Scenario),
}

/// All faults.
pub const ALL: &[Fault] = &[
    fault("C1", "bootstrap from nothing to three streaming nodes", KEEPS, bootstrap),
    fault("C5", "switchover to a named standby", MOVES, switchover).by(Way::Stream),
    fault(
        "C5-cut",
        "switchover to a standby, 1 s after the other was cut off",
        MOVES,
        switchover_beside_a_cut,
    )
    .by(Way::Stream),
    fault("B1", "kill -9 of the postmaster", MOVES, |scene| kill(scene, &[Target::Postmaster])),
    fault("B2", "kill -9 of the checkpointer", STAYS, |scene| kill(scene, &[Target::Checkpointer])),
    fault("B3", "kill -9 of the agent, restarted at once", STAYS, |scene| kill(scene, &[Target::Agent]))
        .unnoticed(),
    fault("B3-away", "kill -9 of the agent, away for 20 s", LOSES, agent_away),
    fault("B4", "agent frozen for 15 s", LOSES, agent_frozen),
    fault("guard", "kill -9 of the guard", LOSES, |scene| kill(scene, &[Target::Guard])),
    fault("agent+guard", "kill -9 of agent and guard at once", LOSES, |scene| {
        kill(scene, &[Target::Guard, Target::Agent])
    }),
    fault("B5", "node death for 10 s, etcd's leader elsewhere", LOSES, |scene| node_death(scene, false)),
    fault("B5-leader", "node death for 10 s, etcd's leader with it", LOSES, |scene| node_death(scene, true)),
    fault("B6", "primary's host cut off for 15 s, etcd's leader elsewhere", LOSES, |scene| {
        netsplit(scene, false)
    }),
    fault("B6-leader", "primary's host cut off for 15 s, etcd's leader with it", LOSES, |scene| {
        netsplit(scene, true)
    }),
    fault("B7", "primary's host cut off from etcd alone for 15 s", LOSES, store_out_of_reach),
    fault("B8", "all of the primary's PostgreSQL frozen for 15 s", LOSES, postgres_frozen),
    fault("B10", "a standby's host lost for 10 s", STAYS, standby_death).by(Way::Stream).unnoticed(),
    fault("B10-kill", "kill -9 of a standby's postmaster", STAYS, standby_killed).by(Way::Stream).unnoticed(),
    fault("B10-cut", "a standby's host cut off for 10 s", STAYS, standby_cut_off).by(Way::Stream).unnoticed(),
    fault("B11", "a standby away until the WAL it needs is gone", STAYS, wal_gone),
    fault("reinit", "a standby is asked to take a new copy", STAYS, new_copy).unnoticed(),
    fault("stop", "the primary's agent asked to end, away for 10 s", MOVES, agent_stopped).by(Way::Stream),
    fault(
        "stop-hung",
        "all of the primary's PostgreSQL frozen, then the agent asked to end",
        LOSES,
        stopped_while_hung,
    ),
    fault(
        "shutdown",
        "the primary's host shut down for 10 s: first the agent, then the rest",
        MOVES,
        |scene| host_shut_down(scene, true),
    )
    .by(Way::Stream),
    // Those that send WAL are asked to end, too: nobody gets the last of it.
    fault(
        "shutdown-all",
        "all processes of the primary's host asked to end at once, for 10 s",
        LOSES,
        |scene| host_shut_down(scene, false),
    )
    .by(Way::Rewind),
    fault("A1", "etcd's leader frozen for 10 s", STAYS, store_leader_frozen).unnoticed(),
    fault("A2", "etcd leader's host cut off for 10 s, a standby's", STAYS, store_leader_cut_off),
    fault("A3", "600 ms of round trip between etcd's members for 20 s", LOSES, store_slow),
    fault("A4", "primary's host down 1.5 s, up 1.5 s, five times", LOSES, flapping),
    fault(
        "store-wiped",
        "all keys of the store deleted; made anew from the primary's copy",
        MOVES,
        store_wiped,
    )
    .by(Way::Stream),
    // Without promises of the others, a holder that can't renew has to give up in time, and begins anew.
    fault("A6", "all of etcd down for 20 s", MOVES, store_down),
    fault(
        "consent",
        "the primary's host lost while both standbys lack 4 MiB; a person lets one of them lead",
        LOSES,
        failover_by_consent,
    ),
];

/// The faults of a quick look.
pub const QUICK: &[&str] = &["C1", "B1", "B3", "B5", "B6-leader", "C5"];

/// Finds a fault, in any case of letters.
pub fn find(id: &str) -> Option<Fault> {
    ALL.iter().copied().find(|fault| fault.id.eq_ignore_ascii_case(id))
}

type Limits = (bool, bool);
/// No loss; there is no primary yet that could stay.
const KEEPS: Limits = (false, true);
/// No loss and the same primary.
const STAYS: Limits = (false, false);
/// No loss, but the primary may change.
const MOVES: Limits = (false, true);
/// Asynchronous standbys may lack the last rows.
const LOSES: Limits = (true, true);

const fn fault(
    id: &'static str,
    title: &'static str,
    (may_lose, may_move): Limits,
    story: fn(&mut Scene) -> Result<()>,
) -> Fault {
    let story = Story::Code(story);
    Fault { id, title, may_lose, may_move, returns_by: Way::Clone, seamless: false, story }
}

impl Fault {
    const fn by(self, hardest: Way) -> Fault {
        Fault { returns_by: hardest, ..self }
    }

    const fn unnoticed(self) -> Fault {
        Fault { seamless: true, ..self }
    }
}

fn kill(scene: &mut Scene, targets: &[Target]) -> Result<()> {
    let primary = scene.primary()?;
    scene.signal(primary, targets, Signal::Kill)
}

fn agent_away(scene: &mut Scene) -> Result<()> {
    let primary = scene.primary()?;
    scene.keep(primary, Service::Agent, false)?;
    scene.signal(primary, &[Target::Agent], Signal::Kill)?;
    scene.pass(20);
    scene.start(primary, Service::Agent)
}

fn agent_frozen(scene: &mut Scene) -> Result<()> {
    let primary = scene.primary()?;
    scene.signal(primary, &[Target::Agent], Signal::Stop)?;
    scene.pass(15);
    scene.signal(primary, &[Target::Agent], Signal::Continue)
}

fn node_death(scene: &mut Scene, with_store_leader: bool) -> Result<()> {
    let primary = scene.primary()?;
    scene.place_store_leader(primary, with_store_leader)?;
    scene.switch_off(primary)?;
    scene.pass(10);
    scene.switch_on(primary)
}

fn netsplit(scene: &mut Scene, with_store_leader: bool) -> Result<()> {
    let primary = scene.primary()?;
    scene.place_store_leader(primary, with_store_leader)?;
    scene.isolate(primary)?;
    scene.pass(15);
    scene.heal()
}

fn store_out_of_reach(scene: &mut Scene) -> Result<()> {
    let primary = scene.primary()?;
    scene.place_store_leader(primary, false)?;
    let rules = Rule::isolate(primary).into_iter().map(|rule| Rule { ports: STORE_PORTS.to_vec(), ..rule });
    let at = scene.lab.set_rules(rules.collect())?;
    scene.mark(at, format!("{primary} can't reach the rest of etcd"));
    scene.pass(15);
    scene.heal()
}

/// All of PostgreSQL.
const POSTGRES: [Target; 3] = [Target::Postmaster, Target::Checkpointer, Target::Backends];

fn postgres_frozen(scene: &mut Scene) -> Result<()> {
    let primary = scene.primary()?;
    scene.signal(primary, &POSTGRES, Signal::Stop)?;
    scene.pass(15);
    thaw(scene, primary);
    Ok(())
}

/// Those that are gone by now need no thawing.
fn thaw(scene: &Scene, host: Host) {
    for target in POSTGRES {
        let _ = scene.lab.signal(host, &[target], Signal::Continue);
    }
}

fn stopped_while_hung(scene: &mut Scene) -> Result<()> {
    let primary = scene.primary()?;
    scene.signal(primary, &POSTGRES, Signal::Stop)?;
    scene.pass(1);
    scene.keep(primary, Service::Agent, false)?;
    scene.signal(primary, &[Target::Agent], Signal::Terminate)?;
    scene.pass(15);
    thaw(scene, primary);
    scene.start(primary, Service::Agent)
}

fn standby_death(scene: &mut Scene) -> Result<()> {
    let standby = scene.other_than(scene.primary()?);
    scene.place_store_leader(standby, false)?;
    scene.switch_off(standby)?;
    scene.pass(10);
    scene.switch_on(standby)
}

fn standby_killed(scene: &mut Scene) -> Result<()> {
    let standby = scene.other_than(scene.primary()?);
    scene.signal(standby, &[Target::Postmaster], Signal::Kill)
}

fn standby_cut_off(scene: &mut Scene) -> Result<()> {
    let standby = scene.other_than(scene.primary()?);
    scene.place_store_leader(standby, false)?;
    scene.isolate(standby)?;
    scene.pass(10);
    scene.heal()
}

fn wal_gone(scene: &mut Scene) -> Result<()> {
    let primary = scene.primary()?;
    let standby = scene.other_than(primary);
    scene.place_store_leader(standby, false)?;
    scene.switch_off(standby)?;
    scene.recycle_wal(primary)?;
    scene.switch_on(standby)
}

fn new_copy(scene: &mut Scene) -> Result<()> {
    let standby = scene.other_than(scene.primary()?);
    scene.reinitialize(standby)
}

fn agent_stopped(scene: &mut Scene) -> Result<()> {
    let primary = scene.primary()?;
    scene.keep(primary, Service::Agent, false)?;
    scene.signal(primary, &[Target::Agent], Signal::Terminate)?;
    scene.pass(10);
    scene.start(primary, Service::Agent)
}

/// A service manager stops the agent's service first, and what it leaves behind with the host.
fn host_shut_down(scene: &mut Scene, agent_first: bool) -> Result<()> {
    let primary = scene.primary()?;
    if agent_first {
        scene.keep(primary, Service::Agent, false)?;
        scene.signal(primary, &[Target::Agent], Signal::Terminate)?;
        scene.wait_for_the_end_of_agent(primary)?;
    }
    scene.shut_down(primary)?;
    scene.pass(10);
    scene.switch_on(primary)?;
    scene.keep(primary, Service::Etcd, true)?;
    scene.start(primary, Service::Agent)
}

fn store_leader_cut_off(scene: &mut Scene) -> Result<()> {
    let standby = scene.other_than(scene.primary()?);
    scene.place_store_leader(standby, true)?;
    scene.isolate(standby)?;
    scene.pass(10);
    scene.heal()
}

fn store_slow(scene: &mut Scene) -> Result<()> {
    let act = Act::Delay { millis: 300 };
    let rule = Rule { from: Peer::Any, to: Peer::Any, ports: vec![2380], act };
    let at = scene.lab.set_rules(vec![rule])?;
    scene.mark(at, "a round trip between etcd's members takes 600 ms");
    scene.pass(20);
    scene.heal()
}

fn flapping(scene: &mut Scene) -> Result<()> {
    let host = scene.primary()?;
    scene.place_store_leader(host, true)?;
    for _ in 0..5 {
        scene.isolate(host)?;
        std::thread::sleep(Duration::from_millis(1_500));
        scene.heal()?;
        std::thread::sleep(Duration::from_millis(1_500));
    }
    Ok(())
}

fn store_leader_frozen(scene: &mut Scene) -> Result<()> {
    let leader = scene.store()?.leader()?;
    scene.signal(leader, &[Target::Etcd], Signal::Stop)?;
    scene.pass(10);
    scene.signal(leader, &[Target::Etcd], Signal::Continue)
}

fn store_down(scene: &mut Scene) -> Result<()> {
    for host in NODES {
        scene.keep(host, Service::Etcd, false)?;
    }
    for host in NODES {
        scene.signal(host, &[Target::Etcd], Signal::Kill)?;
    }
    let down = Moment::now();
    scene.pass(20);
    scene.expect_silence_after(down.plus(scene.lease()?));
    for host in NODES {
        scene.start(host, Service::Etcd)?;
    }
    Ok(())
}

/// Every agent says that a person is needed; and this is what the handbook tells that person to do.
fn store_wiped(scene: &mut Scene) -> Result<()> {
    let primary = scene.primary()?;
    let at = Moment::now();
    scene.store()?.forget("/")?;
    scene.mark(at, "all keys of the store deleted");
    scene.pass(3);
    scene.expect_silence_after(at.plus(scene.lease()?));
    for host in NODES {
        scene.keep(host, Service::Agent, false)?;
        scene.signal(host, &[Target::Agent], Signal::Terminate)?;
    }
    for host in NODES {
        scene.wait_for_the_end_of_agent(host)?;
    }
    scene.command(primary, &["rebuild-store", "--accept-loss"])?;
    for host in NODES {
        scene.start(host, Service::Agent)?;
    }
    Ok(())
}

/// Nobody may stand unasked that lacks so much. A person asks what is lost, and accepts it.
fn failover_by_consent(scene: &mut Scene) -> Result<()> {
    let primary = scene.primary()?;
    scene.place_store_leader(primary, false)?;
    scene.cut_replication(primary)?;
    scene.write_wal(primary, 4 << 20)?;
    // So that a sign of life says how far it is.
    scene.pass(3);
    scene.switch_off(primary)?;
    let lapsed = Moment::now().plus(scene.lease()?);
    scene.pass(12);
    scene.expect_silence_after(lapsed);
    let other = scene.other_than(primary);
    scene.refused(other, &["failover"], "--accept-loss")?;
    scene.command(other, &["failover", "--accept-loss"])?;
    scene.switch_on(primary)
}

fn switchover(scene: &mut Scene) -> Result<()> {
    let primary = scene.primary()?;
    let candidate = scene.other_than(primary);
    scene.switchover(primary, candidate)
}

/// The other standby can't confirm that it has received the end of the WAL, and nobody may wait for it.
fn switchover_beside_a_cut(scene: &mut Scene) -> Result<()> {
    let primary = scene.primary()?;
    let candidate = scene.other_than(primary);
    let third = NODES.into_iter().find(|host| ![primary, candidate].contains(host));
    let third = third.expect("there are three nodes");
    scene.place_store_leader(third, false)?;
    scene.isolate(third)?;
    scene.pass(1);
    scene.switchover(primary, candidate)?;
    scene.heal()
}

/// Takes away what the cluster has, before anybody writes or counts: a new one begins with timeline 1 again.
pub fn empty(scene: &Scene) -> Result<()> {
    let all = |request: fn(Host) -> Request| -> Result<()> {
        NODES.into_iter().try_for_each(|host| scene.lab.ask(request(host)).map(drop))
    };
    all(|host| Request::Service(host, Service::Agent, false))?;
    all(|host| Request::Power(host, false))?;
    all(Request::Wipe)?;
    all(|host| Request::Power(host, true))?;
    scene.store()?.wait_until_complete()
}

fn bootstrap(scene: &mut Scene) -> Result<()> {
    let at = Moment::now();
    scene.lab.start_agents()?;
    scene.mark(at, "agents started on three empty nodes");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_unique_and_the_quick_ones_exist() {
        for (index, fault) in ALL.iter().enumerate() {
            assert!(
                ALL[index + 1..].iter().all(|other| !other.id.eq_ignore_ascii_case(fault.id)),
                "{}",
                fault.id
            );
        }
        assert!(QUICK.iter().all(|id| find(id).is_some()));
        assert_eq!(find("b5-LEADER").map(|fault| fault.id), Some("B5-leader"));
    }
}
