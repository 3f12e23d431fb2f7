//! A fake etcd: records with revisions, transactions over them. What the network does to requests is not its affair.

use primacy_core::Revision;
use primacy_core::store::{Answer, Leader, Record, Request, Response, Txn, View};
use std::sync::Arc;

/// The store as a value.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Store {
    /// All records, at their revisions.
    pub view: Arc<View>,
    /// It has a majority.
    pub up: bool,
}

impl Default for Store {
    fn default() -> Store {
        let view = View { as_of: Revision(1), ..View::default() };
        Store { view: Arc::new(view), up: true }
    }
}

impl Store {
    /// Answers a request, and says which records were written.
    pub fn answer(&mut self, request: &Request) -> (Response, Option<(Revision, Vec<Record>)>) {
        match request {
            Request::Read => (Response::Read(Some(View::clone(&self.view))), None),
            Request::Transact(txn) => {
                if txn.compare.iter().any(|(key, revision)| self.view.revision(key) != *revision) {
                    return (Response::Transact(Answer::Refused(View::clone(&self.view))), None);
                }
                let written = self.commit(txn);
                (Response::Transact(Answer::Committed(written.0)), Some(written))
            }
        }
    }

    fn commit(&mut self, txn: &Txn) -> (Revision, Vec<Record>) {
        let mut records = txn.put.clone();
        records.extend(self.mirror(&records));
        (self.write(&records), records)
    }

    /// The mirrored leader key: written with each reign and each beat that finds it missing, deleted on release. It
    /// hangs on a lease of the store, so it may vanish at any other time as well.
    fn mirror(&self, records: &[Record]) -> Option<Record> {
        let known = self.view.leader.as_ref().and_then(|leader| leader.name.clone());
        let reign = records.iter().find_map(|record| match record {
            Record::Reign(reign) => Some(reign),
            _ => None,
        });
        let beats = records.iter().any(|record| matches!(record, Record::Beat(_)));
        let name = match (reign, &self.view.reign) {
            (Some(reign), _) => reign.released.is_none().then(|| reign.holder.clone()),
            (None, Some(reign)) if beats => reign.released.is_none().then(|| reign.holder.clone()),
            (None, _) => return None,
        };
        (name != known).then_some(Record::Leader(Leader { name }))
    }

    /// Deletes the mirrored leader key, whoever did that.
    pub fn drop_leader(&mut self) -> Option<(Revision, Vec<Record>)> {
        self.view.leader.as_ref().and_then(|leader| leader.name.as_ref())?;
        let records = vec![Record::Leader(Leader { name: None })];
        Some((self.write(&records), records))
    }

    pub(super) fn write(&mut self, records: &[Record]) -> Revision {
        let view = Arc::make_mut(&mut self.view);
        let revision = Revision(view.as_of.0 + 1);
        view.as_of = revision;
        for record in records {
            view.put(record.clone(), revision);
        }
        revision
    }
}
