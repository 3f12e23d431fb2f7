//! Leases and members.

use std::time::Duration;

use primacy_etcd::{Code, Error, Event, LeaseId, Notice, Renewal};

use crate::cluster::{Cluster, soon};

#[tokio::test]
async fn a_lease_kept_alive_lives_and_one_left_alone_takes_its_keys_along() {
    let cluster = Cluster::start(1).await;
    let client = cluster.client();
    let lease = client.lease_grant(Duration::from_secs(2), None, soon()).await.expect("a lease");
    assert_eq!(lease.ttl, Duration::from_secs(2));
    let put = client.put("/leader", "a", Some(lease.id), soon()).await.expect("a put");
    let mut watch = client.watch("/leader", put.revision + 1, soon()).await.expect("a watch");

    for _ in 0..3 {
        tokio::time::sleep(Duration::from_millis(800)).await;
        let renewal = client.lease_keepalive(lease.id, soon()).await.expect("a keepalive");
        assert_eq!(renewal, Renewal::Alive { ttl: lease.ttl });
    }
    let entries = client.range("/leader", soon()).await.expect("a read").entries;
    assert_eq!(entries[0].lease, Some(lease.id), "kept alive past its first end");

    let notice = tokio::time::timeout(Duration::from_secs(8), watch.next()).await.expect("it must end");
    let Notice::Events(events) = notice else { panic!("{notice:?}") };
    assert!(matches!(&events.events[..], [Event::Delete { key, .. }] if key == b"/leader"), "{events:?}");
    assert_eq!(client.lease_keepalive(lease.id, soon()).await, Ok(Renewal::Gone));
}

#[tokio::test]
async fn a_revoked_lease_is_gone_with_its_keys() {
    let cluster = Cluster::start(1).await;
    let client = cluster.client();
    let id = LeaseId::new(77).expect("not zero");
    let lease = client.lease_grant(Duration::from_secs(30), Some(id), soon()).await.expect("a lease");
    assert_eq!(lease.id, id);
    let again = client.lease_grant(Duration::from_secs(30), Some(id), soon()).await.expect_err("it exists");
    assert!(matches!(again, Error::Refused { code: Code::FailedPrecondition, .. }), "{again:?}");

    client.put("/leader", "a", Some(id), soon()).await.expect("a put");
    client.lease_revoke(id, soon()).await.expect("a revocation");
    assert!(client.range("/leader", soon()).await.expect("a read").entries.is_empty());
    assert_eq!(client.lease_keepalive(id, soon()).await, Ok(Renewal::Gone));
    let error = client.lease_revoke(id, soon()).await.expect_err("it is gone");
    assert!(matches!(error, Error::Refused { code: Code::NotFound, .. }), "{error:?}");
}

#[tokio::test]
async fn members_say_who_they_are_and_who_leads() {
    let cluster = Cluster::start(1).await;
    let client = cluster.client();
    let members = client.member_list(soon()).await.expect("the members");
    let status = client.status(cluster.endpoint(0), soon()).await.expect("a status");

    let [member] = &members[..] else { panic!("{members:?}") };
    assert_eq!(member.name, "m0");
    assert_eq!(member.client_urls, [format!("http://{}", cluster.endpoint(0))]);
    assert_eq!((status.header.member_id, status.leader_id), (member.id, Some(member.id)));
    assert!(status.raft_term > 0 && status.version.starts_with("3."), "{status:?}");
}
