//! One request to one member.

use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::{Request, Response};
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

/// A connection to a member.
async fn connect(address: &str) -> Result<SendRequest<Full<Bytes>>, Error> {
    let stream =
        timeout(CONNECT_WITHIN, TcpStream::connect(address)).await.map_err(not_sent)?.map_err(not_sent)?;
    let (sender, connection) = handshake(TokioIo::new(stream)).await.map_err(not_sent)?;
    // Its end shows in the answer.
    tokio::spawn(connection);
    Ok(sender)
}

fn not_sent(error: impl std::fmt::Display) -> Error {
    Error::NotSent(error.to_string())
}

/// The answer, whose body may have no end.
pub(super) async fn get(address: &str, path: &str) -> Result<Response<Incoming>, Error> {
    let mut sender = connect(address).await?;
    let request = Request::get(path).header("host", address).body(Full::default()).map_err(not_sent)?;
    match timeout(ANSWER_WITHIN, sender.send_request(request)).await {
        Ok(answer) => answer.map_err(|error| Error::Unknown(error.to_string())),
        Err(_) => Err(Error::Unknown("no answer in time".to_owned())),
    }
}

/// The code and the body of the answer.
pub(super) async fn post(
    address: &str,
    path: &str,
    authentication: Option<&str>,
    body: &str,
) -> Result<(u16, String), Error> {
    let mut sender = connect(address).await?;
    let mut request = Request::post(path).header("host", address).header("content-type", "application/json");
    if let Some(words) = authentication {
        request = request.header("authorization", words);
    }
    let request = request.body(Full::new(Bytes::copy_from_slice(body.as_bytes()))).map_err(not_sent)?;
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
