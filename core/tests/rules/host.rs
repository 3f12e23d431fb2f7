//! One node on its host: the store and the PostgreSQL do what a test says, and the ordinary thing if it says nothing.

use primacy_core::Timer;
use primacy_core::effect::Reply;
use primacy_core::instance::{Data, Failure, Found, Instance, Op, Order, Performed, Saved};
use primacy_core::store::{
    Answer, Beat, EpochRecord, Initialize, Member, News, Pledge, Record, Reign, Request, Response, Rule, Txn,
    View,
};
use primacy_core::*;
use std::collections::BTreeMap;
use std::sync::Arc;

/// When hosts are looked at: not at the start of their clock, so that nothing holds by saturation.
pub const START: Time = Time(1_000_000_000);

/// The cluster's system identifier.
pub const SYSTEM: SystemId = SystemId(77);

pub const fn us(n: u64) -> Span {
    Span(n)
}

pub const fn ms(n: u64) -> Span {
    Span::millis(n)
}

pub const fn secs(n: u64) -> Span {
    Span::secs(n)
}

/// A position: the timeline, and the byte.
pub fn at(epoch: u32, lsn: u64) -> Position {
    Position { epoch: Epoch(epoch), lsn: Lsn(lsn) }
}

/// The mark that each member's copy has at first.
pub fn copy_of(member: &str) -> CopyId {
    CopyId(u64::from(member.as_bytes()[0]))
}

/// The mark of each reign that has been before a test begins.
pub fn nonce_of(epoch: u32) -> Nonce {
    Nonce(u64::from(epoch) * 10)
}

/// What a member keeps beside a copy with the WAL of these reigns.
pub fn saved(member: &str, lineage: &[u32]) -> Saved {
    let lineage: Vec<_> = lineage.iter().map(|epoch| (Epoch(*epoch), nonce_of(*epoch))).collect();
    let highest = lineage.last().map_or(Epoch(0), |(epoch, _)| *epoch);
    Saved { copy: copy_of(member), lineage, highest, mending: false }
}

/// A copy of the data at this position. Each timeline left the one before at a hundred times that one's number.
pub fn data(position: Position) -> Data {
    let forks = (1..=position.epoch.0).map(|epoch| (Epoch(epoch), fork_of(epoch)));
    Data { system: SYSTEM, position, forks: Arc::new(forks.collect()) }
}

/// Where the timeline of this epoch left the one before.
pub fn fork_of(epoch: u32) -> Position {
    at(epoch - 1, u64::from(epoch - 1) * 100)
}

/// A cleanly stopped PostgreSQL that was a standby.
pub fn stopped(position: Position) -> Instance {
    Instance::Stopped { data: data(position), clean: true, signal: true }
}

/// A PostgreSQL in recovery without a source of WAL.
pub fn in_recovery(position: Position) -> Instance {
    Instance::Standby { data: data(position), source: None, streaming: false, ready: true, starved: false }
}

/// A writable PostgreSQL, with those that stream from it and how far they are.
pub fn writable(position: Position, followers: &[(&str, u64)]) -> Instance {
    let followers = followers.iter().map(|(name, lsn)| ((*name).into(), Lsn(*lsn))).collect();
    Instance::Primary { data: data(position), followers, checkpointed: true }
}

/// A reign with a T of 5 s.
pub fn reign(epoch: u32, holder: &str) -> Reign {
    let nonce = nonce_of(epoch);
    Reign {
        epoch: Epoch(epoch),
        holder: holder.into(),
        boot: Boot(1),
        machine: MachineId(0),
        nonce,
        ttl: secs(5),
        released: None,
    }
}

/// A sign of life of the holder of `epoch`, whose WAL ends at `end`.
pub fn beat(epoch: u32, end: u64) -> Record {
    Record::Beat(Beat { epoch: Epoch(epoch), end: Lsn(end) })
}

/// The rule that `leader` wrote in `epoch`.
pub fn rule(epoch: u32, leader: &str, electable: &[&str]) -> Rule {
    let electable = electable.iter().map(|name| ((*name).into(), copy_of(name))).collect();
    Rule { epoch: Epoch(epoch), leader: leader.into(), leader_copy: copy_of(leader), electable }
}

/// What a member says of itself.
pub fn member(name: &str, priority: u32) -> Member {
    Member { name: name.into(), copy: copy_of(name), priority }
}

/// A member's word that it takes no more WAL of `epoch`.
pub fn pledge(name: &str, epoch: u32, position: Position) -> Pledge {
    Pledge { member: name.into(), epoch: Epoch(epoch), held: true, position, copy: copy_of(name) }
}

/// The place of `epoch` in the history.
pub fn epoch_record(epoch: u32, holder: &str, fork: Option<Position>) -> EpochRecord {
    EpochRecord {
        epoch: Epoch(epoch),
        holder: holder.into(),
        nonce: nonce_of(epoch),
        fork,
        checkpointed: fork.is_some(),
    }
}

/// A store in which `a` holds `epoch`, all reigns are verified, and `b` and `c` may be elected.
pub fn reign_of_a(epoch: u32) -> View {
    let mut view = View::default();
    let (by, system) = ("a".into(), Some(SYSTEM));
    write(&mut view, [Record::Initialize(Initialize { by, boot: Boot(1), system, foreign: false })]);
    write(&mut view, ["a", "b", "c"].map(|name| Record::Member(member(name, 1))));
    for epoch in 1..=epoch {
        write(&mut view, [Record::Epoch(epoch_record(epoch, "a", Some(fork_of(epoch))))]);
    }
    write(&mut view, [Record::Rule(rule(epoch, "a", &["b", "c"]))]);
    write(&mut view, [Record::Reign(reign(epoch, "a"))]);
    write(&mut view, [beat(epoch, u64::from(epoch) * 100)]);
    view
}

/// Writes records into a store, at its next revision.
pub fn write(store: &mut View, records: impl IntoIterator<Item = Record>) -> Revision {
    let revision = Revision(store.as_of.0 + 1);
    for record in records {
        store.put(record, revision);
    }
    revision
}

/// A request to the store that awaits its answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    pub id: OpId,
    pub sent: Time,
    pub until: Time,
    pub request: Request,
}

impl Asked {
    pub fn txn(&self) -> &Txn {
        let Request::Transact(txn) = &self.request else { panic!("a read") };
        txn
    }

    /// The reign that is asked for, or written again.
    pub fn reign(&self) -> &Reign {
        let reign = self.txn().put.iter().find_map(|record| match record {
            Record::Reign(reign) => Some(reign),
            _ => None,
        });
        reign.unwrap_or_else(|| panic!("no reign in {self:?}"))
    }
}

/// An order that awaits its answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ordered {
    pub id: OpId,
    pub order: Order,
}

/// A node and what it can see.
pub struct Host {
    pub node: Node,
    pub now: Time,
    /// What the store holds.
    pub store: View,
    /// How PostgreSQL is.
    pub postgres: Instance,
    /// What is durable beside the data.
    pub durable: Saved,
    /// Requests that await their answers, in the order they were sent.
    pub asked: Vec<Asked>,
    /// The order that awaits its answer.
    pub ordered: Option<Ordered>,
    /// Fences that the guard hasn't acknowledged yet.
    pub fences: Vec<(Epoch, Time)>,
    told: Vec<Event>,
    replies: Vec<(RequestId, Reply)>,
    pub exited: bool,
}

impl Host {
    /// A host whose agent has not begun yet.
    pub fn new(config: Config, saved: Saved, store: View, postgres: Instance) -> Host {
        Host {
            node: Node::new(Arc::new(config), Boot(7), saved.clone()),
            now: START,
            store,
            postgres,
            durable: saved,
            asked: Vec::new(),
            ordered: None,
            fences: Vec::new(),
            told: Vec::new(),
            replies: Vec::new(),
            exited: false,
        }
    }

    /// A host without data, of a cluster that doesn't exist yet.
    pub fn empty(name: &str) -> Host {
        Host::new(config(name), Saved::default(), View::default(), Instance::Absent)
    }

    /// `a`, the last leader of epoch 1, which the store still names. PostgreSQL is stopped, and its agent begins.
    pub fn last_leader(config: Config) -> Host {
        let mut host = Host::new(config, saved("a", &[1]), reign_of_a(1), stopped(at(1, 100)));
        host.input(Input::Guard(Guard::Idle));
        host
    }

    /// The same, elected for epoch 2 some time ago; its guard has not answered yet.
    pub fn elected() -> Host {
        let mut host = Host::last_leader(config("a"));
        host.settle_until("claiming");
        let claim = host.claim();
        host.pass(ms(200));
        host.answer(&claim);
        assert_eq!(host.role(), "promoting");
        host.told();
        host
    }

    /// `a` as the primary of epoch 2: the last leader of epoch 1, promoted at 1/100. Its last beat was sent just now.
    pub fn primary() -> Host {
        Host::primary_with(config("a"))
    }

    /// The same, with settings of its own.
    pub fn primary_with(config: Config) -> Host {
        let mut host = Host::last_leader(config);
        host.settle();
        assert_eq!(host.role(), "primary");
        assert_eq!(host.node.lease().map(|lease| lease.epoch), Some(Epoch(2)));
        host.told();
        host
    }

    /// A primary of which these members stream, this far.
    pub fn primary_of(followers: &[(&str, u64)]) -> Host {
        let mut host = Host::primary();
        host.sees(writable(at(2, 200), followers));
        host.settle();
        host
    }

    /// `b` as a standby that streams from `a`, the primary of epoch 2.
    pub fn standby() -> Host {
        Host::standby_with(config("b"))
    }

    /// The same, with settings of its own.
    pub fn standby_with(config: Config) -> Host {
        let mut host = Host::new(config, saved("b", &[1, 2]), reign_of_a(2), stopped(at(2, 200)));
        host.begin();
        assert_eq!(host.role(), "standby");
        host.told();
        host
    }

    /// A host after its agent's first look at the store and at PostgreSQL; what follows from that is open.
    pub fn looked(config: Config, saved: Saved, store: View, postgres: Instance) -> Host {
        let mut host = Host::new(config, saved, store, postgres);
        host.input(Input::Guard(Guard::Idle));
        host.see();
        host
    }

    /// Answers the agent's first look at PostgreSQL and at the store.
    pub fn see(&mut self) {
        let (look, read) = (self.order(), self.read());
        assert_eq!(look.order.op, Op::Look);
        self.done(&look);
        self.answer(&read);
    }

    /// Has the guard found idle, and all that is asked for at first answered.
    pub fn begin(&mut self) {
        self.input(Input::Guard(Guard::Idle));
        self.settle();
    }

    /// Gives the node an input, and keeps what it asks for.
    pub fn input(&mut self, input: Input) -> Vec<Effect> {
        let effects = self.node.handle(self.now, input);
        for effect in effects.clone() {
            match effect {
                Effect::Store { id, until, request } => {
                    self.asked.push(Asked { id, sent: self.now, until, request });
                }
                Effect::Postgres(id, order) => self.ordered = Some(Ordered { id, order }),
                Effect::Arm { epoch, until } => self.fences.push((epoch, until)),
                Effect::Reply(request, reply) => self.replies.push((request, reply)),
                Effect::Tell(event) => self.told.push(event),
                Effect::Exit => self.exited = true,
            }
        }
        effects
    }

    pub fn pass(&mut self, span: Span) {
        self.now = self.now + span;
    }

    pub fn wake_at(&mut self, time: Time) -> Vec<Effect> {
        assert!(time >= self.now, "time goes back");
        self.now = time;
        self.input(Input::Wake)
    }

    /// Lets the pause pass that follows whatever has failed.
    pub fn pass_pause(&mut self) {
        self.wake_at(self.now + ms(100));
    }

    /// Wakes the node when it next wants to be woken for this reason.
    pub fn wake_for(&mut self, timer: Timer) -> Vec<Effect> {
        for _ in 0..10 {
            let (time, why) = self.node.deadline(self.now).unwrap_or_else(|| panic!("no {timer:?} ahead"));
            let effects = self.wake_at(time);
            if why == timer {
                return effects;
            }
        }
        panic!("no {timer:?} ahead")
    }

    /// The one open request that is for this node's beat.
    pub fn beat(&mut self) -> Asked {
        self.take("a beat", |txn| matches!(txn.put[0], Record::Beat(_)))
    }

    /// The one open request for a reign.
    pub fn claim(&mut self) -> Asked {
        self.take("a claim", |txn| matches!(txn.put[0], Record::Reign(_)))
    }

    /// The one open request that writes something else.
    pub fn write(&mut self) -> Asked {
        self.take("a write", |txn| !matches!(txn.put[0], Record::Reign(_) | Record::Beat(_)))
    }

    fn take(&mut self, what: &str, wanted: impl Fn(&Txn) -> bool) -> Asked {
        let found = self
            .asked
            .iter()
            .position(|asked| matches!(&asked.request, Request::Transact(txn) if wanted(txn)));
        self.asked.remove(found.unwrap_or_else(|| panic!("no {what} in {:?}", self.asked)))
    }

    /// The one open read.
    pub fn read(&mut self) -> Asked {
        let found = self.asked.iter().position(|asked| asked.request == Request::Read);
        self.asked.remove(found.unwrap_or_else(|| panic!("no read in {:?}", self.asked)))
    }

    /// Applies a transaction if its compares hold; says at which revision.
    pub fn apply(&mut self, asked: &Asked) -> Option<Revision> {
        let txn = asked.txn();
        let holds = txn.compare.iter().all(|(key, revision)| self.store.revision(key) == *revision);
        holds.then(|| write(&mut self.store, txn.put.clone()))
    }

    /// Applies a request and answers it, as the store does.
    pub fn answer(&mut self, asked: &Asked) -> Vec<Effect> {
        let response = match &asked.request {
            Request::Read => Response::Read(Some(self.store.clone())),
            Request::Transact(_) => Response::Transact(match self.apply(asked) {
                Some(revision) => Answer::Committed(revision),
                None => Answer::Refused(self.store.clone()),
            }),
        };
        self.input(Input::Answered(asked.id, response))
    }

    /// No answer came in time.
    pub fn unknown(&mut self, asked: &Asked) -> Vec<Effect> {
        let response = match asked.request {
            Request::Read => Response::Read(None),
            Request::Transact(_) => Response::Transact(Answer::Unknown),
        };
        self.input(Input::Answered(asked.id, response))
    }

    /// Somebody else writes, and the watch doesn't say so.
    pub fn written(&mut self, records: impl IntoIterator<Item = Record>) -> Revision {
        write(&mut self.store, records)
    }

    /// Somebody else writes, and the watch says so.
    pub fn news(&mut self, records: impl IntoIterator<Item = Record>) -> Vec<Effect> {
        let records: Vec<_> = records.into_iter().collect();
        let revision = self.written(records.clone());
        self.input(Input::News(News::Changed(revision, records)))
    }

    /// PostgreSQL is found to be like this.
    pub fn sees(&mut self, instance: Instance) -> Vec<Effect> {
        self.postgres = instance.clone();
        let found = Found { instance, saved: Some(self.durable.clone()) };
        self.input(Input::Instance(found))
    }

    /// The open order.
    pub fn order(&mut self) -> Ordered {
        self.ordered.take().expect("an order")
    }

    /// The agent of a primary is to stop: the stop, after the checkpoint before it.
    pub fn shut_down(&mut self) -> Ordered {
        self.command(Command::Shutdown);
        let checkpoint = self.order();
        self.done(&checkpoint);
        self.order()
    }

    /// What is ordered at the moment.
    pub fn op(&self) -> Option<&Op> {
        self.ordered.as_ref().map(|ordered| &ordered.order.op)
    }

    /// An order is carried out in the ordinary way.
    pub fn done(&mut self, ordered: &Ordered) -> Vec<Effect> {
        self.carry_out(ordered);
        self.performed(ordered, None)
    }

    /// An order is carried out, and counts as failed all the same.
    pub fn unheard(&mut self, ordered: &Ordered) -> Vec<Effect> {
        self.carry_out(ordered);
        self.performed(ordered, Some(Failure::TimedOut))
    }

    fn carry_out(&mut self, Ordered { order, .. }: &Ordered) {
        self.postgres = after(&self.postgres, order, &self.store);
        // Of a copy that was made anew, or mended to its end.
        self.durable = Saved { mending: false, ..order.saved.clone() };
    }

    /// An order fails, and nothing was done.
    pub fn failed(&mut self, ordered: &Ordered, why: Failure) -> Vec<Effect> {
        self.performed(ordered, Some(why))
    }

    fn performed(&mut self, ordered: &Ordered, failure: Option<Failure>) -> Vec<Effect> {
        let found = Found { instance: self.postgres.clone(), saved: Some(self.durable.clone()) };
        self.input(Input::Performed(ordered.id, Performed { failure, found }))
    }

    /// The guard acknowledges the fences it was told.
    pub fn acknowledge(&mut self) {
        for (epoch, until) in std::mem::take(&mut self.fences) {
            self.input(Input::Guard(Guard::Armed { epoch, until }));
        }
    }

    /// Everything asked for is done and answered in the ordinary way, in no time.
    pub fn settle(&mut self) {
        self.settle_until("nothing is left to do");
    }

    /// The same, but no further than to this role.
    pub fn settle_until(&mut self, role: &str) {
        for _ in 0..100 {
            if self.role() == role {
                return;
            }
            self.acknowledge();
            if !self.asked.is_empty() {
                let asked = self.asked.remove(0);
                self.answer(&asked);
            } else if let Some(ordered) = self.ordered.take() {
                self.done(&ordered);
            } else if self.fences.is_empty() {
                return;
            }
        }
        panic!("{} doesn't settle: {:?}", self.role(), self.told);
    }

    /// An operator's command, with the number 1.
    pub fn command(&mut self, command: Command) -> Vec<Effect> {
        self.input(Input::Operator(RequestId(1), command))
    }

    /// An operator's wish to move the primary.
    pub fn switchover(&mut self, to: Option<&str>) -> Vec<Effect> {
        self.command(Command::Switchover { to: to.map(Name::from) })
    }

    /// What the node has told since it was last asked.
    pub fn told(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.told)
    }

    /// What operators were answered since this was last asked.
    pub fn replies(&mut self) -> Vec<(RequestId, Reply)> {
        std::mem::take(&mut self.replies)
    }

    pub fn role(&self) -> &'static str {
        self.node.role().word()
    }

    /// The end of the authority, which a holder has.
    pub fn authority(&self) -> Time {
        self.node.authority().expect("a lease")
    }

    /// The fence: the end of the authority, less half a second for the killing.
    pub fn fence(&self) -> Time {
        self.authority() - ms(500)
    }
}

/// The settings of a test's node.
pub fn config(name: &str) -> Config {
    Config { health_age: Span::ZERO, ..Config::new(name.into(), secs(5)) }
}

/// How PostgreSQL is after an order was carried out.
fn after(before: &Instance, order: &Order, store: &View) -> Instance {
    let data = before.data().cloned();
    let known = || data.clone().expect("data");
    match &order.op {
        Op::Look | Op::Checkpoint => before.clone(),
        Op::Initdb => Instance::Stopped { data: crate::host::data(at(1, 50)), clean: true, signal: false },
        Op::Clone(_) | Op::Rewind(_) => {
            let epoch = store.reign.as_ref().expect("a reign").epoch;
            let lsn = store.beat.as_ref().expect("a beat").end;
            stopped(Position { epoch, lsn })
        }
        Op::SetAside => Instance::Absent,
        Op::StartStandby | Op::CloseSources => {
            Instance::Standby { data: known(), source: None, streaming: false, ready: true, starved: false }
        }
        Op::StartInPlace => primary(known()),
        Op::Follow(name) => {
            let source = Some((name.clone(), order.epoch));
            Instance::Standby { data: known(), source, streaming: true, ready: true, starved: false }
        }
        Op::Promote => primary(promoted(known(), order.epoch)),
        Op::Settle => settled(before.clone()),
        Op::Stop | Op::Kill if before.runs() => {
            let (clean, signal) = (order.op == Op::Stop, matches!(before, Instance::Standby { .. }));
            Instance::Stopped { data: known(), clean, signal }
        }
        Op::Stop | Op::Kill => before.clone(),
    }
}

/// A writable PostgreSQL that nobody streams from yet, just opened.
fn primary(data: Data) -> Instance {
    Instance::Primary { data, followers: BTreeMap::new(), checkpointed: false }
}

fn settled(mut instance: Instance) -> Instance {
    if let Instance::Primary { checkpointed, .. } = &mut instance {
        *checkpointed = true;
    }
    instance
}

fn promoted(mut data: Data, epoch: Epoch) -> Data {
    let fork = std::mem::replace(&mut data.position.epoch, epoch);
    Arc::make_mut(&mut data.forks).insert(epoch, Position { epoch: fork, lsn: data.position.lsn });
    data
}
