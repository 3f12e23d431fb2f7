//! The records in the store, what a node knows of them, and the requests it makes.
//!
//! All records are values of ours; none hangs on a lease of the store, and none is ever deleted: a key that is gone
//! and made anew would let a delayed request succeed whose moment has passed. Each write compares the revision its
//! writer last read.

use crate::{Boot, CopyId, Epoch, Lsn, MachineId, Name, Nonce, OpId, Position, Revision, Span, SystemId};
use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;

/// Who may write, for as long as the beats go on.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Reign {
    /// The number of the reign and of its timeline.
    pub epoch: Epoch,
    /// The member that holds the lease.
    pub holder: Name,
    /// The life of the holder's agent: another agent of the same name can't renew (hazard A28).
    pub boot: Boot,
    /// Where that agent runs. Its name may be used twice, by a cloned machine say: elsewhere its word counts for
    /// nothing.
    #[cfg_attr(feature = "serde", serde(default))]
    pub machine: MachineId,
    /// Tells this reign from another one with the same number.
    pub nonce: Nonce,
    /// T of this reign; candidates wait for this one, whatever their own setting says.
    pub ttl: Span,
    /// The holder gave it back.
    pub released: Option<Released>,
}

/// How a holder gave the lease back, after its PostgreSQL had stopped.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Released {
    /// The end of the shutdown checkpoint; none if PostgreSQL didn't stop cleanly.
    pub end: Option<Lsn>,
    /// The member it is handed to first.
    pub to: Option<Name>,
}

/// The holder's sign of life; its revision is what counts.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Beat {
    /// The reign it belongs to.
    pub epoch: Epoch,
    /// How far the holder's WAL went when the beat was sent; until somebody is admitted in its reign, how far that of the
    /// last admitted one went, if that is more.
    pub end: Lsn,
}

/// Who may be elected without the present holder's help.
///
/// Asynchronous replication is the rule with no acknowledging members (`k = 0`).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Rule {
    /// The reign that wrote it.
    pub epoch: Epoch,
    /// The member that led when it was written.
    pub leader: Name,
    /// The leader's copy of the data then.
    pub leader_copy: CopyId,
    /// Members that may stand once the lease has lapsed, each with the copy that was seen streaming.
    pub electable: BTreeMap<Name, CopyId>,
}

/// A reign's place in the history of all timelines.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct EpochRecord {
    /// The reign.
    pub epoch: Epoch,
    /// Who won it.
    pub holder: Name,
    /// Its mark.
    pub nonce: Nonce,
    /// Where its timeline left the one before; none until its promotion is done, and nobody follows before that.
    /// The first timeline left epoch 0 at 0.
    pub fork: Option<Position>,
    /// Its holder has written a checkpoint on it. Before that nobody can be rewound to it (hazard C04).
    #[cfg_attr(feature = "serde", serde(default))]
    pub checkpointed: bool,
}

/// *"I take no more WAL of any epoch up to this one"*, with the position reached.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Pledge {
    /// Who gave it.
    pub member: Name,
    /// The reign it is about.
    pub epoch: Epoch,
    /// Given (true) or withdrawn.
    pub held: bool,
    /// Where the member's WAL ends, read after its sources were closed.
    pub position: Position,
    /// The copy it speaks for.
    pub copy: CopyId,
}

/// What a member says of itself, so that a holder can list it as electable.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Member {
    /// Its name.
    pub name: Name,
    /// Its present, complete copy of the data.
    pub copy: CopyId,
    /// Preference among equals; 0 = never a primary.
    pub priority: u32,
}

/// Who makes the first data directory of the cluster.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Initialize {
    /// The member that claimed it.
    pub by: Name,
    /// The life of its agent.
    pub boot: Boot,
    /// The system identifier, once it exists.
    pub system: Option<SystemId>,
    /// Written by another manager than ours: this cluster isn't ours to touch.
    pub foreign: bool,
}

/// An operator's wish to move the primary, bound to the reign it was made in (hazards C25, H08).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Switchover {
    /// The reign it was made in; in any other it means nothing.
    pub epoch: Epoch,
    /// To whom; the best if none.
    pub to: Option<Name>,
    /// Set by the holder if it can't be done.
    pub refused: Option<Refusal>,
}

/// Why a switchover was not done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "snake_case"))]
pub enum Refusal {
    /// Nobody streams from the primary within the lag bound.
    NoCandidate,
    /// The named member doesn't stream from the primary.
    NotStreaming,
    /// The named member lags by more than the bound.
    TooFarBehind,
    /// The named member must not become primary.
    NotEligible,
}

/// The key by which other tools find the primary: a mirror of the reign that hangs on a lease of the store.
///
/// It is kept in view so that it can be repaired, and for clusters shared with another manager. **Nothing is concluded
/// from its presence or absence**: the store's leases outlive and underlive the truth (hazards A18, A19, L09, L10).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Leader {
    /// The bare name of a member; none if the key was deleted, or has expired.
    pub name: Option<Name>,
}

/// Names a record.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "snake_case"))]
pub enum Key {
    /// [`Initialize`]
    Initialize,
    /// [`Reign`]
    Reign,
    /// [`Beat`]
    Beat,
    /// [`Rule`]
    Rule,
    /// [`Switchover`]
    Switchover,
    /// [`Leader`]
    Leader,
    /// [`EpochRecord`]
    Epoch(Epoch),
    /// [`Pledge`]
    Pledge(Name),
    /// [`Member`]
    Member(Name),
}

/// A record as it is written.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "snake_case"))]
#[allow(missing_docs, reason = "each variant is its type")]
pub enum Record {
    Initialize(Initialize),
    Reign(Reign),
    Beat(Beat),
    Rule(Rule),
    Switchover(Switchover),
    Leader(Leader),
    Epoch(EpochRecord),
    Pledge(Pledge),
    Member(Member),
}

impl Record {
    /// Where this record is kept.
    pub fn key(&self) -> Key {
        match self {
            Record::Initialize(_) => Key::Initialize,
            Record::Reign(_) => Key::Reign,
            Record::Beat(_) => Key::Beat,
            Record::Rule(_) => Key::Rule,
            Record::Switchover(_) => Key::Switchover,
            Record::Leader(_) => Key::Leader,
            Record::Epoch(e) => Key::Epoch(e.epoch),
            Record::Pledge(p) => Key::Pledge(p.member.clone()),
            Record::Member(m) => Key::Member(m.name.clone()),
        }
    }
}

/// A record as it was read, with the revision of its last write.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct At<T> {
    /// Never 0.
    pub revision: Revision,
    /// Shared, as views are copied often.
    pub value: Arc<T>,
}

impl<T> core::ops::Deref for At<T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.value
    }
}

/// All records at one revision of the store, or what a node has pieced together from reads and watches.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct View {
    /// The store's revision this view is known to be current at.
    pub as_of: Revision,
    /// See [`Initialize`].
    pub initialize: Option<At<Initialize>>,
    /// See [`Reign`].
    pub reign: Option<At<Reign>>,
    /// See [`Beat`].
    pub beat: Option<At<Beat>>,
    /// See [`Rule`].
    pub rule: Option<At<Rule>>,
    /// See [`Switchover`].
    pub switchover: Option<At<Switchover>>,
    /// See [`Leader`].
    pub leader: Option<At<Leader>>,
    /// See [`EpochRecord`].
    pub epochs: BTreeMap<Epoch, At<EpochRecord>>,
    /// See [`Pledge`].
    pub pledges: BTreeMap<Name, At<Pledge>>,
    /// See [`Member`].
    pub members: BTreeMap<Name, At<Member>>,
}

impl View {
    /// The revision of a record; 0 if it is absent. What a transaction compares with.
    pub fn revision(&self, key: &Key) -> Revision {
        fn of<T>(at: Option<&At<T>>) -> Revision {
            at.map_or(Revision(0), |at| at.revision)
        }
        match key {
            Key::Initialize => of(self.initialize.as_ref()),
            Key::Reign => of(self.reign.as_ref()),
            Key::Beat => of(self.beat.as_ref()),
            Key::Rule => of(self.rule.as_ref()),
            Key::Switchover => of(self.switchover.as_ref()),
            Key::Leader => of(self.leader.as_ref()),
            Key::Epoch(epoch) => of(self.epochs.get(epoch)),
            Key::Pledge(name) => of(self.pledges.get(name)),
            Key::Member(name) => of(self.members.get(name)),
        }
    }

    /// Takes over one record if it is newer than the one known. Late news of an older state changes nothing.
    pub fn put(&mut self, record: Record, revision: Revision) {
        if revision <= self.revision(&record.key()) {
            return;
        }
        fn at<T>(revision: Revision, value: T) -> At<T> {
            At { revision, value: Arc::new(value) }
        }
        match record {
            Record::Initialize(v) => self.initialize = Some(at(revision, v)),
            Record::Reign(v) => self.reign = Some(at(revision, v)),
            Record::Beat(v) => self.beat = Some(at(revision, v)),
            Record::Rule(v) => self.rule = Some(at(revision, v)),
            Record::Switchover(v) => self.switchover = Some(at(revision, v)),
            Record::Leader(v) => self.leader = Some(at(revision, v)),
            Record::Epoch(v) => drop(self.epochs.insert(v.epoch, at(revision, v))),
            Record::Pledge(v) => drop(self.pledges.insert(v.member.clone(), at(revision, v))),
            Record::Member(v) => drop(self.members.insert(v.name.clone(), at(revision, v))),
        }
        self.as_of = self.as_of.max(revision);
    }
}

impl View {
    /// Takes over from another view whatever is newer there, record by record.
    pub fn merge(&mut self, other: View) {
        fn newer<T>(known: &mut Option<At<T>>, other: Option<At<T>>) {
            let revision = known.as_ref().map_or(Revision(0), |at| at.revision);
            if other.as_ref().is_some_and(|at| at.revision > revision) {
                *known = other;
            }
        }
        fn newer_each<K: Ord, T>(known: &mut BTreeMap<K, At<T>>, other: BTreeMap<K, At<T>>) {
            for (key, at) in other {
                if known.get(&key).is_none_or(|known| at.revision > known.revision) {
                    known.insert(key, at);
                }
            }
        }
        newer(&mut self.initialize, other.initialize);
        newer(&mut self.reign, other.reign);
        newer(&mut self.beat, other.beat);
        newer(&mut self.rule, other.rule);
        newer(&mut self.switchover, other.switchover);
        newer(&mut self.leader, other.leader);
        newer_each(&mut self.epochs, other.epochs);
        newer_each(&mut self.pledges, other.pledges);
        newer_each(&mut self.members, other.members);
        self.as_of = self.as_of.max(other.as_of);
    }
}

/// A conditional write: all of it happens, at one revision, if every compared record is still at the given revision.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Txn {
    /// Revision 0 demands that the record be absent.
    pub compare: Vec<(Key, Revision)>,
    /// The records written if all compares hold.
    pub put: Vec<Record>,
}

/// What came of a transaction.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "snake_case"))]
pub enum Answer {
    /// Written, at this revision.
    Committed(Revision),
    /// A compare failed, nothing was written; all records as they were at that moment.
    Refused(View),
    /// It may have been applied, or may still be. Only a later read can tell.
    Unknown,
}

/// News from the watch. It may be late or missing; nothing is ever concluded from silence.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "snake_case"))]
pub enum News {
    /// Records were written at this revision.
    Changed(Revision, Vec<Record>),
    /// The watch was interrupted (cancelled, compacted, its connection lost): what is known may be old.
    Interrupted,
}

/// A request to the store.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "snake_case"))]
pub enum Request {
    /// A linearizable read of all records.
    Read,
    /// A conditional write.
    Transact(Txn),
}

/// The answer to a [`Request`], or that none came in time.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "snake_case"))]
pub enum Response {
    /// What a read found; none if no answer came in time.
    Read(Option<View>),
    /// What came of a transaction.
    Transact(Answer),
}

/// A response that names its request.
pub type Answered = (OpId, Response);
