//! What happens at this member, for whoever listens: the facts that its node tells, changes of its role, progress, losses.
//!
//! The last ones are kept, and bounded in number. A listener knows only how far it has come, and takes what follows when
//! its connection has room. So nobody is waited for, nothing is kept for one who is slow, and who falls behind what is
//! kept is cut off.

use crate::clock::{calendar_now, unix_seconds};
use primacy_core::Event;
use serde::Serialize;
use serde_json::{Map, Value, json};
use std::collections::VecDeque;
use std::fmt::Display;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

/// So many are kept.
const KEPT_MAX: usize = 256;

/// So many may listen at a time.
pub const LISTENERS_MAX: usize = 16;

/// The kind of which only the newest one is kept: hours of a copy would leave nothing else.
const PROGRESS: &str = "progress";

/// See the [module](self). Clones share it.
#[derive(Clone)]
pub struct Events(Arc<Shared>);

struct Shared {
    kept: Mutex<Kept>,
    news: watch::Sender<()>,
    room: Arc<Semaphore>,
}

struct Kept {
    told: VecDeque<Told>,
    last: u64,
    /// The last one that had to make room.
    gone: u64,
    closed: bool,
}

struct Told {
    id: u64,
    is_progress: bool,
    line: String,
}

impl Default for Events {
    /// Numbers go on where an earlier life of the agent can't have come to: a listener need not know that there was one.
    fn default() -> Events {
        let begin = unix_seconds() * 1_000_000;
        let kept = Kept { told: VecDeque::new(), last: begin, gone: begin, closed: false };
        let room = Arc::new(Semaphore::new(LISTENERS_MAX));
        Events(Arc::new(Shared { kept: Mutex::new(kept), news: watch::Sender::new(()), room }))
    }
}

impl Events {
    /// Tells a fact of the node's.
    pub fn fact(&self, event: &Event) {
        let (kind, fields) = match serde_json::to_value(event) {
            Ok(Value::Object(tagged)) => tagged.into_iter().next().unwrap_or_default(),
            Ok(Value::String(kind)) => (kind, Value::Object(Map::new())),
            Ok(_) | Err(_) => return,
        };
        self.tell(&kind, event, &fields);
    }

    /// Tells what the node's facts don't say.
    pub fn tell(&self, kind: &str, sentence: &impl Display, fields: &impl Serialize) {
        let is_progress = kind == PROGRESS;
        let mut kept = self.kept();
        let id = kept.last + 1;
        let line = json!({"id": id, "at": calendar_now(), "kind": kind, "sentence": sentence.to_string(),
            "fields": fields});
        if is_progress {
            kept.told.retain(|told| !told.is_progress);
        }
        kept.last = id;
        kept.told.push_back(Told { id, is_progress, line: format!("{line}\n") });
        if kept.told.len() > KEPT_MAX
            && let Some(oldest) = kept.told.pop_front()
        {
            kept.gone = oldest.id;
        }
        drop(kept);
        self.0.news.send_replace(());
    }

    /// Somebody who is told what is kept after `since`, and what comes, if it `follows`. None if too many listen.
    pub fn listen(&self, since: Option<u64>, follows: bool) -> Option<Listener> {
        let room = self.0.room.clone().try_acquire_owned().ok()?;
        let kept = self.kept();
        // A number from the future is one of a life whose clock was wrong.
        let after = since.filter(|id| *id <= kept.last).map_or(kept.gone, |id| id.max(kept.gone));
        drop(kept);
        Some(Listener { events: self.clone(), after, follows, news: self.0.news.subscribe(), _room: room })
    }

    /// Listeners hear what there is, and that it was all.
    pub fn close(&self) {
        self.kept().closed = true;
        self.0.news.send_replace(());
    }

    /// Each change of it is whole, also where a thread panicked. Never held over an await.
    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.0.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// It was so slow that what follows is no longer kept.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("too slow: events were missed")]
pub struct TooSlow;

/// See [`Events::listen`].
pub struct Listener {
    events: Events,
    after: u64,
    follows: bool,
    news: watch::Receiver<()>,
    _room: OwnedSemaphorePermit,
}

impl Listener {
    /// The lines that follow, as soon as there are any; none at the end.
    ///
    /// # Errors
    /// If some of them are gone already.
    pub async fn next(&mut self) -> Result<Option<String>, TooSlow> {
        loop {
            self.news.mark_unchanged();
            let (lines, closed) = self.take()?;
            if !lines.is_empty() {
                return Ok(Some(lines));
            }
            if closed || !self.follows || self.news.changed().await.is_err() {
                return Ok(None);
            }
        }
    }

    fn take(&mut self) -> Result<(String, bool), TooSlow> {
        let kept = self.events.kept();
        if self.after < kept.gone {
            return Err(TooSlow);
        }
        let following = kept.told.iter().filter(|told| told.id > self.after);
        let lines = following.map(|told| told.line.as_str()).collect();
        self.after = kept.last;
        Ok((lines, kept.closed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use primacy_core::{Epoch, Lsn, Position};

    /// The kind and the sentence of each line.
    fn kinds(lines: Option<String>) -> Vec<(String, String)> {
        let lines = lines.unwrap_or_default();
        let text = |value: &Value| value.as_str().map(str::to_owned).unwrap_or_default();
        let lines = lines.lines().map(|line| serde_json::from_str::<Value>(line).expect("a line of JSON"));
        lines.map(|line| (text(&line["kind"]), text(&line["sentence"]))).collect()
    }

    fn listen(events: &Events, since: Option<u64>) -> Listener {
        events.listen(since, true).expect("there is room")
    }

    #[tokio::test(flavor = "current_thread")]
    async fn facts_are_told_with_their_sentence_and_fields() {
        let events = Events::default();
        events.fact(&Event::Leads { epoch: Epoch(2), fork: Position { epoch: Epoch(1), lsn: Lsn(96) } });
        events.fact(&Event::Stopped);
        let lines = listen(&events, None).next().await.expect("not too slow").expect("two lines");
        let lines: Vec<Value> = lines.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
        let first = lines[0]["id"].as_u64().expect("a number");
        let told =
            |at: usize| (&lines[at]["id"], &lines[at]["kind"], &lines[at]["sentence"], &lines[at]["fields"]);
        let fields = json!({"epoch": 2, "fork": {"epoch": 1, "lsn": 96}});
        let sentence = json!("leads epoch 2, which begins at t1 0/60");
        assert_eq!(told(0), (&json!(first), &json!("leads"), &sentence, &fields));
        assert_eq!(
            told(1),
            (&json!(first + 1), &json!("stopped"), &json!("has stopped in order"), &json!({}))
        );
        assert!(lines[0]["at"].as_str().is_some_and(|at| at.ends_with("+00:00")));
    }

    #[tokio::test(flavor = "current_thread")]
    async fn a_listener_hears_what_was_and_what_comes_until_the_end() {
        let events = Events::default();
        events.tell("a", &"1", &json!({}));
        let mut listener = listen(&events, None);
        assert_eq!(kinds(listener.next().await.expect("not too slow")), [("a".into(), "1".into())]);
        let (told, heard) = (events.clone(), tokio::spawn(async move { (listener.next().await, listener) }));
        tokio::task::yield_now().await;
        told.tell("b", &"2", &json!({}));
        let (next, mut listener) = heard.await.expect("it ends");
        assert_eq!(kinds(next.expect("not too slow")), [("b".into(), "2".into())]);
        events.tell("c", &"3", &json!({}));
        events.close();
        assert_eq!(kinds(listener.next().await.expect("not too slow")), [("c".into(), "3".into())]);
        assert_eq!(listener.next().await, Ok(None));
        let mut short = events.listen(None, false).expect("there is room");
        assert_eq!(kinds(short.next().await.expect("not too slow")).len(), 3);
        assert_eq!(short.next().await, Ok(None));
    }

    #[tokio::test(flavor = "current_thread")]
    async fn who_falls_behind_what_is_kept_is_cut_off_and_may_come_back() {
        let events = Events::default();
        events.tell("a", &"first", &json!({}));
        let mut slow = listen(&events, None);
        let heard = slow.next().await;
        let first = events.kept().last;
        assert_eq!(kinds(heard.expect("not too slow")).len(), 1);
        (0..KEPT_MAX).for_each(|_| events.tell("b", &"more", &json!({})));
        // What it has heard is gone, what follows is there.
        assert_eq!(kinds(slow.next().await.expect("just in time")).len(), KEPT_MAX);
        (0..=KEPT_MAX).for_each(|_| events.tell("b", &"more", &json!({})));
        assert_eq!(slow.next().await, Err(TooSlow));
        let last = events.kept().last;
        for (since, expected) in [(first, KEPT_MAX), (last - 3, 3), (last + 3, KEPT_MAX), (0, KEPT_MAX)] {
            let lines = listen(&events, Some(since)).next().await.expect("not too slow");
            assert_eq!(kinds(lines).len(), expected, "since {since}");
        }
    }

    #[tokio::test(flavor = "current_thread")]
    async fn a_long_copy_leaves_the_other_events_where_they_are() {
        let events = Events::default();
        events.tell("a", &"first", &json!({}));
        let mut listener = listen(&events, None);
        assert_eq!(kinds(listener.next().await.expect("not too slow")).len(), 1);
        (0..=KEPT_MAX).for_each(|percent| events.tell(PROGRESS, &percent, &json!({})));
        let newest = ("progress".to_owned(), KEPT_MAX.to_string());
        let missed_nothing_else = kinds(listener.next().await.expect("only old progress is gone"));
        let all = kinds(listen(&events, None).next().await.expect("not too slow"));
        assert_eq!(all, [("a".to_owned(), "first".to_owned()), newest]);
        assert_eq!(missed_nothing_else, all[1..]);
    }

    #[test]
    fn there_is_room_for_so_many_listeners() {
        let events = Events::default();
        let mut listeners: Vec<Listener> = (0..LISTENERS_MAX).map(|_| listen(&events, None)).collect();
        assert!(events.listen(None, true).is_none());
        listeners.pop();
        assert!(events.listen(None, true).is_some());
    }
}
