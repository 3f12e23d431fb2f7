//! How bytes get to a member: the one place that opens sockets, and where TLS will go in.

use std::future::Future;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tonic::transport::Uri;
use tower_service::Service;

/// The stream a channel runs over. With TLS it becomes an enum of both kinds; the URI stays `http://`, or
/// tonic insists on its own TLS.
type Io = TokioIo<TcpStream>;

/// Opens the one TCP connection of one channel.
#[derive(Clone, Debug)]
pub(crate) struct Connector {
    pub(crate) once: Once,
    pub(crate) resolver: Resolver,
}

impl Service<Uri> for Connector {
    type Response = Io;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Io>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let Connector { once, resolver } = self.clone();
        Box::pin(async move {
            let address = uri.authority().map_or("", |authority| authority.as_str());
            let stream = TcpStream::connect(&*resolver.resolve(address).await?).await?;
            // Without it each request waits for a delayed acknowledgement, some 40 ms.
            stream.set_nodelay(true)?;
            match once.take() {
                true => Ok(TokioIo::new(stream)),
                false => Err(io::Error::new(io::ErrorKind::NotConnected, "the connection is broken")),
            }
        })
    }
}

/// Lets a channel have one connection and never another. Who answers on a connection stays the same for as
/// long as it lasts; after it, another cluster's member may be at the same address.
#[derive(Clone, Debug, Default)]
pub(crate) struct Once {
    taken: Arc<AtomicBool>,
}

impl Once {
    /// Whether the connection just made is the first.
    fn take(&self) -> bool {
        !self.taken.swap(true, Ordering::AcqRel)
    }

    /// Whether there was a connection.
    pub(crate) fn is_taken(&self) -> bool {
        self.taken.load(Ordering::Acquire)
    }
}

/// Resolves the name of one endpoint, once at a time: the system's resolver can't be interrupted, so with a dead
/// name server each try would leave one more thread behind that waits for it.
#[derive(Clone, Debug)]
pub(crate) struct Resolver {
    turn: Arc<Semaphore>,
}

impl Default for Resolver {
    fn default() -> Resolver {
        Resolver { turn: Arc::new(Semaphore::new(1)) }
    }
}

impl Resolver {
    async fn resolve(&self, address: &str) -> io::Result<Vec<SocketAddr>> {
        match address.parse() {
            Ok(address) => Ok(vec![address]),
            Err(_) => {
                let address = address.to_owned();
                self.look_up(move || address.to_socket_addrs().map(Iterator::collect)).await
            }
        }
    }

    /// The turn ends with the look-up, also if nobody waits for that any more.
    async fn look_up<T: Send + 'static>(
        &self,
        look_up: impl FnOnce() -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        let turn = self.turn.clone().acquire_owned().await.map_err(io::Error::other)?;
        let looked_up = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            look_up()
        });
        looked_up.await.map_err(io::Error::other)?
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    #[test]
    fn a_channel_has_one_connection() {
        let once = Once::default();
        assert!(!once.is_taken());
        assert_eq!([once.take(), once.take()], [true, false]);
        assert!(once.is_taken());
    }

    #[tokio::test]
    async fn a_name_is_looked_up_once_at_a_time_also_when_nobody_waits_any_more() {
        let resolver = Resolver::default();
        let (begun, begins) = tokio::sync::oneshot::channel();
        let (answer, answers) = mpsc::channel::<()>();
        let dead = resolver.look_up(move || {
            let _ = begun.send(());
            let _ = answers.recv();
            Ok(1)
        });
        tokio::select! {
            _ = dead => panic!("nobody has answered"),
            begun = begins => begun.expect("begun"),
        }
        assert_eq!(resolver.turn.available_permits(), 0, "held by a look-up that nobody waits for");
        let (second, seconds) = mpsc::channel();
        let mut next = Box::pin(resolver.look_up(move || second.send(()).map_err(io::Error::other)));
        tokio::select! {
            biased;
            _ = &mut next => panic!("the first look-up is under way"),
            () = std::future::ready(()) => {}
        }
        assert_eq!(seconds.try_recv(), Err(mpsc::TryRecvError::Empty));
        drop(answer);
        next.await.expect("its turn");
        assert_eq!(seconds.try_recv(), Ok(()));
    }

    #[tokio::test]
    async fn an_address_needs_no_look_up() {
        let resolver = Resolver::default();
        let _turn = resolver.turn.clone().acquire_owned().await.expect("the turn");
        let address = "[::1]:2379".parse().expect("an address");
        assert_eq!(resolver.resolve("[::1]:2379").await.expect("resolved"), [address]);
    }
}
