//! How far an order has come that takes long, for people: what PostgreSQL's programs tell, with a rate and the time left.

use crate::board::Board;
use primacy_core::Lsn;
use primacy_postgres::{Bytes, Instant, Postgres, Progress};
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use std::fmt;
use std::time::Duration;

/// Between two looks: what takes a second is to be seen, too.
const LOOK: Duration = Duration::from_millis(250);

/// The rate is that of so long: the mean of an hour says nothing about a network that has just become slow.
const RATE_OVER: Duration = Duration::from_secs(5);

/// As it is shown and published. What isn't known is left out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shown {
    /// What is being done: a verb and an object.
    pub what: String,
    /// For so long.
    pub seconds: u64,
    /// So many bytes are done, where they are counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub done_bytes: Option<u64>,
    /// Of so many.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total_bytes: Option<u64>,
    /// The same in percent, rounded down.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub percent: Option<u64>,
    /// The place in the WAL that it has come to, as PostgreSQL writes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lsn: Option<String>,
    /// Over the last seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes_per_second: Option<u64>,
    /// At that rate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub eta_seconds: Option<u64>,
}

/// `copy from another member, 42 %, 35 MB/s, 12 s left`
impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)?;
        match (self.percent, self.done_bytes) {
            (Some(percent), _) => write!(f, ", {percent} %")?,
            (None, Some(done)) => write!(f, ", {}", Bytes(done))?,
            (None, None) => write!(f, ", for {}", time(self.seconds))?,
        }
        if let Some(lsn) = &self.lsn {
            write!(f, ", at {lsn}")?;
        }
        if let Some(rate) = self.bytes_per_second {
            write!(f, ", {}/s", Bytes(rate))?;
        }
        match self.eta_seconds {
            Some(left) => write!(f, ", {} left", time(left)),
            None => Ok(()),
        }
    }
}

fn time(seconds: u64) -> String {
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7_200 => format!("{} min", seconds / 60),
        _ => format!("{} h", seconds / 3_600),
    }
}

/// What was counted lately of the one thing that is being done.
#[derive(Default)]
struct Gauge {
    of: Option<(&'static str, Instant)>,
    counted: VecDeque<(Instant, u64)>,
}

impl Gauge {
    /// How it stands at `now`.
    fn read(&mut self, progress: &Progress, now: Instant) -> Shown {
        let Progress { what, began, done_bytes: done, total_bytes: total, position } = *progress;
        if self.of != Some((what, began)) {
            *self = Gauge { of: Some((what, began)), counted: [(began, 0)].into() };
        }
        self.counted.push_back((now, done));
        // The oldest count that stays is as old as the rate reaches back, or all there is.
        while self.counted.get(1).is_some_and(|(at, _)| now.duration_since(*at) >= RATE_OVER) {
            self.counted.pop_front();
        }
        let counts = done > 0 || total.is_some();
        let rate = self.counted.front().filter(|_| counts).and_then(|(since, before)| {
            let millis = now.duration_since(*since).as_millis();
            let bytes = u128::from(done.saturating_sub(*before)) * 1_000;
            u64::try_from(bytes.checked_div(millis)?).ok()
        });
        // What isn't counted may still be under way: the last WAL, and writing all through to the disk.
        let left = total.map(|total| total.saturating_sub(done)).filter(|left| *left > 0);
        let percent = total.and_then(|total| (u128::from(done) * 100).checked_div(u128::from(total)));
        Shown {
            what: what.to_owned(),
            seconds: now.duration_since(began).as_secs(),
            done_bytes: counts.then_some(done),
            total_bytes: total,
            // The total is an estimate of `pg_basebackup`'s.
            percent: percent.map(|percent| percent.min(100) as u64),
            lsn: position.map(|position| Lsn(position).to_string()),
            bytes_per_second: rate,
            eta_seconds: left.zip(rate).and_then(|(left, rate)| left.checked_div(rate)),
        }
    }
}

/// Keeps the board right and tells listeners once a second, for as long as the agent runs: also while an order is under way, which the node waits for.
pub(super) async fn watch(postgres: Postgres, board: Board) {
    let (mut gauge, mut told) = (Gauge::default(), None);
    loop {
        let shown = postgres.progress().map(|progress| gauge.read(&progress, Instant::now()));
        if let Some(shown) = &shown
            && told.replace((gauge.of, shown.seconds)) != Some((gauge.of, shown.seconds))
        {
            board.events.tell("progress", shown, shown);
        }
        board.look().progress = shown;
        tokio::time::sleep(LOOK).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MB: u64 = 1 << 20;

    /// A copy that began at `began`.
    fn copy(began: Instant, done_bytes: u64, total_bytes: Option<u64>) -> Progress {
        Progress { what: "copy", began, done_bytes, total_bytes, position: None }
    }

    #[test]
    fn the_rate_is_that_of_the_last_seconds() {
        let began = Instant::now();
        let after = |seconds| began + Duration::from_secs(seconds);
        let mut gauge = Gauge::default();
        let mut read = |seconds, done| gauge.read(&copy(began, done * MB, Some(1_000 * MB)), after(seconds));
        assert_eq!(read(0, 0).bytes_per_second, None, "no time has gone by");
        let early = read(1, 100);
        assert_eq!((early.bytes_per_second, early.eta_seconds), (Some(100 * MB), Some(9)));
        // 100 MB each second for ten, then one.
        (2..=10).for_each(|second| drop(read(second, second * 10 + 90)));
        let late = (11..=20).map(|second| read(second, 180 + second)).last().unwrap_or_default();
        assert_eq!((late.bytes_per_second, late.eta_seconds), (Some(MB), Some(800)));
        assert_eq!((late.seconds, late.percent, late.done_bytes), (20, Some(20), Some(200 * MB)));
        let stuck = (21..=30).map(|second| read(second, 200)).last().unwrap_or_default();
        assert_eq!((stuck.bytes_per_second, stuck.eta_seconds), (Some(0), None), "it would take for ever");
    }

    #[test]
    fn another_work_begins_anew() {
        let began = Instant::now();
        let second = began + Duration::from_secs(1);
        let mut gauge = Gauge::default();
        gauge.read(&copy(began, 500 * MB, None), second);
        let next = gauge.read(&copy(second, 2 * MB, None), second + Duration::from_secs(1));
        assert_eq!((next.bytes_per_second, next.seconds), (Some(2 * MB), 1));
    }

    #[test]
    fn what_is_not_known_is_not_said() {
        let began = Instant::now();
        let now = began + Duration::from_secs(3);
        let shown = |progress: &Progress| Gauge::default().read(progress, now);
        let fields = |progress: &Progress| serde_json::to_value(shown(progress)).expect("a document");
        assert_eq!(fields(&copy(began, 0, None)), serde_json::json!({"what": "copy", "seconds": 3}));
        let recovery = Progress { position: Some(0x500_0060), ..copy(began, 3 * MB, None) };
        let expected = serde_json::json!({"what": "copy", "seconds": 3, "done_bytes": 3 * MB, "lsn": "0/5000060",
            "bytes_per_second": MB});
        assert_eq!(fields(&recovery), expected);
        let full = shown(&copy(began, 9 * MB, Some(6 * MB)));
        assert_eq!((full.percent, full.eta_seconds), (Some(100), None), "more than was estimated");
        assert_eq!(shown(&copy(began, 0, Some(0))).percent, None);
    }

    #[test]
    fn people_read_it_in_one_line() {
        let began = Instant::now();
        let line = |seconds, progress: &Progress| {
            Gauge::default().read(progress, began + Duration::from_secs(seconds)).to_string()
        };
        let (half, none) = (copy(began, 420 * MB, Some(1_000 * MB)), copy(began, 0, None));
        assert_eq!(line(12, &half), "copy, 42 %, 35 MB/s, 16 s left");
        assert_eq!(line(125, &none), "copy, for 2 min");
        let recovery = Progress { position: Some(0x1_0500_0060), ..copy(began, 50 << 30, None) };
        assert_eq!(line(9_000, &recovery), "copy, 50 GB, at 1/5000060, 5825 kB/s");
    }
}
