//! Connections of the REST interface, on a thread of their own: whatever others ask, and however often, the thread that
//! keeps the lease doesn't wait for it.

use super::{Api, PATIENCE, answer};
use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use rustix::net::sockopt::set_tcp_user_timeout;
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
    let _ = set_tcp_user_timeout(&stream, PATIENCE.as_millis() as u32);
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(PATIENCE);
    // A client that goes away early is its own business.
    let _ = http.serve_connection(TokioIo::new(stream), TowerToHyperService::new(router)).await;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::tests::api;
    use std::io::{Read, Write};
    use std::net::{SocketAddr, TcpStream};

    /// REST on a free port.
    fn rest(connections_max: usize) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        listener.set_nonblocking(true).expect("a socket that doesn't block");
        let address = listener.local_addr().expect("an address");
        start_bounded(listener, api(""), connections_max).expect("a thread");
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
}
