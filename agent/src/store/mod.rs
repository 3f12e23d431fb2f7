//! The store of the core's records in etcd.

pub mod directory;
pub mod mirror;
#[cfg(test)]
mod parity;
pub mod records;
#[cfg(test)]
mod tests;
pub mod upkeep;
mod watch;

pub use watch::see_all;

use crate::clock::{calendar_now, instant, unix_seconds};
use crate::patroni::PROMOTED;
use directory::Directory;
use mirror::SharedLease;
use primacy_core::store::{Answer, Key, News, Record, Request, Response, Txn, View};
use primacy_core::{Name, Span, Time};
use primacy_driver::Store;
use primacy_etcd::{Client, Code, Compare, Error, Instant, Is, KeyValue, Keys, LeaseId, Op};
use records::{Meaning, Paths, Told};
use serde_json::{Value, json};
use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::task::Poll;
use std::time::Duration;
use tokio::sync::mpsc;

/// One try on one member. Shorter than the core's patience, so that a member without an answer is left before the
/// core gives up on the request.
pub const TRY: Duration = Duration::from_millis(350);

/// How much earlier than the core's `until` a request ends, so that its end is noticed here.
const MARGIN: Span = Span::millis(20);

/// No more of the history is mirrored, the oldest first: etcd refuses large requests, and the mirror must not keep the
/// record beside it from being written.
const HISTORY_BYTES_MAX: usize = 64 << 10;

/// What has last come of the requests of one kind: a change is logged, not each failure.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Heard {
    #[default]
    Answers,
    Nothing,
    Full,
}

/// See the [module](self).
pub struct EtcdStore {
    client: Client,
    paths: Paths,
    me: Name,
    directory: Directory,
    lease: SharedLease,
    news: RefCell<mpsc::UnboundedReceiver<News>>,
    /// An etcd without space, or a member without a leader, may answer one kind only.
    reads: Cell<Heard>,
    writes: Cell<Heard>,
    told: Told,
}

impl EtcdStore {
    /// The store of the cluster below `paths`. Its watch runs as a task of its own; a holder can be heard of each
    /// `sign_of_life`.
    pub fn new(
        client: Client,
        paths: Paths,
        me: Name,
        directory: Directory,
        lease: SharedLease,
        sign_of_life: Duration,
    ) -> EtcdStore {
        let (sender, news) = mpsc::unbounded_channel();
        let told = Told::default();
        let teller = watch::Teller {
            paths: paths.clone(),
            directory: directory.clone(),
            told: told.clone(),
            news: sender,
        };
        tokio::spawn(watch::run(client.clone(), sign_of_life, teller));
        EtcdStore {
            client,
            paths,
            me,
            directory,
            lease,
            news: RefCell::new(news),
            reads: Cell::default(),
            writes: Cell::default(),
            told,
        }
    }

    async fn read(&self, deadline: Instant) -> Option<View> {
        let read = self.client.read(Keys::prefix(self.paths.prefix.clone()), deadline).await;
        self.note("reads", &self.reads, read.as_ref().err());
        let range = read.ok()?;
        self.view(&range.entries, range.header.revision)
    }

    async fn transact(&self, txn: &Txn, deadline: Instant) -> Answer {
        let lease = self.lease.get();
        let first = self.send(txn, lease, deadline).await;
        let result = match first {
            // Nothing was changed. The mirror isn't worth the record: it is repaired once there is a lease again.
            Err(Error::Refused { code: Code::NotFound, .. }) if lease.is_some() => {
                self.lease.lost(lease);
                self.send(txn, None, deadline).await
            }
            first => first,
        };
        self.note("writes", &self.writes, result.as_ref().err());
        match result {
            Ok(done) if done.succeeded => Answer::Committed(records::revision(done.header.revision)),
            Ok(done) => {
                let entries = done.results.first().and_then(|result| result.as_get()).unwrap_or_default();
                self.view(entries, done.header.revision).map_or(Answer::Unknown, Answer::Refused)
            }
            Err(_) => Answer::Unknown,
        }
    }

    async fn send(
        &self,
        txn: &Txn,
        lease: Option<LeaseId>,
        deadline: Instant,
    ) -> Result<primacy_etcd::Txn, Error> {
        let (mut compares, mut puts) = (Vec::new(), Vec::new());
        for (key, revision) in &txn.compare {
            let revision = i64::try_from(revision.0).unwrap_or(i64::MAX);
            compares.push(Compare::mod_revision(self.paths.of(key), Is::Equal, revision));
        }
        for record in &txn.put {
            if !matches!(record, Record::Leader(_)) {
                puts.push(Op::put(self.paths.of(&record.key()), records::encode(record)));
            }
            self.mirror(record, txn, lease, &mut compares, &mut puts);
        }
        // The store refuses a transaction that writes one key twice.
        if let Some(history) = self.longer_history(&txn.put) {
            puts.push(Op::put(self.paths.mirror("history"), newest(history).to_string()));
        }
        let everything = vec![Op::get(Keys::prefix(self.paths.prefix.clone()))];
        self.client.txn(compares, puts, everything, deadline).await
    }

    /// What other tools are to see of a record, written together with it.
    fn mirror(
        &self,
        record: &Record,
        txn: &Txn,
        lease: Option<LeaseId>,
        compares: &mut Vec<Compare>,
        puts: &mut Vec<Op>,
    ) {
        match record {
            Record::Initialize(initialize) => {
                let path = self.paths.mirror("initialize");
                if txn.compare.iter().any(|(key, revision)| *key == Key::Initialize && revision.0 == 0) {
                    // Another manager claims a cluster by making just this key.
                    compares.push(Compare::absent(path.clone()));
                }
                let system = initialize.system.map(|system| system.to_string()).unwrap_or_default();
                puts.push(Op::put(path, system));
            }
            Record::Reign(reign) if reign.released.is_some() => {
                puts.push(Op::delete(self.paths.of(&Key::Leader)));
            }
            Record::Reign(reign) => {
                if let (Some(lease), true) = (lease, reign.holder == self.me) {
                    puts.push(Op::put_with_lease(self.paths.of(&Key::Leader), self.me.as_str(), lease));
                }
            }
            Record::Beat(beat) => {
                puts.push(Op::put(self.paths.mirror("status"), json!({"optime": beat.end}).to_string()));
            }
            Record::Epoch(_)
            | Record::Rule(_)
            | Record::Switchover(_)
            | Record::Leader(_)
            | Record::Pledge(_)
            | Record::Member(_) => {}
        }
    }

    /// The history with the changes of timeline that are written just now; none if there is nothing to add.
    fn longer_history(&self, written: &[Record]) -> Option<Vec<Value>> {
        let mut history = self.directory.look().history.clone();
        let known = history.len();
        for record in written {
            let Record::Epoch(epoch) = record else { continue };
            let Some(fork) = epoch.fork.filter(|fork| fork.epoch.0 > 0) else { continue };
            if history.iter().all(|entry| entry[0] != json!(fork.epoch)) {
                history.push(json!([fork.epoch, fork.lsn, PROMOTED, calendar_now(), epoch.holder]));
            }
        }
        (history.len() > known).then_some(history)
    }

    fn view(&self, entries: &[KeyValue], revision: i64) -> Option<View> {
        see_all(&self.paths, &self.directory, entries);
        let view = records::view(&self.paths, entries, revision, &self.told);
        view.map_err(|garbage| self.told.of(garbage)).ok()
    }

    fn note(&self, what: &str, last: &Cell<Heard>, error: Option<&Error>) {
        let heard = match error {
            None => Heard::Answers,
            Some(error) if error.is_out_of_space() => Heard::Full,
            Some(_) => Heard::Nothing,
        };
        if heard == Heard::Answers {
            self.directory.look().answered = unix_seconds();
        }
        let changed = last.replace(heard) != heard;
        match (error, heard) {
            (None, _) if changed => {
                tracing::info!(endpoint = %self.client.current_endpoint(), "the store answers {what} again");
            }
            (None, _) => {}
            (Some(error), Heard::Full) if changed => tracing::error!(%error, "{}", upkeep::FULL),
            (Some(error), _) if changed => tracing::warn!(%error, "the store does not answer {what}"),
            (Some(error), _) => tracing::debug!(%error, "the store still does not answer {what}"),
        }
    }
}

/// The newest entries, as many as may be mirrored.
fn newest(mut history: Vec<Value>) -> Value {
    let mut room = Some(HISTORY_BYTES_MAX);
    let fits = |entry: &&Value| {
        room = room.and_then(|room| room.checked_sub(entry.to_string().len() + 1));
        room.is_some()
    };
    let kept = history.iter().rev().take_while(fits).count();
    Value::Array(history.split_off(history.len() - kept))
}

impl Store for EtcdStore {
    async fn ask(&self, request: Request, until: Time) -> Response {
        let deadline = instant(until - MARGIN);
        match request {
            Request::Read => Response::Read(self.read(deadline).await),
            Request::Transact(txn) => Response::Transact(self.transact(&txn, deadline).await),
        }
    }

    async fn news(&self) -> News {
        poll_fn(|cx| match self.news.borrow_mut().poll_recv(cx) {
            Poll::Ready(Some(news)) => Poll::Ready(news),
            // The watch goes on as long as the runtime does.
            Poll::Ready(None) | Poll::Pending => Poll::Pending,
        })
        .await
    }
}

/// What a key means to the directory.
fn is_of_directory(meaning: &Meaning) -> bool {
    matches!(meaning, Meaning::Member(_) | Meaning::History | Meaning::Note(_) | Meaning::Record(Key::Leader))
}
