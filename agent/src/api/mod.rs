//! The REST interface, with Patroni's paths, codes and documents.

mod events;
mod failover;
mod health;
mod reinitialize;
mod serve;
mod switchover;

use crate::board::{Board, Seen};
use crate::clock::{duration, now};
use crate::config::Settings;
use crate::patroni;
use crate::store::directory::Directory;
use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{Query, Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use health::Facts;
use primacy_core::{Node, Span, Time};
use serde_json::Value;
pub use serve::start;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::timeout;

/// No request needs more.
const BODY_BYTES_MAX: usize = 64 << 10;

/// How long a client may take for each of: the header, also after the request before; the body; its answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// What the answers are made from.
#[derive(Clone)]
pub struct Api {
    /// See [`Board`].
    pub board: Board,
    /// See [`Directory`].
    pub directory: Directory,
    /// See [`Settings`].
    pub settings: Arc<Settings>,
}

/// A code and a text or document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    code: StatusCode,
    content_type: &'static str,
    body: String,
}

impl Answer {
    fn text(code: StatusCode, text: impl Into<String>) -> Answer {
        Answer { code, content_type: "text/html", body: text.into() }
    }

    fn json(code: StatusCode, document: &Value) -> Answer {
        Answer { code, content_type: "application/json", body: document.to_string() }
    }

    fn code(code: StatusCode) -> Answer {
        Answer::text(code, "")
    }
}

impl IntoResponse for Answer {
    fn into_response(self) -> Response {
        let mut response = Response::new(Body::from(self.body));
        *response.status_mut() = self.code;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(self.content_type));
        if self.code == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Basic realm=\"primacy\""));
        }
        response
    }
}

async fn answer(
    State(api): State<Api>,
    Query(query): Query<Vec<(String, String)>>,
    request: Request,
) -> Response {
    let (parts, body) = request.into_parts();
    let path = parts.uri.path();
    let segment = path.split('/').nth(1).unwrap_or_default();
    let answer = match parts.method {
        Method::GET if segment == "events" => return events::get(&api.board.events, &query),
        Method::GET => api.get(segment, path, &query),
        Method::HEAD | Method::OPTIONS => Answer::code(api.health(path, &query).0),
        Method::POST => match api.authenticated(&parts.headers) {
            Err(refused) => refused,
            Ok(()) => match timeout(PATIENCE, to_bytes(body, BODY_BYTES_MAX)).await {
                Ok(Ok(body)) => api.post(segment, &body).await,
                Ok(Err(_)) => Answer::code(StatusCode::PAYLOAD_TOO_LARGE),
                Err(_) => Answer::code(StatusCode::REQUEST_TIMEOUT),
            },
        },
        _ => Answer::code(StatusCode::NOT_IMPLEMENTED),
    };
    answer.into_response()
}

impl Api {
    fn get(&self, segment: &str, path: &str, query: &[(String, String)]) -> Answer {
        match segment {
            "patroni" => Answer::json(StatusCode::OK, &self.status()),
            "cluster" => Answer::json(StatusCode::OK, &self.cluster()),
            "history" => {
                let view =
                    self.board.look().node.as_ref().map(|node| node.view().clone()).unwrap_or_default();
                let history = patroni::history(&view, &self.directory.look());
                Answer::json(StatusCode::OK, &Value::Array(history))
            }
            "liveness" => Answer::code(self.liveness()),
            "readiness" => Answer::code(code(self.facts().ready(query))),
            _ => {
                let (code, status) = self.health(path, query);
                Answer::json(code, &status)
            }
        }
    }

    async fn post(&self, segment: &str, body: &Bytes) -> Answer {
        match segment {
            "switchover" => switchover::post(&self.board, &self.directory, body).await,
            "reinitialize" => reinitialize::post(&self.board, body).await,
            "failover" => failover::post(&self.board, &self.directory, &self.settings.name, body).await,
            _ => Answer::code(StatusCode::NOT_IMPLEMENTED),
        }
    }

    /// Requests that change something need the name and password of the configuration, if it has any.
    fn authenticated(&self, headers: &HeaderMap) -> Result<(), Answer> {
        let Some(expected) = &self.settings.rest.authentication else { return Ok(()) };
        match headers.get(header::AUTHORIZATION) {
            Some(given) if given.as_bytes() == expected.as_bytes() => Ok(()),
            Some(_) => Err(Answer::text(StatusCode::UNAUTHORIZED, "not authenticated")),
            None => Err(Answer::text(StatusCode::UNAUTHORIZED, "no auth header received")),
        }
    }

    fn facts(&self) -> Facts {
        Facts::at(now(), &self.board.look(), &self.settings)
    }

    /// The check and its document are of the same moment.
    fn health(&self, path: &str, query: &[(String, String)]) -> (StatusCode, Value) {
        let (now, seen) = (now(), self.board.look().clone());
        let healthy = Facts::at(now, &seen, &self.settings).healthy(path, query);
        (code(healthy), self.status_of(&seen, now))
    }

    fn status(&self) -> Value {
        let seen = self.board.look().clone();
        self.status_of(&seen, now())
    }

    fn status_of(&self, seen: &Seen, now: Time) -> Value {
        // Nothing is kept locked for longer than a copy takes: the thread that keeps the lease may want it.
        let answered = self.directory.look().answered;
        patroni::status(seen, &self.settings, answered, now)
    }

    fn cluster(&self) -> Value {
        let (now, node) = (now(), self.board.look().node.clone());
        let contents = self.directory.look().clone();
        let leader = node.as_ref().and_then(|node| patroni::leader(node, &contents, now));
        let end = node.as_ref().and_then(|node| patroni::end(node, now));
        patroni::cluster(&self.settings.scope, &contents, leader, end)
    }

    /// Whether the loop runs.
    fn liveness(&self) -> StatusCode {
        let (seen, now) = (self.board.look(), now());
        let leads = seen.node.as_ref().is_some_and(|node: &Node| node.is_primary(now));
        let patience: Span = if leads { self.settings.core.ttl } else { self.settings.core.ttl.times(2) };
        let silent = duration(now.since(seen.handled));
        code(silent < duration(patience))
    }
}

fn code(good: bool) -> StatusCode {
    if good { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }
}

/// The code with which a body is refused at once, if it is.
#[cfg(test)]
pub fn refuses(body: &[u8]) -> Option<u16> {
    switchover::parse(body).err().map(|answer| answer.code.as_u16())
}

#[cfg(test)]
mod tests {
    use super::*;

    pub fn api(authentication: &str) -> Api {
        let file = format!(
            "scope: x\nname: a\nrestapi: {{listen: '127.0.0.1:8008', {authentication}}}\netcd3: {{host: '127.0.0.1'}}\n\
             postgresql:\n  listen: 127.0.0.1:5432\n  data_dir: /data\n  authentication:\n    \
             superuser: {{username: p, password: p}}\n    replication: {{username: r, password: r}}\n"
        );
        let settings = Settings::parse(&file).expect("a good file");
        Api { board: Board::new().0, directory: Directory::default(), settings: Arc::new(settings) }
    }

    fn code_for(api: &Api, header: Option<&'static str>) -> Option<StatusCode> {
        let mut headers = HeaderMap::new();
        headers.extend(header.map(|text| (header::AUTHORIZATION, HeaderValue::from_static(text))));
        api.authenticated(&headers).err().map(|answer| answer.code)
    }

    #[test]
    fn a_request_that_changes_something_needs_the_password_if_there_is_one() {
        let (open, closed) = (api(""), api("authentication: {username: u, password: 'p:w'}"));
        assert_eq!(code_for(&open, None), None);
        assert_eq!(code_for(&closed, None), Some(StatusCode::UNAUTHORIZED));
        assert_eq!(code_for(&closed, Some("Basic dTpw")), Some(StatusCode::UNAUTHORIZED));
        assert_eq!(code_for(&closed, Some("Basic dTpwOnc=")), None);
    }
}
