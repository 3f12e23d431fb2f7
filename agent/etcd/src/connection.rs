//! One connection to one member, until it is retired.

use std::time::Duration;

use tokio::sync::watch;
use tonic::transport::{Channel, Endpoint as Transport};

use crate::connect::{Connector, Gate};
use crate::{Cause, Endpoint, Error};

/// etcd takes pings faster than every 5 s for an attack and hangs up.
const PING_EVERY: Duration = Duration::from_secs(6);
const PING_TIMEOUT: Duration = Duration::from_secs(3);

/// A lazy channel to one member. Whoever holds it may go on using it, but once it is retired the client hands
/// out another one, and watches on it end.
#[derive(Debug)]
pub(crate) struct Connection {
    endpoint: Endpoint,
    channel: Channel,
    gate: Gate,
    retired: watch::Sender<Option<String>>,
}

impl Connection {
    pub(crate) fn new(endpoint: Endpoint) -> Connection {
        let gate = Gate::default();
        // No pings without a stream: etcd counts those as an attack, too.
        let transport = Transport::from(endpoint.uri().clone())
            .http2_keep_alive_interval(PING_EVERY)
            .keep_alive_timeout(PING_TIMEOUT)
            .keep_alive_while_idle(false);
        let channel = transport.connect_with_connector_lazy(Connector { gate: gate.clone() });
        Connection { endpoint, channel, gate, retired: watch::Sender::new(None) }
    }

    pub(crate) fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    pub(crate) fn channel(&self) -> Channel {
        self.channel.clone()
    }

    /// The error of a request that got no answer in time. Its future must be gone already.
    pub(crate) fn timed_out(&self) -> Error {
        let endpoint = self.endpoint.clone();
        match self.gate.shut() {
            true => Error::NotSent { endpoint, reason: "no connection in time".to_owned() },
            false => Error::Unknown { endpoint, cause: Cause::Timeout },
        }
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
