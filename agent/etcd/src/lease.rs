//! Leases: keys that go by themselves.

use std::fmt;
use std::time::Duration;

use tonic::Status;
use tonic::transport::Channel;

use crate::error::malformed;
use crate::proto::etcdserverpb as pb;
use crate::{Client, Error, Header, Instant};
use pb::lease_client::LeaseClient;

/// The name of a lease, never 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LeaseId(i64);

impl LeaseId {
    /// The lease of this number; `None` for 0, etcd's "no lease".
    pub fn new(id: i64) -> Option<LeaseId> {
        LeaseId::not_zero(id)
    }

    /// The number, as etcd has it.
    pub fn get(self) -> i64 {
        self.0
    }

    pub(crate) fn not_zero(id: i64) -> Option<LeaseId> {
        (id != 0).then_some(LeaseId(id))
    }

    pub(crate) fn or_zero(lease: Option<LeaseId>) -> i64 {
        lease.map_or(0, |lease| lease.0)
    }
}

/// In hexadecimal, as etcdctl prints it.
impl fmt::Display for LeaseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// A lease just granted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lease {
    /// Who answered.
    pub header: Header,
    /// Its name.
    pub id: LeaseId,
    /// How long it lives, counted from some moment between request and answer: count from the request. May
    /// be longer than asked for; etcd has a minimum.
    pub ttl: Duration,
}

/// The answer to a keepalive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Renewal {
    /// The lease lives on.
    Alive {
        /// How long, counted from some moment between request and answer: count from the request.
        ttl: Duration,
    },
    /// The store has no such lease: it has ended or was revoked, and its keys are gone or about to go.
    Gone,
}

impl Client {
    /// Asks for a lease of `ttl`, rounded up to whole seconds. One try.
    ///
    /// With an `id` of the caller's own, a grant of unknown outcome can be looked into by keeping that lease
    /// alive, and can't leave behind a lease nobody knows of.
    ///
    /// # Errors
    /// [`Error::Refused`] with `FailedPrecondition` if that lease exists already, `OutOfRange` for a time
    /// that is too long (9,000,000,000 s).
    pub async fn lease_grant(
        &self,
        ttl: Duration,
        id: Option<LeaseId>,
        deadline: Instant,
    ) -> Result<Lease, Error> {
        let request = pb::LeaseGrantRequest { ttl: seconds_up(ttl), id: LeaseId::or_zero(id) };
        self.once(deadline, |channel| grant(channel, request)).await
    }

    /// Renews a lease to its full time, once. One try; an answer that comes too late is never taken for that
    /// to a later keepalive.
    ///
    /// # Errors
    /// See [`Error`]. A lease that doesn't exist is [`Renewal::Gone`], no error. After [`Error::Unknown`] the
    /// lease may end as late as if the keepalive had been answered, or later: the holder counts from its last
    /// answered one, whoever waits for the end watches the key.
    pub async fn lease_keepalive(&self, id: LeaseId, deadline: Instant) -> Result<Renewal, Error> {
        self.once(deadline, |channel| keepalive(channel, id)).await
    }

    /// Ends a lease; its keys go with it. One try.
    ///
    /// # Errors
    /// [`Error::Refused`] with `NotFound` if there is no such lease.
    pub async fn lease_revoke(&self, id: LeaseId, deadline: Instant) -> Result<Header, Error> {
        let request = pb::LeaseRevokeRequest { id: id.0 };
        let revoke = |channel| async {
            Header::read(LeaseClient::new(channel).lease_revoke(request).await?.into_inner().header)
        };
        self.once(deadline, revoke).await
    }
}

async fn grant(channel: Channel, request: pb::LeaseGrantRequest) -> Result<Lease, Status> {
    let answer = LeaseClient::new(channel).lease_grant(request).await?.into_inner();
    if !answer.error.is_empty() {
        return Err(Status::unknown(answer.error));
    }
    let id = LeaseId::not_zero(answer.id).ok_or_else(|| malformed("lease 0"))?;
    let ttl = seconds(answer.ttl).ok_or_else(|| malformed("a lease without time"))?;
    Ok(Lease { header: Header::read(answer.header)?, id, ttl })
}

/// A stream of its own for each request, dropped with the answer or on time-out.
async fn keepalive(channel: Channel, id: LeaseId) -> Result<Renewal, Status> {
    let request = tokio_stream::once(pb::LeaseKeepAliveRequest { id: id.0 });
    let mut answers = LeaseClient::new(channel).lease_keep_alive(request).await?.into_inner();
    let answer = answers.message().await?.ok_or_else(|| malformed("no answer to a keepalive"))?;
    if answer.id != id.0 {
        return Err(malformed("another lease"));
    }
    Ok(seconds(answer.ttl).map_or(Renewal::Gone, |ttl| Renewal::Alive { ttl }))
}

/// A time above zero; etcd reports a lease that has ended with 0 or -1.
fn seconds(ttl: i64) -> Option<Duration> {
    u64::try_from(ttl).ok().filter(|ttl| *ttl > 0).map(Duration::from_secs)
}

fn seconds_up(ttl: Duration) -> i64 {
    let seconds = ttl.as_secs() + u64::from(ttl.subsec_nanos() > 0);
    i64::try_from(seconds).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_is_never_shorter_than_asked_for() {
        assert_eq!(seconds_up(Duration::from_millis(2001)), 3);
        assert_eq!(seconds_up(Duration::from_secs(2)), 2);
    }

    #[test]
    fn no_time_left_is_no_lease() {
        assert_eq!([seconds(-1), seconds(0), seconds(1)], [None, None, Some(Duration::from_secs(1))]);
    }
}
