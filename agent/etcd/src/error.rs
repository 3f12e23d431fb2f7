//! What can go wrong, sorted by what the caller may conclude about the store.

use std::error::Error as StdError;

use tonic::{Code, ConnectError, Status};

use crate::Endpoint;

/// Why a call has no result, and what that says about the store.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The request never left: **surely not applied**, and it never will be. A connection was refused or
    /// didn't come about in time, the member didn't say which cluster it belongs to or belongs to another one, or
    /// the deadline had passed before the try.
    #[error("etcd {endpoint}: not sent: {reason}")]
    NotSent {
        /// The member that was tried.
        endpoint: Endpoint,
        /// Why it wasn't sent.
        reason: String,
    },
    /// There is no definitive answer: the request **may have been applied, or may be later**, as when a
    /// frozen member wakes up and passes on what it finds in its socket.
    ///
    /// A read that shows the write tells that it was applied. A read that doesn't show it tells nothing. Only a
    /// transaction that changes what the lost one compares rules it out for good; so a write that
    /// must not come late needs a condition (F24).
    #[error("etcd {endpoint}: outcome unknown: {cause}")]
    Unknown {
        /// The member that was tried.
        endpoint: Endpoint,
        /// What happened in place of an answer.
        cause: Cause,
    },
    /// The store refused the request: **nothing changed**. The same request would be refused again unless
    /// the store's state changes.
    #[error("etcd {endpoint}: refused: {message}")]
    Refused {
        /// The member that answered.
        endpoint: Endpoint,
        /// The kind of refusal, e.g. `NotFound` for an unknown lease, `OutOfRange` for a compacted revision.
        code: Code,
        /// etcd's message.
        message: String,
    },
}

impl Error {
    /// Whether the request may have changed the store, or may do so later.
    pub fn may_be_applied(&self) -> bool {
        matches!(self, Error::Unknown { .. })
    }

    /// Whether another member may give a definitive answer. Whether a write may be repeated is another matter,
    /// see [`Error::Unknown`].
    pub fn is_retriable(&self) -> bool {
        !matches!(self, Error::Refused { .. })
    }

    /// Whether etcd's database has reached its quota: until a person makes room, no member takes writes.
    pub fn is_out_of_space(&self) -> bool {
        let Error::Unknown { cause: Cause::Status { code, message }, .. } = self else { return false };
        *code == Code::ResourceExhausted && message.contains("database space exceeded")
    }

    /// The same for a request that would have been sent next: it never will be.
    pub(crate) fn before_anything_was_sent(self) -> Error {
        let (endpoint, reason) = match self {
            Error::NotSent { endpoint, reason } => (endpoint, reason),
            Error::Unknown { endpoint, cause } => (endpoint, cause.to_string()),
            Error::Refused { endpoint, message, .. } => (endpoint, message),
        };
        Error::NotSent { endpoint, reason }
    }

    pub(crate) fn from_status(endpoint: Endpoint, status: Status) -> Error {
        if let Some(reason) = connect_failure(&status) {
            return Error::NotSent { endpoint, reason };
        }
        let (code, message) = (status.code(), status.message().to_owned());
        if is_refusal(code, &message) {
            return Error::Refused { endpoint, code, message };
        }
        Error::Unknown { endpoint, cause: Cause::Status { code, message: or_source(message, &status) } }
    }
}

/// What happened in place of a definitive answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Cause {
    /// No answer within the time for a try or until the deadline.
    #[error("no answer in time")]
    Timeout,
    /// The connection broke, the answer made no sense, or the member sent an error that leaves the outcome
    /// open, such as a lost leader.
    #[error("{message} ({code:?})")]
    Status {
        /// The gRPC code; `Unknown` for most broken connections, and for some errors of etcd's that should
        /// have had another one.
        code: Code,
        /// The text that came with it.
        message: String,
    },
}

/// An answer that lacks what it must have: the request may well have been applied.
pub(crate) fn malformed(what: &str) -> Status {
    Status::internal(format!("malformed answer: {what}"))
}

/// Whether etcd itself says that the request was not and will not be applied.
///
/// The code alone doesn't do: tonic makes some of the same codes itself, for instance OutOfRange for an answer
/// above the size limit, when the request has long been applied. etcd's own errors start with its name.
/// Deliberately absent: ResourceExhausted, because a member over its space quota applies the write and
/// **then** reports "database space exceeded"; Unavailable and Unknown, the usual codes of time-outs (F29).
fn is_refusal(code: Code, message: &str) -> bool {
    let definitive = matches!(
        code,
        Code::InvalidArgument
            | Code::NotFound
            | Code::AlreadyExists
            | Code::PermissionDenied
            | Code::FailedPrecondition
            | Code::OutOfRange
            | Code::Unauthenticated
    );
    definitive && message.starts_with("etcdserver: ")
}

/// The reason, if the connection for this request couldn't be made.
fn connect_failure(status: &Status) -> Option<String> {
    let mut source = status.source();
    while let Some(error) = source {
        if error.is::<ConnectError>() {
            return Some(innermost(error));
        }
        source = error.source();
    }
    None
}

fn innermost(mut error: &dyn StdError) -> String {
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}

/// tonic's own message is often just "transport error".
fn or_source(message: String, status: &Status) -> String {
    match status.source() {
        Some(source) => format!("{message}: {}", innermost(source)),
        None => message,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sorted(code: Code, message: &str) -> Error {
        let endpoint = "a:1".parse().expect("an endpoint");
        Error::from_status(endpoint, Status::new(code, message))
    }

    #[test]
    fn what_etcd_refuses_before_applying_is_definitive() {
        for code in [Code::NotFound, Code::InvalidArgument, Code::OutOfRange, Code::FailedPrecondition] {
            let error = sorted(code, "etcdserver: no");
            assert!(matches!(error, Error::Refused { .. }), "{error}");
            assert!(!error.may_be_applied() && !error.is_retriable());
        }
    }

    #[test]
    fn every_other_code_leaves_the_outcome_open() {
        use Code::*;
        for code in [Unknown, Unavailable, Cancelled, DeadlineExceeded, Aborted, Internal, DataLoss, Ok] {
            assert!(sorted(code, "etcdserver: leader changed").may_be_applied(), "{code:?}");
        }
    }

    #[test]
    fn a_member_out_of_space_may_have_applied_the_write() {
        let error = sorted(Code::ResourceExhausted, "etcdserver: mvcc: database space exceeded");
        assert!(error.may_be_applied() && error.is_out_of_space());
        assert!(!sorted(Code::ResourceExhausted, "etcdserver: too many requests").is_out_of_space());
    }

    #[test]
    fn a_code_made_on_this_side_is_no_refusal() {
        let error = sorted(Code::OutOfRange, "Error, decoded message length too large");
        assert!(error.may_be_applied(), "{error}");
    }
}
