//! A walk over everything in a node that is only meaningful relative to something else: times, revisions, random
//! marks, numbers of effects. The model checker uses it to give states one canonical form; a debugger could use it to
//! show them.

use crate::instance::Saved;
use crate::node::Node;
use crate::store::{Answer, At, Key, News, Record, Txn};
use crate::store::{Request, Response, View};
use crate::{Boot, CopyId, Epoch, Nonce, OpId, Revision, Role, Span, Time};
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;

/// Takes each such value in a fixed order.
pub trait Touch {
    /// A time of which it matters how long ago it was, up to `longest`.
    fn past(&mut self, time: &mut Time, longest: Span);
    /// Since when the lease is unchanged, and when the store was asked for what is known. Both matter only by the
    /// moments that lie so long after the first.
    fn seen(&mut self, seen: &mut Time, asked: &mut [&mut Time], moments: &[Span]);
    /// The fence that the guard has acknowledged; once it has fallen it doesn't matter for whom.
    fn armed(&mut self, epoch: &mut Epoch, until: &mut Time);
    /// A time that matters only while it lies in the future.
    fn due(&mut self, time: &mut Time);
    /// The revision of this record, as somebody knows it; 0 means absent and must stay 0.
    fn revision(&mut self, key: &Key, revision: &mut Revision);
    /// The revision of an answered write, which its sender will know all that it has written by.
    fn committed(&mut self, revision: &mut Revision);
    /// The revision that what a node knows is current at.
    fn known(&mut self, revision: &mut Revision);
    /// The revision that an answer on its way is current at.
    fn answered(&mut self, revision: &mut Revision);
    /// The revision that was known when a request was sent.
    fn floor(&mut self, revision: &mut Revision);
    /// The mark of a reign.
    fn nonce(&mut self, nonce: &mut Nonce);
    /// A life of an agent.
    fn boot(&mut self, boot: &mut Boot);
    /// A copy of the data; 0 means none and must stay 0.
    fn copy(&mut self, copy: &mut CopyId);
    /// An effect under way.
    fn op(&mut self, op: &mut OpId);
    /// The highest number of an effect under way, after all were touched.
    fn last_op(&self) -> u32;
    /// A view that others may share. Says whether it was met before: then it is now what it became then.
    fn met(&mut self, view: &mut Arc<View>) -> bool;
    /// A view that was not, and what has become of it.
    fn became(&mut self, before: Arc<View>, view: &mut Arc<View>);
}

impl Node {
    /// Walks over this node.
    pub fn touch(&mut self, t: &mut dyn Touch) {
        t.boot(&mut self.boot);
        self.draws = 0;
        touch_saved(&mut self.saved, t);
        t.copy(&mut self.beyond_rewinding);
        self.given_up.iter_mut().for_each(|(copy, _)| t.copy(copy));
        touch_shared(&mut self.view, t);
        self.touch_seen(t);
        t.due(&mut self.ask_again);
        t.due(&mut self.order_again);
        self.failing.iter_mut().for_each(|failing| t.due(&mut failing.until));
        t.due(&mut self.arm_again);
        if self.config.health_age > Span::ZERO {
            t.past(&mut self.proved, self.config.health_age);
            t.past(&mut self.heard, self.config.health_age);
        }
        if let Some((epoch, until)) = &mut self.armed {
            t.armed(epoch, until);
        }
        self.touch_requests(t);
        self.touch_role(t);
        self.next_op = t.last_op();
    }

    fn touch_seen(&mut self, t: &mut dyn Touch) {
        let moments = self.moments();
        let mut asked: Vec<&mut Time> = self.read.iter_mut().collect();
        if let Some(asking) = &mut self.asking {
            if asking.put.is_empty() {
                asked.push(&mut asking.sent);
            } else {
                // When a write was sent is of no interest to anybody: a claim remembers that itself.
                asking.sent = Time(0);
            }
        }
        t.seen(&mut self.seen, &mut asked, &moments);
    }

    /// How long after a change of the lease it may be somebody's turn, in ascending order.
    fn moments(&self) -> Vec<Span> {
        let patience = self.config.handover_patience;
        match &self.view.reign {
            None => vec![self.config.ttl.times(6)],
            Some(reign) if reign.released.is_none() => vec![Span::ZERO, reign.ttl],
            Some(_) => (0..4).map(|turn| patience.times(turn)).collect(),
        }
    }

    /// How long after it was sent a request for authority is worth nothing any more.
    fn worth(&self) -> Span {
        self.config.authority() - self.config.stop_budget
    }

    fn touch_requests(&mut self, t: &mut dyn Touch) {
        let worth = self.worth();
        if let Some(asking) = &mut self.asking {
            t.op(&mut asking.id);
            t.floor(&mut asking.floor);
            asking.put.iter_mut().for_each(|record| touch_record(record, t));
        }
        if let Some(lane) = &mut self.lane {
            t.op(&mut lane.id);
        }
        if let Some(lease) = &mut self.lease {
            t.nonce(&mut lease.nonce);
            t.due(&mut lease.authority);
            t.revision(&Key::Reign, &mut lease.reign);
            t.revision(&Key::Beat, &mut lease.beat);
            t.due(&mut lease.next);
            if let Some(unsettled) = &mut lease.unsettled {
                t.past(unsettled, worth);
            }
            if let Some(sending) = &mut lease.sending {
                t.op(&mut sending.id);
                t.past(&mut sending.sent, worth);
                t.floor(&mut sending.floor);
                sending.put.iter_mut().for_each(|record| touch_record(record, t));
            }
        }
        if let Some(pending) = &mut self.pending {
            t.due(&mut pending.until);
            pending.consent.iter_mut().for_each(|consent| t.copy(&mut consent.copy));
        }
    }

    fn touch_role(&mut self, t: &mut dyn Touch) {
        let worth = self.worth();
        let turns = self.config.election_window + self.config.handover_patience.times(4);
        match &mut self.role {
            Role::Candidate(candidate) => {
                t.revision(&Key::Reign, &mut candidate.base.0);
                t.revision(&Key::Beat, &mut candidate.base.1);
                t.past(&mut candidate.since, turns);
                candidate.yields = false;
            }
            Role::Claiming(claim) => {
                t.nonce(&mut claim.nonce);
                t.past(&mut claim.sent, worth);
                t.revision(&Key::Reign, &mut claim.base.0);
                t.revision(&Key::Beat, &mut claim.base.1);
            }
            Role::Starting
            | Role::Vacant
            | Role::Bootstrap
            | Role::Standby
            | Role::Promoting
            | Role::Primary(_)
            | Role::Leaving(_)
            | Role::Frozen(_)
            | Role::Stopped => {}
        }
    }
}

/// Walks over what is kept beside the data.
pub fn touch_saved(saved: &mut Saved, t: &mut dyn Touch) {
    t.copy(&mut saved.copy);
    saved.lineage.iter_mut().for_each(|(_, nonce)| t.nonce(nonce));
}

/// Walks over what somebody knows, or the store holds. Nothing in it belongs to a host, so once is enough for all who
/// share it.
pub fn touch_shared(view: &mut Arc<View>, t: &mut dyn Touch) {
    if t.met(view) {
        return;
    }
    let before = Arc::clone(view);
    let touched = Arc::make_mut(view);
    t.known(&mut touched.as_of);
    touch_view(touched, t);
    t.became(before, view);
}

/// Walks over the records of a view.
pub fn touch_view(view: &mut View, t: &mut dyn Touch) {
    touch_at(&Key::Initialize, view.initialize.as_mut(), t, |v, t| t.boot(&mut v.boot));
    touch_at(&Key::Reign, view.reign.as_mut(), t, |v, t| {
        t.boot(&mut v.boot);
        t.nonce(&mut v.nonce);
    });
    touch_revision(&Key::Beat, view.beat.as_mut(), t);
    touch_at(&Key::Rule, view.rule.as_mut(), t, touch_rule);
    touch_revision(&Key::Switchover, view.switchover.as_mut(), t);
    touch_revision(&Key::Leader, view.leader.as_mut(), t);
    for (epoch, at) in &mut view.epochs {
        touch_at(&Key::Epoch(*epoch), Some(at), t, |v, t| t.nonce(&mut v.nonce));
    }
    for (name, at) in &mut view.pledges {
        touch_at(&Key::Pledge(name.clone()), Some(at), t, |v, t| t.copy(&mut v.copy));
    }
    for (name, at) in &mut view.members {
        touch_at(&Key::Member(name.clone()), Some(at), t, |v, t| t.copy(&mut v.copy));
    }
}

fn touch_rule(rule: &mut crate::store::Rule, t: &mut dyn Touch) {
    t.copy(&mut rule.leader_copy);
    rule.electable.values_mut().for_each(|copy| t.copy(copy));
}

fn touch_revision<T>(key: &Key, at: Option<&mut At<T>>, t: &mut dyn Touch) {
    if let Some(at) = at {
        t.revision(key, &mut at.revision);
    }
}

fn touch_at<T: Clone + PartialEq>(
    key: &Key,
    at: Option<&mut At<T>>,
    t: &mut dyn Touch,
    value: impl Fn(&mut T, &mut dyn Touch),
) {
    if let Some(at) = at {
        t.revision(key, &mut at.revision);
        // Mostly it stays as it is, and shared.
        let mut touched = T::clone(&at.value);
        value(&mut touched, t);
        if touched != *at.value {
            at.value = Arc::new(touched);
        }
    }
}

/// Walks over a record as it is written.
pub fn touch_record(record: &mut Record, t: &mut dyn Touch) {
    match record {
        Record::Initialize(v) => t.boot(&mut v.boot),
        Record::Reign(v) => {
            t.boot(&mut v.boot);
            t.nonce(&mut v.nonce);
        }
        Record::Beat(_) | Record::Switchover(_) | Record::Leader(_) => {}
        Record::Rule(v) => touch_rule(v, t),
        Record::Epoch(v) => t.nonce(&mut v.nonce),
        Record::Pledge(v) => t.copy(&mut v.copy),
        Record::Member(v) => t.copy(&mut v.copy),
    }
}

/// Walks over a request on its way.
pub fn touch_request(request: &mut Request, t: &mut dyn Touch) {
    if let Request::Transact(Txn { compare, put }) = request {
        compare.iter_mut().for_each(|(key, revision)| t.revision(key, revision));
        put.iter_mut().for_each(|record| touch_record(record, t));
    }
}

/// Walks over an answer on its way.
pub fn touch_response(response: &mut Response, t: &mut dyn Touch) {
    match response {
        Response::Read(Some(view)) | Response::Transact(Answer::Refused(view)) => {
            t.answered(&mut view.as_of);
            touch_view(view, t);
        }
        Response::Transact(Answer::Committed(revision)) => t.committed(revision),
        Response::Read(None) | Response::Transact(Answer::Unknown) => {}
    }
}

/// Walks over news on its way.
pub fn touch_news(news: &mut News, t: &mut dyn Touch) {
    if let News::Changed(revision, records) = news {
        t.committed(revision);
        records.iter_mut().for_each(|record| touch_record(record, t));
    }
}
