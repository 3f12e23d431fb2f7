//! Watches: order, resumption, and each way to end.

use std::time::Duration;

use primacy_etcd::{Client, Event, Events, Keys, Loss, Notice, Watch};

use crate::cluster::{Cluster, soon};

/// The next notice, which must come soon.
async fn next(watch: &mut Watch) -> Notice {
    tokio::time::timeout(Duration::from_secs(20), watch.next()).await.expect("a notice in time")
}

async fn next_events(watch: &mut Watch) -> Events {
    match next(watch).await {
        Notice::Events(events) => events,
        other => panic!("expected events, got {other:?}"),
    }
}

async fn put(client: &Client, key: &str, value: &str) -> i64 {
    client.put(key, value, None, soon()).await.expect("a put").revision
}

fn value(event: &Event) -> &str {
    match event {
        Event::Put { entry, .. } => std::str::from_utf8(&entry.value).expect("text"),
        Event::Delete { .. } => "deleted",
    }
}

#[tokio::test]
async fn changes_come_in_order_with_what_was_there_before_and_from_any_revision() {
    let cluster = Cluster::start(1).await;
    let client = cluster.client();
    let first = put(&client, "/a", "1").await;
    put(&client, "/a", "2").await;
    put(&client, "elsewhere", "x").await;
    let last = client.delete("/a", soon()).await.expect("a deletion").header.revision;
    put(&client, "elsewhere", "y").await;

    let mut watch = client.watch(Keys::prefix("/"), first, soon()).await.expect("a watch");
    let mut seen = Vec::new();
    while seen.len() < 3 {
        let next = next_events(&mut watch).await;
        assert_eq!(Some(next.revision), next.events.last().map(Event::mod_revision), "not the store's");
        seen.extend(next.events);
    }
    assert_eq!(seen.iter().map(value).collect::<Vec<_>>(), ["1", "2", "deleted"]);
    assert_eq!(seen.iter().map(Event::mod_revision).collect::<Vec<_>>(), [first, first + 1, last]);
    assert!(matches!(&seen[0], Event::Put { previous: None, .. }), "{seen:?}");
    assert!(matches!(&seen[2], Event::Delete { previous: Some(p), .. } if p.value == b"2"), "{seen:?}");

    // Live events, all of one transaction together.
    let ops = vec![primacy_etcd::Op::put("/b", "3"), primacy_etcd::Op::put("/c", "4")];
    let revision = client.txn(vec![], ops, vec![], soon()).await.expect("a transaction").header.revision;
    let live = next_events(&mut watch).await;
    assert_eq!((live.revision, live.events.len()), (revision, 2));

    // A second watch takes up where the first one left off before that.
    let mut resumed = client.watch(Keys::prefix("/"), last + 1, soon()).await.expect("a watch");
    assert_eq!(next_events(&mut resumed).await, live);
}

#[tokio::test]
async fn a_watch_below_the_compaction_says_where_to_resume() {
    let cluster = Cluster::start(1).await;
    let client = cluster.client();
    let old = put(&client, "/a", "1").await;
    put(&client, "/a", "2").await;
    let kept = put(&client, "/a", "3").await;
    client.compact(kept, soon()).await.expect("a compaction");

    let mut watch = client.watch("/a", old, soon()).await.expect("a watch");
    assert_eq!(next(&mut watch).await, Notice::Compacted { resume_at: kept });
    assert!(matches!(next(&mut watch).await, Notice::Lost(Loss::Cancelled(_))), "it is over");

    let mut watch = client.watch("/a", kept, soon()).await.expect("a watch");
    assert_eq!(next_events(&mut watch).await.revision, kept);
    assert_eq!(&client.current_endpoint(), cluster.endpoint(0), "the member is not to blame");
}

#[tokio::test]
async fn a_ping_is_answered_on_a_quiet_watch() {
    let cluster = Cluster::start(1).await;
    let client = cluster.client();
    let mut watch = client.watch("/a", 0, soon()).await.expect("a watch");
    watch.ping();
    assert_eq!(next(&mut watch).await, Notice::Alive);
    let revision = put(&client, "/a", "1").await;
    assert_eq!(next_events(&mut watch).await.revision, revision);
}

#[tokio::test]
async fn a_watch_on_a_killed_member_is_lost_and_can_be_resumed_elsewhere() {
    let mut cluster = Cluster::start(3).await;
    let client = cluster.client_of(&[0, 1, 2]);
    let mut watch = client.watch("/a", 0, soon()).await.expect("a watch");
    let revision = put(&client, "/a", "1").await;
    assert_eq!(next_events(&mut watch).await.revision, revision);

    cluster.kill(0);
    let notice = next(&mut watch).await;
    assert!(matches!(notice, Notice::Lost(Loss::Failed { .. })), "{notice:?}");
    assert_eq!(next(&mut watch).await, notice, "and it stays lost");
    assert_eq!(&client.current_endpoint(), cluster.endpoint(1), "the failed watch left the member");

    client.read("/a", soon()).await.expect("the others elect a leader");
    let mut resumed = client.watch("/a", revision + 1, soon()).await.expect("a watch");
    let revision = put(&client, "/a", "2").await;
    assert_eq!(next_events(&mut resumed).await.revision, revision);
}

#[tokio::test]
async fn a_watch_on_a_member_that_lost_its_leader_ends() {
    let mut cluster = Cluster::start(3).await;
    let client = cluster.client_of(&[0]);
    let mut watch = client.watch("/a", 0, soon()).await.expect("a watch");
    cluster.kill(1);
    cluster.kill(2);
    let notice = next(&mut watch).await;
    assert!(
        matches!(&notice, Notice::Lost(Loss::Failed { message, .. }) if message.contains("no leader")),
        "{notice:?}"
    );
    let read = client.range("/a", soon()).await.expect_err("a read there would be stale");
    assert!(read.is_retriable(), "{read:?}");
}

#[tokio::test]
async fn leaving_a_member_ends_its_watches_at_once() {
    let cluster = Cluster::start(1).await;
    let client = cluster.client();
    let mut watch = client.watch("/a", 0, soon()).await.expect("a watch");
    client.rotate("seen silent");
    assert_eq!(next(&mut watch).await, Notice::Lost(Loss::Retired("seen silent".to_owned())));
}

#[tokio::test]
async fn a_quiet_watch_on_a_frozen_member_ends_without_a_request() {
    let cluster = Cluster::start(1).await;
    let client = cluster.client();
    let mut watch = client.watch("/a", 0, soon()).await.expect("a watch");
    cluster.freeze(0);
    let notice = next(&mut watch).await;
    assert!(matches!(notice, Notice::Lost(Loss::Failed { .. })), "{notice:?}");
}

/// etcd hangs up on a client that pings too fast.
#[tokio::test]
#[ignore = "takes 40 s"]
async fn a_quiet_watch_lives_on_in_spite_of_its_pings() {
    let cluster = Cluster::start(1).await;
    let client = cluster.client();
    let mut watch = client.watch("/a", 0, soon()).await.expect("a watch");
    let quiet = tokio::time::timeout(Duration::from_secs(40), watch.next()).await;
    assert!(quiet.is_err(), "{quiet:?}");
    let revision = put(&client, "/a", "1").await;
    assert_eq!(next_events(&mut watch).await.revision, revision);
}
