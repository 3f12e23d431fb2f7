//! The client: which member is used, for how long, and when to move on.

use std::collections::BTreeSet;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::OnceCell;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};
use tonic::Status;
use tonic::transport::Channel;

use crate::connect::Resolver;
use crate::connection::Connection;
use crate::{Config, ConfigError, Endpoint, Error, identity};

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
    /// One for each endpoint.
    resolvers: Vec<Resolver>,
    try_timeout: Duration,
    /// The cluster of an earlier client.
    earlier: Option<u64>,
    /// The cluster that this client has settled on.
    cluster: OnceCell<u64>,
    /// Complaints about clusters: each is made once.
    told: Mutex<BTreeSet<String>>,
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
        let resolvers = vec![Resolver::default(); endpoints.len()];
        let connection = Arc::new(Connection::new(endpoints[0].clone(), resolvers[0].clone()));
        Ok(Client {
            shared: Arc::new(Shared {
                endpoints,
                resolvers,
                try_timeout: config.try_timeout,
                earlier: config.cluster,
                cluster: OnceCell::new(),
                told: Mutex::default(),
                current: Mutex::new(Current { index: 0, connection }),
            }),
        })
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
        let end = self.try_end(deadline)?;
        let result = match self.check(connection, end).await {
            Ok(()) => try_over(connection, end, call).await,
            Err(error) => Err(error),
        };
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
            current.connection = Arc::new(self.connection_to(current.index));
            tracing::debug!(left = %connection.endpoint(), next = %current.connection.endpoint(), reason, "rotated");
        }
        drop(current);
        connection.retire(reason.to_owned());
    }

    /// The id of the cluster that this client uses, from now on and for life. The first call, of this kind or any
    /// other, settles it by asking all endpoints. One try, which may use half of its time for that.
    ///
    /// # Errors
    /// [`Error::NotSent`] if none answers, or if they don't belong to one cluster. See [`Config::cluster`].
    pub async fn cluster(&self, deadline: Instant) -> Result<u64, Error> {
        self.settled(self.try_end(deadline)?).await
    }

    /// Makes sure that `connection` leads to the cluster in use, before anything is sent over it.
    async fn check(&self, connection: &Connection, end: Instant) -> Result<(), Error> {
        let settled = self.settled(end).await?;
        let found = connection.cluster(end).await?;
        if found == settled {
            return Ok(());
        }
        let reason = identity::stranger(connection.endpoint(), found, settled);
        Err(self.complain(connection.endpoint(), reason))
    }

    async fn settled(&self, end: Instant) -> Result<u64, Error> {
        let settling = self.shared.cluster.get_or_try_init(|| self.settle(end));
        match timeout_at(end, settling).await {
            Ok(settled) => settled.copied(),
            Err(_) => {
                let reason = "no endpoint has answered in time".to_owned();
                Err(Error::NotSent { endpoint: self.current_endpoint(), reason })
            }
        }
    }

    /// Settles on a cluster, as far as the endpoints that answer say which one it is. A silent one must not use up the
    /// time of the request that waits for this.
    async fn settle(&self, end: Instant) -> Result<u64, Error> {
        let now = Instant::now();
        let mut asked = JoinSet::new();
        for index in 0..self.endpoints().len() {
            let connection = self.connection_to(index);
            let end = now + end.saturating_duration_since(now) / 2;
            asked.spawn(async move { (index, connection.cluster(end).await) });
        }
        let mut said = asked.join_all().await;
        said.sort_by_key(|(index, _)| *index);
        let (mut answers, mut failed) = (Vec::new(), None);
        for (index, result) in said {
            match result {
                Ok(id) => answers.push((self.endpoints()[index].clone(), id)),
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        if let (true, Some(error)) = (answers.is_empty(), failed) {
            return Err(error);
        }
        let (earlier, count) = (self.shared.earlier, self.endpoints().len());
        let id = identity::settle(earlier, count, &answers)
            .map_err(|reason| self.complain(&self.current_endpoint(), reason))?;
        if let Some(earlier) = earlier.filter(|earlier| *earlier != id) {
            tracing::warn!("etcd is another cluster than before: {id:x} in place of {earlier:x}");
        }
        Ok(id)
    }

    /// An endpoint can't be used for a reason that only a person can mend.
    fn complain(&self, endpoint: &Endpoint, reason: String) -> Error {
        let mut told = self.shared.told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.insert(reason.clone()) {
            tracing::error!("etcd: {reason}");
        }
        Error::NotSent { endpoint: endpoint.clone(), reason }
    }

    /// A new connection to the endpoint of this index.
    fn connection_to(&self, index: usize) -> Connection {
        Connection::new(self.shared.endpoints[index].clone(), self.shared.resolvers[index].clone())
    }

    /// A connection of its own to a member.
    pub(crate) fn aside(&self, endpoint: &Endpoint) -> Connection {
        match self.endpoints().iter().position(|known| known == endpoint) {
            Some(index) => self.connection_to(index),
            None => Connection::new(endpoint.clone(), Resolver::default()),
        }
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
