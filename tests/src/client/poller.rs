//! Asks all agents all the time what they are.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::time::sleep;

use super::session::Session;
use super::{Shared, http};
use crate::network::{Host, NODES};
use crate::time::Moment;

const POLL_EVERY: Duration = Duration::from_millis(100);
const ANSWER_WITHIN: Duration = Duration::from_millis(500);

/// The port of the agents' REST interface.
pub const REST: u16 = 8008;

/// One answer of an agent, or its silence.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sample {
    /// Which agent.
    pub host: Host,
    /// When it was asked.
    pub asked: Moment,
    /// When the answer was there.
    pub answered: Moment,
    /// What it said, if it answered.
    pub says: Option<Says>,
}

/// What an agent says of its node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Says {
    /// Whether it is the primary, with authority.
    pub primary: bool,
    /// The role's word.
    pub role: String,
    /// The state's word.
    pub state: String,
    /// Whether it is a standby that streams.
    pub streaming: bool,
    /// The timeline, if known.
    pub timeline: Option<u64>,
    /// How many standbys stream from it, as PostgreSQL says; counted on primaries only.
    pub standbys: Option<i64>,
}

/// Polls until stopped.
pub async fn run(shared: Arc<Shared>) {
    let pollers = NODES.map(|host| tokio::spawn(poll(host, shared.clone())));
    for poller in pollers {
        let _ = poller.await;
    }
}

async fn poll(host: Host, shared: Arc<Shared>) {
    let mut session = None;
    while !shared.stopped() {
        let asked = Moment::now();
        let answer = http::ask(host, REST, "/primary", None, ANSWER_WITHIN).await.ok();
        let answered = Moment::now();
        let mut says = answer.map(|answer| read(answer.code, &answer.body));
        if let Some(says) = says.as_mut().filter(|says| says.primary) {
            says.standbys = count_standbys(host, &mut session).await;
        }
        shared.seen.lock().expect("the record").samples.push(Sample { host, asked, answered, says });
        sleep(POLL_EVERY).await;
    }
}

async fn count_standbys(host: Host, session: &mut Option<Session>) -> Option<i64> {
    if session.as_ref().is_none_or(Session::is_closed) {
        *session = Session::open(host, tokio_postgres::config::TargetSessionAttrs::Any).await.ok();
    }
    let count = session.as_ref()?.streaming_standbys().await.ok();
    if count.is_none() {
        *session = None;
    }
    count
}

/// Reads the status document that comes with a health check.
fn read(code: u16, body: &Value) -> Says {
    let word = |key: &str| body[key].as_str().unwrap_or_default().to_string();
    Says {
        primary: code == 200,
        role: word("role"),
        state: word("state"),
        streaming: body["replication_state"] == "streaming",
        timeline: body["timeline"].as_u64(),
        standbys: None,
    }
}

/// What the agents said last.
#[derive(Clone, Debug, Default)]
pub struct Nodes(pub Vec<(Host, Option<Says>)>);

impl Nodes {
    /// The view at a moment; words older than a second don't count.
    pub fn of(samples: &[Sample], at: Moment) -> Nodes {
        let oldest = at.minus(Duration::from_secs(1));
        let last = |host| {
            let recent = samples.iter().rev().take_while(|sample| sample.answered.0 > oldest.0 - 2_000_000);
            let mut of_host = recent.filter(|sample| sample.host == host && sample.answered <= at);
            of_host.next().filter(|sample| sample.answered >= oldest).and_then(|sample| sample.says.clone())
        };
        Nodes(NODES.map(|host| (host, last(host))).to_vec())
    }

    /// The only node that says it is primary.
    pub fn primary(&self) -> Option<Host> {
        let mut primaries = self.0.iter().filter(|(_, says)| says.as_ref().is_some_and(|says| says.primary));
        let first = primaries.next()?.0;
        primaries.next().is_none().then_some(first)
    }

    /// Whether there are a primary and, streaming from it on its timeline, all others.
    pub fn healthy(&self) -> bool {
        let Some(primary) = self.primary() else { return false };
        let says = |host| self.0.iter().find(|(h, _)| *h == host).and_then(|(_, says)| says.as_ref());
        let Some(leading) = says(primary) else { return false };
        let follows =
            |host| says(host).is_some_and(|says| says.streaming && says.timeline == leading.timeline);
        leading.standbys == Some(2) && NODES.iter().all(|host| *host == primary || follows(*host))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(host: u8, at: i64, says: Option<Says>) -> Sample {
        Sample { host: Host(host), asked: Moment(at - 1), answered: Moment(at), says }
    }

    fn standby(timeline: u64) -> Option<Says> {
        Some(Says { streaming: true, timeline: Some(timeline), ..Says::default() })
    }

    fn primary(standbys: i64) -> Option<Says> {
        Some(Says { primary: true, timeline: Some(2), standbys: Some(standbys), ..Says::default() })
    }

    #[test]
    fn three_streaming_nodes_of_one_timeline_are_healthy() {
        let now = Moment(10_000_000);
        let view = |third, count| {
            let all =
                [sample(1, now.0, primary(count)), sample(2, now.0, standby(2)), sample(3, now.0, third)];
            Nodes::of(&all, now)
        };
        assert!(view(standby(2), 2).healthy());
        assert!(!view(standby(1), 2).healthy(), "an old timeline");
        assert!(!view(None, 2).healthy(), "a silent agent");
        assert!(!view(standby(2), 1).healthy(), "PostgreSQL knows of one standby only");
    }

    #[test]
    fn old_words_and_two_primaries_are_no_primary() {
        let now = Moment(10_000_000);
        assert_eq!(Nodes::of(&[sample(1, now.0 - 1_500_000, primary(2))], now).primary(), None);
        let two = [sample(1, now.0, primary(2)), sample(2, now.0, primary(2))];
        assert_eq!(Nodes::of(&two, now).primary(), None);
    }
}
