//! The holder's side of the lease: until when may this node's PostgreSQL be writable?
//!
//! The lease is a record that its holder touches ("beats") again and again, by transactions that compare the record
//! itself. A beat that was *sent* at `t0` and committed gives authority until `t0 + T − 2ρT`; a candidate acts only
//! when it has seen neither reign nor beat change for `T` on its own clock. Whatever the two clocks do within their
//! bound ρ, the first ends before the second. Counting from the reply instead of the request would break it: the
//! reply may be any time late.
//!
//! The guard kills PostgreSQL at the fence `F = authority − S`, where S is the time the killing may take.
//!
//! Everything else a holder writes travels in a beat, so there is one transaction at a time, one order of writes, and
//! no write of a holder that isn't also a sign of life.

use crate::node::{Node, Out};
use crate::role::leaving::Why;
use crate::store::{Answer, Beat, Key, Record, Request, Txn, View};
use crate::{Effect, Epoch, Event, Lsn, Nonce, OpId, Revision, Role, Time};
use alloc::vec;
use alloc::vec::Vec;

/// What a holder knows of its own lease.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Lease {
    /// The reign.
    pub epoch: Epoch,
    /// Its mark.
    pub nonce: Nonce,
    /// The end of the authority that was confirmed so far. It only moves forward.
    pub authority: Time,
    /// The revision of the reign record; changes only by our own writes.
    pub(crate) reign: Revision,
    /// The revision of the beat record that the next beat compares with.
    pub(crate) beat: Revision,
    /// The beat under way.
    pub(crate) sending: Option<Sending>,
    /// When the first of the beats was sent whose outcome is unknown.
    pub(crate) unsettled: Option<Time>,
    /// When to send the next beat.
    pub(crate) next: Time,
}

/// A beat under way.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Sending {
    pub id: OpId,
    pub sent: Time,
    pub floor: Revision,
    pub put: Vec<Record>,
}

impl Node {
    /// The end of this node's authority, if it holds the lease.
    ///
    /// Whoever answers clients or routes them asks this at that moment (invariant I12).
    pub fn authority(&self) -> Option<Time> {
        self.lease.as_ref().map(|lease| lease.authority)
    }

    /// The fence F: when the guard has to begin killing.
    pub(crate) fn fence(&self) -> Option<Time> {
        self.authority().map(|authority| authority - self.config.stop_budget)
    }

    /// Begins a lease whose first transaction was sent at `sent` and is known to be committed.
    pub(crate) fn begin_lease(&mut self, out: &mut Out, epoch: Epoch, nonce: Nonce, sent: Time) {
        self.lease = Some(Lease {
            epoch,
            nonce,
            authority: sent + self.config.authority(),
            reign: self.view.revision(&Key::Reign),
            beat: self.view.revision(&Key::Beat),
            sending: None,
            unsettled: None,
            next: sent + self.config.beat_every,
        });
        self.arm(out);
    }

    /// Tells the guard the present fence.
    pub(crate) fn arm(&mut self, out: &mut Out) {
        if let (Some(lease), Some(until)) = (&self.lease, self.fence()) {
            out.push(Effect::Arm { epoch: lease.epoch, until });
            if self.armed.is_none() {
                self.arm_again = out.now + self.config.retry_after;
            }
        }
    }

    /// Whether the guard has acknowledged a fence of the present reign that hasn't fallen yet.
    pub(crate) fn is_armed(&self, now: Time) -> bool {
        match (self.armed, &self.lease) {
            (Some((epoch, until)), Some(lease)) => epoch == lease.epoch && now < until,
            (_, _) => false,
        }
    }

    /// Notices a lost or ending lease, and sends the next beat when it is due.
    pub(crate) fn tend_lease(&mut self, out: &mut Out) {
        if self.lease.is_none() {
            return;
        }
        if self.frozen.is_some() && !matches!(self.role, Role::Leaving(_)) {
            return self.lose(out, Event::LostLease { to: None });
        }
        if !self.reigns() {
            let to = self.view.reign.as_ref().map(|reign| reign.holder.clone());
            return self.lose(out, Event::LostLease { to });
        }
        let fence = self.fence().unwrap_or_default();
        if out.now >= fence {
            return self.lose(out, Event::LostLease { to: None });
        }
        if out.now + self.config.demote_lead >= fence && !matches!(self.role, Role::Leaving(_)) {
            out.tell(Event::LeaseEnds { fence_in: fence.since(out.now) });
            self.leave(out, Why::LeaseEnds);
        }
        self.beat(out);
    }

    /// Whether, as far as this node knows, the store still names its own lease.
    fn reigns(&self) -> bool {
        match (&self.lease, &self.view.reign) {
            (Some(lease), Some(reign)) => {
                reign.epoch == lease.epoch && reign.nonce == lease.nonce && reign.boot == self.boot
            }
            (_, _) => false,
        }
    }

    /// Whether the reign in view was given back. A beat after that would only be in the way of whoever stands next.
    fn has_released(&self) -> bool {
        self.view.reign.as_ref().is_some_and(|reign| reign.released.is_some())
    }

    /// The lease is over: nothing of the instance may stay writable.
    fn lose(&mut self, out: &mut Out, event: Event) {
        out.tell(event);
        self.lease = None;
        self.leave(out, Why::Lost);
    }

    fn beat(&mut self, out: &mut Out) {
        let wanted = self.wanted_records();
        let Some(lease) = &self.lease else { return };
        let due = lease.next <= out.now || (!wanted.is_empty() && self.ask_again <= out.now);
        let unsure = matches!(&self.role, Role::Leaving(leaving) if leaving.unsure) && wanted.is_empty();
        if lease.sending.is_some() || !due || unsure || self.has_released() {
            return;
        }
        let (reign, beat, epoch) = (lease.reign, lease.beat, lease.epoch);
        let mut compare = vec![(Key::Reign, reign), (Key::Beat, beat)];
        for key in wanted.iter().map(Record::key).filter(|key| *key != Key::Reign) {
            compare.push((key.clone(), self.view.revision(&key)));
        }
        let end = self.end_of(epoch, admits(&wanted, self.admitted()));
        let mut put = vec![Record::Beat(Beat { epoch, end })];
        put.extend(wanted);
        let id = self.new_op();
        let sending = Sending { id, sent: out.now, floor: self.view.as_of, put: put.clone() };
        if let Some(lease) = &mut self.lease {
            lease.sending = Some(sending);
        }
        let until = out.now + self.config.store_patience;
        out.push(Effect::Store { id, until, request: Request::Transact(Txn { compare, put }) });
    }

    /// The end of this reign's WAL, as far as it was ever published: whoever stands later is measured against it, so an
    /// instance that can't be looked at just now doesn't take it back. What is there at the admission is what counts from
    /// then on, however much was lost.
    fn end_of(&self, epoch: Epoch, admission: bool) -> Lsn {
        let published = self.view.beat.as_ref().filter(|beat| beat.epoch == epoch);
        let published = published.map_or(Lsn(0), |beat| beat.end);
        match self.instance.data() {
            Some(data) if admission => data.position.lsn,
            Some(data) => data.position.lsn.max(published),
            None => published,
        }
    }

    /// The last reign in which somebody was admitted.
    pub(crate) fn admitted(&self) -> Epoch {
        self.view.rule.as_ref().map_or(Epoch(0), |rule| rule.epoch)
    }

    /// Takes the answer to the beat under way.
    pub(crate) fn beat_answered(&mut self, out: &mut Out, answer: Answer) {
        let Some(sending) = self.lease.as_mut().and_then(|lease| lease.sending.take()) else { return };
        match answer {
            Answer::Committed(revision) => self.beat_committed(out, sending, revision),
            Answer::Refused(view) => self.beat_refused(out, sending.floor, view),
            Answer::Unknown => self.beat_unknown(out, sending.sent),
        }
    }

    /// Its compares held, so no beat of unknown outcome was applied before it, and none can be any more.
    fn beat_committed(&mut self, out: &mut Out, sending: Sending, revision: Revision) {
        self.see_records(out.now, sending.put, revision);
        let authority = sending.sent + self.config.authority();
        let next = sending.sent + self.config.beat_every;
        let reign = self.view.revision(&Key::Reign);
        if let Some(lease) = &mut self.lease {
            lease.authority = lease.authority.max(authority);
            (lease.reign, lease.beat) = (reign, revision);
            (lease.unsettled, lease.next) = (None, next);
        }
        self.arm(out);
    }

    /// Something else moved. If the reign is still ours, it was an earlier beat of ours with unknown outcome: which of
    /// them isn't known, so authority counts from the sending of the first.
    fn beat_refused(&mut self, out: &mut Out, floor: Revision, view: View) {
        self.see_view(out.now, view, floor);
        if !self.reigns() {
            return;
        }
        let (reign, beat) = (self.view.revision(&Key::Reign), self.view.revision(&Key::Beat));
        let length = self.config.authority();
        let Some(lease) = &mut self.lease else { return };
        if let Some(sent) = lease.unsettled.filter(|_| beat != lease.beat) {
            lease.authority = lease.authority.max(sent + length);
        }
        (lease.reign, lease.beat) = (reign, beat);
        (lease.unsettled, lease.next) = (None, out.now);
        self.arm(out);
    }

    fn beat_unknown(&mut self, out: &mut Out, sent: Time) {
        let again = out.now + self.config.retry_after;
        self.ask_again = again;
        let Some(lease) = &mut self.lease else { return };
        lease.unsettled = Some(lease.unsettled.unwrap_or(sent));
        lease.next = again;
        let authority_left = lease.authority.since(out.now);
        out.tell(Event::BeatMissed { authority_left });
    }
}

/// Whether these records admit the first clients of a reign.
fn admits(wanted: &[Record], admitted: Epoch) -> bool {
    wanted.iter().any(|record| matches!(record, Record::Rule(rule) if rule.epoch > admitted))
}
