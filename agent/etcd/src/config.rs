//! Where the store is and how long one try may take.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use tonic::transport::Uri;

/// What a [`Client`](crate::Client) is made from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The members' client addresses, `host:port` or `http://host:port`. The first is used first; on failure
    /// the client goes round in this order.
    pub endpoints: Vec<String>,
    /// How long one try may take, connecting included. 400 ms unless told: two tries on bad members and one
    /// on a good one then fit into 1.3 s.
    pub try_timeout: Duration,
    /// The id of the cluster, if an earlier client had one. It is used as soon as an endpoint belongs to it; another
    /// one only if more than half of the endpoints belong to that, and none to a third.
    pub cluster: Option<u64>,
}

impl Config {
    /// These endpoints, with the default time for a try.
    pub fn new<E: Into<String>>(endpoints: impl IntoIterator<Item = E>) -> Config {
        Config {
            endpoints: endpoints.into_iter().map(Into::into).collect(),
            try_timeout: Duration::from_millis(400),
            cluster: None,
        }
    }

    pub(crate) fn parse_endpoints(&self) -> Result<Vec<Endpoint>, ConfigError> {
        if self.endpoints.is_empty() {
            return Err(ConfigError::NoEndpoint);
        }
        if self.try_timeout.is_zero() {
            return Err(ConfigError::NoTime);
        }
        self.endpoints.iter().map(|text| text.parse()).collect()
    }
}

/// The client address of one member.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Endpoint {
    uri: Uri,
}

impl Endpoint {
    pub(crate) fn uri(&self) -> &Uri {
        &self.uri
    }

    /// `host:port`, as the resolver takes it.
    fn address(&self) -> &str {
        self.uri.authority().map_or("", |authority| authority.as_str())
    }
}

impl FromStr for Endpoint {
    type Err = ConfigError;

    fn from_str(text: &str) -> Result<Endpoint, ConfigError> {
        let wrong = |reason: &'static str| ConfigError::Endpoint { text: text.to_owned(), reason };
        if text.starts_with("https://") {
            return Err(wrong("TLS isn't supported yet"));
        }
        let address = text.strip_prefix("http://").unwrap_or(text).trim_end_matches('/');
        let uri: Uri = format!("http://{address}").parse().map_err(|_| wrong("expected host:port"))?;
        match uri.authority() {
            Some(authority) if authority.as_str() != address => {
                Err(wrong("expected host:port, nothing more"))
            }
            Some(_) if address.contains('@') => Err(wrong("a user isn't taken here")),
            Some(authority) if authority.host().is_empty() => Err(wrong("the host is missing")),
            Some(authority) if authority.port_u16().is_none() => Err(wrong("the port is missing")),
            Some(_) => Ok(Endpoint { uri }),
            None => Err(wrong("expected host:port")),
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.address())
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What is wrong with a [`Config`] or an [`Endpoint`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// The list of endpoints is empty.
    #[error("no etcd endpoint is given")]
    NoEndpoint,
    /// The time for a try is zero.
    #[error("the time for one try must be above zero")]
    NoTime,
    /// An endpoint can't be used.
    #[error("etcd endpoint \"{text}\": {reason}")]
    Endpoint {
        /// The endpoint as given.
        text: String,
        /// What is wrong with it.
        reason: &'static str,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_is_a_host_and_a_port_with_or_without_http() {
        for text in ["10.0.0.1:2379", "http://10.0.0.1:2379", "http://10.0.0.1:2379/"] {
            assert_eq!(text.parse::<Endpoint>().map(|e| e.to_string()), Ok("10.0.0.1:2379".to_owned()));
        }
        for text in ["etcd-1.example:2379", "[::1]:2379"] {
            assert_eq!(text.parse::<Endpoint>().map(|e| e.to_string()), Ok(text.to_owned()));
        }
    }

    #[test]
    fn what_is_no_endpoint_is_refused_with_the_reason() {
        let reasons = [
            ("https://a:2379", "TLS isn't supported yet"),
            ("a", "the port is missing"),
            (":2379", "the host is missing"),
            ("a:2379/v3", "expected host:port, nothing more"),
            ("user@a:2379", "a user isn't taken here"),
            ("", "expected host:port"),
            ("a:99999", "the port is missing"),
        ];
        for (text, reason) in reasons {
            let expected = ConfigError::Endpoint { text: text.to_owned(), reason };
            assert_eq!(text.parse::<Endpoint>(), Err(expected));
        }
    }

    #[test]
    fn a_client_needs_an_endpoint_and_time() {
        assert_eq!(Config::new([""; 0]).parse_endpoints(), Err(ConfigError::NoEndpoint));
        let config = Config { try_timeout: Duration::ZERO, ..Config::new(["a:1"]) };
        assert_eq!(config.parse_endpoints(), Err(ConfigError::NoTime));
    }
}
