//! One member: what it knows, and how an input becomes effects.
//!
//! An input first updates what is known ("absorb"); then the node looks at everything it knows and does what its role
//! demands ("advance"). Nothing depends on having seen a particular message: a lost or late one costs time only.

use crate::instance::{Failure, Found, Instance, Op, Order, Performed, Saved};
use crate::lease::Lease;
use crate::requests::Pending;
use crate::store::{Answer, Key, News, Record, Request, Response, Txn, View};
use crate::{
    Boot, Config, CopyId, Effect, Epoch, Event, Guard, Input, Lsn, Nonce, OpId, Revision, Role, Span, Time,
    event::Frozen,
};
use alloc::sync::Arc;
use alloc::vec::Vec;

/// The deciding part of one member of a cluster.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Node {
    pub(crate) config: Arc<Config>,
    pub(crate) boot: Boot,
    /// How many values were derived from `boot` so far.
    pub(crate) draws: u64,
    pub(crate) next_op: u32,
    /// The lease was released: the position has to be read anew before anything is concluded from it.
    pub(crate) look: bool,
    /// What is, or is about to be, durable beside the data.
    pub(crate) saved: Saved,
    pub(crate) view: Arc<View>,
    /// Since when reign and beat (or, before there is a reign, the claim to the bootstrap) are unchanged, on this
    /// node's clock, as far as it has seen.
    pub(crate) seen: Time,
    /// When the newest complete answer of the store was asked for.
    pub(crate) read: Option<Time>,
    /// Something may have changed in the store without our having seen it.
    pub(crate) stale: bool,
    /// The request to the store under way, apart from beats.
    pub(crate) asking: Option<Asking>,
    /// No request to the store before this time.
    pub(crate) ask_again: Time,
    pub(crate) lease: Option<Lease>,
    /// The fence as the guard last acknowledged it.
    pub(crate) armed: Option<(Epoch, Time)>,
    /// A fence that isn't acknowledged yet is not asked for again before this time.
    pub(crate) arm_again: Time,
    /// The guard died; whatever it watched over must be killed.
    pub(crate) guard_lost: bool,
    pub(crate) instance: Instance,
    /// When PostgreSQL was last known to do its work as a primary.
    pub(crate) proved: Time,
    /// When the last input came, if that matters.
    pub(crate) heard: Time,
    /// What was tried while the instance is unknown.
    pub(crate) blind: Blind,
    /// The order under way.
    pub(crate) lane: Option<Lane>,
    /// No order to PostgreSQL before this time.
    pub(crate) order_again: Time,
    /// An order that has failed, and is given again later each time.
    pub(crate) failing: Option<Failing>,
    pub(crate) role: Role,
    /// The copy that could not be rewound: another try wouldn't do better.
    pub(crate) beyond_rewinding: CopyId,
    /// The copy that is given up for a new one from the holder of this reign: it lacks WAL which that one has no more, or
    /// an operator wants it so.
    pub(crate) given_up: Option<(CopyId, Epoch)>,
    /// A reason to do nothing any more.
    pub(crate) frozen: Option<Frozen>,
    pub(crate) pending: Option<Pending>,
    /// The agent is to stop.
    pub(crate) exiting: bool,
}

/// A request to the store under way.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Asking {
    pub id: OpId,
    pub sent: Time,
    /// A read whose answer may be older than what was seen, or missed, since: below this epoch it doesn't do.
    pub doubt_below: Epoch,
    /// The store's revision known when it was sent; an answer from before it means that the store went back.
    pub floor: Revision,
    pub put: Vec<Record>,
}

/// What was tried while the instance is unknown, since it last was known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Blind {
    /// Nothing yet.
    Untried,
    /// An order that found nothing out.
    Looked,
    /// All of its processes were killed.
    Killed,
}

/// An order that failed, perhaps several times.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Failing {
    pub op: Op,
    /// The last reign known then: another one may make it possible.
    pub epoch: Epoch,
    /// How long the pause is.
    pub pause: Span,
    /// It isn't given again before.
    pub until: Time,
}

/// An order under way.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Lane {
    pub id: OpId,
    pub op: Op,
}

/// Collects the effects of one input.
pub(crate) struct Out {
    pub now: Time,
    effects: Vec<Effect>,
}

impl Out {
    pub fn push(&mut self, effect: Effect) {
        self.effects.push(effect);
    }

    pub fn tell(&mut self, event: Event) {
        self.effects.push(Effect::Tell(event));
    }
}

/// Why a node wants to be woken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Timer {
    /// The first step after the start.
    Begin,
    /// A beat is due.
    Beat,
    /// The fence is near, or falls.
    Fence,
    /// A failed request or order, or a fence that isn't acknowledged, is due again.
    Again,
    /// The last proof that the primary does its work is too old.
    Health,
    /// The lease of another lapses, or a candidate's patience ends.
    Election,
    /// An operator waits for an answer.
    Answer,
}

/// Stands in a lineage for a timeline that nobody was elected to write. No reign has this mark.
pub(crate) const UNORDERED: Nonce = Nonce(0);

/// More role changes than this for a single input mean a cycle.
const STEPS_MAX: usize = 16;

impl Node {
    /// A node whose agent has just started. `boot` is drawn at random for each life of an agent; `saved` is what was
    /// found beside the data.
    pub fn new(config: Arc<Config>, boot: Boot, saved: Saved) -> Node {
        Node {
            config,
            boot,
            draws: 0,
            next_op: 0,
            look: false,
            saved,
            view: Arc::default(),
            seen: Time(0),
            read: None,
            stale: true,
            asking: None,
            ask_again: Time(0),
            lease: None,
            armed: None,
            arm_again: Time(0),
            guard_lost: false,
            instance: Instance::Unknown,
            proved: Time(0),
            heard: Time(0),
            blind: Blind::Untried,
            lane: None,
            order_again: Time(0),
            failing: None,
            role: Role::Starting,
            beyond_rewinding: CopyId(0),
            given_up: None,
            frozen: None,
            pending: None,
            exiting: false,
        }
    }

    /// Takes an input at time `now`, which never goes back, and says what is to be done.
    #[must_use]
    pub fn handle(&mut self, now: Time, input: Input) -> Vec<Effect> {
        let mut out = Out { now, effects: Vec::new() };
        self.excuse_absence(now);
        self.absorb(&mut out, input);
        self.advance(&mut out);
        self.check(now);
        out.effects
    }

    /// The next time after `now` at which [`Input::Wake`] is wanted, and why.
    #[must_use]
    pub fn deadline(&self, now: Time) -> Option<(Time, Timer)> {
        let mut next: Option<(Time, Timer)> = None;
        self.timers(now, &mut |time, timer| {
            if time > now && next.is_none_or(|known| (time, timer) < known) {
                next = Some((time, timer));
            }
        });
        next
    }

    /// Whether it waits for an answer of the store, or has to ask.
    pub fn asks_the_store(&self) -> bool {
        self.asking.is_some() || self.stale
    }

    /// What the node is doing.
    pub fn role(&self) -> &Role {
        &self.role
    }

    /// The settings it was started with.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// What it knows of the store.
    pub fn view(&self) -> &View {
        &self.view
    }

    /// Since when reign and beat are unchanged, as far as it has seen.
    pub fn unchanged_since(&self) -> Time {
        self.seen
    }

    /// What it knows of the local instance.
    pub fn instance(&self) -> &Instance {
        &self.instance
    }

    /// What it keeps beside the data.
    pub fn saved(&self) -> &Saved {
        &self.saved
    }

    /// Its lease, if it holds one.
    pub fn lease(&self) -> Option<&Lease> {
        self.lease.as_ref()
    }

    /// Whether this node may be called the primary at `now`: it holds the lease, its authority lasts, and its
    /// PostgreSQL is writable (invariant I12).
    pub fn is_primary(&self, now: Time) -> bool {
        matches!(self.role, Role::Primary(_))
            && matches!(self.instance, Instance::Primary { .. })
            && self.authority().is_some_and(|end| now < end)
    }

    /// Why this node can't go on by itself, if so (invariant I16: no node is stuck without saying why).
    pub fn needs_operator(&self) -> Option<Frozen> {
        let by_hand = self.is_promoted_by_hand().then_some(Frozen::PromotedByHand);
        self.frozen.or(self.store_is_behind()).or(by_hand)
    }

    /// A member that has seen a later reign than the store names writes it down, so that those who were away and can't
    /// know of it neither stand nor begin anew. A holder that beats after that knows better: whoever wrote it is of
    /// another cluster, or of a copy of this one.
    pub(crate) fn store_is_behind(&self) -> Option<Frozen> {
        let (seen, record) = self.view.epochs.last_key_value()?;
        let found = self.view.reign.as_ref().map_or(Epoch(0), |reign| reign.epoch);
        let refuted = found > Epoch(0) && self.view.revision(&Key::Beat) > record.revision;
        (*seen > found && !refuted).then_some(Frozen::StoreWentBack { seen: *seen, found })
    }

    fn absorb(&mut self, out: &mut Out, input: Input) {
        match input {
            Input::Wake => {}
            Input::News(News::Changed(revision, records)) => self.see_records(out.now, records, revision),
            Input::News(News::Interrupted) => self.doubt_below(Epoch(u32::MAX)),
            Input::Answered(id, response) => self.answered(out, id, response),
            Input::Performed(id, performed) => self.performed(out, id, performed),
            // While an order is carried out, its answer tells how the instance is; a look in between would show a
            // state that is just being changed.
            Input::Instance(found) => {
                if self.lane.is_none() {
                    self.note_proof(out.now, matches!(found.instance, Instance::Primary { .. }));
                    self.see_instance(found);
                }
            }
            Input::Guard(guard) => self.hear_guard(out, guard),
            Input::Operator(request, command) => self.commanded(out, request, command),
        }
    }

    /// Everything has to be read anew; what is being read doesn't do if it turns out to be of an epoch below this one.
    fn doubt_below(&mut self, epoch: Epoch) {
        self.stale = true;
        if let Some(asking) = self.asking.as_mut().filter(|asking| asking.put.is_empty()) {
            asking.doubt_below = asking.doubt_below.max(epoch);
        }
    }

    /// WAL of an epoch that this node hasn't heard of: either the store has moved on, or somebody promoted by hand. The
    /// store has to be asked before anything is concluded from it.
    fn see_instance(&mut self, Found { instance, saved }: Found) {
        self.recognise_copy(saved);
        let known = self.view.reign.as_ref().map_or(Epoch(0), |reign| reign.epoch);
        if let Some(data) = instance.data().filter(|data| data.position.epoch > known) {
            self.doubt_below(data.position.epoch);
        }
        if instance != Instance::Unknown {
            self.blind = Blind::Untried;
        }
        let torn = self.saved.mending && matches!(instance, Instance::Stopped { .. });
        self.instance = if torn { Instance::Incomplete } else { instance };
        self.notice_unordered_promotion();
    }

    /// An order may have put another copy in place without our having heard of it: what lies beside the data says whose
    /// it is. About the same copy this node knows at least as much as was made durable.
    fn recognise_copy(&mut self, saved: Option<Saved>) {
        let Some(saved) = saved.filter(|saved| saved.copy != self.saved.copy) else { return };
        self.saved = Saved { highest: saved.highest.max(self.saved.highest), ..saved };
    }

    /// A copy that somebody promoted by hand is marked as such for good, before the traces go: its history file may
    /// well be the same as that of an elected reign (hazard C01), also of one that the copy was about to follow.
    pub(crate) fn notice_unordered_promotion(&mut self) {
        let epoch = match &self.instance {
            Instance::Primary { data, .. } | Instance::Stopped { data, signal: false, .. } => {
                data.position.epoch
            }
            _ => return,
        };
        let known = self.view.epochs.contains_key(&epoch);
        let ours = |(epoch, _): &(Epoch, Nonce)| {
            let holder = self.view.epochs.get(epoch).map(|record| &record.holder);
            holder.is_some_and(|holder| *holder == self.config.me || holder.as_str().is_empty())
        };
        let lineage = &self.saved.lineage;
        match lineage.binary_search_by_key(&epoch, |(epoch, _)| *epoch) {
            // A promotion to a reign of this node's own may have ended half-way.
            Ok(at) if known && !lineage[at..].iter().any(ours) => self.saved.lineage[at].1 = UNORDERED,
            Err(at) if at > 0 => self.saved.lineage.insert(at, (epoch, UNORDERED)),
            Ok(_) | Err(_) => {}
        }
    }

    fn hear_guard(&mut self, out: &mut Out, guard: Guard) {
        match guard {
            Guard::Idle => self.armed = None,
            Guard::Armed { epoch, until } => {
                let known = self.armed.filter(|(known, _)| *known == epoch).map(|(_, until)| until);
                self.armed = Some((epoch, known.map_or(until, |known| known.max(until))));
                self.arm_again = Time(0);
            }
            Guard::Lost => {
                self.armed = None;
                if !self.guard_lost {
                    out.tell(Event::GuardLost);
                }
                self.guard_lost = true;
            }
        }
    }

    fn advance(&mut self, out: &mut Out) {
        self.tend_lease(out);
        if self.guard_lost {
            self.kill(out);
        }
        let settled = (0..STEPS_MAX).any(|_| !self.step(out));
        assert!(settled, "a cycle of roles at {:?}", self.role);
        self.tend_lease(out);
        self.tend_request(out);
        self.refresh(out);
        self.publish(out);
    }

    fn answered(&mut self, out: &mut Out, id: OpId, response: Response) {
        let beats = self.lease.as_ref().and_then(|lease| lease.sending.as_ref());
        if beats.is_some_and(|sending| sending.id == id) {
            if let Response::Transact(answer) = response {
                self.beat_answered(out, answer);
            }
            return;
        }
        let Some(asking) = self.asking.take_if(|asking| asking.id == id) else { return };
        match response {
            Response::Read(Some(view)) => {
                if self.read.is_none() {
                    // Nothing was seen before, so nothing has been unchanged since before now.
                    self.seen = out.now;
                }
                self.see_view(out.now, view, asking.floor);
                self.read = Some(asking.sent);
                let found = self.view.reign.as_ref().map_or(Epoch(0), |reign| reign.epoch);
                self.stale = found < asking.doubt_below;
            }
            Response::Transact(Answer::Committed(revision)) => {
                self.see_records(out.now, asking.put, revision);
            }
            Response::Transact(Answer::Refused(view)) => self.see_view(out.now, view, asking.floor),
            Response::Read(None) | Response::Transact(Answer::Unknown) => {
                self.stale = true;
                self.ask_again = out.now + self.config.retry_after;
            }
        }
    }

    /// Takes over records that were written at `revision`.
    pub(crate) fn see_records(&mut self, now: Time, records: Vec<Record>, revision: Revision) {
        let before = self.watched();
        let view = Arc::make_mut(&mut self.view);
        for record in records {
            view.put(record, revision);
        }
        self.notice_change(now, before);
    }

    /// Takes over a complete view. `floor` is the revision that was known when
    /// it was asked for.
    pub(crate) fn see_view(&mut self, now: Time, view: View, floor: Revision) {
        fn epoch(view: &View) -> Epoch {
            view.reign.as_ref().map_or(Epoch(0), |reign| reign.epoch)
        }
        let known = self.saved.highest.max(epoch(&self.view));
        if view.as_of < floor || (view.as_of >= self.view.as_of && epoch(&view) < known) {
            self.frozen = Some(Frozen::StoreWentBack { seen: known, found: epoch(&view) });
        }
        let before = self.watched();
        if view.as_of < self.view.as_of && view.as_of >= floor {
            // The watch was faster; but what it told may not be all.
            Arc::make_mut(&mut self.view).merge(view);
        } else {
            self.view = Arc::new(view);
        }
        self.notice_change(now, before);
    }

    /// Starts the wait anew if what is waited for has changed.
    fn notice_change(&mut self, now: Time, before: (Revision, Revision, Revision)) {
        if self.watched() != before {
            self.seen = now;
            self.look = self.view.reign.as_ref().is_some_and(|reign| reign.released.is_some());
        }
    }

    fn watched(&self) -> (Revision, Revision, Revision) {
        let (reign, beat) = self.lease_revisions();
        (reign, beat, self.view.revision(&Key::Initialize))
    }

    /// What a candidate watches.
    pub(crate) fn lease_revisions(&self) -> (Revision, Revision) {
        (self.view.revision(&Key::Reign), self.view.revision(&Key::Beat))
    }

    /// Reads everything anew if something may have been missed.
    fn refresh(&mut self, out: &mut Out) {
        if self.stale {
            self.ask(out, Request::Read);
        }
    }

    /// Sends a request to the store, unless one is under way or the last one failed just now.
    pub(crate) fn ask(&mut self, out: &mut Out, request: Request) {
        if self.asking.is_some() || out.now < self.ask_again {
            return;
        }
        let id = self.new_op();
        let put = match &request {
            Request::Read => Vec::new(),
            Request::Transact(txn) => txn.put.clone(),
        };
        self.asking = Some(Asking { id, sent: out.now, doubt_below: Epoch(0), floor: self.view.as_of, put });
        out.push(Effect::Store { id, until: out.now + self.config.store_patience, request });
    }

    /// Sends a transaction that compares and writes these records.
    pub(crate) fn ask_to_put(&mut self, out: &mut Out, also: &[Key], put: Vec<Record>) {
        let keys = put.iter().map(Record::key).chain(also.iter().cloned());
        let compare = keys.map(|key| (key.clone(), self.view.revision(&key))).collect();
        self.ask(out, Request::Transact(Txn { compare, put }));
    }

    fn performed(&mut self, out: &mut Out, id: OpId, performed: Performed) {
        let Some(lane) = self.lane.take_if(|lane| lane.id == id) else { return };
        let does = performed.failure.is_none() && lane.op != Op::Look;
        self.note_proof(out.now, does || matches!(performed.found.instance, Instance::Primary { .. }));
        self.see_instance(performed.found);
        if self.instance == Instance::Unknown {
            let killed = lane.op == Op::Kill && performed.failure.is_none();
            self.blind = self.blind.max(if killed { Blind::Killed } else { Blind::Looked });
        }
        match performed.failure {
            None => {
                if lane.op == Op::Kill {
                    self.guard_lost = false;
                }
                if self.instance == Instance::Unknown {
                    self.order_again = out.now + self.config.retry_after;
                }
                self.failing = self.failing.take().filter(|failing| failing.op != lane.op);
                self.op_done(out, lane.op);
            }
            Some(why) => {
                self.order_again = out.now + self.config.retry_after;
                self.note_failure(out.now, &lane.op);
                self.op_failed(out, lane.op.clone(), &why);
                out.tell(Event::Failed { op: lane.op, why });
            }
        }
    }

    /// What brings a copy back is tried less and less often while it fails; so is the start of the first primary, for which
    /// nobody could stand in. What else opens a PostgreSQL under a lease, or ends one, never waits longer.
    fn note_failure(&mut self, now: Time, op: &Op) {
        let opens_first = *op == Op::StartInPlace && matches!(self.role, Role::Promoting);
        if !(op.may_wait() || opens_first) || self.config.retry_longest <= self.config.retry_after {
            return;
        }
        let epoch = self.last_reign();
        let before = self.failing.take().filter(|failing| failing.op == *op && failing.epoch == epoch);
        let pause = before.map_or(self.config.retry_after, |failing| failing.pause.times(2));
        let pause = pause.min(self.config.retry_longest);
        self.failing = Some(Failing { op: op.clone(), epoch, pause, until: now + pause });
    }

    fn last_reign(&self) -> Epoch {
        self.view.reign.as_ref().map_or(Epoch(0), |reign| reign.epoch)
    }

    /// Whether this order would be given now: none is under way, and it hasn't failed just now.
    pub(crate) fn may_order(&self, now: Time, op: &Op) -> bool {
        let pauses = |failing: &Failing| {
            failing.op == *op && failing.epoch == self.last_reign() && now < failing.until
        };
        self.lane.is_none() && now >= self.order_again && !self.failing.as_ref().is_some_and(pauses)
    }

    /// Gives an order to PostgreSQL if it may be given now.
    pub(crate) fn order(&mut self, out: &mut Out, op: Op) {
        if self.may_order(out.now, &op) {
            self.send_order(out, op);
        }
    }

    /// Gives an order at once, in place of the one under way.
    pub(crate) fn order_instead(&mut self, out: &mut Out, op: Op) {
        let under_way = self.lane.as_ref().map(|lane| &lane.op);
        if under_way != Some(&op) && (under_way.is_some() || out.now >= self.order_again) {
            self.send_order(out, op);
        }
    }

    /// Kills the instance, whatever it is doing.
    pub(crate) fn kill(&mut self, out: &mut Out) {
        self.order_instead(out, Op::Kill);
    }

    fn send_order(&mut self, out: &mut Out, op: Op) {
        let patience = match &op {
            // As long as they make progress.
            Op::Clone(_) | Op::Rewind(_) | Op::Initdb | Op::StartStandby => self.config.clone_patience,
            Op::Kill => self.config.stop_budget + self.config.stop_budget,
            Op::Look
            | Op::SetAside
            | Op::StartInPlace
            | Op::Follow(_)
            | Op::CloseSources
            | Op::Promote
            | Op::Settle
            | Op::Checkpoint
            | Op::Stop => self.config.instance_patience,
        };
        let until = out.now + patience;
        let start_by = if op.opens() { self.fence().unwrap_or(out.now) } else { until };
        let saved = self.saved_with(&op);
        let epoch = self.lease.as_ref().map_or(self.saved.highest, |lease| lease.epoch);
        let left = if op.replaces() { self.left_elected() } else { None };
        let id = self.new_op();
        self.lane = Some(Lane { id, op: op.clone() });
        out.push(Effect::Postgres(id, Order { op, epoch, start_by, until, saved, left }));
    }

    /// What describes the copy of the data that `op` is about. The lineage is extended before the order goes out, so
    /// that it never lacks a reign whose WAL the copy may hold.
    fn saved_with(&mut self, op: &Op) -> Saved {
        match op {
            Op::Initdb => {
                return Saved { copy: self.new_copy(), highest: self.saved.highest, ..Saved::default() };
            }
            Op::Clone(_) | Op::Rewind(_) => {
                let reign = self.view.reign.as_ref().map_or(Epoch(0), |reign| reign.epoch);
                let lineage = crate::lineage::path(&self.view, reign).unwrap_or_default();
                self.saved.highest = self.saved.highest.max(reign);
                let (copy, mending) = (self.new_copy(), matches!(op, Op::Rewind(_)));
                return Saved { copy, lineage, highest: self.saved.highest, mending };
            }
            Op::SetAside => return Saved { highest: self.saved.highest, ..Saved::default() },
            Op::Follow(_) => {
                let reign = self.view.reign.as_ref().map_or(Epoch(0), |reign| reign.epoch);
                let path = crate::lineage::path(&self.view, reign).unwrap_or_default();
                crate::lineage::extend(&mut self.saved.lineage, &path);
                self.saved.highest = self.saved.highest.max(reign);
            }
            Op::Promote | Op::StartInPlace => {
                let own = self.lease.as_ref().map(|lease| (lease.epoch, lease.nonce));
                self.extend_lineage(own);
            }
            Op::Look
            | Op::StartStandby
            | Op::CloseSources
            | Op::Settle
            | Op::Checkpoint
            | Op::Stop
            | Op::Kill => {}
        }
        self.saved.clone()
    }

    fn extend_lineage(&mut self, reign: Option<(Epoch, Nonce)>) {
        let Some((epoch, nonce)) = reign else { return };
        self.saved.highest = self.saved.highest.max(epoch);
        if self.saved.lineage.last() != Some(&(epoch, nonce)) {
            self.saved.lineage.push((epoch, nonce));
        }
    }

    /// Lets others know of this member's copy, so that a holder can list it.
    fn publish(&mut self, out: &mut Out) {
        let idle = matches!(self.role, Role::Standby | Role::Primary(_)) && !self.stale;
        if !idle || self.saved.copy == CopyId(0) || self.instance.data().is_none() {
            return;
        }
        let me = self.config.me.clone();
        let wanted = crate::store::Member { name: me, copy: self.saved.copy, priority: self.config.priority };
        if self.view.members.get(&self.config.me).is_none_or(|known| *known.value != wanted) {
            self.ask_to_put(out, &[], alloc::vec![Record::Member(wanted)]);
        }
    }

    pub(crate) fn new_op(&mut self) -> OpId {
        self.next_op += 1;
        OpId(self.next_op)
    }

    /// A number that no other draw of this or another agent yields, as far as `boot` is random.
    pub(crate) fn draw(&mut self) -> u64 {
        self.draws += 1;
        let mut z = self.boot.0.wrapping_add(self.draws.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)).max(1)
    }

    fn new_copy(&mut self) -> CopyId {
        CopyId(self.draw())
    }

    fn op_done(&mut self, out: &mut Out, op: Op) {
        match (&mut self.role, op) {
            (Role::Candidate(candidate), Op::CloseSources) => candidate.closed = true,
            (Role::Primary(_), Op::Checkpoint) => self.checkpointed(out),
            (Role::Primary(reigning), Op::Settle) => reigning.settled = true,
            (_, Op::Rewind(_)) => out.tell(Event::Rewound { epoch: self.saved.highest }),
            (_, _) => {}
        }
    }

    fn op_failed(&mut self, out: &mut Out, op: Op, why: &Failure) {
        match (&mut self.role, op) {
            (Role::Leaving(leaving), Op::Kill) => leaving.unsure = true,
            (Role::Primary(_), Op::Checkpoint) => self.checkpointed(out),
            (Role::Promoting, Op::Promote | Op::StartInPlace) => self.promotion_failed(out, why),
            (_, Op::Rewind(_)) if *why == Failure::Hopeless => self.beyond_rewinding = self.saved.copy,
            (_, _) => {}
        }
    }

    fn timers(&self, now: Time, timer: &mut dyn FnMut(Time, Timer)) {
        if self.read.is_none() && self.asking.is_none() && self.lane.is_none() {
            timer(now + Span(1), Timer::Begin);
        }
        timer(self.ask_again, Timer::Again);
        timer(self.order_again, Timer::Again);
        self.failing.iter().for_each(|failing| timer(failing.until, Timer::Again));
        timer(self.arm_again, Timer::Again);
        if let (Some(lease), Some(fence)) = (&self.lease, self.fence()) {
            if lease.sending.is_none() {
                timer(lease.next, Timer::Beat);
            }
            timer(fence, Timer::Fence);
            timer(fence - self.config.demote_lead, Timer::Fence);
        }
        if let Some(pending) = &self.pending {
            timer(pending.until, Timer::Answer);
        }
        self.role_timers(timer);
    }

    /// What must hold after every input, whatever has happened. It stays on in production: a panic here leaves the
    /// guard in charge.
    fn check(&self, now: Time) {
        let holds = matches!(self.role, Role::Promoting | Role::Primary(_) | Role::Leaving(_));
        assert!(self.lease.is_none() || holds, "a lease in role {:?}", self.role);
        let needs = matches!(self.role, Role::Promoting | Role::Primary(_));
        assert!(self.lease.is_some() || !needs, "no lease in role {:?}", self.role);
        if let Some(lease) = &self.lease {
            assert!(self.saved.highest >= lease.epoch, "a lease above the highest epoch seen");
            assert!(
                self.frozen.is_none() || matches!(self.role, Role::Leaving(_)),
                "frozen, and holds the lease"
            );
            let fence = lease.authority - self.config.stop_budget;
            assert!(now < fence, "a lease after its fence");
            // By an earlier agent of this reign that counted on a longer T, which the reign still promises.
            let longer = self.view.reign.as_ref().map_or(Span::ZERO, |reign| reign.ttl - self.config.ttl);
            let beyond = |(epoch, until): (Epoch, Time)| epoch == lease.epoch && until > fence + longer;
            assert!(!self.armed.is_some_and(beyond), "the guard is armed beyond the fence");
            // A beat of ours that nobody answered may be seen since: what was sent after it will be refused.
            let published = self.view.beat.as_ref().filter(|beat| beat.revision == lease.beat);
            let published = published.filter(|_| self.admitted() == lease.epoch);
            let least = published.map_or(Lsn(0), |beat| beat.end);
            let goes_back = |record: &Record| matches!(record, Record::Beat(beat) if beat.end < least);
            let sent = lease.sending.iter().flat_map(|sending| &sending.put);
            assert!(!sent.into_iter().any(goes_back), "the published end of WAL goes back");
        }
        let ascending = self.saved.lineage.windows(2).all(|pair| pair[0].0 < pair[1].0);
        assert!(ascending, "the lineage {:?} does not ascend", self.saved.lineage);
    }
}
