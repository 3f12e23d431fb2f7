//! `GET /events`: a line of JSON for each event, those that are kept first, then each as it comes.

use super::Answer;
use crate::events::{Events, Listener, TooSlow};
use axum::body::{Body, Bytes};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use hyper::body::Frame;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

/// `?since=ID` leaves out what was heard before, `?follow=false` ends with what there is.
pub fn get(events: &Events, query: &[(String, String)]) -> Response {
    let value = |name: &str| query.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str());
    let since = match value("since").map(str::parse).transpose() {
        Ok(since) => since,
        Err(_) => {
            return Answer::text(StatusCode::BAD_REQUEST, "since is the id of an event").into_response();
        }
    };
    let follows = !matches!(value("follow"), Some("false" | "no" | "0"));
    let Some(listener) = events.listen(since, follows) else {
        return Answer::text(StatusCode::SERVICE_UNAVAILABLE, "too many listen already").into_response();
    };
    let mut response = Response::new(Body::new(Feed { next: Box::pin(next(listener)) }));
    let content_type = HeaderValue::from_static("application/x-ndjson");
    response.headers_mut().insert(header::CONTENT_TYPE, content_type);
    response
}

type Next = Result<Option<(String, Listener)>, TooSlow>;

/// A body that is asked for more only when the connection has room.
struct Feed {
    next: Pin<Box<dyn Future<Output = Next> + Send>>,
}

async fn next(mut listener: Listener) -> Next {
    Ok(listener.next().await?.map(|lines| (lines, listener)))
}

impl hyper::body::Body for Feed {
    type Data = Bytes;
    type Error = TooSlow;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, TooSlow>>> {
        let frame = ready!(self.next.as_mut().poll(cx)).transpose();
        Poll::Ready(frame.map(|next| {
            let (lines, listener) = next?;
            self.next = Box::pin(self::next(listener));
            Ok(Frame::data(Bytes::from(lines)))
        }))
    }
}
