//! `POST /failover`: a member is to lead although it may lack commits, or the primary is to move to it.

use super::{Answer, switchover};
use crate::board::Board;
use crate::store::directory::Directory;
use axum::http::StatusCode;
use primacy_core::effect::Reply;
use primacy_core::{Command, Name, Position};
use serde_json::Value;

/// What was asked for.
#[derive(Debug, PartialEq, Eq)]
struct Wish {
    candidate: String,
    consent: bool,
}

/// With a primary that is there it is a switchover, which loses nothing. Without one, the candidate's own agent has to be
/// asked: it knows how far its copy goes. What may be lost is said first, and `"consent": true` accepts it.
pub async fn post(board: &Board, directory: &Directory, me: &Name, body: &[u8]) -> Answer {
    let wish = match parse(body) {
        Ok(wish) => wish,
        Err(answer) => return answer,
    };
    let led = directory.look().leader.is_some();
    if led && !wish.consent {
        return switchover::to(board, &wish.candidate).await;
    }
    if wish.candidate != me.as_str() {
        return elsewhere(directory, &wish.candidate);
    }
    match board.command(Command::Failover { consent: wish.consent }).await {
        Some(reply) => answer(&reply, &wish.candidate),
        None => Answer::text(StatusCode::SERVICE_UNAVAILABLE, "the agent is about to exit"),
    }
}

fn parse(body: &[u8]) -> Result<Wish, Answer> {
    let bad = |text: &str| Answer::text(StatusCode::BAD_REQUEST, text);
    let Ok(Value::Object(body)) = serde_json::from_slice(body) else {
        return Err(bad("expected a JSON object"));
    };
    let text = |field: &str| body.get(field).and_then(Value::as_str).filter(|text| !text.is_empty());
    let Some(candidate) = text("candidate").or_else(|| text("member")) else {
        return Err(bad("Failover could be performed only to a specific candidate"));
    };
    let consent = match body.get("consent") {
        None | Some(Value::Null) => false,
        Some(Value::Bool(consent)) => *consent,
        Some(_) => return Err(bad("consent: true or false")),
    };
    Ok(Wish { candidate: candidate.to_owned(), consent })
}

fn elsewhere(directory: &Directory, candidate: &str) -> Answer {
    let contents = directory.look();
    let text = match contents.last_seen.get(candidate).and_then(|member| member.api_address()) {
        Some(address) => format!("ask {candidate} itself, at http://{address}/failover"),
        None => "candidate does not exists".to_owned(),
    };
    Answer::text(StatusCode::PRECONDITION_FAILED, text)
}

fn answer(reply: &Reply, candidate: &str) -> Answer {
    let refused = StatusCode::PRECONDITION_FAILED;
    let (code, text) = match reply {
        Reply::SwitchedTo(name) if name.as_str() == candidate => {
            (StatusCode::OK, format!("Successfully failed over to \"{name}\""))
        }
        Reply::SwitchedTo(name) => {
            (StatusCode::OK, format!("Failed over to \"{name}\" instead of \"{candidate}\""))
        }
        Reply::MayLose { ours, published } => (refused, stakes(candidate, *ours, *published)),
        Reply::HolderLives => (
            refused,
            "failover is not done: the primary renews its lease; a switchover loses nothing".to_owned(),
        ),
        Reply::Refused(_) => (
            refused,
            format!(
                "failover is not possible: {candidate} is no standby that others could be rewound to, or must not lead"
            ),
        ),
        Reply::NoPrimary => (refused, "failover is not possible: this cluster has not begun yet".to_owned()),
        Reply::AlreadyPrimary => (StatusCode::BAD_REQUEST, format!("{candidate} is the primary")),
        Reply::Busy => {
            (StatusCode::SERVICE_UNAVAILABLE, "Failover failed (another one is in progress)".to_owned())
        }
        // The first never answers this.
        Reply::Reinitializes | Reply::Unknown => {
            let text = "Failover status unknown: nobody leads yet; operation may still be in progress";
            (StatusCode::SERVICE_UNAVAILABLE, text.to_owned())
        }
    };
    Answer::text(code, text)
}

/// What is at stake, in words.
fn stakes(candidate: &str, ours: Position, published: Position) -> String {
    let lost = if ours.epoch < published.epoch {
        format!("everything that was committed after {ours}")
    } else if ours < published {
        let bytes = published.lsn.0 - ours.lsn.0;
        format!(
            "at least the {bytes} bytes of WAL from {ours} to {published}, and what was committed after that"
        )
    } else {
        format!("what was committed after {published}, as last published")
    };
    format!(
        "failover to {candidate} may lose {lost}. If the old primary is stopped for good, and that is accepted, ask \
         again with \"consent\": true"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use primacy_core::{Epoch, Lsn};

    #[test]
    fn a_failover_names_its_candidate_and_consents_in_so_many_words() {
        let wish = |candidate: &str, consent| Ok(Wish { candidate: candidate.to_owned(), consent });
        assert_eq!(parse(b"{\"candidate\":\"b\"}"), wish("b", false));
        assert_eq!(parse(b"{\"candidate\":\"b\",\"consent\":true}"), wish("b", true));
        let bad = |body: &str| parse(body.as_bytes()).expect_err("a refusal").body;
        assert_eq!(bad("{\"candidate\":\"b\",\"consent\":\"yes\"}"), "consent: true or false");
        assert_eq!(bad("{\"leader\":\"a\"}"), "Failover could be performed only to a specific candidate");
        assert_eq!(bad("["), "expected a JSON object");
    }

    #[test]
    fn what_may_be_lost_is_said_in_figures() {
        let at = |epoch, lsn| Position { epoch: Epoch(epoch), lsn: Lsn(lsn) };
        let said = |ours, published| answer(&Reply::MayLose { ours, published }, "b").body;
        assert!(said(at(2, 100), at(2, 130)).contains("30 bytes of WAL from t2 0/64 to t2 0/82"));
        assert!(said(at(1, 900), at(2, 130)).contains("everything that was committed after t1 0/384"));
        assert!(said(at(2, 130), at(2, 130)).contains("may lose what was committed after t2 0/82"));
    }
}
