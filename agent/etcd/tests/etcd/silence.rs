//! Addresses where nothing answers; no etcd needed.

use std::io::Read;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use primacy_etcd::{Client, Config, Error, Instant};

use crate::cluster::soon;

/// A client of one address, with little time for a try.
fn client_of(address: SocketAddr) -> Client {
    let try_timeout = Duration::from_millis(50);
    Client::new(Config { try_timeout, ..Config::new([address.to_string()]) }).expect("a client")
}

#[tokio::test]
async fn tries_on_a_silent_member_leave_no_connection_behind() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("listen");
    let client = client_of(listener.local_addr().expect("an address"));
    for _ in 0..10 {
        let error = client.range("/a", soon()).await.expect_err("nobody answers");
        assert!(matches!(error, Error::NotSent { .. }), "it doesn't say who it is: {error:?}");
    }
    tokio::time::sleep(Duration::from_millis(100)).await;
    for _ in 0..10 {
        let (mut stream, _) = listener.accept().expect("a connection");
        stream.set_read_timeout(Some(Duration::from_secs(5))).expect("a timeout");
        stream.read_to_end(&mut Vec::new()).expect("the client has closed it");
    }
}

#[tokio::test]
async fn a_connection_that_does_not_come_about_is_surely_not_sent() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("listen");
    let address = listener.local_addr().expect("an address");
    // A full queue: the kernel drops further attempts, like a host that is gone.
    let patience = Duration::from_millis(200);
    let mut queue = Vec::new();
    while let Ok(stream) = TcpStream::connect_timeout(&address, patience) {
        queue.push(stream);
    }
    let error = client_of(address).put("/a", "1", None, soon()).await.expect_err("no connection");
    assert!(matches!(error, Error::NotSent { .. }), "{error:?}");
}

#[tokio::test]
async fn a_deadline_that_has_passed_sends_nothing_and_blames_nobody() {
    let endpoints = ["127.0.0.1:1", "127.0.0.1:2"];
    let client = Client::new(Config::new(endpoints)).expect("a client");
    let error = client.put("/a", "1", None, Instant::now()).await.expect_err("too late");
    assert!(matches!(error, Error::NotSent { .. }), "{error:?}");
    assert_eq!(client.current_endpoint().to_string(), endpoints[0]);
}
