//! One connection to one member, until it is retired.

use std::time::Duration;

use tokio::sync::{OnceCell, watch};
use tokio::time::{Instant, timeout_at};
use tonic::Status;
use tonic::transport::{Channel, Endpoint as Transport};

use crate::connect::{Connector, Once, Resolver};
use crate::{Cause, Endpoint, Error, Header, member};

/// etcd takes pings faster than every 5 s for an attack and hangs up.
const PING_EVERY: Duration = Duration::from_secs(6);
const PING_TIMEOUT: Duration = Duration::from_secs(3);

/// A lazy channel to one member, over one TCP connection. Whoever holds it may go on using it, but once it is
/// retired the client hands out another one, and watches on it end.
#[derive(Debug)]
pub(crate) struct Connection {
    endpoint: Endpoint,
    channel: Channel,
    once: Once,
    cluster: OnceCell<u64>,
    retired: watch::Sender<Option<String>>,
}

impl Connection {
    pub(crate) fn new(endpoint: Endpoint, resolver: Resolver) -> Connection {
        let once = Once::default();
        // No pings without a stream: etcd counts those as an attack, too.
        let transport = Transport::from(endpoint.uri().clone())
            .http2_keep_alive_interval(PING_EVERY)
            .keep_alive_timeout(PING_TIMEOUT)
            .keep_alive_while_idle(false);
        let connector = Connector { once: once.clone(), resolver };
        let channel = transport.connect_with_connector_lazy(connector);
        Connection { endpoint, channel, once, cluster: OnceCell::new(), retired: watch::Sender::new(None) }
    }

    pub(crate) fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    pub(crate) fn channel(&self) -> Channel {
        self.channel.clone()
    }

    /// The id of the cluster that is at the other end. It is asked for once, as it can't change: an etcd has one
    /// for life, and a channel one connection. Until it is known nothing else is sent, so each error is
    /// [`Error::NotSent`].
    pub(crate) async fn cluster(&self, end: Instant) -> Result<u64, Error> {
        let asked = self.cluster.get_or_try_init(|| cluster(self.channel()));
        match timeout_at(end, asked).await {
            Ok(Ok(id)) => Ok(*id),
            Ok(Err(status)) => {
                Err(Error::from_status(self.endpoint.clone(), status).before_anything_was_sent())
            }
            Err(_) => {
                let reason = match self.once.is_taken() {
                    true => "connected, but no answer in time",
                    false => "no connection in time",
                };
                Err(Error::NotSent { endpoint: self.endpoint.clone(), reason: reason.to_owned() })
            }
        }
    }

    /// The error of a request that got no answer in time.
    pub(crate) fn timed_out(&self) -> Error {
        Error::Unknown { endpoint: self.endpoint.clone(), cause: Cause::Timeout }
    }

    /// Ends the watches of this connection.
    pub(crate) fn retire(&self, reason: String) {
        self.retired.send_replace(Some(reason));
    }

    /// Turns to the reason when the connection is retired.
    pub(crate) fn retirement(&self) -> watch::Receiver<Option<String>> {
        self.retired.subscribe()
    }
}

async fn cluster(channel: Channel) -> Result<u64, Status> {
    let header: Header = member::status(channel).await?.header;
    Ok(header.cluster_id)
}
