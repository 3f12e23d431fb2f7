//! `POST /switchover`.

use super::Answer;
use crate::board::Board;
use crate::store::directory::Directory;
use axum::http::StatusCode;
use primacy_core::effect::Reply;
use primacy_core::{Command, Name};
use serde_json::Value;

/// What was asked for.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Wish {
    leader: String,
    candidate: Option<String>,
}

/// Carries out a switchover, and answers when it is known what came of it.
pub async fn post(board: &Board, directory: &Directory, body: &[u8]) -> Answer {
    let wish = match parse(body) {
        Ok(wish) => wish,
        Err(answer) => return answer,
    };
    if let Some(answer) = refuse(&wish, directory) {
        return answer;
    }
    let to = wish.candidate.as_deref().map(Name::from);
    match board.command(Command::Switchover { to }).await {
        Some(reply) => answer(&reply, wish.candidate.as_deref()),
        None => Answer::text(StatusCode::SERVICE_UNAVAILABLE, "the agent is about to exit"),
    }
}

/// The same, to this member from whoever leads.
pub(super) async fn to(board: &Board, candidate: &str) -> Answer {
    match board.command(Command::Switchover { to: Some(Name::from(candidate)) }).await {
        Some(reply) => answer(&reply, Some(candidate)),
        None => Answer::text(StatusCode::SERVICE_UNAVAILABLE, "the agent is about to exit"),
    }
}

pub(super) fn parse(body: &[u8]) -> Result<Wish, Answer> {
    let bad = |text: &str| Answer::text(StatusCode::BAD_REQUEST, text);
    let Ok(Value::Object(body)) = serde_json::from_slice(body) else {
        return Err(bad("expected a JSON object"));
    };
    let text = |field: &str| match body.get(field) {
        Some(Value::String(text)) if !text.is_empty() => Some(text.clone()),
        Some(_) | None => None,
    };
    let candidate = text("candidate").or_else(|| text("member"));
    let Some(leader) = text("leader") else {
        return Err(bad("Switchover could be performed only from a specific leader"));
    };
    if body.get("scheduled_at").is_some_and(|at| !at.is_null()) {
        return Err(Answer::text(StatusCode::NOT_IMPLEMENTED, "a switchover can't be scheduled yet"));
    }
    if candidate.as_ref() == Some(&leader) {
        return Err(bad("Switchover target and source are the same"));
    }
    Ok(Wish { leader, candidate })
}

/// What can be said at once, from what other members publish.
fn refuse(wish: &Wish, directory: &Directory) -> Option<Answer> {
    let contents = directory.look();
    let leads = contents.leader.as_ref().map(|(name, _)| name);
    let others = contents.members.keys().filter(|name| **name != wish.leader).count();
    let text = if leads != Some(&wish.leader) {
        "leader name does not match"
    } else if wish.candidate.as_ref().is_some_and(|name| !contents.members.contains_key(name)) {
        "candidate does not exists"
    } else if others == 0 {
        "switchover is not possible: cluster does not have members except leader"
    } else {
        return None;
    };
    Some(Answer::text(StatusCode::PRECONDITION_FAILED, text))
}

fn answer(reply: &Reply, candidate: Option<&str>) -> Answer {
    let no_good = "switchover is not possible: no good candidates have been found";
    let (code, text) = match reply {
        Reply::SwitchedTo(name) => match candidate {
            Some(wanted) if wanted != name.as_str() => {
                (StatusCode::OK, format!("Switched over to \"{name}\" instead of \"{wanted}\""))
            }
            Some(_) | None => (StatusCode::OK, format!("Successfully switched over to \"{name}\"")),
        },
        Reply::Refused(why) => (StatusCode::PRECONDITION_FAILED, format!("{no_good} ({why})")),
        Reply::NoPrimary => {
            (StatusCode::SERVICE_UNAVAILABLE, "Switchover failed (there is no primary)".to_owned())
        }
        Reply::AlreadyPrimary => {
            (StatusCode::BAD_REQUEST, "Switchover target and source are the same".to_owned())
        }
        Reply::Busy => {
            (StatusCode::SERVICE_UNAVAILABLE, "Switchover failed (another one is in progress)".to_owned())
        }
        // Never answers to a switchover.
        Reply::MayLose { .. } | Reply::Reinitializes | Reply::HolderLives | Reply::Unknown => (
            StatusCode::SERVICE_UNAVAILABLE,
            "Switchover status unknown after 20 seconds; operation may still be in progress".to_owned(),
        ),
    };
    Answer::text(code, text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use primacy_core::store::Refusal;

    #[test]
    fn a_switchover_names_the_leader_it_leaves() {
        let wish = |leader: &str, candidate: Option<&str>| Wish {
            leader: leader.to_owned(),
            candidate: candidate.map(str::to_owned),
        };
        let text = |body: &str| parse(body.as_bytes()).expect_err("a refusal");
        assert_eq!(parse(b"{\"leader\":\"a\",\"candidate\":\"b\"}"), Ok(wish("a", Some("b"))));
        assert_eq!(
            parse(b"{\"leader\":\"a\",\"member\":\"b\",\"scheduled_at\":null}"),
            Ok(wish("a", Some("b")))
        );
        assert_eq!(parse(b"{\"leader\":\"a\"}"), Ok(wish("a", None)));
        let cases = [
            ("{}", 400, "Switchover could be performed only from a specific leader"),
            ("[]", 400, "expected a JSON object"),
            ("{\"leader\":\"a\",\"candidate\":\"a\"}", 400, "Switchover target and source are the same"),
            ("{\"leader\":\"a\",\"scheduled_at\":\"x\"}", 501, "a switchover can't be scheduled yet"),
        ];
        for (body, code, expected) in cases {
            assert_eq!((text(body).code.as_u16(), text(body).body.as_str()), (code, expected));
        }
    }

    #[test]
    fn the_outcome_is_told_in_patronis_words() {
        let cases = [
            (Reply::SwitchedTo("b".into()), Some("b"), 200, "Successfully switched over to \"b\""),
            (Reply::SwitchedTo("b".into()), None, 200, "Successfully switched over to \"b\""),
            (Reply::SwitchedTo("b".into()), Some("c"), 200, "Switched over to \"b\" instead of \"c\""),
            (
                Reply::Refused(Refusal::TooFarBehind),
                Some("b"),
                412,
                "switchover is not possible: no good candidates have been found (the candidate lags by more than \
                 the bound)",
            ),
            (
                Reply::Unknown,
                None,
                503,
                "Switchover status unknown after 20 seconds; operation may still be in progress",
            ),
        ];
        for (reply, candidate, code, expected) in cases {
            let answer = answer(&reply, candidate);
            assert_eq!((answer.code.as_u16(), answer.body.as_str()), (code, expected));
        }
    }
}
