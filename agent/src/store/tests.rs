//! Against a real etcd, started for each test.

use super::directory::{Directory, Member};
use super::mirror::{Mirror, Published, SharedLease};
use super::records::{Paths, Told, decode, encode};
use super::{EtcdStore, TRY, upkeep};
use crate::clock::now;
use primacy_core::store::{
    Answer, Beat, EpochRecord, Initialize, Key, News, Record, Reign, Released, Request, Response, Switchover,
    Txn, View,
};
use primacy_core::{Boot, Epoch, Lsn, MachineId, Name, Nonce, Position, Revision, Span, SystemId};
use primacy_driver::Store;
use primacy_etcd::{Client, Config, Instant, Keys};
use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

pub(super) struct Etcd {
    child: Child,
    dir: PathBuf,
    address: SocketAddr,
}

impl Etcd {
    pub(super) async fn start() -> Etcd {
        Etcd::start_with(&[]).await
    }

    async fn start_with(options: &[&str]) -> Etcd {
        let (address, peer) = (free_address(), free_address());
        let dir =
            std::env::temp_dir().join(format!("primacy-store-{}-{}", std::process::id(), address.port()));
        let (client_url, peer_url) = (format!("http://{address}"), format!("http://{peer}"));
        let child = Command::new("etcd")
            .args(["--name", "one", "--data-dir"])
            .arg(&dir)
            .args(["--listen-client-urls", &client_url, "--advertise-client-urls", &client_url])
            .args(["--listen-peer-urls", &peer_url, "--initial-advertise-peer-urls", &peer_url])
            .args(["--initial-cluster", &format!("one={peer_url}"), "--unsafe-no-fsync"])
            .args(options)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("etcd starts");
        let etcd = Etcd { child, dir, address };
        let deadline = Instant::now() + Duration::from_secs(10);
        etcd.client().read(Keys::one("x"), deadline).await.expect("etcd answers");
        etcd
    }

    pub(super) fn client(&self) -> Client {
        Client::new(Config { try_timeout: TRY, ..Config::new([self.address.to_string()]) }).expect("a client")
    }

    fn store(&self) -> EtcdStore {
        self.store_with(SharedLease::default())
    }

    pub(super) fn store_with(&self, lease: SharedLease) -> EtcdStore {
        let every = Duration::from_millis(500);
        EtcdStore::new(self.client(), paths(), "a".into(), Directory::default(), lease, every)
    }

    async fn get(&self, key: &str) -> Option<String> {
        let read = self.client().read(Keys::one(format!("/s/c/{key}")), Instant::now() + PATIENCE).await;
        let entry = read.expect("a read").entries.pop()?;
        Some(String::from_utf8(entry.value).expect("text"))
    }

    async fn put(&self, key: &str, value: &str) {
        let put = self.client().put(format!("/s/c/{key}"), value, None, Instant::now() + PATIENCE).await;
        put.expect("a put");
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

pub(super) const PATIENCE: Duration = Duration::from_secs(2);

fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a free port")
}

fn paths() -> Paths {
    Paths { prefix: "/s/c/".to_owned() }
}

pub(super) fn reign(released: Option<Released>) -> Record {
    let ttl = Span::secs(5);
    let nonce = Nonce(u64::MAX);
    let machine = MachineId(9);
    Record::Reign(Reign { epoch: Epoch(2), holder: "a".into(), boot: Boot(7), machine, nonce, ttl, released })
}

fn beat() -> Record {
    Record::Beat(Beat { epoch: Epoch(2), end: Lsn(117_440_728) })
}

async fn transact(store: &EtcdStore, compare: &[(Key, u64)], put: Vec<Record>) -> Answer {
    let compare = compare.iter().map(|(key, revision)| (key.clone(), Revision(*revision))).collect();
    let request = Request::Transact(Txn { compare, put });
    match store.ask(request, now() + Span::secs(1)).await {
        Response::Transact(answer) => answer,
        Response::Read(_) => panic!("a read in place of a transaction"),
    }
}

async fn read(store: &EtcdStore) -> Option<View> {
    match store.ask(Request::Read, now() + Span::secs(1)).await {
        Response::Read(view) => view,
        Response::Transact(_) => panic!("a transaction in place of a read"),
    }
}

pub(super) async fn news(store: &EtcdStore) -> News {
    tokio::time::timeout(PATIENCE, store.news()).await.expect("news")
}

#[test]
fn every_record_survives_the_way_to_the_store_and_back() {
    let name = Name::from;
    let fork = Some(Position { epoch: Epoch(1), lsn: Lsn(5) });
    let epoch =
        EpochRecord { epoch: Epoch(2), holder: name("a"), nonce: Nonce(1 << 63), fork, checkpointed: true };
    let initialize = Initialize {
        by: name("a"),
        boot: Boot(1),
        system: Some(SystemId(7_400_000_000_000_000_000)),
        foreign: false,
    };
    let wish = Switchover { epoch: Epoch(2), to: Some(name("b")), refused: None };
    let released = Some(Released { end: Some(Lsn(9)), to: None });
    let records = [
        reign(released),
        beat(),
        Record::Epoch(epoch),
        Record::Initialize(initialize),
        Record::Switchover(wish),
    ];
    for record in records {
        let path = paths().of(&record.key());
        assert_eq!(paths().meaning(path.as_bytes()), super::Meaning::Record(record.key()));
        assert_eq!(decode(&record.key(), path.as_bytes(), &encode(&record)), Ok(record));
    }
}

#[test]
fn a_record_under_another_ones_key_is_garbage() {
    let epoch =
        EpochRecord { epoch: Epoch(2), holder: "a".into(), nonce: Nonce(1), fork: None, checkpointed: false };
    let value = encode(&Record::Epoch(epoch));
    let error = decode(&Key::Epoch(Epoch(3)), b"/s/c/primacy/epochs/3", &value).expect_err("garbage");
    let text = "the value of /s/c/primacy/epochs/3 in the store makes no sense: it belongs to another key";
    assert_eq!(error.to_string(), text);
}

#[tokio::test]
async fn a_transaction_is_written_at_one_revision_and_read_back() {
    let etcd = Etcd::start().await;
    let store = etcd.store();
    let answer = transact(&store, &[(Key::Reign, 0), (Key::Beat, 0)], vec![reign(None), beat()]).await;
    let Answer::Committed(revision) = answer else { panic!("{answer:?}") };
    let view = read(&store).await.expect("a view");
    assert_eq!(view.revision(&Key::Reign), revision);
    assert_eq!(view.revision(&Key::Beat), revision);
    assert_eq!(Record::Reign(Reign::clone(&view.reign.expect("a reign").value)), reign(None));
    assert_eq!(etcd.get("status").await.as_deref(), Some("{\"optime\":117440728}"));
}

#[tokio::test]
async fn a_refused_transaction_shows_everything_as_it_was() {
    let etcd = Etcd::start().await;
    let store = etcd.store();
    transact(&store, &[(Key::Reign, 0)], vec![reign(None)]).await;
    let answer = transact(&store, &[(Key::Reign, 0)], vec![reign(None), beat()]).await;
    let Answer::Refused(view) = answer else { panic!("{answer:?}") };
    assert!(view.reign.is_some() && view.beat.is_none());
    assert_eq!(view.as_of, view.revision(&Key::Reign));
}

#[tokio::test]
async fn other_tools_see_who_leads_and_who_was_before() {
    let etcd = Etcd::start().await;
    let lease = SharedLease::default();
    let store = etcd.store_with(lease.clone());
    let (wanted, receiver) = tokio::sync::watch::channel(Published::default());
    let mirror = Mirror {
        client: etcd.client(),
        paths: paths(),
        me: "a".into(),
        directory: Directory::default(),
        lease: lease.clone(),
        ttl: Duration::from_secs(3),
    };
    let running = tokio::spawn(mirror.run(receiver));
    while etcd.get("members/a").await.is_none() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    transact(&store, &[(Key::Reign, 0)], vec![reign(None)]).await;
    assert_eq!(etcd.get("leader").await.as_deref(), Some("a"));
    let fork = Some(Position { epoch: Epoch(1), lsn: Lsn(117_440_672) });
    let epoch =
        EpochRecord { epoch: Epoch(2), holder: "a".into(), nonce: Nonce(1), fork, checkpointed: false };
    transact(&store, &[], vec![Record::Epoch(epoch)]).await;
    let history = etcd.get("history").await.expect("a history");
    assert!(history.starts_with("[[1,117440672,\"no recovery target specified\",\"2"), "{history}");
    assert!(history.ends_with(",\"a\"]]"), "{history}");
    // A holder may have to write down more than one reign before its own.
    let later = [2, 3].map(|before| {
        let fork = Some(Position { epoch: Epoch(before), lsn: Lsn(117_440_800) });
        let (epoch, holder) = (Epoch(before + 1), "b".into());
        Record::Epoch(EpochRecord { epoch, holder, nonce: Nonce(1), fork, checkpointed: false })
    });
    transact(&store, &[], later.to_vec()).await;
    let history = etcd.get("history").await.expect("a history");
    assert!(history.contains("[2,117440800,") && history.contains("[3,117440800,"), "{history}");
    transact(&store, &[], vec![reign(Some(Released { end: None, to: None }))]).await;
    assert_eq!(etcd.get("leader").await, None);
    let note = |words: &str| BTreeMap::from([("losses/1-a-F0".to_owned(), serde_json::json!(words))]);
    wanted.send_replace(Published { notes: note("lost"), ..Published::default() });
    while etcd.get("primacy/losses/1-a-F0").await.as_deref() != Some("\"lost\"") {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(read(&store).await.is_some(), "a note is no record");
    assert_eq!(store.directory.look().notes, note("lost"));
    let member = Member { state: "stopped".to_owned(), ..Member::default() };
    wanted.send_replace(Published { member, ..Published::default() });
    drop(wanted);
    running.await.expect("an orderly end");
    assert!(etcd.get("members/a").await.expect("last words").contains("stopped"));
}

#[tokio::test]
async fn a_lost_lease_does_not_keep_a_record_from_being_written() {
    let etcd = Etcd::start().await;
    let lease = SharedLease::default();
    let store = etcd.store_with(lease.clone());
    let gone =
        etcd.client().lease_grant(PATIENCE, None, Instant::now() + PATIENCE).await.expect("a lease").id;
    lease.set(gone);
    etcd.client().lease_revoke(gone, Instant::now() + PATIENCE).await.expect("an end");
    let answer = transact(&store, &[(Key::Reign, 0)], vec![reign(None)]).await;
    assert!(matches!(answer, Answer::Committed(_)), "{answer:?}");
    assert_eq!(etcd.get("leader").await, None);
    assert_eq!(lease.get(), None);
}

#[tokio::test]
async fn a_cluster_that_another_manager_initialised_is_foreign() {
    let etcd = Etcd::start().await;
    let store = etcd.store();
    etcd.put("initialize", "7400000000000000000").await;
    let initialize = read(&store).await.expect("a view").initialize.expect("an owner");
    assert!(initialize.foreign);
    assert_eq!(initialize.system, Some(SystemId(7_400_000_000_000_000_000)));
    let ours = Initialize { by: "a".into(), boot: Boot(1), system: None, foreign: false };
    let answer = transact(&store, &[(Key::Initialize, 0)], vec![Record::Initialize(ours)]).await;
    assert!(matches!(answer, Answer::Refused(view) if view.initialize.as_ref().is_some_and(|at| at.foreign)));
}

#[tokio::test]
async fn our_own_claim_shows_as_an_empty_initialize_to_others() {
    let etcd = Etcd::start().await;
    let store = etcd.store();
    let ours = Initialize { by: "a".into(), boot: Boot(1), system: None, foreign: false };
    transact(&store, &[(Key::Initialize, 0)], vec![Record::Initialize(ours.clone())]).await;
    assert_eq!(etcd.get("initialize").await.as_deref(), Some(""));
    let revision = read(&store).await.expect("a view").revision(&Key::Initialize).0;
    let done = Initialize { system: Some(SystemId(5)), ..ours };
    transact(&store, &[(Key::Initialize, revision)], vec![Record::Initialize(done)]).await;
    assert_eq!(etcd.get("initialize").await.as_deref(), Some("5"));
}

#[tokio::test]
async fn garbage_that_would_decide_is_no_view() {
    let etcd = Etcd::start().await;
    let store = etcd.store();
    for key in ["reign", "beat", "rule", "initialize", "epochs/7"] {
        let key = format!("primacy/{key}");
        etcd.put(&key, "{").await;
        assert_eq!(read(&store).await, None, "{key}");
        etcd.client().delete(format!("/s/c/{key}"), Instant::now() + PATIENCE).await.expect("a deletion");
    }
    assert!(read(&store).await.is_some());
}

#[tokio::test]
async fn other_garbage_stops_nothing() {
    let etcd = Etcd::start().await;
    let store = etcd.store();
    assert_eq!(news(&store).await, News::Interrupted);
    for key in ["pledge/b", "members/b", "switchover"] {
        etcd.put(&format!("primacy/{key}"), "{\"of\": \"a newer version\"}").await;
    }
    etcd.put("members/b", "{").await;
    transact(&store, &[(Key::Reign, 0)], vec![reign(None)]).await;
    assert!(matches!(news(&store).await, News::Changed(..)), "no interruption");
    let view = read(&store).await.expect("a view");
    assert!(view.reign.is_some() && view.switchover.is_none());
    assert!(view.pledges.is_empty() && view.members.is_empty());
}

#[test]
fn what_is_wrong_with_a_key_is_told_once() {
    let told = Told::default();
    let garbage =
        |value: &[u8]| decode(&Key::Switchover, b"/s/c/primacy/switchover", value).expect_err("garbage");
    let tellings = [&b"{"[..], b"{", b"[", b"["].map(|value| told.of(garbage(value)));
    assert_eq!(tellings, [true, false, true, false]);
}

#[tokio::test]
async fn what_is_written_becomes_news_and_what_is_deleted_an_interruption() {
    let etcd = Etcd::start().await;
    let store = etcd.store();
    assert_eq!(news(&store).await, News::Interrupted, "what was written before it stood is to be read");
    let answer = transact(&store, &[(Key::Reign, 0)], vec![reign(None), beat()]).await;
    let Answer::Committed(revision) = answer else { panic!("{answer:?}") };
    let mut expected = vec![reign(None), beat()];
    let News::Changed(at, mut records) = news(&store).await else { panic!("no records") };
    expected.sort_by_key(Record::key);
    records.sort_by_key(Record::key);
    assert_eq!((at, records), (revision, expected));
    etcd.client().delete("/s/c/primacy/reign", Instant::now() + PATIENCE).await.expect("a deletion");
    assert_eq!(news(&store).await, News::Interrupted);
}

#[tokio::test]
async fn a_member_that_accepts_and_never_answers_costs_one_try() {
    let etcd = Etcd::start().await;
    let silent = TcpListener::bind("127.0.0.1:0").expect("a port");
    let endpoints = [silent.local_addr().expect("an address").to_string(), etcd.address.to_string()];
    let client = Client::new(Config { try_timeout: TRY, ..Config::new(endpoints) }).expect("a client");
    let every = Duration::from_millis(500);
    let store =
        EtcdStore::new(client, paths(), "a".into(), Directory::default(), SharedLease::default(), every);
    let begun = now();
    let first =
        store.ask(Request::Transact(Txn { compare: vec![], put: vec![beat()] }), begun + Span::millis(400));
    assert_eq!(first.await, Response::Transact(Answer::Unknown));
    assert!(now() < begun + Span::millis(400));
    let answer = transact(&store, &[], vec![beat()]).await;
    assert!(matches!(answer, Answer::Committed(_)), "{answer:?}");
    assert!(now() < begun + Span::millis(600), "{}", now().since(begun));
}

/// A client of the first of these, which knows it from an earlier life.
async fn client_among_strangers(etcds: &[&Etcd]) -> Client {
    let cluster = etcds[0].client().cluster(Instant::now() + PATIENCE).await.expect("an id");
    let endpoints = etcds.iter().map(|etcd| etcd.address.to_string());
    let config = Config { try_timeout: TRY, cluster: Some(cluster), ..Config::new(endpoints) };
    Client::new(config).expect("a client")
}

#[tokio::test]
async fn what_another_etcd_says_is_no_answer() {
    let (ours, stranger) = (Etcd::start().await, Etcd::start().await);
    // There the reign is another one, so that whatever comes from there shows.
    transact(&stranger.store(), &[(Key::Reign, 0)], vec![reign(None)]).await;
    let client = client_among_strangers(&[&ours, &stranger]).await;
    let every = Duration::from_millis(500);
    let lease = SharedLease::default();
    let store = EtcdStore::new(client.clone(), paths(), "a".into(), Directory::default(), lease, every);
    for _ in 0..10 {
        client.rotate("one slow answer");
        let answer = transact(&store, &[(Key::Reign, 0)], vec![beat()]).await;
        assert!(matches!(answer, Answer::Unknown | Answer::Committed(_)), "the stranger's view: {answer:?}");
        client.rotate("one slow answer");
        let view = read(&store).await.expect("a read goes on to ours by itself");
        assert!(view.reign.is_none());
    }
    assert_eq!(stranger.get("primacy/beat").await, None);
    let answers = [transact(&store, &[], vec![beat()]).await, transact(&store, &[], vec![beat()]).await];
    assert!(answers.iter().any(|answer| matches!(answer, Answer::Committed(_))), "{answers:?}");
    assert_eq!(stranger.get("primacy/beat").await, None);
}

#[tokio::test]
async fn a_history_too_large_to_be_written_keeps_no_record_from_being_written() {
    let etcd = Etcd::start().await;
    let store = etcd.store();
    // Just what etcd takes by one put.
    let entry = format!("[1,5,{:?},\"\"]", "x".repeat(1000));
    let entries = vec![entry; (1_572_864 - 100) / 1013];
    etcd.put("history", &format!("[{}]", entries.join(","))).await;
    assert!(read(&store).await.is_some());
    let fork = Some(Position { epoch: Epoch(2), lsn: Lsn(7) });
    let epoch =
        EpochRecord { epoch: Epoch(3), holder: "a".into(), nonce: Nonce(1), fork, checkpointed: false };
    let answer = transact(&store, &[(Key::Reign, 0)], vec![reign(None), Record::Epoch(epoch)]).await;
    assert!(matches!(answer, Answer::Committed(_)), "{answer:?}");
    let history = etcd.get("history").await.expect("a history");
    assert!(history.len() <= super::HISTORY_BYTES_MAX + 2, "{} bytes", history.len());
    assert!(history.starts_with("[[1,5,") && history.contains(",[2,7,"), "the newest are there");
}

/// What is logged on this thread.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    /// Until the guard is dropped.
    fn start() -> (Log, tracing::subscriber::DefaultGuard) {
        let log = Log::default();
        let writer = log.clone();
        let subscriber =
            tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone()).finish();
        (log, tracing::subscriber::set_default(subscriber))
    }

    fn count(&self, words: &str) -> usize {
        String::from_utf8_lossy(&self.0.lock().expect("a log")).matches(words).count()
    }
}

impl std::io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().expect("a log").write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn a_full_etcd_is_told_of_once_with_the_remedy() {
    let etcd = Etcd::start_with(&["--quota-backend-bytes", "4194304"]).await;
    let store = etcd.store();
    let (log, _guard) = Log::start();
    let much = "x".repeat(1 << 20);
    let client = etcd.client();
    for _ in 0..20 {
        client.put("/much", much.clone(), None, Instant::now() + PATIENCE).await.err();
    }
    let error = client.put("/much", "", None, Instant::now() + PATIENCE).await.expect_err("it is full");
    assert!(error.is_out_of_space(), "{error}");
    for _ in 0..5 {
        assert_eq!(transact(&store, &[], vec![beat()]).await, Answer::Unknown);
        assert!(read(&store).await.is_some(), "it can still be read");
    }
    assert_eq!(log.count("has reached its quota"), 1);
    assert_eq!(log.count("the store"), 0, "neither that it does not answer nor that it does");
    let status =
        client.status(&client.current_endpoint(), Instant::now() + PATIENCE).await.expect("a status");
    upkeep::tell(&client.current_endpoint(), &status);
    assert_eq!(log.count("has reached its quota"), 2, "its alarm says the same");
}

#[tokio::test]
async fn a_large_database_is_told_of_before_it_is_full() {
    let etcd = Etcd::start().await;
    let (log, _guard) = Log::start();
    let (client, endpoint) = (etcd.client(), etcd.client().current_endpoint());
    let mut status = client.status(&endpoint, Instant::now() + PATIENCE).await.expect("a status");
    upkeep::tell(&endpoint, &status);
    assert_eq!(log.count("etcd's database"), 0);
    status.db_size_bytes = 1 << 30;
    status.db_size_in_use_bytes = 700 << 20;
    upkeep::tell(&endpoint, &status);
    assert_eq!(log.count("etcd's database has 1024 MiB, 700 of them in use"), 1);
}

#[tokio::test]
async fn the_cluster_in_use_is_kept_for_the_next_life() {
    let etcd = Etcd::start().await;
    let run_dir = etcd.dir.join("run");
    std::fs::create_dir_all(&run_dir).expect("a folder");
    assert_eq!(upkeep::earlier(&run_dir), None);
    let cluster = etcd.client().cluster(Instant::now() + PATIENCE).await.expect("an id");
    let keeps = tokio::spawn(upkeep::run(etcd.client(), run_dir.clone()));
    let deadline = Instant::now() + Duration::from_secs(30);
    while upkeep::earlier(&run_dir) != Some(cluster) {
        assert!(Instant::now() < deadline, "it is kept soon");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    keeps.abort();
    std::fs::write(run_dir.join("etcd-cluster"), "?").expect("garbage");
    assert_eq!(upkeep::earlier(&run_dir), None, "as if nothing were known");
}
