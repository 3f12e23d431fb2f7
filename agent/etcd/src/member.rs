//! The members of the cluster: who they are, and what one of them believes.

use tonic::transport::Channel;

use crate::client::try_over;
use crate::proto::etcdserverpb as pb;
use crate::{Client, Endpoint, Error, Header, Instant};
use pb::cluster_client::ClusterClient;
use pb::maintenance_client::MaintenanceClient;

/// One member as the cluster knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its number.
    pub id: u64,
    /// Its name; empty if it has not started yet.
    pub name: String,
    /// Where other members reach it.
    pub peer_urls: Vec<String>,
    /// Where clients reach it; empty if it has not started yet.
    pub client_urls: Vec<String>,
    /// Whether it only listens, without a vote.
    pub is_learner: bool,
}

/// What one member says of itself and believes of the cluster. Its own view, which may be stale.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// Who answered; the revision is this member's.
    pub header: Header,
    /// The version of etcd it runs.
    pub version: String,
    /// The member it takes for the leader, if any.
    pub leader_id: Option<u64>,
    /// Its raft term.
    pub raft_term: u64,
    /// The last entry it knows to be committed.
    pub raft_index: u64,
    /// The last entry it has applied; 0 before etcd 3.4.
    pub raft_applied_index: u64,
    /// The size of its database file in bytes.
    pub db_size_bytes: i64,
    /// How much of that holds data; the rest is used again, or given back when the member is defragmented.
    pub db_size_in_use_bytes: i64,
    /// What it complains of, e.g. an alarm about space.
    pub errors: Vec<String>,
    /// Whether it only listens, without a vote.
    pub is_learner: bool,
}

impl Client {
    /// Asks one member for its state, over a connection of its own, whichever cluster it belongs to. One try;
    /// doesn't rotate anything.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn status(&self, endpoint: &Endpoint, deadline: Instant) -> Result<Status, Error> {
        let end = self.try_end(deadline)?;
        try_over(&self.aside(endpoint), end, status).await
    }

    /// The members of the cluster; linearizable since etcd 3.5. One try.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn member_list(&self, deadline: Instant) -> Result<Vec<Member>, Error> {
        self.once(deadline, member_list).await
    }
}

pub(crate) async fn status(channel: Channel) -> Result<Status, tonic::Status> {
    let answer = MaintenanceClient::new(channel).status(pb::StatusRequest {}).await?.into_inner();
    Ok(Status {
        header: Header::read(answer.header)?,
        version: answer.version,
        leader_id: (answer.leader != 0).then_some(answer.leader),
        raft_term: answer.raft_term,
        raft_index: answer.raft_index,
        raft_applied_index: answer.raft_applied_index,
        db_size_bytes: answer.db_size,
        db_size_in_use_bytes: answer.db_size_in_use,
        errors: answer.errors,
        is_learner: answer.is_learner,
    })
}

async fn member_list(channel: Channel) -> Result<Vec<Member>, tonic::Status> {
    let request = pb::MemberListRequest { linearizable: true };
    let answer = ClusterClient::new(channel).member_list(request).await?.into_inner();
    Ok(answer.members.into_iter().map(Member::read).collect())
}

impl Member {
    fn read(member: pb::Member) -> Member {
        Member {
            id: member.id,
            name: member.name,
            peer_urls: member.peer_ur_ls,
            client_urls: member.client_ur_ls,
            is_learner: member.is_learner,
        }
    }
}
