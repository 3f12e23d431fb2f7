//! Bringing a copy back that was away, and helping others back: rewinds and what is moved aside, WAL that is gone, the
//! elected history, slots for members that are away.

use super::{AGAIN, LOOK, Local, failure, saved, unsaved};
use crate::clock::{BootClock, instant, now};
use primacy_core::instance::{Failure, Instance, Order, Saved};
use primacy_core::store::View;
use primacy_core::{Epoch, Name, Span, Time, lineage};
use primacy_driver::Clock;
use primacy_postgres::{Forks, Found as AtRest, Instant, Position, Upstream};
use std::collections::BTreeSet;
use std::time::Duration;

/// Between two looks at the slots while the members stay the same.
const SLOTS: Span = Span::secs(10);

/// How long a new primary's checkpoint may take. One that isn't done by then goes on in PostgreSQL all the same.
const CHECKPOINT: Span = Span::secs(3_600);

/// How long the source and the archive may take to say whether they have some WAL: a miss can be slow.
const SEARCH: Duration = Duration::from_secs(60);

/// For so long it is waited for.
const PROMPT: Span = Span::secs(1);

/// What slots were last kept for.
#[derive(Debug, Default)]
pub(super) struct Slots {
    members: BTreeSet<String>,
    at: Option<Time>,
}

impl Slots {
    /// Whether nothing has to be done for these members just now.
    fn hold(&self, members: &BTreeSet<String>) -> bool {
        self.members == *members && self.at.is_some_and(|at| now().since(at) < SLOTS)
    }
}

impl Local {
    /// Brings the copy back to the history of a primary. The marker is durable before the first byte changes, and goes
    /// when the copy is whole again, under its new name.
    pub(super) async fn rewind(&self, from: &Name, order: &Order) -> Result<(), Failure> {
        let (source, by) = (self.upstream(from)?, instant(order.until));
        let data_dir = &self.settings.postgres.data_dir;
        self.postgres.end_leftovers(by).await.map_err(failure)?;
        self.describe(&format!("rewound to the history of {from}"), order.left, half(order)).await;
        let before = saved::load(data_dir, &self.run_dir).map_err(unsaved)?;
        saved::begin_mending(data_dir, &order.saved).map_err(unsaved)?;
        match self.postgres.rewind(&source, order.epoch.0, by).await {
            Ok(()) => {
                let whole = Saved { mending: false, ..order.saved.clone() };
                let identity = serde_json::to_value(&whole).map_err(|why| unsaved(why.into()))?;
                self.postgres.set_identity(&identity).await.map_err(failure)?;
                saved::forget_mending(data_dir).map_err(unsaved)
            }
            // It may be in pieces: the marker stays.
            Err(error @ primacy_postgres::Error::Unrewindable(_)) => Err(failure(error)),
            // The data are still their own.
            Err(error) => {
                debug_assert!(!before.mending, "half a copy is never rewound");
                saved::forget_mending(data_dir).map_err(unsaved)?;
                Err(failure(error))
            }
        }
    }

    /// Moves the data directory aside, with all that is known about it.
    pub(super) async fn set_aside(&self, order: &Order) -> Result<(), Failure> {
        let by = instant(order.until);
        self.postgres.end_leftovers(by).await.map_err(failure)?;
        let aside = self.describe("not part of the elected history", order.left, half(order)).await;
        let aside = self.postgres.set_aside(&aside, by).await.map_err(failure)?;
        tracing::warn!(path = %aside.display(), "moved the data directory aside");
        saved::forget_mending(&self.settings.postgres.data_dir).map_err(unsaved)
    }

    /// Whatever an agent before this one has left at work on the data directory.
    pub(super) async fn end_leftovers(&self) {
        if let Err(error) = self.postgres.end_leftovers(instant(now() + LOOK)).await {
            tracing::error!(%error, "an earlier agent's programs are still at work on the data directory");
        }
    }

    /// Opens the archive, and begins a checkpoint: nobody can be rewound to this primary before it is written.
    pub(super) async fn settle(&self, by: Instant) -> Result<(), Failure> {
        self.postgres.open_archive(by).await.map_err(failure)?;
        if !matches!(*self.last.borrow(), Instance::Primary { checkpointed: true, .. }) {
            let postgres = self.postgres.clone();
            tokio::spawn(async move {
                if let Err(error) = postgres.checkpoint(instant(now() + CHECKPOINT)).await {
                    tracing::warn!(%error, "the checkpoint after the promotion");
                }
            });
        }
        Ok(())
    }

    /// The elected history, as far as it is known here: only its timelines are fetched from the archive.
    pub(super) fn history(&self) -> Forks {
        let seen = self.board.look();
        seen.node.as_ref().map(|node| elected(node.view())).unwrap_or_default()
    }

    /// Whether the WAL that a standby without a stream needs next is gone for good. An answer that doesn't come at once
    /// is taken at a later look.
    pub(super) async fn look_for_wal(&self, source: &Upstream) {
        let (postgres, source, history) = (self.postgres.clone(), source.clone(), self.history());
        let question = async move {
            let by = Instant::now() + SEARCH;
            postgres.source_lacks_wal(&source, &history, by).await
        };
        if self.search.borrow_mut().begin(question) {
            let end = now() + PROMPT;
            while !self.search.borrow().is_answered() && now() < end {
                BootClock.sleep_until(now() + AGAIN).await;
            }
        }
        let Some(answer) = self.search.borrow_mut().take() else { return };
        let Ok(answer) = answer.await else { return };
        if let Some(gone) = self.search.borrow_mut().weigh(answer, SEARCH) {
            self.starved.set(gone);
        }
    }

    /// Whatever was found out, or is still being asked, about WAL that is gone: it was of another stream.
    pub(super) fn forget_wal(&self) {
        self.starved.set(false);
        self.search.take();
    }

    /// Keeps WAL for the members that are known, whether they are there or not.
    pub(super) async fn keep_slots(&self, instance: &Instance) {
        if !matches!(instance, Instance::Primary { .. }) {
            self.slots.take();
            return;
        }
        let members: BTreeSet<String> = {
            let seen = self.board.look();
            let view = seen.node.as_ref().map(|node| node.view());
            view.iter().flat_map(|view| view.members.keys()).map(ToString::to_string).collect()
        };
        if members.is_empty() || self.slots.borrow().hold(&members) {
            return;
        }
        if let Err(error) = self.postgres.keep_slots(&members, instant(now() + LOOK)).await {
            tracing::warn!(%error, "not all members have a slot");
        }
        self.slots.replace(Slots { members, at: Some(now()) });
    }

    /// Whether what runs was started in recovery.
    pub(super) fn starts_in_recovery(&self) -> bool {
        self.settings.postgres.data_dir.join("standby.signal").is_file()
    }

    /// A standby that takes no connections yet: its files tell how far it is.
    pub(super) async fn starting(&self, by: Instant) -> Instance {
        match self.postgres.inspect(by).await {
            Ok(AtRest::Present(present)) => Instance::Standby {
                data: super::data(present.system_id, present.position, &present.forks),
                source: self.source.borrow().clone(),
                streaming: false,
                ready: false,
                starved: self.source.borrow().is_some() && self.starved.get(),
            },
            Ok(AtRest::Absent | AtRest::Foreign(_) | AtRest::Incomplete(_)) => Instance::Unknown,
            Err(error) => {
                tracing::warn!(%error, "could not look at an instance that is starting");
                Instance::Unknown
            }
        }
    }
}

/// Half of the time that is left for an order.
fn half(order: &Order) -> Instant {
    instant(now() + Span(order.until.since(now()).0 / 2))
}

/// The way to the present reign, with the place where each timeline left the one before.
fn elected(view: &View) -> Forks {
    let reign = view.reign.as_ref().map_or(Epoch(0), |reign| reign.epoch);
    let steps = lineage::path(view, reign).unwrap_or_default();
    let fork = |epoch: Epoch| view.epochs.get(&epoch)?.fork;
    let steps = steps.into_iter().filter_map(|(epoch, _)| {
        let fork = fork(epoch)?;
        Some((epoch.0, Position { timeline: fork.epoch.0, lsn: fork.lsn.0 }))
    });
    steps.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use primacy_core::store::{EpochRecord, Record, Reign};
    use primacy_core::{Boot, Lsn, MachineId, Nonce, Revision};

    #[test]
    fn only_what_was_elected_is_history() {
        let mut view = View::default();
        let at = |epoch, lsn| primacy_core::Position { epoch: Epoch(epoch), lsn: Lsn(lsn) };
        for (epoch, fork) in [(1, Some(at(0, 0))), (2, None), (3, Some(at(1, 100)))] {
            let (epoch, holder, nonce) = (Epoch(epoch), "a".into(), Nonce(1));
            let record = EpochRecord { epoch, holder, nonce, fork, checkpointed: false };
            view.put(Record::Epoch(record), Revision(1));
        }
        assert_eq!(elected(&view), Forks::new());
        let (epoch, holder, ttl) = (Epoch(3), "a".into(), Span::secs(5));
        let (boot, machine, nonce) = (Boot(1), MachineId(0), Nonce(1));
        let reign = Reign { epoch, holder, boot, machine, nonce, ttl, released: None };
        view.put(Record::Reign(reign), Revision(2));
        let place = |timeline, lsn| Position { timeline, lsn };
        assert_eq!(elected(&view), Forks::from([(1, place(0, 0)), (3, place(1, 100))]));
    }
}
