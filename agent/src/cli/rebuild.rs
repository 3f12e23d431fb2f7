//! `primacy rebuild-store`: for when the store was wiped, or restored from an old backup.

use super::{Code, Failure, RebuildArgs, confirmed, http, print, settings, store};
use crate::config::Settings;
use crate::instance::resting;
use crate::store::directory::Member;
use crate::store::records::{Paths, encode};
use primacy_core::store::{Record, View};
use primacy_core::{Epoch, Nonce, rebuild};
use primacy_etcd::{Compare, Instant, Is, Op};
use std::time::Duration;

pub(super) async fn run(args: &RebuildArgs) -> Result<(), Failure> {
    let settings = settings(&args.cluster.config)?;
    let refused = |why: anyhow::Error| Failure(Code::NotDone, format!("{why:#}"));
    let resting = resting::look(settings.clone()).await.map_err(refused)?;
    let (found, entries) = store(&settings).await?;
    let known = last_known(&found.view);
    if known >= resting.saved.highest && found.view.reign.as_ref().is_some_and(|reign| reign.epoch >= known) {
        let why = format!(
            "the store knows of epoch {known}, and this member of none later: nothing is to be made anew"
        );
        return Err(Failure(Code::NotDone, why));
    }
    for (name, member) in &found.contents.members {
        check_stopped(name, member).await?;
    }
    let what = format!(
        "{} reaches {} and has seen epoch {}; the store knows of epoch {known} at most. What only other members have is \
         lost, so compare with them first; and the agents of all members must be stopped",
        settings.name, resting.data.position, resting.saved.highest
    );
    if !args.accept_loss && !confirmed(&format!("{what}.\nMake the store anew from this copy?")) {
        return Err(Failure(Code::NotDone, format!("{what} (--accept-loss); nothing was done")));
    }
    let mark = Nonce(crate::agent::draw().map_err(refused)?);
    let ttl = settings.core.ttl;
    let records =
        rebuild::records(&found.view, &settings.name, &resting.saved, &resting.data, ttl, mark).ok_or_else(|| {
            let why = "nobody knows which reigns this copy's timelines belong to: it was promoted by hand, or never was \
                       part of a cluster. Use another member's";
            Failure(Code::NotDone, why.to_owned())
        })?;
    write(&settings, &entries, &records).await?;
    print("the store is made anew: start this member's agent, and then the others")
}

/// The last reign that the store names or has heard of.
fn last_known(view: &View) -> Epoch {
    let recorded = view.epochs.last_key_value().map_or(Epoch(0), |(epoch, _)| *epoch);
    view.reign.as_ref().map_or(Epoch(0), |reign| reign.epoch).max(recorded)
}

/// An agent that answers isn't stopped.
async fn check_stopped(name: &str, member: &Member) -> Result<(), Failure> {
    let Some(address) = member.api_address() else { return Ok(()) };
    match http::get(&address, "/patroni").await {
        Ok(_) => Err(Failure(
            Code::NotDone,
            format!("the agent of {name} runs, at {address}: stop all agents first"),
        )),
        Err(_) => Ok(()),
    }
}

/// Writes all of it at once, unless somebody has written meanwhile.
async fn write(settings: &Settings, entries: &[(Vec<u8>, i64)], records: &[Record]) -> Result<(), Failure> {
    let paths = Paths { prefix: settings.prefix.clone() };
    let revision = |path: &str| {
        let known = entries.iter().find(|(key, _)| key == path.as_bytes());
        known.map_or(0, |(_, revision)| *revision)
    };
    let (mut compares, mut puts) = (Vec::new(), Vec::new());
    for record in records {
        let path = paths.of(&record.key());
        compares.push(Compare::mod_revision(path.clone(), Is::Equal, revision(&path)));
        puts.push(Op::put(path, encode(record)));
        if let Record::Initialize(initialize) = record {
            let system = initialize.system.map(|system| system.to_string()).unwrap_or_default();
            puts.push(Op::put(paths.mirror("initialize"), system));
        }
    }
    let deadline = Instant::now() + Duration::from_secs(3);
    match super::client(settings)?.txn(compares, puts, Vec::new(), deadline).await {
        Ok(done) if done.succeeded => Ok(()),
        Ok(_) => Err(Failure(
            Code::NotDone,
            "somebody has written to the store meanwhile; nothing was done".into(),
        )),
        Err(error) if error.may_be_applied() => Err(Failure(Code::Unknown, error.to_string())),
        Err(error) => Err(Failure(Code::Unreachable, error.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use primacy_core::store::EpochRecord;
    use primacy_core::{Name, Revision};

    #[test]
    fn what_was_written_down_counts_as_known() {
        let mut view = View::default();
        assert_eq!(last_known(&view), Epoch(0));
        let (epoch, holder) = (Epoch(7), Name::from(""));
        let record = EpochRecord { epoch, holder, nonce: Nonce(0), fork: None, checkpointed: false };
        view.put(Record::Epoch(record), Revision(5));
        assert_eq!(last_known(&view), Epoch(7));
    }
}
