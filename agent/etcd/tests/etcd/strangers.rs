//! Endpoints that belong to different clusters: one of them is meant, and the others are nobody.

use std::time::Duration;

use primacy_etcd::{Client, Config, Error, LeaseId};

use crate::cluster::{Cluster, soon};

/// A client of the single member of each cluster. `earlier` is what an earlier client has used.
fn client_of(clusters: &[&Cluster], earlier: Option<u64>) -> Client {
    let endpoints = clusters.iter().map(|cluster| cluster.endpoint(0).to_string());
    // Enough also for a busy machine: a silent endpoint costs half of it at the start.
    let try_timeout = Duration::from_secs(2);
    Client::new(Config { cluster: earlier, try_timeout, ..Config::new(endpoints) }).expect("a client")
}

async fn id_of(cluster: &Cluster) -> u64 {
    cluster.client().cluster(soon()).await.expect("an id")
}

fn assert_names_the_stranger(error: Error, stranger: &Cluster, ids: [u64; 2]) {
    let Error::NotSent { endpoint, reason } = error else { panic!("{error}") };
    assert_eq!(&endpoint, stranger.endpoint(0));
    for part in [endpoint.to_string(), format!("{:x}", ids[0]), format!("{:x}", ids[1])] {
        assert!(reason.contains(&part), "{reason}");
    }
    assert!(reason.contains("correct etcd3.hosts"), "{reason}");
}

#[tokio::test]
async fn nothing_is_sent_to_a_member_of_another_cluster() {
    let (ours, stranger) = (Cluster::start(1).await, Cluster::start(1).await);
    let ids = [id_of(&stranger).await, id_of(&ours).await];
    let client = client_of(&[&ours, &stranger], None);
    stranger.freeze(0);
    assert_eq!(client.cluster(soon()).await, Ok(ids[1]), "the other one is silent");
    client.put("/a", "ours", None, soon()).await.expect("a put");
    stranger.thaw(0);

    // Whenever it is tried, it is left at once, and the next call goes to ours again.
    let lease = LeaseId::new(1).expect("not zero");
    for call in 0..6 {
        client.rotate("one slow answer");
        assert_eq!(&client.current_endpoint(), stranger.endpoint(0));
        let error = match call {
            0 => client.put("/a", "lost", None, soon()).await.err(),
            1 => client.txn(vec![], vec![], vec![], soon()).await.err(),
            2 => client.range("/a", soon()).await.err(),
            3 => client.lease_keepalive(lease, soon()).await.err(),
            4 => client.watch("/a", 1, soon()).await.err(),
            _ => client.delete("/a", soon()).await.err(),
        };
        assert_names_the_stranger(error.expect("a stranger"), &stranger, ids);
        assert_eq!(&client.current_endpoint(), ours.endpoint(0));
    }
    client.rotate("one slow answer");
    let read = client.read("/a", soon()).await.expect("a read goes on to ours by itself");
    assert_eq!(read.entries[0].value, b"ours");
    let theirs = stranger.client().range("/a", soon()).await.expect("a read");
    assert_eq!(theirs.entries, [], "nothing was written there");
}

#[tokio::test]
async fn a_member_that_comes_back_as_another_cluster_is_a_stranger() {
    let mut ours = Cluster::start(1).await;
    let client = ours.client();
    client.put("/a", "1", None, soon()).await.expect("a put");
    let before = id_of(&ours).await;
    ours.replace(0).await;
    assert_ne!(id_of(&ours).await, before, "another cluster at the same address");
    client.put("/a", "2", None, soon()).await.expect_err("the connection is broken");
    let error = client.put("/a", "2", None, soon()).await.expect_err("a stranger");
    assert_names_the_stranger(error, &ours, [id_of(&ours).await, before]);
    assert_eq!(ours.client().range("/a", soon()).await.expect("a read").entries, []);
}

#[tokio::test]
async fn endpoints_that_disagree_at_the_start_are_not_used() {
    let (a, b) = (Cluster::start(1).await, Cluster::start(1).await);
    let ids = [id_of(&a).await, id_of(&b).await];
    let client = client_of(&[&a, &b], None);
    for _ in 0..4 {
        let error = client.put("/a", "1", None, soon()).await.expect_err("which one?");
        let Error::NotSent { reason, .. } = error else { panic!("{error}") };
        let [a_is, b_is] = [(&a, ids[0]), (&b, ids[1])].map(|(c, id)| format!("{} to {id:x}", c.endpoint(0)));
        assert!(reason.contains(&a_is) && reason.contains(&b_is), "{reason}");
    }
    for cluster in [&a, &b] {
        assert_eq!(cluster.client().range("/a", soon()).await.expect("a read").entries, []);
    }
    b.freeze(0);
    client.put("/a", "1", None, soon()).await.err();
    client.read("/a", soon()).await.expect("once they agree it goes on");
    assert_eq!(client.cluster(soon()).await, Ok(ids[0]));
}

#[tokio::test]
async fn an_earlier_cluster_is_found_again_among_strangers_and_not_given_up_for_one() {
    let (ours, stranger) = (Cluster::start(1).await, Cluster::start(1).await);
    let id = id_of(&ours).await;
    let client = client_of(&[&stranger, &ours], Some(id));
    assert_eq!(client.cluster(soon()).await, Ok(id));
    client.read("/a", soon()).await.expect("a read");

    ours.freeze(0);
    let client = client_of(&[&stranger, &ours], Some(id));
    let error = client.range("/a", soon()).await;
    let Err(Error::NotSent { reason, .. }) = error else { panic!("{error:?}") };
    assert!(reason.contains(&format!("{id:x} before")), "{reason}");
    ours.thaw(0);
    client.read("/a", soon()).await.expect("it is back");
    assert_eq!(client.cluster(soon()).await, Ok(id));
}

#[tokio::test]
async fn a_cluster_that_was_made_anew_replaces_the_earlier_one() {
    let anew = Cluster::start(1).await;
    let client = client_of(&[&anew], Some(7));
    client.read("/a", soon()).await.expect("a read");
    assert_eq!(client.cluster(soon()).await, Ok(id_of(&anew).await));
}
