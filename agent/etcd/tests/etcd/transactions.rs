//! Reads, writes and transactions.

use primacy_etcd::{Client, Code, Compare, Error, Is, Keys, LeaseId, Op, OpResult};

use crate::cluster::{Cluster, soon};

/// Whether a transaction with just this condition takes its first branch.
async fn holds(client: &Client, compare: Compare) -> bool {
    client.txn(vec![compare], vec![], vec![], soon()).await.expect("a transaction").succeeded
}

#[tokio::test]
async fn every_condition_compares_what_it_says() {
    let cluster = Cluster::start(1).await;
    let client = cluster.client();
    let lease =
        client.lease_grant(std::time::Duration::from_secs(60), None, soon()).await.expect("a lease").id;
    let created = client.put("k", "a", Some(lease), soon()).await.expect("a put").revision;
    let changed = client.put("k", "b", Some(lease), soon()).await.expect("a put").revision;
    assert_eq!(changed, created + 1);
    let other = LeaseId::new(1);

    for (expected, compare) in [
        (true, Compare::mod_revision("k", Is::Equal, changed)),
        (false, Compare::mod_revision("k", Is::Equal, created)),
        (true, Compare::mod_revision("k", Is::Greater, created)),
        (false, Compare::mod_revision("k", Is::Less, changed)),
        (true, Compare::create_revision("k", Is::Equal, created)),
        (false, Compare::create_revision("k", Is::NotEqual, created)),
        (true, Compare::value("k", Is::Equal, "b")),
        (false, Compare::value("k", Is::Equal, "a")),
        (true, Compare::value("k", Is::Greater, "a")),
        (true, Compare::lease("k", Is::Equal, Some(lease))),
        (false, Compare::lease("k", Is::Equal, other)),
        (false, Compare::lease("k", Is::Equal, None)),
        (false, Compare::absent("k")),
        (true, Compare::absent("nothing")),
        (true, Compare::mod_revision("nothing", Is::Equal, 0)),
        (true, Compare::lease("nothing", Is::Equal, None)),
        (false, Compare::value("nothing", Is::Equal, "")),
        (false, Compare::value("nothing", Is::NotEqual, "x")),
    ] {
        assert_eq!(holds(&client, compare.clone()).await, expected, "{compare:?}");
    }
}

#[tokio::test]
async fn a_lost_race_reads_the_winner_in_the_same_transaction() {
    let cluster = Cluster::start(1).await;
    let client = cluster.client();
    let race = |name: &'static str| {
        let success = vec![Op::put("/leader", name), Op::put("/term", "7")];
        client.txn(vec![Compare::absent("/leader")], success, vec![Op::get("/leader")], soon())
    };

    let won = race("a").await.expect("a transaction");
    assert!(won.succeeded);
    assert_eq!(won.results, [OpResult::Put, OpResult::Put]);

    let lost = race("b").await.expect("a transaction");
    assert!(!lost.succeeded);
    let leader = &lost.results[0].as_get().expect("a read")[0];
    assert_eq!((leader.value.as_slice(), leader.mod_revision), (b"a".as_slice(), won.header.revision));
    assert_eq!(lost.header.revision, won.header.revision, "nothing was written");
}

#[tokio::test]
async fn a_transaction_puts_reads_and_deletes_by_prefix_in_order() {
    let cluster = Cluster::start(1).await;
    let client = cluster.client();
    for key in ["/m/a", "/m/b", "/n"] {
        client.put(key, key, None, soon()).await.expect("a put");
    }
    let ops = vec![Op::get(Keys::prefix("/m/")), Op::delete(Keys::prefix("/m/")), Op::get(Keys::prefix("/"))];
    let txn = client.txn(vec![], ops, vec![], soon()).await.expect("a transaction");

    let keys = |result: &OpResult| -> Vec<Vec<u8>> {
        result.as_get().expect("a read").iter().map(|entry| entry.key.clone()).collect()
    };
    assert_eq!(keys(&txn.results[0]), [b"/m/a", b"/m/b"]);
    assert_eq!(txn.results[1], OpResult::Delete(2));
    assert_eq!(keys(&txn.results[2]), [b"/n"]);

    let all = client.range(Keys::prefix(""), soon()).await.expect("a read");
    assert_eq!(all.entries.len(), 2, "/n, and the key written while starting: {all:?}");
    let deletion = client.delete("/n", soon()).await.expect("a deletion");
    assert_eq!(deletion.deleted, 1);
}

#[tokio::test]
async fn a_put_on_a_lease_that_is_gone_is_refused_and_the_rest_not_written() {
    let cluster = Cluster::start(1).await;
    let client = cluster.client();
    let gone = LeaseId::new(4711).expect("not zero");
    let ops = vec![Op::put("/status", "new"), Op::put_with_lease("/leader", "a", gone)];
    let error = client.txn(vec![], ops, vec![], soon()).await.expect_err("no such lease");

    assert!(matches!(error, Error::Refused { code: Code::NotFound, .. }), "{error:?}");
    assert!(client.range(Keys::prefix("/"), soon()).await.expect("a read").entries.is_empty());
    assert_eq!(&client.current_endpoint(), cluster.endpoint(0));
}

#[tokio::test]
async fn one_key_written_twice_is_refused() {
    let cluster = Cluster::start(1).await;
    let client = cluster.client();
    let ops = vec![Op::put("k", "1"), Op::put("k", "2")];
    let error = client.txn(vec![], ops, vec![], soon()).await.expect_err("a key twice");
    assert!(matches!(error, Error::Refused { code: Code::InvalidArgument, .. }), "{error:?}");
}
