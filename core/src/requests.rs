//! What operators ask of a member. A wish is written into the store, bound to the present reign; its holder does it or
//! says why not, and the member that was asked tells the truth about what came of it (hazard G18).

use crate::effect::Reply;
use crate::instance::Instance;
use crate::node::{Node, Out};
use crate::role::Role;
use crate::store::{Key, Record, Refusal, Switchover};
use crate::{Command, CopyId, Effect, Epoch, Event, Lsn, Name, Position, RequestId, Span, Time, lineage};
use alloc::vec;

/// A request that awaits its answer.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Pending {
    pub request: RequestId,
    pub epoch: Epoch,
    pub to: Option<Name>,
    /// Our wish stands in the store.
    pub written: bool,
    /// No wish: an operator lets this node stand.
    pub consent: Option<Consent>,
    pub until: Time,
}

/// What an operator has consented to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Consent {
    /// The copy by which this node may stand.
    pub copy: CopyId,
    /// How far the holder's WAL went as far as was known then: nobody has accepted that more is lost.
    pub published: Lsn,
}

/// How long an operator waits for an answer: Patroni's clients wait that long, too.
const PATIENCE: Span = Span::secs(20);

impl Node {
    pub(crate) fn commanded(&mut self, out: &mut Out, request: RequestId, command: Command) {
        match command {
            Command::Shutdown => self.exiting = true,
            Command::Switchover { to } => self.wish_switchover(out, request, to),
            Command::Failover { consent } => self.allow_failover(out, request, consent),
            Command::Reinit { consent } => {
                let reply = self.give_up_copy(out, consent);
                out.push(Effect::Reply(request, reply));
            }
        }
    }

    /// A copy that is part of the history of a primary that lives has nothing that others lack.
    fn give_up_copy(&mut self, out: &mut Out, consent: bool) -> Reply {
        if self.lease.is_some() {
            return Reply::AlreadyPrimary;
        }
        if self.frozen.is_some() {
            return Reply::Refused(Refusal::NotEligible);
        }
        let Some((source, epoch)) = self.living_source(out.now) else { return Reply::NoPrimary };
        let idle = matches!(self.role, Role::Standby | Role::Vacant) && !self.exiting;
        let replacing = self.lane.as_ref().is_some_and(|lane| lane.op.replaces());
        let data = match &self.instance {
            _ if !idle || replacing || self.pending.is_some() => return Reply::Busy,
            Instance::Unknown | Instance::Primary { .. } => return Reply::Busy,
            Instance::Absent | Instance::Incomplete | Instance::Foreign(_) => return Reply::Reinitializes,
            Instance::Stopped { data, .. } | Instance::Standby { data, .. } => data.clone(),
        };
        let published = self.view.beat.as_ref().map_or(Lsn(0), |beat| beat.end);
        if self.is_contained(&data) != Some(true) && !consent {
            return Reply::MayLose { ours: data.position, published: Position { epoch, lsn: published } };
        }
        self.given_up = Some((self.saved.copy, epoch));
        out.tell(Event::Reinitializes { source, position: data.position });
        Reply::Reinitializes
    }

    fn allow_failover(&mut self, out: &mut Out, request: RequestId, consent: bool) {
        let reply = match (&self.view.reign, self.instance.data()) {
            (None, _) => Reply::NoPrimary,
            (Some(_), _) if self.pending.is_some() => Reply::Busy,
            (Some(_), _) if self.lease.is_some() => Reply::AlreadyPrimary,
            (Some(reign), Some(data)) if self.may_be_allowed() => {
                let end = self.view.beat.as_ref().map_or(Lsn(0), |beat| beat.end);
                let published = Position { epoch: reign.epoch, lsn: end };
                let (ours, epoch) = (data.position, reign.epoch);
                if consent {
                    let until = out.now + PATIENCE.max(reign.ttl + reign.ttl);
                    let to = Some(self.config.me.clone());
                    let consent = Some(Consent { copy: self.saved.copy, published: end });
                    self.pending = Some(Pending { request, epoch, to, written: true, consent, until });
                    return out.tell(Event::Consented { ours, published });
                }
                Reply::MayLose { ours, published }
            }
            (Some(_), _) => Reply::Refused(Refusal::NotEligible),
        };
        out.push(Effect::Reply(request, reply));
    }

    /// Whether this copy could be led from: others must be able to tell where it left the history.
    fn may_be_allowed(&self) -> bool {
        let known = self.config.priority > 0 && !self.is_promoted_by_hand() && self.frozen.is_none();
        let Instance::Standby { data, ready: true, .. } = &self.instance else { return false };
        known && lineage::is_known(&self.saved, data) && lineage::tells_apart(&self.view, &self.saved)
    }

    /// Whether an operator lets this node stand in the place of the holder of this epoch, with just the copy it has.
    pub(crate) fn is_allowed(&self, epoch: Epoch) -> bool {
        let pending =
            self.pending.as_ref().filter(|pending| pending.epoch == epoch && !self.has_gone_on(pending));
        pending.and_then(|pending| pending.consent).is_some_and(|consent| consent.copy == self.saved.copy)
    }

    /// Whether the holder is known to have written more since an operator has consented.
    fn has_gone_on(&self, pending: &Pending) -> bool {
        let beat = self.view.beat.as_ref().filter(|beat| beat.epoch == pending.epoch);
        let (end, consent) = (beat.map(|beat| beat.end), pending.consent.as_ref());
        consent.is_some_and(|consent| end > Some(consent.published))
    }

    fn wish_switchover(&mut self, out: &mut Out, request: RequestId, to: Option<Name>) {
        let refusal = match (&self.view.reign, &self.view.rule) {
            (Some(_), _) if self.pending.is_some() => Some(Reply::Busy),
            (Some(reign), Some(rule)) if rule.epoch == reign.epoch && reign.released.is_none() => {
                (to.as_ref() == Some(&reign.holder)).then_some(Reply::AlreadyPrimary)
            }
            (_, _) => Some(Reply::NoPrimary),
        };
        match refusal {
            Some(reply) => out.push(Effect::Reply(request, reply)),
            None => {
                let epoch = self.view.reign.as_ref().map_or(Epoch(0), |reign| reign.epoch);
                let until = out.now + PATIENCE;
                self.pending = Some(Pending { request, epoch, to, written: false, consent: None, until });
            }
        }
    }

    /// Writes the wish, and answers once it is known what came of it.
    pub(crate) fn tend_request(&mut self, out: &mut Out) {
        self.settle_wish();
        let Some(pending) = self.pending.clone() else { return };
        if let Some(reply) = self.outcome(out.now, &pending) {
            self.pending = None;
            out.push(Effect::Reply(pending.request, reply));
            return;
        }
        if pending.written || self.stale {
            return;
        }
        let wish = Switchover { epoch: pending.epoch, to: pending.to, refused: None };
        let known = self.view.switchover.as_ref();
        if known.is_some_and(|known| *known.value == wish) {
            if let Some(pending) = &mut self.pending {
                pending.written = true;
            }
        } else {
            self.ask_to_put(out, &[Key::Reign], vec![Record::Switchover(wish)]);
        }
    }

    fn outcome(&self, now: Time, pending: &Pending) -> Option<Reply> {
        let reign = self.view.reign.as_ref()?;
        let activated = self.view.rule.as_ref().is_some_and(|rule| rule.epoch == reign.epoch);
        if reign.epoch > pending.epoch && activated {
            return Some(Reply::SwitchedTo(reign.holder.clone()));
        }
        if self.has_gone_on(pending) || (pending.consent.is_some() && now >= pending.until) {
            let lives = reign.released.is_none() && now < self.seen + reign.ttl;
            return Some(if lives { Reply::HolderLives } else { Reply::Unknown });
        }
        // Not that of a failover: another's switchover may have been refused in this reign.
        let asked = pending.written && pending.consent.is_none();
        let wish = self.view.switchover.as_ref().filter(|wish| asked && wish.epoch == pending.epoch);
        if let Some(why) = wish.and_then(|wish| wish.refused) {
            return Some(Reply::Refused(why));
        }
        (now >= pending.until).then_some(Reply::Unknown)
    }
}
