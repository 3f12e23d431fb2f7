//! What other tools see of this member: `members/NAME`, and `leader` while it holds the lease. Both hang on an etcd
//! lease of the member, so that they go when it goes. Nothing is ever concluded from them.

use super::directory::{Directory, Member};
use super::records::Paths;
use crate::board::Notes;
use primacy_core::store::Key;
use primacy_core::{Name, Revision};
use primacy_etcd::{Client, Compare, Error, Instant, Is, LeaseId, Op, Renewal};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::watch;

/// The time for one request.
const PATIENCE: Duration = Duration::from_millis(400);

/// The pause after a failure.
const PAUSE: Duration = Duration::from_millis(250);

/// How often a position is published that alone has changed, be it one of a copy that is being made.
const POSITION_EVERY: Duration = Duration::from_secs(3);

/// The lease that the mirrored keys hang on, if there is one.
#[derive(Clone, Debug, Default)]
pub struct SharedLease(Arc<Mutex<Option<LeaseId>>>);

impl SharedLease {
    /// The lease.
    pub fn get(&self) -> Option<LeaseId> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// It turned out to be gone.
    pub fn lost(&self, lease: Option<LeaseId>) {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if *held == lease {
            *held = None;
        }
    }

    pub(super) fn set(&self, lease: LeaseId) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(lease);
    }
}

/// What is to be seen.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Published {
    /// The value of `members/NAME`.
    pub member: Member,
    /// The revision of the reign record, while this member holds the lease.
    pub reign: Option<Revision>,
    /// See [`Notes`]. They outlive the member.
    pub notes: Notes,
}

/// Fields that change all the time.
const POSITIONS: [&str; 3] = ["xlog_location", "receive_lsn", "replay_lsn"];

fn without_positions(mut member: Member) -> Member {
    POSITIONS.iter().for_each(|field| drop(member.more.shift_remove(*field)));
    // What is being done is news, how far it has come is not.
    if let Some(progress) = member.more.get_mut("progress") {
        *progress = progress["what"].take();
    }
    member
}

/// Where another agent of this name is, if what is seen was written by one.
fn namesake(own: &Member, seen: Option<&Member>) -> Option<String> {
    seen?.api_address().filter(|address| Some(address) != own.api_address().as_ref())
}

/// Keeps the mirrored keys of one member right.
pub struct Mirror {
    /// The store.
    pub client: Client,
    /// Where its keys are.
    pub paths: Paths,
    /// The member.
    pub me: Name,
    /// What is there now.
    pub directory: Directory,
    /// Shared with those who write `leader`, too.
    pub lease: SharedLease,
    /// How long the keys outlive the member.
    pub ttl: Duration,
}

/// What was written last, under which lease and when.
struct Written {
    member: Member,
    lease: LeaseId,
    at: Instant,
}

impl Mirror {
    /// Runs until the sender of `wanted` is gone.
    pub async fn run(self, mut wanted: watch::Receiver<Published>) {
        let (mut written, mut noted, mut told) = (None, Notes::new(), None);
        let mut renewed = Instant::now();
        loop {
            let every = self.ttl / 2;
            let now_wanted = wanted.borrow_and_update().clone();
            if written.is_some() {
                self.notice_namesake(&now_wanted.member, &mut told);
            }
            let done = match self.step(&now_wanted, &mut written, &mut renewed).await {
                Ok(()) => self.put_notes(&now_wanted.notes, &mut noted).await,
                failed => failed,
            };
            let pause = match done {
                Ok(()) => (renewed + every).saturating_duration_since(Instant::now()),
                Err(error) => {
                    tracing::debug!(%error, "could not mirror this member's state");
                    PAUSE
                }
            };
            let pause = if pending_position(&wanted.borrow(), written.as_ref()) {
                pause.min(POSITION_EVERY)
            } else {
                pause
            };
            match tokio::time::timeout(pause.max(Duration::from_millis(10)), wanted.changed()).await {
                Ok(Ok(())) | Err(_) => {}
                Ok(Err(_)) => {
                    let last = wanted.borrow().clone();
                    return self.last_words(&last).await;
                }
            }
        }
    }

    /// Two agents under one name take turns writing what is to be seen of them. Nothing is done about it here: a lease is
    /// held by one life of one agent.
    fn notice_namesake(&self, own: &Member, told: &mut Option<String>) {
        let other = namesake(own, self.directory.look().members.get(self.me.as_str()));
        if let Some(other) = other.filter(|other| told.as_ref() != Some(other)) {
            tracing::error!(
                name = %self.me,
                "another agent, at {other}, runs under this member's name: stop the one that doesn't belong here, or give \
                 it a name and a data directory of its own"
            );
            *told = Some(other);
        }
    }

    async fn step(
        &self,
        wanted: &Published,
        written: &mut Option<Written>,
        renewed: &mut Instant,
    ) -> Result<(), Error> {
        let lease = self.renewed_lease(renewed).await?;
        let repair = wanted
            .reign
            .filter(|_| self.directory.look().leader != Some((self.me.to_string(), Some(lease.get()))));
        if let Some(reign) = repair {
            self.put_leader(reign, lease).await?;
        }
        let due = written.as_ref().is_none_or(|written| {
            let same = without_positions(written.member.clone()) == without_positions(wanted.member.clone());
            let time = written.at.elapsed() >= POSITION_EVERY;
            written.lease != lease || !same || (time && written.member != wanted.member)
        });
        if due {
            self.put_member(&wanted.member, lease).await?;
            *written = Some(Written { member: wanted.member.clone(), lease, at: Instant::now() });
        }
        Ok(())
    }

    async fn renewed_lease(&self, renewed: &mut Instant) -> Result<LeaseId, Error> {
        let now = Instant::now();
        if let Some(lease) = self.lease.get() {
            if renewed.elapsed() < self.ttl / 2 - Duration::from_millis(50) {
                return Ok(lease);
            }
            match self.client.lease_keepalive(lease, now + PATIENCE).await? {
                Renewal::Alive { .. } => {
                    *renewed = now;
                    return Ok(lease);
                }
                Renewal::Gone => self.lease.lost(Some(lease)),
            }
        }
        let lease = self.client.lease_grant(self.ttl, None, now + PATIENCE).await?.id;
        self.lease.set(lease);
        *renewed = now;
        Ok(lease)
    }

    async fn put_leader(&self, reign: Revision, lease: LeaseId) -> Result<(), Error> {
        let revision = i64::try_from(reign.0).unwrap_or(i64::MAX);
        let ours = Compare::mod_revision(self.paths.of(&Key::Reign), Is::Equal, revision);
        let put = Op::put_with_lease(self.paths.of(&Key::Leader), self.me.as_str(), lease);
        let done = self.client.txn(vec![ours], vec![put], Vec::new(), Instant::now() + PATIENCE).await?;
        if done.succeeded {
            self.directory.look().leader = Some((self.me.to_string(), Some(lease.get())));
        }
        Ok(())
    }

    async fn put_member(&self, member: &Member, lease: LeaseId) -> Result<(), Error> {
        let key = self.paths.mirror(&format!("members/{}", self.me));
        let value = serde_json::to_vec(member).unwrap_or_default();
        self.client.put(key, value, Some(lease), Instant::now() + PATIENCE).await?;
        Ok(())
    }

    /// Each is written once: a key that a person removes stays away.
    async fn put_notes(&self, notes: &Notes, noted: &mut Notes) -> Result<(), Error> {
        noted.retain(|name, _| notes.contains_key(name));
        for (name, value) in notes {
            if noted.get(name) == Some(value) {
                continue;
            }
            if self.directory.look().notes.get(name) != Some(value) {
                let key = self.paths.note(name);
                self.client.put(key, value.to_string(), None, Instant::now() + PATIENCE).await?;
            }
            noted.insert(name.clone(), value.clone());
        }
        Ok(())
    }

    async fn last_words(&self, wanted: &Published) {
        if let Some(lease) = self.lease.get() {
            // If it can't be said, the key expires all the same.
            let _ = self.put_member(&wanted.member, lease).await;
        }
    }
}

fn pending_position(wanted: &Published, written: Option<&Written>) -> bool {
    written.is_some_and(|written| written.member != wanted.member)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_namesake_is_known_by_its_address() {
        let at = |url: &str| serde_json::from_value::<Member>(json!({"api_url": url})).expect("a member");
        let (own, other) = (at("http://10.0.0.1:8008/patroni"), at("http://10.0.0.9:8008/patroni"));
        assert_eq!(namesake(&own, Some(&other)).as_deref(), Some("10.0.0.9:8008"));
        assert_eq!(namesake(&own, Some(&own)), None);
        assert_eq!(namesake(&own, None), None);
        assert_eq!(namesake(&own, Some(&Member::default())), None, "nobody can say where that is");
    }

    #[test]
    fn only_what_changes_all_the_time_can_wait() {
        let member = |key: serde_json::Value| {
            without_positions(serde_json::from_value(key).expect("the key of a member"))
        };
        let copies = |what: &str, percent: u64| {
            json!({"state": "creating replica", "xlog_location": percent,
            "progress": {"what": what, "percent": percent}})
        };
        assert_eq!(member(copies("copy", 1)), member(copies("copy", 2)));
        assert_ne!(member(copies("copy", 1)), member(copies("rewind", 1)));
        assert_ne!(member(copies("copy", 1)), member(json!({"state": "creating replica"})));
    }
}
