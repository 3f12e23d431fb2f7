//! `primacy reinit`: a member takes a new copy of the primary's data.

use super::{Code, Failure, ReinitArgs, confirmed, events, find, http, print, settings};
use crate::store::directory::Member;
use serde_json::{Value, json};
use std::ops::ControlFlow;

pub(super) async fn run(args: &ReinitArgs) -> Result<(), Failure> {
    let settings = settings(&args.cluster.config)?;
    let name = args.member.clone().unwrap_or_else(|| settings.name.to_string());
    let contents = find(&settings).await?.contents;
    let address = contents.members.get(&name).and_then(Member::api_address);
    let address = address.ok_or_else(|| {
        Failure(Code::NotDone, format!("{name} is not there: its agent has to run for a new copy"))
    })?;
    let question = format!("Shall {name} give up its data, which is kept aside, and take a new copy?");
    if !args.force && !args.accept_loss && !confirmed(&question) {
        return Err(Failure(Code::NotDone, format!("{name} was not asked (--force); nothing was done")));
    }
    let ask = async |consent: bool| {
        let body = json!({"consent": consent}).to_string();
        let asked =
            http::post(&address, "/reinitialize", settings.rest.authentication.as_deref(), &body).await;
        asked.map_err(|error| match error {
            http::Error::NotSent(why) => Failure(Code::Unreachable, format!("{address}: {why}")),
            http::Error::Unknown(why) => Failure(Code::Unknown, format!("{address}: {why}")),
        })
    };
    let before = if args.wait { last_event(&address).await? } else { 0 };
    let (mut code, mut text) = ask(false).await?;
    if text.contains("\"consent\"") {
        if !args.accept_loss && !confirmed(&format!("{text}.\nDo it?")) {
            return Err(Failure(Code::NotDone, format!("{text} (--accept-loss); nothing was done")));
        }
        (code, text) = ask(true).await?;
    }
    if code != 200 {
        return Err(Failure(Code::NotDone, format!("{name}: {text}")));
    }
    print(&format!("{name}: {text}"))?;
    if args.wait { until_it_follows(&address, before).await } else { Ok(()) }
}

/// The number of the last thing that happened there.
async fn last_event(address: &str) -> Result<u64, Failure> {
    let mut last = 0;
    events::each(address, "follow=false", |line| {
        last = parsed(line)["id"].as_u64().unwrap_or(last);
        Ok(ControlFlow::Continue(()))
    })
    .await?;
    Ok(last)
}

/// Tells what happens there until the member follows the primary again.
async fn until_it_follows(address: &str, before: u64) -> Result<(), Failure> {
    let mut done = false;
    events::each(address, &format!("since={before}"), |line| {
        print(&events::for_people(line))?;
        done = parsed(line)["kind"] == "follows";
        Ok(if done { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
    })
    .await?;
    if done { Ok(()) } else { Err(Failure(Code::Unknown, format!("{address}: the agent ended meanwhile"))) }
}

fn parsed(line: &str) -> Value {
    serde_json::from_str(line).unwrap_or_default()
}
