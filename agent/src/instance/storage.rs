//! Whether the storage still does its work: a statement is answered from memory while no commit gets through any more.
//!
//! A thread of its own writes and syncs a small file in the WAL's folder, again and again while PostgreSQL is a
//! primary. That a write fails is an answer, too, and PostgreSQL's to deal with; only one that doesn't end counts.

use primacy_core::{Span, Time};
use std::fs::File;
use std::io::Write;
use std::path::PathBuf;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::clock::now;

/// What is written.
const FILE: &str = "pg_wal/primacy.alive";

/// The pause between two writes.
const EVERY: Duration = Duration::from_secs(1);

/// See the [module](self).
pub struct Storage {
    /// When the write under way was begun.
    since: Arc<Mutex<Option<Time>>>,
    /// Asks for another write, unless one is under way.
    ask: SyncSender<()>,
}

impl Storage {
    /// Watches the storage of this data directory.
    pub fn of(data_dir: PathBuf) -> Storage {
        Storage::watch(EVERY, move || {
            let written = File::options().create(true).truncate(true).write(true).open(data_dir.join(FILE));
            let written =
                written.and_then(|mut file| file.write_all(b"primacy\n").and_then(|()| file.sync_all()));
            if let Err(why) = written {
                tracing::debug!(%why, "could not write {FILE}");
            }
        })
    }

    fn watch(pause: Duration, mut write: impl FnMut() + Send + 'static) -> Storage {
        let (ask, asked) = sync_channel(0);
        let since = Arc::new(Mutex::new(None));
        let begun = Arc::clone(&since);
        let named = std::thread::Builder::new().name("storage".to_owned());
        let spawned = named.spawn(move || {
            let set = |to| *begun.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = to;
            while asked.recv().is_ok() {
                set(Some(now()));
                write();
                set(None);
                std::thread::sleep(pause);
            }
        });
        if let Err(why) = spawned {
            tracing::warn!(%why, "the storage isn't watched");
        }
        Storage { since, ask }
    }

    /// To be called while PostgreSQL is a primary: lets something be written.
    pub fn look(&self) {
        // It takes one only when it waits for it.
        let _ = self.ask.try_send(());
    }

    /// For how long a write has been under way, if longer than this.
    pub fn hangs(&self, longest: Span) -> Option<Span> {
        let since = *self.since.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        since.map(|since| now().since(since)).filter(|lasts| *lasts > longest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::channel;

    #[test]
    fn a_write_that_does_not_end_is_noticed_and_one_that_does_is_not() {
        let (begins, begun) = channel();
        let (ends, ended) = channel::<()>();
        let storage = Storage::watch(Duration::ZERO, move || {
            begins.send(()).expect("somebody listens");
            ended.recv().expect("it ends");
        });
        assert_eq!(storage.hangs(Span::ZERO), None);
        let asks = || {
            while begun.try_recv().is_err() {
                storage.look();
                std::thread::yield_now();
            }
        };
        asks();
        while storage.hangs(Span::millis(2)).is_none() {
            std::thread::yield_now();
        }
        assert_eq!(storage.hangs(Span::secs(3_600)), None);
        ends.send(()).unwrap();
        asks();
        ends.send(()).unwrap();
        while storage.hangs(Span::ZERO).is_some() {
            std::thread::yield_now();
        }
    }

    #[test]
    fn what_can_not_be_written_is_an_answer() {
        let storage = Storage::of(PathBuf::from("/nowhere"));
        for _ in 0..100 {
            storage.look();
            std::thread::yield_now();
        }
        while storage.hangs(Span::ZERO).is_some() {
            std::thread::yield_now();
        }
    }
}
