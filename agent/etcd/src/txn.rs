//! Transactions.

use tonic::Status;
use tonic::transport::Channel;

use crate::error::malformed;
use crate::kv::kv_client;
use crate::proto::etcdserverpb as pb;
use crate::{Client, Compare, Error, Header, Instant, Op, OpResult};

/// A transaction that was carried out, by either branch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Txn {
    /// Who answered; its revision is the transaction's own if anything was written.
    pub header: Header,
    /// Whether all conditions held, so that the first branch was taken.
    pub succeeded: bool,
    /// One result for each operation of the branch taken.
    pub results: Vec<OpResult>,
}

impl Client {
    /// If all `compares` hold, carries out `success`, else `failure`; atomically, at one revision. One try.
    ///
    /// # Errors
    /// [`Error::Refused`] for a lease that doesn't exist (`NotFound`), or one key written twice
    /// (`InvalidArgument`). Conditions that don't hold are no error.
    pub async fn txn(
        &self,
        compares: Vec<Compare>,
        success: Vec<Op>,
        failure: Vec<Op>,
        deadline: Instant,
    ) -> Result<Txn, Error> {
        let request = pb::TxnRequest {
            compare: compares.into_iter().map(Compare::into_request).collect(),
            success: success.into_iter().map(Op::into_request).collect(),
            failure: failure.into_iter().map(Op::into_request).collect(),
        };
        self.once(deadline, |channel| send(channel, request)).await
    }
}

async fn send(channel: Channel, request: pb::TxnRequest) -> Result<Txn, Status> {
    let expected = [request.failure.len(), request.success.len()];
    let answer = kv_client(channel).txn(request).await?.into_inner();
    if answer.responses.len() != expected[usize::from(answer.succeeded)] {
        return Err(malformed("not one result for each operation"));
    }
    Ok(Txn {
        header: Header::read(answer.header)?,
        succeeded: answer.succeeded,
        results: answer.responses.into_iter().map(OpResult::read).collect::<Result<_, _>>()?,
    })
}
