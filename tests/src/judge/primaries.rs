//! Who was primary when, by what the agents said.

use serde::{Deserialize, Serialize};

use crate::client::{Nodes, Sample};
use crate::network::Host;
use crate::time::Moment;

/// A time in which an agent said that its node is the primary.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reign {
    /// Which node.
    pub host: Host,
    /// On which timeline, if it said so.
    pub timeline: Option<u64>,
    /// When the first such answer had come.
    pub from: Moment,
    /// When the last question with such an answer was asked.
    pub to: Moment,
}

/// Two agents that said so at the same time (invariant I12).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Overlap {
    /// The earlier primary.
    pub older: Host,
    /// The later one.
    pub newer: Host,
    /// When both said so.
    pub from: Moment,
    /// Until when.
    pub to: Moment,
}

/// The times each node called itself primary, in order of their beginnings.
pub fn reigns(samples: &[Sample]) -> Vec<Reign> {
    let mut found: Vec<Reign> = Vec::new();
    let mut open: Vec<(Host, usize)> = Vec::new();
    for sample in samples {
        let running = open.iter().position(|(host, _)| *host == sample.host);
        let says = sample.says.as_ref().filter(|says| says.primary);
        match (says, running) {
            (Some(_), Some(index)) => found[open[index].1].to = sample.asked,
            (Some(says), None) => {
                open.push((sample.host, found.len()));
                let (from, timeline) = (sample.answered, says.timeline);
                found.push(Reign { host: sample.host, timeline, from, to: from });
            }
            (None, Some(index)) => drop(open.remove(index)),
            (None, None) => {}
        }
    }
    found.sort_by_key(|reign| reign.from);
    found
}

/// Pairs of nodes that called themselves primary at the same time.
pub fn overlaps(reigns: &[Reign]) -> Vec<Overlap> {
    let mut found = Vec::new();
    for (index, older) in reigns.iter().enumerate() {
        for newer in
            reigns[index + 1..].iter().filter(|newer| newer.host != older.host && newer.from < older.to)
        {
            let to = older.to.min(newer.to);
            found.push(Overlap { older: older.host, newer: newer.host, from: newer.from, to });
        }
    }
    found
}

/// The end of the last time after `from` in which not all nodes were streaming; `None` if they always were.
pub fn unhealthy_since(samples: &[Sample], from: Moment) -> Option<Moment> {
    let later = samples.iter().filter(|sample| sample.answered > from);
    later.filter(|sample| !Nodes::of(samples, sample.answered).healthy()).map(|sample| sample.answered).max()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::Nodes;

    fn sample(host: u8, millis: i64, primary: bool) -> Sample {
        let says = crate::client::Says { primary, timeline: Some(1), ..Default::default() };
        let answered = Moment(millis * 1_000);
        Sample { host: Host(host), asked: Moment(answered.0 - 1_000), answered, says: Some(says) }
    }

    #[test]
    fn a_reign_lasts_as_long_as_the_answers_say_so() {
        let samples = [sample(1, 0, true), sample(1, 100, true), sample(1, 200, false), sample(1, 300, true)];
        let found = reigns(&samples);
        let span = |r: &Reign| (r.from.0, r.to.0);
        assert_eq!(found.iter().map(span).collect::<Vec<_>>(), [(0, 99_000), (300_000, 300_000)]);
        assert_eq!(Nodes::of(&samples, Moment(300_000)).primary(), Some(Host(1)));
    }

    #[test]
    fn a_handover_is_no_overlap() {
        let samples = [sample(1, 0, true), sample(1, 100, true), sample(2, 150, true), sample(1, 200, false)];
        assert_eq!(overlaps(&reigns(&samples)), []);
    }

    #[test]
    fn two_that_say_primary_overlap() {
        let samples = [sample(1, 0, true), sample(2, 150, true), sample(1, 200, true), sample(2, 250, true)];
        let found = overlaps(&reigns(&samples));
        let expected = Overlap { older: Host(1), newer: Host(2), from: Moment(150_000), to: Moment(199_000) };
        assert_eq!(found, [expected]);
    }
}
