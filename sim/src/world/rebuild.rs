//! A store that forgets, and the person who makes it anew.

use super::event::{Event, Fault, HostId};
use super::host::{Cargo, Warden};
use super::{Trail, World};
use primacy_core::event::Frozen;
use primacy_core::store::{Record, View};
use primacy_core::{Epoch, Node, Nonce, Revision, instance, rebuild};
use std::sync::Arc;

impl World {
    /// All keys are deleted. A host that has never been part of the cluster would found another one: that can't be
    /// helped, and isn't looked at here.
    pub(crate) fn store_wiped(&mut self, trail: &mut Trail) -> bool {
        if !self.all_belong() {
            return false;
        }
        let as_of = Revision(self.store.view.as_of.0 + 1);
        self.exchange_store(View { as_of, ..View::default() }, trail);
        true
    }

    /// Somebody makes a backup of the store.
    pub(crate) fn store_backed_up(&mut self) -> bool {
        self.backup = Some(self.store.view.clone());
        true
    }

    /// The store is what it was at the time of its last backup. No request to the one before reaches it.
    pub(crate) fn store_restored(&mut self, trail: &mut Trail) -> bool {
        let Some(backup) = self.backup.take().filter(|_| self.all_belong()) else { return false };
        self.flights.retain(|flight| !matches!(flight.cargo, Cargo::Ask(..)));
        self.exchange_store(View::clone(&backup), trail);
        true
    }

    fn all_belong(&self) -> bool {
        self.hosts.iter().all(|one| one.saved.highest > Epoch(0))
    }

    fn exchange_store(&mut self, view: View, trail: &mut Trail) {
        self.record.forgotten = Some(Arc::new(self.history().clone()));
        self.record.retaken = false;
        self.store.view = Arc::new(view);
        for host in 0..self.hosts.len() as HostId {
            self.watch_breaks(host, trail);
        }
        trail.possible.push(Event::Fault(Fault::StoreRebuilt));
    }

    /// Whether a node says that the store went back.
    pub fn store_is_doubted(&self) -> bool {
        let why = |node: &Node| matches!(node.needs_operator(), Some(Frozen::StoreWentBack { .. }));
        self.hosts.iter().any(|one| one.running().is_some_and(why))
    }

    /// Somebody has read what the nodes say: stops all agents, wherever they are, writes the store anew from the copy
    /// that goes furthest, and starts them again.
    pub(crate) fn store_rebuilt(&mut self, trail: &mut Trail) -> bool {
        if !self.store_is_doubted() || !self.store.up {
            return false;
        }
        let candidates = (0..self.hosts.len() as HostId).filter_map(|host| self.rebuilt_from(host));
        let Some((_, records)) = candidates.max_by_key(|(position, _)| *position) else { return false };
        for host in 0..self.hosts.len() as HostId {
            if self.hosts[usize::from(host)].suspended {
                self.fault(Fault::HostDies(host), trail);
            }
            self.agent_dies(host);
            let one = self.host(host);
            one.guard = Warden::Idle;
            one.postgres.die();
            one.postgres.orphans = false;
        }
        self.store.write(&records);
        self.record.forgotten = None;
        for host in 0..self.hosts.len() as HostId {
            self.fault(Fault::AgentStarts(host), trail);
        }
        true
    }

    /// Whether the store went back and no copy is left of which anybody could say where it belongs, as people have promoted
    /// by hand meanwhile.
    pub fn is_beyond_rebuilding(&self) -> bool {
        let by_hand = |one: &super::host::Host| {
            let data = one.postgres.data.as_ref();
            data.is_some_and(|data| data.timelines.iter().any(|timeline| timeline.by >= 100))
        };
        let hosts = 0..self.hosts.len() as HostId;
        self.store_is_doubted()
            && self.hosts.iter().any(by_hand)
            && !hosts.into_iter().any(|host| self.rebuilt_from(host).is_some())
    }

    /// What the store would be with this host's copy, and how far that goes.
    fn rebuilt_from(&self, host: HostId) -> Option<(primacy_core::Position, Vec<Record>)> {
        let one = &self.hosts[usize::from(host)];
        let data = one.postgres.data.as_ref().filter(|data| one.up && !data.torn)?;
        let shown = instance::Data { system: data.system, position: data.position(), forks: data.forks() };
        let (config, mark) = (&self.setup.configs[usize::from(host)], Nonce(u64::MAX - self.now));
        Some((
            shown.position,
            rebuild::records(&self.store.view, &config.me, &one.saved, &shown, config.ttl, mark)?,
        ))
    }
}
