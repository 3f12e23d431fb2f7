//! How long a standby has had no WAL from its source.

use primacy_core::instance::Instance;
use primacy_core::{Span, Time};

/// After so long, and again each time, its source is set once more.
const AGAIN: Span = Span::secs(5);

/// So often it is said.
const SAID: Span = Span::secs(60);

/// A standby that has a source and doesn't stream from it.
#[derive(Debug, Default)]
pub struct Drought {
    since: Option<Time>,
    tried: Option<Time>,
    said: Option<Time>,
}

impl Drought {
    /// The instance was looked at.
    pub fn see(&mut self, instance: &Instance, now: Time) {
        match instance {
            Instance::Standby { source: Some(_), streaming: false, .. } => {
                self.since = self.since.or(Some(now))
            }
            // It says nothing about the stream.
            Instance::Unknown => {}
            Instance::Standby { .. }
            | Instance::Primary { .. }
            | Instance::Stopped { .. }
            | Instance::Absent
            | Instance::Incomplete
            | Instance::Foreign(_) => *self = Drought::default(),
        }
    }

    /// If the source is to be set again now: how long there has been nothing from it.
    pub fn lasts(&mut self, now: Time) -> Option<Span> {
        let since = self.since?;
        if now.since(self.tried.unwrap_or(since)) < AGAIN {
            return None;
        }
        self.tried = Some(now);
        Some(now.since(since))
    }

    /// Whether it is time to say so.
    pub fn is_to_be_said(&mut self, now: Time) -> bool {
        let due = self.said.is_none_or(|said| now.since(said) >= SAID);
        if due {
            self.said = Some(now);
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use primacy_core::instance::Data;
    use primacy_core::{Epoch, Position, SystemId};

    fn standby(streaming: bool) -> Instance {
        let data = Data { system: SystemId(1), position: Position::default(), forks: Default::default() };
        Instance::Standby {
            data,
            source: Some(("a".into(), Epoch(1))),
            streaming,
            ready: true,
            starved: false,
        }
    }

    /// The seconds at which a standby that is looked at each second has its source set again, and those at which that
    /// is said.
    fn seconds(streams: impl Fn(u64) -> bool) -> (Vec<u64>, Vec<u64>) {
        let mut drought = Drought::default();
        let (mut tried, mut said) = (Vec::new(), Vec::new());
        for second in 0..=70 {
            let now = Time(0) + Span::secs(second);
            drought.see(&standby(streams(second)), now);
            if drought.lasts(now).is_some() {
                tried.push(second);
                if drought.is_to_be_said(now) {
                    said.push(second);
                }
            }
        }
        (tried, said)
    }

    #[test]
    fn a_source_without_wal_is_set_again_and_again_and_said_once_a_minute() {
        let (tried, said) = seconds(|_| false);
        assert_eq!(tried, (1..=14).map(|n| n * 5).collect::<Vec<_>>());
        assert_eq!(said, [5, 65]);
    }

    #[test]
    fn a_stream_ends_a_drought() {
        assert_eq!(seconds(|_| true), (vec![], vec![]));
        assert_eq!(seconds(|second| second % 5 == 4), (vec![], vec![]));
        assert_eq!(seconds(|second| second < 63).0, [68]);
    }

    #[test]
    fn a_standby_without_a_source_has_no_drought() {
        let mut drought = Drought::default();
        drought.see(&standby(false), Time(0));
        let Instance::Standby { data, .. } = standby(false) else { unreachable!() };
        drought.see(
            &Instance::Standby { data, source: None, streaming: false, ready: true, starved: false },
            Time(0) + Span::secs(4),
        );
        assert_eq!(drought.lasts(Time(0) + Span::secs(9)), None);
    }
}
