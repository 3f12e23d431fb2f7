//! How bytes get to a member: the one place that opens sockets, and where TLS will go in.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll};

use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tonic::transport::Uri;
use tower_service::Service;

/// The stream a channel runs over. With TLS it becomes an enum of both kinds; the URI stays `http://`, or
/// tonic insists on its own TLS.
type Io = TokioIo<TcpStream>;

/// Opens the TCP connection of one channel.
#[derive(Clone, Debug)]
pub(crate) struct Connector {
    pub(crate) gate: Gate,
}

impl Service<Uri> for Connector {
    type Response = Io;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Io>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let gate = self.gate.clone();
        Box::pin(async move {
            let stream = dial(&uri).await?;
            match gate.pass() {
                true => Ok(TokioIo::new(stream)),
                false => Err(io::Error::new(io::ErrorKind::TimedOut, "given up while connecting")),
            }
        })
    }
}

async fn dial(uri: &Uri) -> io::Result<TcpStream> {
    let address = uri.authority().map_or("", |authority| authority.as_str());
    let stream = TcpStream::connect(address).await?;
    // Without it each request waits for a delayed acknowledgement, some 40 ms.
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Settles whether a channel ever had a connection. A request given up before that is surely not sent, and
/// can't be sent afterwards either, because a gate once shut lets no connection through.
#[derive(Clone, Debug, Default)]
pub(crate) struct Gate {
    state: Arc<AtomicU8>,
}

const CONNECTING: u8 = 0;
const CONNECTED: u8 = 1;
const SHUT: u8 = 2;

impl Gate {
    /// Whether the connection just made may be used. Reconnecting later is fine, too.
    fn pass(&self) -> bool {
        self.settle(CONNECTED) != SHUT
    }

    /// Whether nothing was and nothing will be sent.
    pub(crate) fn shut(&self) -> bool {
        self.settle(SHUT) != CONNECTED
    }

    /// The first to settle it wins; returns how it is settled.
    fn settle(&self, to: u8) -> u8 {
        match self.state.compare_exchange(CONNECTING, to, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => to,
            Err(settled) => settled,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_passes_a_shut_gate() {
        let gate = Gate::default();
        assert!(gate.shut());
        assert!(!gate.pass());
        assert!(gate.shut());
    }

    #[test]
    fn a_gate_once_passed_cannot_be_shut() {
        let gate = Gate::default();
        assert!(gate.pass());
        assert!(!gate.shut());
        assert!(gate.pass());
    }
}
