//! The log: lines of text or JSON on stderr. Each event of the core is one, with its sentence and its fields.

use crate::config::Log;
use crate::drain::Drain;
use primacy_core::Event;
use std::io::Write;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::{filter, fmt, registry};

/// Begins to log. The drain is for a last flush.
pub fn start(log: &Log) -> std::io::Result<Drain> {
    let drain = Drain::new("log", std::io::stderr())?;
    let level = filter::LevelFilter::from_level(log.level);
    let to = ToDrain(drain.clone());
    if log.json {
        let layer = fmt::layer().json().flatten_event(true).with_writer(to);
        set(registry().with(level).with(layer));
    } else {
        let layer = fmt::layer().with_ansi(false).with_target(false).with_writer(to);
        set(registry().with(level).with(layer));
    }
    Ok(drain)
}

fn set(subscriber: impl tracing::Subscriber + Send + Sync) {
    // Fails only if there is one already, which then does as well.
    let _ = tracing::subscriber::set_global_default(subscriber);
}

/// Logs a fact of the core's. What someone must look at is a warning.
pub fn tell(event: &Event) {
    let fields = serde_json::to_string(event).unwrap_or_default();
    if is_warning(event) {
        tracing::warn!(event = fields, "{event}");
    } else {
        tracing::info!(event = fields, "{event}");
    }
}

fn is_warning(event: &Event) -> bool {
    match event {
        Event::Consented { .. }
        | Event::TooFarBehind { .. }
        | Event::BeatMissed { .. }
        | Event::LeaseEnds { .. }
        | Event::LostLease { .. }
        | Event::PrimaryDied { .. }
        | Event::PrimaryGivenUp
        | Event::PrimaryHangs { .. }
        | Event::GuardLost
        | Event::UnorderedPromotion { .. }
        | Event::WrongTimeline { .. }
        | Event::SwitchoverRefused { .. }
        | Event::NotContained { .. }
        | Event::Rewinds { .. }
        | Event::Starved { .. }
        | Event::Reinitializes { .. }
        | Event::Failed { .. }
        | Event::Froze { .. } => true,
        Event::ClaimedBootstrap
        | Event::Lapsed { .. }
        | Event::SawRelease { .. }
        | Event::Stands { .. }
        | Event::NotBest { .. }
        | Event::HolderIsBack { .. }
        | Event::Took { .. }
        | Event::LostElection { .. }
        | Event::Resumed { .. }
        | Event::Leads { .. }
        | Event::Follows { .. }
        | Event::Rewound { .. }
        | Event::HandsOver { .. }
        | Event::Released { .. }
        | Event::Stopped => false,
    }
}

struct ToDrain(Drain);

impl<'a> MakeWriter<'a> for ToDrain {
    type Writer = Line;
    fn make_writer(&'a self) -> Line {
        Line { drain: self.0.clone(), text: Vec::new() }
    }
}

/// Collects one line, and hands it over whole.
pub struct Line {
    drain: Drain,
    text: Vec<u8>,
}

impl Write for Line {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.text.extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        if !self.text.is_empty() {
            self.drain.send(std::mem::take(&mut self.text));
        }
    }
}
