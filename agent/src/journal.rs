//! Every input and every fact as lines of JSON, in a ring of two files, so that a decision can be replayed
//! (`cargo sim journal`).

use crate::drain::Drain;
use primacy_core::{Boot, Config, Event, Input, Time};
use serde_json::json;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

/// A file is put aside when it has this many bytes; one old file is kept.
const FILE_BYTES_MAX: u64 = 8 << 20;

/// See the [module](self).
pub struct Journal {
    drain: Drain,
    dropped: std::cell::Cell<u64>,
}

impl Journal {
    /// Goes on with the file at `path`, and says whose life begins here.
    pub fn open(
        path: &Path,
        config: &Config,
        boot: Boot,
        saved: &impl serde::Serialize,
    ) -> std::io::Result<Journal> {
        let journal = Journal { drain: Drain::new("journal", Ring::open(path)?)?, dropped: 0.into() };
        let at = crate::clock::calendar_now();
        journal.write(&json!({"start": {"at": at, "boot": boot, "config": config, "saved": saved}}));
        Ok(journal)
    }

    /// Notes an input.
    pub fn input(&self, now: Time, input: &Input) {
        let dropped = self.drain.dropped();
        if dropped != self.dropped.replace(dropped) {
            self.write(&json!({"t": now, "dropped": dropped}));
        }
        self.write(&json!({"t": now, "input": input}));
    }

    /// Notes a fact.
    pub fn event(&self, now: Time, event: &Event) {
        self.write(&json!({"t": now, "event": event}));
    }

    /// Waits a moment for the last lines.
    pub fn flush(&self) {
        self.drain.flush(std::time::Duration::from_millis(200));
    }

    fn write(&self, line: &serde_json::Value) {
        let mut text = line.to_string().into_bytes();
        text.push(b'\n');
        self.drain.send(text);
    }
}

struct Ring {
    path: PathBuf,
    file: File,
    bytes: u64,
}

impl Ring {
    fn open(path: &Path) -> std::io::Result<Ring> {
        let file = OpenOptions::new().create(true).append(true).open(path)?;
        let bytes = file.metadata()?.len();
        Ok(Ring { path: path.to_owned(), file, bytes })
    }

    fn turn(&mut self) -> std::io::Result<()> {
        std::fs::rename(&self.path, self.path.with_extension("old"))?;
        *self = Ring::open(&self.path)?;
        Ok(())
    }
}

impl Write for Ring {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        if self.bytes >= FILE_BYTES_MAX {
            self.turn()?;
        }
        let written = self.file.write(bytes)?;
        self.bytes += written as u64;
        Ok(written)
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
