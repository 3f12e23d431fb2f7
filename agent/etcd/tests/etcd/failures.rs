//! Members that are frozen or gone: how a call ends, and where the next one goes.

use std::time::Duration;

use primacy_etcd::{Cause, Client, Config, Error, Instant, Loss, Notice};

use crate::cluster::{Cluster, free_port, soon};

#[tokio::test]
async fn a_frozen_member_costs_one_try_of_unknown_outcome_and_ends_its_watches() {
    let cluster = Cluster::start(3).await;
    let [leader, frozen, other] = cluster.by_role().await[..] else { panic!("three members") };
    let client = cluster.client_of(&[frozen, other, leader]);
    client.put("/a", "before", None, soon()).await.expect("a put");
    let mut watch = client.watch("/a", 0, soon()).await.expect("a watch");

    cluster.freeze(frozen);
    let started = Instant::now();
    let error = client.put("/a", "lost?", None, soon()).await.expect_err("the member is frozen");
    println!("a try on a frozen member took {:?}", started.elapsed());
    assert_eq!(
        error,
        Error::Unknown { endpoint: cluster.endpoint(frozen).clone(), cause: Cause::Timeout },
        "the frozen member may apply it when it wakes up"
    );
    assert!(error.may_be_applied());
    let notice = watch.next().await;
    assert!(matches!(notice, Notice::Lost(Loss::Retired(_))), "{notice:?}");

    assert_eq!(&client.current_endpoint(), cluster.endpoint(other));
    client.put("/a", "after", None, soon()).await.expect("a put through the next member");
    assert_eq!(&client.current_endpoint(), cluster.endpoint(other), "and there it stays");
}

#[tokio::test]
async fn every_call_to_a_frozen_member_ends_at_its_deadline() {
    let cluster = Cluster::start(1).await;
    let endpoint = cluster.endpoint(0).to_string();
    // One for each call, as the first that isn't answered retires its connection.
    let mut clients = Vec::new();
    for _ in 0..11 {
        let patient = Config { try_timeout: Duration::from_secs(60), ..Config::new([&endpoint]) };
        let client = Client::new(patient).expect("a client");
        client.range("/a", soon()).await.expect("a connection");
        clients.push(client);
    }
    let lease = clients[0].lease_grant(Duration::from_secs(60), None, soon()).await.expect("a lease").id;
    cluster.freeze(0);

    let deadline = || Instant::now() + Duration::from_millis(100);
    let started = Instant::now();
    let errors = [
        clients[0].range("/a", deadline()).await.err(),
        clients[1].txn(vec![], vec![], vec![], deadline()).await.err(),
        clients[2].delete("/a", deadline()).await.err(),
        clients[3].compact(1, deadline()).await.err(),
        clients[4].lease_grant(Duration::from_secs(9), None, deadline()).await.err(),
        clients[5].lease_keepalive(lease, deadline()).await.err(),
        clients[6].lease_revoke(lease, deadline()).await.err(),
        clients[7].member_list(deadline()).await.err(),
        clients[8].status(cluster.endpoint(0), deadline()).await.err(),
        clients[9].watch("/a", 0, deadline()).await.err(),
        clients[10].put("/a", "1", None, deadline()).await.err(),
    ];
    assert!(started.elapsed() < Duration::from_secs(20), "not the time for a try: {:?}", started.elapsed());
    for (call, error) in errors.iter().enumerate() {
        assert!(
            matches!(error, Some(Error::Unknown { cause: Cause::Timeout, .. })),
            "call {call}: {error:?}"
        );
    }
    let error = clients[0].read("/a", deadline()).await.expect_err("it doesn't say who it is");
    assert!(matches!(error, Error::NotSent { .. }), "{error}");

    cluster.thaw(0);
    clients[0].read("/a", soon()).await.expect("the member is back");
}

#[tokio::test]
async fn a_read_gets_past_a_frozen_leader() {
    let cluster = Cluster::start(3).await;
    let [leader, b, c] = cluster.by_role().await[..] else { panic!("three members") };
    let client = cluster.client_of(&[leader, b, c]);
    let revision = client.put("/a", "1", None, soon()).await.expect("a put").revision;

    cluster.freeze(leader);
    let deadline = Instant::now() + Duration::from_secs(15);
    let read = client.read("/a", deadline).await.expect("the others elect a leader");
    assert_eq!(read.entries[0].mod_revision, revision);
    assert_ne!(&client.current_endpoint(), cluster.endpoint(leader));
}

#[tokio::test]
async fn a_refused_connection_is_surely_not_sent_and_the_next_member_takes_over() {
    let cluster = Cluster::start(1).await;
    let nobody = format!("127.0.0.1:{}", free_port());
    let endpoints = [nobody.clone(), cluster.endpoint(0).to_string()];
    let client = Client::new(Config::new(endpoints)).expect("a client");

    let error = client.put("/a", "1", None, soon()).await.expect_err("nobody listens");
    let Error::NotSent { endpoint, reason } = &error else { panic!("{error:?}") };
    assert_eq!(endpoint.to_string(), nobody);
    assert!(reason.contains("refused"), "{reason}");
    assert!(!error.may_be_applied());
    client.put("/a", "1", None, soon()).await.expect("the next member takes it");

    client.rotate("back to where nobody listens");
    client.read("/a", soon()).await.expect("a read tries the next member by itself");
}

#[tokio::test]
async fn a_killed_member_leaves_no_call_hanging() {
    let mut cluster = Cluster::start(3).await;
    let [leader, killed, other] = cluster.by_role().await[..] else { panic!("three members") };
    let client = cluster.client_of(&[killed, other, leader]);
    client.put("/a", "1", None, soon()).await.expect("a put");
    cluster.kill(killed);
    let error = client.put("/a", "2", None, soon()).await.expect_err("the member is dead");
    assert!(error.is_retriable(), "{error:?}");
    client.put("/a", "3", None, soon()).await.expect("the next member takes it");
}
