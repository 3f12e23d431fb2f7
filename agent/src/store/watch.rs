//! The watch over everything of the cluster.
//!
//! It goes on after any loss, from where it was. Each gap, possible or certain, is told as an interruption, upon which
//! the core reads everything anew.

use super::directory::{Contents, Directory};
use super::is_of_directory;
use super::records::{Meaning, Paths, Told, decode, revision};
use primacy_core::store::{Key, Leader, News, Record};
use primacy_etcd::{Client, Event, Events, Instant, KeyValue, Keys, Notice, Watch};
use std::time::Duration;
use tokio::sync::mpsc::UnboundedSender;
use tokio::time::timeout;

/// The time for one request here.
const PATIENCE: Duration = Duration::from_millis(400);

/// The pause after a failure.
const PAUSE: Duration = Duration::from_millis(100);

/// Watches for as long as the runtime lives. While a cluster has a holder something changes each `sign_of_life`; a
/// watch that is silent for longer is asked whether it lives.
pub(super) async fn run(client: Client, sign_of_life: Duration, teller: Teller) {
    let mut seen = None;
    loop {
        let anew = seen.is_none();
        let Some(watch) = open(&client, &teller.paths, &mut seen).await else {
            tokio::time::sleep(PAUSE).await;
            continue;
        };
        // What the core has read by then may be older than where this watch begins.
        if anew && teller.news.send(News::Interrupted).is_err() {
            return;
        }
        let mut follow = Follow { watch, teller: &teller, seen: &mut seen };
        let why = follow.until_it_ends(&client, sign_of_life * 2).await;
        tracing::debug!(why, "the watch was interrupted");
        if teller.news.send(News::Interrupted).is_err() {
            return;
        }
    }
}

/// Opens the watch behind the last revision seen, or behind one that is read now.
async fn open(client: &Client, paths: &Paths, seen: &mut Option<i64>) -> Option<Watch> {
    let keys = Keys::prefix(paths.prefix.clone());
    let from = match *seen {
        Some(seen) => seen,
        None => {
            let one = paths.of(&Key::Reign);
            client.read(Keys::one(one), Instant::now() + PATIENCE).await.ok()?.header.revision
        }
    };
    let watch = client.watch(keys, from + 1, Instant::now() + PATIENCE).await.ok()?;
    *seen = Some(from);
    Some(watch)
}

struct Follow<'a> {
    watch: Watch,
    teller: &'a Teller,
    seen: &'a mut Option<i64>,
}

impl Follow<'_> {
    async fn until_it_ends(&mut self, client: &Client, silence_max: Duration) -> String {
        loop {
            let notice = match timeout(silence_max, self.watch.next()).await {
                Ok(notice) => notice,
                Err(_) => {
                    self.watch.ping();
                    match timeout(PATIENCE, self.watch.next()).await {
                        Ok(notice) => notice,
                        Err(_) => {
                            client.rotate("its watch is silent");
                            return "silent".to_owned();
                        }
                    }
                }
            };
            match notice {
                Notice::Events(events) => self.changed(events),
                Notice::Alive => {}
                Notice::Compacted { .. } => {
                    *self.seen = None;
                    return "compacted".to_owned();
                }
                Notice::Lost(loss) => return loss.to_string(),
            }
        }
    }

    fn changed(&mut self, events: Events) {
        *self.seen = Some(events.revision);
        let mut events = events.events.as_slice();
        while let Some(first) = events.first() {
            let at = first.mod_revision();
            let count = events.iter().take_while(|event| event.mod_revision() == at).count();
            let (now, later) = events.split_at(count);
            events = later;
            for news in self.teller.news_of(at, now) {
                // Nobody listens any more only when the agent ends.
                let _ = self.teller.news.send(news);
            }
        }
    }
}

/// Turns what happened in the store into news.
pub(super) struct Teller {
    pub paths: Paths,
    pub directory: Directory,
    pub told: Told,
    pub news: UnboundedSender<News>,
}

impl Teller {
    /// All that happened at one revision.
    fn news_of(&self, at: i64, events: &[Event]) -> Vec<News> {
        let mut records = Vec::new();
        let mut interrupted = false;
        for event in events {
            let meaning = self.paths.meaning(event.key());
            if is_of_directory(&meaning) {
                see(&mut self.directory.look(), &meaning, event);
            }
            match (&meaning, event) {
                (Meaning::Record(key), Event::Put { entry, .. }) => {
                    match decode(key, &entry.key, &entry.value) {
                        Ok(record) => records.push(record),
                        // The read that follows names the key.
                        Err(garbage) if garbage.decides => interrupted = true,
                        Err(garbage) => drop(self.told.of(garbage)),
                    }
                }
                (Meaning::Record(Key::Leader), Event::Delete { .. }) => {
                    records.push(Record::Leader(Leader { name: None }));
                }
                // None of ours is ever deleted by us.
                (Meaning::Record(_), Event::Delete { .. }) | (Meaning::Initialized, _) => interrupted = true,
                (Meaning::Member(_) | Meaning::History | Meaning::Note(_) | Meaning::Other, _) => {}
            }
        }
        let changed = (!records.is_empty()).then(|| News::Changed(revision(at), records));
        changed.into_iter().chain(interrupted.then_some(News::Interrupted)).collect()
    }
}

fn see(contents: &mut Contents, meaning: &Meaning, event: &Event) {
    match event {
        Event::Put { entry, .. } => see_entry(contents, meaning, entry),
        Event::Delete { .. } => match meaning {
            Meaning::Member(name) => drop(contents.members.remove(name)),
            Meaning::History => contents.history.clear(),
            Meaning::Note(name) => drop(contents.notes.remove(name)),
            Meaning::Record(Key::Leader) => contents.leader = None,
            Meaning::Record(_) | Meaning::Initialized | Meaning::Other => {}
        },
    }
}

fn see_entry(contents: &mut Contents, meaning: &Meaning, entry: &KeyValue) {
    match meaning {
        Meaning::Member(name) => contents.see_member(name, &entry.value),
        Meaning::History => contents.see_history(&entry.value),
        Meaning::Note(name) => contents.see_note(name, &entry.value),
        Meaning::Record(Key::Leader) => {
            let value = String::from_utf8_lossy(&entry.value).into_owned();
            contents.leader = Some((value, entry.lease.map(|lease| lease.get())));
        }
        Meaning::Record(_) | Meaning::Initialized | Meaning::Other => {}
    }
}

/// Takes over everything that was read.
pub fn see_all(paths: &Paths, directory: &Directory, entries: &[KeyValue]) {
    let mut contents = directory.look();
    contents.members.clear();
    contents.leader = None;
    contents.history.clear();
    contents.notes.clear();
    for entry in entries {
        let meaning = paths.meaning(&entry.key);
        see_entry(&mut contents, &meaning, entry);
    }
}
