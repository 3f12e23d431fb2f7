//! A walk over everything in a node that is only meaningful relative to something else: times, revisions, random
//! marks, numbers of effects. The model checker uses it to give states one canonical form; a debugger could use it to
//! show them.

use crate::instance::Saved;
use crate::node::Node;
use crate::store::{Answer, News, Txn};
use crate::store::{At, Record, Request, Response, View};
use crate::{Boot, CopyId, Nonce, OpId, Revision, Role, Time};
use alloc::sync::Arc;

/// Takes each such value in a fixed order.
pub trait Touch {
    /// A time of which it matters how long ago it was.
    fn past(&mut self, time: &mut Time);
    /// A time that matters only while it lies in the future.
    fn due(&mut self, time: &mut Time);
    /// A revision of the store; 0 means absent and must stay 0.
    fn revision(&mut self, revision: &mut Revision);
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
}

impl Node {
    /// Walks over this node.
    pub fn touch(&mut self, t: &mut dyn Touch) {
        t.boot(&mut self.boot);
        self.draws = 0;
        touch_saved(&mut self.saved, t);
        touch_view(Arc::make_mut(&mut self.view), t);
        t.past(&mut self.seen);
        if let Some(read) = &mut self.read {
            t.past(read);
        }
        t.due(&mut self.ask_again);
        t.due(&mut self.order_again);
        if let Some((_, until)) = &mut self.armed {
            t.due(until);
        }
        self.touch_requests(t);
        self.touch_role(t);
        self.next_op = t.last_op();
    }

    fn touch_requests(&mut self, t: &mut dyn Touch) {
        if let Some(asking) = &mut self.asking {
            t.op(&mut asking.id);
            t.past(&mut asking.sent);
            t.revision(&mut asking.floor);
            asking.put.iter_mut().for_each(|record| touch_record(record, t));
        }
        if let Some(lane) = &mut self.lane {
            t.op(&mut lane.id);
            if let Some(saved) = &mut lane.becomes {
                touch_saved(saved, t);
            }
        }
        if let Some(lease) = &mut self.lease {
            t.nonce(&mut lease.nonce);
            t.due(&mut lease.authority);
            t.revision(&mut lease.reign);
            t.revision(&mut lease.beat);
            t.due(&mut lease.next);
            if let Some(unsettled) = &mut lease.unsettled {
                t.past(unsettled);
            }
            if let Some(sending) = &mut lease.sending {
                t.op(&mut sending.id);
                t.past(&mut sending.sent);
                t.revision(&mut sending.floor);
                sending.put.iter_mut().for_each(|record| touch_record(record, t));
            }
        }
        if let Some(pending) = &mut self.pending {
            t.due(&mut pending.until);
        }
    }

    fn touch_role(&mut self, t: &mut dyn Touch) {
        match &mut self.role {
            Role::Candidate(candidate) => {
                t.revision(&mut candidate.base.0);
                t.revision(&mut candidate.base.1);
                t.past(&mut candidate.since);
            }
            Role::Claiming(claim) => {
                t.nonce(&mut claim.nonce);
                t.past(&mut claim.sent);
                t.revision(&mut claim.base.0);
                t.revision(&mut claim.base.1);
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

/// Walks over a view.
pub fn touch_view(view: &mut View, t: &mut dyn Touch) {
    t.revision(&mut view.as_of);
    touch_at(view.initialize.as_mut(), t, |v, t| t.boot(&mut v.boot));
    touch_at(view.reign.as_mut(), t, |v, t| {
        t.boot(&mut v.boot);
        t.nonce(&mut v.nonce);
    });
    touch_at(view.beat.as_mut(), t, |_, _| {});
    touch_at(view.rule.as_mut(), t, touch_rule);
    touch_at(view.switchover.as_mut(), t, |_, _| {});
    touch_at(view.leader.as_mut(), t, |_, _| {});
    view.epochs.values_mut().for_each(|at| touch_at(Some(at), t, |v, t| t.nonce(&mut v.nonce)));
    view.pledges.values_mut().for_each(|at| touch_at(Some(at), t, |v, t| t.copy(&mut v.copy)));
    view.members.values_mut().for_each(|at| touch_at(Some(at), t, |v, t| t.copy(&mut v.copy)));
}

fn touch_rule(rule: &mut crate::store::Rule, t: &mut dyn Touch) {
    t.copy(&mut rule.leader_copy);
    rule.electable.values_mut().for_each(|copy| t.copy(copy));
}

fn touch_at<T: Clone>(at: Option<&mut At<T>>, t: &mut dyn Touch, value: impl Fn(&mut T, &mut dyn Touch)) {
    if let Some(at) = at {
        t.revision(&mut at.revision);
        value(Arc::make_mut(&mut at.value), t);
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
        compare.iter_mut().for_each(|(_, revision)| t.revision(revision));
        put.iter_mut().for_each(|record| touch_record(record, t));
    }
}

/// Walks over an answer on its way.
pub fn touch_response(response: &mut Response, t: &mut dyn Touch) {
    match response {
        Response::Read(Some(view)) | Response::Transact(Answer::Refused(view)) => touch_view(view, t),
        Response::Transact(Answer::Committed(revision)) => t.revision(revision),
        Response::Read(None) | Response::Transact(Answer::Unknown) => {}
    }
}

/// Walks over news on its way.
pub fn touch_news(news: &mut News, t: &mut dyn Touch) {
    if let News::Changed(revision, records) = news {
        t.revision(revision);
        records.iter_mut().for_each(|record| touch_record(record, t));
    }
}
