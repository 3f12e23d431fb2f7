//! What operators ask of a member. A wish is written into the store, bound to the present reign; its holder does it or
//! says why not, and the member that was asked tells the truth about what came of it (hazard G18).

use crate::effect::Reply;
use crate::node::{Node, Out};
use crate::store::{Key, Record, Switchover};
use crate::{Command, Effect, Epoch, Name, RequestId, Span, Time};
use alloc::vec;

/// A request that awaits its answer.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Pending {
    pub request: RequestId,
    pub epoch: Epoch,
    pub to: Option<Name>,
    /// Our wish stands in the store.
    pub written: bool,
    pub until: Time,
}

/// How long an operator waits for an answer: Patroni's clients wait that long, too.
const PATIENCE: Span = Span::secs(20);

impl Node {
    pub(crate) fn commanded(&mut self, out: &mut Out, request: RequestId, command: Command) {
        match command {
            Command::Shutdown => self.exiting = true,
            Command::Switchover { to } => self.wish_switchover(out, request, to),
        }
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
                self.pending = Some(Pending { request, epoch, to, written: false, until });
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
        let wish =
            self.view.switchover.as_ref().filter(|wish| pending.written && wish.epoch == pending.epoch);
        if let Some(why) = wish.and_then(|wish| wish.refused) {
            return Some(Reply::Refused(why));
        }
        (now >= pending.until).then_some(Reply::Unknown)
    }
}
