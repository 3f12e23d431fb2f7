//! What came of chaos, in words and as JSON.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::Serialize;
use serde_json::{Value, json};

use super::losses::{self, Report};
use super::plan::Kind;
use crate::judge::{Gap, Overlap, Tail, Taking, TwoWriters};
use crate::network::Host;
use crate::place;
use crate::record::Way;
use crate::time::Moment;

/// A fault that was inflicted, or couldn't be.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Inflicted {
    /// In which round.
    pub round: u64,
    /// When.
    pub at: Moment,
    /// What.
    pub kind: Kind,
    /// The host that was hit, and its role.
    pub whom: String,
    /// Seconds until it is undone.
    pub lasts: f64,
    /// Why it, or a part of it, couldn't be done.
    pub error: Option<String>,
}

/// A look at the whole after a round.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Checkpoint {
    /// Which round it was.
    pub round: u64,
    /// When.
    pub at: Moment,
    /// Seconds until the cluster was healthy after everything had been undone.
    pub healthy_after: f64,
    /// Rows acknowledged so far.
    pub acked: usize,
    /// How many of them are gone.
    pub missing: usize,
}

/// What came of a run.
#[derive(Clone, Debug, Serialize)]
pub struct Verdict {
    /// What decided the plan.
    pub seed: u64,
    /// How long it took, in seconds.
    pub seconds: f64,
    /// Whether somebody wanted an end before its time.
    pub interrupted: bool,
    /// When it began.
    pub start: Moment,
    /// All faults.
    pub faults: Vec<Inflicted>,
    /// All checkpoints.
    pub checkpoints: Vec<Checkpoint>,
    /// Rows acknowledged.
    pub acked: usize,
    /// Rows acknowledged and lost.
    pub lost: usize,
    /// All times in which the client that knows all nodes could not write.
    pub outages: Vec<Gap>,
    /// The rows lost of each reign.
    pub tails: Vec<Tail>,
    /// How epochs began.
    pub takings: Vec<Taking>,
    /// What members report of rows they have discarded.
    pub reports: Vec<Report>,
    /// Two writers, which there must never be.
    pub two_writers: TwoWriters,
    /// Agents that called themselves primary at the same time.
    pub overlaps: Vec<Overlap>,
    /// By which ways nodes came back, in order, host by host.
    pub returns: Vec<(Host, Way)>,
    /// Everything that must not be.
    pub problems: Vec<String>,
}

impl Inflicted {
    /// Whom and what.
    pub fn what(&self) -> String {
        format!("{}: {}", self.whom, self.kind)
    }

    /// What is printed at its moment.
    pub fn line(&self) -> String {
        let lasts = if self.lasts > 0.0 { format!(" for {:.1} s", self.lasts) } else { String::new() };
        let error = self.error.as_ref().map(|error| format!(" (not done: {error})")).unwrap_or_default();
        format!("{}{lasts}{error}", self.what())
    }
}

impl Checkpoint {
    /// What is printed at its moment.
    pub fn line(&self, newly_lost: usize) -> String {
        format!(
            "checkpoint {}: healthy after {:.1} s, {} rows acknowledged, {newly_lost} lost in this round",
            self.round, self.healthy_after, self.acked
        )
    }
}

impl Verdict {
    /// What must not be, by what was seen. Where primaries wait for standbys, nothing may be lost.
    pub fn found(&self, waits: bool) -> Vec<String> {
        let mut problems = Vec::new();
        let two = &self.two_writers;
        if two.instants > 0 {
            let (count, seconds) = (two.instants, two.seconds);
            problems.push(format!("two writers: {count} acknowledgements over {seconds:.3} s"));
        }
        for overlap in &self.overlaps {
            let (at, seconds) = (overlap.from.since(self.start), overlap.to.since(overlap.from));
            let (older, newer) = (overlap.older, overlap.newer);
            problems.push(format!("{older} and {newer} both said primary for {seconds:.3} s at {at:.3} s"));
        }
        problems.extend(self.tails.iter().filter_map(Tail::problem));
        for tail in self.tails.iter().filter(|tail| losses::covers(&self.reports, tail) == Some(false)) {
            problems.push(format!("more rows of epoch {} are lost than were reported", tail.epoch));
        }
        if waits && self.lost > 0 {
            problems.push(format!("{} acknowledged rows lost, where none may be", self.lost));
        }
        if self.outages.last().is_some_and(|gap| gap.to.is_none()) {
            problems.push("nobody could write any more".into());
        }
        problems
    }

    /// Whether all was as it must be.
    pub fn passed(&self) -> bool {
        self.problems.is_empty()
    }

    /// The verdict in words.
    pub fn text(&self) -> String {
        let mut out = String::new();
        let not_done = self.faults.iter().filter(|fault| fault.error.is_some()).count();
        let (faults, rounds) = (self.faults.len(), self.checkpoints.len());
        let minutes = self.seconds / 60.0;
        let _ = writeln!(
            out,
            "seed {}: {minutes:.1} minutes, {faults} faults ({not_done} of them not, or not wholly, possible), healthy \
             after {rounds} rounds",
            self.seed
        );
        let slowest = self.checkpoints.iter().map(|check| check.healthy_after).max_by(f64::total_cmp);
        if let Some(slowest) = slowest {
            let _ = writeln!(out, "recovery: healthy {slowest:.1} s after the end of a round at the latest");
        }
        let _ = writeln!(out, "outages: {}", self.outages_in_words());
        let writers = if self.two_writers.instants == 0 { "never" } else { "SEEN" };
        let _ = writeln!(out, "two writers: {writers}");
        let _ = writeln!(out, "returns: {}", self.returns_in_words());
        let _ = writeln!(out, "rows: {} acknowledged, {} of them lost", self.acked, self.lost);
        for tail in &self.tails {
            let _ = writeln!(out, "  {}", self.tail_in_words(tail));
        }
        for problem in &self.problems {
            let _ = writeln!(out, "PROBLEM: {problem}");
        }
        let so_far = if self.interrupted { " so far" } else { "" };
        let _ = writeln!(out, "{}{so_far}", if self.passed() { "PASSED" } else { "FAILED" });
        out
    }

    fn outages_in_words(&self) -> String {
        let Some((median, longest)) = self.outage_seconds() else { return "none".into() };
        format!("{} times, median {median:.2} s, longest {longest:.2} s", self.outages.len())
    }

    /// Median and longest.
    fn outage_seconds(&self) -> Option<(f64, f64)> {
        let mut seconds: Vec<f64> = self.outages.iter().filter_map(|gap| gap.seconds()).collect();
        seconds.sort_by(f64::total_cmp);
        Some((*seconds.get(seconds.len() / 2)?, *seconds.last()?))
    }

    fn returns_in_words(&self) -> String {
        let count = |way| self.returns.iter().filter(|(_, gone)| *gone == way).count();
        let each = [Way::Stream, Way::Archive, Way::Rewind, Way::Clone].map(|way| (count(way), way.word()));
        let gone = each.iter().filter(|(count, _)| *count > 0);
        let words: Vec<String> = gone.map(|(count, word)| format!("{count} by {word}")).collect();
        if words.is_empty() { "none".into() } else { words.join(", ") }
    }

    fn tail_in_words(&self, tail: &Tail) -> String {
        let Tail { epoch, host, rows, .. } = tail;
        let span = tail.to.since(tail.from);
        let when = tail.to.since(self.start);
        let elected = match &tail.lapse {
            Some(lapse) => format!("{} was elected for epoch {} after a lapse", lapse.host, lapse.epoch),
            None => "no lapse".into(),
        };
        let reported = match losses::covers(&self.reports, tail) {
            None => "no report",
            Some(true) => "as reported",
            Some(false) => "MORE THAN REPORTED",
        };
        format!(
            "epoch {epoch}, {host}: {rows} rows over {span:.2} s until {when:.3} s; {elected}; {reported}"
        )
    }

    /// The verdict as JSON.
    pub fn json(&self) -> Value {
        let mut value = serde_json::to_value(self).expect("a verdict is JSON");
        let (median, longest) = self.outage_seconds().unzip();
        value["outage"] =
            json!({ "count": self.outages.len(), "median_seconds": median, "longest_seconds": longest });
        value["passed"] = json!(self.passed());
        value
    }

    /// Writes the JSON to a directory; returns the file.
    pub fn save(&self, directory: &Path, name: &str) -> Result<PathBuf> {
        std::fs::create_dir_all(directory).with_context(|| format!("make {}", directory.display()))?;
        let path = directory.join(format!("{name}.json"));
        let text = serde_json::to_string_pretty(&self.json())?;
        std::fs::write(&path, text + "\n").with_context(|| format!("write {}", path.display()))?;
        place::give_to_owner(directory);
        Ok(path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::judge::{Violation, outages};

    fn verdict() -> Verdict {
        let tail = Tail {
            epoch: 2,
            host: Host(1),
            rows: 3,
            from: Moment(5_000_000),
            to: Moment(5_500_000),
            positions: (100, 200),
            lapse: Some(Taking { epoch: 3, host: Host(2), right: "listed".into() }),
            holes: 0,
        };
        Verdict {
            seed: 7,
            seconds: 90.0,
            interrupted: false,
            start: Moment(1_000_000),
            faults: Vec::new(),
            checkpoints: vec![Checkpoint {
                round: 1,
                at: Moment(9),
                healthy_after: 1.5,
                acked: 9,
                missing: 3,
            }],
            acked: 1_000,
            lost: 3,
            outages: vec![Gap { from: Moment(5_500_000), to: Some(Moment(8_000_000)) }],
            tails: vec![tail],
            takings: Vec::new(),
            reports: Vec::new(),
            two_writers: TwoWriters::default(),
            overlaps: Vec::new(),
            returns: vec![(Host(1), Way::Clone), (Host(3), Way::Stream)],
            problems: Vec::new(),
        }
    }

    #[test]
    fn the_tail_of_a_lapsed_reign_is_no_problem_unless_standbys_are_waited_for() {
        assert_eq!(verdict().found(false), Vec::<String>::new());
        assert_eq!(verdict().found(true), ["3 acknowledged rows lost, where none may be"]);
        let text = verdict().text();
        let tail = "epoch 2, h1: 3 rows over 0.50 s until 4.500 s; h2 was elected for epoch 3 after a lapse; no report";
        for part in
            [tail, "outages: 1 times, median 2.50 s", "returns: 1 by stream, 1 by clone", "\nPASSED\n"]
        {
            assert!(text.contains(part), "{part} is missing in\n{text}");
        }
    }

    #[test]
    fn what_must_not_be_is_found() {
        let mut bad = verdict();
        bad.tails[0].lapse = None;
        bad.overlaps = vec![Overlap { older: Host(1), newer: Host(2), from: Moment(2), to: Moment(3) }];
        let violation = Violation {
            host: Host(1),
            timeline: 1,
            acked: Moment(3),
            against: Host(2),
            newer: 2,
            since: Moment(2),
            sent_after: true,
        };
        bad.two_writers = TwoWriters { instants: 1, seconds: 0.001, examples: vec![violation] };
        bad.outages = outages(&[], Moment(0), Moment(5_000_000));
        let found = bad.found(false);
        let starts = ["two writers", "h1 and h2 both said primary", "3 rows lost", "nobody could write"];
        assert_eq!(found.len(), starts.len(), "{found:?}");
        assert!(found.iter().zip(starts).all(|(problem, start)| problem.starts_with(start)), "{found:?}");
        bad.problems = found;
        assert!(bad.text().contains("PROBLEM: two writers") && bad.text().contains("\nFAILED\n"));
        assert_eq!(bad.json()["passed"], json!(false));
    }

    #[test]
    fn losses_beyond_a_report_are_found() {
        let mut reported = verdict();
        let report = |to| Report { member: "h1".into(), from: (2, 50), to: (2, to), transactions: 3 };
        reported.reports = vec![report(300)];
        assert_eq!(reported.found(false), Vec::<String>::new());
        reported.reports = vec![report(150)];
        assert_eq!(reported.found(false), ["more rows of epoch 2 are lost than were reported"]);
    }
}
