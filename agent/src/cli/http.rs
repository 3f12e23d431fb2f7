//! One request to one member.

use http_body_util::{BodyExt, Full};
use hyper::Request;
use hyper::body::Bytes;
use hyper::client::conn::http1::handshake;
use hyper_util::rt::TokioIo;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::timeout;

/// How long a member may take to be there.
const CONNECT_WITHIN: Duration = Duration::from_secs(2);

/// A little longer than a member waits for the outcome of a switchover.
const ANSWER_WITHIN: Duration = Duration::from_secs(25);

/// Why there is no answer.
#[derive(Debug)]
pub(super) enum Error {
    /// The request never left.
    NotSent(String),
    /// It may have been taken.
    Unknown(String),
}

/// The code and the body of the answer.
pub(super) async fn post(
    address: &str,
    path: &str,
    authentication: Option<&str>,
    body: &str,
) -> Result<(u16, String), Error> {
    let not_sent = |error: &dyn std::fmt::Display| Error::NotSent(error.to_string());
    let stream = timeout(CONNECT_WITHIN, TcpStream::connect(address))
        .await
        .map_err(|error| not_sent(&error))?
        .map_err(|error| not_sent(&error))?;
    let (mut sender, connection) = handshake(TokioIo::new(stream)).await.map_err(|error| not_sent(&error))?;
    // Its end shows in the answer.
    tokio::spawn(connection);
    let mut request = Request::post(path).header("host", address).header("content-type", "application/json");
    if let Some(words) = authentication {
        request = request.header("authorization", words);
    }
    let request =
        request.body(Full::new(Bytes::copy_from_slice(body.as_bytes()))).map_err(|error| not_sent(&error))?;
    let answer = async {
        let response = sender.send_request(request).await?;
        let code = response.status().as_u16();
        let body = response.into_body().collect().await?.to_bytes();
        Ok::<_, hyper::Error>((code, String::from_utf8_lossy(&body).into_owned()))
    };
    match timeout(ANSWER_WITHIN, answer).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(error)) => Err(Error::Unknown(error.to_string())),
        Err(_) => Err(Error::Unknown("no answer in time".to_owned())),
    }
}
