//! Connections of the REST interface, on a thread of their own: whatever others ask, and however often, the thread that
//! keeps the lease doesn't wait for it.

use super::{Api, PATIENCE, answer};
use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use rustix::net::sockopt;
use std::collections::VecDeque;
use std::convert::Infallible;
use std::io;
use std::net::TcpListener;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::task::{AbortHandle, JoinSet};

/// More than any set of load balancers opens.
const CONNECTIONS_MAX: usize = 256;

/// The pause after a failure: most often there are no file descriptors left.
const PAUSE: Duration = Duration::from_millis(100);

/// Begins to answer, for as long as the process lives.
///
/// # Errors
/// If there is no thread to be had.
pub fn start(listener: TcpListener, api: Api) -> io::Result<()> {
    start_bounded(listener, api, CONNECTIONS_MAX)
}

fn start_bounded(listener: TcpListener, api: Api, connections_max: usize) -> io::Result<()> {
    let serve = move || {
        loop {
            let served = catch_unwind(AssertUnwindSafe(|| serve(&listener, &api, connections_max)));
            match served {
                Ok(Err(error)) => tracing::error!(%error, "REST has failed, begins again"),
                Err(_) => tracing::error!("REST has panicked, begins again"),
            }
            std::thread::sleep(PAUSE);
        }
    };
    std::thread::Builder::new().name("rest".to_owned()).spawn(serve).map(drop)
}

fn serve(listener: &TcpListener, api: &Api, connections_max: usize) -> io::Result<Infallible> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let listener = listener.try_clone()?;
    runtime.block_on(accept(listener, api.clone(), connections_max))
}

async fn accept(listener: TcpListener, api: Api, connections_max: usize) -> io::Result<Infallible> {
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let router = Router::new().fallback(answer).with_state(api);
    let mut connections = JoinSet::new();
    let mut oldest_first: VecDeque<AbortHandle> = VecDeque::new();
    loop {
        let accepted = tokio::select! {
            biased;
            Some(ended) = connections.join_next() => {
                if ended.is_err_and(|error: tokio::task::JoinError| error.is_panic()) {
                    tracing::error!("an answer of REST has panicked");
                }
                continue;
            }
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, _)) => {
                oldest_first.retain(|connection| !connection.is_finished());
                // Who is slow or idle makes room: a health check is done long before it is the oldest.
                if oldest_first.len() >= connections_max
                    && let Some(oldest) = oldest_first.pop_front()
                {
                    oldest.abort();
                }
                oldest_first.push_back(connections.spawn(answer_all(stream, router.clone())));
            }
            Err(error) => {
                tracing::warn!(%error, "could not accept a connection");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

async fn answer_all(stream: TcpStream, router: Router) {
    // It only costs time if these can't be had.
    let _ = stream.set_nodelay(true);
    let _ = sockopt::set_tcp_user_timeout(&stream, PATIENCE.as_millis() as u32);
    // Who listens to events says nothing: one that is gone is found by this.
    let _ = sockopt::set_tcp_keepidle(&stream, PATIENCE);
    let _ = sockopt::set_tcp_keepintvl(&stream, PATIENCE);
    let _ = sockopt::set_socket_keepalive(&stream, true);
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(PATIENCE);
    // A client that goes away early is its own business.
    let _ = http.serve_connection(TokioIo::new(stream), TowerToHyperService::new(router)).await;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::tests::api;
    use crate::events::LISTENERS_MAX;
    use primacy_core::Event;
    use std::io::{BufRead, BufReader, Read, Write};
    use std::net::{SocketAddr, TcpStream};

    /// REST on a free port.
    fn rest(connections_max: usize) -> SocketAddr {
        rest_of(api(""), connections_max)
    }

    fn rest_of(api: Api, connections_max: usize) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        listener.set_nonblocking(true).expect("a socket that doesn't block");
        let address = listener.local_addr().expect("an address");
        start_bounded(listener, api, connections_max).expect("a thread");
        address
    }

    /// A connection on which this much was said.
    fn said(address: SocketAddr, words: &str) -> TcpStream {
        let mut stream = TcpStream::connect(address).expect("a connection");
        stream.set_read_timeout(Some(Duration::from_secs(60))).expect("a timeout");
        stream.set_write_timeout(Some(Duration::from_secs(60))).expect("a timeout");
        stream.write_all(words.as_bytes()).expect("a request");
        stream
    }

    /// All that is answered until the end of the connection.
    fn answered(mut stream: TcpStream) -> String {
        let mut text = String::new();
        // An answer may be followed by a reset.
        drop(stream.read_to_string(&mut text));
        text
    }

    const CHECK: &str = "GET /patroni HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";

    #[tokio::test(flavor = "current_thread")]
    async fn answers_need_nothing_of_the_thread_that_keeps_the_lease() {
        let address = rest(8);
        // Nothing else runs on this thread until the answer is there.
        assert!(answered(said(address, CHECK)).starts_with("HTTP/1.1 200"));
    }

    #[test]
    fn slow_clients_keep_nobody_from_an_answer() {
        let address = rest(4);
        let body = "POST /switchover HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n{";
        let slow: Vec<_> = [body, body, body, "GET /pat", "", body].map(|words| said(address, words)).into();
        for _ in 0..slow.len() {
            assert!(answered(said(address, CHECK)).starts_with("HTTP/1.1 200"));
        }
    }

    #[test]
    fn who_does_not_finish_a_request_or_take_its_answer_is_cut_off() {
        let address = rest(8);
        let body = said(address, "POST /switchover HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n{");
        let header = said(address, "GET /patroni HTTP/1.1\r\nHost:");
        let idle = said(address, "");
        let mut deaf = said(address, "");
        let cut_off = loop {
            if let Err(error) = deaf.write_all(b"GET /patroni HTTP/1.1\r\nHost: x\r\n\r\n") {
                break error;
            }
        };
        assert_ne!(cut_off.kind(), std::io::ErrorKind::WouldBlock, "it is never cut off");
        assert!(answered(body).starts_with("HTTP/1.1 408"));
        assert_eq!((answered(header).as_str(), answered(idle).as_str()), ("", ""));
    }

    const EVENTS: &str = "GET /events HTTP/1.0\r\n\r\n";

    /// What is told on a stream until a line with `end`.
    fn told(stream: &mut impl BufRead, end: &str) -> String {
        let mut text = String::new();
        while !text.lines().last().is_some_and(|line| line.contains(end)) {
            assert_ne!(stream.read_line(&mut text).expect("a line"), 0, "it ended with {text}");
        }
        text
    }

    #[test]
    fn events_are_a_stream_of_lines_that_ends_with_the_agent() {
        let api = api("");
        let (events, address) = (api.board.events.clone(), rest_of(api, 8));
        events.fact(&Event::ClaimedBootstrap);
        let mut stream = BufReader::new(said(address, EVENTS));
        let head = told(&mut stream, "claimed_bootstrap");
        assert!(head.starts_with("HTTP/1.0 200") && head.contains("application/x-ndjson"), "{head}");
        events.fact(&Event::Stopped);
        let line = told(&mut stream, "stopped");
        let id = serde_json::from_str::<serde_json::Value>(&line).expect("a line of JSON")["id"].as_u64();
        let one = |query: &str| answered(said(address, &format!("GET /events?{query} HTTP/1.0\r\n\r\n")));
        let short = one(&format!("follow=false&since={}", id.expect("a number") - 1));
        assert!(short.ends_with(&line) && !short.contains("claimed"), "{short}");
        assert!(one("since=yesterday").starts_with("HTTP/1.0 400"));
        events.close();
        let mut rest = String::new();
        stream.read_to_string(&mut rest).expect("an end in order");
        assert_eq!(rest, "");
    }

    #[test]
    fn who_listens_and_does_not_read_makes_room() {
        let api = api("");
        let (events, address) = (api.board.events.clone(), rest_of(api, 2 * LISTENERS_MAX));
        events.fact(&Event::Stopped);
        let mut deaf: Vec<_> = (0..LISTENERS_MAX).map(|_| BufReader::new(said(address, EVENTS))).collect();
        deaf.iter_mut().for_each(|stream| drop(told(stream, "stopped")));
        assert!(answered(said(address, EVENTS)).starts_with("HTTP/1.0 503"), "too many");
        assert!(answered(said(address, CHECK)).starts_with("HTTP/1.1 200"), "others are answered");
        // Nothing is kept for them, so this has an end.
        let sentence = "x".repeat(64 << 10);
        while events.listen(None, false).is_none() {
            events.tell("noise", &sentence, &());
        }
        assert!(answered(said(address, CHECK)).starts_with("HTTP/1.1 200"));
    }
}
