//! Lines on their way to a slow place, off the loop: a full pipe or a hung disk costs lines, never time (hazard L13).

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::{Duration, Instant};

/// How many lines may wait.
const WAITING_MAX: usize = 4_096;

/// Takes lines for one place. Clones share it.
#[derive(Clone)]
pub struct Drain {
    lines: SyncSender<Vec<u8>>,
    dropped: Arc<AtomicU64>,
    written: Arc<AtomicU64>,
    sent: Arc<AtomicU64>,
}

impl Drain {
    /// Writes lines to `sink` on a thread of its own.
    pub fn new(name: &str, sink: impl Write + Send + 'static) -> std::io::Result<Drain> {
        let (lines, waiting) = sync_channel(WAITING_MAX);
        let written = Arc::new(AtomicU64::new(0));
        let counter = written.clone();
        std::thread::Builder::new()
            .name(name.to_owned())
            .stack_size(64 << 10)
            .spawn(move || pour(&waiting, sink, &counter))?;
        Ok(Drain { lines, dropped: Arc::default(), written, sent: Arc::default() })
    }

    /// Takes a line, or counts it as dropped if too many wait.
    pub fn send(&self, line: Vec<u8>) {
        match self.lines.try_send(line) {
            Ok(()) => self.sent.fetch_add(1, Ordering::Relaxed),
            Err(_) => self.dropped.fetch_add(1, Ordering::Relaxed),
        };
    }

    /// How many lines were dropped so far.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// Waits until what was sent is written, but not for long.
    pub fn flush(&self, patience: Duration) {
        let end = Instant::now() + patience;
        let behind = || self.written.load(Ordering::Acquire) < self.sent.load(Ordering::Relaxed);
        while behind() && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

fn pour(waiting: &Receiver<Vec<u8>>, mut sink: impl Write, written: &AtomicU64) {
    while let Ok(line) = waiting.recv() {
        // There is no place left to say that this one can't be written.
        let _ = sink.write_all(&line);
        let _ = sink.flush();
        written.fetch_add(1, Ordering::Release);
    }
}
