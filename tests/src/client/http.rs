//! As much of HTTP as the agents' and etcd's interfaces need.

use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::network::Host;

/// An answer with JSON in it.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The HTTP status code.
    pub code: u16,
    /// The body, `Null` if it isn't JSON.
    pub body: Value,
    /// The body as text.
    pub text: String,
}

/// Asks a host for a path; with a body it's a POST.
pub async fn ask(
    host: Host,
    port: u16,
    path: &str,
    body: Option<&Value>,
    within: Duration,
) -> Result<Answer> {
    timeout(within, talk(host, port, path, body)).await.with_context(|| format!("{host} keeps silent"))?
}

async fn talk(host: Host, port: u16, path: &str, body: Option<&Value>) -> Result<Answer> {
    let address = host.address();
    let mut stream = TcpStream::connect((address.as_str(), port)).await?;
    let head = match body {
        None => format!("GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n"),
        Some(body) => {
            let text = body.to_string();
            let kind = "Content-Type: application/json";
            format!(
                "POST {path} HTTP/1.0\r\nHost: {address}\r\n{kind}\r\nContent-Length: {}\r\n\r\n{text}",
                text.len()
            )
        }
    };
    stream.write_all(head.as_bytes()).await?;
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).await?;
    parse(&String::from_utf8_lossy(&bytes))
}

fn parse(answer: &str) -> Result<Answer> {
    let (head, text) = answer.split_once("\r\n\r\n").context("an answer without end of its head")?;
    let code = head.split(' ').nth(1).and_then(|code| code.parse().ok()).context("an answer without code")?;
    Ok(Answer { code, body: serde_json::from_str(text).unwrap_or(Value::Null), text: text.to_string() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_has_code_and_body() {
        let answer = parse("HTTP/1.0 503 Service Unavailable\r\nA: b\r\n\r\n{\"state\": \"running\"}")
            .expect("parsed");
        assert_eq!((answer.code, answer.body["state"].as_str()), (503, Some("running")));
        assert!(parse("garbage").is_err());
    }
}
