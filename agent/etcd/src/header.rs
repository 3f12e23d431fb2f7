//! What every answer says about the cluster and the member that gave it.

use tonic::Status;

use crate::error::malformed;
use crate::proto::etcdserverpb::ResponseHeader;

/// Who answered, and at which point of the store's history.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// The cluster. Another one is another store altogether, so a client asks for it before anything else and never
    /// uses two ([`Client::cluster`](crate::Client::cluster)).
    pub cluster_id: u64,
    /// The member that answered.
    pub member_id: u64,
    /// The store's revision when the request was applied. One that goes back means a restored store.
    pub revision: i64,
    /// The raft term when the request was applied.
    pub raft_term: u64,
}

impl Header {
    pub(crate) fn read(header: Option<ResponseHeader>) -> Result<Header, Status> {
        let header = header.ok_or_else(|| malformed("no header"))?;
        let ResponseHeader { cluster_id, member_id, revision, raft_term } = header;
        Ok(Header { cluster_id, member_id, revision, raft_term })
    }
}
