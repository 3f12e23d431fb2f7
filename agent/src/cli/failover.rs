//! `primacy failover`: for when nobody can be elected by itself.

use super::{Code, FailoverArgs, Failure, confirmed, find, http, print, settings};
use crate::store::directory::{Contents, Member};
use serde_json::json;

pub(super) async fn run(args: &FailoverArgs) -> Result<(), Failure> {
    let settings = settings(&args.cluster.config)?;
    let contents = find(&settings).await?.contents;
    let name = match &args.candidate {
        Some(name) => name.clone(),
        None => best(&contents).ok_or_else(|| {
            Failure(Code::NotDone, "no member is there that could be failed over to".to_owned())
        })?,
    };
    let address = contents.members.get(&name).and_then(Member::api_address);
    let address = address.ok_or_else(|| {
        Failure(Code::NotDone, format!("{name} is not there: its agent has to run for a failover to it"))
    })?;
    let ask = async |consent: bool| {
        let body = json!({"candidate": name, "consent": consent}).to_string();
        let asked = http::post(&address, "/failover", settings.rest.authentication.as_deref(), &body).await;
        asked.map_err(|error| match error {
            http::Error::NotSent(why) => Failure(Code::Unreachable, format!("{address}: {why}")),
            http::Error::Unknown(why) => {
                let text = format!("{address}: {why}; the failover may still be in progress");
                Failure(Code::Unknown, text)
            }
        })
    };
    let (code, text) = ask(false).await?;
    if !text.contains("\"consent\"") {
        return outcome(code, text);
    }
    if !args.accept_loss && !confirmed(&format!("{text}.\nDo it?")) {
        return Err(Failure(Code::NotDone, format!("{text} (--accept-loss); nothing was done")));
    }
    let (code, text) = ask(true).await?;
    outcome(code, text)
}

fn outcome(code: u16, text: String) -> Result<(), Failure> {
    match code {
        200 => print(&text),
        503 if text.contains("status unknown") => Err(Failure(Code::Unknown, text)),
        _ => Err(Failure(Code::NotDone, text)),
    }
}

/// The member that goes furthest, as they say themselves.
fn best(contents: &Contents) -> Option<String> {
    let leader = contents.leader.as_ref().map(|(name, _)| name);
    let others = contents.members.iter().filter(|(name, _)| Some(*name) != leader);
    let place = |member: &Member| (member.number("timeline"), member.number("xlog_location"));
    others.max_by_key(|(_, member)| place(member)).map(|(name, _)| name.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_goes_furthest_on_the_newest_timeline() {
        let mut contents = Contents::default();
        for (name, timeline, lsn) in [("a", 2, 900), ("b", 3, 100), ("c", 3, 200)] {
            let member = json!({"timeline": timeline, "xlog_location": lsn}).to_string();
            contents.see_member(name, member.as_bytes());
        }
        assert_eq!(best(&contents).as_deref(), Some("c"));
        contents.leader = Some(("c".to_owned(), None));
        assert_eq!(best(&contents).as_deref(), Some("b"));
        assert_eq!(best(&Contents::default()), None);
    }
}
