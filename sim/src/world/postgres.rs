//! A fake PostgreSQL: timelines, flushed WAL, processes. A WAL record is a number; what matters is which timeline it
//! is on and how far the log goes.

use super::event::HostId;
use primacy_core::{Epoch, Lsn, Position, SystemId};
use std::collections::BTreeMap;
use std::sync::Arc;

/// The instance on one host.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Postgres {
    /// The data directory; none if absent.
    pub data: Option<Data>,
    /// The processes.
    pub process: Process,
    /// Sessions that outlived their postmaster may still commit.
    pub orphans: bool,
    /// Copies moved aside so far.
    pub aside: u8,
    /// In recovery: its own WAL is not replayed yet, and it takes no connections.
    pub replays: bool,
    /// Its processes are stopped.
    pub stopped: bool,
    /// Its storage hangs.
    pub stuck: bool,
    /// Its processes were killed, and go when the storage answers.
    pub doomed: bool,
    /// When it last began to hang, or its agent to run, in true time; of no meaning while it doesn't hang.
    pub hangs_since: u64,
}

/// The processes of an instance.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Process {
    /// None.
    #[default]
    Down,
    /// In recovery, with the member and epoch its walreceiver was told to follow.
    Recovery(Option<(HostId, Epoch)>),
    /// Writable.
    Primary,
}

/// A complete data directory.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Data {
    /// The cluster it belongs to.
    pub system: SystemId,
    /// The timelines its WAL passes through, oldest first.
    pub timelines: Vec<Timeline>,
    /// The end of the WAL held durably.
    pub end: Lsn,
    /// Shut down in order.
    pub clean: bool,
    /// `standby.signal` is there.
    pub signal: bool,
    /// The timeline of the latest checkpoint, as `pg_control` says.
    pub checkpoint: Epoch,
    /// WAL before this is gone.
    pub kept_from: Lsn,
    /// Its `pg_control` is missing.
    pub damaged: bool,
    /// It has pages of two histories, and can't be recovered: what an interrupted or misled rewind leaves.
    pub torn: bool,
}

/// A stretch of WAL written by one primary.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timeline {
    /// Its number, as PostgreSQL sees it.
    pub epoch: Epoch,
    /// Who promoted: what PostgreSQL can't see, but the invariants can.
    pub by: HostId,
    /// Where it left the one before.
    pub start: Lsn,
}

impl Data {
    /// What initdb makes.
    pub fn new(by: HostId) -> Data {
        let first = Timeline { epoch: Epoch(1), by, start: Lsn(0) };
        Data {
            system: SystemId(7_000 + u64::from(by)),
            timelines: vec![first],
            end: Lsn(0),
            clean: true,
            signal: false,
            checkpoint: Epoch(1),
            kept_from: Lsn(0),
            damaged: false,
            torn: false,
        }
    }

    /// The timeline that holds its last record. A timeline that was switched to but has no record yet doesn't count.
    pub fn position(&self) -> Position {
        let last = self.timelines.iter().rev().find(|t| t.start < self.end || t.start == Lsn(0));
        Position { epoch: last.map_or(Epoch(0), |t| t.epoch), lsn: self.end }
    }

    /// The timeline a promotion or start would write.
    pub fn timeline(&self) -> Option<&Timeline> {
        self.timelines.last()
    }

    /// What its history file says.
    pub fn forks(&self) -> Arc<BTreeMap<Epoch, Position>> {
        let mut before = Epoch(0);
        let forks = self.timelines.iter().map(|timeline| {
            let fork = Position { epoch: before, lsn: timeline.start };
            before = timeline.epoch;
            (timeline.epoch, fork)
        });
        Arc::new(forks.collect())
    }

    /// Whether a standby with this data can stream from `source`, as PostgreSQL judges: the source's history names the
    /// standby's timeline and doesn't leave it before the standby's end. PostgreSQL compares numbers only.
    pub fn can_stream_from(&self, source: &Data) -> bool {
        let own = self.position().epoch;
        let Some(at) = source.timelines.iter().position(|t| t.epoch == own) else { return false };
        if self.end < source.kept_from {
            return false;
        }
        match source.timelines.get(at + 1) {
            Some(next) => self.end <= next.start,
            None => self.end <= source.end,
        }
    }

    /// What `pg_rewind` makes of this copy with that source. It knows timelines by their numbers and where they began,
    /// and the source's by what its `pg_control` says (hazards C01, C03, C04).
    pub fn rewound(&self, source: &Data) -> Data {
        let stopped = |data: &Data| Data { clean: false, signal: true, ..data.clone() };
        let seen = source.timelines.iter().position(|t| t.epoch == source.checkpoint);
        let theirs = &source.timelines[..=seen.unwrap_or(0)];
        if self.timeline().map(|t| t.epoch) == theirs.last().map(|t| t.epoch) {
            // "No rewind required."
            return Data { clean: self.clean, ..stopped(self) };
        }
        let alike = |(ours, theirs): &(&Timeline, &Timeline)| {
            ours.epoch == theirs.epoch && ours.start == theirs.start
        };
        let common: Vec<_> = self.timelines.iter().zip(theirs).take_while(alike).collect();
        let mistaken = common.is_empty() || common.iter().any(|(ours, theirs)| ours.by != theirs.by);
        Data { torn: self.torn || mistaken || theirs.len() < source.timelines.len(), ..stopped(source) }
    }

    /// How far a timeline goes in this copy; none if it isn't in it.
    pub fn reaches(&self, epoch: Epoch, by: HostId) -> Option<Lsn> {
        let at = self.timelines.iter().position(|t| t.epoch == epoch && t.by == by)?;
        Some(self.timelines.get(at + 1).map_or(self.end, |next| next.start.min(self.end)))
    }

    /// Whether a record of timeline (`epoch`, `by`) at `lsn` is part of this copy.
    pub fn holds(&self, epoch: Epoch, by: HostId, lsn: Lsn) -> bool {
        self.reaches(epoch, by).is_some_and(|end| lsn <= end)
    }
}

impl Postgres {
    /// Whether a commit can be acknowledged here.
    pub fn can_acknowledge(&self) -> bool {
        (self.process == Process::Primary && !self.doomed) || self.orphans
    }

    /// All processes are gone, not in order.
    pub fn die(&mut self) {
        if self.process != Process::Down
            && let Some(data) = &mut self.data
        {
            data.clean = false;
        }
        self.process = Process::Down;
        self.orphans = false;
        self.replays = false;
        self.stopped = false;
        self.doomed = false;
    }
}
