//! `POST /reinitialize`: this member is to take a new copy of the primary's data. The old one is kept aside.

use super::Answer;
use crate::board::Board;
use axum::http::StatusCode;
use primacy_core::effect::Reply;
use primacy_core::event::Frozen;
use primacy_core::{Command, Node};
use serde_json::Value;

/// A copy of which the primary has everything is replaced at once. What else there is to lose is said first, and
/// `"consent": true` accepts it.
pub async fn post(board: &Board, body: &[u8]) -> Answer {
    let consent = match parse(body) {
        Ok(consent) => consent,
        Err(answer) => return answer,
    };
    match board.command(Command::Reinit { consent }).await {
        Some(reply) => answer(&reply, board.look().node.as_ref().and_then(Node::needs_operator)),
        None => Answer::text(StatusCode::SERVICE_UNAVAILABLE, "the agent is about to exit"),
    }
}

/// Patroni's clients send `force` and `from-leader`; the one has nothing to overrule here, the other is always so.
fn parse(body: &[u8]) -> Result<bool, Answer> {
    let bad = |text: &str| Answer::text(StatusCode::BAD_REQUEST, text);
    if body.is_empty() {
        return Ok(false);
    }
    let Ok(Value::Object(body)) = serde_json::from_slice(body) else {
        return Err(bad("expected a JSON object, or nothing"));
    };
    match body.get("consent") {
        None | Some(Value::Null) => Ok(false),
        Some(Value::Bool(consent)) => Ok(*consent),
        Some(_) => Err(bad("consent: true or false")),
    }
}

fn answer(reply: &Reply, stuck: Option<Frozen>) -> Answer {
    let refused = |text: String| Answer::text(StatusCode::SERVICE_UNAVAILABLE, text);
    match reply {
        Reply::Reinitializes => Answer::text(StatusCode::OK, "reinitialize started"),
        Reply::AlreadyPrimary => refused("this is the primary: switch over to another member first".into()),
        Reply::NoPrimary => refused("there is no living primary that a new copy could be taken from".into()),
        Reply::MayLose { ours, published } => refused(format!(
            "reinitialize would take the only copy that is known to reach {ours}: the primary, at {published}, has gone \
             another way. It would be kept aside. If that is accepted, ask again with \"consent\": true"
        )),
        Reply::Refused(_) => refused(match stuck {
            Some(why) => format!("this member needs an operator: {why}"),
            None => "this member needs an operator".into(),
        }),
        // The others never answer this.
        Reply::Busy | Reply::SwitchedTo(_) | Reply::HolderLives | Reply::Unknown => {
            refused("something else is under way here: see /patroni, and ask again".into())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use primacy_core::{Epoch, Lsn, Position};

    #[test]
    fn patronis_bodies_are_understood_and_consent_is_given_in_so_many_words() {
        assert_eq!(parse(b""), Ok(false));
        assert_eq!(parse(b"{\"force\":true,\"from-leader\":false}"), Ok(false));
        assert_eq!(parse(b"{\"consent\":true}"), Ok(true));
        let bad = |body: &[u8]| parse(body).expect_err("a refusal");
        assert_eq!(bad(b"{\"consent\":1}").body, "consent: true or false");
        assert_eq!((bad(b"[").code, bad(b"[]").code), (StatusCode::BAD_REQUEST, StatusCode::BAD_REQUEST));
    }

    #[test]
    fn each_answer_says_what_to_do() {
        let at = |epoch, lsn| Position { epoch: Epoch(epoch), lsn: Lsn(lsn) };
        let said = |reply, stuck| {
            let answer = answer(&reply, stuck);
            (answer.code.as_u16(), answer.body)
        };
        assert_eq!(said(Reply::Reinitializes, None), (200, "reinitialize started".into()));
        let (code, text) = said(Reply::MayLose { ours: at(2, 255), published: at(3, 16) }, None);
        assert_eq!(code, 503);
        assert!(
            text.contains("t2 0/FF") && text.contains("t3 0/10") && text.contains("\"consent\": true"),
            "{text}"
        );
        let refusal = primacy_core::store::Refusal::NotEligible;
        let (code, text) = said(Reply::Refused(refusal), Some(Frozen::ForeignCluster));
        assert!(code == 503 && text.contains("another manager"), "{text}");
        for reply in [Reply::AlreadyPrimary, Reply::NoPrimary, Reply::Busy] {
            assert_eq!(said(reply, None).0, 503);
        }
    }
}
