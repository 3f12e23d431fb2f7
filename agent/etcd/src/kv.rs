//! Single reads and writes.

use tonic::Status;
use tonic::transport::Channel;

use crate::proto::etcdserverpb as pb;
use crate::proto::mvccpb;
use crate::{Client, Error, Header, Instant, Keys, LeaseId};
use pb::kv_client::KvClient;

/// Answers come whole, so this bounds how much may lie under one prefix. tonic's own limit is 4 MiB.
const ANSWER_BYTES_MAX: usize = 64 << 20;

/// A key as stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyValue {
    /// The key.
    pub key: Vec<u8>,
    /// Its value.
    pub value: Vec<u8>,
    /// The revision that created it.
    pub create_revision: i64,
    /// The revision of its last change.
    pub mod_revision: i64,
    /// How many times it was set since it was created.
    pub version: i64,
    /// The lease it hangs on.
    pub lease: Option<LeaseId>,
}

/// The keys found by a read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Range {
    /// Who answered. Its revision is the one the read saw, from which to watch on (plus one).
    pub header: Header,
    /// The keys, ordered.
    pub entries: Vec<KeyValue>,
}

/// What a deletion did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deletion {
    /// Who answered.
    pub header: Header,
    /// How many keys are gone.
    pub deleted: i64,
}

impl Client {
    /// Reads keys, linearizably. One try.
    ///
    /// # Errors
    /// See [`Error`]; a read never changes anything.
    pub async fn range(&self, keys: impl Into<Keys>, deadline: Instant) -> Result<Range, Error> {
        let request = range_request(keys.into());
        self.once(deadline, |channel| range(channel, request)).await
    }

    /// Reads keys, linearizably, with as many tries as fit before the deadline, on each endpoint in turn.
    ///
    /// # Errors
    /// [`Error::Refused`] at once, anything else from the last try.
    pub async fn read(&self, keys: impl Into<Keys>, deadline: Instant) -> Result<Range, Error> {
        let request = range_request(keys.into());
        self.repeatedly(deadline, |channel| range(channel, request.clone())).await
    }

    /// Sets a key, on `lease` or on none. One try. The revision in the answer is the key's mod revision.
    ///
    /// # Errors
    /// [`Error::Refused`] with `NotFound` if the lease doesn't exist.
    pub async fn put(
        &self,
        key: impl Into<Vec<u8>>,
        value: impl Into<Vec<u8>>,
        lease: Option<LeaseId>,
        deadline: Instant,
    ) -> Result<Header, Error> {
        let request = put_request(key.into(), value.into(), lease);
        let put =
            |channel| async { Header::read(kv_client(channel).put(request).await?.into_inner().header) };
        self.once(deadline, put).await
    }

    /// Deletes keys. One try.
    ///
    /// # Errors
    /// See [`Error`]. That there was nothing to delete is none.
    pub async fn delete(&self, keys: impl Into<Keys>, deadline: Instant) -> Result<Deletion, Error> {
        let request = delete_request(keys.into());
        self.once(deadline, |channel| delete(channel, request)).await
    }

    /// Forgets the history before `revision`: reads and watches below it are refused from now on. One try.
    ///
    /// # Errors
    /// [`Error::Refused`] with `OutOfRange` if it is compacted that far already, or lies in the future.
    pub async fn compact(&self, revision: i64, deadline: Instant) -> Result<Header, Error> {
        let request = pb::CompactionRequest { revision, physical: false };
        let compact =
            |channel| async { Header::read(kv_client(channel).compact(request).await?.into_inner().header) };
        self.once(deadline, compact).await
    }
}

impl KeyValue {
    pub(crate) fn read(kv: mvccpb::KeyValue) -> KeyValue {
        let mvccpb::KeyValue { key, create_revision, mod_revision, version, value, lease } = kv;
        KeyValue { key, value, create_revision, mod_revision, version, lease: LeaseId::not_zero(lease) }
    }

    pub(crate) fn read_all(kvs: Vec<mvccpb::KeyValue>) -> Vec<KeyValue> {
        kvs.into_iter().map(KeyValue::read).collect()
    }
}

pub(crate) fn kv_client(channel: Channel) -> KvClient<Channel> {
    KvClient::new(channel).max_decoding_message_size(ANSWER_BYTES_MAX)
}

async fn range(channel: Channel, request: pb::RangeRequest) -> Result<Range, Status> {
    let answer = kv_client(channel).range(request).await?.into_inner();
    Ok(Range { header: Header::read(answer.header)?, entries: KeyValue::read_all(answer.kvs) })
}

async fn delete(channel: Channel, request: pb::DeleteRangeRequest) -> Result<Deletion, Status> {
    let answer = kv_client(channel).delete_range(request).await?.into_inner();
    Ok(Deletion { header: Header::read(answer.header)?, deleted: answer.deleted })
}

/// Never serializable: a member cut off from the others must not answer from its own memory (A10).
pub(crate) fn range_request(keys: Keys) -> pb::RangeRequest {
    let (key, range_end) = keys.into_range();
    pb::RangeRequest { key, range_end, ..Default::default() }
}

pub(crate) fn put_request(key: Vec<u8>, value: Vec<u8>, lease: Option<LeaseId>) -> pb::PutRequest {
    pb::PutRequest { key, value, lease: LeaseId::or_zero(lease), ..Default::default() }
}

pub(crate) fn delete_request(keys: Keys) -> pb::DeleteRangeRequest {
    let (key, range_end) = keys.into_range();
    pb::DeleteRangeRequest { key, range_end, prev_kv: false }
}
