//! Holds the lease, and PostgreSQL is writable.

use super::Role;
use super::leaving::Why;
use crate::instance::{Instance, Op};
use crate::node::{Blind, Node, Out, Timer};
use crate::store::{EpochRecord, Record, Refusal, Reign, Released, Switchover};
use crate::{Event, Name, Span, Time};
use alloc::vec::Vec;

/// Whoever is woken so much later than it wanted was away.
const LATE: Span = Span::millis(500);

/// What a look may take.
const LOOK: Span = Span::secs(1);

/// What a primary remembers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Reigning {
    /// Restarts in place in this reign so far.
    pub(crate) restarts: u8,
    /// A switchover is under way: to this member. The checkpoint before it is being written.
    pub(crate) handing: Option<Name>,
    /// A switchover that can't be done, to be written into its record.
    pub(crate) refusal: Option<Refusal>,
    /// The archive was opened, and a checkpoint begun.
    pub(crate) settled: bool,
}

impl Node {
    pub(super) fn primary(&mut self, out: &mut Out) -> Option<Role> {
        if self.hangs(out.now) && self.may_be_replaced() {
            out.tell(Event::PrimaryHangs { unproved: out.now.since(self.proved) });
            self.leave(out, Why::GivenUp);
            return None;
        }
        if self.writable_on_own_timeline().is_some() {
            self.serve(out);
            return None;
        }
        match &self.instance {
            Instance::Stopped { .. } => self.restart_in_place(out),
            Instance::Unknown => self.order(out, Op::Look),
            Instance::Primary { .. }
            | Instance::Standby { .. }
            | Instance::Absent
            | Instance::Incomplete
            | Instance::Foreign(_) => {
                out.tell(Event::PrimaryGivenUp);
                self.leave(out, Why::GivenUp);
            }
        }
        None
    }

    /// Something shows that PostgreSQL does its work, or begins to be asked for it.
    pub(crate) fn note_proof(&mut self, now: Time, proved: bool) {
        if proved && self.config.health_age > Span::ZERO {
            self.proved = now;
        }
    }

    /// An agent that was frozen, or a host that was suspended, has seen nothing of a PostgreSQL that may have worked all the
    /// time: it looks once more before it concludes anything.
    pub(crate) fn excuse_absence(&mut self, now: Time) {
        let (age, heard) = (self.config.health_age, self.heard);
        if age == Span::ZERO {
            return;
        }
        self.heard = now;
        let late = self.deadline(heard).is_some_and(|(due, _)| now > due + LATE);
        if late && matches!(self.role, Role::Primary(_)) {
            self.proved = self.proved.max(now - (age - LOOK));
        }
    }

    /// From when on a primary that nothing more is known of hangs. That its processes are gone is another matter, and
    /// what is being ordered of it fails by itself if it hangs.
    fn hangs_from(&self) -> Option<Time> {
        let asked = self.lane.as_ref().is_none_or(|lane| lane.op == Op::Look);
        let runs = matches!(self.instance, Instance::Primary { .. } | Instance::Unknown);
        (self.config.health_age > Span::ZERO && asked && runs).then(|| self.proved + self.config.health_age)
    }

    /// Whether the last proof that PostgreSQL does its work is too old.
    pub(super) fn hangs(&self, now: Time) -> bool {
        self.hangs_from().is_some_and(|from| now >= from)
    }

    pub(super) fn primary_timers(&self, timer: &mut dyn FnMut(Time, Timer)) {
        if let Some(from) = self.hangs_from().filter(|_| self.may_be_replaced()) {
            timer(from, Timer::Health);
        }
    }

    /// Whether another member may lead once the lease is given back.
    fn may_be_replaced(&self) -> bool {
        let epoch = self.lease.as_ref().map(|lease| lease.epoch);
        let rule = self.view.rule.as_ref().filter(|rule| Some(rule.epoch) == epoch);
        rule.is_some_and(|rule| !rule.electable.is_empty())
    }

    /// The processes died. This node still has the lease, so it may start them again on the same timeline.
    fn restart_in_place(&mut self, out: &mut Out) {
        if self.exiting {
            return self.leave(out, Why::Exit);
        }
        let Role::Primary(reigning) = &mut self.role else { return };
        if reigning.restarts >= self.config.restarts_max {
            out.tell(Event::PrimaryGivenUp);
            return self.leave(out, Why::GivenUp);
        }
        if self.lane.is_some() {
            return;
        }
        self.open(out, Op::StartInPlace);
        if let (Some(_), Role::Primary(reigning)) = (&self.lane, &mut self.role) {
            reigning.restarts += 1;
            reigning.settled = false;
            out.tell(Event::PrimaryDied { restart: reigning.restarts });
        }
    }

    fn serve(&mut self, out: &mut Out) {
        let wish = self.wish();
        if self.exiting && wish.is_none() {
            return self.order(out, Op::Checkpoint);
        }
        let Role::Primary(reigning) = &self.role else { return };
        let Some(wish) = wish else {
            if !reigning.settled {
                self.order(out, Op::Settle);
            }
            return;
        };
        if reigning.handing.is_some() {
            return self.order(out, Op::Checkpoint);
        }
        if reigning.refusal.is_some() {
            return;
        }
        let target = self.target(wish.to.as_ref());
        let Role::Primary(reigning) = &mut self.role else { return };
        match target {
            Ok(to) => {
                reigning.handing = Some(to);
                self.order(out, Op::Checkpoint);
            }
            Err(why) => {
                out.tell(Event::SwitchoverRefused { why });
                reigning.refusal = Some(why);
            }
        }
    }

    /// An operator's wish that is meant for just this reign.
    fn wish(&self) -> Option<Switchover> {
        let epoch = self.lease.as_ref()?.epoch;
        let wish = self.view.switchover.as_ref()?;
        (wish.epoch == epoch && wish.refused.is_none()).then(|| Switchover::clone(&wish.value))
    }

    /// The checkpoint before a stop is written (or failed, which only makes the stop longer).
    pub(crate) fn checkpointed(&mut self, out: &mut Out) {
        let Role::Primary(reigning) = &self.role else { return };
        if let Some(to) = reigning.handing.clone() {
            out.tell(Event::HandsOver { to: Some(to.clone()) });
            self.leave(out, Why::HandOver(Some(to)));
        } else if self.exiting {
            self.leave(out, Why::Exit);
        }
    }

    /// What the holder wants written, beside its sign of life.
    pub(crate) fn wanted_records(&self) -> Vec<Record> {
        let mut wanted = Vec::new();
        let Some(lease) = &self.lease else { return wanted };
        match &self.role {
            Role::Promoting | Role::Primary(_) => {
                if self.writable_on_own_timeline().is_none() {
                    return wanted;
                }
                let rule = self.wanted_rule(lease.epoch);
                if self.view.rule.as_ref().is_none_or(|known| *known.value != rule) {
                    wanted.push(Record::Rule(rule));
                }
                wanted.extend(self.unverified_epochs());
                wanted.extend(self.refused_switchover());
            }
            Role::Leaving(leaving) => wanted.extend(self.release(&leaving.why)),
            Role::Starting
            | Role::Vacant
            | Role::Bootstrap
            | Role::Standby
            | Role::Candidate(_)
            | Role::Claiming(_)
            | Role::Frozen(_)
            | Role::Stopped => {}
        }
        wanted
    }

    /// The reigns of this copy's history whose place in it isn't written yet: its own, and any before it whose holder
    /// promoted but could not write any more. And its own once more, when others can be rewound to it.
    fn unverified_epochs(&self) -> impl Iterator<Item = Record> {
        let history = self.instance.data().into_iter().flat_map(|data| data.forks.iter());
        history.filter_map(|(epoch, fork)| {
            let known = self.view.epochs.get(epoch)?;
            let ours = self.saved.lineage.contains(&(*epoch, known.nonce));
            let wanted = EpochRecord { fork: known.fork.or(Some(*fork)), ..EpochRecord::clone(&known.value) };
            ours.then(|| self.with_checkpoint(wanted))
                .filter(|wanted| *wanted != *known.value)
                .map(Record::Epoch)
        })
    }

    /// Says of the reign of this node that it can be rewound to, as soon as that is seen.
    fn with_checkpoint(&self, record: EpochRecord) -> EpochRecord {
        let present = self.lease.as_ref().is_some_and(|lease| lease.epoch == record.epoch);
        let seen = matches!(self.instance, Instance::Primary { checkpointed: true, .. });
        EpochRecord { checkpointed: record.checkpointed || (present && seen), ..record }
    }

    fn refused_switchover(&self) -> Option<Record> {
        let Role::Primary(Reigning { refusal: Some(why), .. }) = &self.role else { return None };
        Some(Record::Switchover(Switchover { refused: Some(*why), ..self.wish()? }))
    }

    /// The reign given back, once no process of the instance is left.
    fn release(&self, why: &Why) -> Option<Record> {
        let reign = self.view.reign.as_ref().filter(|reign| reign.released.is_none())?;
        let end = match (&self.instance, &self.lane) {
            (Instance::Stopped { data, clean, .. }, None) => clean.then_some(data.position.lsn),
            (Instance::Absent | Instance::Incomplete, None) => None,
            // All is killed; what is on disk can't be told.
            (Instance::Unknown, None) if self.blind == Blind::Killed => None,
            (_, _) => return None,
        };
        let to = if let Why::HandOver(to) = why { to.clone() } else { None };
        let released = Some(Released { end, to });
        Some(Record::Reign(Reign { released, ..Reign::clone(&reign.value) }))
    }

    /// Clears what an answered wish left behind.
    pub(crate) fn settle_wish(&mut self) {
        let answered = self.view.switchover.as_ref().is_none_or(|wish| wish.refused.is_some());
        if let Role::Primary(reigning) = &mut self.role
            && answered
        {
            reigning.refusal = None;
        }
    }
}
