//! The operations of a transaction and their results.

use tonic::Status;

use crate::error::malformed;
use crate::kv::{self, KeyValue};
use crate::proto::etcdserverpb as pb;
use crate::{Keys, LeaseId};
use pb::request_op::Request;
use pb::response_op::Response;

/// One operation of a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// Sets a key.
    Put {
        /// The key.
        key: Vec<u8>,
        /// Its new value.
        value: Vec<u8>,
        /// The lease the key hangs on from now on; `None` takes it off any lease.
        lease: Option<LeaseId>,
    },
    /// Reads keys, as they are at this point of the transaction.
    Get(Keys),
    /// Deletes keys.
    Delete(Keys),
}

impl Op {
    /// Sets a key that hangs on no lease.
    pub fn put(key: impl Into<Vec<u8>>, value: impl Into<Vec<u8>>) -> Op {
        Op::Put { key: key.into(), value: value.into(), lease: None }
    }

    /// Sets a key that goes when `lease` ends.
    pub fn put_with_lease(key: impl Into<Vec<u8>>, value: impl Into<Vec<u8>>, lease: LeaseId) -> Op {
        Op::Put { key: key.into(), value: value.into(), lease: Some(lease) }
    }

    /// Reads a key, or with [`Keys::prefix`] several.
    pub fn get(keys: impl Into<Keys>) -> Op {
        Op::Get(keys.into())
    }

    /// Deletes a key, or with [`Keys::prefix`] several.
    pub fn delete(keys: impl Into<Keys>) -> Op {
        Op::Delete(keys.into())
    }

    pub(crate) fn into_request(self) -> pb::RequestOp {
        let request = match self {
            Op::Put { key, value, lease } => Request::RequestPut(kv::put_request(key, value, lease)),
            Op::Get(keys) => Request::RequestRange(kv::range_request(keys)),
            Op::Delete(keys) => Request::RequestDeleteRange(kv::delete_request(keys)),
        };
        pb::RequestOp { request: Some(request) }
    }
}

/// What one operation of a transaction did, in the order of the operations.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OpResult {
    /// The key is set; its mod revision is the transaction's.
    Put,
    /// The keys found, ordered by key.
    Get(Vec<KeyValue>),
    /// How many keys were deleted.
    Delete(i64),
}

impl OpResult {
    pub(crate) fn read(op: pb::ResponseOp) -> Result<OpResult, Status> {
        match op.response {
            Some(Response::ResponsePut(_)) => Ok(OpResult::Put),
            Some(Response::ResponseRange(range)) => Ok(OpResult::Get(KeyValue::read_all(range.kvs))),
            Some(Response::ResponseDeleteRange(deletion)) => Ok(OpResult::Delete(deletion.deleted)),
            Some(Response::ResponseTxn(_)) => Err(malformed("a transaction nobody asked for")),
            None => Err(malformed("an operation without a result")),
        }
    }

    /// The keys read, if this was a read.
    pub fn as_get(&self) -> Option<&[KeyValue]> {
        match self {
            OpResult::Get(entries) => Some(entries),
            OpResult::Put | OpResult::Delete(_) => None,
        }
    }
}
