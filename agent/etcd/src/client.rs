//! The client: which member is used, for how long, and when to move on.

use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, timeout_at};
use tonic::Status;
use tonic::transport::Channel;

use crate::connection::Connection;
use crate::{Config, ConfigError, Endpoint, Error};

/// The pause after all endpoints in turn have failed, so that refused connections don't become a busy loop.
const PAUSE_AFTER_ROUND: Duration = Duration::from_millis(50);

/// A client of one etcd cluster. Clones share the connection.
#[derive(Clone, Debug)]
pub struct Client {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    endpoints: Vec<Endpoint>,
    try_timeout: Duration,
    current: Mutex<Current>,
}

#[derive(Debug)]
struct Current {
    /// Index into the endpoints.
    index: usize,
    connection: Arc<Connection>,
}

impl Client {
    /// A client of these endpoints. Nothing is connected before the first call.
    ///
    /// # Errors
    /// If there is no endpoint, one can't be used, or the time for a try is zero.
    pub fn new(config: Config) -> Result<Client, ConfigError> {
        let endpoints = config.parse_endpoints()?;
        let connection = Arc::new(Connection::new(endpoints[0].clone()));
        let current = Mutex::new(Current { index: 0, connection });
        Ok(Client { shared: Arc::new(Shared { endpoints, try_timeout: config.try_timeout, current }) })
    }

    /// All endpoints, in the order in which they are tried.
    pub fn endpoints(&self) -> &[Endpoint] {
        &self.shared.endpoints
    }

    /// The endpoint the next call will use.
    pub fn current_endpoint(&self) -> Endpoint {
        self.current().connection.endpoint().clone()
    }

    /// Leaves the current endpoint for the next one and ends its watches. For when the caller knows better
    /// than the client that a member is of no use, e.g. because its watch has gone silent.
    pub fn rotate(&self, reason: &str) {
        let connection = self.current().connection.clone();
        self.retire(&connection, reason);
    }

    /// One try of `call` on the current endpoint.
    pub(crate) async fn once<T, F>(
        &self,
        deadline: Instant,
        call: impl FnOnce(Channel) -> F,
    ) -> Result<T, Error>
    where
        F: Future<Output = Result<T, Status>>,
    {
        let connection = self.current().connection.clone();
        self.once_over(&connection, deadline, call).await
    }

    /// One try of `call` over `connection`, which is retired unless the answer is definitive.
    pub(crate) async fn once_over<T, F>(
        &self,
        connection: &Arc<Connection>,
        deadline: Instant,
        call: impl FnOnce(Channel) -> F,
    ) -> Result<T, Error>
    where
        F: Future<Output = Result<T, Status>>,
    {
        let result = try_over(connection, self.try_end(deadline)?, call).await;
        if let Err(error) = &result
            && error.is_retriable()
        {
            self.retire(connection, &error.to_string());
        }
        result
    }

    /// Tries of `call`, over all endpoints in turn, until one has a definitive answer or the deadline passes.
    /// Only for what changes nothing. The error is that of the last try.
    pub(crate) async fn repeatedly<T, F>(
        &self,
        deadline: Instant,
        call: impl Fn(Channel) -> F,
    ) -> Result<T, Error>
    where
        F: Future<Output = Result<T, Status>>,
    {
        let mut tries = 0;
        loop {
            let result = self.once(deadline, &call).await;
            tries += 1;
            let pause = pause_after(tries, self.endpoints().len());
            match result {
                Err(error) if error.is_retriable() && Instant::now() + pause < deadline => {
                    tokio::time::sleep(pause).await;
                }
                result => return result,
            }
        }
    }

    pub(crate) fn connection(&self) -> Arc<Connection> {
        self.current().connection.clone()
    }

    /// Moves on to the next endpoint, unless this connection was retired before.
    pub(crate) fn retire(&self, connection: &Arc<Connection>, reason: &str) {
        let mut current = self.current();
        if Arc::ptr_eq(&current.connection, connection) {
            current.index = (current.index + 1) % self.shared.endpoints.len();
            current.connection = Arc::new(Connection::new(self.shared.endpoints[current.index].clone()));
            tracing::debug!(left = %connection.endpoint(), next = %current.connection.endpoint(), reason, "rotated");
        }
        drop(current);
        connection.retire(reason.to_owned());
    }

    /// When a try that starts now must end.
    pub(crate) fn try_end(&self, deadline: Instant) -> Result<Instant, Error> {
        let now = Instant::now();
        if deadline <= now {
            let reason = "the deadline had passed".to_owned();
            return Err(Error::NotSent { endpoint: self.current_endpoint(), reason });
        }
        Ok(deadline.min(now + self.shared.try_timeout))
    }

    fn current(&self) -> MutexGuard<'_, Current> {
        self.shared.current.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One try of `call` over `connection` that ends at `end`.
pub(crate) async fn try_over<T, F>(
    connection: &Connection,
    end: Instant,
    call: impl FnOnce(Channel) -> F,
) -> Result<T, Error>
where
    F: Future<Output = Result<T, Status>>,
{
    let outcome = timeout_at(end, call(connection.channel())).await;
    match outcome {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(status)) => Err(Error::from_status(connection.endpoint().clone(), status)),
        Err(_) => Err(connection.timed_out()),
    }
}

fn pause_after(tries: usize, endpoints: usize) -> Duration {
    match tries % endpoints {
        0 => PAUSE_AFTER_ROUND,
        _ => Duration::ZERO,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::LeaseId;

    #[test]
    fn calls_may_move_between_threads() {
        fn movable<T: Send>(_: T) {}
        let id = LeaseId::new(1).expect("not zero");
        let later = Instant::now() + Duration::from_secs(1);
        // Built, never run: the compiler checks.
        let _ = |client: Client| {
            movable(client.txn(vec![], vec![], vec![], later));
            movable(client.read("/a", later));
            movable(client.put("/a", "1", None, later));
            movable(client.lease_keepalive(id, later));
            movable(client.watch("/a", 0, later));
            movable(client.clone());
        };
    }
}
