//! `primacy switchover`.

use super::{Code, Failure, SwitchoverArgs, confirmed, find, http, print, settings};
use crate::store::directory::Contents;
use serde_json::json;

pub(super) async fn run(args: &SwitchoverArgs) -> Result<(), Failure> {
    let settings = settings(&args.cluster.config)?;
    let contents = match find(&settings).await {
        Ok(found) => found.contents,
        Err(failure) if args.leader.is_none() => return Err(failure),
        // The member of this file may still reach the store.
        Err(_) => Contents::default(),
    };
    let leads = contents.leader.as_ref().map(|(name, _)| name.clone());
    let leader = args.leader.clone().or(leads);
    let leader = leader.ok_or_else(|| Failure(Code::NotDone, "this cluster has no leader".to_owned()))?;
    let to = args.candidate.as_deref().unwrap_or("the best member");
    if !args.force && !confirmed(&format!("Move the primary from {leader} to {to}?")) {
        return Err(Failure(Code::NotDone, "not confirmed, nothing was done".to_owned()));
    }
    let body = json!({"leader": leader, "candidate": args.candidate}).to_string();
    let mut addresses = members(&contents, &leader);
    addresses.push(settings.rest.connect.to_string());
    post(&addresses, settings.rest.authentication.as_deref(), &body).await
}

/// Where to ask: the leader first, as it needn't wait for news.
fn members(contents: &Contents, leader: &str) -> Vec<String> {
    let mut members: Vec<_> = contents.members.iter().collect();
    members.sort_by_key(|(name, _)| *name != leader);
    members.iter().filter_map(|(_, member)| member.api_address()).collect()
}

/// Asks one after the other until one has taken the request.
async fn post(addresses: &[String], authentication: Option<&str>, body: &str) -> Result<(), Failure> {
    for address in addresses {
        match http::post(address, "/switchover", authentication, body).await {
            Ok((200, text)) => return print(&text),
            Ok((503, text)) if text.contains("status unknown") => return Err(Failure(Code::Unknown, text)),
            Ok((_, text)) => return Err(Failure(Code::NotDone, text)),
            Err(http::Error::NotSent(why)) => eprintln!("primacy: {address}: {why}"),
            Err(http::Error::Unknown(why)) => {
                let text = format!("{address}: {why}; the switchover may still be in progress");
                return Err(Failure(Code::Unknown, text));
            }
        }
    }
    Err(Failure(Code::Unreachable, "no member could be reached".to_owned()))
}
